/*
 * One API call and the end of its unit; its life is drawn in call.h.
 *
 * After the service's answer, first of all: what it had sent before is read, decided and answered
 * (catch_up.h), for it belongs to the call.
 *
 *   call_commit()      check out --> commit --> COMMIT durable --> ended(COMMITTED)
 *                        |  |          `--> the journal is full --> roll back -->
 * ended(ROLLED_BACK) |  `--> a write of it is at work: again when that is done
 *                        `--> it has ended already (a limit, a conflict): ended(ROLLED_BACK)
 *   native engine: before the commit or the rollback of a unit that has a transaction on the server
 * a connection of its service is lent (lend.h), on which that is ended; given back afterwards
 *   call_roll_back()   take --> roll back --> ended(ROLLED_BACK)
 *                        `--> a write of it is at work: who does that rolls it back; wait for it
 *
 * The call's worker, but for the callbacks of journal, rollback and waiters, which only post.
 */
#include "boundary/call.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "boundary/call_private.h"
#include "engine/enter.h"
#include "engine/native_unit.h"
#include "holdfast/clock.h"

static void check_out(struct call *call);

/* ------------------------------------------------------------------ tasks */

static void on_task(struct worker_task *task)
{
    struct call *call = (struct call *)(void *)((uint8_t *)task - offsetof(struct call, task));
    call->resume(call);
}

static void wake(struct call *call, void (*resume)(struct call *))
{
    call->resume = resume;
    call->task.run = on_task;
    worker_post(call->worker, &call->task);
}

static void tell_ended(struct call *call)
{
    domain_call_ended(call);
    call->ended(call, call->end);
}

/* Never from inside the function that was called. */
static void end(struct call *call, enum call_end how, const char *reason)
{
    call->end = how;
    call->reason = reason;
    wake(call, tell_ended);
}

static void tell_admitted(struct call *call)
{
    call->admitted(call, call->admission);
}

void call_tell_admitted(struct call *call, enum call_admission admission)
{
    call->admission = admission;
    wake(call, tell_admitted);
}

/* ------------------------------------------------------------------ beginning */

/* "POST /v2/projects": without the query, which may hold secrets, and without what is no text. */
static void make_name(struct call *call)
{
    size_t at = (size_t)snprintf(call->name, sizeof call->name, "%.16s ", call->method);
    for (const char *from = call->target;
         *from != '\0' && *from != '?' && at + 1 < sizeof call->name; from++) {
        char shown = '?';
        if (*from > ' ' && *from < 0x7f) {
            shown = *from;
        }
        call->name[at++] = shown;
    }
    call->name[at] = '\0';
}

void call_begin_observing(struct call *call)
{
    if (call->observe != NULL) {
        call->observed =
            observe_call_begin(call->observe, call->service_name, call->method, call->target);
    }
}

bool call_open_unit(struct call *call)
{
    struct engine *engine = call->engine;
    struct unit *unit = NULL;
    uint64_t id = wal_unit_next(engine->wal);
    make_name(call);
    unit_session_key_of_call(id, &call->key);
    struct unit_request wanted = {
        .user = "",
        .key = &call->key,
        .boundary = UNIT_BOUNDARY_HTTP,
        .name = call->name,
        .begin = true,
        .client = call->caller,
        .application = call->service_name,
        .id = id,
        .group = domain_call_group(call->domain, id),
        .trace = trace_id_is_none(&call->trace) ? NULL : &call->span,
        .serializable = engine->serializable,
        .request_key = call->request_key,
    };
    if (unit_table_checkout(engine->units, &wanted, &call->waiter, &unit) != UNIT_CHECKOUT_READY) {
        return false;
    }
    /* Its handler may read before it writes: what changes after this moment is news to it. */
    lock_owner_begin(engine->locks, &unit->locks);
    enter_snapshot(engine, unit);
    call->unit = id;
    call_begin_observing(call);
    const char *reason = unit_table_checkin(engine->units, unit);
    assert(reason == NULL); /* nobody else knows it yet */
    return true;
}

static void init(struct call *call)
{
    domain_engine(call->domain, &call->engine, &call->observe);
    call->joined = call->is_read = call->waiting = call->ending = call->handler_answered = false;
    call->unit = 0;
    call->reason = NULL;
    call->loan = NULL;
    call->slot = NULL;
    call->handler = NULL;
    call->observed = 0;
}

enum call_admission call_begin(struct call *call)
{
    init(call);
    return domain_call_begin(call);
}

enum call_admission call_wait_read(struct call *call)
{
    init(call);
    call->is_read = true;
    return domain_read_begin(call);
}

