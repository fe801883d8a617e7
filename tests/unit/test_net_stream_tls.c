/*
 * TLS on streams, both ends in one process: what was sent arrives whole and in order, whatever the
 * kernel takes at a time; ends, breaks and refusals look as those of plain streams; contexts are
 * replaced while connections are made. Certificates by openssl(1), as in the system tests.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream_tls.h"
#include "test_program.h"

#define BYTES ((size_t)8 << 20)
#define PIECE 70001u

static char directory[TEST_DIRECTORY_BYTES];
static char key_file[TEST_DIRECTORY_BYTES + 16];
static char certificate_file[TEST_DIRECTORY_BYTES + 16];

static int make_certificate(void **state)
{
    (void)state;
    char command[700];
    directory_new(directory);
    (void)snprintf(key_file, sizeof key_file, "%s/both.pem", directory);
    (void)snprintf(certificate_file, sizeof certificate_file, "%s/only.pem", directory);
    (void)snprintf(command, sizeof command,
                   "cd %s && umask 077 && openssl req -x509 -newkey ec -pkeyopt "
                   "ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test -addext "
                   "subjectAltName=DNS:test.example -keyout key.pem -out only.pem 2>/dev/null && "
                   "cat only.pem key.pem >both.pem",
                   directory);
    return system(command); /* NOLINT(cert-env33-c): a fixed text */
}

static int remove_certificate(void **state)
{
    (void)state;
    directory_remove(directory);
    return 0;
}

/* ------------------------------------------------------------------ two ends of a connection */

struct end {
    struct stream stream;
    struct pair *pair;
    enum status connected;
    bool is_connected;
    size_t sent; /* of BYTES, by the client */
    size_t received;
    bool wrong;
    bool over;
    bool shut;
};

struct pair {
    struct worker_pool *pool;
    struct end server;
    struct end client;
    int descriptors[2];
    struct worker_task task;
    sem_t done;
    void (*act)(struct pair *pair);
    bool sends;
};

static uint8_t byte_at(size_t at)
{
    return (uint8_t)(at * 31 + (at >> 12));
}

static void send_more(struct end *end)
{
    static uint8_t piece[PIECE];
    while (end->sent < BYTES && stream_pending(&end->stream) < 300000) {
        size_t size = BYTES - end->sent < PIECE ? BYTES - end->sent : PIECE;
        for (size_t i = 0; i < size; i++) {
            piece[i] = byte_at(end->sent + i);
        }
        if (stream_send(&end->stream, slice_make(piece, size)) != STATUS_OK) {
            end->wrong = true;
            return;
        }
        end->sent += size;
    }
    if (end->sent == BYTES && stream_pending(&end->stream) == 0 && !end->shut) {
        end->shut = stream_shutdown(&end->stream);
    }
}

static void on_connected(void *context, enum status status)
{
    struct end *end = context;
    end->is_connected = true;
    end->connected = status;
    if (status != STATUS_OK) {
        stream_close(&end->stream);
        if (end->pair->server.is_connected && end->pair->client.is_connected) {
            (void)sem_post(&end->pair->done);
        }
    } else if (end == &end->pair->client && end->pair->sends) {
        send_more(end);
    } else if (!end->pair->sends && end->pair->server.is_connected &&
               end->pair->client.is_connected) {
        (void)sem_post(&end->pair->done);
    }
}

static void on_readable(void *context)
{
    static uint8_t memory[100000];
    struct end *end = context;
    size_t size = 0;
    enum status status;
    while ((status = stream_receive(&end->stream, memory, sizeof memory, &size)) == STATUS_OK) {
        for (size_t i = 0; i < size; i++) {
            end->wrong = end->wrong || memory[i] != byte_at(end->received + i);
        }
        end->received += size;
    }
    if (status == STATUS_UNREACHABLE && !end->over) {
        end->over = true;
        if (end == &end->pair->server) {
            (void)sem_post(&end->pair->done);
        }
    }
}

static void on_drained(void *context)
{
    struct end *end = context;
    if (end->pair->sends && end == &end->pair->client) {
        send_more(end);
    }
}

static const struct stream_callbacks callbacks = {
    .connected = on_connected, .readable = on_readable, .drained = on_drained};

static void on_task(struct worker_task *task)
{
    struct pair *pair = (struct pair *)(void *)((uint8_t *)task - offsetof(struct pair, task));
    pair->act(pair);
}

static void run(struct pair *pair, void (*act)(struct pair *pair))
{
    pair->act = act;
    pair->task.run = on_task;
    worker_post(worker_pool_get(pair->pool, 0), &pair->task);
    while (sem_wait(&pair->done) != 0) {
    }
}

