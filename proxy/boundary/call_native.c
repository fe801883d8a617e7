/*
 * A command of a service, as a part of the transaction that the unit of its open API call is on the
 * server (engine/native_unit.h). The unit is checked out; one command of it is at work at a time.
 *
 *   a write          in the transaction; whatever the server refuses ends it, and with it the unit:
 *                    the service gets the server's own answer, and NoSuchTransaction from there on.
 *                    The server does not see the number under which its driver may send it again,
 *                    after a lost answer: such a one is answered from the unit's memory
 *   a read           likewise. The transaction begins with the call's first command, be it one that
 *                    reads, so that all of the call is of one moment. `count`, which a transaction
 *                    does not take, is done as an aggregation
 *   getMore          of a cursor of the transaction in it, of any other one outside
 *   what creates or  outside, at once, unless the transaction has been there: it would wait for the
 *     drops          end of the call, and the call for it
 *   another user's   refused: a transaction is one user's. A write so refused ends the unit, for
 *                    else a part of the call would be committed
 *   of who has not   the server is asked first whether that matters: if so it is answered that, and
 *     logged in      the call goes on
 *
 * The connection's worker.
 */
#include <bson/bson.h>
#include <string.h>

#include "boundary/ending.h"
#include "boundary/request.h"
#include "engine/native_unit.h"
#include "holdfast/crash_point.h"
#include "read/read_command.h"
#include "wire/bson_check.h"
#include "wire/bson_walk.h"
#include "wire/reply.h"

/* ------------------------------------------------------------------ outside */

static void on_passed(void *context, enum status status, struct slice reply)
{
    struct boundary_request *request = context;
    ending_take_reply(request, status == STATUS_OK ? reply : (struct slice){0});
    ending_finish(request);
}

void call_native_pass(struct boundary_request *request)
{
    if (request->slot != NULL) { /* the call does not wait for it */
        domain_write_done(request->slot);
        request->slot = NULL;
    }
    request->channel->forward(request->channel, on_passed, request);
}

/* A read that is not of the unit: that is given back first, for it may take long. */
static void pass_beside(struct boundary_request *request)
{
    if (ending_check_in(request)) {
        request->unit_id = 0;
        call_native_pass(request);
    }
}

/* It creates or drops something: with the unit in hand, so that the transaction does not come there
   meanwhile. */
static void run_beside(struct boundary_request *request)
{
    bool any = request->part == CALL_PART_SERVER;
    if (native_unit_has_touched(request->unit, any ? NULL : request->view.database,
                                any ? NULL : request->view.collection)) {
        ending_fail(
            request, REPLY_CODE_OperationNotSupportedInTransaction, NULL,
            "the API call that is open has read or written there: create collections and indexes "
            "outside of calls, or before the call's first command there");
        return;
    }
    request->channel->forward(request->channel, on_passed, request);
}

/* ------------------------------------------------------------------ reads */

static void finish_read(struct boundary_request *request, struct slice reply)
{
    ending_take_reply(request, reply);
    ending_finish(request);
}

static void on_read(struct write_operation *operation, struct slice reply)
{
    finish_read(operation->context, reply);
}

/* { cursor: { firstBatch: [ { n } ] } } as count's { n }. False: it is an error, and stays one. */
static bool put_count(struct slice reply, bson_t *counted)
{
    bson_t view;
    bson_iter_t at;
    bson_iter_t first;
    bson_iter_t number;
    if (!bson_init_static(&view, reply.data, reply.size) || !bson_iter_init(&at, &view) ||
        !bson_iter_find_descendant(&at, "cursor.firstBatch", &first)) {
        return false;
    }
    bool some = bson_iter_init(&at, &view) &&
                bson_iter_find_descendant(&at, "cursor.firstBatch.0.n", &number);
    int64_t count = some ? bson_iter_as_int64(&number) : 0;
    if (count > INT32_MAX) {
        BSON_APPEND_INT64(counted, "n", count);
    } else {
        BSON_APPEND_INT32(counted, "n", (int32_t)count);
    }
    bson_copy_to_excluding_noinit(&view, counted, "cursor", "recoveryToken", NULL);
    return true;
}

static void on_counted(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    bson_t counted = BSON_INITIALIZER;
    bson_destroy(&request->kept);
    if (request->unit->state == UNIT_OPEN && put_count(reply, &counted)) {
        finish_read(request, slice_make(bson_get_data(&counted), counted.len));
    } else {
        finish_read(request, reply);
    }
    bson_destroy(&counted);
}

static void put_stage(bson_t *pipeline, uint32_t *index, const char *name, int64_t number)
{
    char text[16];
    const char *key;
    bson_t stage;
    bson_uint32_to_string((*index)++, &key, text, sizeof text);
    BSON_APPEND_DOCUMENT_BEGIN(pipeline, key, &stage);
    BSON_APPEND_INT64(&stage, name, number);
    bson_append_document_end(pipeline, &stage);
}

