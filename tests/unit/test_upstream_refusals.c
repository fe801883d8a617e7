/*
 * What is no upstream gets a clear answer: wrong URIs, nobody there, somebody who does not speak
 * the protocol. No server needed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <bson/bson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "holdfast/slice.h"
#include "holdfast/write_permit.h"
#include "upstream/upstream.h"

static void uris_that_cannot_be_parsed_are_refused(void **state)
{
    static const char *const uris[] = {
        "",
        "localhost:27017",
        "http://localhost:27017",
        "mongodb://",
        "mongodb://a:1,,b:2",
        "mongodb+srv://cluster.example.net:27017",
        "mongodb+srv://a.example.net,b.example.net",
        "mongodb+srv://localhost",
        "mongodb://localhost:99999",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct upstream *upstream = NULL;
        struct error error = {0};
        assert_int_equal(upstream_open(uris[i], 100, &upstream, &error), STATUS_INVALID);
        assert_null(upstream);
        assert_true(strstr(error.message, "mongodb://") != NULL ||
                    strstr(error.message, "mongodb+srv://") != NULL);
        assert_false(upstream_uri_follows(uris[i]));
    }
}

/* Which URIs mean one server, whatever it is, and which mean several, as they come and go. */
static void uris_of_one_server_and_of_several(void **state)
{
    static const struct {
        const char *uri;
        const char *host; /* the first */
        bool follows;
    } cases[] = {
        {"mongodb://a", "a:27017", false},
        {"mongodb://u:p@a:1/db?authSource=admin", "a:1", false},
        {"mongodb://[::1]:5", "[::1]:5", false},
        {"mongodb://[2001:db8::7]", "[2001:db8::7]:27017", false},
        {"mongodb://%2Ftmp%2Fmongodb-27017.sock", "/tmp/mongodb-27017.sock", false},
        {"mongodb://a:1/?directConnection=true", "a:1", false},
        {"mongodb://a:1/?directConnection=true&replicaSet=rs", "a:1", false},
        {"mongodb://a:1/?replicaSet=rs", "a:1", true},
        {"mongodb://a:1,b:2", "a:1", true},
        {"mongodb://a,[::1]:7,c:3/?replicaSet=rs&w=majority", "a:27017", true},
        {"mongodb+srv://cluster.example.net/?retryWrites=true", "cluster.example.net", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char host[300];
        struct upstream *upstream = NULL;
        struct error error = {0};
        assert_int_equal(upstream_open(cases[i].uri, 100, &upstream, &error), STATUS_OK);
        assert_null(upstream_close(upstream));
        assert_int_equal(upstream_host(cases[i].uri, host, sizeof host, &error), STATUS_OK);
        assert_string_equal(host, cases[i].host);
        assert_int_equal(upstream_uri_follows(cases[i].uri), cases[i].follows);
    }
}

static void note_option(void *context, const char *option, const char *what)
{
    char *text = context;
    size_t used = strlen(text);
    (void)snprintf(text + used, 400 - used, "%s: %s; ", option, what);
}

static void options_without_effect_are_told(void **state)
{
    char text[400] = "";
    (void)state;
    upstream_uri_notes("mongodb://a/?replicaSet=rs&tls=true&authsource=admin&tlsCAFile=/x",
                       note_option, text);
    assert_string_equal(text, "");
    upstream_uri_notes(
        "mongodb://u:p?w@a/?retryWrites=true;maxpoolsize=5&connectTimeoutMS=3&&fooBar", note_option,
        text);
    assert_string_equal(text, "retryWrites: it is for each client to say; "
                              "maxpoolsize: it is for each client to say; "
                              "connectTimeoutMS: upstream.connectTimeout says it; "
                              "fooBar: no driver's option of that name is known here; ");
}

static void tls_options(void **state)
{
    struct upstream_tls tls;
    struct error error = {0};
    (void)state;
    assert_int_equal(upstream_tls("mongodb://h:1/", &tls, &error), STATUS_OK);
    assert_false(tls.on);
    assert_string_equal(tls.host, "h");
    assert_int_equal(upstream_tls("mongodb://[::1]:1/?ssl=true", &tls, &error), STATUS_OK);
    assert_true(tls.on && !tls.allow_invalid_certificates && !tls.allow_invalid_hostnames);
    assert_string_equal(tls.host, "::1");
    assert_int_equal(upstream_tls("mongodb://h/?tlsCAFile=/a%20b&tlsCertificateKeyFile=/k&"
                                  "tlsCertificateKeyFilePassword=p&tlsAllowInvalidHostnames=true",
                                  &tls, &error),
                     STATUS_OK);
    assert_true(tls.on && !tls.allow_invalid_certificates && tls.allow_invalid_hostnames);
    assert_string_equal(tls.ca_file, "/a b");
    assert_string_equal(tls.certificate_key_file, "/k");
    assert_string_equal(tls.certificate_key_password, "p");
    assert_int_equal(upstream_tls("mongodb://h/?tlsInsecure=true", &tls, &error), STATUS_OK);
    assert_true(tls.on && tls.allow_invalid_certificates && tls.allow_invalid_hostnames);
}

static void tls_files_have_to_be_there(void **state)
{
    static const char *const uris[] = {
        "mongodb://localhost:1/?tlsCAFile=/nonexistent",
        "mongodb://localhost:1/?tls=true&tlsCertificateKeyFile=/nonexistent",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct upstream *upstream = NULL;
        struct error error = {0};
        assert_int_equal(upstream_open(uris[i], 100, &upstream, &error), STATUS_INVALID);
        assert_null(upstream);
        assert_non_null(strstr(error.message, "/nonexistent cannot be read"));
    }
}

/* A user without a password was once a crash of libmongoc, the other a wait for nobody. */
static void uris_that_cannot_work_are_refused_at_once(void **state)
{
    static const struct {
        const char *uri;
        const char *says;
    } cases[] = {
        {"mongodb://user@localhost:1", "no password"},
        {"mongodb://user@localhost:1/?authMechanism=SCRAM-SHA-256", "no password"},
        {"mongodb://user@localhost:1/?authMechanism=PLAIN", "no password"},
        {"mongodb://localhost:1/?loadBalanced=true", "loadBalanced=true"},
        {"mongodb://a:1,b:2/?directConnection=true", "directConnection=true"},
        {"mongodb+srv://a.b.net/?directConnection=true", "directConnection=true"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct upstream *upstream = NULL;
        struct error error = {0};
        assert_int_equal(upstream_open(cases[i].uri, 100, &upstream, &error), STATUS_INVALID);
        assert_null(upstream);
        assert_non_null(strstr(error.message, cases[i].says));
    }
}

static void a_password_is_not_repeated(void **state)
{
    (void)state;
    struct upstream *upstream = NULL;
    struct error error = {0};
    assert_int_equal(
        upstream_open("mongodb://user:secret@a:1,b:2/?loadBalanced=true", 100, &upstream, &error),
        STATUS_INVALID);
    assert_null(strstr(error.message, "secret"));
    assert_int_equal(upstream_open("mongodb://user:very@secret@a:1", 100, &upstream, &error),
                     STATUS_INVALID);
    assert_null(strstr(error.message, "secret"));
    assert_non_null(strstr(error.message, "%40"));
}

/* A listener on a port of its own; -1 as *ret_listener closes it at once: nobody there. */
static int listen_somewhere(int *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return listener;
}

static enum status describe(int port, uint64_t connect_ms, struct error *ret_error)
{
    char uri[64];
    struct upstream *upstream = NULL;
    struct upstream_description description;
    snprintf(uri, sizeof(uri), "mongodb://127.0.0.1:%d/", port);
    assert_int_equal(upstream_open(uri, connect_ms, &upstream, ret_error), STATUS_OK);
    enum status status = upstream_describe(upstream, &description, ret_error);
    upstream_close(upstream);
    return status;
}

static void nobody_there_is_unreachable(void **state)
{
    (void)state;
    int port;
    struct error error = {0};
    close(listen_somewhere(&port));
    assert_int_equal(describe(port, 300, &error), STATUS_UNREACHABLE);
    assert_true(strlen(error.message) > 20);
}

static void *answer_like_a_web_server(void *listener_pointer)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    int listener = *(int *)listener_pointer;
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) {
            return NULL;
        }
        ssize_t sent = send(connection, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
        (void)sent;
        close(connection);
    }
}

