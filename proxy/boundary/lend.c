/*
 * Lending a connection of a domain (lend.h).
 *
 *   lend_start() --> worker 1: one of its links that is free? --> worker 2 ... --> lent()
 *                       ^                                            |
 *                       `------ LEND_PAUSE_MS later <-- some are busy'-- none, or too late --> NULL
 *
 * Of instances any one's will do: that of the call may have been killed.
 *
 * A link belongs to its worker, which alone lends, closes and frees it. A loan moves from worker to
 * worker by tasks, and is nobody else's meanwhile.
 */
#include "boundary/lend.h"

#include <assert.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "boundary/call_private.h"
#include "holdfast/clock.h"

#define WORKERS_MAX 256u
#define LINKS_AT_A_TIME 64u
#define LEND_PAUSE_MS 5u

struct loan {
    struct domain *domain;
    char *user;
    void (*lent)(void *context, struct loan *loan, struct engine_channel *channel);
    void *context;
    struct worker_task task;
    struct worker *home;
    struct worker *workers[WORKERS_MAX];
    size_t worker_count;
    size_t worker_at;
    bool some_are_busy;
    uint64_t until_ms;
    struct event timer;
    struct domain_link *link;
};

static void begin_pass(struct loan *loan);

static void loan_free(struct loan *loan)
{
    free(loan->user);
    free(loan);
}

static void on_none(struct worker_task *task)
{
    struct loan *loan = (struct loan *)(void *)((uint8_t *)task - offsetof(struct loan, task));
    void (*lent)(void *, struct loan *, struct engine_channel *) = loan->lent;
    void *context = loan->context;
    loan_free(loan);
    lent(context, NULL, NULL);
}

static void tell_none(struct loan *loan)
{
    loan->task.run = on_none;
    worker_post(loan->home, &loan->task);
}

/* ------------------------------------------------------------------ looking */

static void on_timer(evutil_socket_t descriptor, short what, void *context)
{
    (void)descriptor;
    (void)what;
    begin_pass(context);
}

/* On the last worker that was asked. */
static void end_pass(struct loan *loan, struct worker *worker)
{
    if (!loan->some_are_busy || clock_monotonic_ms() >= loan->until_ms) {
        tell_none(loan);
        return;
    }
    int assigned = event_assign(&loan->timer, worker_base(worker), -1, 0, on_timer, loan);
    assert(assigned == 0);
    worker_timer_start(&loan->timer, LEND_PAUSE_MS);
}

/* NULL: none of this worker's is free. */
static struct engine_channel *look(struct loan *loan, struct worker *worker)
{
    struct domain_link *links[LINKS_AT_A_TIME];
    uint64_t before = UINT64_MAX;
    size_t count;
    do {
        count = domain_links_of(loan->domain, DOMAIN_NO_INSTANCE, worker, &before, links,
                                LINKS_AT_A_TIME);
        for (size_t i = 0; i < count; i++) {
            struct engine_channel *channel = NULL;
            enum domain_lent lent = links[i]->lend(links[i], loan->user, &channel);
            loan->some_are_busy |= lent == DOMAIN_LENT_BUSY;
            if (lent == DOMAIN_LENT) {
                loan->link = links[i];
                return channel;
            }
        }
    } while (count == LINKS_AT_A_TIME);
    return NULL;
}

static void on_look(struct worker_task *task)
{
    struct loan *loan = (struct loan *)(void *)((uint8_t *)task - offsetof(struct loan, task));
    struct worker *worker = loan->workers[loan->worker_at++];
    struct engine_channel *channel = look(loan, worker);
    if (channel != NULL) {
        loan->lent(loan->context, loan, channel);
    } else if (loan->worker_at < loan->worker_count) {
        worker_post(loan->workers[loan->worker_at], &loan->task);
    } else {
        end_pass(loan, worker);
    }
}

/* The caller's own worker first: its connections cost no way to another thread. */
static void begin_pass(struct loan *loan)
{
    loan->some_are_busy = false;
    loan->worker_at = 0;
    loan->worker_count =
        domain_link_workers(loan->domain, DOMAIN_NO_INSTANCE, loan->workers, WORKERS_MAX);
    for (size_t i = 1; i < loan->worker_count; i++) {
        if (loan->workers[i] == loan->home) {
            loan->workers[i] = loan->workers[0];
            loan->workers[0] = loan->home;
        }
    }
    if (loan->worker_count == 0) {
        tell_none(loan);
        return;
    }
    loan->task.run = on_look;
    worker_post(loan->workers[0], &loan->task);
}

void lend_start(struct domain *domain, struct worker *home, const char *user,
                void (*lent)(void *context, struct loan *loan, struct engine_channel *channel),
                void *context)
{
    struct loan *loan = memory_new_aligned(1, sizeof *loan, _Alignof(struct loan));
    char *copy = strdup(user);
    if (loan == NULL || copy == NULL) {
        free(loan);
        free(copy);
        lent(context, NULL, NULL);
        return;
    }
    loan->domain = domain;
    loan->user = copy;
    loan->lent = lent;
    loan->context = context;
    loan->home = home;
    loan->until_ms = clock_monotonic_ms() + LEND_MS;
    begin_pass(loan);
}

/* ------------------------------------------------------------------ giving back */

static void on_end(struct worker_task *task)
{
    struct loan *loan = (struct loan *)(void *)((uint8_t *)task - offsetof(struct loan, task));
    loan->link->take_back(loan->link);
    loan_free(loan);
}

void lend_end(struct loan *loan)
{
    if (loan != NULL) {
        loan->task.run = on_end;
        worker_post(loan->link->worker, &loan->task);
    }
}
