/*
 * The settler's thread (settler.h).
 *
 *   wait --> (nothing to tell) --> wait
 *     `----> connect, same process? --> number and LSN taken, gates told --> sent --> answered:
 *            | no, or the server is away                                      gates told
 *            v
 *          wait, try again
 *
 * Invariant: the LSN of a probe was durable, and its number told to the gates, before it is sent;
 * gates are told that it covers anything only after its answer. Options and `settler->probe` belong
 * to the mutex, the connection to the thread.
 */
#include "engine/settler.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "holdfast/clock.h"
#include "holdfast/log.h"

#define RETRY_MS 200u
#define IDLE_MS 200u

struct settler {
    struct settler_options options;
    char *upstream_uri;
    pthread_t thread;
    sem_t wake;
    _Atomic bool wanted; /* somebody waits for a probe */
    _Atomic bool stopping;
    _Atomic uint64_t durable_lsn;
    _Atomic uint64_t durable_ended; /* options.ended when the probe of durable_lsn was sent */
    pthread_mutex_t mutex;
    struct probe probe; /* the newest that was sent */
    uint64_t restarts;  /* counts settler_restart() */
    /* the thread's */
    struct upstream *upstream;
    uint64_t sent_ms;
    uint64_t durable_ms;
    bool lost_told;
};

static void on_wanted(void *context)
{
    struct settler *settler = context;
    if (!atomic_exchange(&settler->wanted, true)) {
        (void)sem_post(&settler->wake);
    }
}

static void wait_ms(struct settler *settler, uint64_t milliseconds)
{
    uint64_t until_ms = clock_monotonic_ms() + milliseconds;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000L};
    while (sem_clockwait(&settler->wake, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR) {
    }
}

static bool is_due(struct settler *settler)
{
    uint64_t age = clock_monotonic_ms() - settler->sent_ms;
    /* The last before it gets quiet asked for no journal, perhaps: what it covers could never be
       pruned. */
    pthread_mutex_lock(&settler->mutex);
    bool undurable = settler->probe.lsn > atomic_load(&settler->durable_lsn);
    pthread_mutex_unlock(&settler->mutex);
    return atomic_load(&settler->wanted) || atomic_load(&settler->stopping) ||
           (gate_has_uncovered(settler->options.gates) && age >= SETTLER_PROBE_MS) ||
           (gate_has_plain(settler->options.gates) && age >= SETTLER_PLAIN_MS) ||
           (undurable && age >= SETTLER_DURABLE_MS);
}

/* A connection that leads to the process that we know. */
static enum status connect_upstream(struct settler *settler, struct error *error)
{
    if (settler->upstream != NULL) {
        return STATUS_OK;
    }
    enum status status = upstream_open(settler->upstream_uri, settler->options.connect_ms,
                                       &settler->upstream, error);
    return status == STATUS_OK
               ? server_process_check_upstream(settler->options.process, settler->upstream, error)
               : status;
}

static uint64_t ended_now(const struct settler *settler)
{
    return settler->options.ended == NULL ? 0 : atomic_load(settler->options.ended);
}

static void take_next(struct settler *settler, struct probe *ret_probe, uint64_t *ret_restarts,
                      uint64_t *ret_ended)
{
    *ret_ended = ended_now(settler); /* before the LSN, which so covers their ends */
    atomic_store(&settler->wanted, false);
    pthread_mutex_lock(&settler->mutex);
    settler->probe.number++;
    gate_probe_sent(settler->options.gates, settler->probe.number);
    settler->probe.lsn = wal_last_lsn(settler->options.wal);
    *ret_probe = settler->probe;
    *ret_restarts = settler->restarts;
    pthread_mutex_unlock(&settler->mutex);
}

/* An answer that comes after a repair was of the process before it. */
static void take_answer(struct settler *settler, const struct probe *probe, uint64_t restarts,
                        uint64_t ended, bool durable)
{
    pthread_mutex_lock(&settler->mutex);
    bool valid = settler->restarts == restarts;
    if (valid && durable) {
        atomic_store(&settler->durable_lsn, probe->lsn);
        atomic_store(&settler->durable_ended, ended);
    }
    pthread_mutex_unlock(&settler->mutex);
    if (valid) {
        gate_probe_answered(settler->options.gates, probe->lsn);
    }
}

