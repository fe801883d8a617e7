#ifndef HOLDFAST_MAINTAIN_MAINTAIN_H
#define HOLDFAST_MAINTAIN_MAINTAIN_H

/*
 * Work on documents through a running holdfastd, as a service would do it: a client of the proxy
 * whose writes are journaled, in units, while services go on writing. For commands that change many
 * documents (holdfast migrate).
 *
 *     maintain_open()
 *       maintain_command()                    one command outside units: searches, indexes
 *       maintain_run(body)                    one unit
 *         body: maintain_unit_command() ...   its reads and writes
 *     maintain_close()
 *
 * READ THIS FIRST
 *  - A unit is a driver's transaction. Its documents are locked against services, and theirs
 *    against it; who is second gets a WriteConflict. maintain_run() does as drivers'
 *    withTransaction(): what the server calls transient rolls the unit back and calls `body` again,
 *    after a pause that grows, and a commit whose answer was lost is asked again until it is known.
 *  - So `body` may be called several times, and must not count or print before maintain_run() has
 *    returned STATUS_OK. Then the unit is durable, and was carried out once.
 *  - With a commit that stays unknown (STATUS_UNREACHABLE, result.unknown) the unit is whole or
 *    absent, nobody knows which: let the unit write a document that tells, and read that later.
 *  - A unit is bounded by unit.maxWrites, unit.maxBytes and unit.lifetime of the proxy: keep it to
 *    some hundred documents. One that was too large is STATUS_REFUSED with MAINTAIN_TOO_LARGE.
 *  - Reads in a unit show its beginning's snapshot and its own writes; a write of what somebody has
 *    changed since is a WriteConflict. So what a unit has read and then writes is what was there.
 *  - The same works without Holdfast on a replica set, where nothing is journaled.
 *
 * Threads: one struct maintain belongs to one thread (libmongoc's monitor is behind it); several
 * threads open several.
 *
 * Errors of all functions: STATUS_UNREACHABLE (nobody answered within patience_ms, or `stop` said
 * so), STATUS_REFUSED (the server or the proxy answered with an error: maintain_refusal()),
 * STATUS_MEMORY. Further ones are with each function.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct maintain;
struct maintain_unit;

struct maintain_options {
    const char *uri;         /* of the proxy, as services have it; with their kind of login */
    const char *application; /* the journal's records name it as the unit's appName */
    uint64_t patience_ms;    /* how long one call tries again: conflicts, a proxy that restarts */
    uint64_t open_ms;        /* how long maintain_open() does; 0: patience_ms */
    bool (*stop)(void *context); /* asked before each attempt: true gives up; NULL: never */
    void *context;
};

/*
 * Connects, and asks who answers. Errors also: STATUS_INVALID (no such URI), STATUS_UNSUPPORTED (a
 * standalone server without a proxy: no transactions; the message says what to do).
 * The caller gives *ret_maintain to maintain_close(). `options` is copied, its texts too.
 */
MUST_CHECK enum status maintain_open(const struct maintain_options *options,
                                     struct maintain **ret_maintain, struct error *ret_error);

/* NULL is harmless; returns NULL. */
struct maintain *maintain_close(struct maintain *maintain);

/* The database that the URI names, "" if none. Valid while `maintain` is open. */
const char *maintain_database(const struct maintain *maintain);

/* The clock behind the connection, milliseconds since 1970: one for all its clients. */
MUST_CHECK enum status maintain_time(struct maintain *maintain, int64_t *ret_ms,
                                     struct error *ret_error);

/* Why the last call was STATUS_REFUSED. */
struct maintain_refusal {
    int32_t code;      /* the server's error code */
    int32_t statement; /* of the command's statements or documents, from 0; -1: not told */
};

/* Of TransactionTooLarge: the unit has to be smaller. */
#define MAINTAIN_TOO_LARGE 257
#define MAINTAIN_NAMESPACE_NOT_FOUND 26
#define MAINTAIN_DUPLICATE_KEY 11000

struct maintain_refusal maintain_refusal(const struct maintain *maintain);

enum maintain_repeat {
    MAINTAIN_ONCE,       /* a connection that breaks is an error: it may have been carried out */
    MAINTAIN_IDEMPOTENT, /* then it is sent again */
};

/*
 * One command outside units. Errors inside a reply with ok: 1 (writeErrors) are refusals, too.
 * The caller destroys *ret_reply after STATUS_OK only.
 */
MUST_CHECK enum status maintain_command(struct maintain *maintain, const char *database,
                                        const bson_t *command, enum maintain_repeat repeat,
                                        bson_t *ret_reply, struct error *ret_error);

/* ------------------------------------------------------------------ units */

/*
 * What a unit does. Anything but STATUS_OK rolls it back, and is returned by maintain_run(), unless
 * the last error was a transient one: then the body is called again. `attempt` counts from 1:
 * a body may take fewer documents where others write the same ones.
 */
typedef enum status maintain_body(struct maintain_unit *unit, unsigned attempt, void *context,
                                  struct error *ret_error);

struct maintain_result {
    unsigned attempts;
    bool unknown; /* after STATUS_UNREACHABLE: the unit may have been committed */
};

/*
 * Runs `body` as one unit. STATUS_OK: committed, and durable as far as the proxy's wal.durability
 * goes. *ret_result (may be NULL) is filled in any case. Errors also: what `body` returned.
 */
MUST_CHECK enum status maintain_run(struct maintain *maintain, maintain_body *body, void *context,
                                    struct maintain_result *ret_result, struct error *ret_error);

/* One command of the unit, as maintain_command(). After an error the body returns it. */
MUST_CHECK enum status maintain_unit_command(struct maintain_unit *unit, const char *database,
                                             const bson_t *command, bson_t *ret_reply,
                                             struct error *ret_error);

/* ------------------------------------------------------------------ replies */

/* A whole number in the reply, by name; 0 if there is none. */
int64_t maintain_number(const bson_t *reply, const char *name);

/*
 * The documents of a `find` with singleBatch: true, one after the other: begin with *position 0.
 * False: no further one. They point into the reply. So a search is bounded by a message's 16 MiB.
 */
bool maintain_next(const bson_t *reply, uint32_t *position, struct slice *ret_document);

#endif
