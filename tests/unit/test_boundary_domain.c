/*
 * Slots, queues and fences of a domain, with real units, a real journal and a real worker; calls
 * are driven by hand, and time by the `now` that domain_tick() is given.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <string.h>

#include "boundary/call.h"
#include "holdfast/clock.h"
#include "wal_fixture.h"

#define QUIET_MS 1000000u
#define CALLS 8

struct rig {
    struct fixture *fixture;
    struct worker_pool *workers;
    struct engine engine;
    struct domain *domain;
    struct call calls[CALLS];
    enum call_admission told[CALLS]; /* by `admitted` */
    enum call_end ended[CALLS];
    bool is_told[CALLS];
    bool is_ended[CALLS];
    /* what runs on the worker */
    struct worker_task task;
    void (*run)(struct rig *rig);
    sem_t done;
    /* its parameters */
    size_t at;
    enum call_admission admission;
    enum call_handler_end handler_end;
    size_t instance;
    bool moved;
    bool observe_only;
};

static struct rig rig;

/* ------------------------------------------------------------------ on the worker */

static size_t number_of(const struct call *call)
{
    return (size_t)(call - rig.calls);
}

static void on_admitted(struct call *call, enum call_admission admission)
{
    rig.told[number_of(call)] = admission;
    rig.is_told[number_of(call)] = true;
}

static void on_ended(struct call *call, enum call_end end)
{
    rig.ended[number_of(call)] = end;
    rig.is_ended[number_of(call)] = true;
}

static void on_task(struct worker_task *task)
{
    (void)task;
    if (rig.run != NULL) {
        rig.run(&rig);
    }
    sem_post(&rig.done);
}

static void on_worker(void (*run)(struct rig *rig))
{
    rig.run = run;
    rig.task.run = on_task;
    worker_post(worker_pool_get(rig.workers, 0), &rig.task);
    sem_wait(&rig.done);
}

/* Everything that was posted so far, and what that has posted, has run. */
static void settle(void)
{
    for (int i = 0; i < 8; i++) {
        on_worker(NULL);
    }
}

static void run_begin(struct rig *state)
{
    state->admission = call_begin(&state->calls[state->at]);
}

static void run_wait_read(struct rig *state)
{
    state->admission = call_wait_read(&state->calls[state->at]);
}

static void run_commit(struct rig *state)
{
    call_handler_ended(&state->calls[state->at], CALL_HANDLER_ANSWERED);
    call_commit(&state->calls[state->at]);
}

static void run_roll_back(struct rig *state)
{
    call_roll_back(&state->calls[state->at], "a test");
}

static void run_handler_ended(struct rig *state)
{
    call_handler_ended(&state->calls[state->at], state->handler_end);
}

static enum call_admission begin_as(size_t at, uint8_t trace, bool inside)
{
    rig.calls[at] = (struct call){
        .domain = rig.domain,
        .worker = worker_pool_get(rig.workers, 0),
        .service = inside ? 1 : 0,
        .service_name = "s",
        .inside = inside,
        .trace.bytes = {trace},
        .method = "POST",
        .target = "/x?secret",
        .caller = "c",
        .admitted = on_admitted,
        .ended = on_ended,
    };
    rig.is_told[at] = rig.is_ended[at] = false;
    rig.at = at;
    on_worker(run_begin);
    return rig.admission;
}

static enum call_admission begin(size_t at)
{
    return begin_as(at, 0, false);
}

static void run_begin_on(struct rig *state)
{
    state->calls[state->at].service = state->instance;
    state->admission = call_begin(&state->calls[state->at]);
}

/* In a domain of instances, with one that it would rather have. */
static enum call_admission begin_on(size_t at, size_t preferred)
{
    rig.calls[at] = (struct call){
        .domain = rig.domain,
        .worker = worker_pool_get(rig.workers, 0),
        .service_name = "s",
        .method = "POST",
        .target = "/x",
        .caller = "c",
        .admitted = on_admitted,
        .ended = on_ended,
    };
    rig.is_told[at] = rig.is_ended[at] = false;
    rig.at = at;
    rig.instance = preferred;
    on_worker(run_begin_on);
    return rig.admission;
}

