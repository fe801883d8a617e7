/*
 * A read that takes longer than units wait for it, where they write all the time: its answer is
 * always overtaken. It is done in two steps, neither of which can be:
 *
 *   gather      a snapshot begins; the server gives all documents that match, as it comes to them,
 *               committed or not
 *   evaluate    of these the ones that units have written since, or had, are left out, and in their
 *               place come the images that the snapshot shows; the server evaluates the command
 * over these documents, as literals, without looking into the collection at all
 *
 * What was written by others meanwhile, as a plain write, is in it or is not, as in mongod. Only
 * for what fits one command, 15 MiB of matching documents, of one collection: else it has failed.
 *
 * The channel's worker.
 */
#include <stdlib.h>
#include <string.h>

#include "read/read_private.h"
#include "wire/bson_walk.h"

struct gathered {
    struct read_operation *operation;
    char *namespace;
    struct uncommitted_view view; /* what is not as the server has it, by name */
    struct overlay_image *images;
    size_t count;
    uint64_t bytes;
};

bool read_long_can_gather(const struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    return operation->form == READ_FORM_OVERLAY && operation->attempts > 0 &&
           operation->took_ms > read_turn_ms(operation->engine) && command->gate_count == 1 &&
           operation->sent != READ_SENT_GATHERED;
}

void read_long_end(struct read_operation *operation)
{
    if (operation->own_snapshot.has_snapshot) {
        uncommitted_end(operation->engine->uncommitted, &operation->own_snapshot, false);
    }
}

/* Who reads, as of when it began to gather. */
static struct uncommitted_reader reader_of(const struct read_operation *operation)
{
    struct uncommitted_reader reader = operation->reader;
    if (!reader.has_snapshot) {
        reader.has_snapshot = true;
        reader.snapshot_at = operation->own_snapshot.snapshot_at;
    }
    return reader;
}

void read_long_gather(struct read_operation *operation)
{
    struct rewrite_options options = read_options_of(operation);
    bson_t command;
    read_end_turn(operation);
    if (!operation->reader.has_snapshot) {
        uncommitted_snapshot_begin(operation->engine->uncommitted, &operation->own_snapshot, 0);
    }
    options.gathers = true;
    if (!read_bytes_take(operation, REWRITE_BYTES_MAX) ||
        rewrite_read(&operation->command, NULL, 0, &options, &command) != STATUS_OK) {
        read_fail_for_time(operation);
        return;
    }
    read_send_command(operation, READ_SENT_GATHER, &command);
}

/* ------------------------------------------------------------------ what was gathered */

static int compare_documents(const void *left, const void *right)
{
    const struct uncommitted_document *const *a = left;
    const struct uncommitted_document *const *b = right;
    return memcmp((*a)->name.digest, (*b)->name.digest, sizeof(*a)->name.digest);
}

static int compare_name(const void *name, const void *right)
{
    const struct lock_name *wanted = name;
    const struct uncommitted_document *const *document = right;
    return memcmp(wanted->digest, (*document)->name.digest, sizeof wanted->digest);
}

static bool put(struct gathered *gathered, struct overlay_image image)
{
    gathered->bytes += image.document.size + rewrite_key_bytes(image.key);
    gathered->images[gathered->count++] = image;
    return gathered->bytes <= REWRITE_BYTES_MAX;
}

/* False: it is not certain whether it is one of those that are left out, or it is too much. */
static bool put_document(struct gathered *gathered, struct slice document)
{
    struct bson_element id;
    bson_iter_t at;
    struct lock_name name;
    bson_t key = BSON_INITIALIZER;
    if (!bson_element_find(document, "_id", &id) ||
        !bson_iter_init_from_data(&at, document.data, document.size) ||
        !bson_iter_find(&at, "_id") || !bson_append_iter(&key, "_id", 3, &at)) {
        bson_destroy(&key);
        return false;
    }
    struct slice bytes = slice_make(bson_get_data(&key), key.len);
    lock_name_of(gathered->namespace, bytes, &name);
    const struct uncommitted_view *view = &gathered->view;
    struct uncommitted_document **found =
        view->count == 0
            ? NULL
            : bsearch(&name, view->documents, view->count, sizeof *view->documents, compare_name);
    bool same = found != NULL && slice_equal((*found)->key, bytes);
    bson_destroy(&key);
    if (found != NULL) {
        return same; /* two _ids may share a name (unit/lock_name.c) */
    }
    return put(gathered, (struct overlay_image){.document = document});
}

