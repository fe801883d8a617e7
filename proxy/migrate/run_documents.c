/*
 * Steps that change documents: updates, deletes, inserts.
 *
 *     search --ids--> unit { write of these documents, row: at = last id, units + 1 } --> search
 * ...
 *
 * The write names the ids and the filter: a document that a service has changed since the search so
 * that it does not match any more is left alone. In the other direction: one that begins to match
 * behind the place where the migration is, or is inserted there, is a service's business.
 *
 * Threads: that of the struct migrate.
 */

#include <string.h>

#include "holdfast/clock.h"
#include "migrate/private.h"
#include "migrate/search.h"

/* Of the documents of one insert command. */
#define INSERT_BYTES_MAX (8u << 20)

struct batch {
    const struct step_run *run;
    const struct search *search; /* UPDATE, DELETE */
    bson_iter_t documents;       /* INSERT: before the first of the batch */
    int64_t from;                /* INSERT: its number */
    uint32_t count;              /* what there is */
    uint32_t done;               /* what the last attempt took of it */
    bson_t *set;                 /* what the last attempt wrote into the row */
};

/* Others write the same documents: fewer of them at a time. */
static uint32_t count_for(const struct batch *batch, unsigned attempt)
{
    uint32_t count = batch->count;
    for (unsigned i = 2; i < attempt && count > 1; i++) {
        count /= 2;
    }
    return count;
}

/* {_id: {$in: [...]}} and the filter. */
static bson_t *query_make(const struct batch *batch, uint32_t count)
{
    bson_t *query = bson_new();
    bson_t one;
    bson_t list;
    const bson_t *filter = batch->run->step->filter;
    BSON_APPEND_DOCUMENT_BEGIN(query, "_id", &one);
    BSON_APPEND_ARRAY_BEGIN(&one, "$in", &list);
    for (uint32_t i = 0; i < count; i++) {
        bson_iter_t id;
        char index[16];
        const char *key = NULL;
        if (search_id(batch->search, i, &id)) {
            bson_uint32_to_string(i, &key, index, sizeof(index));
            bson_append_iter(&list, key, -1, &id);
        }
    }
    bson_append_array_end(&one, &list);
    bson_append_document_end(query, &one);
    if (bson_has_field(filter, "_id") || bson_has_field(filter, "$and")) {
        BSON_APPEND_ARRAY_BEGIN(query, "$and", &list);
        BSON_APPEND_DOCUMENT(&list, "0", filter);
        bson_append_array_end(query, &list);
    } else {
        bson_concat(query, filter);
    }
    return query;
}

static bson_t *update_make(const struct step *step, const bson_t *query)
{
    bson_t *command = BCON_NEW("update", BCON_UTF8(step->collection));
    bson_t updates;
    bson_t one;
    BSON_APPEND_ARRAY_BEGIN(command, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &one);
    BSON_APPEND_DOCUMENT(&one, "q", query);
    if (step->pipeline) {
        BSON_APPEND_ARRAY(&one, "u", step->update);
    } else {
        BSON_APPEND_DOCUMENT(&one, "u", step->update);
    }
    BSON_APPEND_BOOL(&one, "multi", true);
    if (step->array_filters != NULL) {
        BSON_APPEND_ARRAY(&one, "arrayFilters", step->array_filters);
    }
    bson_append_document_end(&updates, &one);
    bson_append_array_end(command, &updates);
    return command;
}

/* Takes up to `count` documents, as many as fit. */
static bson_t *insert_make(struct batch *batch, uint32_t *count)
{
    bson_t *command = BCON_NEW("insert", BCON_UTF8(batch->run->step->collection));
    bson_t list;
    bson_iter_t at = batch->documents;
    uint32_t taken = 0;
    BSON_APPEND_ARRAY_BEGIN(command, "documents", &list);
    while (taken < *count && (taken == 0 || list.len < INSERT_BYTES_MAX) && bson_iter_next(&at)) {
        char index[16];
        const char *key = NULL;
        bson_uint32_to_string(taken++, &key, index, sizeof(index));
        bson_append_iter(&list, key, -1, &at);
    }
    bson_append_array_end(command, &list);
    *count = taken;
    return command;
}

static bson_t *command_make(struct batch *batch, uint32_t *count)
{
    const struct step *step = batch->run->step;
    if (step->kind == STEP_INSERT) {
        return insert_make(batch, count);
    }
    bson_t *query = query_make(batch, *count);
    bson_t *command = step->kind == STEP_UPDATE
                          ? update_make(step, query)
                          : BCON_NEW("delete", BCON_UTF8(step->collection), "deletes", "[", "{",
                                     "q", BCON_DOCUMENT(query), "limit", BCON_INT32(0), "}", "]");
    bson_destroy(query);
    return command;
}

static bson_t *set_make(const struct batch *batch, uint32_t count, int64_t changed)
{
    const struct row *row = batch->run->row;
    bson_t *set = bson_new();
    bson_t at;
    BSON_APPEND_INT32(set, "step", batch->run->index);
    BSON_APPEND_DOCUMENT_BEGIN(set, "at", &at);
    if (batch->search == NULL) {
        BSON_APPEND_INT64(&at, "v", batch->from + count);
    } else {
        bson_iter_t id;
        if (search_id(batch->search, count - 1, &id)) {
            bson_append_iter(&at, "v", 1, &id);
        }
    }
    bson_append_document_end(set, &at);
    BSON_APPEND_INT64(set, "units", row->units + 1);
    BSON_APPEND_INT64(set, "batch", row->units + 1);
    BSON_APPEND_INT64(set, "documents", row->documents + changed);
    put_now(set, "updatedAt");
    return set;
}

