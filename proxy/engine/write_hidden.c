/*
 * Documents that other units hide from the search of a write with a general filter: the filter
 * selects them as they are committed, but not as the server holds them, for a unit that is still
 * open has changed or removed them, and may yet restore them. To pass them by would be to miss a
 * document, or to insert its twin.
 *
 *   begin          look: what is published from now on is remembered (uncommitted_look_begin())
 *   the search     one document, or all _ids of a multi write: of what the server holds
 *   its reply      who has published in the namespace, or has ended since: their before-images
 *   SEEKING_HIDDEN the server says which of these images the filter selects, in portions
 *
 *   several        their _ids join those that the search found: locked and read as any other
 *   one document   of the images and what the search found the first by the sort; without a sort
 *                  what the search found is as good as any. Is it an image, it is locked, which
 *                  waits for its unit, and the search is made again
 *
 * Where nothing of the namespace was published before the search nor during it, all this is two
 * loads. An image that cannot be asked about counts as selected: a document that is locked and then
 * does not match harms nobody.
 *
 * Worker of the channel only.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/id_list.h"
#include "engine/write_steps.h"
#include "recover/history.h"
#include "wire/overlay.h"
#include "wire/reply.h"

/* Before-images that are held and sent at once: a command is one document of 16 MiB, and of several
   small ones a write should not hold more than of its own batch. */
#define PORTION_BYTES_MAX (2u * 1024u * 1024u)
#define PORTION_COUNT_MAX 1000u
/* Beyond it an image is not asked about. */
#define COMMAND_BYTES_MAX (15u * 1024u * 1024u)
/* Images of all that units hide from one write; they are asked for in portions. */
#define HIDDEN_BYTES_MAX ((uint64_t)1 << 30)

/* ------------------------------------------------------------------ looking */

static void view_free(struct write_hidden *hidden)
{
    uncommitted_view_free(&hidden->view);
    hidden->view = (struct uncommitted_view){0};
    hidden->at = 0;
}

static void look_end(struct write_operation *operation)
{
    uncommitted_end(operation->engine->uncommitted, &operation->hidden.look, false);
}

void write_hidden_free(struct write_operation *operation)
{
    struct write_hidden *hidden = &operation->hidden;
    look_end(operation);
    view_free(hidden);
    free(hidden->locked);
    *hidden = (struct write_hidden){0};
}

void write_hidden_begin(struct write_operation *operation)
{
    struct write_hidden *hidden = &operation->hidden;
    const struct uncommitted_table *table = operation->engine->uncommitted;
    uint32_t gate = operation->gate;
    look_end(operation);
    view_free(hidden);
    hidden->stamp = uncommitted_stamp(table, gate);
    if (hidden->insist || operation->unit->uncommitted.has_snapshot ||
        !uncommitted_is_empty(table, gate)) {
        uncommitted_look_begin(operation->engine->uncommitted, &hidden->look);
    }
}

static struct uncommitted_reader reader_of(const struct write_operation *operation)
{
    const struct uncommitted_owner *own = &operation->unit->uncommitted;
    const struct uncommitted_owner *seen = own->has_snapshot ? own : &operation->hidden.look;
    return (struct uncommitted_reader){.unit = own->unit,
                                       .group = own->group,
                                       .snapshot_at = seen->snapshot_at,
                                       .has_snapshot = true};
}

static bool is_locked(const struct write_hidden *hidden, const struct lock_name *name)
{
    for (size_t i = 0; i < hidden->locked_count; i++) {
        if (memcmp(&hidden->locked[i], name, sizeof *name) == 0) {
            return true;
        }
    }
    return false;
}

/* Those that were there before, and that this statement has locked since: they are as they are. */
static void drop_plain(struct write_hidden *hidden)
{
    size_t kept = 0;
    for (size_t i = 0; i < hidden->view.count; i++) {
        struct uncommitted_document *document = hidden->view.documents[i];
        if (document->was_present && !is_locked(hidden, &document->name)) {
            hidden->view.documents[kept++] = document;
        } else {
            uncommitted_document_release(document);
        }
    }
    hidden->view.count = kept;
}

