/*
 * One unit of the journal undone (undo_documents.h).
 *
 *     read what is there now --> compare with the after-images --> restore --> read back, compare
 *
 * All of that is one unit of its own, so nobody changes a document in between: who does makes it a
 * WriteConflict, and it is done again. A few writes of the journal's unit at a time, the newest
 * first; where the server refuses one, each alone.
 *
 * Invariant: no document is written that is not, byte for byte, what the migration left there.
 *
 * Threads: that of the struct migrate.
 */

#include "migrate/undo_documents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/clock.h"
#include "migrate/conflicts.h"
#include "migrate/private.h"
#include "recover/history.h"

/* Images of one chunk; one document alone may have more. */
#define CHUNK_BYTES_MAX ((size_t)8 << 20)

struct undo_unit {
    struct migrate *migrate;
    struct unit_history *history;
    size_t count; /* of its writes but for the row's, which is the last */
};

/* What became of a write in the last attempt. */
enum outcome {
    OUTCOME_NONE, /* the server had refused it then: there is nothing to undo */
    OUTCOME_RESTORE,
    OUTCOME_ALREADY, /* it is what it was before */
    OUTCOME_CONFLICT,
};

struct item {
    const struct history_write *write;
    struct image before;
    struct image after;
    struct image now;
    enum outcome outcome;
    const char *refused; /* it was tried alone, and this is why it cannot be restored */
};

struct chunk {
    struct undo_unit *unit;
    struct row *row;
    struct item *items;
    size_t count;
    bson_t *set; /* what the last attempt wrote into the row */
};

/* ------------------------------------------------------------------ the journal's unit */

