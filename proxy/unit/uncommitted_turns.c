/*
 * Who waits for whom: publications for turns, turns for publications, and watches for the end of
 * units; see uncommitted.h, and uncommitted_private.h for the invariants. Any thread.
 */
#include <assert.h>

#include "holdfast/race_point.h"
#include "unit/uncommitted_private.h"

/* ------------------------------------------------------------------ publications */

static bool may_go_on(const struct gate_state *state,
                      const struct uncommitted_publication *publication)
{
    return uncommitted_is_admission(publication) ? state->drain_turns == 0 : state->read_turns == 0;
}

static bool may_publish(const struct uncommitted_table *table,
                        const struct uncommitted_publication *publication)
{
    return may_go_on(&table->gates[GATE_SERVER], publication) &&
           may_go_on(&table->gates[publication->gate], publication);
}

static bool publish_if_possible(struct uncommitted_table *table,
                                struct uncommitted_publication *publication)
{
    struct gate_state *gate = &table->gates[publication->gate];
    (void)atomic_fetch_add(&gate->intents, 1);
    RACE_POINT(publish_intended);
    bool possible = may_publish(table, publication);
    if (possible) {
        RACE_POINT(publish_decided);
        uncommitted_carry_out(table, publication);
        RACE_POINT(publish_done);
    }
    (void)atomic_fetch_sub(&gate->intents, 1);
    return possible;
}

/* To publish, that is: who waits for its admission has no part in the order of turns. */
static bool somebody_waits(const struct uncommitted_table *table, uint32_t gate)
{
    const struct uncommitted_publication *at = table->waiting;
    while (at != NULL &&
           (uncommitted_is_admission(at) || (gate != GATE_SERVER && at->gate != gate))) {
        at = at->next;
    }
    return at != NULL;
}

static void count_turn(struct gate_state *state, const struct uncommitted_turn *turn, bool begin)
{
    _Atomic size_t *turns =
        turn->kind == UNCOMMITTED_TURN_READ ? &state->read_turns : &state->drain_turns;
    assert(begin || *turns > 0);
    (void)(begin ? atomic_fetch_add(turns, 1) : atomic_fetch_sub(turns, 1));
}

static void begin_queued(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct gate_state *state = &table->gates[gate];
    if (state->queued == NULL || somebody_waits(table, gate)) {
        return;
    }
    while (state->queued != NULL) {
        struct uncommitted_turn *turn = state->queued;
        state->queued = turn->next;
        turn->queued = false;
        count_turn(state, turn, true);
        turn->next = outbox->begun;
        outbox->begun = turn;
    }
}

/* A turn has ended in the gate: those who waited for it go on. */
static void settle(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct uncommitted_publication **at = &table->waiting;
    struct uncommitted_publication **tail = &outbox->published;
    while (*at != NULL) {
        struct uncommitted_publication *publication = *at;
        if (!publish_if_possible(table, publication)) {
            at = &publication->next;
            continue;
        }
        *at = publication->next;
        (void)atomic_fetch_sub(&table->waiting_count, 1);
        publication->next = NULL;
        *tail = publication;
        tail = &publication->next;
    }
    /* Also of gates whose last reader is leaving without the mutex: once nobody waits any more it
       takes no look at who is queued there. */
    for (struct uncommitted_publication *one = outbox->published; one != NULL; one = one->next) {
        begin_queued(table, one->gate, outbox);
    }
    begin_queued(table, gate, outbox);
    if (gate != GATE_SERVER) {
        begin_queued(table, GATE_SERVER, outbox);
    } else {
        for (uint32_t i = 1; i < LIMIT_NAMESPACE_GATES; i++) {
            begin_queued(table, i, outbox);
        }
    }
}

void uncommitted_deliver(struct outbox *outbox)
{
    while (outbox->published != NULL) {
        struct uncommitted_publication *publication = outbox->published;
        outbox->published = publication->next;
        publication->published(publication);
    }
    while (outbox->begun != NULL) {
        struct uncommitted_turn *turn = outbox->begun;
        outbox->begun = turn->next;
        turn->begun(turn);
    }
    while (outbox->ended != NULL) {
        struct uncommitted_watch *watch = outbox->ended;
        outbox->ended = watch->next;
        watch->ended(watch);
    }
}

bool uncommitted_publish(struct uncommitted_table *table,
                         struct uncommitted_publication *publication)
{
    assert(publication->gate != GATE_SERVER && publication->gate < LIMIT_NAMESPACE_GATES);
    pthread_mutex_lock(&table->mutex);
    bool at_once = publish_if_possible(table, publication);
    if (!at_once) {
        RACE_POINT(publish_is_to_wait);
        (void)atomic_fetch_add(&table->waiting_count, 1);
        at_once = publish_if_possible(table, publication);
        if (at_once) {
            (void)atomic_fetch_sub(&table->waiting_count, 1);
        }
    }
    if (!at_once) {
        struct uncommitted_publication **at = &table->waiting;
        while (*at != NULL) {
            at = &(*at)->next;
        }
        publication->next = NULL;
        *at = publication;
    }
    pthread_mutex_unlock(&table->mutex);
    return at_once;
}