static bool put_batch(struct gathered *gathered, struct slice batch)
{
    struct slice fields;
    struct bson_element element;
    if (batch.size == 0 || !bson_fields_open(batch, &fields)) {
        return batch.size == 0;
    }
    while (bson_element_next(&fields, &element)) {
        if (element.type != BSON_TYPE_DOCUMENT || !put_document(gathered, element.value)) {
            return false;
        }
    }
    return true;
}

static size_t count_documents(struct slice batch)
{
    struct slice fields;
    struct bson_element element;
    size_t count = 0;
    if (batch.size == 0 || !bson_fields_open(batch, &fields)) {
        return 0;
    }
    while (bson_element_next(&fields, &element)) {
        count++;
    }
    return count;
}

static bool put_images(struct gathered *gathered, struct wal_reader *reader)
{
    for (size_t i = 0; i < gathered->view.count; i++) {
        struct overlay_image image;
        if (read_image(reader, gathered->view.documents[i], &image) != STATUS_OK ||
            !put(gathered, image)) {
            return false;
        }
    }
    return true;
}

static bool make(struct gathered *gathered, struct slice batch, bson_t *ret_command)
{
    struct read_operation *operation = gathered->operation;
    struct rewrite_options options = read_options_of(operation);
    struct wal_reader *reader = NULL;
    options.only_images = true;
    options.whole = true;
    gathered->images =
        calloc(gathered->view.count + count_documents(batch) + 1, sizeof *gathered->images);
    qsort(gathered->view.documents, gathered->view.count, sizeof *gathered->view.documents,
          compare_documents);
    bool made = gathered->images != NULL &&
                wal_reader_begin(operation->engine->wal, &reader, NULL) == STATUS_OK &&
                put_images(gathered, reader) && put_batch(gathered, batch) &&
                read_bytes_take(operation, gathered->bytes) &&
                rewrite_read(&operation->command, gathered->images, gathered->count, &options,
                             ret_command) == STATUS_OK;
    wal_reader_end(reader);
    free(gathered->images);
    return made;
}

/* False: it cannot be told so. */
static bool evaluate(struct read_operation *operation, struct slice batch, bson_t *ret_command)
{
    const struct read_command *command = &operation->command;
    struct uncommitted_reader reader = reader_of(operation);
    struct gathered gathered = {.operation = operation};
    if (!read_is_resolved_still(operation->engine, command)) {
        return false;
    }
    gathered.namespace = bson_strdup_printf("%s.%s", command->database, operation->views.base);
    bool made =
        uncommitted_collect(operation->engine->uncommitted, command->gates[0], gathered.namespace,
                            &reader, REWRITE_BYTES_MAX, &gathered.view) == STATUS_OK &&
        make(&gathered, batch, ret_command);
    uncommitted_view_free(&gathered.view);
    bson_free(gathered.namespace);
    return made;
}

void read_long_take(struct read_operation *operation, const struct reply_view *view)
{
    bson_t command;
    if (view->cursor_id != 0) {
        operation->is_lost = true; /* it is more than one reply */
        read_look_again(operation, view->cursor_id);
    } else if (evaluate(operation, view->batch, &command)) {
        read_send_command(operation, READ_SENT_GATHERED, &command);
    } else {
        read_bytes_give(operation);
        read_fail_for_time(operation);
    }
}
