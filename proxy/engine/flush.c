/*
 * Carrying out what a unit has put off (flush.h), its operations one after the other in each step.
 *
 *   are the documents as they were?   a find for each operation
 *      v
 *   all records in one group, durable
 *      v
 *   PUBLISHING, SENDING               of each operation (write.c)
 *      v
 *   completed
 *
 * Whatever fails, the unit is rolled back and the rest is let go: what was journaled and not sent
 * counts as refused.
 *
 * Why they are looked at again: since they were read a stranger, or the server itself (an index
 * that removes what has expired), may have made of one what the unit would make of it. A guarded
 * write finds that out, but a crash before it would leave a record that undoing takes for the
 * unit's own.
 */
#include "engine/flush.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "engine/deferred.h"
#include "engine/write_steps.h"
#include "wire/reply.h"

static void next(struct flush *flush);

static struct flush *flush_of(struct worker_task *task)
{
    return (struct flush *)(void *)((uint8_t *)task - offsetof(struct flush, task));
}

static void let_go(struct write_operation *operation)
{
    while (operation != NULL) {
        struct write_operation *rest = operation->next_deferred;
        write_publish_free(operation);
        write_release(operation);
        deferred_free_operation(operation);
        operation = rest;
    }
}

/* The reply of a write that failed becomes that of a command that does: commitTransaction, a read.
 */
static void put_failure(bson_t *failure, struct slice reply)
{
    struct reply_view view;
    struct reply_view refusal = {0};
    bson_iter_t at;
    bson_t document;
    if (reply_view_parse(reply, &view) != STATUS_OK || !view.has_write_errors) {
        (void)bson_init_static(&document, reply.data, reply.size);
        bson_concat(failure, &document);
        return;
    }
    bool told = bson_iter_init_from_data(&at, view.write_errors.data, view.write_errors.size) &&
                bson_iter_next(&at) && reply_view_parse(write_slice_at(&at), &refusal) == STATUS_OK;
    reply_put_error(failure, told ? refusal.code : REPLY_CODE_InternalError,
                    reply_code_is_transient(refusal.code) ? REPLY_LABEL_TRANSIENT : NULL,
                    "a write of this transaction that was put off (unit.writes: deferred) was "
                    "refused by the server: %s",
                    refusal.message == NULL ? "it gave no reason" : refusal.message);
}

static void fail(struct flush *flush, struct slice reply)
{
    bson_t failure = BSON_INITIALIZER;
    flush->failed = true;
    if (reply.size > 0) {
        put_failure(&failure, reply);
    }
    let_go(flush->at);
    flush->completed(flush, reply.size == 0 ? reply : write_slice(&failure));
    bson_destroy(&failure);
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct flush *flush = operation->context;
    flush->at = operation->next_deferred;
    deferred_free_operation(operation);
    if (reply.size == 0 || flush->unit->state != UNIT_OPEN) {
        fail(flush, reply);
    } else {
        next(flush);
    }
}

static void next(struct flush *flush)
{
    if (flush->at == NULL) {
        flush->completed(flush, (struct slice){0});
        return;
    }
    flush->at->cancelled = flush->cancelled;
    write_go_on(flush->at);
}

/* Before anything is journaled. */
static void roll_back(struct flush *flush)
{
    flush->at = flush->first;
    write_go_on(flush->at);
}

static void on_journaled_task(struct worker_task *task)
{
    struct flush *flush = flush_of(task);
    flush->at = flush->first;
    flush->journal_full = write_journal_together_done(flush->first) == STATUS_FULL;
    next(flush);
}

/* Writer thread. */
static void on_journaled(struct wal_append *first, void *context)
{
    struct flush *flush = context;
    (void)first;
    worker_post(flush->channel->worker, &flush->task);
}

static void journal(struct flush *flush)
{
    flush->task.run = on_journaled_task;
    if (!write_journal_together(flush->first, on_journaled, flush)) {
        roll_back(flush);
    }
}

static void look(struct flush *flush);

static void on_looked(void *context, enum status status, struct slice reply)
{
    struct flush *flush = context;
    struct reply_view view;
    if (status != STATUS_OK) {
        flush->first->connection_lost = true;
        write_fail(flush->first, REPLY_CODE_HostUnreachable, "the connection to the server broke");
        roll_back(flush);
    } else if (reply_view_parse(reply, &view) == STATUS_OK && !view.ok) {
        write_fail(flush->first, view.code,
                   view.message == NULL ? "the server gave no reason" : view.message);
        roll_back(flush);
    } else if (!write_documents_are_unchanged(flush->looked, reply)) {
        write_fail_behind(flush->first);
        roll_back(flush);
    } else {
        flush->looked = flush->looked->next_deferred;
        look(flush);
    }
}

/* One operation's documents after the other's. */
static void look(struct flush *flush)
{
    if (flush->looked == NULL) {
        journal(flush);
        return;
    }
    bson_t command = BSON_INITIALIZER;
    write_put_look(flush->looked, &command);
    flush->channel->send(flush->channel, write_slice(&command), on_looked, flush);
    bson_destroy(&command);
}

void flush_start(struct flush *flush)
{
    (void)atomic_fetch_add_explicit(&flush->engine->counters.flushes, 1, memory_order_relaxed);
    flush->first = flush->looked = deferred_release(flush->unit);
    for (struct write_operation *at = flush->first; at != NULL; at = at->next_deferred) {
        at->engine = flush->engine;
        at->channel = flush->channel;
        at->unit = flush->unit;
        at->errors = WRITE_ERRORS_ABORT;
        at->completed = on_written;
        at->context = flush;
        at->step = WRITE_JOURNALING;
        write_init(at);
    }
    look(flush);
}

void flush_cancel(struct flush *flush)
{
    flush->cancelled = true;
    if (flush->at != NULL) {
        write_cancel(flush->at);
    }
}