static enum status send_probe(struct settler *settler, struct error *error)
{
    struct probe probe;
    uint64_t restarts;
    uint64_t ended;
    bool ours = false;
    uint64_t now = clock_monotonic_ms();
    bool durable =
        atomic_load(&settler->stopping) || now - settler->durable_ms >= SETTLER_DURABLE_MS;
    enum status status = connect_upstream(settler, error);
    if (status != STATUS_OK) {
        return status;
    }
    take_next(settler, &probe, &restarts, &ended);
    status = probe_advance(settler->upstream, &probe, durable, &ours, error);
    if (status == STATUS_OK && !ours) {
        /* The lease may be another's: whoever renews it finds that out and ends the process. */
        return error_set(error, STATUS_OWNED, "the probe on the server is not ours");
    }
    if (status == STATUS_OK) {
        take_answer(settler, &probe, restarts, ended, durable);
        settler->sent_ms = now;
        settler->durable_ms = durable ? now : settler->durable_ms;
    }
    return status;
}

static void probe_once(struct settler *settler)
{
    struct error error = {0};
    enum status status = send_probe(settler, &error);
    if (status == STATUS_OK) {
        settler->lost_told = false;
        return;
    }
    settler->upstream = upstream_close(settler->upstream);
    gate_probe_failed(settler->options.gates);
    if (!settler->lost_told) {
        settler->lost_told = true;
        LOG(LOG_WARNING, "settler", "The probe cannot be written, trying again",
            LOG_TEXT("reason", error.message));
    }
    if (!atomic_load(&settler->stopping)) {
        wait_ms(settler, RETRY_MS);
        atomic_store(&settler->wanted, true);
    }
}

static void *settler_main(void *context)
{
    struct settler *settler = context;
    while (!atomic_load(&settler->stopping)) {
        bool busy = gate_has_uncovered(settler->options.gates);
        if (!atomic_load(&settler->wanted)) {
            wait_ms(settler, busy ? SETTLER_PROBE_MS : IDLE_MS);
        }
        if (is_due(settler) && !server_process_has_changed(settler->options.process)) {
            probe_once(settler);
        } else if (atomic_load(&settler->wanted)) {
            wait_ms(settler, SETTLER_PROBE_MS); /* until the repair is done */
        }
    }
    if (!server_process_has_changed(settler->options.process)) {
        probe_once(settler);
    }
    settler->upstream = upstream_close(settler->upstream);
    return NULL;
}

static void settler_free(struct settler *settler)
{
    if (settler != NULL) {
        (void)sem_destroy(&settler->wake);
        (void)pthread_mutex_destroy(&settler->mutex);
        free(settler->upstream_uri);
        free(settler);
    }
}

enum status settler_start(const struct settler_options *options, struct settler **ret_settler,
                          struct error *ret_error)
{
    struct settler *settler = calloc(1, sizeof *settler);
    if (settler == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    settler->options = *options;
    settler->probe = options->probe;
    atomic_store(&settler->durable_lsn, options->probe.lsn);
    (void)sem_init(&settler->wake, 0, 0);
    (void)pthread_mutex_init(&settler->mutex, NULL);
    settler->upstream_uri = strdup(options->upstream_uri);
    if (settler->upstream_uri == NULL) {
        settler_free(settler);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    gate_probe_sent(options->gates, options->probe.number);
    gate_probe_answered(options->gates, options->probe.lsn);
    gate_on_probe_wanted(options->gates, on_wanted, settler);
    if (pthread_create(&settler->thread, NULL, settler_main, settler) != 0) {
        gate_on_probe_wanted(options->gates, NULL, NULL);
        settler_free(settler);
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    *ret_settler = settler;
    return STATUS_OK;
}

struct settler *settler_stop(struct settler *settler)
{
    if (settler == NULL) {
        return NULL;
    }
    atomic_store(&settler->stopping, true);
    (void)sem_post(&settler->wake);
    (void)pthread_join(settler->thread, NULL);
    gate_on_probe_wanted(settler->options.gates, NULL, NULL);
    settler_free(settler);
    return NULL;
}

void settler_restart(struct settler *settler, const struct probe *probe)
{
    pthread_mutex_lock(&settler->mutex);
    settler->probe = *probe;
    settler->restarts++;
    atomic_store(&settler->durable_lsn, probe->lsn);
    atomic_store(&settler->durable_ended, ended_now(settler));
    gate_probe_sent(settler->options.gates, probe->number);
    pthread_mutex_unlock(&settler->mutex);
    gate_probe_answered(settler->options.gates, probe->lsn);
}

uint64_t settler_durable_lsn(struct settler *settler)
{
    return atomic_load(&settler->durable_lsn);
}

uint64_t settler_unsettled_units(struct settler *settler)
{
    /* In this order: what is settled only rises, and never above what has ended. */
    uint64_t durable = atomic_load(&settler->durable_ended);
    return ended_now(settler) - durable;
}
