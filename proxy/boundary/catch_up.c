/*
 * One task for each worker that has connections of the domain, and one for who asked:
 *
 *   home --> worker 1: poll, read what is there --.
 *       `--> worker 2: ...                        +--> home: completed
 *
 * A link belongs to its worker, which alone reads, closes and frees it, so a list of them stays
 * valid for as long as that worker is in one task.
 */
#include "boundary/catch_up.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "boundary/call_private.h"
#include "holdfast/log.h"

#define WORKERS_MAX 256
#define LINKS_AT_A_TIME 64

struct part {
    struct worker_task task;
    struct round *round;
    struct worker *worker;
};

struct round {
    struct domain *domain;
    struct worker *home;
    void (*completed)(void *context, bool behind);
    void *context;
    struct worker_task done;
    _Atomic size_t remaining;
    _Atomic bool behind;
    struct part parts[];
};

static void on_done(struct worker_task *task)
{
    struct round *round = (struct round *)(void *)((uint8_t *)task - offsetof(struct round, done));
    void (*completed)(void *, bool) = round->completed;
    void *context = round->context;
    bool behind = atomic_load(&round->behind);
    free(round);
    completed(context, behind);
}

static void part_done(struct round *round)
{
    if (atomic_fetch_sub(&round->remaining, 1) == 1) {
        round->done.run = on_done;
        worker_post(round->home, &round->done);
    }
}

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

static void on_part(struct worker_task *task)
{
    struct part *part = (struct part *)(void *)((uint8_t *)task - offsetof(struct part, task));
    struct round *round = part->round;
    struct domain_link *links[LINKS_AT_A_TIME];
    uint64_t before = UINT64_MAX;
    size_t count;
    do {
        count = domain_links_of(round->domain, part->worker, &before, links, LINKS_AT_A_TIME);
        if (settle_links(links, count)) {
            atomic_store(&round->behind, true);
        }
    } while (count == LINKS_AT_A_TIME);
    part_done(round);
}

void catch_up(struct domain *domain, struct worker *home,
              void (*completed)(void *context, bool behind), void *context)
{
    struct worker *workers[WORKERS_MAX];
    size_t count = domain_link_workers(domain, workers, WORKERS_MAX);
    struct round *round = calloc(1, sizeof *round + count * sizeof(struct part));
    if (round == NULL) {
        LOG(LOG_ERROR, "http",
            "Out of memory: what a service has sent is not read before its answer");
        abort();
    }
    *round = (struct round){
        .domain = domain,
        .home = home,
        .completed = completed,
        .context = context,
        .remaining = count + 1,
    };
    for (size_t i = 0; i < count; i++) {
        struct part *part = &round->parts[i];
        *part = (struct part){.task.run = on_part, .round = round, .worker = workers[i]};
        worker_post(part->worker, &part->task);
    }
    part_done(round);
}
