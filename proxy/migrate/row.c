/*
 * The migrations' own documents (row.h).
 *
 * Invariant: each change demands the `mark` that was read and counts it up, in the unit of the work
 * that it tells of. A process that was taken for dead finds another mark, and its unit is rolled
 * back.
 *
 * Threads: that of the struct maintain.
 */
#include "migrate/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/clock.h"

enum { ROWS_MAX = 10000, STEPS_MAX = 10000 };

const char *row_state_name(enum row_state state)
{
    static const char *const names[] = {
#define X(name, text) [ROW_##name] = (text),
        ROW_STATE_LIST(X)
#undef X
    };
    return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

static bool state_find(const char *text, enum row_state *ret_state)
{
    for (enum row_state state = ROW_APPLYING; state <= ROW_UNDONE; state++) {
        if (strcmp(row_state_name(state), text) == 0) {
            *ret_state = state;
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ reading */

bool row_find(const struct row *row, const char *path, bson_iter_t *ret_at)
{
    bson_iter_t at;
    return row->document != NULL && bson_iter_init(&at, row->document) &&
           bson_iter_find_descendant(&at, path, ret_at);
}

static int64_t number(const struct row *row, const char *name)
{
    bson_iter_t at;
    return row_find(row, name, &at) && BSON_ITER_HOLDS_NUMBER(&at) ? bson_iter_as_int64(&at) : 0;
}

static const char *text(const struct row *row, const char *name)
{
    bson_iter_t at;
    return row_find(row, name, &at) && BSON_ITER_HOLDS_UTF8(&at) ? bson_iter_utf8(&at, NULL) : NULL;
}

static int64_t date(const struct row *row, const char *name)
{
    bson_iter_t at;
    return row_find(row, name, &at) && BSON_ITER_HOLDS_DATE_TIME(&at) ? bson_iter_date_time(&at)
                                                                      : 0;
}

/* Takes `document`. False: it is none of ours. */
static bool row_parse(struct row *row, bson_t *document)
{
    bson_iter_t at;
    *row = (struct row){.document = document};
    const char *state = text(row, "state");
    row->version = number(row, "_id");
    row->mark = number(row, "mark");
    row->step = (int32_t)number(row, "step");
    row->units = number(row, "units");
    row->documents = number(row, "documents");
    row->undo_step = (int32_t)number(row, "undoStep");
    row->undo_unit = number(row, "undoUnit");
    row->undo_write = number(row, "undoWrite");
    row->restored = number(row, "restored");
    row->conflicts = number(row, "conflicts");
    row->started_ms = date(row, "startedAt");
    row->finished_ms = date(row, "finishedAt");
    row->error = text(row, "error");
    const char *how = text(row, "how");
    row->by_file = how != NULL && strcmp(how, "file") == 0;
    const char *name = text(row, "name");
    const char *checksum = text(row, "checksum");
    row->name = name == NULL ? "" : name;
    row->checksum = checksum == NULL ? "" : checksum;
    if (row_find(row, "run", &at) && BSON_ITER_HOLDS_OID(&at)) {
        row->run = *bson_iter_oid(&at);
    }
    return row->version > 0 && row->mark > 0 && row->step >= 0 && row->step <= STEPS_MAX &&
           row->undo_step >= -1 && row->undo_step <= STEPS_MAX && row->units >= 0 &&
           state != NULL && state_find(state, &row->state);
}

void row_make(struct row *row, int64_t version)
{
    *row = (struct row){.version = version, .state = ROW_UNDONE, .name = "", .checksum = ""};
}

void row_free(struct row *row)
{
    bson_destroy(row->document);
    row->document = NULL;
}

void row_list_free(struct row_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        row_free(&list->rows[i]);
    }
    free(list->rows);
    *list = (struct row_list){0};
}

struct row *row_list_find(struct row_list *list, int64_t version)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->rows[i].version == version) {
            return &list->rows[i];
        }
    }
    return NULL;
}

