/*
 * Fibers, and the scheduler that decides which goes on.
 *
 * Threads of the product and the simulated clients are fibers on stacks of their own; whatever a
 * thread would wait for is an address (`waits_for`). While some fiber can run, one of them is
 * picked at random; what is due competes with them; if none can, time goes on to what comes next.
 *
 * One thread of the operating system.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sim.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES ((size_t)1 << 20)
#else
#define STACK_BYTES ((size_t)256 << 10)
#endif

#define FIBERS_MAX 64

enum fiber_state {
    FIBER_FREE,
    FIBER_RUNNABLE,
    FIBER_WAITING,
    FIBER_ENDED,
};

struct fiber {
    ucontext_t context;
    void *stack;
    void *fake_stack;
    enum fiber_state state;
    bool product;
    bool timed_out;
    const void *waits_for;
    uint64_t until_us;
    void *(*run)(void *);
    void *argument;
    char name[16];
    void *slot;
};

struct happening {
    uint64_t at_us;
    uint64_t order;
    void (*run)(void *, uint64_t);
    void *object;
    uint64_t number;
};

static struct fiber fibers[FIBERS_MAX];
static struct fiber *current;
static ucontext_t scheduler;
static struct happening *heap;
static size_t heap_count;
static size_t heap_capacity;
static uint64_t heap_order;

/* ------------------------------------------------------------------ switching */

#ifdef WITH_ASAN
static void *scheduler_fake;
static const void *scheduler_bottom;
static size_t scheduler_size;

static void enter_from(bool first)
{
    __sanitizer_finish_switch_fiber(first ? NULL : current->fake_stack, &scheduler_bottom,
                                    &scheduler_size);
}

static void leave_to_scheduler(bool for_good)
{
    __sanitizer_start_switch_fiber(for_good ? NULL : &current->fake_stack, scheduler_bottom,
                                   scheduler_size);
}

static void enter_fiber(struct fiber *fiber)
{
    __sanitizer_start_switch_fiber(&scheduler_fake, fiber->stack, STACK_BYTES);
}

static void back_in_scheduler(void)
{
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
}
#else
static void enter_from(bool first)
{
    (void)first;
}
static void leave_to_scheduler(bool for_good)
{
    (void)for_good;
}
static void enter_fiber(struct fiber *fiber)
{
    (void)fiber;
}
static void back_in_scheduler(void)
{
}
#endif

static void suspend(void)
{
    struct fiber *self = current;
    leave_to_scheduler(false);
    (void)swapcontext(&self->context, &scheduler);
    enter_from(false);
}

_Noreturn void fiber_abandon(void)
{
    current->state = FIBER_ENDED;
    leave_to_scheduler(true);
    (void)setcontext(&scheduler);
    abort();
}

static void fiber_main(void)
{
    enter_from(true);
    (void)current->run(current->argument);
    fiber_wake_all(current);
    fiber_abandon();
}

static void *stack_ready(void *stack)
{
    if (stack == NULL) {
        stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        assert(stack != MAP_FAILED);
    }
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(stack, STACK_BYTES); /* frames of one that was abandoned */
#endif
    return stack;
}

static void context_ready(struct fiber *fiber)
{
    (void)getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, fiber_main, 0);
}

struct fiber *fiber_start(const char *name, bool product, void *(*run)(void *), void *argument)
{
    struct fiber *fiber = NULL;
    for (size_t i = 0; i < FIBERS_MAX && fiber == NULL; i++) {
        fiber = fibers[i].state == FIBER_FREE ? &fibers[i] : NULL;
    }
    assert(fiber != NULL);
    *fiber = (struct fiber){.stack = stack_ready(fiber->stack),
                            .state = FIBER_RUNNABLE,
                            .product = product,
                            .run = run,
                            .argument = argument};
    (void)snprintf(fiber->name, sizeof fiber->name, "%s", name);
    context_ready(fiber);
    return fiber;
}

struct fiber *fiber_current(void)
{
    return current;
}

bool fiber_is_product(void)
{
    return current != NULL && current->product;
}

void **fiber_slot(void)
{
    assert(current != NULL);
    return &current->slot;
}

bool fiber_has_ended(const struct fiber *fiber)
{
    return fiber->state == FIBER_ENDED || fiber->state == FIBER_FREE;
}

/* ------------------------------------------------------------------ waiting */

bool fiber_wait(const void *object, uint64_t until_us)
{
    assert(current != NULL);
    current->state = FIBER_WAITING;
    current->waits_for = object;
    current->until_us = until_us;
    current->timed_out = false;
    suspend();
    return !current->timed_out;
}

