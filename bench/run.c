/*
 * See run.h. One thread, one epoll set; each connection has exactly one request on its way, so what
 * is sent always fits and what arrives is always one reply.
 *
 *   connection:  AT_WORK --reply, time left--> AT_WORK (next request)
 *                   |  `---reply, time over--> RESTING
 *                   `------ended, or nonsense--> CLOSED
 *
 * A large reply is checked once, by documents_prepare(). From then on one of the same length is
 * dropped as it arrives, for the load driver must not be what is measured; one of another length is
 * put together and looked at.
 */
#include "bench/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bench/documents.h"
#include "bench/http_text.h"
#include "bench/link.h"
#include "bench/script.h"
#include "holdfast/limits.h"
#include "wire/frame.h"

#define DRAIN_NS_MAX 10000000000u
#define EVENTS_AT_A_TIME 64
#define SPARE_DESCRIPTORS 32u
#define NS_PER_MS 1000000u

enum connection_state {
    CONNECTION_AT_WORK,
    CONNECTION_RESTING,
    CONNECTION_CLOSED,
};

struct connection {
    int descriptor;
    enum connection_state state;
    struct script *script;
    uint64_t begun_ns;      /* the operation at work, its retries included */
    uint64_t measured;      /* operations that ended in the measured time */
    struct buffer incoming; /* a reply that is not whole yet */
    uint32_t dropping;      /* bytes of a large reply that are still to come */
};

enum phase {
    PHASE_WARMUP,
    PHASE_MEASURED,
    PHASE_DRAIN,
};

/* When processes are looked at; see struct run_process. */
enum moment {
    MOMENT_START,
    MOMENT_BEFORE,
    MOMENT_AFTER,
};

struct bench {
    const struct bench_options *options;
    struct documents documents;
    struct connection *connections;
    uint32_t opened; /* connections that are set up */
    uint32_t at_work;
    uint32_t alive;
    int epoll;
    enum phase phase;
    uint64_t phase_end_ns;
    uint64_t measured_from_ns;
    uint64_t own_cpu_before_ns;
    uint8_t *receive_buffer;
    struct run_result *result;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void count_error(struct bench *bench, const char *message)
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
    const struct bench_options *options = bench->options;
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
        count_error(bench, error.message);
    }
}

/* ------------------------------------------------------------------ phases */

static void phase_set(struct bench *bench, enum phase phase, uint64_t now)
{
    struct run_result *result = bench->result;
    bench->phase = phase;
    switch (phase) {
    case PHASE_WARMUP:
        bench->phase_end_ns = now + bench->options->warmup_ns;
        break;
    case PHASE_MEASURED:
        look_again(bench, MOMENT_BEFORE);
        bench->own_cpu_before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        bench->measured_from_ns = now;
        bench->phase_end_ns = now + bench->options->seconds_ns;
        break;
    case PHASE_DRAIN:
        look_again(bench, MOMENT_AFTER);
        result->own_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - bench->own_cpu_before_ns;
        result->measured_ns = now - bench->measured_from_ns;
        bench->phase_end_ns = now + DRAIN_NS_MAX;
        break;
    }
}

static void advance(struct bench *bench, uint64_t now)
{
    if (bench->phase == PHASE_WARMUP && now >= bench->phase_end_ns) {
        phase_set(bench, PHASE_MEASURED, now);
    }
    if (bench->phase == PHASE_MEASURED && now >= bench->phase_end_ns) {
        phase_set(bench, PHASE_DRAIN, now);
    }
}

static bool is_over(const struct bench *bench, uint64_t now)
{
    return bench->alive == 0 ||
           (bench->phase == PHASE_DRAIN && (bench->at_work == 0 || now >= bench->phase_end_ns));
}

/* ------------------------------------------------------------------ connections */

static void connection_close(struct bench *bench, struct connection *connection)
{
    (void)close(connection->descriptor);
    bench->at_work -= connection->state == CONNECTION_AT_WORK ? 1 : 0;
    bench->alive--;
    connection->state = CONNECTION_CLOSED;
}

static void connection_lose(struct bench *bench, struct connection *connection, const char *message)
{
    count_error(bench, message);
    connection_close(bench, connection);
}

static void connection_send(struct bench *bench, struct connection *connection)
{
    struct error error = {0};
    if (link_send(connection->descriptor, script_request(connection->script), &error) !=
        STATUS_OK) {
        connection_lose(bench, connection, error.message);
    }
}

static void connection_begin(struct bench *bench, struct connection *connection, uint64_t now)
{
    if (bench->phase == PHASE_DRAIN) {
        connection->state = CONNECTION_RESTING;
        bench->at_work--;
        return;
    }
    connection->begun_ns = now;
    script_begin(connection->script, false);
    connection_send(bench, connection);
}

static struct contended_figures *figures_of(struct bench *bench,
                                            const struct connection *connection)
{
    bool plain = connection - bench->connections < (ptrdiff_t)bench->options->plain;
    return plain ? &bench->result->contended.plain : &bench->result->contended.transactions;
}