static void run_move(struct rig *state)
{
    state->moved = call_move(&state->calls[state->at]);
}

static bool moves(size_t at)
{
    rig.at = at;
    on_worker(run_move);
    return rig.moved;
}

static void assert_ends(size_t at, void (*run)(struct rig *rig), enum call_end end)
{
    rig.at = at;
    on_worker(run);
    settle();
    assert_true(rig.is_ended[at]);
    assert_int_equal(rig.ended[at], end);
}

static void handler_ended(size_t at, enum call_handler_end end)
{
    rig.at = at;
    rig.handler_end = end;
    on_worker(run_handler_ended);
}

static bool is_admitted(size_t at)
{
    settle();
    return rig.is_told[at] && rig.told[at] == CALL_ADMITTED;
}

/* A write that is in a call is at work until write_is_done(). */
static enum domain_write begin_write(uint8_t trace, struct domain_write_call *call)
{
    struct trace_id id = {.bytes = {trace}};
    const char *reason = "";
    return domain_write_decide(rig.domain, 0, trace == 0 ? NULL : &id, true, NULL, call, &reason);
}

/* By a connection of an instance. */
static enum domain_write write_by(size_t instance, struct domain_write_call *call)
{
    const char *reason = "";
    enum domain_write decided =
        domain_write_decide(rig.domain, instance, NULL, true, NULL, call, &reason);
    if (decided == DOMAIN_WRITE_IN_CALL) {
        domain_write_done(call->slot);
    }
    return decided;
}

static enum domain_write write_now(uint8_t trace)
{
    struct domain_write_call call;
    enum domain_write decided = begin_write(trace, &call);
    if (decided == DOMAIN_WRITE_IN_CALL) {
        domain_write_done(call.slot);
    }
    return decided;
}

/* Connections of the test's service: nothing is ever left in them, but what `behind` says. */
static bool behind;

static bool settle_link(struct domain_link *link, bool readable)
{
    (void)link;
    (void)readable;
    return behind;
}

static void open_link(size_t service, struct domain_link *link)
{
    *link = (struct domain_link){
        .worker = worker_pool_get(rig.workers, 0), .descriptor = -1, .settle = settle_link};
    domain_link_open(rig.domain, service, link);
}

static void tick_later(uint64_t ms)
{
    domain_tick(rig.domain, clock_monotonic_ms() + ms);
    settle();
}

/* ------------------------------------------------------------------ making */

static void open_domain(enum domain_correlation correlation, bool fenced)
{
    struct domain_options options = {
        .name = "d",
        .correlation = correlation,
        .instance_count = correlation == DOMAIN_INSTANCES ? 3 : 0,
        .observe_only = rig.observe_only,
        .queue_wait_ms = 1000,
        .queue_max = 2,
        .quiet_ms = QUIET_MS,
        .fenced_at_start = fenced,
        .engine = &rig.engine,
    };
    rig.domain = domain_new(&options);
    assert_non_null(rig.domain);
}

