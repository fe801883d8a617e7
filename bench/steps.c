/* See steps.h. */
#include "bench/steps.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "bench/commands.h"
#include "wire/op_msg.h"

#define REQUEST_BYTES_MAX 4096u
#define UNIT_UPDATES 3u
#define BODY_OFFSET (WIRE_HEADER_BYTES + 5u) /* flags and the section's kind */

/* Destroys the command. */
static enum status put(struct steps *steps, enum step_kind kind, bson_t *command)
{
    struct step *step = &steps->steps[steps->count];
    assert(steps->count < STEPS_MAX);
    step->kind = kind;
    buffer_init(&step->request, REQUEST_BYTES_MAX);
    steps->last = steps->count++;
    enum status status =
        op_msg_append(&step->request, 0, 0, 0, slice_make(bson_get_data(command), command->len));
    bson_destroy(command);
    return status;
}

/* ------------------------------------------------------------------ transactions */

struct session {
    uint8_t id[COMMANDS_SESSION_BYTES];
};

static enum status begin_session(struct steps *steps, struct session *session)
{
    steps->is_transaction = true;
    if (getrandom(session->id, sizeof session->id, 0) != (ssize_t)sizeof session->id) {
        return STATUS_IO;
    }
    session->id[6] = (uint8_t)(0x40 | (session->id[6] & 0x0f)); /* a random UUID, RFC 4122 */
    session->id[8] = (uint8_t)(0x80 | (session->id[8] & 0x3f));
    return STATUS_OK;
}

static enum status put_in_transaction(struct steps *steps, enum step_kind kind, bson_t *command,
                                      const struct session *session)
{
    if (steps->serializable && steps->count == 0) {
        commands_put_serializable(command);
    }
    commands_put_transaction(command, session->id, steps->count == 0);
    return put(steps, kind, command);
}

static enum status put_increment(struct steps *steps, enum step_kind kind, const char *collection,
                                 const struct session *session)
{
    bson_t command = BSON_INITIALIZER;
    commands_increment(&command, collection);
    return put_in_transaction(steps, kind, &command, session);
}

static enum status put_end(struct steps *steps, enum step_kind kind, const struct session *session)
{
    bson_t command = BSON_INITIALIZER;
    commands_end(&command, kind == STEP_COMMIT ? "commitTransaction" : "abortTransaction",
                 session->id);
    return put(steps, kind, &command);
}

static enum status put_unit(struct steps *steps, const char *collection)
{
    struct session session;
    enum status status = begin_session(steps, &session);
    for (uint32_t i = 0; i < UNIT_UPDATES && status == STATUS_OK; i++) {
        status = put_increment(steps, STEP_WRITE, collection, &session);
    }
    return status == STATUS_OK ? put_end(steps, STEP_COMMIT, &session) : status;
}

static enum status put_read_and_set(struct steps *steps, const char *collection, bool by_filter,
                                    const struct session *session)
{
    bson_t find = BSON_INITIALIZER;
    if (by_filter) {
        commands_find_by_filter(&find, collection);
    } else {
        commands_find_one(&find, collection);
    }
    enum status status =
        put_in_transaction(steps, by_filter ? STEP_FILTER_HOT : STEP_READ_HOT, &find, session);
    if (status != STATUS_OK) {
        return status;
    }
    bson_t set = BSON_INITIALIZER;
    commands_set(&set, collection);
    return put_in_transaction(steps, STEP_WRITE_HOT, &set, session);
}

static enum status put_contended(struct steps *steps, const char *collection,
                                 const struct bench_options *options)
{
    struct session session;
    enum status status = begin_session(steps, &session);
    if (status == STATUS_OK) {
        status = options->blind ? put_increment(steps, STEP_WRITE_HOT, collection, &session)
                                : put_read_and_set(steps, collection, options->by_filter, &session);
    }
    if (status == STATUS_OK) {
        status = put_increment(steps, STEP_WRITE, collection, &session);
    }
    if (status == STATUS_OK) {
        status = put_end(steps, STEP_COMMIT, &session);
    }
    if (status == STATUS_OK) {
        status = put_end(steps, STEP_ABORT, &session);
        steps->last--;
    }
    return status;
}

/* ------------------------------------------------------------------ others */

static enum status put_plain_increment(struct steps *steps, enum step_kind kind,
                                       const char *collection)
{
    bson_t command = BSON_INITIALIZER;
    commands_increment(&command, collection);
    return put(steps, kind, &command);
}

static enum status put_call(struct steps *steps, const struct bench_options *options)
{
    char text[1024];
    bool reads = strcmp(options->method, "GET") == 0;
    int size =
        snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %.300s\r\n%s", options->method,
                 options->path, options->target,
                 reads ? "\r\n" : "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    assert(size > 0 && (size_t)size < sizeof text); /* options.c bounds its parts */
    steps->steps[0].kind = STEP_CALL;
    steps->count = 1;
    buffer_init(&steps->steps[0].request, REQUEST_BYTES_MAX);
    return buffer_append(&steps->steps[0].request, text, (size_t)size);
}

enum status steps_make(const struct bench_options *options, const struct documents *documents,
                       uint32_t number, struct steps *steps)
{
    const char *collection = documents->collection;
    bson_t command = BSON_INITIALIZER;
    steps->serializable = options->serializable;
    switch (options->load) {
    case BENCH_LOAD_POINT_READ:
        commands_find_one(&command, collection);
        return put(steps, STEP_READ, &command);
    case BENCH_LOAD_LARGE_READ:
        commands_find_all(&command, collection, documents->count);
        return put(steps, STEP_READ_ALL, &command);
    case BENCH_LOAD_POINT_WRITE:
        return put_plain_increment(steps, STEP_WRITE, collection);
    case BENCH_LOAD_UNIT:
        return put_unit(steps, collection);
    case BENCH_LOAD_CONTENDED:
        return number < options->plain ? put_plain_increment(steps, STEP_WRITE_HOT, collection)
                                       : put_contended(steps, collection, options);
    case BENCH_LOAD_CALLS:
        return put_call(steps, options);
    case BENCH_LOAD_IDLE: /* says nothing */
        break;
    }
    return STATUS_INVALID;
}

void steps_free(struct steps *steps)
{
    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        buffer_free(&steps->steps[i].request);
    }
}

const char *step_kind_document(enum step_kind kind)
{
    switch (kind) {
    case STEP_READ:
    case STEP_READ_HOT:
        return "filter._id";
    case STEP_FILTER_HOT:
        return "filter.$or.0._id";
    case STEP_WRITE:
    case STEP_WRITE_HOT:
        return "updates.0.q._id";
    case STEP_READ_ALL:
    case STEP_COMMIT:
    case STEP_ABORT:
    case STEP_CALL:
        break;
    }
    return NULL;
}

bool steps_body(const struct step *step, bson_t *ret_body)
{
    return bson_init_static(ret_body, step->request.data + BODY_OFFSET,
                            step->request.size - BODY_OFFSET);
}