/* Who starves ends only when the others have stopped. */
static void note_wait(struct bench *bench, const struct connection *connection, uint64_t wait_ns)
{
    struct contended_figures *figures = figures_of(bench, connection);
    figures->operations++;
    if (bench->phase == PHASE_MEASURED) {
        histogram_add(&figures->waits, wait_ns);
    }
    if (bench->phase != PHASE_WARMUP && wait_ns > figures->longest_ns) {
        figures->longest_ns = wait_ns;
    }
}

static void connection_done(struct bench *bench, struct connection *connection)
{
    struct run_result *result = bench->result;
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    advance(bench, now);
    result->operations_total++;
    if (bench->phase == PHASE_MEASURED) {
        result->operations++;
        connection->measured++;
        histogram_add(&result->latency, now - connection->begun_ns);
    }
    if (bench->options->load == BENCH_LOAD_CONTENDED) {
        note_wait(bench, connection, now - connection->begun_ns);
    }
    connection_begin(bench, connection, now);
}

static void connection_take(struct bench *bench, struct connection *connection,
                            struct slice message)
{
    struct error error = {0};
    enum script_verdict verdict = script_take(connection->script, message, &error);
    bench->result->statuses[script_http_status(connection->script)]++;
    switch (verdict) {
    case SCRIPT_CONTINUE:
        connection_send(bench, connection);
        return;
    case SCRIPT_DONE:
        connection_done(bench, connection);
        return;
    case SCRIPT_RETRY:
        bench->result->retries++;
        script_begin(connection->script, true);
        connection_send(bench, connection);
        return;
    case SCRIPT_FAILED:
        break;
    }
    count_error(bench, error.message);
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    advance(bench, now);
    connection_begin(bench, connection, now);
}

static void take_dropped(struct bench *bench, struct connection *connection, size_t size)
{
    if (size > connection->dropping) {
        connection_lose(bench, connection, "more came than was asked for");
        return;
    }
    connection->dropping -= (uint32_t)size;
    if (connection->dropping == 0) {
        connection_done(bench, connection);
    }
}

/* Whether the length of a whole reply can be told from its start; false for nonsense, too. */
static bool reply_length(const struct bench *bench, struct slice bytes, size_t *ret_length,
                         bool *ret_broken)
{
    struct wire_header header;
    struct http_message answer;
    if (bench->options->load == BENCH_LOAD_CALLS) {
        enum http_found found = http_message_parse(bytes, &answer);
        *ret_broken = found == HTTP_BROKEN || (found == HTTP_WHOLE && answer.size < bytes.size);
        *ret_length = found == HTTP_WHOLE ? answer.size : 0;
        return found == HTTP_WHOLE && !*ret_broken;
    }
    if (bytes.size < WIRE_HEADER_BYTES) {
        *ret_broken = false;
        return false;
    }
    *ret_broken = wire_header_parse(bytes, &header) != STATUS_OK || header.length < bytes.size;
    *ret_length = header.length;
    return !*ret_broken;
}

/* The start of a reply, or all of it. */
static void take_bytes(struct bench *bench, struct connection *connection, struct slice bytes)
{
    size_t length = 0;
    bool broken = false;
    struct buffer *incoming = &connection->incoming;
    if (incoming->size > 0) {
        if (buffer_append(incoming, bytes.data, bytes.size) != STATUS_OK) {
            connection_lose(bench, connection, "out of memory for a reply");
            return;
        }
        bytes = buffer_slice(incoming);
    }
    bool known = reply_length(bench, bytes, &length, &broken);
    if (broken) {
        connection_lose(bench, connection, "the target's reply is not one message");
        return;
    }
    if (known && length == bench->documents.reply_bytes) {
        connection->dropping = (uint32_t)length;
        buffer_clear(incoming);
        take_dropped(bench, connection, bytes.size);
    } else if (known && length == bytes.size) {
        connection_take(bench, connection, bytes);
        buffer_clear(incoming);
    } else if (incoming->size == 0 &&
               buffer_append(incoming, bytes.data, bytes.size) != STATUS_OK) {
        connection_lose(bench, connection, "out of memory for a reply");
    }
}

static void connection_readable(struct bench *bench, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, bench->receive_buffer,
                            LIMIT_RECEIVE_BUFFER_BYTES, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return;
    }
    if (received <= 0) {
        connection_lose(bench, connection,
                        received == 0 ? "the target closed a connection" : strerror(errno));
    } else if (connection->state == CONNECTION_RESTING) {
        connection_lose(bench, connection, "a reply came that nobody asked for");
    } else if (connection->dropping > 0) {
        take_dropped(bench, connection, (size_t)received);
    } else {
        take_bytes(bench, connection, slice_make(bench->receive_buffer, (size_t)received));
    }
}

/* ------------------------------------------------------------------ setting up */

