/*
 * See steps.h. Which steps a load has.
 *
 * contended and accounts are a driver's loop, which aborts before it tries again:
 *
 *     find a hot one --> set its value --> increment one's own --> commit --> done
 *          `-----------------`--- try again ---------'--> abort --> begin again
 *
 * Values are set and not incremented, so that a stale one that was read shows in the sum.
 */
#include "bench/load/steps.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bench/load/commands.h"
#include "bench/load/patches.h"
#include "bench/stub/service.h"
#include "wire/op_msg.h"

#define REQUEST_BYTES_MAX 65536u
#define YCSB_INSERT_TEXT 160

struct maker {
    struct steps *steps;
    const struct load_options *options;
    const struct documents *documents;
    uint8_t session[COMMANDS_SESSION_BYTES];
    bool begun; /* a command of the transaction is there */
};

/* ------------------------------------------------------------------ one step */

static enum status grow(struct steps *steps, struct step **ret_step)
{
    struct step *more = realloc(steps->steps, (steps->count + 1) * sizeof *steps->steps);
    if (more == NULL) {
        return STATUS_MEMORY;
    }
    steps->steps = more;
    *ret_step = &more[steps->count++];
    **ret_step = (struct step){.expected = 1};
    buffer_init(&(*ret_step)->request, REQUEST_BYTES_MAX);
    return STATUS_OK;
}

/* Destroys the command. */
static enum status put(struct steps *steps, enum step_answer answer, enum step_document document,
                       bson_t *command)
{
    struct step *step;
    enum status status = grow(steps, &step);
    if (status == STATUS_OK) {
        step->answer = answer;
        step->document = document;
        status = op_msg_append(&step->request, 0, 0, 0,
                               slice_make(bson_get_data(command), command->len));
    }
    bson_destroy(command);
    return status == STATUS_OK ? patches_find(step) : status;
}

static struct step *last_step(struct steps *steps)
{
    return &steps->steps[steps->count - 1];
}

/* The steps from `first` to the last one are an operation. */
static void operation(struct steps *steps, uint32_t first, uint32_t percent, enum operation_key key)
{
    assert(steps->operation_count < STEPS_OPERATIONS_MAX);
    steps->operations[steps->operation_count++] =
        (struct operation){first, steps->count - 1, STEPS_NONE, percent, key};
}

/* ------------------------------------------------------------------ transactions */

static enum status begin_session(struct maker *maker)
{
    maker->steps->is_unit = true;
    if (getrandom(maker->session, sizeof maker->session, 0) != (ssize_t)sizeof maker->session) {
        return STATUS_IO;
    }
    maker->session[6] = (uint8_t)(0x40 | (maker->session[6] & 0x0f)); /* a random UUID, RFC 4122 */
    maker->session[8] = (uint8_t)(0x80 | (maker->session[8] & 0x3f));
    return STATUS_OK;
}

static enum status put_in_transaction(struct maker *maker, enum step_answer answer,
                                      enum step_document document, bson_t *command)
{
    if (maker->options->serializable && !maker->begun) {
        commands_put_serializable(command);
    }
    commands_put_transaction(command, maker->session, !maker->begun);
    maker->begun = true;
    return put(maker->steps, answer, document, command);
}

static enum status put_increment(struct maker *maker, enum step_document document)
{
    bson_t command = BSON_INITIALIZER;
    commands_increment(&command, maker->documents->collection);
    return put_in_transaction(maker, STEP_CHANGED, document, &command);
}

static enum status put_end(struct maker *maker, bool commit)
{
    bson_t command = BSON_INITIALIZER;
    commands_end(&command, commit ? "commitTransaction" : "abortTransaction", maker->session);
    return put(maker->steps, commit ? STEP_OK : STEP_ABORTED, STEP_NO_DOCUMENT, &command);
}

