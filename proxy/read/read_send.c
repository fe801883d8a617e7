/*
 * What a reading command sends to the server: the command as it came, or as an aggregation over the
 * committed state. See read.h; the channel's worker.
 */
#include <stdlib.h>

#include "holdfast/clock.h"
#include "holdfast/limits.h"
#include "read/read_private.h"
#include "recover/history.h"

bool read_bytes_take(struct read_operation *operation, uint64_t bytes)
{
    uint64_t wanted = bytes * READ_OVERLAY_COPIES;
    uint64_t before = atomic_fetch_add(&operation->engine->overlay_bytes, wanted);
    if (before + wanted > LIMIT_OVERLAY_BYTES_MAX) {
        (void)atomic_fetch_sub(&operation->engine->overlay_bytes, wanted);
        return false;
    }
    operation->overlay_bytes = wanted;
    return true;
}

void read_bytes_give(struct read_operation *operation)
{
    (void)atomic_fetch_sub(&operation->engine->overlay_bytes, operation->overlay_bytes);
    operation->overlay_bytes = 0;
}

static void on_reply(void *context, enum status status, struct slice reply)
{
    struct read_operation *operation = context;
    read_bytes_give(operation);
    operation->answered(operation, status, reply);
}

static void give_turn_up_in_time(struct read_operation *operation)
{
    operation->gave_up = false;
    if (operation->has_turn) {
        worker_timer_start(&operation->timer, read_turn_ms(operation->engine));
    }
}

void read_send_command(struct read_operation *operation, enum read_sent sent, bson_t *command)
{
    operation->step = READ_AT_SERVER;
    operation->sent = sent;
    operation->sent_ms = clock_monotonic_ms();
    give_turn_up_in_time(operation);
    operation->channel->send(operation->channel, slice_make(bson_get_data(command), command->len),
                             on_reply, operation);
    bson_destroy(command);
}

/* The server waits for new documents meanwhile, and units wait for it. */
static int64_t await_ms(const struct read_operation *operation)
{
    int64_t bound = (int64_t)(read_turn_ms(operation->engine) / 2);
    bound = bound < (int64_t)READ_AWAIT_MS ? bound : (int64_t)READ_AWAIT_MS;
    bound = bound > 0 ? bound : 1;
    int64_t given = operation->view->max_time_ms;
    return given < bound ? given : bound;
}

struct rewrite_options read_options_of(struct read_operation *operation)
{
    const struct read_command *command = &operation->command;
    bool committed = operation->form != READ_FORM_PASS;
    /* A unit's cursors show what is there when they go on: so they had better not have to. */
    struct rewrite_options options = {
        .in_unit = operation->in_unit,
        .whole = operation->locked || (operation->in_unit && committed),
        .always = operation->unit != NULL,
        .views = command->is_view && operation->views.chain_count > 0 ? &operation->views : NULL,
    };
    int64_t given = operation->view->max_time_ms;
    if (command->awaits && committed && operation->unit == NULL) {
        options.max_time_ms = await_ms(operation);
        return options;
    }
    /* Units wait meanwhile. Only where no cursor stays, which would keep the limit for all its
       getMores. */
    bool bounded =
        operation->has_turn && (command->kind == READ_COUNT || command->kind == READ_DISTINCT ||
                                (command->kind == READ_FIND && command->single_batch));
    int64_t bound = (int64_t)operation->engine->lock_wait_ms;
    operation->timed = bounded && bound > 0 && (given == 0 || given > bound);
    options.max_time_ms = operation->timed ? bound : 0;
    return options;
}

void read_send_original(struct read_operation *operation, enum read_sent sent)
{
    struct rewrite_options options = read_options_of(operation);
    bson_t command;
    if (rewrite_original(&operation->command, &options, &command) != STATUS_OK) {
        read_fail(operation, REPLY_CODE_FailedToParse, "the command is not valid BSON");
        return;
    }
    read_send_command(operation, sent, &command);
}

/* ------------------------------------------------------------------ the overlay */

enum status read_image(struct wal_reader *reader, const struct uncommitted_document *document,
                       struct overlay_image *ret_image)
{
    struct overlay_image image = {.key = document->key};
    if (document->was_present) {
        struct history_image place = {.presence = IMAGE_PRESENT,
                                      .lsn = document->lsn,
                                      .offset = document->offset,
                                      .size = document->size};
        struct image view;
        enum status status = history_image_view(reader, &place, &view, NULL);
        if (status != STATUS_OK) {
            return status;
        }
        image.document = view.document;
    }
    *ret_image = image;
    return STATUS_OK;
}

/* Of their part of the command, or a little more. */
static uint64_t bytes_of(struct uncommitted_document *const *documents, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += uncommitted_document_bytes(documents[i]);
    }
    return bytes;
}

static enum status make_overlay(struct read_operation *operation,
                                struct uncommitted_document *const *documents, size_t count,
                                bool only_images, bson_t *ret_command)
{
    struct rewrite_options options = read_options_of(operation);
    struct wal_reader *reader = NULL;
    struct overlay_image *images = calloc(count, sizeof *images);
    if (images == NULL) {
        return STATUS_MEMORY;
    }
    options.only_images = only_images;
    options.whole =
        true; /* a getMore would have to wait for the units that this does not wait for */
    enum status status = wal_reader_begin(operation->engine->wal, &reader, NULL);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = read_image(reader, documents[i], &images[i]);
    }
    if (status == STATUS_OK) {
        status = rewrite_read(&operation->command, images, count, &options, ret_command);
    }
    wal_reader_end(reader);
    free(images);
    return status;
}

/* What there is too much of, waiting does not make less for a snapshot. */
static void do_without(struct read_operation *operation, const char *why)
{
    if (operation->reader.has_snapshot) {
        read_fail_for_snapshot(operation);
    } else {
        read_wait_from_now_on(operation, why);
    }
}

void read_send_overlay(struct read_operation *operation,
                       struct uncommitted_document *const *documents, size_t count,
                       bool only_images)
{
    bson_t command;
    uint64_t bytes = bytes_of(documents, count) + operation->view->body.size;
    const char *too_much = "among too many bytes of before-images";
    enum status status = STATUS_LIMIT;
    if (bytes <= REWRITE_BYTES_MAX && !read_bytes_take(operation, bytes)) {
        too_much = "among other reads with too many bytes of before-images";
    } else if (bytes <= REWRITE_BYTES_MAX) {
        status = make_overlay(operation, documents, count, only_images, &command);
    }
    if (status != STATUS_OK) {
        read_bytes_give(operation);
    }
    switch (status) {
    case STATUS_OK:
        read_send_command(operation, READ_SENT_OVERLAY, &command);
        break;
    case STATUS_LIMIT:
        do_without(operation, too_much);
        break;
    case STATUS_UNSUPPORTED:
        read_wait_from_now_on(operation, "by a collation, among _ids with text");
        break;
    case STATUS_MEMORY:
        read_fail(operation, REPLY_CODE_ExceededMemoryLimit, "out of memory");
        break;
    default:
        /* A unit that has ended may be pruned from the journal already. */
        do_without(operation, "of images that the journal could not give");
        break;
    }
}