void fiber_wake_one(const void *object)
{
    size_t count = 0;
    struct fiber *chosen = NULL;
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state == FIBER_WAITING && fibers[i].waits_for == object) {
            count++;
            if (count == 1 || random_below(count) == 0) {
                chosen = &fibers[i];
            }
        }
    }
    if (chosen != NULL) {
        chosen->state = FIBER_RUNNABLE;
    }
}

void fiber_wake_all(const void *object)
{
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state == FIBER_WAITING && fibers[i].waits_for == object) {
            fibers[i].state = FIBER_RUNNABLE;
        }
    }
}

void fiber_sleep(uint64_t us)
{
    static const char nothing;
    (void)fiber_wait(&nothing, sim.now_us + us);
}

void fiber_yield(void)
{
    assert(current != NULL);
    current->state = FIBER_RUNNABLE;
    suspend();
}

void fiber_preempt(void)
{
    if (current == NULL || !random_chance(sim.profile.preempt, 1000)) {
        return;
    }
    if (random_chance(1, 20)) {
        fiber_sleep(random_below(20000));
    } else {
        fiber_yield();
    }
}

/* ------------------------------------------------------------------ what happens at a time */

static bool before(const struct happening *a, const struct happening *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void schedule_at(uint64_t at_us, void (*run)(void *, uint64_t), void *object, uint64_t number)
{
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity == 0 ? 256 : heap_capacity * 2;
        heap = sim_realloc(heap, heap_capacity * sizeof *heap);
    }
    size_t at = heap_count++;
    heap[at] = (struct happening){at_us, heap_order++, run, object, number};
    while (at > 0 && before(&heap[at], &heap[(at - 1) / 2])) {
        struct happening other = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = heap[at];
        heap[at] = other;
        at = (at - 1) / 2;
    }
}

void schedule_after(uint64_t us, void (*run)(void *, uint64_t), void *object, uint64_t number)
{
    schedule_at(sim.now_us + us, run, object, number);
}

static struct happening heap_take(void)
{
    struct happening first = heap[0];
    heap[0] = heap[--heap_count];
    size_t at = 0;
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < heap_count; child++) {
            least = before(&heap[child], &heap[least]) ? child : least;
        }
        if (least == at) {
            return first;
        }
        struct happening other = heap[least];
        heap[least] = heap[at];
        heap[at] = other;
        at = least;
    }
}

/* ------------------------------------------------------------------ the scheduler */

static void resume(struct fiber *fiber)
{
    current = fiber;
    enter_fiber(fiber);
    (void)swapcontext(&scheduler, &fiber->context);
    back_in_scheduler();
    current = NULL;
    if (fiber->state == FIBER_ENDED) {
        fiber->state = FIBER_FREE;
    }
}

/* The time of the next thing that is only a matter of time; UINT64_MAX: none. */
static uint64_t next_time(void)
{
    uint64_t next = heap_count > 0 ? heap[0].at_us : UINT64_MAX;
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state == FIBER_WAITING && fibers[i].until_us < next) {
            next = fibers[i].until_us;
        }
    }
    return next;
}

static void wake_due(void)
{
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state == FIBER_WAITING && fibers[i].until_us <= sim.now_us) {
            fibers[i].state = FIBER_RUNNABLE;
            fibers[i].timed_out = true;
        }
    }
}

static struct fiber *pick(bool with_event, bool *ret_event)
{
    struct fiber *chosen = NULL;
    size_t count = with_event ? 1 : 0;
    *ret_event = with_event;
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state == FIBER_RUNNABLE) {
            count++;
            if (count == 1 || random_below(count) == 0) {
                chosen = &fibers[i];
                *ret_event = false;
            }
        }
    }
    return chosen;
}

bool schedule_step(void)
{
    bool event = false;
    sim.steps++;
    wake_due();
    struct fiber *fiber = pick(heap_count > 0 && heap[0].at_us <= sim.now_us, &event);
    if (fiber == NULL && !event) {
        uint64_t next = next_time();
        if (next == UINT64_MAX) {
            return false;
        }
        sim.now_us = next > sim.now_us ? next : sim.now_us;
        wake_due();
        fiber = pick(heap_count > 0 && heap[0].at_us <= sim.now_us, &event);
    }
    if (event) {
        struct happening happening = heap_take();
        happening.run(happening.object, happening.number);
    } else if (fiber != NULL) {
        sim.now_us += 1 + random_below(10);
        sim.trace = (sim.trace ^ (uint64_t)(fiber - fibers) ^ sim.now_us) * 0x100000001B3u;
        resume(fiber);
    }
    return true;
}

void fiber_kill_product(void)
{
    assert(current == NULL);
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].product) {
            fibers[i].state = FIBER_FREE;
        }
    }
}

void fiber_reset(void)
{
    for (size_t i = 0; i < FIBERS_MAX; i++) {
        fibers[i].state = FIBER_FREE;
    }
    heap_count = 0;
    heap_order = 0;
}
