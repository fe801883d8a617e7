/*
 * Rounds of looks at all connections of a domain, one after the other:
 *
 *   asked --> waiting --(a round begins)--> current --> worker 1: poll, read what is there --.
 *                ^                                 `--> worker 2: ...                        |
 *                `---- the next round, if any wait <---- each of `current` is told <---------'
 *
 * Who asks while a round runs waits for the next one, for its moment is after the beginning of this
 * one. A link belongs to its worker, which alone reads, closes and frees it, so a list of them
 * stays valid for as long as that worker is in one task.
 *
 * `waiting`, `running` belong to the mutex; `current` and the parts to the round that runs.
 */
#include "boundary/catch_up.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "boundary/call_private.h"

#define WORKERS_MAX 256
#define LINKS_AT_A_TIME 64

struct part {
    struct worker_task task;
    struct catch_up_rounds *rounds;
    struct worker *worker;
};

struct catch_up_rounds {
    struct domain *domain;
    size_t instance;
    pthread_mutex_t mutex;
    bool running;
    struct catch_up *waiting;
    struct catch_up *current;
    _Atomic size_t remaining;
    _Atomic bool behind;
    struct part parts[WORKERS_MAX];
};

struct catch_up_rounds *catch_up_rounds_new(struct domain *domain, size_t instance)
{
    struct catch_up_rounds *rounds = calloc(1, sizeof *rounds);
    if (rounds != NULL) {
        rounds->domain = domain;
        rounds->instance = instance;
        (void)pthread_mutex_init(&rounds->mutex, NULL);
    }
    return rounds;
}

struct catch_up_rounds *catch_up_rounds_free(struct catch_up_rounds *rounds)
{
    if (rounds != NULL) {
        (void)pthread_mutex_destroy(&rounds->mutex);
        free(rounds);
    }
    return NULL;
}

/* ------------------------------------------------------------------ a round */

static bool settle_links(struct domain_link *const *links, size_t count)
{
    struct pollfd descriptors[LINKS_AT_A_TIME];
    bool behind = false;
    for (size_t i = 0; i < count; i++) {
        descriptors[i] = (struct pollfd){.fd = links[i]->descriptor, .events = POLLIN};
    }
    bool known = poll(descriptors, count, 0) >= 0;
    for (size_t i = 0; i < count; i++) {
        if (links[i]->domain != NULL) {
            behind = links[i]->settle(links[i], !known || descriptors[i].revents != 0) || behind;
        }
    }
    return behind;
}

static void part_done(struct catch_up_rounds *rounds);

static void on_part(struct worker_task *task)
{
    struct part *part = (struct part *)(void *)((uint8_t *)task - offsetof(struct part, task));
    struct catch_up_rounds *rounds = part->rounds;
    struct domain_link *links[LINKS_AT_A_TIME];
    uint64_t before = UINT64_MAX;
    size_t count;
    do {
        count = domain_links_of(rounds->domain, rounds->instance, part->worker, &before, links,
                                LINKS_AT_A_TIME);
        if (settle_links(links, count)) {
            atomic_store(&rounds->behind, true);
        }
    } while (count == LINKS_AT_A_TIME);
    part_done(rounds);
}

static void begin_round(struct catch_up_rounds *rounds)
{
    struct worker *workers[WORKERS_MAX];
    size_t count = domain_link_workers(rounds->domain, rounds->instance, workers, WORKERS_MAX);
    atomic_store(&rounds->behind, false);
    atomic_store(&rounds->remaining, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct part *part = &rounds->parts[i];
        *part = (struct part){.task.run = on_part, .rounds = rounds, .worker = workers[i]};
        worker_post(part->worker, &part->task);
    }
    part_done(rounds);
}

static void on_told(struct worker_task *task)
{
    struct catch_up *catch_up =
        (struct catch_up *)(void *)((uint8_t *)task - offsetof(struct catch_up, task));
    catch_up->completed(catch_up, catch_up->behind);
}

/* The last one tells all of the round, and begins the next. */
static void part_done(struct catch_up_rounds *rounds)
{
    if (atomic_fetch_sub(&rounds->remaining, 1) != 1) {
        return;
    }
    bool behind = atomic_load(&rounds->behind);
    struct catch_up *told = rounds->current;
    pthread_mutex_lock(&rounds->mutex);
    rounds->current = rounds->waiting;
    rounds->waiting = NULL;
    rounds->running = rounds->current != NULL;
    bool goes_on = rounds->running;
    pthread_mutex_unlock(&rounds->mutex);
    while (told != NULL) {
        struct catch_up *next = told->next; /* it may be gone once it is told */
        told->behind = behind;
        told->task.run = on_told;
        worker_post(told->home, &told->task);
        told = next;
    }
    if (goes_on) {
        begin_round(rounds);
    }
}

void catch_up_start(struct catch_up *catch_up)
{
    struct catch_up_rounds *rounds = domain_rounds(catch_up->domain, catch_up->service);
    pthread_mutex_lock(&rounds->mutex);
    bool begins = !rounds->running;
    struct catch_up **list = begins ? &rounds->current : &rounds->waiting;
    catch_up->next = *list;
    *list = catch_up;
    rounds->running = true;
    pthread_mutex_unlock(&rounds->mutex);
    if (begins) {
        begin_round(rounds);
    }
}
