/*
 * Undoing a run (undo.h).
 *
 *     for each write of the unit, newest first: find the document, compare it with what the write
 *     left, put back what was before
 *
 * Invariant: a document is written only after this unit has read it, so one that somebody writes in
 * between is a WriteConflict, and all is looked at again.
 *
 * Threads: the caller's.
 */
#include "scrub/undo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "recover/history.h"
#include "recover/unit_walk.h"

/* ------------------------------------------------------------------ a run's units */

struct collection {
    const char *run; /* NULL: all of them */
    struct scrub_run_unit *units;
    size_t count;
    size_t capacity;
};

static enum status look(struct wal_reader *reader, const struct wal_unit *unit, void *context,
                        struct error *ret_error)
{
    struct collection *found = context;
    struct wal_record record;
    struct record_begin begin;
    if (unit->state != WAL_UNIT_COMMITTED) {
        return STATUS_OK;
    }
    enum status status = wal_read(reader, unit->first_lsn, &record, ret_error);
    if (status == STATUS_OK) {
        status = record_get_begin(record.payload, &begin, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t prefix = strlen(SCRUB_APPLICATION);
    const char *name = begin.application + prefix;
    if (strncmp(begin.application, SCRUB_APPLICATION, prefix) != 0 ||
        strlen(name) != SCRUB_RUN_BYTES - 1 ||
        (found->run != NULL && strcmp(name, found->run) != 0)) {
        return STATUS_OK;
    }
    struct scrub_run_unit *units =
        memory_reserve(found->units, found->count, &found->capacity, sizeof(*units));
    if (units == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    found->units = units;
    units[found->count] =
        (struct scrub_run_unit){.unit = unit->unit, .time_ms = unit->last_time_ms};
    memcpy(units[found->count].run, name, SCRUB_RUN_BYTES);
    found->count++;
    return STATUS_OK;
}

enum status scrub_run_units(struct wal *wal, const char *run, struct scrub_run_unit **ret_units,
                            size_t *ret_count, struct error *ret_error)
{
    struct collection found = {.run = run};
    enum status status = unit_walk(wal, look, &found, ret_error);
    if (status != STATUS_OK) {
        free(found.units);
        return status;
    }
    *ret_units = found.units;
    *ret_count = found.count;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ what was before the run */

/* Of a document, and of an image of it: told apart by their hashes. A collision makes a unit that
   stays as it is count as undone, nothing else. */
struct pair {
    uint64_t document;
    uint64_t image;
};

struct scrub_run_images {
    struct pair *pairs; /* sorted */
    size_t count;
    size_t capacity;
};

static uint64_t hash(uint64_t from, struct slice bytes)
{
    /* FNV-1a: spread matters here, resistance to collisions does not. */
    for (size_t i = 0; i < bytes.size; i++) {
        from = (from ^ bytes.data[i]) * 1099511628211u;
    }
    return from;
}

static struct pair pair_of(const struct history_write *write, struct image image)
{
    const uint64_t begin = 14695981039346656037u;
    return (struct pair){
        .document = hash(hash(begin, slice_text(write->namespace)), write->key),
        .image = image.presence == IMAGE_PRESENT ? hash(begin, image.document) : 0,
    };
}

static int pair_compare(const void *a, const void *b)
{
    const struct pair *one = a;
    const struct pair *other = b;
    if (one->document != other->document) {
        return one->document < other->document ? -1 : 1;
    }
    return one->image == other->image ? 0 : one->image < other->image ? -1 : 1;
}

static enum status images_add(struct scrub_run_images *images, const struct unit_history *history,
                              struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < history->write_count; i++) {
        struct image before = {.presence = IMAGE_UNKNOWN};
        struct pair *pairs =
            memory_reserve(images->pairs, images->count, &images->capacity, sizeof(*pairs));
        if (pairs == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
        images->pairs = pairs;
        status = history_image_read(history, &history->writes[i].before, &before, ret_error);
        if (status == STATUS_OK) {
            pairs[images->count++] = pair_of(&history->writes[i], before);
        }
        image_free(&before);
    }
    return status;
}

enum status scrub_run_images_read(struct wal *wal, const struct scrub_run_unit *units, size_t count,
                                  struct scrub_run_images **ret_images, struct error *ret_error)
{
    struct scrub_run_images *images = calloc(1, sizeof(*images));
    enum status status =
        images == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory") : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        struct unit_history *history = NULL;
        status = unit_history_load(wal, units[i].unit, &history, ret_error);
        if (status == STATUS_OK) {
            status = images_add(images, history, ret_error);
        }
        unit_history_free(history);
    }
    if (status != STATUS_OK) {
        scrub_run_images_free(images);
        return status;
    }
    if (images->count > 0) {
        qsort(images->pairs, images->count, sizeof(images->pairs[0]), pair_compare);
    }
    *ret_images = images;
    return STATUS_OK;
}

struct scrub_run_images *scrub_run_images_free(struct scrub_run_images *images)
{
    if (images != NULL) {
        free(images->pairs);
        free(images);
    }
    return NULL;
}

static bool was_before(const struct scrub_run_images *images, const struct history_write *write,
                       struct image now)
{
    struct pair wanted = pair_of(write, now);
    return images->count > 0 && bsearch(&wanted, images->pairs, images->count,
                                        sizeof(images->pairs[0]), pair_compare) != NULL;
}

/* ------------------------------------------------------------------ one unit */

struct undoing {
    const struct unit_history *history;
    const struct scrub_run_images *images;
    enum scrub_undone outcome;
};

static void split(const char *namespace, char database[64], const char **ret_collection)
{
    size_t size = strcspn(namespace, ".");
    (void)snprintf(database, 64, "%.*s", (int)size, namespace);
    *ret_collection = namespace[size] == '.' ? namespace + size + 1 : namespace + size;
}

/* {_id: value} */
static enum status key_of(const struct history_write *write, bson_t *ret_key,
                          struct error *ret_error)
{
    return bson_init_static(ret_key, write->key.data, write->key.size)
               ? STATUS_OK
               : error_set(ret_error, STATUS_CORRUPT, "a write without a document's _id");
}

static enum status find_now(struct maintain_unit *unit, const struct history_write *write,
                            struct image *ret_now, struct error *ret_error)
{
    char database[64];
    const char *collection = NULL;
    bson_t key;
    bson_t reply;
    enum status status = key_of(write, &key, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    split(write->namespace, database, &collection);
    bson_t *command = BCON_NEW("find", BCON_UTF8(collection), "filter", BCON_DOCUMENT(&key),
                               "limit", BCON_INT64(1), "singleBatch", BCON_BOOL(true));
    status = maintain_unit_command(unit, database, command, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t position = 0;
    struct slice document;
    struct image now = {.presence = IMAGE_ABSENT};
    if (maintain_next(&reply, &position, &document)) {
        struct image view = {.presence = IMAGE_PRESENT, .document = document};
        if (!image_copy(view, &now)) {
            status = error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
    }
    bson_destroy(&reply);
    if (status == STATUS_OK) {
        *ret_now = now;
    }
    return status;
}

/* The command that takes the document from `now` to `before`, one of them PRESENT. */
static bson_t *restore_command(const char *collection, const bson_t *key, struct image now,
                               struct image before)
{
    bson_t document;
    if (before.presence == IMAGE_ABSENT ||
        !bson_init_static(&document, before.document.data, before.document.size)) {
        return BCON_NEW("delete", BCON_UTF8(collection), "deletes", "[", "{", "q",
                        BCON_DOCUMENT(key), "limit", BCON_INT32(1), "}", "]");
    }
    if (now.presence == IMAGE_ABSENT) {
        return BCON_NEW("insert", BCON_UTF8(collection), "documents", "[", BCON_DOCUMENT(&document),
                        "]");
    }
    return BCON_NEW("update", BCON_UTF8(collection), "updates", "[", "{", "q", BCON_DOCUMENT(key),
                    "u", BCON_DOCUMENT(&document), "}", "]");
}

static enum status restore(struct maintain_unit *unit, const struct history_write *write,
                           struct image now, struct image before, struct error *ret_error)
{
    char database[64];
    const char *collection = NULL;
    bson_t key;
    bson_t reply;
    enum status status = key_of(write, &key, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    split(write->namespace, database, &collection);
    bson_t *command = restore_command(collection, &key, now, before);
    status = maintain_unit_command(unit, database, command, &reply, ret_error);
    bson_destroy(command);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    return status;
}

static enum status undo_write(struct maintain_unit *unit, struct undoing *undoing,
                              const struct history_write *write, struct error *ret_error)
{
    struct image before = {.presence = IMAGE_UNKNOWN};
    struct image after = {.presence = IMAGE_UNKNOWN};
    struct image now = {.presence = IMAGE_UNKNOWN};
    enum status status = history_image_read(undoing->history, &write->before, &before, ret_error);
    if (status == STATUS_OK) {
        status = history_image_read(undoing->history, &write->after, &after, ret_error);
    }
    if (status == STATUS_OK) {
        status = find_now(unit, write, &now, ret_error);
    }
    if (status == STATUS_OK && image_equal(now, after) && !image_equal(now, before)) {
        status = restore(unit, write, now, before, ret_error);
    } else if (status == STATUS_OK && !image_equal(now, before)) {
        undoing->outcome = SCRUB_UNDO_CHANGED;
    }
    image_free(&before);
    image_free(&after);
    image_free(&now);
    return status;
}

static bool is_last_of_its_document(const struct unit_history *history, size_t index)
{
    const struct history_write *own = &history->writes[index];
    for (size_t i = index + 1; i < history->write_count; i++) {
        const struct history_write *other = &history->writes[i];
        if (!other->refused && strcmp(other->namespace, own->namespace) == 0 &&
            slice_equal(other->key, own->key)) {
            return false;
        }
    }
    return true;
}

/* Whether all documents are what they were before a unit of the run, and none is what this one
   left: what that was before a newer one, too. */
static enum status look_before(struct maintain_unit *unit, const struct undoing *undoing,
                               bool *ret_all, struct error *ret_error)
{
    const struct unit_history *history = undoing->history;
    bool all = true;
    enum status status = STATUS_OK;
    for (size_t i = history->write_count; status == STATUS_OK && all && i-- > 0;) {
        const struct history_write *write = &history->writes[i];
        struct image after = {.presence = IMAGE_UNKNOWN};
        struct image now = {.presence = IMAGE_UNKNOWN};
        if (write->refused || !is_last_of_its_document(history, i)) {
            continue;
        }
        status = history_image_read(history, &write->after, &after, ret_error);
        if (status == STATUS_OK) {
            status = find_now(unit, write, &now, ret_error);
        }
        all = status == STATUS_OK && !image_equal(now, after) &&
              was_before(undoing->images, write, now);
        image_free(&after);
        image_free(&now);
    }
    *ret_all = all;
    return status;
}

static enum status undo_body(struct maintain_unit *unit, unsigned attempt, void *context,
                             struct error *ret_error)
{
    struct undoing *undoing = context;
    const struct unit_history *history = undoing->history;
    bool already = false;
    enum status status = look_before(unit, undoing, &already, ret_error);
    (void)attempt;
    undoing->outcome = already ? SCRUB_UNDONE_ALREADY : SCRUB_UNDONE;
    if (status != STATUS_OK || already) {
        return status;
    }
    for (size_t i = history->write_count; status == STATUS_OK && i-- > 0;) {
        if (!history->writes[i].refused) {
            status = undo_write(unit, undoing, &history->writes[i], ret_error);
        }
        if (status == STATUS_OK && undoing->outcome == SCRUB_UNDO_CHANGED) {
            /* Rolls back what was restored of it. */
            return error_set(ret_error, STATUS_CONFLICT, "unit %llu: a document has changed since",
                             (unsigned long long)history->unit);
        }
    }
    return status;
}

enum status scrub_undo(struct maintain *maintain, struct wal *wal,
                       const struct scrub_run_images *images, uint64_t unit,
                       enum scrub_undone *ret_undone, struct error *ret_error)
{
    struct unit_history *history = NULL;
    enum status status = unit_history_load(wal, unit, &history, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct undoing undoing = {.history = history, .images = images};
    if (history->committing.size > 0 || history->write_count == 0) {
        unit_history_free(history);
        return error_set(ret_error, STATUS_UNSUPPORTED,
                         "it was a transaction of the server's own, of which the journal has no "
                         "images");
    }
    status = maintain_run(maintain, undo_body, &undoing, NULL, ret_error);
    if (status == STATUS_CONFLICT && undoing.outcome == SCRUB_UNDO_CHANGED) {
        status = STATUS_OK;
    }
    if (status == STATUS_OK) {
        *ret_undone = undoing.outcome;
    }
    unit_history_free(history);
    return status;
}
