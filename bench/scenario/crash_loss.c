/*
 * See crash_loss.h. Connection c writes the documents c, c + n, c + 2n, …, of each unit the next
 * ones, and has one unit at work: so the sum of its documents' values grows by `writes` for each
 * unit that is there whole.
 */
#include "bench/scenario/crash_loss.h"

#include <bson/bson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/commands.h"
#include "bench/load/documents.h"
#include "bench/load/link.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"

/* When it is killed: after so many looks of the watcher, a quarter of a second each. */
#define LOOKS_MIN 2u
#define LOOKS_VARY 3u
#define RUN_NS_MAX 60000000000u

struct killer {
    struct targets *targets;
    struct target *target;
    uint32_t looks_left;
};

static void kill_in_time(void *context, uint64_t operations, uint64_t operations_a_second)
{
    struct killer *killer = context;
    (void)operations_a_second;
    if (operations == 0 || --killer->looks_left > 0) {
        return;
    }
    (void)kill(target_server(killer->targets, killer->target)->child.pid, SIGKILL);
    if (killer->target->child.pid > 0) {
        (void)kill(killer->target->child.pid, SIGKILL);
    }
}

static bool add_values(struct slice batch, uint32_t connections, int64_t *sums)
{
    struct slice elements;
    struct bson_element document;
    struct bson_element field;
    int64_t id;
    int64_t value;
    if (!bson_fields_open(batch, &elements)) {
        return false;
    }
    while (bson_element_next(&elements, &document)) {
        if (!bson_element_find(document.value, "_id", &field) ||
            !bson_element_integer(&field, &id) || id < 0 ||
            !bson_element_find(document.value, "value", &field) ||
            !bson_element_integer(&field, &value)) {
            return false;
        }
        sums[(uint64_t)id % connections] += value;
    }
    return elements.size == 0;
}

/* Asks the server itself. */
static enum status read_sums(const struct target *target, const struct load_options *load,
                             int64_t *sums, struct error *ret_error)
{
    struct network_address address;
    struct documents documents;
    struct buffer reply;
    struct reply_view view;
    int descriptor;
    enum status status = network_address_resolve(target->upstream, &address, ret_error);
    if (status == STATUS_OK) {
        status = link_open(&address, &descriptor, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bson_t command = BSON_INITIALIZER;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    memset(sums, 0, load->connections * sizeof *sums);
    status = documents_prepare(load, descriptor, &documents, ret_error);
    if (status == STATUS_OK) {
        commands_find_all(&command, documents.collection, documents.count);
        status = link_ask(descriptor, &command, "find", &reply, &view, ret_error);
    }
    if (status == STATUS_OK && !add_values(view.batch, load->connections, sums)) {
        status = error_set(ret_error, STATUS_PROTOCOL, "find: the documents are not as expected");
    }
    bson_destroy(&command);
    buffer_free(&reply);
    (void)close(descriptor);
    return status;
}

static enum status restart(struct suite *suite, struct target *target, struct error *ret_error)
{
    struct targets *targets = suite->targets;
    child_end(&target_server(targets, target)->child, SIGKILL, 0);
    child_end(&target->child, SIGKILL, 0);
    enum status status = target_server_start(targets, target, ret_error);
    return status == STATUS_OK ? target_start(targets, target, ret_error) : status;
}

/* One kill; adds to what was lost and torn. */
static enum status kill_once(struct suite *suite, struct target *target,
                             const struct load_options *load, uint32_t looks, int64_t *before,
                             int64_t *after, uint64_t *lost, uint64_t *torn,
                             struct error *ret_error)
{
    struct killer killer = {suite->targets, target, looks};
    const struct run_watcher watcher = {.tell = kill_in_time, .context = &killer};
    enum status status = read_sums(target, load, before, ret_error);
    memset(load->acknowledged, 0, load->connections * sizeof *load->acknowledged);
    if (status == STATUS_OK) {
        status = run(load, &watcher, suite->scratch, ret_error);
    }
    if (status == STATUS_OK) {
        status = restart(suite, target, ret_error);
    }
    if (status == STATUS_OK) {
        status = read_sums(target, load, after, ret_error);
    }
    for (uint32_t i = 0; i < load->connections && status == STATUS_OK; i++) {
        int64_t grown = after[i] - before[i];
        int64_t whole = grown / (int64_t)load->writes;
        int64_t acknowledged = (int64_t)load->acknowledged[i];
        *lost += whole < acknowledged ? (uint64_t)(acknowledged - whole) : 0;
        *torn += grown % (int64_t)load->writes != 0 ? 1 : 0;
    }
    return status;
}

static enum status kill_all(struct suite *suite, struct target *target,
                            const struct load_options *load, struct outcome *outcome,
                            struct error *ret_error)
{
    uint32_t kills = suite->options->kills;
    uint64_t lost = 0;
    uint64_t torn = 0;
    int64_t *before = calloc(load->connections, sizeof *before);
    int64_t *after = calloc(load->connections, sizeof *after);
    enum status status = before == NULL || after == NULL
                             ? error_set(ret_error, STATUS_MEMORY, "out of memory")
                             : STATUS_OK;
    for (uint32_t i = 0; i < kills && status == STATUS_OK && !run_interrupted; i++) {
        status = kill_once(suite, target, load, LOOKS_MIN + i % LOOKS_VARY, before, after, &lost,
                           &torn, ret_error);
    }
    free(before);
    free(after);
    if (status == STATUS_OK) {
        outcome->values[METRIC_LOST] = (double)lost / kills;
        outcome->values[METRIC_TORN] = (double)torn / kills;
    }
    return status;
}

enum status crash_loss_measure(struct suite *suite, const struct cell *cell, struct target *target,
                               struct series *series, struct outcome *ret_outcome,
                               struct error *ret_error)
{
    struct load_options load = cell->load;
    (void)series;
    if (load.boundary == LOAD_BOUNDARY_HTTP) {
        return error_set(ret_error, STATUS_INVALID, "--boundary http: not of crash-loss");
    }
    const struct server *server = target_server(suite->targets, target);
    if (target->kind == TARGET_ADDRESS || server->child.pid <= 0 || server->instant.pid > 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "its server must be one that is started, and no fake");
    }
    load.kind = LOAD_UNIT;
    load.target = target->where;
    load.address = target->address;
    load.seconds_ns = RUN_NS_MAX;
    load.warmup_ns = 0;
    load.pid_count = 0;
    load.acknowledged = calloc(load.connections, sizeof *load.acknowledged);
    if (load.acknowledged == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = kill_all(suite, target, &load, ret_outcome, ret_error);
    free(load.acknowledged);
    return status;
}
