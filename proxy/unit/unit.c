/*
 * What a unit holds: its state and its writes. Owned by whoever has the unit checked out.
 */
#include "unit/unit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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

const char *unit_state_name(enum unit_state state)
{
    return state_names[state];
}

void unit_state_set(struct unit *unit, enum unit_state state)
{
    assert((allowed_next[unit->state] & 1u << state) != 0);
    unit->state = state;
}

static bool copy_slice(struct slice source, uint8_t **ret_copy)
{
    if (source.size == 0) {
        *ret_copy = NULL;
        return true;
    }
    *ret_copy = malloc(source.size);
    if (*ret_copy != NULL) {
        memcpy(*ret_copy, source.data, source.size);
    }
    return *ret_copy != NULL;
}

static bool copy_image(struct image source, struct image *ret_copy)
{
    uint8_t *document = NULL;
    if (source.presence == IMAGE_PRESENT && !copy_slice(source.document, &document)) {
        return false;
    }
    *ret_copy = (struct image){
        .presence = source.presence,
        .document = slice_make(document, document == NULL ? 0 : source.document.size),
    };
    return true;
}

static void free_image(struct image *image)
{
    free((void *)(uintptr_t)image->document.data);
    *image = (struct image){.presence = IMAGE_UNKNOWN};
}

static void free_write(struct unit_write *write)
{
    free(write->namespace);
    free(write->key);
    free_image(&write->before);
    free_image(&write->after);
    free(write->command);
    *write = (struct unit_write){0};
}

static enum status reserve(struct unit *unit)
{
    if (unit->write_count < unit->write_capacity) {
        return STATUS_OK;
    }
    size_t capacity = unit->write_capacity == 0 ? 8 : unit->write_capacity * 2;
    struct unit_write *writes = realloc(unit->writes, capacity * sizeof *writes);
    if (writes == NULL) {
        return STATUS_MEMORY;
    }
    unit->writes = writes;
    unit->write_capacity = capacity;
    return STATUS_OK;
}

enum status unit_write_add(struct unit *unit, int operation, const char *namespace,
                           struct slice key, struct image before, struct image after,
                           struct slice command)
{
    if (reserve(unit) != STATUS_OK) {
        return STATUS_MEMORY;
    }
    struct unit_write write = {.operation = operation};
    write.namespace = strdup(namespace);
    write.key_size = key.size;
    write.command_size = command.size;
    if (write.namespace == NULL || !copy_slice(key, &write.key) ||
        !copy_slice(command, &write.command) || !copy_image(before, &write.before) ||
        !copy_image(after, &write.after)) {
        free_write(&write);
        return STATUS_MEMORY;
    }
    write.after_journaled = after.presence != IMAGE_UNKNOWN;
    unit->bytes += before.document.size + after.document.size + command.size;
    unit->writes[unit->write_count++] = write;
    return STATUS_OK;
}

void unit_write_drop(struct unit *unit)
{
    assert(unit->write_count > 0);
    free_write(&unit->writes[--unit->write_count]);
}

enum status unit_write_learn(struct unit *unit, size_t index, struct image after)
{
    assert(index < unit->write_count);
    struct image copy;
    if (!copy_image(after, &copy)) {
        return STATUS_MEMORY;
    }
    struct unit_write *write = &unit->writes[index];
    free_image(&write->after);
    write->after = copy;
    unit->bytes += after.document.size;
    return STATUS_OK;
}

bool unit_gate_inside(const struct unit *unit, uint32_t gate)
{
    for (size_t i = 0; i < unit->gate_count; i++) {
        if (unit->gates[i] == gate) {
            return true;
        }
    }
    return false;
}

enum status unit_gate_add(struct unit *unit, uint32_t gate)
{
    uint32_t *gates = realloc(unit->gates, (unit->gate_count + 1) * sizeof *gates);
    if (gates == NULL) {
        return STATUS_MEMORY;
    }
    unit->gates = gates;
    unit->gates[unit->gate_count++] = gate;
    return STATUS_OK;
}

struct unit *unit_new(const struct unit_request *request, const char *boundary)
{
    struct unit *unit = calloc(1, sizeof *unit);
    if (unit == NULL) {
        return NULL;
    }
    unit->id = request->id;
    unit->boundary = boundary;
    unit->transaction_number = request->transaction_number;
    unit->holder = request->connection;
    unit->user = strdup(request->user);
    unit->client = strdup(request->client);
    unit->application = strdup(request->application);
    if (request->session_id.size == UNIT_SESSION_ID_BYTES) {
        memcpy(unit->session_id, request->session_id.data, UNIT_SESSION_ID_BYTES);
        unit->has_session = true;
        unit_session_key_make(request->user, request->session_id, &unit->session_key);
    }
    if (unit->user == NULL || unit->client == NULL || unit->application == NULL) {
        return unit_free(unit);
    }
    return unit;
}

struct unit *unit_free(struct unit *unit)
{
    if (unit == NULL) {
        return NULL;
    }
    while (unit->write_count > 0) {
        unit_write_drop(unit);
    }
    free(unit->writes);
    free(unit->gates);
    free(unit->user);
    free(unit->client);
    free(unit->application);
    free(unit);
    return NULL;
}
