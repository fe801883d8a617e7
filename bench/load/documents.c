/*
 * See documents.h. Documents are inserted some at a time, so that one command stays far below what
 * a journaled unit may hold.
 */
#include "bench/load/documents.h"

#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#include "bench/load/commands.h"
#include "bench/load/link.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"

#define SMALL_TEXT_BYTES 160u
#define LARGE_TEXT_BYTES 50000u
#define INSERT_BYTES 1000000u

static uint32_t text_bytes(const struct load_options *options)
{
    if (options->kind != LOAD_LARGE_READ) {
        return SMALL_TEXT_BYTES;
    }
    return options->bytes < LARGE_TEXT_BYTES ? options->bytes : LARGE_TEXT_BYTES;
}

static enum status count(int descriptor, const struct documents *documents, int64_t *ret_count,
                         struct error *ret_error)
{
    struct reply_view view;
    struct buffer reply;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    bson_t *command =
        BCON_NEW("count", BCON_UTF8(documents->collection), "$db", BCON_UTF8(DOCUMENTS_DATABASE));
    enum status status = link_ask(descriptor, command, "count", &reply, &view, ret_error);
    if (status == STATUS_OK) {
        *ret_count = view.has_n ? view.n : -1;
    }
    bson_destroy(command);
    buffer_free(&reply);
    return status;
}

static enum status drop(int descriptor, const struct documents *documents, struct error *ret_error)
{
    struct reply_view view;
    struct buffer reply;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    bson_t *command =
        BCON_NEW("drop", BCON_UTF8(documents->collection), "$db", BCON_UTF8(DOCUMENTS_DATABASE));
    enum status status = link_ask(descriptor, command, "drop", &reply, &view, ret_error);
    if (status == STATUS_REFUSED && view.code == REPLY_CODE_NamespaceNotFound) {
        status = STATUS_OK;
    }
    bson_destroy(command);
    buffer_free(&reply);
    return status;
}

static enum status insert(int descriptor, const struct documents *documents, uint32_t from,
                          uint32_t to, const char *text, struct error *ret_error)
{
    struct reply_view view;
    struct buffer reply;
    bson_t command = BSON_INITIALIZER;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    commands_insert_many(&command, documents->collection, from, to - from, text);
    enum status status = link_ask(descriptor, &command, "insert", &reply, &view, ret_error);
    if (status == STATUS_OK && (!view.has_n || view.n != (int64_t)(to - from))) {
        status = error_set(ret_error, STATUS_REFUSED, "insert: not all documents were stored");
    }
    bson_destroy(&command);
    buffer_free(&reply);
    return status;
}

static enum status make(int descriptor, const struct documents *documents, uint32_t text_size,
                        struct error *ret_error)
{
    char text[LARGE_TEXT_BYTES + 1];
    memset(text, 'h', text_size);
    text[text_size] = '\0';
    enum status status = drop(descriptor, documents, ret_error);
    uint32_t batch = INSERT_BYTES / (text_size + 40u) + 1;
    for (uint32_t from = 0; status == STATUS_OK && from < documents->count; from += batch) {
        uint32_t left = documents->count - from;
        status = insert(descriptor, documents, from, from + (left < batch ? left : batch), text,
                        ret_error);
    }
    return status;
}

static enum status read_all(int descriptor, struct documents *documents, struct error *ret_error)
{
    struct reply_view view;
    struct buffer reply;
    struct slice elements;
    struct bson_element element;
    uint32_t found = 0;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    bson_t command = BSON_INITIALIZER;
    commands_find_all(&command, documents->collection, documents->count);
    enum status status = link_ask(descriptor, &command, "find", &reply, &view, ret_error);
    if (status == STATUS_OK && bson_fields_open(view.batch, &elements)) {
        while (bson_element_next(&elements, &element)) {
            found++;
        }
    }
    if (status == STATUS_OK && found != documents->count) {
        status = error_set(ret_error, STATUS_REFUSED,
                           "find: %u documents instead of %u came in one reply", found,
                           documents->count);
    }
    if (status == STATUS_OK) {
        documents->reply_bytes = (uint32_t)reply.size;
    }
    bson_destroy(&command);
    buffer_free(&reply);
    return status;
}

enum status documents_prepare(const struct load_options *options, int descriptor,
                              struct documents *ret_documents, struct error *ret_error)
{
    struct documents documents = {.count = options->documents};
    uint32_t text_size = text_bytes(options);
    int64_t present = -1;
    if (options->kind == LOAD_LARGE_READ) {
        documents.count = (options->bytes + text_size - 1) / text_size;
    }
    if (options->kind == LOAD_INSERT) {
        documents.count = 0; /* dropped, and made by the load */
        snprintf(documents.collection, sizeof documents.collection, "inserted");
    } else { /* ycsb inserts more, which the next run takes away */
        snprintf(documents.collection, sizeof documents.collection, "%s_%u_of_%u",
                 load_is_ycsb(options->kind) ? "ycsb" : "documents", documents.count, text_size);
    }
    enum status status = options->kind == LOAD_INSERT
                             ? STATUS_OK
                             : count(descriptor, &documents, &present, ret_error);
    if (status == STATUS_OK && present != (int64_t)documents.count) {
        status = make(descriptor, &documents, text_size, ret_error);
    }
    if (status == STATUS_OK && options->kind == LOAD_LARGE_READ) {
        status = read_all(descriptor, &documents, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_documents = documents;
    }
    return status;
}
