#ifndef HOLDFAST_UPSTREAM_UPSTREAM_H
#define HOLDFAST_UPSTREAM_UPSTREAM_H

/*
 * The proxy's own access to the server, with its own credential: reads and restores images, asks
 * what a command makes of a document, tells which connections are still open.
 *
 * READ THIS FIRST
 *  - Calls are synchronous and may take as long as connect_ms and the socket's timeout (60 s unless
 *    the URI's socketTimeoutMS says otherwise). Never call them from an event loop.
 *  - One struct upstream per thread; it holds at most one connection, made when it is needed and
 *    made again after a failure. Nothing is ever sent a second time on its own account.
 *  - No call is part of a transaction, and none carries a retryable write's number.
 *  - After STATUS_UNREACHABLE from a call that writes, the write may still be on its way: fence
 *    (recover/fence.h) before its document is looked at again.
 *
 * Errors, for all functions: STATUS_UNREACHABLE (no connection, or it broke, or this process has no
 * permit to send, see holdfast/write_permit.h), STATUS_PROTOCOL (the
 * peer does not speak MongoDB's protocol), STATUS_REFUSED (the server answered with an error, which
 * the message repeats), STATUS_MEMORY. Further ones are with each function.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/slice.h"

struct upstream;

/* The database that the proxy keeps its own collections in. */
#define UPSTREAM_OWN_DATABASE "holdfast"

/*
 * Prepares access to the server of `uri`; connects with the first call that needs it. A server
 * is waited for connect_ms at most. Of several hosts, replicaSet= and mongodb+srv: it is the
 * primary, or one of the routers, and another one after a failure if that has changed.
 * loadBalanced=true, directConnection=true with several hosts, a user without the password it
 * needs, a file of its TLS options that cannot be read, and a malformed URI are STATUS_INVALID. The
 * caller gives *ret_upstream to upstream_close().
 */
MUST_CHECK enum status upstream_open(const char *uri, uint64_t connect_ms,
                                     struct upstream **ret_upstream, struct error *ret_error);

/* The same, and no answer is waited for longer than answer_ms, whatever the URI says. */
MUST_CHECK enum status upstream_open_answering(const char *uri, uint64_t connect_ms,
                                               uint64_t answer_ms, struct upstream **ret_upstream,
                                               struct error *ret_error);

/* It may be used without a permit (holdfast/write_permit.h): only to renew a lease. */
void upstream_exempt(struct upstream *upstream);

/* Before anything of libmongoc is used, here or elsewhere. Any thread, any number of times. */
void upstream_library_init(void);

/*
 * Whether `uri` names more than one server (several hosts, replicaSet=, mongodb+srv:), which are
 * then followed (upstream/topology.h). With directConnection=true it does not. A URI that is not
 * valid does not.
 */
bool upstream_uri_follows(const char *uri);

/* How long a command waits for a primary, where the servers of `uri` are followed: its
   serverSelectionTimeoutMS, else as long as a mongos looks for one, 20 s. */
uint64_t upstream_uri_selection_ms(const char *uri);

/* Tells of each option of `uri` that has no effect here, and why not. Texts are valid during the
   call. */
void upstream_uri_notes(const char *uri,
                        void (*note)(void *context, const char *option, const char *what),
                        void *context);

/* Copies the "host:port" of the (first) server of `uri`, the path of a socket, or the name of
   mongodb+srv:, cut at capacity. STATUS_INVALID: no valid URI. */
MUST_CHECK enum status upstream_host(const char *uri, char *host, size_t capacity,
                                     struct error *ret_error);

/* What a URI says of TLS, as MongoDB's connection string specification has it. */
struct upstream_tls {
    bool on;
    char host[256]; /* without its port */
    char ca_file[4096];
    char certificate_key_file[4096];
    char certificate_key_password[256];
    bool allow_invalid_certificates;
    bool allow_invalid_hostnames;
};

/* For connections that are made elsewhere. STATUS_INVALID: no valid URI, or a text is too long. */
MUST_CHECK enum status upstream_tls(const char *uri, struct upstream_tls *ret_tls,
                                    struct error *ret_error);

/*
 * From now on no other connection is made than the one there is: once that breaks, every call is
 * STATUS_UNREACHABLE, and this struct good for closing only.
 */
void upstream_pin(struct upstream *upstream);