/* The row comes last: the unit's last write in the journal tells which batch it was. */
static enum status batch_body(struct maintain_unit *unit, unsigned attempt, void *context,
                              struct error *ret_error)
{
    struct batch *batch = context;
    const char *database = batch->run->migrate->database;
    uint32_t count = count_for(batch, attempt);
    bson_t reply;
    bson_t *command = command_make(batch, &count);
    enum status status = maintain_unit_command(unit, database, command, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    bson_destroy(batch->set);
    batch->set = set_make(batch, count, maintain_number(&reply, "n"));
    batch->done = count;
    bson_destroy(&reply);
    return row_write(unit, database, batch->run->row, batch->set, ret_error);
}

/* Runs the batch as one unit, smaller if it is too large for one. */
static enum status batch_run(struct batch *batch, struct error *ret_error)
{
    struct migrate *migrate = batch->run->migrate;
    struct maintain_result result;
    uint64_t began_ms = clock_monotonic_ms();
    enum status status = STATUS_OK;
    do {
        status = maintain_run(migrate->maintain, batch_body, batch, &result, ret_error);
        bool too_large = status == STATUS_REFUSED && batch->count > 1 &&
                         maintain_refusal(migrate->maintain).code == MAINTAIN_TOO_LARGE;
        if (!too_large) {
            break;
        }
        batch->count /= 2;
        migrate->batch = batch->count;
    } while (true);
    if (status == STATUS_OK) {
        row_take(batch->run->row, batch->set);
        migrate_adapt_batch(migrate, &result, clock_monotonic_ms() - began_ms);
    }
    bson_destroy(batch->set);
    batch->set = NULL;
    return status;
}

static enum status go_on(const struct step_run *run, struct error *ret_error)
{
    struct row *row = run->row;
    migrate_tell(run->migrate, row, run->step, (size_t)run->index, 0);
    return migrate_go_on(run->migrate, ret_error);
}

static enum status run_searched(const struct step_run *run, struct error *ret_error)
{
    struct migrate *migrate = run->migrate;
    bson_t *at = row_at(run->row);
    struct search search = {.maintain = migrate->maintain,
                            .database = migrate->database,
                            .collection = run->step->collection,
                            .filter = run->step->filter};
    search_open(&search, at);
    bson_destroy(at);
    enum status status = STATUS_OK;
    for (;;) {
        struct batch batch = {.run = run, .search = &search};
        status = search_next(&search, migrate->batch, &batch.count, ret_error);
        if (status != STATUS_OK || batch.count == 0) {
            break;
        }
        status = batch_run(&batch, ret_error);
        if (status == STATUS_OK) {
            search_move(&search, batch.done);
            status = go_on(run, ret_error);
        }
        if (status != STATUS_OK) {
            break;
        }
    }
    search_close(&search);
    return status;
}

/* The row's place in the list of documents. */
static int64_t inserted(const struct row *row)
{
    bson_iter_t at;
    return row_find(row, "at.v", &at) && BSON_ITER_HOLDS_NUMBER(&at) ? bson_iter_as_int64(&at) : 0;
}

static enum status run_insert(const struct step_run *run, struct error *ret_error)
{
    enum status status = STATUS_OK;
    int64_t total = bson_count_keys(run->step->documents);
    while (status == STATUS_OK && inserted(run->row) < total) {
        struct batch batch = {.run = run, .from = inserted(run->row)};
        uint64_t left = (uint64_t)(total - batch.from);
        batch.count = left < run->migrate->batch ? (uint32_t)left : run->migrate->batch;
        if (!bson_iter_init(&batch.documents, run->step->documents)) {
            return error_set(ret_error, STATUS_CORRUPT, "the documents cannot be read");
        }
        for (int64_t i = 0; i < batch.from; i++) {
            (void)bson_iter_next(&batch.documents);
        }
        status = batch_run(&batch, ret_error);
        if (status == STATUS_OK) {
            status = go_on(run, ret_error);
        }
    }
    return status;
}

/* After a rename: what the step had to leave as it was. */
static enum status check_left(const struct step_run *run, struct error *ret_error)
{
    const struct step *step = run->step;
    if (step->left == NULL) {
        return STATUS_OK;
    }
    struct step left = {.kind = STEP_UPDATE, .collection = step->collection, .filter = step->left};
    int64_t count = 0;
    enum status status = migrate_count(run->migrate, &left, &count, ret_error);
    if (status != STATUS_OK || count == 0) {
        return status;
    }
    return error_set(ret_error, STATUS_REFUSED, "%lld %s", (long long)count, step->left_says);
}

enum status run_documents(const struct step_run *run, struct error *ret_error)
{
    enum status status =
        run->step->kind == STEP_INSERT ? run_insert(run, ret_error) : run_searched(run, ret_error);
    if (status == STATUS_OK) {
        status = check_left(run, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bson_t set = BSON_INITIALIZER;
    return run_step_end(run, &set, ret_error);
}