enum write_hidden_result write_hidden_look(struct write_operation *operation)
{
    struct write_hidden *hidden = &operation->hidden;
    struct uncommitted_table *table = operation->engine->uncommitted;
    uint32_t gate = operation->gate;
    struct uncommitted_reader reader = reader_of(operation);
    if (!hidden->look.has_snapshot) {
        hidden->insist = uncommitted_stamp(table, gate) != hidden->stamp;
        return hidden->insist ? WRITE_HIDDEN_AGAIN : WRITE_HIDDEN_NONE;
    }
    enum status status = uncommitted_collect(table, gate, operation->namespace, &reader,
                                             HIDDEN_BYTES_MAX, &hidden->view);
    look_end(operation);
    if (status == STATUS_MEMORY) {
        write_fail_for_memory(operation);
        return WRITE_HIDDEN_FAILED;
    }
    if (status != STATUS_OK) {
        write_fail(operation, REPLY_CODE_WriteConflict,
                   "too much has changed since the unit began, or while the write searched: run "
                   "it again");
        return WRITE_HIDDEN_FAILED;
    }
    drop_plain(hidden);
    if (hidden->view.count == 0) {
        return WRITE_HIDDEN_NONE;
    }
    operation->step = WRITE_SEEKING_HIDDEN;
    return WRITE_HIDDEN_SOME;
}

/* ------------------------------------------------------------------ asking the server */

static enum status read_image(struct wal_reader *reader,
                              const struct uncommitted_document *document,
                              struct overlay_image *ret_image)
{
    struct image view;
    struct history_image place = {.presence = IMAGE_PRESENT,
                                  .lsn = document->lsn,
                                  .offset = document->offset,
                                  .size = document->size};
    enum status status = history_image_view(reader, &place, &view, NULL);
    if (status == STATUS_OK) {
        *ret_image = (struct overlay_image){.key = document->key, .document = view.document};
    }
    return status;
}

/* What the search has found of a write of one document; else size 0. */
static struct slice found_of(const struct write_operation *operation)
{
    return operation->multi || operation->document_count == 0
               ? (struct slice){0}
               : operation->documents[0].before.document;
}

/* What stands in each command beside the images. */
static size_t own_bytes(const struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    return found_of(operation).size + statement->filter.size + statement->sort.size +
           statement->variables.size;
}

/* How many of the next documents the next command asks about. */
static size_t portion_count(const struct write_operation *operation)
{
    const struct write_hidden *hidden = &operation->hidden;
    size_t bytes = 0;
    size_t count = 0;
    while (hidden->at + count < hidden->view.count && count < PORTION_COUNT_MAX) {
        bytes += hidden->view.documents[hidden->at + count]->size;
        if (count > 0 && bytes > PORTION_BYTES_MAX) {
            break;
        }
        count++;
    }
    return count;
}

static bool portion_fits(const struct write_operation *operation, size_t count)
{
    const struct write_hidden *hidden = &operation->hidden;
    size_t bytes = own_bytes(operation);
    for (size_t i = 0; i < count; i++) {
        bytes += hidden->view.documents[hidden->at + i]->size;
    }
    return bytes <= COMMAND_BYTES_MAX;
}

/* The command that asks about the next portion. */
static enum status build(struct write_operation *operation, size_t count, bson_t *command)
{
    const struct write_hidden *hidden = &operation->hidden;
    struct slice found = found_of(operation);
    struct wal_reader *reader = NULL;
    struct overlay_image *images = calloc(count + 1, sizeof *images);
    if (images == NULL) {
        return STATUS_MEMORY;
    }
    size_t image_count = 0;
    if (found.size > 0) {
        images[image_count++] =
            (struct overlay_image){.key = operation->documents[0].key, .document = found};
    }
    enum status status = wal_reader_begin(operation->engine->wal, &reader, NULL);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = read_image(reader, hidden->view.documents[hidden->at + i], &images[image_count++]);
    }
    if (status == STATUS_OK) {
        status =
            command_build_select_images(command, &operation->target, write_statement(operation),
                                        !operation->multi, images, image_count);
    }
    wal_reader_end(reader);
    free(images);
    return status;
}

/* ------------------------------------------------------------------ what is to be locked */

/* The _id of a document, or of its key. False: the operation has failed. */
static bool add_id(struct write_operation *operation, struct slice document)
{
    (void)id_list_append_of(&operation->ids, &operation->id_count, document);
    return write_within_limits(operation);
}

