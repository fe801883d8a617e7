#ifndef HOLDFAST_ENGINE_NATIVE_H
#define HOLDFAST_ENGINE_NATIVE_H

/*
 * The native engine: a unit is one transaction of the server, a replica set or a sharded cluster.
 *
 * Locks, reads and rollbacks are the server's. What is added is the journal, at one place:
 *
 *   statements           pass as they are; of those that write it is noted that they do, and for
 *                        the audit what (native_note())
 *   commitTransaction    of one that wrote: BEGIN and COMMITTING durable, then it is sent
 *                        (native_commit_begin())
 *   its answer           passes; COMMIT or ABORT is appended, and nobody waits for that
 *                        (native_commit_answered())
 *   no answer, or none   asked again by a thread with the proxy's own credential, until the server
 *     that settles it    says (native_commit_lost()); the client is told then
 *
 * Why the outcome needs no sync of its own: a crash that loses it leaves COMMITTING, and recovery
 * asks the server, which answers the same (recover/native.h).
 *
 * A transaction of which nothing is known here, for it began before a restart of this proxy or by
 * way of another one, counts as one that wrote.
 *
 * Where several connections carry one session they share what is noted of it. Threads: any; a lock
 * for each of some 64 parts of the table, short sections.
 *
 * Bounds: one entry a session, some 300 bytes and what is kept of the commands of its open
 * transaction (`unit.auditBytes`); beyond options.sessions_max the longest unused is forgotten.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "holdfast/error.h"
#include "recover/native.h"

struct native;

struct native_options {
    struct engine_counters *counters; /* outlive it, as the wal */
    struct wal *wal;
    const char *upstream_uri;
    uint64_t connect_ms;
    struct native_server server;
    size_t sessions_max;
    uint64_t audit_bytes;
};

MUST_CHECK enum status native_start(const struct native_options *options,
                                    struct native **ret_native, struct error *ret_error);
/* Ends the thread; what is not settled is left to the next start's recovery. No connection may be
   served any more, but appends of commits may still complete. NULL is harmless. Once. */
void native_end(struct native *native);
/* After native_end(), and after the journal's end: nobody posts to it any more. NULL is harmless;
   returns NULL. */
struct native *native_free(struct native *native);

/* Of the commands of one transaction so many bytes are journaled; 0: none. Any time. */
void native_set_audit_bytes(struct native *native, uint64_t audit_bytes);
uint64_t native_audit_bytes(const struct native *native);

/* Commits whose outcome is not known now. */
size_t native_doubts(struct native *native);

/* ------------------------------------------------------------------ statements */

/*
 * A statement of a transaction passes. `writes`: it may change something. `message`: the whole
 * message, for the audit; NULL if it is not here whole or not wanted. One that neither begins nor
 * writes need not be told.
 */
void native_note(struct native *native, const char *user, const struct command_view *view,
                 const struct op_msg *message, bool writes);

/* abortTransaction, or the end of the session, passes: nothing is to be committed any more. */
void native_forget(struct native *native, const char *user, struct slice session_id,
                   int64_t number);

/* ------------------------------------------------------------------ commits */

struct native_commit {
    /* filled in by the caller, and valid until `durable` was called */
    struct native *native;
    const char *user;
    const char *client;
    const char *application;
    const struct command_view *view;
    const uint8_t *process; /* of the server, on this connection; NULL: not known. For the call */
    /* On the journal's writer thread. STATUS_FULL: nothing is in the journal, the commit must not
       be sent. Any other failure of the disk ends the process. */
    void (*durable)(struct native_commit *commit, enum status status);
    void *context;
    /* filled in: 0 if it is not journaled */
    uint64_t unit;
    /* private */
    bool again;
    bool set_aside; /* `again`: the unit is a conflict by now */
    bool conclusive;
    bool was_committed;     /* the server has said so before */
    bool has_first_process; /* of the server that was asked first; `process` may change meanwhile */
    uint8_t first_process[UPSTREAM_PROCESS_BYTES];
    uint64_t started_us;
    struct wal_append records[2];
    bson_t payloads[2];
};

enum native_step {
    NATIVE_SEND, /* at once: it has written nothing, or is in the journal already */
    NATIVE_WAIT, /* `durable` will be called */
};

enum native_step native_commit_begin(struct native_commit *commit);

enum native_answer {
    NATIVE_PASS,      /* the client gets the server's answer */
    NATIVE_UNKNOWN,   /* it must not: run again, the transaction might be done twice */
    NATIVE_FORGOTTEN, /* neither: the server had committed it, and says that there is no such one */
    NATIVE_ASK, /* it must not: its driver would take it for a failure, while the commit may yet
                   happen. native_commit_lost() finds out */
};

/* The server has answered. */
enum native_answer native_commit_answered(struct native_commit *commit, struct slice reply);

struct native_doubt;

/*
 * The answer is lost. The server is asked until it says; then `told` is called, from another
 * thread: COMMITTED, LOST, UNKNOWN, or FORBIDDEN (the client may ask itself; nobody else can).
 * NULL: out of memory, and the next start's recovery settles it. What is returned may only be given
 * to native_doubt_leave(); with `told` NULL it may be freed already.
 */
struct native_doubt *native_commit_lost(struct native_commit *commit,
                                        void (*told)(void *context, enum commit_verdict verdict),
                                        void *context);
/* The client has gone; `context` as before. True: `told` will not be called. */
bool native_doubt_leave(struct native *native, const struct native_doubt *doubt,
                        const void *context);

#endif