/* Loopback, with small buffers so that the kernel takes little at a time. */
static void connect_sockets(int descriptors[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    int little = 8192;
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &little, sizeof little), 0);
    assert_int_equal(listen(listening, 1), 0);
    descriptors[1] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(setsockopt(descriptors[1], SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
    assert_int_equal(connect(descriptors[1], (struct sockaddr *)&address, size), 0);
    descriptors[0] = accept(listening, NULL, NULL);
    close(listening);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fcntl(descriptors[i], F_SETFL, O_NONBLOCK), 0);
    }
}

static struct tls *make_tls(bool is_client, const char *host)
{
    struct tls *tls = NULL;
    const struct tls_options options = {
        .is_client = is_client,
        .certificate_key_file = is_client ? "" : key_file,
        .ca_file = is_client ? certificate_file : "",
        .host = host,
        .handshake_ms = 2000,
    };
    assert_int_equal(tls_new(&options, &tls, NULL), STATUS_OK);
    return tls;
}

static struct tls *server_tls;
static struct tls *client_tls;
static const char *towards;                    /* NULL: as the options say */
static const struct stream_transport *carrier; /* of the client's; NULL: plain */

static void open_end(struct pair *pair, struct end *end, int descriptor, struct tls *tls)
{
    end->pair = pair;
    stream_init(&end->stream);
    if (carrier != NULL && end == &pair->client) {
        end->stream.transport = carrier;
    }
    enum status status = end == &pair->client && towards != NULL
                             ? stream_use_tls_towards(&end->stream, tls, towards)
                             : stream_use_tls(&end->stream, tls, false);
    assert_int_equal(status, STATUS_OK);
    /* A client's side is one that connects; here TCP has already. */
    end->stream.connecting = end == &pair->client;
    assert_int_equal(
        stream_open(&end->stream, worker_pool_get(pair->pool, 0), descriptor, &callbacks, end),
        STATUS_OK);
}

static void open_both(struct pair *pair)
{
    open_end(pair, &pair->server, pair->descriptors[0], server_tls);
    open_end(pair, &pair->client, pair->descriptors[1], client_tls);
}

static void close_both(struct pair *pair)
{
    stream_close(&pair->client.stream);
    stream_close(&pair->server.stream);
    stream_close(&pair->server.stream);
    (void)sem_post(&pair->done);
}

static struct pair *pair_new(const char *host, bool sends)
{
    struct pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    (void)sem_init(&pair->done, 0, 0);
    pair->sends = sends;
    server_tls = make_tls(false, "");
    client_tls = make_tls(true, host);
    connect_sockets(pair->descriptors);
    assert_int_equal(worker_pool_start(1, &pair->pool, NULL), STATUS_OK);
    return pair;
}

static void pair_free(struct pair *pair)
{
    run(pair, close_both);
    worker_pool_stop(pair->pool);
    server_tls = tls_free(server_tls);
    client_tls = tls_free(client_tls);
    (void)sem_destroy(&pair->done);
    free(pair);
}

/* ------------------------------------------------------------------ tests */

static void test_bytes_and_an_orderly_end(void **state)
{
    (void)state;
    struct pair *pair = pair_new("test.example", true);
    run(pair, open_both);
    assert_int_equal(pair->client.connected, STATUS_OK);
    assert_true(stream_is_tls(&pair->server.stream));
    assert_int_equal(pair->server.received, BYTES);
    assert_false(pair->server.wrong || pair->client.wrong);
    assert_true(pair->server.stream.ended && !pair->server.stream.broken);
    pair_free(pair);
}

/* A fake of a kernel that is just full: with a real one the moment cannot be chosen. */
static bool full;

static ssize_t send_unless_full(struct stream *stream, const void *memory, size_t size)
{
    if (full) {
        errno = EAGAIN;
        return -1;
    }
    return stream_transport_plain.send(stream, memory, size);
}

static ssize_t receive_as_ever(struct stream *stream, void *memory, size_t size)
{
    return stream_transport_plain.receive(stream, memory, size);
}

static void shut_while_full(struct pair *pair)
{
    full = true;
    pair->sends = true;
    pair->client.sent = BYTES; /* nothing but the end is left to send */
    send_more(&pair->client);
    full = false;
    pair->client.wrong = pair->client.shut || pair->server.over;
    event_active(&pair->client.stream.event, EV_WRITE, 0);
}

static void open_both_over_the_fake(struct pair *pair)
{
    static const struct stream_transport fake = {.receive = receive_as_ever,
                                                 .send = send_unless_full};
    carrier = &fake;
    open_both(pair);
    carrier = NULL;
}

static void test_an_end_that_does_not_fit_is_told_later(void **state)
{
    (void)state;
    struct pair *pair = pair_new("test.example", false);
    run(pair, open_both_over_the_fake);
    run(pair, shut_while_full);
    assert_true(pair->client.shut && !pair->client.wrong);
    assert_true(pair->server.stream.ended && !pair->server.stream.broken);
    pair_free(pair);
}