bool uncommitted_publish_cancel(struct uncommitted_table *table,
                                struct uncommitted_publication *publication)
{
    struct outbox outbox = {0};
    pthread_mutex_lock(&table->mutex);
    struct uncommitted_publication **at = &table->waiting;
    while (*at != NULL && *at != publication) {
        at = &(*at)->next;
    }
    bool waiting = *at != NULL;
    if (waiting) {
        *at = publication->next;
        (void)atomic_fetch_sub(&table->waiting_count, 1);
        settle(table, publication->gate, &outbox); /* turns may have been queued behind it */
    }
    pthread_mutex_unlock(&table->mutex);
    uncommitted_deliver(&outbox);
    return waiting;
}

/* ------------------------------------------------------------------ turns */

bool uncommitted_is_draining(const struct uncommitted_table *table, uint32_t gate)
{
    return atomic_load(&table->gates[gate].drain_turns) > 0 ||
           atomic_load(&table->gates[GATE_SERVER].drain_turns) > 0;
}

bool uncommitted_read_enter(struct uncommitted_table *table, uint32_t gate)
{
    struct gate_state *state = &table->gates[gate];
    (void)atomic_fetch_add(&state->read_turns, 1);
    RACE_POINT(read_turn_counted);
    /* Intents before what is open: who publishes is open before it takes its intent back, so
       the other way round it could slip through between the two looks. Who waits goes first. */
    bool intended = atomic_load(&state->intents) != 0;
    RACE_POINT(read_one_seen);
    if (!intended && atomic_load(&state->open) == 0 && atomic_load(&table->waiting_count) == 0) {
        return true;
    }
    uncommitted_read_leave(table, gate);
    return false;
}

void uncommitted_read_leave(struct uncommitted_table *table, uint32_t gate)
{
    struct outbox outbox = {0};
    (void)atomic_fetch_sub(&table->gates[gate].read_turns, 1);
    RACE_POINT(read_turn_over);
    if (atomic_load(&table->waiting_count) == 0) {
        return; /* and so no turn is queued */
    }
    pthread_mutex_lock(&table->mutex);
    settle(table, gate, &outbox);
    pthread_mutex_unlock(&table->mutex);
    uncommitted_deliver(&outbox);
}

bool uncommitted_turn_begin(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    turn->queued = somebody_waits(table, turn->gate);
    if (turn->queued) {
        struct uncommitted_turn **at = &table->gates[turn->gate].queued;
        while (*at != NULL) {
            at = &(*at)->next;
        }
        turn->next = NULL;
        *at = turn;
    } else {
        count_turn(&table->gates[turn->gate], turn, true);
    }
    bool begun = !turn->queued;
    pthread_mutex_unlock(&table->mutex);
    return begun;
}

bool uncommitted_turn_cancel(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    bool queued = turn->queued;
    if (queued) {
        struct uncommitted_turn **at = &table->gates[turn->gate].queued;
        while (*at != turn) {
            at = &(*at)->next;
        }
        *at = turn->next;
        turn->queued = false;
    }
    pthread_mutex_unlock(&table->mutex);
    return queued;
}

void uncommitted_turn_end(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    struct outbox outbox = {0};
    pthread_mutex_lock(&table->mutex);
    count_turn(&table->gates[turn->gate], turn, false);
    settle(table, turn->gate, &outbox);
    pthread_mutex_unlock(&table->mutex);
    uncommitted_deliver(&outbox);
}

void uncommitted_turn_make_read(struct uncommitted_table *table, struct uncommitted_turn *turn)
{
    pthread_mutex_lock(&table->mutex);
    count_turn(&table->gates[turn->gate], turn, false);
    turn->kind = UNCOMMITTED_TURN_READ;
    count_turn(&table->gates[turn->gate], turn, true);
    pthread_mutex_unlock(&table->mutex);
}

/* ------------------------------------------------------------------ watches */

static void watch_remove(struct uncommitted_table *table, struct uncommitted_watch *watch)
{
    struct gate_state *state = &table->gates[watch->gate];
    if (watch->previous == NULL) {
        state->watches = watch->next;
    } else {
        watch->previous->next = watch->next;
    }
    if (watch->next != NULL) {
        watch->next->previous = watch->previous;
    }
    watch->waiting = false;
}

void uncommitted_take_watches(struct uncommitted_table *table, uint32_t gate, struct outbox *outbox)
{
    struct gate_state *state = &table->gates[gate];
    while (state->watches != NULL) {
        struct uncommitted_watch *watch = state->watches;
        watch_remove(table, watch);
        watch->next = outbox->ended;
        outbox->ended = watch;
    }
}

bool uncommitted_watch(struct uncommitted_table *table, struct uncommitted_watch *watch,
                       const struct uncommitted_reader *reader)
{
    struct gate_state *state = &table->gates[watch->gate];
    pthread_mutex_lock(&table->mutex);
    watch->waiting = uncommitted_others_found(table, watch->gate, reader);
    if (watch->waiting) {
        watch->previous = NULL;
        watch->next = state->watches;
        if (watch->next != NULL) {
            watch->next->previous = watch;
        }
        state->watches = watch;
    }
    bool waiting = watch->waiting;
    pthread_mutex_unlock(&table->mutex);
    return waiting;
}

bool uncommitted_unwatch(struct uncommitted_table *table, struct uncommitted_watch *watch)
{
    pthread_mutex_lock(&table->mutex);
    bool waiting = watch->waiting;
    if (waiting) {
        watch_remove(table, watch);
    }
    pthread_mutex_unlock(&table->mutex);
    return waiting;
}
