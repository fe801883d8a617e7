#ifndef HOLDFAST_ENGINE_ENGINE_H
#define HOLDFAST_ENGINE_ENGINE_H

/*
 * The journaled engine: what the operations of all connections share. Where the server has
 * transactions of its own another one takes its place, as a whole: engine/native.h.
 *
 * It gives units to a server that has no transactions: strict two-phase locking on documents, and
 * before each write its before-image and command durable in the journal. The steps of a write are
 * drawn in write.c, those of an end in finish.c, and undoing is recover/undo.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/rollback_reason.h"
#include "holdfast/histogram.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"
#include "net/worker.h"
#include "unit/cursor_gates.h"
#include "unit/cursor_set.h"
#include "unit/gate.h"
#include "unit/lock_table.h"
#include "unit/uncommitted.h"
#include "unit/unit.h"
#include "upstream/update_rules.h"
#include "wire/command.h"
#include "wire/op_msg.h"

struct native;
struct pause;
struct resolver;
struct rollback_pool;
struct namespace_cache;
struct settler;
struct unique_cache;

/* What becomes of a plain command that writes several documents. */
enum engine_multi_writes {
    ENGINE_MULTI_WRITES_KEEP,   /* a unit; what the server answered stays */
    ENGINE_MULTI_WRITES_STRICT, /* a unit; any error undoes the whole command */
    ENGINE_MULTI_WRITES_OFF,    /* passed on */
};

/* How a unit ends. */
enum engine_outcome {
    ENGINE_COMMITTED,
    ENGINE_ROLLED_BACK,
    ENGINE_CONFLICT, /* set aside */
    ENGINE_OUTCOMES,
};

const char *engine_outcome_name(enum engine_outcome outcome);

/* How units have ended since the start. One relaxed addition where a durable record was waited for:
   too rare to be worth one counter a worker. */
struct engine_counters {
    _Atomic uint64_t ended[UNIT_BOUNDARIES][ENGINE_OUTCOMES]; /* by where they came from */
    _Atomic uint64_t deferred; /* writes that were put off (deferred.h), and */
    _Atomic uint64_t flushes;  /* how often some of them were carried out together */
    _Atomic uint64_t redone;   /* committed, lost by the server in a crash, and there again */
    _Atomic uint64_t restarts; /* of the server, that this process has seen */
    _Atomic uint64_t reasons[ROLLBACK_REASONS]; /* of those rolled back or set aside */
    _Atomic uint64_t journaled;    /* of those that ended, these had written something */
    _Atomic uint64_t answered;     /* commands that came again and were answered from the journal */
    _Atomic uint64_t lock_waiting; /* writes that wait for a document's lock now */
    struct histogram commit;       /* from its request until it was durable */
    struct histogram lock_wait;    /* of those that had to wait */
};

/* Wherever they came from. */
uint64_t engine_ended(const struct engine_counters *counters, enum engine_outcome outcome);

struct engine {
    struct engine_counters counters;
    struct native *native; /* NULL: this is the journaled engine */
    struct wal *wal;
    struct unit_table *units;
    struct lock_table *locks;
    struct gate_table *gates;
    struct uncommitted_table *uncommitted;
    struct cursor_gates cursor_gates;
    struct cursor_set loose_cursors;    /* their reads asked for what is there */
    struct namespace_cache *namespaces; /* NULL: every name is a collection's */
    struct rollback_pool *rollbacks;
    struct unique_cache *unique;
    struct settler *settler;
    struct resolver *resolver; /* NULL: nothing is decided any more */
    struct pause *pause;       /* of all writes, for a backup (pause.h) */
    /* Limits that may change while the proxy runs: read once where something new begins. */
    _Atomic uint64_t lock_wait_ms;
    _Atomic uint64_t plain_wait_ms; /* how long a plain write without maxTimeMS waits for units */
    _Atomic uint64_t unit_writes_max;
    _Atomic uint64_t unit_bytes_max;
    _Atomic uint64_t overlay_bytes;  /* of read/read.c: what LIMIT_OVERLAY_BYTES_MAX bounds */
    _Atomic uint64_t deferred_bytes; /* of writes that are put off (LIMIT_DEFERRED_BYTES_MAX) */
    _Atomic uint64_t cursor_bytes; /* what units keep for their cursors (LIMIT_CURSOR_BYTES_MAX) */
    bool committed_reads;          /* reads are answered from the committed state (read/read.h) */
    bool defer_writes;             /* of drivers' transactions, where they may (deferred.h) */
    bool serializable;             /* units that do not say otherwise lock what they read */
    bool retryable_writes;         /* plain writes with a transaction number are units, done once */
    enum engine_multi_writes multi_writes;
    struct update_rules update_rules; /* of the server */
};

/*
 * The client's own connection to the server, through which its unit's commands go, with its own
 * rights. Implemented by the layer above.
 */
struct engine_channel {
    struct worker *worker;
    const char *local_address; /* the proxy's end of the connection to the server */
    const uint8_t *process;    /* lent (boundary/lend.h): of the server; NULL: it does not tell */
    /*
     * Sends one command (body, which needs no $db added) and, when the whole reply is here, calls
     * `answered` on the worker: with STATUS_OK and the reply's document (valid during the call),
     * STATUS_UNREACHABLE if the connection broke: then nothing is known about the command, or
     * STATUS_NOT_FOUND if there was none any more: the command never left. Never calls back from
     * inside. One command at a time.
     */
    void (*send)(struct engine_channel *channel, struct slice body,
                 void (*answered)(void *context, enum status status, struct slice reply),
                 void *context);
    /* The same of a command with kind 1 sections behind its body. */
    void (*send_message)(struct engine_channel *channel, struct slice body, struct slice sections,
                         void (*answered)(void *context, enum status status, struct slice reply),
                         void *context);
    /* The same with the client's own message, byte for byte. */
    void (*forward)(struct engine_channel *channel,
                    void (*answered)(void *context, enum status status, struct slice reply),
                    void *context);
};

#endif
