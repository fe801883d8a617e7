/*
 * See run.h. One thread, one epoll set; what becomes of a connection is in run_connection.c.
 *
 *     WARMUP --time--> MEASURED --time--> DRAIN --nothing at work, or 10 s--> over
 */
#include "bench/load/run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/load/commands.h"
#include "bench/load/link.h"
#include "bench/load/nanoseconds.h"
#include "bench/load/run_private.h"
#include "holdfast/limits.h"
#include "net/descriptors.h"

#define DRAIN_NS_MAX 10000000000u
#define EVENTS_AT_A_TIME 64
#define SPARE_DESCRIPTORS 32u
#define NS_PER_MS 1000000u
#define TELL_EVERY_NS 250000000u

/* When processes are looked at; see struct run_process. */
enum moment {
    MOMENT_START,
    MOMENT_BEFORE,
    MOMENT_AFTER,
};

volatile sig_atomic_t run_interrupted;

void run_count_error(struct bench *bench, const char *message)
{
    struct run_result *result = bench->result;
    if (result->errors++ == 0) {
        snprintf(result->first_error, sizeof result->first_error, "%s", message);
    }
}

/* ------------------------------------------------------------------ processes */

/* Looks at all; the result is the last failure. What cannot be read stays 0. */
static enum status look_at_processes(struct bench *bench, enum moment moment,
                                     struct error *ret_error)
{
    const struct load_options *options = bench->options;
    enum status result = STATUS_OK;
    for (size_t i = 0; i < options->pid_count; i++) {
        struct run_process *process = &bench->result->processes[i];
        struct process_usage *usages[] = {
            [MOMENT_START] = &process->at_start,
            [MOMENT_BEFORE] = &process->before,
            [MOMENT_AFTER] = &process->after,
        };
        process->pid = options->pids[i];
        enum status status = process_usage_read(process->pid, usages[moment], ret_error);
        result = status == STATUS_OK ? result : status;
    }
    return result;
}

static void look_again(struct bench *bench, enum moment moment)
{
    struct error error = {0};
    if (look_at_processes(bench, moment, &error) != STATUS_OK) {
        run_count_error(bench, error.message);
    }
}

/* ------------------------------------------------------------------ phases */

static void phase_set(struct bench *bench, enum phase phase, uint64_t now)
{
    struct run_result *result = bench->result;
    bench->phase = phase;
    if (bench->is_open && phase == PHASE_MEASURED && now > bench->phase_end_ns) {
        now = bench->phase_end_ns; /* so that exactly rate times seconds are meant to begin */
    }
    switch (phase) {
    case PHASE_WARMUP:
        bench->phase_end_ns = now + bench->options->warmup_ns;
        break;
    case PHASE_MEASURED:
        look_again(bench, MOMENT_BEFORE);
        bench->own_cpu_before_ns = nanoseconds_of(CLOCK_PROCESS_CPUTIME_ID);
        bench->measured_from_ns = now;
        bench->phase_end_ns = now + bench->options->seconds_ns;
        bench->pace.end_ns = bench->phase_end_ns;
        break;
    case PHASE_DRAIN:
        look_again(bench, MOMENT_AFTER);
        result->own_cpu_ns = nanoseconds_of(CLOCK_PROCESS_CPUTIME_ID) - bench->own_cpu_before_ns;
        result->measured_ns = now - bench->measured_from_ns;
        bench->phase_end_ns = now + DRAIN_NS_MAX;
        break;
    }
}

void run_advance(struct bench *bench, uint64_t now)
{
    if (run_interrupted && bench->phase != PHASE_DRAIN) {
        bench->phase_end_ns = now;
    }
    if (bench->phase == PHASE_WARMUP && now >= bench->phase_end_ns) {
        phase_set(bench, PHASE_MEASURED, now);
    }
    if (bench->phase == PHASE_MEASURED && now >= bench->phase_end_ns) {
        phase_set(bench, PHASE_DRAIN, now);
    }
}

static bool is_over(const struct bench *bench, uint64_t now)
{
    bool done = bench->at_work == 0 && !(bench->is_open && pace_has_next(&bench->pace));
    return bench->alive == 0 ||
           (bench->phase == PHASE_DRAIN && (done || now >= bench->phase_end_ns));
}

/* ------------------------------------------------------------------ setting up */

static enum status raise_descriptor_limit(uint32_t connections, struct error *ret_error)
{
    uint64_t allowed = descriptors_raise();
    return allowed >= (uint64_t)connections + SPARE_DESCRIPTORS
               ? STATUS_OK
               : error_set(ret_error, STATUS_LIMIT,
                           "%u connections need more open files than the %" PRIu64
                           " that are allowed: raise `ulimit -n`",
                           connections, allowed);
}