/*
 * The process ends: no call of any thread waits any more for a server that is away. One that does
 * not answer is waited for until it has said nothing for UPSTREAM_END_ANSWER_MS to any of them, and
 * everything ends after UPSTREAM_END_MS: what is not done by then is STATUS_UNREACHABLE. There is
 * no way back. A name that is resolved may take as long as the name service does. Any thread.
 */
void upstream_stop_waiting(void);
bool upstream_waits_are_stopped(void);
#define UPSTREAM_END_ANSWER_MS 5000u
#define UPSTREAM_END_MS 30000u

/*
 * Before that: while `told_to_end` (any thread's) says so, a call that has waited for
 * UPSTREAM_END_ANSWER_MS waits no longer: the thread that is to begin the end may be the one. Any
 * thread.
 */
void upstream_watch_end(bool (*told_to_end)(void));

/* Closes the connection. NULL is harmless; returns NULL. */
struct upstream *upstream_close(struct upstream *upstream);

/* ------------------------------------------------------------------ what the server is */

enum upstream_topology {
    UPSTREAM_STANDALONE,
    UPSTREAM_REPLICA_SET, /* also a member that was not initiated: set_name is empty */
    UPSTREAM_SHARDED,
};

/* "standalone", "replicaSet", "sharded". */
const char *upstream_topology_name(enum upstream_topology topology);

#define UPSTREAM_PROCESS_BYTES 12

struct upstream_description {
    enum upstream_topology topology;
    char set_name[128]; /* REPLICA_SET only */
    int32_t wire_version_min;
    int32_t wire_version_max;
    bool has_process_id;                        /* 4.4 and later */
    uint8_t process_id[UPSTREAM_PROCESS_BYTES]; /* another one after each start of the server */
    int64_t local_time_ms;                      /* the server's clock */
    int64_t session_minutes; /* how long it remembers a session; 0: it has none */
};

/* The process that a reply to hello or isMaster names; false: it names none. */
bool upstream_hello_process(struct slice hello, uint8_t ret_id[UPSTREAM_PROCESS_BYTES]);

/* Asks the server what it is (`hello`). */
MUST_CHECK enum status upstream_describe(struct upstream *upstream,
                                         struct upstream_description *ret_description,
                                         struct error *ret_error);

/* ------------------------------------------------------------------ images */

/*
 * The document {_id: value} of the collection, or ABSENT. `key` is a document of exactly _id.
 * The caller gives *ret_image to image_free().
 */
MUST_CHECK enum status upstream_find_image(struct upstream *upstream, const char *namespace,
                                           struct slice key, struct image *ret_image,
                                           struct error *ret_error);

enum upstream_swap {
    UPSTREAM_SWAP_DONE,    /* what was `expected`, byte for byte, is now `wanted`, byte for byte */
    UPSTREAM_SWAP_DIFFERS, /* something else was there and is there still, or the server cannot
                              hold `wanted` exactly: nothing was changed, or it was put back */
};

/* Whether both images fit one command, as upstream_replace_image() needs it. */
bool upstream_images_fit(struct slice key, struct image expected, struct image wanted);

/*
 * Takes the document from `expected` to `wanted`, each PRESENT or ABSENT, by one command that
 * changes it only if it is still `expected`. Validation rules of the collection do not apply:
 * what is restored was there before them. `comment` is sent along; change streams and the
 * profiler show it.
 *
 * Equality on the server does not see number types (1 is 1.0). So the command returns what it
 * replaced, and where those bytes are not `expected`, they are put back. What was written is read
 * back as well; what the server did not keep as it was sent is undone the same way.
 *
 * Errors also: STATUS_UNSUPPORTED (both images together do not fit one command), STATUS_CONFLICT
 * (the server will not take `wanted` however often it is asked, for example because of a unique
 * index; nothing was changed), STATUS_INVALID (an image is UNKNOWN).
 */
MUST_CHECK enum status upstream_replace_image(struct upstream *upstream, const char *namespace,
                                              struct slice key, struct image expected,
                                              struct image wanted, const char *comment,
                                              enum upstream_swap *ret_swap,
                                              struct error *ret_error);

/*
 * Many documents at once (bulk.c), for a replay. Such a document must pass upstream_bulk_fits().
 */
struct upstream_change {
    struct slice key;      /* {_id: value} */
    struct image expected; /* PRESENT or ABSENT; ABSENT only with a `wanted` that is PRESENT */
    struct image wanted;   /* PRESENT or ABSENT */
};