static void put_count_pipeline(const struct read_command *command, bson_t *pipeline)
{
    char text[16];
    const char *key;
    uint32_t index = 0;
    bson_t query = BSON_INITIALIZER;
    bson_t stage;
    bson_t group;
    bson_t sum;
    if (command->filter.size > 0 &&
        bson_init_static(&query, command->filter.data, command->filter.size)) {
        BSON_APPEND_DOCUMENT_BEGIN(pipeline, "0", &stage);
        BSON_APPEND_DOCUMENT(&stage, "$match", &query);
        bson_append_document_end(pipeline, &stage);
        index++;
    }
    if (command->skip > 0) {
        put_stage(pipeline, &index, "$skip", command->skip);
    }
    if (command->limit > 0) {
        put_stage(pipeline, &index, "$limit", command->limit);
    }
    bson_uint32_to_string(index, &key, text, sizeof text);
    BSON_APPEND_DOCUMENT_BEGIN(pipeline, key, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &group);
    BSON_APPEND_NULL(&group, "_id");
    BSON_APPEND_DOCUMENT_BEGIN(&group, "n", &sum);
    BSON_APPEND_INT32(&sum, "$sum", 1);
    bson_append_document_end(&group, &sum);
    bson_append_document_end(&stage, &group);
    bson_append_document_end(pipeline, &stage);
}

/* Into request->kept. False: it is not valid. */
static bool make_count(struct boundary_request *request, const struct read_command *command)
{
    static const char *const removed[] = {"count", "query", "skip", "limit", "fields", NULL};
    bson_t rest;
    bson_t pipeline;
    bson_t cursor;
    if (command->is_odd || command->collection == NULL ||
        command_copy_without(&rest, request->view.body, removed) != STATUS_OK) {
        return false;
    }
    bson_init(&request->kept);
    BSON_APPEND_UTF8(&request->kept, "aggregate", command->collection);
    BSON_APPEND_ARRAY_BEGIN(&request->kept, "pipeline", &pipeline);
    put_count_pipeline(command, &pipeline);
    bson_append_array_end(&request->kept, &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&request->kept, "cursor", &cursor);
    bson_append_document_end(&request->kept, &cursor);
    bson_concat(&request->kept, &rest);
    bson_destroy(&rest);
    return true;
}

/* What its transaction comes to, for run_beside(). */
static void touch(struct boundary_request *request, const struct read_command *command)
{
    native_unit_touch(request->unit, command->database, command->collection);
    for (size_t i = 0; i < command->other_count; i++) {
        native_unit_touch(request->unit, command->database, command->others[i]);
    }
    if (command->reads_anything) {
        native_unit_touch(request->unit, NULL, NULL);
    }
}

static void start_read(struct boundary_request *request, const struct command_view *view,
                       const struct op_msg *message,
                       void (*completed)(struct write_operation *, struct slice))
{
    ending_prepare_write(request, WRITE_ERRORS_ABORT, completed);
    native_unit_read(&request->write, view, message);
}

static void read_in_call(struct boundary_request *request)
{
    static const struct op_msg nothing_behind = {0};
    struct read_command command;
    struct command_view view;
    if (bson_check(request->view.body, NULL) != STATUS_OK ||
        read_command_parse(&request->view, &command) != STATUS_OK) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, "the command is not valid BSON");
        return;
    }
    if (command.kind == READ_GET_MORE && !unit_cursor_is_known(request->unit, command.cursor_id)) {
        pass_beside(request); /* somebody's in the service who reads beside the call */
        return;
    }
    touch(request, &command);
    if (command.kind != READ_COUNT) {
        start_read(request, &request->view, &request->message, on_read);
    } else if (!make_count(request, &command)) {
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, "an option of count is not valid");
    } else if (command_view_parse(slice_make(bson_get_data(&request->kept), request->kept.len),
                                  &view, NULL) != STATUS_OK) {
        bson_destroy(&request->kept);
        ending_fail(request, REPLY_CODE_FailedToParse, NULL, "an option of count is there twice");
    } else {
        start_read(request, &view, &nothing_behind, on_counted);
    }
}

/* ------------------------------------------------------------------ whose it is */

static void refuse_user(struct boundary_request *request)
{
    ending_set_error(request, REPLY_CODE_OperationNotSupportedInTransaction, NULL,
                     "the API call that is open has read or written as another user: on a replica "
                     "set or a cluster its unit is a transaction, which is one user's");
    if (request->part == CALL_PART_WRITE) {
        ending_roll_back(request, "two users wrote in it");
    } else {
        ending_finish(request);
    }
}

static void on_written(struct write_operation *operation, struct slice reply)
{
    struct boundary_request *request = operation->context;
    ending_take_reply(request, reply);
    if (request->unit->state != UNIT_OPEN || request->reply_lost || ending_keep_answer(request)) {
        call_write_replied(request);
    }
}

static void write_in_call(struct boundary_request *request)
{
    if (ending_answer_again(request)) {
        return;
    }
    ending_prepare_write(request, WRITE_ERRORS_ABORT, on_written);
    write_start(&request->write, &request->view, &request->message);
}

static void run(struct boundary_request *request)
{
    bool outside = request->part == CALL_PART_NAMESPACE || request->part == CALL_PART_SERVER;
    if (outside) {
        run_beside(request);
    } else if (native_unit_has_begun(request->unit)
                   ? strcmp(request->unit->user, request->user) != 0
                   : !unit_table_set_user(request->engine->units, request->unit, request->user)) {
        refuse_user(request);
    } else if (request->part == CALL_PART_READ) {
        read_in_call(request);
    } else {
        write_in_call(request);
    }
}

void call_native_run(struct boundary_request *request)
{
    if (request->user[0] == '\0' && !*request->authorized) {
        ending_ask_server(request, run);
    } else {
        run(request);
    }
}