static void a_web_server_is_no_upstream(void **state)
{
    (void)state;
    int port;
    pthread_t thread;
    struct error error = {0};
    int listener = listen_somewhere(&port);
    assert_int_equal(pthread_create(&thread, NULL, answer_like_a_web_server, &listener), 0);
    enum status status = describe(port, 700, &error);
    assert_true(status == STATUS_PROTOCOL || status == STATUS_UNREACHABLE);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
}

/* A server of which only the first hello is needed (OP_QUERY, answered by OP_REPLY). Before it
   answers, the permit goes. What it then still gets, in bytes, is its result. */
static void *answer_hello_without_a_permit(void *listener_pointer)
{
    uint8_t request[4096];
    uint8_t head[36] = {0};
    static ssize_t more;
    int connection = accept(*(int *)listener_pointer, NULL, NULL);
    ssize_t size = recv(connection, request, sizeof(request), 0);
    assert_true(size > 16);
    bson_t *hello = BCON_NEW("ok", BCON_DOUBLE(1), "ismaster", BCON_BOOL(true), "minWireVersion",
                             BCON_INT32(0), "maxWireVersion", BCON_INT32(9), "maxBsonObjectSize",
                             BCON_INT32(16777216), "maxMessageSizeBytes", BCON_INT32(48000000),
                             "maxWriteBatchSize", BCON_INT32(1000));
    slice_store_u32le(head, (uint32_t)sizeof(head) + hello->len);
    memcpy(head + 8, request + 4, 4); /* responseTo */
    slice_store_u32le(head + 12, 1);  /* OP_REPLY */
    slice_store_u32le(head + 32, 1);  /* documents */
    write_permit_set(false);
    assert_int_equal(send(connection, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    assert_int_equal(send(connection, bson_get_data(hello), hello->len, MSG_NOSIGNAL), hello->len);
    more = recv(connection, request, sizeof(request), 0);
    close(connection);
    bson_destroy(hello);
    return &more;
}

/* A command that was begun with a permit does not leave without one, if it had to connect first. */
static void a_permit_that_goes_while_it_connects(void **state)
{
    (void)state;
    int port;
    pthread_t thread;
    void *more;
    struct error error = {0};
    int listener = listen_somewhere(&port);
    assert_int_equal(pthread_create(&thread, NULL, answer_hello_without_a_permit, &listener), 0);
    assert_int_equal(describe(port, 3000, &error), STATUS_UNREACHABLE);
    close(listener);
    assert_int_equal(pthread_join(thread, &more), 0);
    assert_true(*(ssize_t *)more <= 0);
    assert_true(write_permit_is_left());
    write_permit_set(true);
}

static void closing_nothing_is_harmless(void **state)
{
    (void)state;
    assert_null(upstream_close(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uris_that_cannot_be_parsed_are_refused),
        cmocka_unit_test(uris_of_one_server_and_of_several),
        cmocka_unit_test(options_without_effect_are_told),
        cmocka_unit_test(tls_options),
        cmocka_unit_test(tls_files_have_to_be_there),
        cmocka_unit_test(uris_that_cannot_work_are_refused_at_once),
        cmocka_unit_test(a_password_is_not_repeated),
        cmocka_unit_test(nobody_there_is_unreachable),
        cmocka_unit_test(a_web_server_is_no_upstream),
        cmocka_unit_test(a_permit_that_goes_while_it_connects),
        cmocka_unit_test(closing_nothing_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
