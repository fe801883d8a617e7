/*
 * One run of a cell with a target, and the metrics that it gives. What other processes used is told
 * by role:
 *
 *     pids of the run:   the target's (a proxy and its children) | the server's | --pid
 */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peer/journal.h"
#include "bench/scenario/crash_loss.h"
#include "bench/scenario/floor.h"
#include "bench/scenario/recovery.h"
#include "bench/suite.h"

#define PREPARE_NS 100000000u
#define END_MS 20000u

struct roles {
    size_t target; /* so many first ones */
    size_t server; /* behind them */
};

static void add_pid(struct load_options *load, pid_t pid)
{
    if (pid > 0 && load->pid_count < LOAD_PIDS_MAX) {
        load->pids[load->pid_count++] = pid;
    }
}

/* nginx works in processes of its own. */
static void add_children(struct load_options *load, pid_t pid)
{
    char path[64];
    char line[512];
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)pid, (long)pid);
    FILE *file = fopen(path, "re");
    char *at = file == NULL ? NULL : fgets(line, sizeof line, file);
    while (at != NULL && *at != '\0') {
        char *end = at;
        long child = strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        add_pid(load, (pid_t)child);
        at = end;
    }
    if (file != NULL) {
        fclose(file);
    }
}

static struct roles set_pids(struct targets *targets, struct target *target,
                             struct load_options *load)
{
    struct roles roles = {0};
    const struct load_options *given = &targets->options->load;
    load->pid_count = 0;
    add_pid(load, target->given_pid);
    if (target->child.pid > 0) {
        add_pid(load, target->child.pid);
        add_children(load, target->child.pid);
    }
    roles.target = load->pid_count;
    if (target->kind != TARGET_ADDRESS) {
        const struct server *server = target_server(targets, target);
        add_pid(load, server->instant.pid > 0 ? server->instant.pid : server->child.pid);
    }
    roles.server = load->pid_count - roles.target;
    for (size_t i = 0; i < given->pid_count; i++) {
        add_pid(load, given->pids[i]);
    }
    return roles;
}

/* Of processes from `first` on, in microseconds an operation; NaN: there are none. */
static double cpu_micros(const struct run_result *result, size_t first, size_t count)
{
    uint64_t ns = 0;
    for (size_t i = first; i < first + count; i++) {
        const struct run_process *process = &result->processes[i];
        ns += process->after.cpu_ns > process->before.cpu_ns
                  ? process->after.cpu_ns - process->before.cpu_ns
                  : 0;
    }
    return count == 0 || result->operations == 0 ? NAN
                                                 : (double)ns / 1e3 / (double)result->operations;
}

static double micros(const struct histogram *histogram, double percent)
{
    return histogram->count == 0 ? NAN : (double)histogram_percentile(histogram, percent) / 1e3;
}

static void put_latencies(const struct run_result *result, double *values)
{
    values[METRIC_P50] = micros(&result->latency, 50);
    values[METRIC_P90] = micros(&result->latency, 90);
    values[METRIC_P99] = micros(&result->latency, 99);
    values[METRIC_P999] = micros(&result->latency, 99.9);
    values[METRIC_MAX] = micros(&result->latency, 100);
    values[METRIC_SERVICE_P99] = micros(&result->service, 99);
}

static void put_memory(const struct load_options *load, const struct run_result *result,
                       size_t count, double *values)
{
    double after = 0;
    double grown = 0;
    for (size_t i = 0; i < count; i++) {
        after += (double)result->processes[i].after.rss_bytes;
        grown += (double)result->processes[i].after.rss_bytes -
                 (double)result->processes[i].at_start.rss_bytes;
    }
    if (count > 0) {
        values[METRIC_MEMORY] = after;
    }
    if (count > 0 && load->kind == LOAD_IDLE) {
        values[METRIC_IDLE_MEMORY] = fmax(0, grown) / load->connections;
    }
}