static int setup(void **state)
{
    struct error error = {0};
    void *fixture = NULL;
    (void)state;
    rig = (struct rig){0};
    fixture_setup(&fixture);
    rig.fixture = fixture;
    (void)sem_init(&rig.done, 0, 0);
    assert_int_equal(worker_pool_start(1, &rig.workers, &error), STATUS_OK);
    rig.engine.wal = fixture_open(rig.fixture);
    rig.engine.units = unit_table_new(4, 100);
    rig.engine.locks = lock_table_new(100, 100);
    rig.engine.gates = gate_table_new(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig.workers = worker_pool_stop(rig.workers);
    assert_int_equal(unit_table_open_count(rig.engine.units), 0);
    rig.domain = domain_free(rig.domain);
    unit_table_free(rig.engine.units);
    lock_table_free(rig.engine.locks);
    gate_table_free(rig.engine.gates);
    wal_close(rig.engine.wal, true);
    void *fixture = rig.fixture;
    return fixture_teardown(&fixture);
}

/* ------------------------------------------------------------------ exclusive */

static void test_one_call_at_a_time_in_order(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_true(rig.calls[0].unit != 0);
    assert_int_equal(write_now(0), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(begin(1), CALL_WAITING);
    assert_int_equal(begin(2), CALL_WAITING);
    assert_int_equal(begin(3), CALL_QUEUE_FULL);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_true(is_admitted(1) && !rig.is_told[2]);
    assert_ends(1, run_commit, CALL_COMMITTED);
    assert_true(is_admitted(2));
    handler_ended(2, CALL_HANDLER_ANSWERED);
    assert_ends(2, run_roll_back, CALL_ROLLED_BACK);
    assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
    struct domain_figures figures;
    domain_figures_get(rig.domain, &figures);
    assert_int_equal(figures.committed, 2);
    assert_int_equal(figures.rolled_back, 1);
    assert_int_equal(figures.queued, 2);
    assert_int_equal(figures.queue_refused, 1);
    assert_int_equal(figures.writes_in_calls, 1);
    assert_int_equal(figures.writes_beside, 2);
}

static void test_waiting_ends(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(begin(1), CALL_WAITING);
    assert_int_equal(begin(2), CALL_WAITING);
    assert_true(call_cancel(&rig.calls[1]));
    tick_later(2000);
    assert_true(rig.is_told[2] && !rig.is_told[1]);
    assert_int_equal(rig.told[2], CALL_QUEUE_TIMEOUT);
    assert_false(call_cancel(&rig.calls[2]));
    assert_int_equal(begin(3), CALL_WAITING);
    domain_drain(rig.domain);
    settle();
    assert_int_equal(rig.told[3], CALL_DRAINING);
    assert_int_equal(begin(4), CALL_DRAINING);
    assert_ends(0, run_commit, CALL_COMMITTED); /* what is open goes on */
}

static void test_a_living_handler_fences_until_it_has_answered(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(begin(1), CALL_WAITING);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK); /* a timeout */
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    domain_tick(rig.domain, clock_monotonic_ms()); /* as long as it takes: no quiet period helps */
    assert_false(is_admitted(1));
    handler_ended(0, CALL_HANDLER_ANSWERED);
    assert_true(is_admitted(1));
    assert_int_equal(write_now(0), DOMAIN_WRITE_IN_CALL);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_a_lost_handler_fences_until_its_connections_are_closed(void **state)
{
    (void)state;
    struct domain_link before[2] = {0};
    struct domain_link other = {0};
    struct domain_link after = {0};
    open_domain(DOMAIN_EXCLUSIVE, false);
    open_link(0, &before[0]);
    open_link(0, &before[1]);
    open_link(7, &other);
    assert_int_equal(begin(0), CALL_ADMITTED);
    handler_ended(0, CALL_HANDLER_LOST);
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED); /* also before its rollback */
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
    open_link(0, &after); /* of the service, started again */
    assert_int_equal(begin(1), CALL_WAITING);
    domain_link_close(&before[0], true);
    assert_false(is_admitted(1));
    domain_link_close(&before[1], true);
    assert_true(is_admitted(1));
    assert_ends(1, run_commit, CALL_COMMITTED);
    domain_link_close(&other, true);
    domain_link_close(&after, true);
    domain_link_close(&after, true); /* harmless */
}

static void test_a_lost_handler_fences_until_it_is_silent(void **state)
{
    (void)state;
    struct domain_link link = {0};
    open_domain(DOMAIN_EXCLUSIVE, false);
    open_link(0, &link);
    assert_int_equal(begin(0), CALL_ADMITTED);
    handler_ended(0, CALL_HANDLER_LOST);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
    tick_later(QUIET_MS - 1000);
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    tick_later(QUIET_MS + 1000);
    assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
    domain_link_close(&link, true);
}

/* It may open a connection for each write. */
static void test_connections_made_in_a_call_tell_nothing(void **state)
{
    (void)state;
    struct domain_link link = {0};
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(begin(0), CALL_ADMITTED);
    open_link(0, &link);
    handler_ended(0, CALL_HANDLER_LOST);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
    domain_link_close(&link, true);
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    tick_later(QUIET_MS + 1000);
    assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
}

/* Before or after the handler is lost: the service may be alive and connect again. */
static void test_connections_that_the_proxy_closed_tell_nothing(void **state)
{
    (void)state;
    for (int before = 0; before < 2; before++) {
        struct domain_link link = {0};
        open_domain(DOMAIN_EXCLUSIVE, false);
        open_link(0, &link);
        assert_int_equal(begin(0), CALL_ADMITTED);
        if (before) {
            domain_link_close(&link, false);
        }
        handler_ended(0, CALL_HANDLER_LOST);
        assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
        domain_link_close(&link, false);
        assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
        tick_later(QUIET_MS + 1000);
        assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
        rig.domain = domain_free(rig.domain);
    }
}

/* The ends of a killed process come in any order: here those of its mongo connections first. */
static void test_a_killed_service_is_silent(void **state)
{
    (void)state;
    struct domain_link link = {0};
    open_domain(DOMAIN_EXCLUSIVE, false);
    open_link(0, &link);
    assert_int_equal(begin(0), CALL_ADMITTED);
    domain_link_close(&link, true);
    handler_ended(0, CALL_HANDLER_LOST);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
    assert_int_equal(begin(1), CALL_ADMITTED);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_a_start_fences(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, true);
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin(0), CALL_WAITING);
    tick_later(500);
    assert_false(is_admitted(0));
    domain_tick(rig.domain, clock_monotonic_ms() + QUIET_MS + 1000); /* ends its wait as well */
    settle();
    assert_int_equal(begin(1), CALL_ADMITTED);
    assert_int_equal(write_now(0), DOMAIN_WRITE_IN_CALL);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_reads_wait(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    rig.calls[1] = rig.calls[0] = (struct call){0};
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(begin(2), CALL_WAITING);
    rig.calls[1] = rig.calls[0];
    rig.calls[1].domain = rig.domain;
    rig.calls[1].slot = NULL;
    rig.at = 1;
    on_worker(run_wait_read);
    assert_int_equal(rig.admission, CALL_WAITING);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_true(is_admitted(1));
    assert_true(is_admitted(2));
    assert_ends(2, run_commit, CALL_COMMITTED);
    on_worker(run_wait_read);
    assert_int_equal(rig.admission, CALL_ADMITTED);
}

static void test_a_unit_that_somebody_else_ended_is_not_committed(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(begin(0), CALL_ADMITTED);
    struct unit *unit = unit_table_take(rig.engine.units, rig.calls[0].unit, "an operator", NULL);
    assert_non_null(unit);
    assert_string_equal(unit->name, "POST /x"); /* no query: it may hold secrets */
    rollback_detached(&rig.engine, unit, "an operator");
    assert_ends(0, run_commit, CALL_ROLLED_BACK);
    assert_non_null(rig.calls[0].reason);
}

static void test_units_are_limited(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    unit_table_set_units_max(rig.engine.units, 0);
    assert_int_equal(begin(0), CALL_LIMIT);
    unit_table_set_units_max(rig.engine.units, 4);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_ends(0, run_commit, CALL_COMMITTED);
}

/* What was sent before the answer is of the call, though its worker reads it later. */
static void test_a_call_ends_after_the_writes_before_its_answer(void **state)
{
    (void)state;
    struct domain_link link;
    struct domain_write_call call;
    open_domain(DOMAIN_EXCLUSIVE, false);
    open_link(0, &link);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(begin_write(0, &call), DOMAIN_WRITE_IN_CALL);
    rig.at = 0;
    on_worker(run_commit);
    settle();
    assert_false(rig.is_ended[0]);
    /* Another one is read meanwhile. */
    assert_int_equal(write_now(0), DOMAIN_WRITE_IN_CALL);
    settle();
    assert_false(rig.is_ended[0]);
    behind = true;
    domain_write_done(call.slot);
    settle();
    assert_false(rig.is_ended[0]); /* the rest of a command has not come */
    behind = false;
    domain_tick(rig.domain, clock_monotonic_ms());
    settle();
    assert_true(rig.is_ended[0]);
    assert_int_equal(rig.ended[0], CALL_COMMITTED);
    assert_int_equal(write_now(0), DOMAIN_WRITE_BESIDE);
    domain_link_close(&link, true);
}

/* ------------------------------------------------------------------ inside */

static void test_a_call_from_inside_joins(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(begin(1), CALL_WAITING);
    assert_int_equal(begin_as(2, 0, true), CALL_ADMITTED); /* past the queue */
    assert_true(rig.calls[2].joined && rig.calls[2].unit == 0);
    handler_ended(2, CALL_HANDLER_ANSWERED);
    assert_int_equal(begin_as(3, 0, true), CALL_ADMITTED);
    assert_ends(0, run_commit, CALL_COMMITTED);
    /* What it called has not ended: the next call waits for that, and a late one is refused. */
    assert_false(is_admitted(1));
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin_as(4, 0, true), CALL_LATE);
    handler_ended(3, CALL_HANDLER_ANSWERED);
    assert_true(is_admitted(1));
    assert_ends(1, run_commit, CALL_COMMITTED);
    /* With none open it is a call of its own. */
    assert_int_equal(begin_as(5, 0, true), CALL_ADMITTED);
    assert_false(rig.calls[5].joined);
    assert_ends(5, run_commit, CALL_COMMITTED);
}