/* Bytes of one command's documents; a single change, and each batch, must stay below. */
#define UPSTREAM_BULK_BYTES ((size_t)8 << 20)

/* Whether the document may be found by its key among others: not if the server could take the key
   for a pattern. */
bool upstream_bulk_finds(struct slice key);

/* Whether the change may be one of many: small enough, and nothing in `wanted` that servers are
   known to keep otherwise than it was sent. */
bool upstream_bulk_fits(const struct upstream_change *change);

/* The bytes that the change takes of a command. */
size_t upstream_bulk_bytes(const struct upstream_change *change);

/*
 * Hands those of the documents that are there to `found`, each once, in no order; it returns false
 * to say that memory is short. A collection that does not exist is empty. Errors also: those that
 * `found` meant (STATUS_MEMORY).
 */
MUST_CHECK enum status upstream_bulk_find(struct upstream *upstream, const char *namespace,
                                          const struct slice *keys, size_t count,
                                          bool (*found)(struct slice document, void *context),
                                          void *context, struct error *ret_error);

/*
 * Sends the changes, each guarded by what was `expected` as far as the server compares (it does not
 * see number types: compare bytes before). What the server refuses of them, and what was not as
 * expected, stays as it is; nobody is told which: find them again. `comment` as above. Waits for no
 * disk.
 */
MUST_CHECK enum status upstream_bulk_change(struct upstream *upstream, const char *namespace,
                                            const struct upstream_change *changes, size_t count,
                                            const char *comment, struct error *ret_error);

/*
 * Inserts what is `wanted` of the changes, without a look: what is there already stays.
 * *ret_inserted: how many were not. Else as upstream_bulk_change().
 */
MUST_CHECK enum status upstream_bulk_insert(struct upstream *upstream, const char *namespace,
                                            const struct upstream_change *changes, size_t count,
                                            const char *comment, size_t *ret_inserted,
                                            struct error *ret_error);

/*
 * What the server makes of `before` (PRESENT or ABSENT) by `command`, a findAndModify with its
 * query pinned to an _id: done in a scratch collection of the proxy's own database, never in the
 * collection that the command names. The caller gives *ret_after to image_free().
 *
 * Errors also: STATUS_INVALID (not such a command), STATUS_CONFLICT (the server refuses the command
 * on this image).
 */
MUST_CHECK enum status upstream_evaluate(struct upstream *upstream, struct slice command,
                                         struct image before, struct image *ret_after,
                                         struct error *ret_error);

/* Drops scratch collections that a killed process left behind. Only for the journal's owner. */
MUST_CHECK enum status upstream_scratch_clear(struct upstream *upstream, struct error *ret_error);

/* ------------------------------------------------------------------ connections */

struct upstream_connections {
    bool shown;       /* the server shows its clients' addresses, in the form of those asked for */
    uint64_t present; /* shown only: how many of the addresses asked for are still connected */
    uint64_t active;  /* shown only: how many of those are in the middle of an operation */
    bool counted;     /* the server tells how many connections it has */
    uint64_t count;   /* counted only: all of them, this one included */
};

/*
 * Which of `addresses` ("address:port", the client's end) are still connected to the server. A
 * server that shows no addresses, or a user without the right to see them, is no error: shown is
 * false then. So it is where none of the addresses has the host that the server sees us at: then
 * something between us translates addresses, and absence would prove nothing.
 */
MUST_CHECK enum status upstream_connections(struct upstream *upstream, const char *const *addresses,
                                            size_t address_count,
                                            struct upstream_connections *ret_connections,
                                            struct error *ret_error);

/* ------------------------------------------------------------------ anything else */

/*
 * Runs `command` in `database`. The reply is a document of its own, to be destroyed by the caller,
 * only after STATUS_OK. *ret_code (may be NULL) is the server's error code after STATUS_REFUSED,
 * else 0. Errors inside a reply with ok: 1 (writeErrors) count as the server's error, too.
 */
MUST_CHECK enum status upstream_command(struct upstream *upstream, const char *database,
                                        const bson_t *command, bson_t *ret_reply, int32_t *ret_code,
                                        struct error *ret_error);

/*
 * The same for a write, with a write concern that waits for the server's own journal where it has
 * one. `command` must not carry a write concern; *ret_code must be given.
 */
MUST_CHECK enum status upstream_command_durable(struct upstream *upstream, const char *database,
                                                const bson_t *command, bson_t *ret_reply,
                                                int32_t *ret_code, struct error *ret_error);

#endif
