#ifndef HOLDFAST_TESTS_FAKE_CALL_H
#define HOLDFAST_TESTS_FAKE_CALL_H

/*
 * A call.c that keeps no unit: it admits and ends as the test says, and writes down what it was
 * told. For tests of the front, whose programs it is linked into in place of the real one.
 */

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "boundary/call.h"

struct fake_calls {
    pthread_mutex_t mutex;
    enum call_admission admission; /* of the next call_begin() */
    enum call_admission read_admission;
    bool joined;
    uint64_t unit;
    enum call_end commit_end;
    enum call_end rollback_end;
    bool hold_end; /* `ended` waits for fake_release() */
    bool cancel_fails;
    enum call_admission later; /* for `admitted` */
    enum call_end end;
    struct call *waiting;
    struct call *ending;
    struct trace_id trace; /* of the last one */
    bool inside;
    char log[4096]; /* "begin POST /x; commit; answered; ended; " */
};

static struct fake_calls fake;

static inline void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    (void)pthread_mutex_init(&fake.mutex, NULL);
    fake.unit = 7;
    fake.rollback_end = CALL_ROLLED_BACK;
}

static inline void fake_note(const char *what, const char *detail)
{
    size_t used = strlen(fake.log);
    (void)snprintf(fake.log + used, sizeof fake.log - used, "%s%s%s; ", what,
                   detail[0] == '\0' ? "" : " ", detail);
}

static inline struct call *fake_call_of(struct worker_task *task)
{
    return (struct call *)(void *)((uint8_t *)task - offsetof(struct call, task));
}

static inline void fake_on_admitted(struct worker_task *task)
{
    struct call *call = fake_call_of(task);
    call->joined = fake.joined;
    call->unit = fake.unit;
    call->admitted(call, fake.later);
}

static inline void fake_on_ended(struct worker_task *task)
{
    struct call *call = fake_call_of(task);
    (void)pthread_mutex_lock(&fake.mutex);
    fake_note("ended", "");
    enum call_end end = fake.end;
    (void)pthread_mutex_unlock(&fake.mutex);
    call->ended(call, end);
}

/* From the test: `admitted` comes for the one that waits. */
static inline void fake_admit(enum call_admission admission)
{
    (void)pthread_mutex_lock(&fake.mutex);
    struct call *call = fake.waiting;
    fake.waiting = NULL;
    fake.later = admission;
    (void)pthread_mutex_unlock(&fake.mutex);
    call->task.run = fake_on_admitted;
    worker_post(call->worker, &call->task);
}

/* From the test: `ended` comes for the one that was kept back. */
static inline void fake_release(void)
{
    (void)pthread_mutex_lock(&fake.mutex);
    struct call *call = fake.ending;
    fake.ending = NULL;
    (void)pthread_mutex_unlock(&fake.mutex);
    call->task.run = fake_on_ended;
    worker_post(call->worker, &call->task);
}

static inline bool fake_log_has(const char *text)
{
    (void)pthread_mutex_lock(&fake.mutex);
    bool found = strstr(fake.log, text) != NULL;
    (void)pthread_mutex_unlock(&fake.mutex);
    return found;
}

static inline bool fake_log_is(const char *text)
{
    (void)pthread_mutex_lock(&fake.mutex);
    bool same = strcmp(fake.log, text) == 0;
    (void)pthread_mutex_unlock(&fake.mutex);
    return same;
}

/* Waits a few seconds for it. */
static inline bool fake_log_gets(const char *text)
{
    for (int waited = 0; waited < 1000; waited++) {
        if (fake_log_has(text)) {
            return true;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
    }
    fprintf(stderr, "no \"%s\" in: %s\n", text, fake.log);
    return false;
}

/* ---- call.h */

static inline enum call_admission fake_begin(struct call *call, const char *what,
                                             enum call_admission admission)
{
    char detail[512];
    (void)snprintf(detail, sizeof detail, "%s %s", call->method, call->target);
    (void)pthread_mutex_lock(&fake.mutex);
    fake_note(what, detail);
    call->joined = fake.joined;
    call->unit = fake.unit;
    fake.trace = call->trace;
    fake.inside = call->inside;
    fake.waiting = admission == CALL_WAITING ? call : NULL;
    (void)pthread_mutex_unlock(&fake.mutex);
    return admission;
}

enum call_admission call_begin(struct call *call)
{
    return fake_begin(call, "begin", fake.admission);
}

enum call_admission call_wait_read(struct call *call)
{
    return fake_begin(call, "read", fake.read_admission);
}

bool call_move(struct call *call)
{
    (void)call;
    return false;
}

/* ---- domain.h: no service of these tests has instances */

size_t domain_instance_enter(struct domain *domain, size_t preferred)
{
    (void)domain;
    return preferred;
}

void domain_instance_leave(struct domain *domain, size_t instance)
{
    (void)domain;
    (void)instance;
}

void domain_instance_failed(struct domain *domain, size_t instance)
{
    (void)domain;
    (void)instance;
}

bool call_cancel(struct call *call)
{
    (void)pthread_mutex_lock(&fake.mutex);
    fake_note("cancel", "");
    bool done = !fake.cancel_fails;
    if (done && fake.waiting == call) {
        fake.waiting = NULL;
    }
    (void)pthread_mutex_unlock(&fake.mutex);
    return done;
}

void call_handler_ended(struct call *call, enum call_handler_end end)
{
    (void)call;
    (void)pthread_mutex_lock(&fake.mutex);
    fake_note(end == CALL_HANDLER_ANSWERED ? "answered" : "lost", "");
    (void)pthread_mutex_unlock(&fake.mutex);
}

static inline void fake_end(struct call *call, const char *what, const char *detail,
                            enum call_end end)
{
    (void)pthread_mutex_lock(&fake.mutex);
    fake_note(what, detail);
    fake.end = end;
    bool hold = fake.hold_end;
    fake.ending = call;
    (void)pthread_mutex_unlock(&fake.mutex);
    if (!hold) {
        call->task.run = fake_on_ended;
        worker_post(call->worker, &call->task);
    }
}

void call_commit(struct call *call)
{
    call->reason = "the journal is full";
    fake_end(call, "commit", "", fake.commit_end);
}

void call_roll_back(struct call *call, const char *reason)
{
    call->reason = reason;
    fake_end(call, "roll_back", reason, fake.rollback_end);
}

#endif