/* ------------------------------------------------------------------ trace */

static void test_traces_run_side_by_side(void **state)
{
    (void)state;
    open_domain(DOMAIN_TRACE, false);
    assert_int_equal(begin_as(0, 1, false), CALL_ADMITTED);
    assert_int_equal(begin_as(1, 2, false), CALL_ADMITTED);
    assert_int_equal(begin_as(2, 1, false), CALL_WAITING); /* one trace, one after the other */
    assert_int_equal(write_now(1), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(write_now(2), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(write_now(3), DOMAIN_WRITE_REFUSED);
    assert_int_equal(write_now(0), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin_as(3, 2, true), CALL_ADMITTED);
    assert_true(rig.calls[3].joined);
    handler_ended(3, CALL_HANDLER_ANSWERED);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_true(is_admitted(2));
    assert_ends(1, run_roll_back, CALL_ROLLED_BACK); /* its handler lives: only it is fenced */
    assert_int_equal(write_now(2), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin_as(4, 2, false), CALL_WAITING);
    assert_int_equal(begin_as(5, 9, false), CALL_ADMITTED);
    assert_ends(5, run_commit, CALL_COMMITTED);
    handler_ended(1, CALL_HANDLER_ANSWERED);
    assert_true(is_admitted(4));
    assert_ends(4, run_commit, CALL_COMMITTED);
    assert_ends(2, run_commit, CALL_COMMITTED);
    assert_int_equal(write_now(1), DOMAIN_WRITE_REFUSED);
    tick_later(0);
    assert_int_equal(domain_calls(rig.domain), 0);
}

/* ------------------------------------------------------------------ instances */

static void test_instances_run_side_by_side(void **state)
{
    (void)state;
    struct domain_write_call call;
    open_domain(DOMAIN_INSTANCES, false);
    assert_int_equal(domain_instance_count(rig.domain), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(begin_on(i, DOMAIN_NO_INSTANCE), CALL_ADMITTED);
        assert_int_equal(rig.calls[i].service, i); /* in turn */
    }
    assert_int_equal(begin_on(3, 0), CALL_WAITING);
    assert_int_equal(begin_on(4, 0), CALL_WAITING);
    assert_int_equal(begin_on(5, 0), CALL_QUEUE_FULL); /* one queue of two */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(write_by(i, &call), DOMAIN_WRITE_IN_CALL);
        assert_memory_equal(&call.key, &rig.calls[i].key, sizeof call.key);
    }
    assert_ends(1, run_commit, CALL_COMMITTED);
    assert_true(is_admitted(3) && !rig.is_told[4]);
    assert_int_equal(rig.calls[3].service, 1);
    assert_int_equal(write_by(1, &call), DOMAIN_WRITE_IN_CALL);
    assert_memory_equal(&call.key, &rig.calls[3].key, sizeof call.key);
    assert_true(call_cancel(&rig.calls[4]));
    assert_ends(3, run_commit, CALL_COMMITTED);
    assert_int_equal(write_by(1, &call), DOMAIN_WRITE_BESIDE);
    assert_int_equal(write_by(2, &call), DOMAIN_WRITE_IN_CALL);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_ends(2, run_commit, CALL_COMMITTED);
    struct domain_instance_figures figures;
    domain_instance_figures_get(rig.domain, 1, &figures);
    assert_true(figures.calls == 2 && figures.writes == 2 && figures.writes_out == 1);
    assert_true(!figures.open && !figures.fenced && figures.reached);
}

static void test_a_handler_fences_its_instance_only(void **state)
{
    (void)state;
    struct domain_write_call call;
    struct domain_link links[3] = {0};
    struct domain_figures figures;
    open_domain(DOMAIN_INSTANCES, false);
    for (size_t i = 0; i < 3; i++) {
        open_link(i, &links[i]);
    }
    assert_int_equal(begin_on(0, 0), CALL_ADMITTED);
    assert_int_equal(begin_on(1, 1), CALL_ADMITTED);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK); /* a timeout */
    assert_int_equal(write_by(0, &call), DOMAIN_WRITE_REFUSED);
    assert_int_equal(write_by(1, &call), DOMAIN_WRITE_IN_CALL);
    handler_ended(1, CALL_HANDLER_LOST);
    assert_ends(1, run_roll_back, CALL_ROLLED_BACK);
    domain_figures_get(rig.domain, &figures);
    assert_true(figures.fenced == 2 && !figures.closed);
    assert_int_equal(begin_on(2, 0), CALL_ADMITTED);
    assert_int_equal(rig.calls[2].service, 2); /* the one that is left */
    assert_int_equal(begin_on(3, 0), CALL_WAITING);
    domain_link_close(&links[2], true); /* another one's connection tells nothing */
    assert_false(is_admitted(3));
    domain_link_close(&links[1], true); /* killed */
    assert_true(is_admitted(3));
    assert_int_equal(rig.calls[3].service, 1);
    handler_ended(0, CALL_HANDLER_ANSWERED);
    settle();
    assert_int_equal(write_by(0, &call), DOMAIN_WRITE_BESIDE);
    assert_ends(2, run_commit, CALL_COMMITTED);
    assert_ends(3, run_commit, CALL_COMMITTED);
    domain_link_close(&links[0], true);
}