/* The step that the row's after-image names. */
static enum status read_step(const struct unit_history *history, int32_t *ret_step,
                             struct error *ret_error)
{
    struct image image = {0};
    bson_t document;
    enum status status = history_image_read(
        history, &history->writes[history->write_count - 1].after, &image, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (image.presence != IMAGE_PRESENT ||
        !bson_init_static(&document, image.document.data, image.document.size)) {
        image_free(&image);
        return error_set(ret_error, STATUS_CORRUPT, "a unit of the migration has no row");
    }
    *ret_step = (int32_t)maintain_number(&document, "step");
    image_free(&image);
    return STATUS_OK;
}

enum status undo_unit_open(struct migrate *migrate, uint64_t number, struct undo_unit **ret_unit,
                           int32_t *ret_step, struct error *ret_error)
{
    struct undo_unit *unit = calloc(1, sizeof(*unit));
    if (unit == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    unit->migrate = migrate;
    enum status status =
        number == 0 ? error_set(ret_error, STATUS_NOT_FOUND, "it is not there")
                    : unit_history_load(migrate->options.wal, number, &unit->history, ret_error);
    if (status == STATUS_OK && unit->history->write_count == 0) {
        status = error_set(ret_error, STATUS_CORRUPT, "it has no writes");
    }
    if (status == STATUS_OK) {
        unit->count = unit->history->write_count - 1;
        status = read_step(unit->history, ret_step, ret_error);
    }
    if (status != STATUS_OK) {
        error_prefix(ret_error, "the journal's record of the migration is gone meanwhile");
        undo_unit_close(unit);
        return status;
    }
    *ret_unit = unit;
    return STATUS_OK;
}

void undo_unit_close(struct undo_unit *unit)
{
    if (unit != NULL) {
        unit_history_free(unit->history);
        free(unit);
    }
}

/* ------------------------------------------------------------------ a chunk of it */

static void chunk_free(struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->count; i++) {
        image_free(&chunk->items[i].before);
        image_free(&chunk->items[i].after);
        image_free(&chunk->items[i].now);
    }
    free(chunk->items);
    bson_destroy(chunk->set);
    *chunk = (struct chunk){0};
}

/* The next writes to undo, newest first, of one collection. */
static enum status chunk_read(struct chunk *chunk, size_t limit, struct error *ret_error)
{
    const struct unit_history *history = chunk->unit->history;
    size_t left = chunk->unit->count - (size_t)chunk->row->undo_write;
    size_t bytes = 0;
    enum status status = STATUS_OK;
    chunk->items = calloc(limit + 1, sizeof(*chunk->items));
    if (chunk->items == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    while (status == STATUS_OK && chunk->count < limit && chunk->count < left &&
           bytes < CHUNK_BYTES_MAX) {
        struct item *item = &chunk->items[chunk->count];
        item->write = &history->writes[left - 1 - chunk->count];
        if (strcmp(item->write->namespace, chunk->items[0].write->namespace) != 0) {
            break;
        }
        chunk->count++;
        status = history_image_read(history, &item->write->before, &item->before, ret_error);
        if (status == STATUS_OK) {
            status = history_image_read(history, &item->write->after, &item->after, ret_error);
        }
        bytes += item->before.document.size + item->after.document.size;
    }
    return status;
}

/* ------------------------------------------------------------------ looking */

static bool same_id(struct slice document, struct slice key)
{
    bson_t a;
    bson_t b;
    bson_iter_t at_a;
    bson_iter_t at_b;
    if (!bson_init_static(&a, document.data, document.size) ||
        !bson_init_static(&b, key.data, key.size) || !bson_iter_init_find(&at_a, &a, "_id") ||
        !bson_iter_init_find(&at_b, &b, "_id")) {
        return false;
    }
    bson_t one = BSON_INITIALIZER;
    bson_t other = BSON_INITIALIZER;
    bson_append_iter(&one, "_id", 3, &at_a);
    bson_append_iter(&other, "_id", 3, &at_b);
    bool same = bson_equal(&one, &other);
    bson_destroy(&one);
    bson_destroy(&other);
    return same;
}

static void split(const char *namespace, char database[64], const char **ret_collection)
{
    size_t size = strcspn(namespace, ".");
    (void)snprintf(database, 64, "%.*s", (int)size, namespace);
    *ret_collection = namespace[size] == '.' ? namespace + size + 1 : namespace + size;
}

/* Those of the items whose `now` is not known; *ret_count 0: none of them is there. */
static enum status find_some(struct maintain_unit *unit, struct chunk *chunk, size_t *ret_count,
                             struct error *ret_error)
{
    char database[64];
    const char *collection = NULL;
    bson_t list = BSON_INITIALIZER;
    bson_t reply;
    uint32_t wanted = 0;
    split(chunk->items[0].write->namespace, database, &collection);
    for (size_t i = 0; i < chunk->count; i++) {
        char index[16];
        const char *key = NULL;
        if (chunk->items[i].now.presence == IMAGE_UNKNOWN) {
            bson_uint32_to_string(wanted++, &key, index, sizeof(index));
            conflict_put_key(&list, key, chunk->items[i].write->key);
        }
    }
    *ret_count = 0;
    if (wanted == 0) {
        bson_destroy(&list);
        return STATUS_OK;
    }
    bson_t *command = BCON_NEW("find", BCON_UTF8(collection), "filter", "{", "_id", "{", "$in",
                               BCON_ARRAY(&list), "}", "}", "limit", BCON_INT64(wanted),
                               "batchSize", BCON_INT64(wanted), "singleBatch", BCON_BOOL(true));
    enum status status = maintain_unit_command(unit, database, command, &reply, ret_error);
    bson_destroy(command);
    bson_destroy(&list);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t position = 0;
    struct slice document;
    while (status == STATUS_OK && maintain_next(&reply, &position, &document)) {
        for (size_t i = 0; i < chunk->count; i++) {
            struct item *item = &chunk->items[i];
            struct image found = {.presence = IMAGE_PRESENT, .document = document};
            if (item->now.presence == IMAGE_UNKNOWN && same_id(document, item->write->key)) {
                if (!image_copy(found, &item->now)) {
                    status = error_set(ret_error, STATUS_MEMORY, "out of memory");
                }
                (*ret_count)++;
            }
        }
    }
    bson_destroy(&reply);
    return status;
}

/* What is there now; a reply may have been too large for all of it. */
static enum status find_all(struct maintain_unit *unit, struct chunk *chunk,
                            struct error *ret_error)
{
    size_t found = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < chunk->count; i++) {
        image_free(&chunk->items[i].now);
    }
    do {
        status = find_some(unit, chunk, &found, ret_error);
    } while (status == STATUS_OK && found > 0);
    for (size_t i = 0; i < chunk->count && status == STATUS_OK; i++) {
        if (chunk->items[i].now.presence == IMAGE_UNKNOWN) {
            chunk->items[i].now.presence = IMAGE_ABSENT;
        }
    }
    return status;
}

static void judge(struct chunk *chunk)
{
    for (size_t i = 0; i < chunk->count; i++) {
        struct item *item = &chunk->items[i];
        if (item->write->refused) {
            item->outcome = OUTCOME_NONE;
        } else if (image_equal(item->now, item->before)) {
            item->outcome = OUTCOME_ALREADY;
        } else if (item->refused == NULL && image_equal(item->now, item->after)) {
            item->outcome = OUTCOME_RESTORE;
        } else {
            item->outcome = OUTCOME_CONFLICT;
        }
    }
}

static const char *reason_of(const struct item *item)
{
    return item->refused != NULL                  ? item->refused
           : item->now.presence == IMAGE_ABSENT   ? "somebody has removed it since"
           : item->after.presence == IMAGE_ABSENT ? "somebody has inserted it anew since"
           : item->after.presence == IMAGE_UNKNOWN
               ? "the journal does not say what the migration made of it"
               : "somebody has changed it since";
}

/* ------------------------------------------------------------------ restoring */

static bool is_of(const struct item *item, enum record_operation operation)
{
    bool was = item->before.presence == IMAGE_PRESENT;
    bool is = item->now.presence == IMAGE_PRESENT;
    return operation == RECORD_DELETE   ? !was && is
           : operation == RECORD_INSERT ? was && !is
                                        : was && is;
}

static void put_statement(bson_t *list, uint32_t number, const struct item *item,
                          enum record_operation operation)
{
    char index[16];
    const char *key = NULL;
    bson_t one;
    bson_t query;
    bson_t before;
    bson_uint32_to_string(number, &key, index, sizeof(index));
    bool present =
        item->before.presence == IMAGE_PRESENT &&
        bson_init_static(&before, item->before.document.data, item->before.document.size);
    if (operation == RECORD_INSERT) {
        if (present) {
            BSON_APPEND_DOCUMENT(list, key, &before);
        }
        return;
    }
    bson_append_document_begin(list, key, -1, &one);
    BSON_APPEND_DOCUMENT_BEGIN(&one, "q", &query);
    conflict_put_key(&query, "_id", item->write->key);
    bson_append_document_end(&one, &query);
    if (operation == RECORD_DELETE) {
        BSON_APPEND_INT32(&one, "limit", 1);
    } else if (present) {
        BSON_APPEND_DOCUMENT(&one, "u", &before);
    }
    bson_append_document_end(list, &one);
}

/* One command for all items that need this operation. */
static enum status restore_by(struct maintain_unit *unit, const struct chunk *chunk,
                              enum record_operation operation, struct error *ret_error)
{
    static const char *const fields[] = {
        [RECORD_INSERT] = "documents", [RECORD_UPDATE] = "updates", [RECORD_DELETE] = "deletes"};
    char database[64];
    const char *collection = NULL;
    bson_t list = BSON_INITIALIZER;
    bson_t reply;
    uint32_t count = 0;
    split(chunk->items[0].write->namespace, database, &collection);
    for (size_t i = 0; i < chunk->count; i++) {
        if (chunk->items[i].outcome == OUTCOME_RESTORE && is_of(&chunk->items[i], operation)) {
            put_statement(&list, count++, &chunk->items[i], operation);
        }
    }
    enum status status = STATUS_OK;
    if (count > 0) {
        bson_t *command = BCON_NEW(record_operation_name(operation), BCON_UTF8(collection),
                                   fields[operation], BCON_ARRAY(&list));
        status = maintain_unit_command(unit, database, command, &reply, ret_error);
        bson_destroy(command);
        if (status == STATUS_OK) {
            bson_destroy(&reply);
        }
    }
    bson_destroy(&list);
    return status;
}

/* Values of unique indexes are set free before they are taken. */
static enum status restore(struct maintain_unit *unit, struct chunk *chunk, struct error *ret_error)
{
    enum status status = restore_by(unit, chunk, RECORD_DELETE, ret_error);
    if (status == STATUS_OK) {
        status = restore_by(unit, chunk, RECORD_UPDATE, ret_error);
    }
    if (status == STATUS_OK) {
        status = restore_by(unit, chunk, RECORD_INSERT, ret_error);
    }
    if (status == STATUS_OK) {
        status = find_all(unit, chunk, ret_error);
    }
    for (size_t i = 0; i < chunk->count && status == STATUS_OK; i++) {
        const struct item *item = &chunk->items[i];
        if (item->outcome == OUTCOME_RESTORE && !image_equal(item->now, item->before)) {
            status =
                error_set(ret_error, STATUS_CONFLICT, "the server does not keep it byte for byte");
        }
    }
    return status;
}

/* ------------------------------------------------------------------ the row */

static bool is_new_conflict(const struct row *row, const struct item *item)
{
    return item->outcome == OUTCOME_CONFLICT &&
           !conflict_is_known(row, item->write->namespace, item->write->key);
}

static bson_t *set_make(const struct chunk *chunk)
{
    const struct row *row = chunk->row;
    bson_t *set = bson_new();
    int64_t restored = row->restored;
    size_t conflict_count = 0;
    struct migrate_conflict *conflicts = calloc(chunk->count + 1, sizeof(*conflicts));
    for (size_t i = 0; i < chunk->count && conflicts != NULL; i++) {
        const struct item *item = &chunk->items[i];
        restored += item->outcome == OUTCOME_RESTORE ? 1 : 0;
        if (is_new_conflict(row, item)) {
            conflicts[conflict_count++] =
                (struct migrate_conflict){.version = row->version,
                                          .namespace = item->write->namespace,
                                          .key = item->write->key,
                                          .reason = reason_of(item)};
        }
    }
    size_t done = (size_t)row->undo_write + chunk->count;
    bool whole = done >= chunk->unit->count;
    BSON_APPEND_INT64(set, "undoUnit", row->undo_unit - (whole ? 1 : 0));
    BSON_APPEND_INT64(set, "undoWrite", whole ? 0 : (int64_t)done);
    BSON_APPEND_INT64(set, "restored", restored);
    if (conflict_count > 0) {
        conflicts_put(row, set, conflicts, conflict_count);
    }
    put_now(set, "updatedAt");
    free(conflicts);
    return set;
}

static enum status chunk_body(struct maintain_unit *unit, unsigned attempt, void *context,
                              struct error *ret_error)
{
    struct chunk *chunk = context;
    enum status status = STATUS_OK;
    (void)attempt;
    if (chunk->count > 0) {
        status = find_all(unit, chunk, ret_error);
        if (status == STATUS_OK) {
            judge(chunk);
            /* Before restore() looks again: a conflict's reason is told by what was there. */
            bson_destroy(chunk->set);
            chunk->set = set_make(chunk);
            status = restore(unit, chunk, ret_error);
        }
    } else {
        bson_destroy(chunk->set);
        chunk->set = set_make(chunk);
    }
    return status == STATUS_OK
               ? row_write(unit, chunk->unit->migrate->database, chunk->row, chunk->set, ret_error)
               : status;
}

/* ------------------------------------------------------------------ chunk by chunk */

/* What a document is to blame for, not the server or the user's rights. */
static bool is_about_a_document(enum status status, int32_t code)
{
    static const int32_t codes[] = {2,   9,     14,    52,    54,    55,    56,    57,   121,
                                    263, 10334, 11000, 11001, 12582, 16837, 17280, 17419};
    for (size_t i = 0; status == STATUS_REFUSED && i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return status == STATUS_CONFLICT;
}

static void tell(struct chunk *chunk)
{
    const struct migrate_options *options = &chunk->unit->migrate->options;
    for (size_t i = 0; i < chunk->count && options->conflict != NULL; i++) {
        const struct item *item = &chunk->items[i];
        if (is_new_conflict(chunk->row, item)) {
            struct migrate_conflict conflict = {.version = chunk->row->version,
                                                .namespace = item->write->namespace,
                                                .key = item->write->key,
                                                .reason = reason_of(item)};
            options->conflict(options->context, &conflict);
        }
    }
}

/* *limit becomes 1 where one of the documents cannot be restored. */
static enum status chunk_run(struct chunk *chunk, size_t *limit, struct error *ret_error)
{
    struct migrate *migrate = chunk->unit->migrate;
    struct maintain_result result;
    struct error error = {0};
    uint64_t began_ms = clock_monotonic_ms();
    enum status status = maintain_run(migrate->maintain, chunk_body, chunk, &result, &error);
    int32_t code = status == STATUS_REFUSED ? maintain_refusal(migrate->maintain).code : 0;
    bool blamed = is_about_a_document(status, code);
    if ((blamed || code == MAINTAIN_TOO_LARGE) && chunk->count > 1) {
        *limit = blamed ? 1 : chunk->count / 2;
        return STATUS_OK;
    }
    if (blamed && chunk->count == 1) {
        chunk->items[0].refused = error.message;
        status = maintain_run(migrate->maintain, chunk_body, chunk, &result, ret_error);
    } else if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    if (status == STATUS_OK) {
        tell(chunk);
        row_take(chunk->row, chunk->set);
        migrate_adapt_batch(migrate, &result, clock_monotonic_ms() - began_ms);
        *limit = migrate->batch;
    }
    return status;
}

enum status undo_unit_run(struct undo_unit *unit, struct row *row, struct error *ret_error)
{
    size_t limit = unit->migrate->batch;
    int64_t number = row->undo_unit;
    enum status status = STATUS_OK;
    if (row->undo_write < 0 || (uint64_t)row->undo_write > unit->count) {
        return error_set(ret_error, STATUS_CORRUPT, "the row's undoWrite is not true");
    }
    while (status == STATUS_OK && row->undo_unit == number) {
        struct chunk chunk = {.unit = unit, .row = row};
        status = chunk_read(&chunk, limit, ret_error);
        if (status == STATUS_OK) {
            status = chunk_run(&chunk, &limit, ret_error);
        }
        chunk_free(&chunk);
    }
    return status;
}
