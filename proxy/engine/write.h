#ifndef HOLDFAST_ENGINE_WRITE_H
#define HOLDFAST_ENGINE_WRITE_H

/*
 * One write command (insert, update, delete, findAndModify, bulkWrite) carried out inside a unit.
 *
 * Memory: the operation lies in the caller's memory from write_start() until `completed`, and so do
 * the message and the view it was started with. It holds the images of one batch of documents at a
 * time, however many the command writes. Everything runs on the channel's worker.
 */

#include <event2/event_struct.h>
#include <stdbool.h>

#include "engine/command_build.h"
#include "engine/engine.h"
#include "engine/enter.h"
#include "engine/finish.h"
#include "engine/flush.h"
#include "engine/statement.h"
#include "engine/unique_cache.h"
#include "engine/write_reply.h"
#include "unit/lock_table.h"

enum write_step {
    WRITE_ENTERING,
    WRITE_ADMITTING,
    WRITE_LEARNING_UNIQUE,
    WRITE_SELECTING,
    WRITE_COLLECTING,
    WRITE_LOCKING,
    WRITE_FLUSHING,
    WRITE_RESOLVING,
    WRITE_SEEKING_HIDDEN,
    WRITE_PROBING,
    WRITE_FORECASTING,
    WRITE_LOCKING_UNIQUE,
    WRITE_PROJECTING_BEFORE,
    WRITE_JOURNALING,
    WRITE_PUBLISHING,
    WRITE_SENDING,
    WRITE_CHECKING,
    WRITE_PROJECTING_AFTER,
    WRITE_ROLLING_BACK,
    WRITE_DONE,
};

enum write_wait {
    WRITE_WAIT_NONE,
    WRITE_WAIT_GATE,
    WRITE_WAIT_INDEXES,
    WRITE_WAIT_LOCK,
    WRITE_WAIT_JOURNAL,
    WRITE_WAIT_READERS,
    WRITE_WAIT_SERVER,
    WRITE_WAIT_FLUSH,
    WRITE_WAIT_ROLLBACK,
};

/* What the server's refusal of a statement does. */
enum write_errors {
    WRITE_ERRORS_ABORT,  /* the unit is rolled back: a transaction, as in mongod */
    WRITE_ERRORS_KEEP,   /* what was done stays: a command of its own, as in mongod */
    WRITE_ERRORS_STRICT, /* the same, but any error undoes the whole command */
    WRITE_ERRORS_CALL,   /* of a unit of several commands whose writer knows of no transaction: what
                            the server refuses is kept as in KEEP and the unit goes on; what has
                            changed since it began is a conflict as in ABORT */
};

/* Whether what the server refuses leaves the rest of the command, and the unit, standing. */
static inline bool write_errors_are_kept(enum write_errors errors)
{
    return errors == WRITE_ERRORS_KEEP || errors == WRITE_ERRORS_CALL;
}

struct write_record;   /* private */
struct write_document; /* private */

/* What other units hide from a search (write_hidden.c). */
struct write_hidden {
    uint64_t stamp;                /* of the namespace's gate, before the search */
    bool insist;                   /* units have begun to write while it searched without a look */
    struct uncommitted_owner look; /* begun where something may be hidden */
    struct uncommitted_view view;  /* the documents that may be hidden */
    size_t at;                     /* the next of them to ask about */
    size_t asked;                  /* how many the command on its way asks about */
    struct lock_name *locked;      /* by this statement, and searched for again since */
    size_t locked_count;
    size_t locked_capacity;
};

struct write_operation {
    /* filled in by the caller */
    struct engine *engine;
    struct engine_channel *channel;
    struct unit *unit; /* checked out, open; stays with the caller */
    enum write_errors errors;
    /*
     * The command is done. `reply`: the document for the client, valid during the call; size 0: the
     * connection to the server broke. If unit->state is not UNIT_OPEN the unit was rolled back.
     * operation->conflicted: it failed because of another unit and may be tried again in a new one.
     */
    void (*completed)(struct write_operation *operation, struct slice reply);
    void *context;

    /* private */
    struct statement_list list;
    struct command_target target;
    char *namespace;
    uint32_t gate;             /* of the namespace */
    uint32_t namespace_number; /* of the list's */
    enum write_step step;
    enum write_wait wait;
    bool conflicted;
    bool cancelled;
    bool connection_lost;
    struct worker_task task;
    struct event timer;
    struct enter enter;
    struct lock_waiter lock_waiter;
    uint64_t lock_asked_us; /* WRITE_WAIT_LOCK: since when */

    /* unique indexes of the namespace, and the keys in them that the batch at work locks */
    enum namespace_kind kind;
    bool collated;  /* texts that differ may be one _id in it */
    bool refusable; /* the server may have reasons to refuse a write there that are not seen here */
    struct unique_indexes *unique;
    struct unique_lookup unique_lookup;
    bool asked_unique;
    bool unique_collected;
    struct unique_keys unique_keys;
    size_t unique_at;
    bool has_unique_keys;       /* the batch at work changes some */
    int64_t forecast_cursor_id; /* open on the server; 0: none */

    /* the statements at work: one, or a run of inserts */
    size_t index;
    size_t count;
    int64_t matched_before; /* the counts when it began: a statement that fails adds nothing */
    int64_t modified_before;
    struct lock_name *names; /* to lock before it is known whether there is a document */
    size_t name_count;
    size_t name_at;
    bool resolved;
    bool waited;             /* for a lock since the document was read: read it again */
    struct lock_name reread; /* was read again because it had changed */
    bool has_reread;
    bool projected; /* findAndModify's value is there already */
    bson_t equalities;
    bool key_in_filter;
    bool key_is_text; /* key_in_filter, and the collection takes other texts for the same _id */

    /* a multi write: all _ids that its filter found, and those of the batch at work */
    bool multi;
    bool collects_again; /* the unit's view has begun anew */
    bson_t ids;
    uint32_t id_count;
    bson_iter_t ids_at;
    bson_t batch_ids;
    int64_t cursor_id; /* open on the server; 0: none */
    struct write_hidden hidden;

    struct write_document *documents;
    size_t document_count;
    size_t document_capacity;
    size_t document_at; /* the next to be sent */
    bool journaled;     /* the batch is: what of it is never sent has to be known as refused */
    bool unjournaled;   /* the one document is too big for a record; nothing undoes it */
    size_t sent_count;  /* of those in the command that is on its way */
    int64_t done_count; /* CHECKING: how many of them the server says it changed */

    struct write_record *records;
    size_t record_count;
    int64_t plain_probe; /* of the namespace, for the records: see gate_plain_probe() */
    size_t known_count;  /* entries of unit->known that the records hold */
    struct uncommitted_publication publication;
    bson_t begin_payload;
    struct wal_append begin;
    struct flush flush;
    enum write_step after_flush;
    bool one_at_a_time;                    /* documents, each in a command of its own */
    struct write_operation *next_deferred; /* deferred.c: put off with it, behind it */
    struct rollback rollback;
    struct write_result result;
    bson_t reply;
};

/*
 * Starts the command. Errors of the command itself (a form that units do not take) are an answer
 * like any other, and end the unit as mongod's do.
 */
void write_start(struct write_operation *operation, const struct command_view *view,
                 const struct op_msg *message);

/* The client has gone: stops waiting for locks and readers; `completed` still comes. Harmless at
 * any time. */
void write_cancel(struct write_operation *operation);

#endif
