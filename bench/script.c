/*
 * See script.h. Connection c of n works on the documents c, c + n, c + 2n, …: no two connections
 * meet at a document. A transaction's three updates take three documents in a row of those.
 *
 * The requests of calls are all the same.
 *
 * Invariant: the templates in `requests` never change but in the numbers that aim() puts in.
 */
#include "bench/script.h"

#include <assert.h>
#include <bson/bson.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buffer.h"
#include "bench/commands.h"
#include "bench/http_text.h"
#include "bench/link.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define REQUEST_BYTES_MAX 4096u
#define UNIT_UPDATES 3u
#define STEPS_MAX (UNIT_UPDATES + 1u)
#define BODY_OFFSET (WIRE_HEADER_BYTES + 5u) /* flags and the section's kind */
#define REQUEST_ID_OFFSET 4u

struct script {
    enum bench_load load;
    struct buffer requests[STEPS_MAX];
    uint32_t step_count;
    uint32_t step;
    uint32_t number;
    uint32_t stride;
    uint32_t documents;         /* how many are this script's */
    uint32_t document;          /* which of them is next */
    uint32_t operation_first;   /* the first one of the operation at work */
    int64_t transaction_number; /* unit */
    uint32_t request_id;
    int http_status; /* calls: of the last answer */
};

static enum status put_request(struct script *script, const bson_t *command)
{
    struct buffer *request = &script->requests[script->step_count];
    buffer_init(request, REQUEST_BYTES_MAX);
    enum status status =
        op_msg_append(request, 0, 0, 0, slice_make(bson_get_data(command), command->len));
    if (status == STATUS_OK) {
        script->step_count++;
    }
    return status;
}

static enum status put_unit(struct script *script, const struct documents *documents)
{
    uint8_t session[COMMANDS_SESSION_BYTES];
    if (getrandom(session, sizeof session, 0) != (ssize_t)sizeof session) {
        return STATUS_IO;
    }
    session[6] = (uint8_t)(0x40 | (session[6] & 0x0f)); /* a random UUID, RFC 4122 */
    session[8] = (uint8_t)(0x80 | (session[8] & 0x3f));
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < UNIT_UPDATES && status == STATUS_OK; i++) {
        bson_t command = BSON_INITIALIZER;
        commands_increment(&command, documents->collection);
        commands_put_transaction(&command, session, i == 0);
        status = put_request(script, &command);
        bson_destroy(&command);
    }
    bson_t command = BSON_INITIALIZER;
    commands_commit(&command, session);
    if (status == STATUS_OK) {
        status = put_request(script, &command);
    }
    bson_destroy(&command);
    return status;
}

static enum status put_call(struct script *script, const struct bench_options *options)
{
    char text[1024];
    bool reads = strcmp(options->method, "GET") == 0;
    int size =
        snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %.300s\r\n%s", options->method,
                 options->path, options->target,
                 reads ? "\r\n" : "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    assert(size > 0 && (size_t)size < sizeof text); /* options.c bounds its parts */
    buffer_init(&script->requests[0], REQUEST_BYTES_MAX);
    script->step_count = 1;
    return buffer_append(&script->requests[0], text, (size_t)size);
}

static enum status put_requests(struct script *script, const struct bench_options *options,
                                const struct documents *documents)
{
    bson_t command = BSON_INITIALIZER;
    enum status status = STATUS_INVALID;
    switch (script->load) {
    case BENCH_LOAD_POINT_READ:
        commands_find_one(&command, documents->collection);
        status = put_request(script, &command);
        break;
    case BENCH_LOAD_POINT_WRITE:
        commands_increment(&command, documents->collection);
        status = put_request(script, &command);
        break;
    case BENCH_LOAD_LARGE_READ:
        commands_find_all(&command, documents->collection, documents->count);
        status = put_request(script, &command);
        break;
    case BENCH_LOAD_UNIT:
        status = put_unit(script, documents);
        break;
    case BENCH_LOAD_CALLS:
        status = put_call(script, options);
        break;
    case BENCH_LOAD_IDLE: /* says nothing */
        break;
    }
    bson_destroy(&command);
    return status;
}

enum status script_new(const struct bench_options *options, const struct documents *documents,
                       uint32_t number, struct script **ret_script, struct error *ret_error)
{
    struct script *script = calloc(1, sizeof *script);
    if (script == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a connection");
    }
    script->load = options->load;
    if (script->load != BENCH_LOAD_CALLS) {
        script->stride = options->connections;
        script->number = number % documents->count; /* readers may be more than documents */
        script->documents = (documents->count - script->number - 1) / script->stride + 1;
    }
    enum status status = put_requests(script, options, documents);
    if (status != STATUS_OK) {
        script_free(script);
        return error_set(ret_error, status, "cannot prepare the requests of a connection: %s",
                         status == STATUS_IO ? strerror(errno) : status_name(status));
    }
    *ret_script = script;
    return STATUS_OK;
}

struct script *script_free(struct script *script)
{
    for (size_t i = 0; script != NULL && i < STEPS_MAX; i++) {
        buffer_free(&script->requests[i]);
    }
    free(script);
    return NULL;
}

static uint32_t next_document(struct script *script)
{
    uint32_t document = script->number + script->document * script->stride;
    script->document = (script->document + 1) % script->documents;
    return document;
}