/* commitTransaction ends the only operation; behind it stands what aborts it. */
static enum status put_ends(struct maker *maker)
{
    enum status status = put_end(maker, true);
    if (status == STATUS_OK) {
        operation(maker->steps, 0, 100, OPERATION_OWN);
        maker->steps->operations[0].abort = maker->steps->count;
        status = put_end(maker, false);
    }
    return status;
}

static enum status put_read(struct maker *maker, enum step_document document, uint32_t account)
{
    bson_t find = BSON_INITIALIZER;
    if (maker->options->by_filter) {
        commands_find_by_filter(&find, maker->documents->collection);
    } else {
        commands_find_one(&find, maker->documents->collection);
    }
    enum status status = put_in_transaction(maker, STEP_FOUND, document, &find);
    if (status == STATUS_OK) {
        last_step(maker->steps)->account = account;
    }
    return status;
}

static enum status put_set(struct maker *maker, enum step_document document, uint32_t account,
                           int32_t change)
{
    bson_t set = BSON_INITIALIZER;
    commands_set(&set, maker->documents->collection);
    enum status status = put_in_transaction(maker, STEP_CHANGED, document, &set);
    if (status == STATUS_OK) {
        last_step(maker->steps)->account = account;
        last_step(maker->steps)->change = change;
    }
    return status;
}

static enum status put_contended(struct maker *maker)
{
    enum status status = begin_session(maker);
    if (status == STATUS_OK && maker->options->blind) {
        status = put_increment(maker, STEP_HOT);
    } else if (status == STATUS_OK) {
        status = put_read(maker, STEP_HOT, 0);
        status = status == STATUS_OK ? put_set(maker, STEP_HOT, 0, 1) : status;
    }
    if (status == STATUS_OK) {
        status = put_increment(maker, STEP_OWN);
    }
    return status == STATUS_OK ? put_ends(maker) : status;
}

static enum status put_accounts(struct maker *maker)
{
    enum status status = begin_session(maker);
    status = status == STATUS_OK ? put_read(maker, STEP_FROM, 0) : status;
    status = status == STATUS_OK ? put_read(maker, STEP_TO, 1) : status;
    status = status == STATUS_OK ? put_set(maker, STEP_FROM, 0, -1) : status;
    status = status == STATUS_OK ? put_set(maker, STEP_TO, 1, 1) : status;
    return status == STATUS_OK ? put_ends(maker) : status;
}

/* ------------------------------------------------------------------ units */

static enum status put_plain_increments(struct maker *maker, uint32_t count,
                                        enum step_document document)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        bson_t command = BSON_INITIALIZER;
        commands_increment(&command, maker->documents->collection);
        status = put(maker->steps, STEP_CHANGED, document, &command);
    }
    return status;
}

static enum status put_transaction(struct maker *maker)
{
    enum status status = begin_session(maker);
    for (uint32_t i = 0; i < maker->options->writes && status == STATUS_OK; i++) {
        status = put_increment(maker, STEP_OWN);
    }
    return status == STATUS_OK ? put_end(maker, true) : status;
}

/* Unique among all connections of all runs: random bytes, then the number that changes. */
static enum status put_in_comments(struct maker *maker)
{
    char name[COMMANDS_SESSION_BYTES * 2 + PATCHES_UNIT_DIGITS + 8];
    uint64_t random[2];
    enum status status = STATUS_OK;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return STATUS_IO;
    }
    snprintf(name, sizeof name, "%016" PRIx64 "%016" PRIx64 "-%0*d", random[0], random[1],
             (int)PATCHES_UNIT_DIGITS, 0);
    maker->steps->is_unit = true;
    for (uint32_t i = 0; i < maker->options->writes && status == STATUS_OK; i++) {
        bson_t command = BSON_INITIALIZER;
        commands_increment(&command, maker->documents->collection);
        commands_put_unit(&command, name, i == 0, i + 1 == maker->options->writes);
        status = put(maker->steps, STEP_CHANGED, STEP_OWN, &command);
    }
    return status;
}

