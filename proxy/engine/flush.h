#ifndef HOLDFAST_ENGINE_FLUSH_H
#define HOLDFAST_ENGINE_FLUSH_H

/*
 * Carrying out what a unit has put off (deferred.h), before its commit and before what could see
 * it: the documents looked at once more, all of it in one group of the journal, then published and
 * sent, one command for each namespace and kind of write, but removals one by one.
 *
 * Worker of the channel only.
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "engine/engine.h"

struct write_operation;

/* Lies in the caller's memory until `completed`. */
struct flush {
    /* filled in by the caller */
    struct engine *engine;
    struct engine_channel *channel;
    struct unit *unit; /* checked out, open; stays with the caller */
    /*
     * Called from the loop. Unless flush->failed all of it is written. Else the unit was rolled
     * back, and `reply` is the error for the client as of a write (write.h): valid during the call;
     * size 0: the connection to the server broke.
     */
    void (*completed)(struct flush *flush, struct slice reply);
    void *context;
    bool cancelled; /* the client has gone already */
    bool failed;
    bool journal_full; /* the failure is that the journal has no room */
    /* private */
    struct write_operation *first;
    struct write_operation *looked; /* the one whose documents are looked at */
    struct write_operation *at;     /* the one that is sent; NULL: none yet */
    struct worker_task task;
};

/* Something of the unit is put off. */
void flush_start(struct flush *flush);

/* The client has gone: stops waiting for readers; `completed` still comes. */
void flush_cancel(struct flush *flush);

#endif