bool call_move(struct call *call)
{
    return domain_call_move(call);
}

bool call_cancel(struct call *call)
{
    return domain_call_cancel(call);
}

/* ------------------------------------------------------------------ ending the unit */

static void check_in(struct call *call)
{
    const char *reason = unit_table_checkin(call->engine->units, call->checked_out);
    (void)reason; /* an ended unit is always taken back */
    call->checked_out = NULL;
}

/* Whatever was lent to end the unit. */
static void give_back(struct call *call)
{
    lend_end(call->loan);
    call->loan = NULL;
}

static void after_rollback(struct call *call)
{
    give_back(call);
    bool conflict = call->checked_out->state == UNIT_CONFLICT;
    check_in(call);
    end(call, conflict ? CALL_CONFLICT : CALL_ROLLED_BACK, call->rollback.reason);
}

static void on_rolled_back(struct rollback *rollback)
{
    wake(rollback->context, after_rollback);
}

/* On the channel's worker, if there is one. */
static void start_rollback(void *context, struct loan *loan, struct engine_channel *channel)
{
    struct call *call = context;
    call->loan = loan;
    call->rollback.channel = channel;
    rollback_start(&call->rollback);
}

/* With a connection to the server, if there is a transaction to be ended. */
static void with_channel(struct call *call,
                         void (*start)(void *, struct loan *, struct engine_channel *))
{
    const struct unit *unit = call->checked_out;
    if (native_unit_has_begun(unit)) {
        lend_start(call->domain, call->worker, unit->user, start, call);
    } else {
        start(call, NULL, NULL);
    }
}

static void roll_back(struct call *call, const char *reason)
{
    call->rollback = (struct rollback){
        .engine = call->engine,
        .unit = call->checked_out,
        .reason = reason,
        .completed = on_rolled_back,
        .context = call,
    };
    with_channel(call, start_rollback);
}

/* Native engine: the server has said how it ended, or does not. */
static void after_refused_commit(struct call *call)
{
    bool conflict = call->checked_out->state == UNIT_CONFLICT;
    check_in(call);
    end(call, conflict ? CALL_CONFLICT : CALL_ROLLED_BACK,
        "the server has lost its transaction, or refused to commit it");
}

static void after_commit(struct call *call)
{
    give_back(call);
    if (call->commit_status == STATUS_CONFLICT) {
        after_refused_commit(call);
        return;
    }
    if (call->commit_status != STATUS_OK) {
        roll_back(call, "the journal is full");
        return;
    }
    check_in(call);
    end(call, CALL_COMMITTED, NULL);
}

static void on_committed(struct commit *commit, enum status status)
{
    struct call *call = commit->context;
    call->commit_status = status;
    wake(call, after_commit);
}

/* Else what its service sends there would wait until the server is back and says how it ended. */
static void on_left(struct commit *commit)
{
    give_back(commit->context);
}

static void start_commit(void *context, struct loan *loan, struct engine_channel *channel)
{
    struct call *call = context;
    call->loan = loan;
    call->commit.channel = channel;
    call->commit.process = channel == NULL ? NULL : channel->process;
    commit_start(&call->commit);
}

static void commit(struct call *call)
{
    call->commit = (struct commit){
        .engine = call->engine,
        .unit = call->checked_out,
        .reply = call->answer,
        .completed = on_committed,
        .left = on_left,
        .context = call,
    };
    with_channel(call, start_commit);
}

static void on_ready(struct unit_waiter *waiter)
{
    struct call *call = (struct call *)(void *)((uint8_t *)waiter - offsetof(struct call, waiter));
    wake(call, check_out);
}

static void check_out(struct call *call)
{
    static const char gone[] =
        "its unit was rolled back before: a write met another unit's document, a limit of "
        "units, or a broken connection, or an operator or unit.lifetime ended it";
    static const char gone_native[] =
        "its unit was rolled back before: the server refused a command of its transaction, as for "
        "a duplicate key or a WriteConflict, a connection broke, or an operator or unit.lifetime "
        "ended it";
    struct unit_request wanted = {.user = "", .key = &call->key};
    call->waiter.ready = on_ready;
    switch (unit_table_checkout(call->engine->units, &wanted, &call->waiter, &call->checked_out)) {
    case UNIT_CHECKOUT_READY:
        if (call->committing) {
            commit(call);
        } else {
            roll_back(call, call->reason);
        }
        break;
    case UNIT_CHECKOUT_WAITING:
        break;
    case UNIT_CHECKOUT_CONFLICT:
        end(call, CALL_CONFLICT, NULL);
        break;
    case UNIT_CHECKOUT_COMMITTED:
    case UNIT_CHECKOUT_ABORTED:
    case UNIT_CHECKOUT_UNKNOWN:
    case UNIT_CHECKOUT_SUPERSEDED:
    case UNIT_CHECKOUT_TOO_OLD:
    case UNIT_CHECKOUT_EXISTS:
    case UNIT_CHECKOUT_LIMIT:
    case UNIT_CHECKOUT_NO_MEMORY:
        /* Only this call commits it. */
        end(call, CALL_ROLLED_BACK,
            !call->committing              ? call->reason
            : call->engine->native != NULL ? gone_native
                                           : gone);
        break;
    }
}