static enum status put_single(struct maker *maker)
{
    bson_t command = BSON_INITIALIZER;
    commands_increment_many(&command, maker->documents->collection, maker->options->writes);
    enum status status = put(maker->steps, STEP_CHANGED, STEP_OWN, &command);
    if (status == STATUS_OK) {
        last_step(maker->steps)->expected = maker->options->writes;
    }
    return status;
}

static enum status put_call(struct maker *maker)
{
    char text[1024];
    const struct load_options *options = maker->options;
    struct step *step;
    bool reads = strcmp(options->method, "GET") == 0;
    char path[32];
    snprintf(path, sizeof path, SERVICE_WRITES_PATH "%u", options->writes);
    int size =
        snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %.300s\r\n%s", options->method,
                 options->kind == LOAD_UNIT ? path : options->path, options->target,
                 reads ? "\r\n" : "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    assert(size > 0 && (size_t)size < sizeof text); /* options.c bounds its parts */
    enum status status = grow(maker->steps, &step);
    if (status == STATUS_OK) {
        step->answer = STEP_CALLED;
        status = buffer_append(&step->request, text, (size_t)size);
    }
    return status;
}

static enum status put_unit(struct maker *maker)
{
    switch (maker->options->boundary) {
    case LOAD_BOUNDARY_PLAIN:
        return put_plain_increments(maker, maker->options->writes, STEP_OWN);
    case LOAD_BOUNDARY_DRIVER:
        return put_transaction(maker);
    case LOAD_BOUNDARY_COMMENT:
        return put_in_comments(maker);
    case LOAD_BOUNDARY_SINGLE:
        return put_single(maker);
    case LOAD_BOUNDARY_HTTP:
        return put_call(maker);
    case LOAD_BOUNDARY_COUNT:
        break;
    }
    return STATUS_INVALID;
}

/* ------------------------------------------------------------------ others */

static enum status put_find(struct maker *maker, enum step_document document)
{
    bson_t command = BSON_INITIALIZER;
    commands_find_one(&command, maker->documents->collection);
    return put(maker->steps, STEP_FOUND, document, &command);
}

static enum status put_find_all(struct maker *maker)
{
    bson_t command = BSON_INITIALIZER;
    commands_find_all(&command, maker->documents->collection, maker->documents->count);
    return put(maker->steps, STEP_FOUND, STEP_NO_DOCUMENT, &command);
}

static enum status put_scan(struct maker *maker)
{
    bson_t command = BSON_INITIALIZER;
    commands_scan(&command, maker->documents->collection, STEPS_SCAN_MAX);
    enum status status = put(maker->steps, STEP_FOUND, STEP_KEY, &command);
    return status == STATUS_OK ? patches_find_limit(last_step(maker->steps)) : status;
}