static void test_a_start_fences_all_instances(void **state)
{
    (void)state;
    struct domain_write_call call;
    struct domain_figures figures;
    open_domain(DOMAIN_INSTANCES, true);
    assert_int_equal(write_by(2, &call), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin_on(0, 0), CALL_WAITING);
    domain_figures_get(rig.domain, &figures);
    assert_true(figures.closed);
    tick_later(2 * QUIET_MS); /* ends its wait as well */
    domain_figures_get(rig.domain, &figures);
    assert_false(figures.closed);
    assert_int_equal(begin_on(1, 2), CALL_ADMITTED);
    assert_int_equal(write_by(2, &call), DOMAIN_WRITE_IN_CALL);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_a_call_moves_from_an_instance_that_is_not_reached(void **state)
{
    (void)state;
    struct domain_write_call call;
    open_domain(DOMAIN_INSTANCES, false);
    assert_int_equal(begin_on(0, 1), CALL_ADMITTED);
    assert_int_equal(rig.calls[0].service, 1);
    domain_instance_failed(rig.domain, 1);
    assert_true(moves(0));
    size_t second = rig.calls[0].service;
    assert_int_not_equal(second, 1);
    assert_int_equal(write_by(second, &call), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(write_by(1, &call), DOMAIN_WRITE_BESIDE);
    /* Nobody goes there for now, but where there is no other. */
    assert_int_equal(begin_on(1, 1), CALL_ADMITTED);
    assert_int_not_equal(rig.calls[1].service, 1);
    assert_false(moves(1)); /* the last one that can be reached has a call */
    assert_int_equal(begin_on(2, 1), CALL_WAITING);
    domain_instance_failed(rig.domain, 0);
    domain_instance_failed(rig.domain, 2);
    struct domain_figures figures;
    domain_figures_get(rig.domain, &figures);
    assert_int_equal(figures.unreached, 3);
    tick_later(0); /* whoever is asked will tell */
    assert_true(is_admitted(2));
    assert_int_equal(rig.calls[2].service, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_ends(i, run_commit, CALL_COMMITTED);
    }
}

static void test_other_requests_go_where_the_least_is_to_do(void **state)
{
    (void)state;
    open_domain(DOMAIN_INSTANCES, false);
    assert_int_equal(begin_on(0, 0), CALL_ADMITTED);
    assert_int_equal(domain_instance_enter(rig.domain, 2), 2);
    assert_int_equal(domain_instance_enter(rig.domain, 2), 1); /* idle before preferred */
    assert_int_equal(domain_instance_enter(rig.domain, 0), 0); /* preferred among equals */
    domain_instance_leave(rig.domain, 1);
    assert_int_equal(begin_on(1, DOMAIN_NO_INSTANCE), CALL_ADMITTED);
    assert_int_equal(rig.calls[1].service, 1);
    struct domain_instance_figures figures;
    domain_instance_figures_get(rig.domain, 2, &figures);
    assert_int_equal(figures.others, 1);
    domain_instance_leave(rig.domain, 0);
    domain_instance_leave(rig.domain, 2);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_readers_of_an_instance_see_their_own_call(void **state)
{
    (void)state;
    open_domain(DOMAIN_INSTANCES, false);
    assert_int_equal(domain_reader_group(rig.domain, 0), 0);
    assert_int_equal(begin_on(0, 0), CALL_ADMITTED);
    assert_int_equal(begin_on(1, 1), CALL_ADMITTED);
    uint64_t own = domain_reader_group(rig.domain, 0);
    assert_true(own != 0 && own != domain_reader_group(rig.domain, 1));
    assert_int_equal(domain_reader_group(rig.domain, 2), 0);
    assert_ends(0, run_roll_back, CALL_ROLLED_BACK);
    assert_int_equal(domain_reader_group(rig.domain, 0), 0);
    handler_ended(0, CALL_HANDLER_ANSWERED);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

/* A connection of another instance that cannot be read to its end holds nobody up. */
static void test_a_call_catches_up_with_its_own_instance(void **state)
{
    (void)state;
    struct domain_link link = {0};
    open_domain(DOMAIN_INSTANCES, false);
    open_link(1, &link);
    assert_int_equal(begin_on(0, 0), CALL_ADMITTED);
    assert_int_equal(begin_on(1, 1), CALL_ADMITTED);
    behind = true;
    assert_ends(0, run_commit, CALL_COMMITTED);
    rig.at = 1;
    on_worker(run_commit);
    settle();
    assert_false(rig.is_ended[1]);
    behind = false;
    tick_later(0);
    tick_later(0);
    assert_true(rig.is_ended[1] && rig.ended[1] == CALL_COMMITTED);
    domain_link_close(&link, true);
}

static void test_observed_calls_have_an_instance(void **state)
{
    (void)state;
    rig.observe_only = true;
    open_domain(DOMAIN_INSTANCES, false);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(begin_on(i, 0), CALL_ADMITTED); /* no queue */
        assert_int_equal(rig.calls[i].service, i % 3);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_ends(i, run_commit, CALL_COMMITTED);
    }
    assert_int_equal(domain_instance_enter(rig.domain, 2), 2); /* all are idle again */
    domain_instance_leave(rig.domain, 2);
}

/* ------------------------------------------------------------------ writes that come again */

static enum domain_write send_again(const char *user, uint32_t session, int64_t number)
{
    uint8_t id[16] = {0};
    memcpy(id, &session, sizeof session);
    struct domain_retry retry = {
        .user = user,
        .session_id = slice_make(id, sizeof id),
        .number = number,
    };
    struct domain_write_call call;
    const char *reason = NULL;
    enum domain_write decided =
        domain_write_decide(rig.domain, 0, NULL, true, &retry, &call, &reason);
    if (decided == DOMAIN_WRITE_IN_CALL) {
        domain_write_done(call.slot);
    }
    assert_int_equal(decided == DOMAIN_WRITE_REFUSED, reason != NULL);
    return decided;
}

static void test_a_write_comes_again_where_it_was(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(send_again("a", 1, 5), DOMAIN_WRITE_BESIDE);
    assert_int_equal(send_again("a", 1, 5), DOMAIN_WRITE_BESIDE);
    assert_int_equal(begin(0), CALL_ADMITTED);
    assert_int_equal(send_again("a", 1, 5), DOMAIN_WRITE_BESIDE);
    assert_int_equal(send_again("b", 1, 5), DOMAIN_WRITE_IN_CALL); /* another user's session */
    assert_int_equal(send_again("a", 1, 6), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(send_again("a", 1, 6), DOMAIN_WRITE_IN_CALL);
    assert_int_equal(send_again("a", 1, 5), DOMAIN_WRITE_REFUSED);
    assert_ends(0, run_commit, CALL_COMMITTED);
    assert_int_equal(send_again("a", 1, 6), DOMAIN_WRITE_REFUSED);
    assert_int_equal(begin(1), CALL_ADMITTED);
    assert_int_equal(send_again("a", 1, 6), DOMAIN_WRITE_REFUSED);
    assert_int_equal(send_again("a", 1, 7), DOMAIN_WRITE_IN_CALL);
    assert_ends(1, run_commit, CALL_COMMITTED);
}

static void test_sessions_that_are_remembered_are_bounded(void **state)
{
    (void)state;
    open_domain(DOMAIN_EXCLUSIVE, false);
    assert_int_equal(send_again("a", 0, 5), DOMAIN_WRITE_BESIDE);
    assert_int_equal(send_again("a", 1, 5), DOMAIN_WRITE_BESIDE);
    for (uint32_t i = 2; i < RETRIES_MAX; i++) {
        assert_int_equal(send_again("a", i, 5), DOMAIN_WRITE_BESIDE);
    }
    for (uint32_t i = 0; i < RETRIES_MAX + 1; i++) { /* makes nobody else's forgotten */
        assert_int_equal(send_again("", i, 5), DOMAIN_WRITE_BESIDE);
    }
    assert_int_equal(send_again("a", 0, 5), DOMAIN_WRITE_BESIDE); /* used: the other one goes */
    assert_int_equal(send_again("a", RETRIES_MAX, 5), DOMAIN_WRITE_BESIDE);
    assert_int_equal(send_again("a", 0, 4), DOMAIN_WRITE_REFUSED);
    assert_int_equal(send_again("a", 2, 4), DOMAIN_WRITE_REFUSED);
    assert_int_equal(send_again("a", 1, 4), DOMAIN_WRITE_BESIDE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_call_at_a_time_in_order),
        TEST(test_waiting_ends),
        TEST(test_a_living_handler_fences_until_it_has_answered),
        TEST(test_a_lost_handler_fences_until_its_connections_are_closed),
        TEST(test_a_lost_handler_fences_until_it_is_silent),
        TEST(test_connections_made_in_a_call_tell_nothing),
        TEST(test_connections_that_the_proxy_closed_tell_nothing),
        TEST(test_a_killed_service_is_silent),
        TEST(test_a_start_fences),
        TEST(test_reads_wait),
        TEST(test_a_unit_that_somebody_else_ended_is_not_committed),
        TEST(test_units_are_limited),
        TEST(test_a_call_ends_after_the_writes_before_its_answer),
        TEST(test_a_call_from_inside_joins),
        TEST(test_traces_run_side_by_side),
        TEST(test_instances_run_side_by_side),
        TEST(test_a_handler_fences_its_instance_only),
        TEST(test_a_start_fences_all_instances),
        TEST(test_a_call_moves_from_an_instance_that_is_not_reached),
        TEST(test_other_requests_go_where_the_least_is_to_do),
        TEST(test_readers_of_an_instance_see_their_own_call),
        TEST(test_a_call_catches_up_with_its_own_instance),
        TEST(test_observed_calls_have_an_instance),
        TEST(test_a_write_comes_again_where_it_was),
        TEST(test_sessions_that_are_remembered_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