static bool note_locked(struct write_operation *operation, const struct lock_name *name)
{
    struct write_hidden *hidden = &operation->hidden;
    void *more = memory_reserve(hidden->locked, hidden->locked_count, &hidden->locked_capacity,
                                sizeof *hidden->locked);
    if (more == NULL) {
        write_fail_for_memory(operation);
        return false;
    }
    hidden->locked = more;
    hidden->locked[hidden->locked_count++] = *name;
    return true;
}

/* Of a write of one document: the search is made again when these are locked. */
static void lock_and_search_again(struct write_operation *operation,
                                  struct uncommitted_document *const *documents, size_t count)
{
    struct lock_name *names = calloc(count, sizeof *names);
    if (names == NULL) {
        write_fail_for_memory(operation);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        names[i] = documents[i]->name;
        if (!note_locked(operation, &names[i])) {
            free(names);
            return;
        }
    }
    write_lock_and_resolve(operation, names, count);
}

/* The next `count` are taken as selected, all of them. */
static void take_all(struct write_operation *operation, size_t count)
{
    struct write_hidden *hidden = &operation->hidden;
    struct uncommitted_document **documents = &hidden->view.documents[hidden->at];
    hidden->at += count;
    if (!operation->multi) {
        lock_and_search_again(operation, documents, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add_id(operation, documents[i]->key)) {
            return;
        }
    }
}

/* True: go on at once. */
bool write_hidden_seek(struct write_operation *operation)
{
    struct write_hidden *hidden = &operation->hidden;
    if (hidden->at == hidden->view.count) {
        view_free(hidden);
        write_hidden_done(operation);
        return true;
    }
    bson_t command = BSON_INITIALIZER;
    size_t count = portion_count(operation);
    enum status status =
        portion_fits(operation, count) ? build(operation, count, &command) : STATUS_LIMIT;
    if (status == STATUS_MEMORY) {
        bson_destroy(&command);
        write_fail_for_memory(operation);
        return true;
    }
    if (status != STATUS_OK) {
        bson_destroy(&command);
        take_all(operation, count);
        return true;
    }
    hidden->asked = count;
    write_send(operation, &command);
    return false;
}

/* ------------------------------------------------------------------ the server's answer */

static bool is_for_the_client(const struct reply_view *view)
{
    return view->code == REPLY_CODE_MaxTimeMSExpired || view->code == REPLY_CODE_Interrupted ||
           view->code == REPLY_CODE_InterruptedAtShutdown || view->code == REPLY_CODE_Unauthorized;
}

/* The document of the portion that has this name; NULL: none. */
static struct uncommitted_document **find_asked(struct write_hidden *hidden,
                                                const struct lock_name *name)
{
    for (size_t i = 0; i < hidden->asked; i++) {
        struct uncommitted_document **at = &hidden->view.documents[hidden->at + i];
        if (memcmp(&(*at)->name, name, sizeof *name) == 0) {
            return at;
        }
    }
    return NULL;
}

/* One that was selected; some servers give more of it than its _id. False: the step is set. */
static bool take_selected(struct write_operation *operation, struct slice selected)
{
    struct lock_name name;
    bson_t key = BSON_INITIALIZER;
    if (operation->multi) {
        return add_id(operation, selected);
    }
    (void)write_key_of(selected, &key);
    lock_name_of(operation->namespace, write_slice(&key), &name);
    bson_destroy(&key);
    struct uncommitted_document **document = find_asked(&operation->hidden, &name);
    if (document == NULL) {
        return true; /* what the search has found comes first */
    }
    lock_and_search_again(operation, document, 1);
    return false;
}

void write_take_hidden(struct write_operation *operation, struct slice reply)
{
    struct write_hidden *hidden = &operation->hidden;
    struct reply_view view;
    bson_iter_t at;
    bool understood = reply_view_parse(reply, &view) == STATUS_OK;
    if (understood && !view.ok && is_for_the_client(&view)) {
        write_refuse_statement(operation, reply);
        return;
    }
    if (!understood || !view.ok || !view.has_cursor || view.cursor_id != 0 ||
        view.batch.size == 0 || !bson_iter_init_from_data(&at, view.batch.data, view.batch.size)) {
        take_all(operation, hidden->asked); /* a filter that an aggregation does not take */
        return;
    }
    while (bson_iter_next(&at)) {
        if (BSON_ITER_HOLDS_DOCUMENT(&at) && !take_selected(operation, write_slice_at(&at))) {
            return;
        }
    }
    hidden->at += hidden->asked;
}