static enum status put_insert(struct maker *maker, enum step_document document)
{
    char text[YCSB_INSERT_TEXT + 1];
    bson_t command = BSON_INITIALIZER;
    memset(text, 'h', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    commands_insert(&command, maker->documents->collection, document == STEP_NEW, text);
    return put(maker->steps, STEP_CHANGED, document, &command);
}

/* The value that was read, by one more. */
static enum status put_write_back(struct maker *maker)
{
    bson_t command = BSON_INITIALIZER;
    commands_set(&command, maker->documents->collection);
    enum status status = put(maker->steps, STEP_CHANGED, STEP_KEY, &command);
    if (status == STATUS_OK) {
        last_step(maker->steps)->change = 1;
    }
    return status;
}

static enum status put_ycsb(struct maker *maker)
{
    static const struct {
        uint32_t percent; /* of the first operation: a read, or a scan */
        enum operation_key key;
    } mixes[] = {
        [0] = {50, OPERATION_POPULAR},
        [LOAD_YCSB_B - LOAD_YCSB_A] = {95, OPERATION_POPULAR},
        [LOAD_YCSB_C - LOAD_YCSB_A] = {100, OPERATION_POPULAR},
        [LOAD_YCSB_D - LOAD_YCSB_A] = {95, OPERATION_LATEST},
        [LOAD_YCSB_E - LOAD_YCSB_A] = {95, OPERATION_POPULAR},
        [LOAD_YCSB_F - LOAD_YCSB_A] = {50, OPERATION_POPULAR},
    };
    enum load_kind kind = maker->options->kind;
    uint32_t percent = mixes[kind - LOAD_YCSB_A].percent;
    enum operation_key key = mixes[kind - LOAD_YCSB_A].key;
    enum status status = kind == LOAD_YCSB_E ? put_scan(maker) : put_find(maker, STEP_KEY);
    if (status != STATUS_OK) {
        return status;
    }
    operation(maker->steps, 0, percent, key);
    if (percent == 100) {
        return STATUS_OK;
    }
    if (kind == LOAD_YCSB_D || kind == LOAD_YCSB_E) {
        key = OPERATION_INSERT;
        status = put_insert(maker, STEP_KEY);
    } else if (kind == LOAD_YCSB_F) {
        status = put_find(maker, STEP_KEY);
        status = status == STATUS_OK ? put_write_back(maker) : status;
    } else {
        status = put_plain_increments(maker, 1, STEP_KEY);
    }
    if (status == STATUS_OK) {
        operation(maker->steps, 1, 100 - percent, key);
    }
    return status;
}

static enum status put_change_stream(struct maker *maker)
{
    bson_t command = BSON_INITIALIZER;
    enum status status = put_plain_increments(maker, 1, STEP_FIRST);
    if (status != STATUS_OK) {
        return status;
    }
    commands_get_more(&command, maker->documents->collection);
    return put(maker->steps, STEP_EVENTS, STEP_NO_DOCUMENT, &command);
}

static enum status put_load(struct maker *maker, uint32_t number)
{
    const struct load_options *options = maker->options;
    switch (options->kind) {
    case LOAD_POINT_READ:
        return put_find(maker, STEP_OWN);
    case LOAD_LARGE_READ:
        return put_find_all(maker);
    case LOAD_POINT_WRITE:
        return put_plain_increments(maker, 1, STEP_OWN);
    case LOAD_INSERT:
        return put_insert(maker, STEP_NEW);
    case LOAD_YCSB_A:
    case LOAD_YCSB_B:
    case LOAD_YCSB_C:
    case LOAD_YCSB_D:
    case LOAD_YCSB_E:
    case LOAD_YCSB_F:
        return put_ycsb(maker);
    case LOAD_CHANGE_STREAM:
        return put_change_stream(maker);
    case LOAD_UNIT:
        return put_unit(maker);
    case LOAD_CONTENDED:
        return number < options->plain ? put_plain_increments(maker, 1, STEP_HOT)
                                       : put_contended(maker);
    case LOAD_ACCOUNTS:
        return put_accounts(maker);
    case LOAD_CALLS:
        return put_call(maker);
    case LOAD_IDLE: /* these say nothing */
    case LOAD_FLOOR:
    case LOAD_RECOVERY:
    case LOAD_CRASH_LOSS:
    case LOAD_COUNT:
        break;
    }
    return STATUS_INVALID;
}

enum status steps_make(const struct load_options *options, const struct documents *documents,
                       uint32_t number, struct steps *steps)
{
    struct maker maker = {.steps = steps, .options = options, .documents = documents};
    enum status status = put_load(&maker, number);
    if (status == STATUS_OK && steps->operation_count == 0) {
        operation(steps, 0, 100, OPERATION_OWN);
    }
    return status;
}

void steps_free(struct steps *steps)
{
    for (uint32_t i = 0; i < steps->count; i++) {
        buffer_free(&steps->steps[i].request);
        free(steps->steps[i].patches);
    }
    free(steps->steps);
    *steps = (struct steps){0};
}