/* ------------------------------------------------------------------ after the answer */

/* Longer than a write may wait for a lock by default. */
#define CATCH_UP_MS 10000u

static void end_observing(struct call *call)
{
    if (call->observe != NULL) {
        observe_call_end(call->observe, call->observed,
                         call->committing         ? OBSERVE_ANSWERED
                         : call->handler_answered ? OBSERVE_REFUSED
                                                  : OBSERVE_UNANSWERED);
    }
}

static void end_unit(struct call *call)
{
    end_observing(call);
    if (call->committing) {
        check_out(call);
        return;
    }
    call->checked_out = unit_table_take_key(call->engine->units, &call->key, call->reason);
    if (call->checked_out != NULL) {
        roll_back(call, call->reason);
    } else {
        check_out(call); /* waits for who works on it, and now rolls it back */
    }
}

static void on_caught_up(struct catch_up *catch_up, bool behind)
{
    struct call *call =
        (struct call *)(void *)((uint8_t *)catch_up - offsetof(struct call, catch_up));
    if (domain_call_close(call, behind, clock_monotonic_ms() >= call->late_ms)) {
        domain_handler_answered(call->domain, call->handler);
        call->handler = NULL;
        end_unit(call);
    }
}

static void catch_up_again(struct call *call)
{
    call->catch_up = (struct catch_up){.domain = call->domain,
                                       .service = call->service,
                                       .home = call->worker,
                                       .completed = on_caught_up};
    catch_up_start(&call->catch_up);
}

void call_tell_ready(struct call *call)
{
    wake(call, catch_up_again);
}

/* A handler that has outlived its call, or that of a joined one: its slot may go on after this. */
struct late_handler {
    struct catch_up catch_up;
    struct domain_handler *handler;
};

static void on_late_caught_up(struct catch_up *catch_up, bool behind)
{
    (void)behind; /* what was read was decided while its slot was fenced, or its call open */
    struct late_handler *late =
        (struct late_handler *)(void *)((uint8_t *)catch_up -
                                        offsetof(struct late_handler, catch_up));
    domain_handler_answered(catch_up->domain, late->handler);
    free(late);
}

static void end_late_handler(struct call *call)
{
    struct late_handler *late = malloc(sizeof *late);
    struct domain_handler *handler = call->handler;
    call->handler = NULL;
    if (late == NULL) {
        domain_handler_answered(call->domain, handler);
        return;
    }
    *late = (struct late_handler){
        .catch_up = {.domain = call->domain,
                     .service = call->service,
                     .home = call->worker,
                     .completed = on_late_caught_up},
        .handler = handler,
    };
    catch_up_start(&late->catch_up);
}

void call_handler_ended(struct call *call, enum call_handler_end end)
{
    call->handler_answered = end == CALL_HANDLER_ANSWERED;
    if (call->handler == NULL) {
        return; /* observe only */
    }
    if (end == CALL_HANDLER_LOST) {
        domain_handler_lost(call);
    } else if (call->joined || call->ending) {
        end_late_handler(call);
    }
}

/* ------------------------------------------------------------------ the end */

static void begin_end(struct call *call)
{
    call->ending = true;
    if (call->unit == 0) { /* observe only */
        end_observing(call);
        end(call, call->committing ? CALL_COMMITTED : CALL_ROLLED_BACK, call->reason);
    } else if (call->handler != NULL && call->handler_answered) {
        call->late_ms = clock_monotonic_ms() + CATCH_UP_MS;
        catch_up_again(call);
    } else {
        domain_call_closing(call);
        end_unit(call);
    }
}

void call_commit(struct call *call)
{
    assert(!call->joined && !call->ending);
    call->committing = true;
    begin_end(call);
}

void call_roll_back(struct call *call, const char *reason)
{
    assert(!call->joined && !call->ending);
    call->committing = false;
    call->reason = reason;
    begin_end(call);
}
