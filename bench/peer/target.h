#ifndef HOLDFAST_BENCH_TARGET_H
#define HOLDFAST_BENCH_TARGET_H

/*
 * Whom the loads ask: an address, or something that the bench starts before a server and ends
 * again. Main thread.
 */

#include "bench/load/process.h"
#include "bench/options.h"
#include "bench/peer/child.h"
#include "holdfast/error.h"
#include "net/listener.h"

/* Name, word on the command line, whether it is started. */
#define TARGET_KIND_LIST(X)                                                                        \
    X(ADDRESS, "")                                                                                 \
    X(DIRECT, "direct")                                                                            \
    X(HOLDFASTD, "holdfastd")                                                                      \
    X(RELAY, "relay")                                                                              \
    X(HAPROXY, "haproxy")                                                                          \
    X(NGINX, "nginx")                                                                              \
    X(MONGOBETWEEN, "mongobetween")                                                                \
    X(NATIVE, "native")

enum target_kind {
#define X(name, text) TARGET_##name,
    TARGET_KIND_LIST(X)
#undef X
        TARGET_KIND_COUNT,
};

const char *target_kind_name(enum target_kind kind);

#define TARGET_NAME_BYTES 64
#define TARGET_SETTINGS_MAX 16u
#define TARGET_PATH_BYTES 400

/* A server, and what is put before it. */
struct server {
    struct child child;
    char address[128];     /* HOST:PORT of it */
    struct child instant;  /* the fake before it (instant.h), if that was asked for */
    char where[128];       /* HOST:PORT for proxies: the fake's, or its own; "": there is none */
    char local_where[128]; /* the fake's local socket; "": there is none */
};

struct target {
    enum target_kind kind;
    char name[TARGET_NAME_BYTES];
    char where[128]; /* HOST:PORT, also of what was started */
    struct network_address address;
    char *settings[TARGET_SETTINGS_MAX]; /* KEY=VALUE, as given, but pid */
    size_t setting_count;
    pid_t given_pid;      /* of an address; 0: not told */
    struct child child;   /* the proxy */
    struct server server; /* its own, if it has one: native, and all holdfastds but the first */
    bool has_own_server;
    char upstream[128];                /* HOST:PORT of the server behind it, or unix:/PATH */
    char directory[TARGET_PATH_BYTES]; /* of what is started */
    struct child service;              /* the stub behind it, if HTTP is asked for */
    char stub[128];                    /* HOST:PORT of the service */
    char http[128];                    /* HOST:PORT of calls; "": there is none */
    struct network_address http_address;
};

/* What all targets share. */
struct targets {
    const struct bench_options *options;
    struct target *targets;
    size_t count;
    struct server server; /* --server; of --upstream only `where` */
    char directory[TARGET_PATH_BYTES];
    bool is_http; /* targets have services in front of them, and holdfastd fronts them */
};

/* Reads [NAME=]WHERE[,KEY=VALUE]... Errors: STATUS_INVALID. Free with target_free(). */
MUST_CHECK enum status target_parse(const char *text, struct target *ret_target,
                                    struct error *ret_error);
void target_free(struct target *target);

/* Whether the bench starts it, so that it may be killed and restarted as well. */
static inline bool target_is_started(const struct target *target)
{
    return target->kind != TARGET_ADDRESS && target->kind != TARGET_DIRECT;
}

/* Settings of what is started: it is reached by a local socket; it reaches its server by one. */
#define TARGET_LOCAL "local"
#define TARGET_LOCAL_SERVER "local-server"

/* Whether it has a setting KEY, or one that says so: KEY=VALUE. */
bool target_has_setting(const struct target *target, const char *key);

/*
 * Starts the server, and every target that is not there yet, and waits until they accept. With
 * --peers, those that are installed are added. What is missing of these is told on standard error.
 * Errors: STATUS_INVALID, STATUS_NOT_FOUND (a program), STATUS_UNREACHABLE (one does not come up;
 * with its last words). *ret_targets is to be stopped either way.
 */
MUST_CHECK enum status targets_start(const struct bench_options *options,
                                     struct targets *ret_targets, struct error *ret_error);

/*
 * Puts a stub service before each target that was started, or takes it away; holdfastd is started
 * again to front it. Nothing is done if it is so already. Errors: as targets_start().
 */
MUST_CHECK enum status targets_set_http(struct targets *targets, bool is_http,
                                        struct error *ret_error);

/* Ends all that was started, and removes its files. Harmless twice. */
void targets_stop(struct targets *targets);

/* ------------------------------------------------------------------ parts, for scenarios */

/* Starts one again on its address, with its files, after child_end(); waits until it accepts. */
MUST_CHECK enum status target_start(struct targets *targets, struct target *target,
                                    struct error *ret_error);

/* The same of the server behind a target: its own, or that of all. */
MUST_CHECK enum status target_server_start(struct targets *targets, struct target *target,
                                           struct error *ret_error);
struct server *target_server(struct targets *targets, struct target *target);

#endif