/* Puts this step's numbers into its request. */
static void aim(struct script *script)
{
    static const char *const document_fields[] = {
        [BENCH_LOAD_POINT_READ] = "filter._id",
        [BENCH_LOAD_POINT_WRITE] = "updates.0.q._id",
        [BENCH_LOAD_UNIT] = "updates.0.q._id",
        [BENCH_LOAD_LARGE_READ] = NULL,
        [BENCH_LOAD_IDLE] = NULL,
        [BENCH_LOAD_CALLS] = NULL,
    };
    if (script->load == BENCH_LOAD_CALLS) {
        return;
    }
    struct buffer *request = &script->requests[script->step];
    bson_t body;
    bson_iter_t top;
    bson_iter_t at;
    slice_store_u32le(request->data + REQUEST_ID_OFFSET, ++script->request_id);
    bool valid =
        bson_init_static(&body, request->data + BODY_OFFSET, request->size - BODY_OFFSET) &&
        bson_iter_init(&top, &body);
    assert(valid); /* commands.c made it */
    const char *field = document_fields[script->load];
    if (field != NULL && bson_iter_find_descendant(&top, field, &at)) {
        bson_iter_overwrite_int32(&at, (int32_t)next_document(script));
    }
    if (script->load == BENCH_LOAD_UNIT && bson_iter_init_find(&at, &body, "txnNumber")) {
        bson_iter_overwrite_int64(&at, script->transaction_number);
    }
}

void script_begin(struct script *script, bool again)
{
    if (again) {
        script->document = script->operation_first;
    }
    script->operation_first = script->document;
    script->step = 0;
    script->transaction_number++; /* a transaction that ended cannot be used again */
    aim(script);
}

struct slice script_request(const struct script *script)
{
    return buffer_slice(&script->requests[script->step]);
}

static bool found_one(const struct reply_view *view)
{
    struct slice elements;
    struct bson_element element;
    return bson_fields_open(view->batch, &elements) && bson_element_next(&elements, &element);
}

/* NULL, or what is wrong with a reply that is not an error. */
static const char *fault(const struct script *script, const struct reply_view *view)
{
    switch (script->load) {
    case BENCH_LOAD_POINT_READ:
    case BENCH_LOAD_LARGE_READ:
        return found_one(view) ? NULL : "find: the document is not there";
    case BENCH_LOAD_UNIT:
        if (script->step == UNIT_UPDATES) {
            return NULL;
        }
        return view->has_n && view->n == 1 ? NULL : "update: not one document was changed";
    case BENCH_LOAD_POINT_WRITE:
        return view->has_n && view->n == 1 ? NULL : "update: not one document was changed";
    case BENCH_LOAD_IDLE:
    case BENCH_LOAD_CALLS:
        break;
    }
    return NULL;
}

int script_http_status(const struct script *script)
{
    return script->http_status;
}

static enum script_verdict take_answer(struct script *script, struct slice bytes,
                                       struct error *ret_error)
{
    struct http_message answer;
    script->http_status = 0;
    if (http_message_parse(bytes, &answer) != HTTP_WHOLE) {
        error_set(ret_error, STATUS_PROTOCOL, "the target's answer is not valid");
        return SCRIPT_FAILED;
    }
    script->http_status = answer.status;
    if (answer.status >= 200 && answer.status < 300) {
        return SCRIPT_DONE;
    }
    error_set(
        ret_error, STATUS_REFUSED, "%d %.*s: %.*s", answer.status,
        (int)(answer.reason.size < 50 ? answer.reason.size : 50), (const char *)answer.reason.data,
        (int)(answer.body.size < 300 ? answer.body.size : 300), (const char *)answer.body.data);
    return SCRIPT_FAILED;
}

enum script_verdict script_take(struct script *script, struct slice message,
                                struct error *ret_error)
{
    struct wire_header header;
    struct slice rest;
    struct op_msg parsed;
    struct reply_view view;
    if (script->load == BENCH_LOAD_CALLS) {
        return take_answer(script, message, ret_error);
    }
    if (wire_message_parse(message, WIRE_OPCODE_MSG, &header, &rest) != STATUS_OK ||
        op_msg_parse(message, &parsed) != STATUS_OK ||
        reply_view_parse(parsed.body, &view) != STATUS_OK) {
        error_set(ret_error, STATUS_PROTOCOL, "the target's reply is not valid");
        return SCRIPT_FAILED;
    }
    if (header.response_to != (int32_t)script->request_id) {
        error_set(ret_error, STATUS_PROTOCOL, "a reply to request %d came for request %d",
                  header.response_to, (int32_t)script->request_id);
        return SCRIPT_FAILED;
    }
    if (!view.ok && view.is_transient && script->load == BENCH_LOAD_UNIT) {
        return SCRIPT_RETRY;
    }
    if (!view.ok || view.has_write_errors || view.has_write_concern_error) {
        link_refused(&view, bench_load_name(script->load), ret_error);
        return SCRIPT_FAILED;
    }
    const char *what = fault(script, &view);
    if (what != NULL) {
        error_set(ret_error, STATUS_PROTOCOL, "%s", what);
        return SCRIPT_FAILED;
    }
    if (script->step + 1 == script->step_count) {
        return SCRIPT_DONE;
    }
    script->step++;
    aim(script);
    return SCRIPT_CONTINUE;
}