static void test_another_name_is_refused(void **state)
{
    (void)state;
    struct pair *pair = pair_new("other.example", false);
    run(pair, open_both);
    assert_int_equal(pair->client.connected, STATUS_UNREACHABLE);
    assert_int_equal(pair->server.connected, STATUS_UNREACHABLE);
    pair_free(pair);
}

/* Of several servers each has its own name, whatever the options' is. */
static void test_the_name_of_one_of_several(void **state)
{
    static const struct {
        const char *options;
        const char *towards;
        enum status connected;
    } cases[] = {
        {"other.example", "test.example", STATUS_OK},
        {"test.example", "other.example", STATUS_UNREACHABLE},
        {"test.example", "10.0.0.1", STATUS_UNREACHABLE},
        {"10.0.0.1", "test.example", STATUS_OK},
        {"", "test.example", STATUS_OK},
        {"", "other.example", STATUS_UNREACHABLE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        towards = cases[i].towards;
        struct pair *pair = pair_new(cases[i].options, false);
        run(pair, open_both);
        assert_int_equal(pair->client.connected, cases[i].connected);
        pair_free(pair);
    }
    towards = NULL;
}

static void cut_client(struct pair *pair)
{
    /* As who cuts the connection in between: TCP's end, without TLS's. */
    (void)shutdown(pair->client.stream.descriptor, SHUT_WR);
}

static void test_an_end_that_was_cut_off_is_a_break(void **state)
{
    (void)state;
    struct pair *pair = pair_new("test.example", false);
    run(pair, open_both);
    assert_int_equal(pair->server.connected, STATUS_OK);
    run(pair, cut_client);
    assert_true(pair->server.stream.ended && pair->server.stream.broken);
    pair_free(pair);
}

static void open_server(struct pair *pair)
{
    pair->client.is_connected = true;
    open_end(pair, &pair->server, pair->descriptors[0], server_tls);
}

static void test_garbage_and_silence(void **state)
{
    (void)state;
    static const char *const cases[] = {"",
                                        "G",
                                        "GET / HTTP/1.1\r\n\r\n",
                                        "\x16",
                                        "\x16\x03\x01",
                                        "\x16\x03\x01\x01\x01\x01\x01\x01\x01\x01\x01"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair *pair = pair_new("", false);
        assert_int_equal(write(pair->descriptors[1], cases[i], strlen(cases[i])), strlen(cases[i]));
        if (i % 2 == 0) {
            assert_int_equal(shutdown(pair->descriptors[1], SHUT_WR), 0);
        }
        run(pair, open_server);
        assert_int_equal(pair->server.connected, STATUS_UNREACHABLE);
        stream_init(&pair->client.stream);
        pair_free(pair);
    }
}

static _Atomic bool reloading;

static void *reload_often(void *context)
{
    (void)context;
    while (reloading) {
        assert_int_equal(tls_reload(server_tls, NULL), STATUS_OK);
        (void)tls_expires_days(server_tls);
    }
    return NULL;
}

static void test_reload_beside_connections(void **state)
{
    (void)state;
    struct pair *pair = pair_new("test.example", true);
    pthread_t thread;
    reloading = true;
    assert_int_equal(pthread_create(&thread, NULL, reload_often, NULL), 0);
    run(pair, open_both);
    reloading = false;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pair->server.received, BYTES);
    assert_false(pair->server.wrong);
    assert_int_equal(tls_expires_days(server_tls), 1);
    pair_free(pair);
}

static void test_files_that_do_not_fit(void **state)
{
    (void)state;
    struct tls *tls = NULL;
    struct error error = {0};
    const struct tls_options cases[] = {
        {.certificate_key_file = ""},
        {.certificate_key_file = "/nonexistent"},
        {.certificate_key_file = certificate_file}, /* no key in it */
        {.certificate_key_file = key_file, .ca_file = "/nonexistent"},
        {.is_client = true, .ca_file = "/dev/null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(tls_new(&cases[i], &tls, &error), STATUS_INVALID);
        assert_null(tls);
    }
    assert_null(tls_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_and_an_orderly_end),
        cmocka_unit_test(test_an_end_that_does_not_fit_is_told_later),
        cmocka_unit_test(test_another_name_is_refused),
        cmocka_unit_test(test_the_name_of_one_of_several),
        cmocka_unit_test(test_an_end_that_was_cut_off_is_a_break),
        cmocka_unit_test(test_garbage_and_silence),
        cmocka_unit_test(test_reload_beside_connections),
        cmocka_unit_test(test_files_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, make_certificate, remove_certificate);
}
