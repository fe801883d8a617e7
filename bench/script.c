/*
 * See script.h. Connection c of n works on the documents c, c + n, c + 2n, …: no two connections
 * meet at a document. A transaction's three updates take three documents in a row of those.
 *
 * contended: the first documents are hot, and all connections meet there; the others are divided as
 * above.
 *
 *     find a hot one --> set its value, by one more --> increment one's own --> commit --> DONE
 *          `--------------------`--- try again ----------------'--> abort --> RETRY
 *
 * That is a driver's loop: it aborts before it tries again. The value is set and not incremented,
 * so that a stale one that was read shows in the sum.
 *
 * The requests of calls are all the same.
 *
 * Invariant: the steps' requests never change but in the numbers that aim() puts in.
 */
#include "bench/script.h"

#include <assert.h>
#include <bson/bson.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/http_text.h"
#include "bench/link.h"
#include "bench/steps.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define REQUEST_ID_OFFSET 4u

struct script {
    enum bench_load load;
    struct steps steps;
    uint32_t step;
    uint32_t hot_count;       /* of the documents, the first ones */
    uint32_t hot;             /* which of them is next */
    int64_t value;            /* of it, as it was read */
    uint32_t first;           /* of this script's own documents */
    uint32_t stride;          /* to the next one */
    uint32_t documents;       /* how many there are */
    uint32_t document;        /* which of them is next */
    uint32_t operation_first; /* the first one of the operation at work */
    int64_t transaction_number;
    uint32_t request_id;
    int http_status; /* calls: of the last answer */
};

enum status script_new(const struct bench_options *options, const struct documents *documents,
                       uint32_t number, struct script **ret_script, struct error *ret_error)
{
    struct script *script = calloc(1, sizeof *script);
    if (script == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a connection");
    }
    script->load = options->load;
    if (script->load != BENCH_LOAD_CALLS) {
        script->hot_count = options->load == BENCH_LOAD_CONTENDED ? options->hot : 0;
        script->hot = script->hot_count == 0 ? 0 : number % script->hot_count;
        uint32_t others = documents->count - script->hot_count;
        uint32_t place = number % others; /* readers may be more than documents */
        script->first = script->hot_count + place;
        script->stride = options->connections;
        script->documents = (others - place - 1) / script->stride + 1;
    }
    enum status status = steps_make(options, documents, number, &script->steps);
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
    if (script != NULL) {
        steps_free(&script->steps);
    }
    free(script);
    return NULL;
}

static uint32_t next_document(struct script *script)
{
    uint32_t document = script->first + script->document * script->stride;
    script->document = (script->document + 1) % script->documents;
    return document;
}

static bool find_field(const bson_t *body, const char *path, bson_iter_t *ret_at)
{
    bson_iter_t top;
    return path != NULL && bson_iter_init(&top, body) &&
           bson_iter_find_descendant(&top, path, ret_at);
}

/* Puts this step's numbers into its request. */
static void aim(struct script *script)
{
    struct step *step = &script->steps.steps[script->step];
    bson_t body;
    bson_iter_t at;
    if (step->kind == STEP_CALL) {
        return;
    }
    slice_store_u32le(step->request.data + REQUEST_ID_OFFSET, ++script->request_id);
    bool valid = steps_body(step, &body);
    assert(valid); /* commands.c made it */
    if (find_field(&body, step_kind_document(step->kind), &at)) {
        uint32_t document = step_kind_is_hot(step->kind) ? script->hot : next_document(script);
        bson_iter_overwrite_int32(&at, (int32_t)document);
    }
    if (find_field(&body, "updates.0.u.$set.value", &at)) {
        bson_iter_overwrite_int64(&at, script->value + 1);
    }
    if (find_field(&body, "txnNumber", &at)) {
        bson_iter_overwrite_int64(&at, script->transaction_number);
    }
}

void script_begin(struct script *script, bool again)
{
    if (again) {
        script->document = script->operation_first;
    } else if (script->hot_count > 0) {
        script->hot = (script->hot + 1) % script->hot_count;
    }
    script->operation_first = script->document;
    script->step = 0;
    script->transaction_number++; /* a transaction that ended cannot be used again */
    aim(script);
}

struct slice script_request(const struct script *script)
{
    return buffer_slice(&script->steps.steps[script->step].request);
}

/* Takes the value of the first document. */
static bool found_one(struct script *script, const struct reply_view *view)
{
    struct slice elements;
    struct bson_element document;
    struct bson_element value;
    return bson_fields_open(view->batch, &elements) && bson_element_next(&elements, &document) &&
           bson_element_find(document.value, "value", &value) &&
           bson_element_integer(&value, &script->value);
}

/* NULL, or what is wrong with a reply that is not an error. */
static const char *fault(struct script *script, const struct reply_view *view)
{
    switch (script->steps.steps[script->step].kind) {
    case STEP_READ:
    case STEP_READ_ALL:
    case STEP_READ_HOT:
    case STEP_FILTER_HOT:
        return found_one(script, view) ? NULL : "find: the document is not there";
    case STEP_WRITE:
    case STEP_WRITE_HOT:
        return view->has_n && view->n == 1 ? NULL : "update: not one document was changed";
    case STEP_COMMIT:
    case STEP_ABORT:
    case STEP_CALL:
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

/* As drivers do: a transaction whose commit failed is not aborted. */
static enum script_verdict try_again(struct script *script, enum step_kind failed)
{
    if (failed == STEP_COMMIT || script->steps.last + 1 == script->steps.count) {
        return SCRIPT_RETRY;
    }
    script->step = script->steps.last + 1;
    aim(script);
    return SCRIPT_CONTINUE;
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
    enum step_kind kind = script->steps.steps[script->step].kind;
    if (kind == STEP_ABORT) { /* of what has ended already: mostly an error */
        return SCRIPT_RETRY;
    }
    if (!view.ok && view.is_transient && script->steps.is_transaction) {
        return try_again(script, kind);
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
    if (script->step == script->steps.last) {
        return SCRIPT_DONE;
    }
    script->step++;
    aim(script);
    return SCRIPT_CONTINUE;
}
