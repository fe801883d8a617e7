#ifndef HOLDFAST_TESTS_TEST_SERVER_H
#define HOLDFAST_TESTS_TEST_SERVER_H

/*
 * A standalone server of its own for one unit test program: started by server_start(), killed by
 * server_stop() and in any case when the test dies. tests/support/find_server says which program.
 * Without a server the tests are skipped, loudly; under CI that is a failure.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test_program.h"
#include "upstream/upstream.h"

struct test_server {
    pid_t pid;
    char directory[TEST_DIRECTORY_BYTES];
    char uri[128];
    bool is_mongod;
};

/* Runs find_server; false if there is none. */
static inline bool server_find(char *ret_kind, size_t kind_size, char *ret_path, size_t path_size)
{
    char command[4096 + 64];
    char line[4096];
    const char *slash = strrchr(__FILE__, '/');
    snprintf(command, sizeof(command), "'%.*s/../support/find_server' 2>/dev/null",
             (int)(slash - __FILE__), __FILE__);
    int code = shell_run(command, line, sizeof(line));
    line[strcspn(line, "\n")] = '\0';
    char *space = strchr(line, ' ');
    if (code != 0 || space == NULL) {
        return false;
    }
    *space = '\0';
    snprintf(ret_kind, kind_size, "%.32s", line);
    snprintf(ret_path, path_size, "%s", space + 1);
    return true;
}

/* mongod cannot choose a port itself and tell it: its own pid makes one. */
static inline int server_port_by_pid(pid_t pid)
{
    return 20000 + (int)(pid % 20000);
}

/* Reads the server's output until it tells its port; -1 if it does not. */
static inline int server_port(int output)
{
    char text[8192] = "";
    size_t used = 0;
    struct pollfd poll_output = {.fd = output, .events = POLLIN};
    while (used + 1 < sizeof(text) && poll(&poll_output, 1, 60000) == 1) {
        ssize_t got = read(output, text + used, sizeof(text) - 1 - used);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
        text[used] = '\0';
        const char *listening = strstr(text, "listening on ");
        const char *colon = listening == NULL ? NULL : strchr(listening, ':');
        if (colon != NULL && strchr(colon, '\n') != NULL) {
            return (int)strtol(colon + 1, NULL, 10);
        }
    }
    return -1;
}

static inline void server_exec(const struct test_server *server, const char *path, int output)
{
    char port[16];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    if (server->is_mongod) {
        snprintf(port, sizeof(port), "%d", server_port_by_pid(getpid()));
        execl(path, path, "--port", port, "--bind_ip", "127.0.0.1", "--dbpath", server->directory,
              "--logpath", "/dev/null", (char *)NULL);
    } else {
        execl(path, path, "--port", "0", "--storage-path", server->directory, "--standalone",
              "--log-file-max", "16MB", "--cache-size", "256M", (char *)NULL);
    }
    _exit(127);
}

static inline bool server_answers(const struct test_server *server)
{
    struct upstream *upstream = NULL;
    struct upstream_description description;
    struct error error = {0};
    bool answers = upstream_open(server->uri, 30000, &upstream, &error) == STATUS_OK &&
                   upstream_describe(upstream, &description, &error) == STATUS_OK;
    if (!answers) {
        fprintf(stderr, "%s: %s\n", server->uri, error.message);
    }
    upstream_close(upstream);
    return answers;
}

/* false: no server here, skip. Anything else that goes wrong ends the test. */
static inline bool server_start(struct test_server *ret_server)
{
    char kind[64];
    char path[4096];
    int output[2];
    struct test_server server = {.pid = -1};
    if (!server_find(kind, sizeof(kind), path, sizeof(path))) {
        fprintf(stderr, "SKIPPED: no server for these tests (see tests/support/find_server)\n");
        if (getenv("CI") != NULL) {
            exit(1);
        }
        return false;
    }
    server.is_mongod = strcmp(kind, "mongod") == 0;
    directory_new(server.directory);
    if (pipe2(output, O_CLOEXEC) != 0) {
        perror("server_start");
        exit(1);
    }
    server.pid = fork();
    if (server.pid == 0) {
        server_exec(&server, path, output[1]);
    }
    close(output[1]);
    int port = server.is_mongod ? server_port_by_pid(server.pid) : server_port(output[0]);
    /* Kept open: a server must not die of a closed pipe. It writes a line or two. */
    snprintf(server.uri, sizeof(server.uri), "mongodb://127.0.0.1:%d/", port);
    if (port <= 0 || !server_answers(&server)) {
        fprintf(stderr, "the test server %s does not start\n", path);
        kill(server.pid, SIGKILL);
        exit(1);
    }
    *ret_server = server;
    return true;
}

static inline void server_stop(struct test_server *server)
{
    if (server->pid > 0) {
        kill(server->pid, SIGKILL);
        waitpid(server->pid, NULL, 0);
        directory_remove(server->directory);
        server->pid = -1;
    }
}

/* ------------------------------------------------------------------ documents */

/* A document from JSON (canonical Extended JSON keeps number types); bson_destroy() it. */
static inline bson_t *doc(const char *json)
{
    bson_error_t error;
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (document == NULL) {
        fprintf(stderr, "test's own JSON: %s: %s\n", error.message, json);
        abort();
    }
    return document;
}

static inline struct slice doc_slice(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

/* Remembers what tests never free, so that a leak checker looks for leaks of the code only. */
static inline void keep(const void *memory)
{
    static const void **kept;
    static size_t count;
    kept = realloc(kept, (count + 1) * sizeof(*kept));
    if (kept == NULL) {
        abort();
    }
    kept[count] = memory;
    count++;
}

/* "" is ABSENT. Need not be freed, but may. */
static inline struct image image_of(const char *json)
{
    if (json[0] == '\0') {
        return (struct image){.presence = IMAGE_ABSENT};
    }
    bson_t *document = doc(json);
    struct image view = {.presence = IMAGE_PRESENT, .document = doc_slice(document)};
    struct image copy;
    if (!image_copy(view, &copy)) {
        abort();
    }
    bson_destroy(document);
    keep(copy.document.data);
    return copy;
}

static inline struct slice key_of(const char *json)
{
    return image_of(json).document;
}

/* Puts `json` into the collection as a stranger would ("" deletes), whatever is there. */
static inline void stranger_writes(struct upstream *upstream, const char *namespace,
                                   struct slice key, const char *json)
{
    struct image now = {0};
    struct image wanted = image_of(json);
    enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    if (upstream_find_image(upstream, namespace, key, &now, &error) != STATUS_OK ||
        upstream_replace_image(upstream, namespace, key, now, wanted, "stranger", &swap, &error) !=
            STATUS_OK ||
        swap != UPSTREAM_SWAP_DONE) {
        fprintf(stderr, "stranger_writes: %s\n", error.message);
        abort();
    }
    image_free(&now);
    image_free(&wanted);
}

static inline struct image current(struct upstream *upstream, const char *namespace,
                                   struct slice key)
{
    struct image now = {0};
    struct error error = {0};
    if (upstream_find_image(upstream, namespace, key, &now, &error) != STATUS_OK) {
        fprintf(stderr, "current: %s\n", error.message);
        abort();
    }
    return now;
}

static inline void run_json(struct upstream *upstream, const char *database, const char *json)
{
    bson_t *command = doc(json);
    bson_t reply;
    struct error error = {0};
    if (upstream_command(upstream, database, command, &reply, NULL, &error) != STATUS_OK) {
        fprintf(stderr, "run_json: %s: %s\n", json, error.message);
        abort();
    }
    bson_destroy(&reply);
    bson_destroy(command);
}

#endif
