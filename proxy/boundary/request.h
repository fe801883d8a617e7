#ifndef HOLDFAST_BOUNDARY_REQUEST_H
#define HOLDFAST_BOUNDARY_REQUEST_H

/*
 * One client command that a boundary carries out instead of passing it on.
 *
 * It is its connection's from its start until `completed`, and in that call the memory is given
 * back; a connection has one at a time. Everything on the connection's worker.
 */

#include <stdbool.h>
#include <stdint.h>

#include "boundary/comment.h"
#include "boundary/domain.h"
#include "engine/engine.h"
#include "engine/finish.h"
#include "engine/native.h"
#include "engine/write.h"
#include "read/locked_read.h"
#include "read/read.h"
#include "wire/command.h"
#include "wire/op_msg.h"
#include "wire/traceparent.h"

/* What a command that comes while an API call is open is to its unit. */
enum call_part {
    CALL_PART_WRITE,     /* of documents: a part of it */
    CALL_PART_READ,      /* likewise: of a serializable unit, or on the native engine */
    CALL_PART_NAMESPACE, /* native engine: it creates or drops something: no part of it */
    CALL_PART_SERVER,    /* the same of several namespaces at once */
};

struct boundary_request {
    /* filled in by the connection */
    struct engine *engine;
    struct engine_channel *channel;
    const char *user; /* "database.name" that has logged in here, or "" */
    const char *client;
    const char *application;
    uint64_t connection;
    bool draining;          /* the process is about to end: no new units */
    const uint8_t *process; /* of the server at the channel's other end; NULL: it does not tell */
    bool *authorized;       /* the connection's: comment_unit.c has asked the server */
    struct op_msg message;
    struct command_view view;
    struct domain_slot *slot;    /* call_write.c: where the call is open; else NULL */
    enum call_part part;         /* call_write.c: what the command is */
    struct unit_session_key key; /* call_write.c: of the call's unit; comment_unit.c: of its name */
    uint64_t reader_group;       /* whose units' writes it sees (unit/uncommitted.h); 0: none */
    struct domain *domain;       /* of the connection's service; else NULL */
    size_t service;              /* with `domain`: its number there */
    int64_t stale_cursor;        /* reading.c: to be closed first; 0: none */
    bool read_is_lost;           /* reading.c: struct read_operation's is_lost */
    bool has_parent;             /* its comment names a span */
    struct traceparent parent;
    /* `reply`: the document to answer with, valid during the call; size 0: close the connection. */
    void (*completed)(struct boundary_request *request, struct slice reply);
    void *context;

    /* to be read when it is completed: the unit that it was in, for log and trace; 0: none */
    uint64_t unit_id;
    uint64_t unit_began_us; /* wall clock */
    struct span_context unit_trace;

    /* private to the boundary */
    bool cancelled;
    uint64_t deadline_ms;   /* plain.c, as the next */
    uint64_t pause_ms;      /* before it is tried again; 0: none yet */
    uint64_t place;         /* plain.c: that of a unit of this write that was a deadlock's victim */
    struct comment comment; /* comment_unit.c, as what follows */
    bool again;             /* begin, under a name that is open */
    struct wal_append begin;
    bson_t kept; /* payload of BEGIN; what COMMIT keeps of the last write */
    struct unit *unit;
    struct unit_waiter waiter;
    void (*check_out_again)(struct boundary_request *);
    struct worker_task task;
    void (*resume)(struct boundary_request *request);
    void (*after_superseded)(struct boundary_request *request);
    void (*after_asked)(struct boundary_request *request);
    struct write_operation write;
    struct flush flush; /* driver.c: of what its unit has put off; then `after_flush` */
    void (*after_flush)(struct boundary_request *);
    struct read_operation read;
    struct uncommitted_owner snapshot; /* reading.c: of the unit that the read is of */
    struct locked_read locked;
    struct commit commit;
    enum status commit_status;
    void (*after_commit)(struct boundary_request *);
    struct rollback rollback;
    struct native_commit native; /* native.c, as what follows */
    struct native_doubt *doubt;
    enum commit_verdict verdict;
    bool outlives_server; /* it is answered also when its connection to the server has broken */
    bson_t reply;
    bool reply_lost;
    bool writing;
    bool flushing;
    bool reading;
    bool locking; /* `locked` is at work */
    bool waiting;
};

/* ---- driver.c: a command of a driver's transaction (autocommit: false) */
void driver_start(struct boundary_request *request);

/* ---- native.c: commitTransaction of a transaction that is the server's own (engine/native.h) */
void native_commit_start(struct boundary_request *request);

/* ---- plain.c: a write command outside transactions as a unit of its own */

/*
 * Whether this write is one in any case: it may be retried, or it writes several documents (on the
 * native engine only the latter, under `strict`). `view` and `message` must be whole. (While units
 * are in its namespace, every write of documents is.)
 */
bool plain_is_unit(const struct engine *engine, const struct command_view *view,
                   const struct op_msg *message);
void plain_start(struct boundary_request *request);

/* ---- call_write.c: a plain write command as a part of an open API call's unit, or a read, if that
   is serializable */
void call_write_start(struct boundary_request *request);
/* A write of it is done, its reply taken: answers it. */
void call_write_replied(struct boundary_request *request);

/* ---- call_native.c: the same on the native engine. The unit is checked out. */
void call_native_run(struct boundary_request *request);
/* The client's own message goes to the server, outside of any unit; none is checked out. */
void call_native_pass(struct boundary_request *request);

/* ---- unit_read.c: a read in the serializable unit that the request has checked out */
void unit_read_start(struct boundary_request *request);
/* The step of it that locks and reads; sets `locking`, which `completed` sets back. */
void unit_read_lock(struct boundary_request *request, bool in_transaction,
                    void (*completed)(struct locked_read *locked, struct slice reply));

/* ---- comment_unit.c: a write, or a read of a serializable unit, whose comment names a unit, or
 * beginUnit, commitUnit, abortUnit */
void comment_start(struct boundary_request *request);

/* ---- reading.c: a read outside of units */
void reading_start(struct boundary_request *request);

/* A request that is none: somebody else's command is on its channel (lend.h). */
void boundary_lend(struct boundary_request *request);
void boundary_take_back(struct boundary_request *request);

/* The client has gone: waiting ends at once; `completed` still comes. */
void boundary_cancel(struct boundary_request *request);

#endif