static void put_metrics(const struct load_options *load, const struct run_result *result,
                        struct roles roles, double *values)
{
    double seconds = (double)result->measured_ns / 1e9;
    put_memory(load, result, roles.target, values);
    if (load->kind == LOAD_IDLE) {
        return;
    }
    values[METRIC_THROUGHPUT] = seconds > 0 ? (double)result->operations / seconds : NAN;
    if (result->reply_bytes > 0) {
        values[METRIC_VOLUME] = values[METRIC_THROUGHPUT] * result->reply_bytes / 1e6;
    }
    put_latencies(result, values);
    values[METRIC_CPU] = cpu_micros(result, 0, roles.target);
    values[METRIC_SERVER_CPU] = cpu_micros(result, roles.target, roles.server);
    values[METRIC_OWN_CPU] = result->operations == 0
                                 ? NAN
                                 : (double)result->own_cpu_ns / 1e3 / (double)result->operations;
    if (result->retries > 0 && result->operations_total > 0) {
        values[METRIC_RETRIES] = (double)result->retries / (double)result->operations_total;
    }
}

static void note_errors(struct series *series, const struct run_result *result)
{
    if (series->errors == 0 && result->errors > 0) {
        snprintf(series->first_error, sizeof series->first_error, "%s", result->first_error);
    }
    series->errors += result->errors;
}

static enum status set_target(struct target *target, struct load_options *load,
                              struct error *ret_error)
{
    bool http = load->kind == LOAD_UNIT && load->boundary == LOAD_BOUNDARY_HTTP;
    if (http && target->http[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "--boundary http is for targets that are started; put `calls` on others");
    }
    load->target = http ? target->http : target->where;
    load->address = http ? target->http_address : target->address;
    return STATUS_OK;
}

/* Whether its operations are all writes; a probe now and then is no matter of others. */
static bool writes_only(enum load_kind kind)
{
    return kind == LOAD_POINT_WRITE || kind == LOAD_INSERT || kind == LOAD_UNIT ||
           kind == LOAD_CONTENDED || kind == LOAD_ACCOUNTS;
}

/* So that what earlier connections have left in its heap is not taken for nothing. */
static enum status start_afresh(struct targets *targets, struct target *target,
                                struct error *ret_error)
{
    child_end(&target->child, SIGTERM, END_MS);
    return target_start(targets, target, ret_error);
}

static enum status run_load(struct suite *suite, struct cell *cell, struct series *series,
                            struct target *target, struct outcome *outcome, struct error *ret_error)
{
    struct load_options load = cell->load;
    struct journal_state before;
    struct journal_state after;
    struct run_result *result = suite->scratch;
    enum status status = set_target(target, &load, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (load.kind == LOAD_IDLE && target->child.pid > 0) {
        status = start_afresh(suite->targets, target, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    struct roles roles = set_pids(suite->targets, target, &load);
    bool journal = writes_only(load.kind) && journal_look(suite->targets, target, &before);
    status = run(&load, suite->watcher, result, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    put_metrics(&load, result, roles, outcome->values);
    if (journal && journal_look(suite->targets, target, &after) && result->operations_total > 0 &&
        after.commits > before.commits) {
        double operations = (double)result->operations_total;
        outcome->values[METRIC_JOURNAL_BYTES] = (after.bytes - before.bytes) / operations;
        outcome->values[METRIC_JOURNAL_COMMITS] = (after.commits - before.commits) / operations;
    }
    histogram_merge(series->latency, &result->latency);
    note_errors(series, result);
    return STATUS_OK;
}

enum status measure_prepare(struct suite *suite, const struct cell *cell, struct target *target,
                            struct error *ret_error)
{
    struct load_options load = cell->load;
    if (!load_has_operations(load.kind)) {
        return STATUS_OK;
    }
    enum status status = set_target(target, &load, ret_error);
    load.seconds_ns = PREPARE_NS;
    load.warmup_ns = 0;
    load.rate = 0;
    load.pid_count = 0;
    return status == STATUS_OK ? run(&load, NULL, suite->scratch, ret_error) : status;
}

enum status measure(struct suite *suite, struct cell *cell, size_t number, struct target *target,
                    struct outcome *ret_outcome, struct error *ret_error)
{
    struct series *series = &cell->series[number];
    switch (cell->load.kind) {
    case LOAD_FLOOR:
        return floor_measure(suite, cell, number == 1, series, ret_outcome, ret_error);
    case LOAD_RECOVERY:
        return recovery_measure(suite, cell, target, series, ret_outcome, ret_error);
    case LOAD_CRASH_LOSS:
        return crash_loss_measure(suite, cell, target, series, ret_outcome, ret_error);
    default:
        return run_load(suite, cell, series, target, ret_outcome, ret_error);
    }
}
