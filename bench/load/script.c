/*
 * See script.h. Connection c of n works on the documents c, c + n, c + 2n, …: no two connections
 * meet at a document. The writes of a unit take the next ones in a row of those.
 *
 * contended, accounts: the first documents are hot, and all connections meet there; the others are
 * divided as above. ycsb: keys.h says which.
 *
 * Invariant: the steps' requests never change but in the numbers that aim() puts in.
 */
#include "bench/load/script.h"

#include <assert.h>
#include <bson/bson.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bench/load/commands.h"
#include "bench/load/http_text.h"
#include "bench/load/link.h"
#include "bench/load/steps.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define REQUEST_ID_OFFSET 4u
/* A new document's _id: what the run drew, the connection, a count. */
#define NEW_COUNT_BITS 24u
#define NEW_CONNECTION_BITS 16u

struct script {
    enum load_kind kind;
    struct steps steps;
    struct keys *keys;
    const struct operation *operation; /* at work */
    uint32_t step;
    uint32_t hot_count; /* of the documents, the first ones */
    uint32_t hot;       /* contended: which of them is next */
    uint32_t from;      /* accounts */
    uint32_t to;
    uint32_t key;             /* what the operation is about */
    int64_t values[2];        /* as they were read */
    uint32_t first;           /* of this script's own documents */
    uint32_t stride;          /* to the next one */
    uint32_t documents;       /* how many there are */
    uint32_t document;        /* which of them is next */
    uint32_t operation_first; /* the first one of the operation at work */
    uint64_t new_first;       /* insert: the _id before the first */
    uint64_t news;
    uint64_t number; /* of the transaction, of the unit */
    int64_t cursor;  /* change-stream */
    uint32_t request_id;
    int http_status;
};

static enum status open_stream(struct script *script, const struct documents *documents,
                               int descriptor, struct error *ret_error)
{
    struct buffer reply;
    struct reply_view view;
    bson_t command = BSON_INITIALIZER;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    commands_watch(&command, documents->collection, (int32_t)script->first);
    enum status status = link_call(descriptor, &command, &reply, &view, ret_error);
    if (status == STATUS_OK && (!view.ok || view.cursor_id == 0)) {
        status = link_refused(&view, "$changeStream", ret_error);
    }
    if (status == STATUS_OK) {
        script->cursor = view.cursor_id;
    }
    bson_destroy(&command);
    buffer_free(&reply);
    return status;
}

/* _ids that no other run and no other connection has. */
static enum status draw_ids(struct script *script, uint32_t number)
{
    uint32_t drawn;
    if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn) {
        return STATUS_IO;
    }
    uint64_t run = drawn >> (32 - (63 - NEW_COUNT_BITS - NEW_CONNECTION_BITS));
    script->new_first =
        (run << (NEW_COUNT_BITS + NEW_CONNECTION_BITS)) | ((uint64_t)number << NEW_COUNT_BITS);
    return STATUS_OK;
}