static enum status add_row(struct row_list *list, struct slice document, struct error *ret_error)
{
    struct row *more = reallocarray(list->rows, list->count + 1, sizeof(*more));
    if (more == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    list->rows = more;
    struct row *row = &list->rows[list->count];
    if (!row_parse(row, bson_new_from_data(document.data, document.size))) {
        row_free(row);
        return error_set(ret_error, STATUS_CORRUPT,
                         "a document of " ROW_COLLECTION " is not as Holdfast writes them");
    }
    list->count++;
    return STATUS_OK;
}

/* The next ones behind the last that is known. */
static enum status read_some(struct maintain *maintain, const char *database, struct row_list *list,
                             bool *ret_more, struct error *ret_error)
{
    bson_t reply;
    int64_t last = list->count == 0 ? 0 : list->rows[list->count - 1].version;
    bson_t *command =
        BCON_NEW("find", ROW_COLLECTION, "filter", "{", "_id", "{", "$gt", BCON_INT64(last), "}",
                 "}", "sort", "{", "_id", BCON_INT32(1), "}", "batchSize", BCON_INT32(1000),
                 "limit", BCON_INT32(1000), "singleBatch", BCON_BOOL(true));
    enum status status =
        maintain_command(maintain, database, command, MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t position = 0;
    struct slice document;
    while (status == STATUS_OK && maintain_next(&reply, &position, &document)) {
        status = list->count < ROWS_MAX
                     ? add_row(list, document, ret_error)
                     : error_set(ret_error, STATUS_LIMIT, "more than %d migrations", ROWS_MAX);
    }
    *ret_more = position > 0;
    bson_destroy(&reply);
    return status;
}

enum status row_list_read(struct maintain *maintain, const char *database,
                          struct row_list *ret_list, struct error *ret_error)
{
    struct row_list list = {0};
    enum status status = STATUS_OK;
    bool more = true;
    while (status == STATUS_OK && more) {
        status = read_some(maintain, database, &list, &more, ret_error);
    }
    if (status != STATUS_OK) {
        row_list_free(&list);
        return status;
    }
    *ret_list = list;
    return STATUS_OK;
}

bson_t *row_at(const struct row *row)
{
    bson_iter_t at;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!row_find(row, "at", &at) || !BSON_ITER_HOLDS_DOCUMENT(&at)) {
        return NULL;
    }
    bson_iter_document(&at, &size, &data);
    return bson_new_from_data(data, size);
}

bson_t *row_undo(const struct row *row, int32_t step, bool *ret_noted)
{
    bson_iter_t at;
    char path[32];
    const uint8_t *data = NULL;
    uint32_t size = 0;
    (void)snprintf(path, sizeof(path), "undo.%d", step);
    *ret_noted = row_find(row, path, &at) && BSON_ITER_HOLDS_BINARY(&at);
    if (*ret_noted) {
        bson_iter_binary(&at, NULL, &size, &data);
    }
    bson_t *note = data == NULL ? NULL : bson_new_from_data(data, size);
    return note == NULL ? bson_new() : note;
}

/* ------------------------------------------------------------------ changing */

/* The document as it will be: what stays, then what is set. */
static bson_t *document_changed(const struct row *row, const bson_t *set)
{
    bson_t *document = bson_new();
    bson_iter_t at;
    if (row->document == NULL) {
        BSON_APPEND_INT64(document, "_id", row->version);
    } else if (bson_iter_init(&at, row->document)) {
        while (bson_iter_next(&at)) {
            const char *key = bson_iter_key(&at);
            if (!bson_has_field(set, key) && strcmp(key, "mark") != 0 &&
                strcmp(key, "batch") != 0) {
                bson_append_iter(document, NULL, -1, &at);
            }
        }
    }
    BSON_APPEND_INT64(document, "mark", row->mark + 1);
    if (bson_iter_init(&at, set)) {
        while (bson_iter_next(&at)) {
            if (!BSON_ITER_HOLDS_NULL(&at)) {
                bson_append_iter(document, NULL, -1, &at);
            }
        }
    }
    return document;
}

static enum status send_write(struct maintain_unit *unit, const char *database,
                              const struct row *row, const bson_t *document,
                              struct error *ret_error)
{
    bson_t reply;
    bson_t *command =
        row->document == NULL
            ? BCON_NEW("insert", ROW_COLLECTION, "documents", "[", BCON_DOCUMENT(document), "]")
            : BCON_NEW("update", ROW_COLLECTION, "updates", "[", "{", "q", "{", "_id",
                       BCON_INT64(row->version), "mark", BCON_INT64(row->mark), "}", "u",
                       BCON_DOCUMENT(document), "}", "]");
    enum status status = maintain_unit_command(unit, database, command, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t matched = maintain_number(&reply, "n");
    bson_destroy(&reply);
    return matched == 1
               ? STATUS_OK
               : error_set(ret_error, STATUS_OWNED, "another process goes on with migration %lld",
                           (long long)row->version);
}

enum status row_write(struct maintain_unit *unit, const char *database, const struct row *row,
                      const bson_t *set, struct error *ret_error)
{
    bson_t *document = document_changed(row, set);
    enum status status = send_write(unit, database, row, document, ret_error);
    bson_destroy(document);
    return status;
}

void row_take(struct row *row, const bson_t *set)
{
    bson_t *document = document_changed(row, set);
    struct row changed;
    (void)row_parse(&changed, document);
    row_free(row);
    *row = changed;
}

struct change {
    const char *database;
    const struct row *row;
    const bson_t *set;
};

static enum status change_body(struct maintain_unit *unit, unsigned attempt, void *context,
                               struct error *ret_error)
{
    const struct change *change = context;
    (void)attempt;
    return row_write(unit, change->database, change->row, change->set, ret_error);
}

enum status row_change(struct maintain *maintain, const char *database, struct row *row,
                       const bson_t *set, struct error *ret_error)
{
    struct change change = {.database = database, .row = row, .set = set};
    enum status status = maintain_run(maintain, change_body, &change, NULL, ret_error);
    if (status == STATUS_OK) {
        row_take(row, set);
    }
    return status;
}

void row_put_undo(const struct row *row, bson_t *set, int32_t step, const bson_t *note)
{
    bson_t undo;
    bson_iter_t at;
    bson_iter_t each;
    char name[16];
    (void)snprintf(name, sizeof(name), "%d", step);
    BSON_APPEND_DOCUMENT_BEGIN(set, "undo", &undo);
    if (row_find(row, "undo", &at) && BSON_ITER_HOLDS_DOCUMENT(&at) &&
        bson_iter_recurse(&at, &each)) {
        while (bson_iter_next(&each)) {
            if (strcmp(bson_iter_key(&each), name) != 0) {
                bson_append_iter(&undo, NULL, -1, &each);
            }
        }
    }
    BSON_APPEND_BINARY(&undo, name, BSON_SUBTYPE_BINARY, bson_get_data(note), note->len);
    bson_append_document_end(set, &undo);
}
