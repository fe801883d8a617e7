/*
 * A ring and the thread that empties it by HTTP (poster.h).
 *
 * `mutex` guards the ring, its figures and `stop_ms`; the batch and the connection are the
 * thread's. Lock order: none is taken inside.
 */
#include "telemetry/poster.h"

#include <bson/bson.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "telemetry/http_post.h"
#include "telemetry/telemetry.h"

struct poster {
    struct poster_options options;
    struct http_post *post;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work; /* something is there, a batch is full, or `stop_ms` is set */
    char *ring;
    size_t first;
    size_t count;
    uint64_t oldest_ms; /* while `count` is not 0: when the first came, or the last batch left */
    uint64_t stop_ms;   /* monotonic: nothing is sent after it; 0: not stopping */
    struct poster_figures figures;
    /* the thread's */
    char *batch;
    bool told; /* that the receiver is down */
};

/* ------------------------------------------------------------------ the ring */

void poster_put(struct poster *poster, const void *item)
{
    const struct poster_options *options = &poster->options;
    pthread_mutex_lock(&poster->mutex);
    if (poster->count == options->ring_size) {
        poster->figures.dropped++;
    } else {
        size_t at = (poster->first + poster->count++) % options->ring_size;
        memcpy(poster->ring + at * options->item_bytes, item, options->item_bytes);
        if (poster->count == 1) {
            poster->oldest_ms = clock_monotonic_ms();
        }
        if (poster->count == 1 || poster->count == options->batch) {
            (void)pthread_cond_signal(&poster->work);
        }
    }
    pthread_mutex_unlock(&poster->mutex);
}

/* Waits for a batch and takes it; 0: the end. */
static size_t take_batch(struct poster *poster)
{
    const struct poster_options *options = &poster->options;
    pthread_mutex_lock(&poster->mutex);
    while (poster->stop_ms == 0 && poster->count < options->batch) {
        if (poster->count == 0) {
            (void)pthread_cond_wait(&poster->work, &poster->mutex);
        } else if (clock_monotonic_ms() - poster->oldest_ms >= options->wait_ms) {
            break;
        } else {
            condition_wait_until(&poster->work, &poster->mutex,
                                 poster->oldest_ms + options->wait_ms);
        }
    }
    size_t taken = poster->count < options->batch ? poster->count : options->batch;
    if (poster->stop_ms != 0 && clock_monotonic_ms() >= poster->stop_ms) {
        poster->figures.failed += poster->count;
        taken = 0;
    }
    for (size_t i = 0; i < taken; i++) {
        memcpy(poster->batch + i * options->item_bytes,
               poster->ring + poster->first * options->item_bytes, options->item_bytes);
        poster->first = (poster->first + 1) % options->ring_size;
    }
    poster->count -= taken;
    poster->oldest_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&poster->mutex);
    return taken;
}

/* ------------------------------------------------------------------ sending */

static bool is_final(int status)
{
    return status >= 400 && status < 500 && status != 408 && status != 429;
}

/* False: the end is near, so that there is no time for another try. */
static bool pause_before_retry(struct poster *poster, uint64_t pause_ms)
{
    uint64_t until_ms = clock_monotonic_ms() + pause_ms;
    pthread_mutex_lock(&poster->mutex);
    while (poster->stop_ms == 0 && clock_monotonic_ms() < until_ms) {
        condition_wait_until(&poster->work, &poster->mutex, until_ms);
    }
    bool go_on = poster->stop_ms == 0;
    pthread_mutex_unlock(&poster->mutex);
    return go_on;
}

static void tell(struct poster *poster, bool delivered, const char *reason)
{
    if (!delivered && !poster->told) {
        LOG(LOG_WARNING, "telemetry", "A receiver does not take what it is sent",
            LOG_TEXT("key", poster->options.name), LOG_TEXT("reason", reason));
    } else if (delivered && poster->told) {
        LOG(LOG_INFO, "telemetry", "A receiver takes what it is sent again",
            LOG_TEXT("key", poster->options.name));
    }
    poster->told = !delivered;
}

