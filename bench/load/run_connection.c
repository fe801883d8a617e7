/*
 * What becomes of one connection of a run; see run.h. It has exactly one request on its way, so
 * what is sent always fits and what arrives is always one reply.
 *
 *   connection:  AT_WORK --reply, another operation--> AT_WORK (next request)
 *                   |  `---reply, none now--> RESTING (open loop: until one is due)
 *                   `------ended, or nonsense--> CLOSED
 *
 * A large reply is checked once, by documents_prepare(). From then on one of the same length is
 * dropped as it arrives, for the load driver must not be what is measured; one of another length is
 * put together and looked at.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load/http_text.h"
#include "bench/load/link.h"
#include "bench/load/nanoseconds.h"
#include "bench/load/run_private.h"
#include "holdfast/limits.h"
#include "wire/frame.h"

void run_connection_close(struct bench *bench, struct connection *connection)
{
    (void)close(connection->descriptor);
    bench->at_work -= connection->state == CONNECTION_AT_WORK ? 1 : 0;
    bench->alive--;
    connection->state = CONNECTION_CLOSED;
}

static void lose(struct bench *bench, struct connection *connection, const char *message)
{
    run_count_error(bench, message);
    run_connection_close(bench, connection);
}

/* ------------------------------------------------------------------ what it says */

static void send_request(struct bench *bench, struct connection *connection)
{
    struct error error = {0};
    if (link_send(connection->descriptor, script_request(connection->script), &error) !=
        STATUS_OK) {
        lose(bench, connection, error.message);
    }
}

static void begin_operation(struct bench *bench, struct connection *connection, uint64_t meant_ns,
                            uint64_t now)
{
    connection->meant_ns = meant_ns;
    connection->begun_ns = now;
    script_begin(connection->script, false);
    send_request(bench, connection);
}

void run_connection_begin(struct bench *bench, struct connection *connection, uint64_t now)
{
    uint64_t meant_ns = now;
    bool more =
        bench->is_open ? pace_take(&bench->pace, now, &meant_ns) : bench->phase != PHASE_DRAIN;
    if (more) {
        begin_operation(bench, connection, meant_ns, now);
        return;
    }
    connection->state = CONNECTION_RESTING;
    bench->at_work--;
    if (bench->is_open) {
        bench->resting[bench->resting_count++] = (uint32_t)(connection - bench->connections);
    }
}

void run_connections_begin_due(struct bench *bench, uint64_t now)
{
    uint64_t meant_ns;
    while (bench->resting_count > 0 && pace_next(&bench->pace) <= now) {
        struct connection *connection = &bench->connections[bench->resting[--bench->resting_count]];
        if (connection->state != CONNECTION_RESTING) {
            continue; /* it was closed meanwhile */
        }
        if (!pace_take(&bench->pace, now, &meant_ns)) {
            bench->resting_count++;
            return;
        }
        connection->state = CONNECTION_AT_WORK;
        bench->at_work++;
        begin_operation(bench, connection, meant_ns, now);
    }
}

/* ------------------------------------------------------------------ what it is told */

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

static void note_latency(struct bench *bench, const struct connection *connection, uint64_t now)
{
    struct run_result *result = bench->result;
    bool measured = bench->is_open ? bench->phase != PHASE_WARMUP &&
                                         connection->meant_ns >= bench->measured_from_ns
                                   : bench->phase == PHASE_MEASURED;
    if (!measured) {
        return;
    }
    histogram_add(&result->latency, now - connection->meant_ns);
    if (bench->is_open) {
        histogram_add(&result->service, now - connection->begun_ns);
    }
}

static void done(struct bench *bench, struct connection *connection)
{
    struct run_result *result = bench->result;
    uint64_t now = nanoseconds_now();
    run_advance(bench, now);
    result->operations_total++;
    if (bench->options->acknowledged != NULL) {
        bench->options->acknowledged[connection - bench->connections]++;
    }
    if (bench->phase == PHASE_MEASURED) {
        result->operations++;
        connection->measured++;
    }
    note_latency(bench, connection, now);
    if (bench->options->kind == LOAD_CONTENDED || bench->options->kind == LOAD_ACCOUNTS) {
        note_wait(bench, connection, now - connection->meant_ns);
    }
    run_connection_begin(bench, connection, now);
}

static void take_message(struct bench *bench, struct connection *connection, struct slice message)
{
    struct error error = {0};
    enum script_verdict verdict = script_take(connection->script, message, &error);
    bench->result->statuses[script_http_status(connection->script)]++;
    switch (verdict) {
    case SCRIPT_CONTINUE:
        send_request(bench, connection);
        return;
    case SCRIPT_DONE:
        done(bench, connection);
        return;
    case SCRIPT_RETRY:
        bench->result->retries++;
        script_begin(connection->script, true);
        send_request(bench, connection);
        return;
    case SCRIPT_FAILED:
        break;
    }
    run_count_error(bench, error.message);
    uint64_t now = nanoseconds_now();
    run_advance(bench, now);
    run_connection_begin(bench, connection, now);
}

static void take_dropped(struct bench *bench, struct connection *connection, size_t size)
{
    if (size > connection->dropping) {
        lose(bench, connection, "more came than was asked for");
        return;
    }
    connection->dropping -= (uint32_t)size;
    if (connection->dropping == 0) {
        done(bench, connection);
    }
}

/* Whether the length of a whole reply can be told from its start; false for nonsense, too. */
static bool reply_length(const struct bench *bench, struct slice bytes, size_t *ret_length,
                         bool *ret_broken)
{
    struct wire_header header;
    struct http_message answer;
    if (load_is_http(bench->options)) {
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
            lose(bench, connection, "out of memory for a reply");
            return;
        }
        bytes = buffer_slice(incoming);
    }
    bool known = reply_length(bench, bytes, &length, &broken);
    if (broken) {
        lose(bench, connection, "the target's reply is not one message");
        return;
    }
    if (known && length == bench->documents.reply_bytes) {
        connection->dropping = (uint32_t)length;
        buffer_clear(incoming);
        take_dropped(bench, connection, bytes.size);
    } else if (known && length == bytes.size) {
        take_message(bench, connection, bytes);
        buffer_clear(incoming);
    } else if (incoming->size == 0 &&
               buffer_append(incoming, bytes.data, bytes.size) != STATUS_OK) {
        lose(bench, connection, "out of memory for a reply");
    }
}

void run_connection_readable(struct bench *bench, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, bench->receive_buffer,
                            LIMIT_RECEIVE_BUFFER_BYTES, MSG_DONTWAIT);
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return;
    }
    if (received <= 0) {
        lose(bench, connection, received == 0 ? "the target closed a connection" : strerror(errno));
    } else if (connection->state == CONNECTION_RESTING) {
        lose(bench, connection, "a reply came that nobody asked for");
    } else if (connection->dropping > 0) {
        take_dropped(bench, connection, (size_t)received);
    } else {
        take_bytes(bench, connection, slice_make(bench->receive_buffer, (size_t)received));
    }
}
