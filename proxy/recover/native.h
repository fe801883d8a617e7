#ifndef HOLDFAST_RECOVER_NATIVE_H
#define HOLDFAST_RECOVER_NATIVE_H

/*
 * A journal of the native engine and its server: whose journal it is, and how the transactions
 * ended of which it holds only that they were about to be committed.
 *
 * There is no lease here, for any number of proxies may serve one replica set: each unit is a
 * transaction of the server, and what the journal holds of it is COMMITTING before the commit is
 * sent and COMMIT, ABORT or CONFLICT afterwards. A journal belongs to one engine for good: that of
 * the other one holds images, or sessions, of which this one knows nothing.
 *
 * Recovery ends units that were open, and aborts what the server still has of them, if their
 * session was the proxy's own (native_left.h). And it asks the server for each unit in the state
 * COMMITTING, by committing it again:
 *
 *     it has, or does so now                                    --> COMMIT
 *     it knows of none such, and would                          --> ABORT: it was never
 * acknowledged it is younger than the server's memory, and the server cannot say now (no primary,
 * no majority)                --> an error: try again later older than the server's memory of a
 * session, forgotten by a restart, superseded in its session, or another user's session that our
 * own user may not name                  --> CONFLICT, "outcome unknown"
 *
 * A conflict of this kind has no documents: recover/resolve.h ends it as the operator says.
 *
 * Threads: the struct upstream's. Crash points: native_asked.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/commit_verdict.h"
#include "recover/history.h"
#include "recover/record.h"
#include "upstream/upstream.h"

/* Name of the journal's property: "native", or absent. */
#define NATIVE_PROPERTY_ENGINE "engine"

/* What is known of the server beyond a single answer. */
struct native_server {
    bool keeps_transactions; /* across a restart (upstream/transaction.h) */
    bool tells_older;        /* as long as it runs */
    uint64_t session_ms;     /* how long it remembers a session */
    bool has_process;        /* that answers now; not for a mongos */
    uint8_t process[UPSTREAM_PROCESS_BYTES];
};

MUST_CHECK enum status native_server_learn(struct upstream *upstream,
                                           struct native_server *ret_server,
                                           struct error *ret_error);

/* Whether the journal is one of the native engine. */
MUST_CHECK enum status native_journal_is(struct wal *wal, bool *ret_native,
                                         struct error *ret_error);

/*
 * Claims journal and server for the native engine: the journal holds nothing of the journaled
 * engine that is still of use, it is this database's, and no proxy with that engine serves the
 * server. `takeover`: the id of a journal of that engine whose claim the operator vouches is dead.
 * `look_only`: checks, changes nothing.
 *
 * Errors: STATUS_FOREIGN (the message says what to do), STATUS_OWNED (a journaled proxy serves the
 * server), those of upstream.h and wal_property_set().
 */
MUST_CHECK enum status native_claim(struct wal *wal, struct upstream *upstream,
                                    const char *takeover, bool look_only, struct error *ret_error);

/* For the journaled engine: STATUS_FOREIGN if the journal is the native engine's. */
MUST_CHECK enum status native_refuse(struct wal *wal, struct error *ret_error);

/* For who brings images back: STATUS_UNSUPPORTED if the journal is the native engine's. */
MUST_CHECK enum status native_refuse_replay(struct wal *wal, struct error *ret_error);

/*
 * Whether "no such transaction" means that there was none: the process that was asked first is the
 * one that answers now, or the server keeps what it did.
 */
bool native_is_conclusive(const struct native_server *server,
                          const struct record_committing *committing);

/* The reason of a CONFLICT, a literal, for a verdict that is UNKNOWN or FORBIDDEN. */
const char *native_conflict_reason(enum commit_verdict verdict, bool too_old);

/* Asks the server once. Errors: those of upstream_commit_again(), and STATUS_CORRUPT. */
MUST_CHECK enum status native_ask(struct upstream *upstream, const struct native_server *server,
                                  const char *user, struct slice committing_payload,
                                  enum commit_verdict *ret_verdict, int32_t *ret_code,
                                  struct error *ret_error);

struct native_unit {
    const struct unit_history *history;
    enum wal_unit_state state; /* how it ended: COMMITTED, ABORTED or CONFLICT */
    const char *reason;        /* of the last two */
    const char *left;          /* ABORTED: why the server was left to abort it itself; NULL: not */
};

struct native_recovery_options {
    bool dry_run; /* nothing is asked either: that would commit */
    void (*unit_done)(const struct native_unit *unit, void *context); /* may be NULL */
    void *context;
};

struct native_report {
    uint64_t committed;
    uint64_t lost;
    uint64_t rolled_back; /* units that were open: no commit of theirs was ever sent */
    uint64_t conflicts_new;
    uint64_t conflicts_left;
    uint64_t not_asked; /* dry_run: units in the state COMMITTING */
};

/* Errors: STATUS_UNREACHABLE (the server cannot say now), STATUS_CORRUPT, those of appending. */
MUST_CHECK enum status native_recover(struct wal *wal, struct upstream *upstream,
                                      const struct native_recovery_options *options,
                                      struct native_report *ret_report, struct error *ret_error);

#endif