static bool send_once(struct poster *poster, const char *body, bool *ret_final)
{
    struct error error = {0};
    int answer = 0;
    enum status status = http_post_send(poster->post, body, TELEMETRY_POST_MS, &answer, &error);
    bool delivered = status == STATUS_OK && answer >= 200 && answer < 300;
    if (status == STATUS_OK && !delivered) {
        (void)error_set(&error, STATUS_PROTOCOL, "it answered %d", answer);
    }
    *ret_final = status == STATUS_OK && is_final(answer);
    tell(poster, delivered, error.message);
    return delivered;
}

static bool deliver(struct poster *poster, size_t count)
{
    const struct poster_options *options = &poster->options;
    uint64_t pause_ms = options->retry_ms;
    char *body = options->make(options->context, poster->batch, count);
    bool delivered = false;
    bool final = body == NULL;
    for (unsigned tries = 0; !delivered && !final && tries < options->tries_max; tries++) {
        if (tries > 0) {
            final = !pause_before_retry(poster, pause_ms);
            pause_ms = pause_ms * 2 < options->retry_ms_max ? pause_ms * 2 : options->retry_ms_max;
        }
        delivered = !final && send_once(poster, body, &final);
    }
    bson_free(body);
    return delivered;
}

static void *poster_main(void *context)
{
    struct poster *poster = context;
    size_t count;
    while ((count = take_batch(poster)) > 0) {
        bool delivered = deliver(poster, count);
        pthread_mutex_lock(&poster->mutex);
        *(delivered ? &poster->figures.delivered : &poster->figures.failed) += count;
        pthread_mutex_unlock(&poster->mutex);
    }
    return NULL;
}

/* ------------------------------------------------------------------ starting and stopping */

static struct poster *poster_free(struct poster *poster)
{
    http_post_free(poster->post);
    (void)pthread_mutex_destroy(&poster->mutex);
    (void)pthread_cond_destroy(&poster->work);
    free(poster->ring);
    free(poster->batch);
    free(poster);
    return NULL;
}

enum status poster_start(const struct poster_options *options, struct poster **ret_poster,
                         struct error *ret_error)
{
    struct poster *poster = calloc(1, sizeof *poster);
    if (poster == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    condition_init(&poster->work);
    (void)pthread_mutex_init(&poster->mutex, NULL);
    poster->options = *options;
    poster->options.url = poster->options.secret = NULL; /* the caller's, and not needed again */
    poster->ring = calloc(options->ring_size, options->item_bytes);
    poster->batch = calloc(options->batch, options->item_bytes);
    enum status status =
        poster->ring == NULL || poster->batch == NULL
            ? error_set(ret_error, STATUS_MEMORY, "out of memory")
            : http_post_new(options->url, options->secret, &poster->post, ret_error);
    if (status == STATUS_OK && pthread_create(&poster->thread, NULL, poster_main, poster) != 0) {
        status = error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    if (status != STATUS_OK) {
        poster_free(poster);
        return error_prefix(ret_error, "%s", options->name);
    }
    *ret_poster = poster;
    return STATUS_OK;
}

struct poster *poster_stop(struct poster *poster, uint64_t wait_ms)
{
    if (poster == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&poster->mutex);
    poster->stop_ms = clock_monotonic_ms() + wait_ms;
    (void)pthread_cond_signal(&poster->work);
    pthread_mutex_unlock(&poster->mutex);
    http_post_hurry(poster->post, wait_ms);
    (void)pthread_join(poster->thread, NULL);
    return poster_free(poster);
}

void poster_figures_get(struct poster *poster, struct poster_figures *ret_figures)
{
    pthread_mutex_lock(&poster->mutex);
    *ret_figures = poster->figures;
    ret_figures->waiting = poster->count;
    pthread_mutex_unlock(&poster->mutex);
}