static enum status raise_descriptor_limit(uint32_t connections, struct error *ret_error)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + SPARE_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur =
            limit.rlim_max == RLIM_INFINITY || limit.rlim_max > wanted ? wanted : limit.rlim_max;
        if (limit.rlim_cur < wanted || setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            return error_set(ret_error, STATUS_LIMIT,
                             "%u connections need more open files than the %llu that are allowed: "
                             "raise `ulimit -n`",
                             connections, (unsigned long long)limit.rlim_max);
        }
    }
    return STATUS_OK;
}

static enum status open_connection(struct bench *bench, uint32_t number, struct error *ret_error)
{
    struct connection *connection = &bench->connections[number];
    bool hello = bench->options->load != BENCH_LOAD_CALLS;
    enum status status = (hello ? link_open : link_connect)(&bench->options->address,
                                                            &connection->descriptor, ret_error);
    if (status != STATUS_OK) {
        return error_prefix(ret_error, "connection %u", number + 1);
    }
    buffer_init(&connection->incoming, LIMIT_MESSAGE_BYTES_MAX);
    connection->state = CONNECTION_RESTING;
    bench->opened++;
    bench->alive++;
    if (bench->options->load != BENCH_LOAD_IDLE) {
        status =
            script_new(bench->options, &bench->documents, number, &connection->script, ret_error);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (status == STATUS_OK &&
        epoll_ctl(bench->epoll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) {
        status = error_set(ret_error, STATUS_IO, "cannot watch a connection: %s", strerror(errno));
    }
    return status;
}

static enum status prepare_documents(struct bench *bench, struct error *ret_error)
{
    int descriptor;
    if (bench->options->load == BENCH_LOAD_IDLE || bench->options->load == BENCH_LOAD_CALLS) {
        return STATUS_OK;
    }
    enum status status = link_open(&bench->options->address, &descriptor, ret_error);
    if (status == STATUS_OK) {
        status = documents_prepare(bench->options, descriptor, &bench->documents, ret_error);
        (void)close(descriptor);
    }
    if (status == STATUS_OK && bench->options->load == BENCH_LOAD_CONTENDED) {
        status = contended_sum(bench->options, &bench->documents, &bench->result->contended.before,
                               ret_error);
    }
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
    bench->receive_buffer = malloc(LIMIT_RECEIVE_BUFFER_BYTES);
    bench->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (bench->connections == NULL || bench->receive_buffer == NULL || bench->epoll < 0) {
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
            connection_close(bench, connection);
        }
        connection->script = script_free(connection->script);
        buffer_free(&connection->incoming);
    }
    if (bench->epoll >= 0) {
        (void)close(bench->epoll);
    }
    free(bench->receive_buffer);
    free(bench->connections);
}

/* ------------------------------------------------------------------ running */

static void begin_all(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->opened && bench->options->load != BENCH_LOAD_IDLE; i++) {
        bench->connections[i].state = CONNECTION_AT_WORK;
        bench->at_work++;
        connection_begin(bench, &bench->connections[i], clock_ns(CLOCK_MONOTONIC));
    }
}

static void loop(struct bench *bench)
{
    struct epoll_event events[EVENTS_AT_A_TIME];
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    phase_set(bench, PHASE_WARMUP, now);
    begin_all(bench);
    while (!is_over(bench, now)) {
        uint64_t left = bench->phase_end_ns > now ? bench->phase_end_ns - now : 0;
        int count = epoll_wait(bench->epoll, events, EVENTS_AT_A_TIME,
                               (int)((left + NS_PER_MS - 1) / NS_PER_MS));
        for (int i = 0; i < count; i++) {
            struct connection *connection = &bench->connections[events[i].data.u32];
            if (connection->state != CONNECTION_CLOSED) {
                connection_readable(bench, connection);
            }
        }
        now = clock_ns(CLOCK_MONOTONIC);
        advance(bench, now);
    }
    /* All connections were lost before the time was over. */
    if (bench->phase == PHASE_WARMUP) {
        phase_set(bench, PHASE_MEASURED, now);
    }
    if (bench->phase == PHASE_MEASURED) {
        phase_set(bench, PHASE_DRAIN, now);
    }
    for (; bench->at_work > 0; bench->at_work--) {
        count_error(bench, "an operation was still not answered 10 seconds after the end");
    }
}

static void share(struct contended_figures *figures, const struct connection *connections,
                  uint32_t count)
{
    uint64_t *counts = calloc(count + 1, sizeof *counts);
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
        status = contended_check(result, &error);
    }
    if (status != STATUS_OK) {
        count_error(bench, error.message);
    }
}

enum status run(const struct bench_options *options, struct run_result *ret_result,
                struct error *ret_error)
{
    struct bench bench = {.options = options, .epoll = -1, .result = ret_result};
    memset(ret_result, 0, sizeof *ret_result);
    enum status status = set_up(&bench, ret_error);
    if (status == STATUS_OK) {
        loop(&bench);
        if (options->load == BENCH_LOAD_CONTENDED) {
            finish_contended(&bench);
        }
        if (options->load == BENCH_LOAD_IDLE) {
            ret_result->operations = ret_result->operations_total = bench.alive;
        }
    }
    tear_down(&bench);
    return status;
}
