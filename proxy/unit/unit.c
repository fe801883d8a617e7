/*
 * What a unit holds: its state and what is known of its writes. Owned by whoever has the unit
 * checked out.
 */
#include "unit/unit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "unit/gate_wait.h"
#include "unit/lock_hints.h"
#include "unit/unit_private.h"

static const char *const state_names[] = {
#define X(name) [UNIT_##name] = #name,
    UNIT_STATE_LIST(X)
#undef X
};

/* What may follow what: the picture in unit.h. */
static const unsigned allowed_next[] = {
    [UNIT_OPEN] = 1u << UNIT_COMMITTING | 1u << UNIT_ABORTING,
    [UNIT_COMMITTING] = 1u << UNIT_COMMITTED | 1u << UNIT_ABORTING,
    [UNIT_ABORTING] = 1u << UNIT_ABORTED | 1u << UNIT_CONFLICT,
    [UNIT_COMMITTED] = 0,
    [UNIT_ABORTED] = 0,
    [UNIT_CONFLICT] = 0,
};

static const char *const boundary_names[] = {
#define X(name, text) [UNIT_BOUNDARY_##name] = text,
    UNIT_BOUNDARY_LIST(X)
#undef X
};

const char *unit_boundary_name(enum unit_boundary boundary)
{
    return boundary_names[boundary];
}

const char *unit_state_name(enum unit_state state)
{
    return state_names[state];
}

void unit_state_set(struct unit *unit, enum unit_state state)
{
    assert((allowed_next[unit->state] & 1u << state) != 0);
    unit->state = state;
}

static enum status add_known(struct unit *unit, int32_t number, bool refused, struct image after)
{
    if (unit->known_count == unit->known_capacity) {
        size_t capacity = unit->known_capacity == 0 ? 8 : unit->known_capacity * 2;
        struct unit_known *known = realloc(unit->known, capacity * sizeof *known);
        if (known == NULL) {
            return STATUS_MEMORY;
        }
        unit->known = known;
        unit->known_capacity = capacity;
    }
    struct image copy = {.presence = IMAGE_UNKNOWN};
    if (!refused && !image_copy(after, &copy)) {
        return STATUS_MEMORY;
    }
    unit->known[unit->known_count++] =
        (struct unit_known){.number = number, .refused = refused, .after = copy};
    return STATUS_OK;
}

enum status unit_learn(struct unit *unit, int32_t number, struct image after)
{
    return add_known(unit, number, false, after);
}

enum status unit_learn_refused(struct unit *unit, int32_t number)
{
    return add_known(unit, number, true, (struct image){.presence = IMAGE_UNKNOWN});
}

void unit_cursor_note(struct unit *unit, int64_t cursor_id)
{
    if (unit->cursors == NULL) {
        unit->cursors = calloc(UNIT_CURSORS_MAX, sizeof *unit->cursors);
    }
    if (unit->cursors != NULL) {
        unit->cursors[unit->cursor_count++ % UNIT_CURSORS_MAX] = cursor_id;
    }
}

bool unit_cursor_is_known(const struct unit *unit, int64_t cursor_id)
{
    bool known = false;
    for (size_t i = 0; i < UNIT_CURSORS_MAX && i < unit->cursor_count; i++) {
        known = known || unit->cursors[i] == cursor_id;
    }
    return known && cursor_id != 0;
}

void unit_known_drop(struct unit *unit, size_t count)
{
    assert(count <= unit->known_count);
    for (size_t i = 0; i < count; i++) {
        image_free(&unit->known[i].after);
    }
    unit->known_count -= count;
    if (count > 0 && unit->known_count > 0) {
        memmove(unit->known, unit->known + count, unit->known_count * sizeof *unit->known);
    }
}

uint64_t unit_session_key_group(const struct unit_session_key *key)
{
    /* Of the digests of name and user. Odd, as no address of a domain is. */
    return (slice_load_u64be(key->bytes) ^ slice_load_u64be(key->bytes + sizeof key->bytes - 8)) |
           1;
}

struct unit *unit_new(const struct unit_request *request, enum unit_boundary boundary)
{
    struct unit *unit = calloc(1, sizeof *unit);
    if (unit == NULL) {
        return NULL;
    }
    unit->id = request->id;
    unit->locks.unit = request->id;
    unit->uncommitted.unit = request->id;
    unit->uncommitted.group = request->group;
    unit->boundary = boundary;
    unit->locks.serializable = request->serializable;
    unit->reads_snapshot = !request->serializable &&
                           (boundary == UNIT_BOUNDARY_DRIVER || boundary == UNIT_BOUNDARY_HTTP ||
                            boundary == UNIT_BOUNDARY_COMMENT);
    unit->locks.place = request->place;
    unit->transaction_number = request->transaction_number;
    unit->holder = request->connection;
    unit->lifetime_ms = request->lifetime_ms;
    if (request->trace != NULL) {
        unit->trace = *request->trace;
    } else {
        span_root(&unit->trace);
    }
    unit->user = strdup(request->user);
    unit->client = strdup(request->client);
    unit->application = strdup(request->application);
    bool named = request->key == NULL || request->name == NULL ||
                 (unit->name = strdup(request->name)) != NULL;
    if (request->key != NULL) {
        unit->has_session = true;
        unit->is_journaled_key = request->journaled_key;
        unit->session_key = unit->journal_key = *request->key;
        if (request->request_key != NULL) {
            unit->is_journaled_key = unit->is_request = true;
            unit->journal_key = *request->request_key;
        }
    } else if (request->session_id.size == UNIT_SESSION_ID_BYTES) {
        memcpy(unit->session_id, request->session_id.data, UNIT_SESSION_ID_BYTES);
        unit->has_session = unit->has_lsid = true;
        unit->is_journaled_key = unit->is_of_connection = true;
        unit_session_key_make(request->user, request->session_id, &unit->session_key);
        unit->journal_key = unit->session_key;
    }
    if (unit->user == NULL || unit->client == NULL || unit->application == NULL || !named) {
        return unit_free(unit);
    }
    return unit;
}

static void gates_add(struct unit_gates *gates, uint32_t gate)
{
    for (size_t i = 0; i < gates->count; i++) {
        if (gates->gates[i] == gate) {
            return;
        }
    }
    if (gates->count < UNIT_GATES_MAX) {
        gates->gates[gates->count++] = gate;
    }
}

void unit_miss_gate(struct unit *unit, uint32_t gate)
{
    for (size_t i = 0; i < unit->early.count; i++) {
        gates_add(&unit->missed, unit->early.gates[i]);
    }
    gates_add(&unit->missed, gate);
}

struct unit *unit_free(struct unit *unit)
{
    if (unit == NULL) {
        return NULL;
    }
    unit_known_drop(unit, unit->known_count);
    free(unit->known);
    if (unit->native != NULL) {
        unit->native_free(unit->native);
    }
    if (unit->deferred != NULL) {
        unit->deferred_free(unit->deferred);
    }
    gate_list_free(&unit->locks);
    unit->locks.hints = lock_hints_free(unit->locks.hints);
    answers_free(&unit->answers);
    unit_cursors_free(&unit->kept_cursors);
    free(unit->cursors);
    free(unit->user);
    free(unit->client);
    free(unit->application);
    free(unit->name);
    free(unit);
    return NULL;
}