enum status script_new(const struct load_options *options, const struct documents *documents,
                       struct keys *keys, uint32_t number, int descriptor,
                       struct script **ret_script, struct error *ret_error)
{
    struct script *script = calloc(1, sizeof *script);
    if (script == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for a connection");
    }
    script->kind = options->kind;
    script->keys = keys;
    if (!load_is_http(options)) {
        bool hot = options->kind == LOAD_CONTENDED || options->kind == LOAD_ACCOUNTS;
        script->hot_count = hot ? options->hot : 0;
        script->hot = script->hot_count > 0 ? number % script->hot_count : 0;
        uint32_t others = documents->count - script->hot_count;
        uint32_t place = others == 0 ? 0 : number % others; /* readers may be more than documents */
        script->first = script->hot_count + place;
        script->stride = options->connections;
        script->documents = others == 0 ? 1 : (others - place - 1) / script->stride + 1;
    }
    enum status status = steps_make(options, documents, number, &script->steps);
    if (status == STATUS_OK && options->kind == LOAD_INSERT) {
        status = draw_ids(script, number);
    }
    if (status != STATUS_OK) {
        error_set(ret_error, status, "cannot make the requests of a connection");
    } else if (options->kind == LOAD_CHANGE_STREAM) {
        status = open_stream(script, documents, descriptor, ret_error);
    }
    if (status != STATUS_OK) {
        script_free(script);
        return status;
    }
    script->operation = &script->steps.operations[0];
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

/* ------------------------------------------------------------------ requests */

static struct step *step_now(const struct script *script)
{
    return &script->steps.steps[script->step];
}

static uint64_t next_document(struct script *script, enum step_document document)
{
    switch (document) {
    case STEP_OWN: {
        uint32_t own = script->first + script->document * script->stride;
        script->document = (script->document + 1) % script->documents;
        return own;
    }
    case STEP_FIRST:
        return script->first;
    case STEP_HOT:
        return script->hot;
    case STEP_KEY:
        return script->key;
    case STEP_FROM:
        return script->from;
    case STEP_TO:
        return script->to;
    case STEP_NEW:
        return script->new_first + ++script->news;
    case STEP_NO_DOCUMENT:
        break;
    }
    return 0;
}

static uint64_t next_number(struct script *script, const struct step *step, enum patch_kind kind)
{
    switch (kind) {
    case PATCH_DOCUMENT:
        return next_document(script, step->document);
    case PATCH_VALUE:
        return (uint64_t)(script->values[step->account] + step->change);
    case PATCH_TRANSACTION:
    case PATCH_UNIT:
        return script->number;
    case PATCH_LIMIT:
        return 1 + chance_below(&script->keys->chance, STEPS_SCAN_MAX);
    case PATCH_CURSOR:
        return (uint64_t)script->cursor;
    }
    return 0;
}

/* Puts this step's numbers into its request. */
static void aim(struct script *script)
{
    struct step *step = step_now(script);
    if (step->answer == STEP_CALLED) {
        return;
    }
    slice_store_u32le(step->request.data + REQUEST_ID_OFFSET, ++script->request_id);
    for (uint32_t i = 0; i < step->patch_count; i++) {
        struct patch *patch = &step->patches[i];
        steps_patch(step, patch, next_number(script, step, patch->kind));
    }
}

/* What the next operation is, and what it is about. */
static void choose(struct script *script)
{
    struct steps *steps = &script->steps;
    struct chance *chance = &script->keys->chance;
    script->operation = &steps->operations[0];
    if (steps->operation_count > 1 && chance_below(chance, 100) >= steps->operations[0].percent) {
        script->operation = &steps->operations[1];
    }
    switch (script->operation->key) {
    case OPERATION_OWN:
        break;
    case OPERATION_POPULAR:
        script->key = keys_popular(script->keys);
        break;
    case OPERATION_LATEST:
        script->key = keys_latest(script->keys);
        break;
    case OPERATION_INSERT:
        script->key = keys_insert(script->keys);
        break;
    }
    if (script->kind == LOAD_CONTENDED) {
        script->hot = (script->hot + 1) % script->hot_count;
    } else if (script->kind == LOAD_ACCOUNTS) {
        script->from = chance_below(chance, script->hot_count);
        script->to =
            (script->from + 1 + chance_below(chance, script->hot_count - 1)) % script->hot_count;
    }
}

void script_begin(struct script *script, bool again)
{
    if (again) {
        script->document = script->operation_first;
    } else {
        choose(script);
    }
    script->operation_first = script->document;
    script->step = script->operation->first;
    script->number++; /* a transaction or unit that ended cannot be used again */
    aim(script);
}

struct slice script_request(const struct script *script)
{
    return buffer_slice(&step_now(script)->request);
}

/* ------------------------------------------------------------------ replies */

/* Takes the value of the first document. */
static bool found_one(struct script *script, const struct reply_view *view)
{
    struct slice elements;
    struct bson_element document;
    struct bson_element value;
    return bson_fields_open(view->batch, &elements) && bson_element_next(&elements, &document) &&
           bson_element_find(document.value, "value", &value) &&
           bson_element_integer(&value, &script->values[step_now(script)->account]);
}

/* NULL, or what is wrong with a reply that is not an error. */
static const char *fault(struct script *script, const struct reply_view *view)
{
    const struct step *step = step_now(script);
    switch (step->answer) {
    case STEP_FOUND:
        return found_one(script, view) ? NULL : "find: the document is not there";
    case STEP_CHANGED:
        return view->has_n && view->n == step->expected ? NULL
               : step->expected == 1                    ? "write: not one document was changed"
                                                        : "update: not all documents were changed";
    case STEP_OK:
    case STEP_EVENTS:
    case STEP_ABORTED:
    case STEP_CALLED:
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
static enum script_verdict try_again(struct script *script, const struct step *failed)
{
    if (failed->answer == STEP_OK || script->operation->abort == STEPS_NONE) {
        return SCRIPT_RETRY;
    }
    script->step = script->operation->abort;
    aim(script);
    return SCRIPT_CONTINUE;
}

static enum script_verdict next_step(struct script *script, const struct reply_view *view)
{
    bool empty = view->batch.size <= 5; /* an array without elements */
    if (step_now(script)->answer == STEP_EVENTS && empty) {
        aim(script);
        return SCRIPT_CONTINUE;
    }
    if (script->step < script->operation->last) {
        script->step++;
        aim(script);
        return SCRIPT_CONTINUE;
    }
    if (script->operation->key == OPERATION_INSERT) {
        keys_inserted(script->keys, script->key);
    }
    return SCRIPT_DONE;
}

enum script_verdict script_take(struct script *script, struct slice message,
                                struct error *ret_error)
{
    struct wire_header header;
    struct slice rest;
    struct op_msg parsed;
    struct reply_view view;
    const struct step *step = step_now(script);
    if (step->answer == STEP_CALLED) {
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
    if (step->answer == STEP_ABORTED) {
        return SCRIPT_RETRY;
    }
    if (!view.ok && view.is_transient && script->steps.is_unit) {
        return try_again(script, step);
    }
    if (!view.ok || view.has_write_errors || view.has_write_concern_error) {
        link_refused(&view, load_name(script->kind), ret_error);
        return SCRIPT_FAILED;
    }
    const char *what = fault(script, &view);
    if (what != NULL) {
        error_set(ret_error, STATUS_PROTOCOL, "%s", what);
        return SCRIPT_FAILED;
    }
    return next_step(script, &view);
}