/* What a connection that worked once keeps. */
static enum status find_once(int descriptor, struct error *ret_error)
{
    struct buffer reply;
    struct reply_view view;
    bson_t find = BSON_INITIALIZER;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    commands_find_one(&find, "idle");
    enum status status = link_ask(descriptor, &find, "find", &reply, &view, ret_error);
    bson_destroy(&find);
    buffer_free(&reply);
    return status;
}

static enum status open_connection(struct bench *bench, uint32_t number, struct error *ret_error)
{
    struct connection *connection = &bench->connections[number];
    bool hello = !load_is_http(bench->options);
    enum status status = (hello ? link_open : link_connect)(&bench->options->address,
                                                            &connection->descriptor, ret_error);
    if (status != STATUS_OK) {
        return error_prefix(ret_error, "connection %u", number + 1);
    }
    buffer_init(&connection->incoming, LIMIT_MESSAGE_BYTES_MAX);
    connection->state = CONNECTION_RESTING;
    bench->opened++;
    bench->alive++;
    if (bench->options->kind == LOAD_IDLE) {
        status =
            bench->options->after_find ? find_once(connection->descriptor, ret_error) : STATUS_OK;
    } else {
        status = script_new(bench->options, &bench->documents, &bench->keys, number,
                            connection->descriptor, &connection->script, ret_error);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (status == STATUS_OK &&
        epoll_ctl(bench->epoll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) {
        status = error_set(ret_error, STATUS_IO, "cannot watch a connection: %s", strerror(errno));
    }
    return status;
}

static bool has_hot_documents(const struct load_options *options)
{
    return options->kind == LOAD_CONTENDED || options->kind == LOAD_ACCOUNTS;
}

static enum status prepare_documents(struct bench *bench, struct error *ret_error)
{
    int descriptor;
    const struct load_options *options = bench->options;
    bool popular = load_is_ycsb(options->kind);
    keys_init(&bench->keys, popular ? options->documents : 1, popular ? options->zipf : 0.5);
    if (options->kind == LOAD_IDLE || load_is_http(options)) {
        return STATUS_OK;
    }
    enum status status = link_open(&options->address, &descriptor, ret_error);
    if (status == STATUS_OK) {
        status = documents_prepare(options, descriptor, &bench->documents, ret_error);
        (void)close(descriptor);
    }
    if (status == STATUS_OK && has_hot_documents(options)) {
        status =
            contended_sum(options, &bench->documents, &bench->result->contended.before, ret_error);
    }
    bench->result->reply_bytes = bench->documents.reply_bytes;
    return status;
}

static enum status set_up(struct bench *bench, struct error *ret_error)
{
    uint32_t connections = bench->options->connections;
    enum status status = raise_descriptor_limit(connections, ret_error);
    if (status == STATUS_OK) {
        status = prepare_documents(bench, ret_error);
    }
    if (status == STATUS_OK) {
        status = look_at_processes(bench, MOMENT_START, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bench->connections = calloc(connections, sizeof *bench->connections);
    bench->resting = calloc(connections, sizeof *bench->resting);
    bench->receive_buffer = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    bench->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (bench->connections == NULL || bench->resting == NULL || bench->receive_buffer == NULL ||
        bench->epoll < 0) {
        return error_set(ret_error, STATUS_MEMORY, "cannot set up: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < connections && status == STATUS_OK; i++) {
        status = open_connection(bench, i, ret_error);
    }
    return status;
}

static void tear_down(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->opened; i++) {
        struct connection *connection = &bench->connections[i];
        if (connection->state != CONNECTION_CLOSED) {
            run_connection_close(bench, connection);
        }
        connection->script = script_free(connection->script);
        buffer_free(&connection->incoming);
    }
    if (bench->epoll >= 0) {
        (void)close(bench->epoll);
    }
    free(bench->receive_buffer);
    free(bench->resting);
    free(bench->connections);
}

/* ------------------------------------------------------------------ running */

static void begin_all(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->opened && bench->options->kind != LOAD_IDLE; i++) {
        bench->connections[i].state = CONNECTION_AT_WORK;
        bench->at_work++;
        run_connection_begin(bench, &bench->connections[i], nanoseconds_now());
    }
}

static void tell_watcher(struct bench *bench, uint64_t now)
{
    uint64_t past = now - bench->told_ns;
    if (bench->watcher == NULL || past < TELL_EVERY_NS) {
        return;
    }
    uint64_t total = bench->result->operations_total;
    bench->watcher->tell(bench->watcher->context, total,
                         (total - bench->told_operations) * NS_PER_SECOND / past);
    bench->told_ns = now;
    bench->told_operations = total;
}

/* Until something comes, the phase is over, or an operation is due, to the microsecond. */
static void wait_for_events(const struct bench *bench, uint64_t now)
{
    struct pollfd all = {.fd = bench->epoll, .events = POLLIN};
    uint64_t until = bench->phase_end_ns;
    if (bench->is_open && bench->resting_count > 0 && pace_has_next(&bench->pace)) {
        uint64_t next = pace_next(&bench->pace);
        until = next < until ? next : until;
    }
    if (bench->watcher != NULL && bench->told_ns + TELL_EVERY_NS < until) {
        until = bench->told_ns + TELL_EVERY_NS;
    }
    uint64_t left = until > now ? until - now : 0;
    struct timespec time = {.tv_sec = (time_t)(left / NS_PER_SECOND),
                            .tv_nsec = (long)(left % NS_PER_SECOND)};
    (void)ppoll(&all, 1, &time, NULL);
}

static void take_events(struct bench *bench, uint64_t now)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    int timeout = 0;
    if (bench->is_open) {
        wait_for_events(bench, now);
    } else {
        uint64_t until = bench->phase_end_ns;
        if (bench->watcher != NULL && bench->told_ns + TELL_EVERY_NS < until) {
            until = bench->told_ns + TELL_EVERY_NS;
        }
        uint64_t left = until > now ? until - now : 0;
        timeout = (int)((left + NS_PER_MS - 1) / NS_PER_MS);
    }
    int count = epoll_wait(bench->epoll, events, EVENTS_AT_A_TIME, timeout);
    for (int i = 0; i < count; i++) {
        struct connection *connection = &bench->connections[events[i].data.u32];
        if (connection->state != CONNECTION_CLOSED) {
            run_connection_readable(bench, connection);
        }
    }
}

/* What was not answered, or not even begun, has waited so long at least. */
static void count_unanswered(struct bench *bench, uint64_t now)
{
    struct run_result *result = bench->result;
    uint64_t meant_ns;
    for (uint32_t i = 0; i < bench->opened; i++) {
        const struct connection *connection = &bench->connections[i];
        if (connection->state == CONNECTION_AT_WORK) {
            run_count_error(bench, "an operation was still not answered 10 seconds after the end");
            result->unanswered++;
            if (bench->is_open) {
                histogram_add(&result->latency, now - connection->meant_ns);
            }
        }
    }
    while (bench->is_open && bench->alive > 0 && pace_take(&bench->pace, now, &meant_ns)) {
        result->unanswered++;
        histogram_add(&result->latency, now - meant_ns);
    }
}

static void loop(struct bench *bench)
{
    uint64_t now = nanoseconds_now();
    phase_set(bench, PHASE_WARMUP, now);
    bench->told_ns = now;
    bench->is_open = bench->options->rate > 0;
    if (bench->is_open) {
        bench->pace = pace_make(now, bench->options->rate);
    }
    begin_all(bench);
    while (!is_over(bench, now)) {
        take_events(bench, now);
        now = nanoseconds_now();
        run_advance(bench, now);
        if (bench->is_open) {
            run_connections_begin_due(bench, now);
        }
        tell_watcher(bench, now);
    }
    /* All connections were lost before the time was over. */
    if (bench->phase == PHASE_WARMUP) {
        phase_set(bench, PHASE_MEASURED, now);
    }
    if (bench->phase == PHASE_MEASURED) {
        phase_set(bench, PHASE_DRAIN, now);
    }
    count_unanswered(bench, now);
}

static void share(struct contended_figures *figures, const struct connection *connections,
                  uint32_t count)
{
    uint64_t *counts = calloc((size_t)count + 1, sizeof *counts);
    for (uint32_t i = 0; i < count && counts != NULL; i++) {
        counts[i] = connections[i].measured;
    }
    if (counts != NULL) {
        contended_share(figures, counts, count);
    }
    free(counts);
}

static void finish_contended(struct bench *bench)
{
    struct contended_result *result = &bench->result->contended;
    struct error error = {0};
    uint32_t plain = bench->options->plain;
    share(&result->plain, bench->connections, plain);
    share(&result->transactions, bench->connections + plain, bench->opened - plain);
    if (bench->result->errors > 0) {
        return; /* what was on its way then may have been carried out */
    }
    enum status status = contended_sum(bench->options, &bench->documents, &result->after, &error);
    if (status == STATUS_OK) {
        status = contended_check(bench->options, result, &error);
    }
    if (status != STATUS_OK) {
        run_count_error(bench, error.message);
    }
}

enum status run(const struct load_options *options, const struct run_watcher *watcher,
                struct run_result *ret_result, struct error *ret_error)
{
    struct bench bench = {.options = options, .watcher = watcher, .epoll = -1};
    bench.result = ret_result;
    memset(ret_result, 0, sizeof *ret_result);
    enum status status = set_up(&bench, ret_error);
    if (status == STATUS_OK) {
        loop(&bench);
        if (has_hot_documents(options)) {
            finish_contended(&bench);
        }
        if (options->kind == LOAD_IDLE) {
            ret_result->operations = ret_result->operations_total = bench.alive;
        }
    }
    tear_down(&bench);
    return status;
}
