#ifndef HOLDFAST_READ_READ_H
#define HOLDFAST_READ_READ_H

/*
 * One reading command, answered from the committed state: what its server holds, without what open
 * units have written there, and with the before-images of that (unit/uncommitted.h).
 *
 *   looked at         answered by
 *   nothing is uncommitted there             the command as it is
 *   form OVERLAY                             the command as an aggregation over the committed state
 *   form POINT, and its document is          the before-image alone, which the server filters and
 *                                            projects: no wait, whoever holds it for how long
 *   form WAIT                                the command as it is, once nothing is uncommitted
 *
 * Each is compared with the stamp of the look when the reply is there, and done again if a unit has
 * published meanwhile; the third time with a turn, in which none may. A turn lasts for
 * 3/4 of unit.lockWait: if the reply is not there then it is given up, and if a unit has published
 * when it comes, the read is either one that can be done in two steps (read_long.c), or has failed.
 *
 * Who only waits does so until unit.lockWait (or maxTimeMS) is over: it looks again whenever a unit
 * ends, and every quarter of a second keeps units that hold nothing yet from beginning to, for a
 * moment, so that it does not wait for ever where there is always another one.
 *
 * A reader with a snapshot sees in the same way what was committed when that began. What cannot be
 * evaluated so (other collections, form WAIT) is answered if nothing has changed there since, and
 * where a plain write may have passed unseen since (unit/gate.h) the snapshot is not available.
 *
 * Everything on the channel's worker.
 */

#include <event2/event_struct.h>

#include "engine/engine.h"
#include "engine/enter.h"
#include "read/read_command.h"
#include "read/resolve.h"
#include "read/rewrite.h"

enum read_step {
    READ_RESOLVING, /* the server is asked what a namespace is */
    READ_ENTERING,  /* the unit waits at a gate */
    READ_AT_SERVER,
    READ_KILLING,     /* a cursor of an answer that nobody gets */
    READ_TURN_QUEUED, /* units are to publish before it */
    READ_DRAINING,
    READ_WAITING,
};

enum read_sent {
    READ_SENT_ORIGINAL,
    READ_SENT_OVERLAY,
    READ_SENT_PROBE,  /* the original, to see whether it is the overlay that the server refuses */
    READ_SENT_GATHER, /* all that match, as they are: read_long.c */
    READ_SENT_GATHERED,
};

/* Of engine->overlay_bytes, and so of all workers. */
#define READ_OVERLAY_COPIES 3u

/* Lies in the caller's memory from read_start() to `completed`, and so does the view. */
struct read_operation {
    /* filled in by the caller */
    struct engine *engine;
    struct engine_channel *channel;
    const struct command_view *view;
    struct uncommitted_reader reader; /* without `unit` */
    uint64_t plain_epoch;             /* of a reader's snapshot, as in struct uncommitted_owner */
    struct unit *unit;          /* whose command it is: it enters the gates, and is who reads */
    struct unit_cursor *cursor; /* a getMore of it, in the unit; else NULL */
    bool locked;  /* a unit has locked all that it reads (locked_read.h): it is sent as it is */
    bool in_unit; /* the server is sent no fields of a transaction */
    int64_t stale_cursor; /* of an earlier answer, to be closed first; 0: none */
    bool is_lost;         /* a getMore whose answer nobody may get: it only fails, for time */
    /* `reply`: valid during the call; size 0: the connection to the server broke. */
    void (*completed)(struct read_operation *operation, struct slice reply);
    void *context;

    /* private */
    struct read_command command;
    struct read_views views;
    struct namespace_lookup lookup;
    unsigned asked;
    struct enter enter;
    struct uncommitted_owner own_snapshot; /* read_long.c */
    enum read_form form;
    const char *why;
    bson_t key; /* POINT */
    struct lock_name name;
    enum read_step step;
    enum read_sent sent;
    unsigned attempts;
    uint64_t stamp;
    uint64_t sent_ms;
    uint64_t took_ms; /* until the last reply that units had overtaken */
    uint64_t deadline_ms;
    uint64_t drain_until_ms;
    uint64_t drain_after_ms;
    bool has_turn;
    uint64_t overlay_bytes; /* counted in the engine's */
    bool gave_up;           /* the turn, before its reply was there */
    bool timed;             /* the server was given less time than the client gives it */
    bool cancelled;
    void (*answered)(struct read_operation *operation, enum status status, struct slice reply);
    struct uncommitted_turn turn;
    struct uncommitted_watch watch;
    struct worker_task task;
    struct event timer;
    bson_t reply;
};

/* Any command; what is none that reads documents goes to the server as it is. */
void read_start(struct read_operation *operation);

/* The client has gone: stops waiting; `completed` still comes. Harmless at any time. */
void read_cancel(struct read_operation *operation);

/* In `completed`: it has shown nothing that others have not committed. */
bool read_is_committed(const struct read_operation *operation);

/* How long a turn is kept: shorter than a write waits for it, by enough to tell them apart on a
   loaded machine. */
static inline uint64_t read_turn_ms(const struct engine *engine)
{
    uint64_t ms = engine->lock_wait_ms;
    return ms - ms / 4;
}

/*
 * A getMore of a unit's cursor: the next batch of what the unit keeps, into the empty *reply.
 * False: that is all given, and an operation has to ask the server.
 */
bool read_batch_next(struct unit_cursors *cursors, struct unit_cursor *cursor,
                     const struct command_view *view, bson_t *reply);

/* ---- for reads that go by without an operation */

/* A getMore of a cursor that reads other collections, too, has all gates from then on. */
void read_find_gates(struct engine *engine, struct read_command *command);
/* Whether the cursor of its reply has to be remembered, because of what it reads. */
bool read_wants_cursor(const struct read_command *command);
void read_note_cursor(struct engine *engine, const struct read_command *command, int64_t cursor_id);

/* The stamps of all that it reads, as one; and whether nothing there is uncommitted. 0: no unit has
   ever written there. */
uint64_t read_stamp(const struct engine *engine, const struct read_command *command);
bool read_is_clear(const struct uncommitted_table *table, const struct read_command *command);
/* What its names are has not changed since it was resolved. */
static inline bool read_is_resolved_still(const struct engine *engine,
                                          const struct read_command *command)
{
    return engine->namespaces == NULL ||
           namespace_cache_generation(engine->namespaces) == command->generation;
}

/* How long the server waits for documents that a tailable cursor is to show, at most. */
#define READ_AWAIT_MS 100u

#endif
