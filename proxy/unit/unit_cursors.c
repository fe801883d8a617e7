/* The open cursors of a unit; see unit_cursors.h. By who has the unit checked out. */
#include "unit/unit_cursors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "unit/gate.h"

/* As the server's own: nobody guesses it, and none is given twice. */
static int64_t new_id(void)
{
    int64_t id = 0;
    while (id == 0) {
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) {
            return 0;
        }
        id = (int64_t)((uint64_t)id & INT64_MAX);
    }
    return id;
}

static bool take_bytes(_Atomic uint64_t *bytes, uint64_t size, uint64_t bytes_max)
{
    uint64_t before = atomic_fetch_add(bytes, size);
    if (before + size > bytes_max) {
        (void)atomic_fetch_sub(bytes, size);
        return false;
    }
    return true;
}

enum status unit_cursors_add(struct unit_cursors *cursors, const char *namespace, int64_t server_id,
                             struct slice documents, _Atomic uint64_t *bytes, uint64_t bytes_max,
                             struct unit_cursor **ret_cursor)
{
    size_t text_size = strlen(namespace) + 1;
    if (cursors->count == UNIT_KEPT_CURSORS_MAX || !take_bytes(bytes, documents.size, bytes_max)) {
        return STATUS_LIMIT;
    }
    struct unit_cursor *cursor = calloc(1, sizeof *cursor + text_size);
    uint8_t *kept = malloc(documents.size + 1);
    int64_t id = server_id != 0 ? server_id : new_id();
    if (cursor == NULL || kept == NULL || id == 0) {
        free(cursor);
        free(kept);
        (void)atomic_fetch_sub(bytes, documents.size);
        return STATUS_MEMORY;
    }
    if (documents.size > 0) {
        memcpy(kept, documents.data, documents.size);
    }
    memcpy(cursor->namespace, namespace, text_size);
    cursor->id = id;
    cursor->server_id = server_id;
    cursor->kept = kept;
    cursor->kept_size = documents.size;
    cursor->documents = slice_make(kept, documents.size);
    cursor->next = cursors->first;
    cursors->first = cursor;
    cursors->count++;
    cursors->bytes = bytes;
    *ret_cursor = cursor;
    return STATUS_OK;
}

struct unit_cursor *unit_cursors_find(const struct unit_cursors *cursors, int64_t id)
{
    struct unit_cursor *cursor = cursors->first;
    while (cursor != NULL && cursor->id != id) {
        cursor = cursor->next;
    }
    return cursor;
}

void unit_cursors_remove(struct unit_cursors *cursors, struct unit_cursor *cursor)
{
    struct unit_cursor **at = &cursors->first;
    while (*at != cursor) {
        at = &(*at)->next;
    }
    *at = cursor->next;
    cursors->count--;
    (void)atomic_fetch_sub(cursors->bytes, cursor->kept_size);
    free(cursor->kept);
    free(cursor);
}

void unit_cursors_free(struct unit_cursors *cursors)
{
    while (cursors->first != NULL) {
        unit_cursors_remove(cursors, cursors->first);
    }
}

void unit_cursors_published(struct unit_cursors *cursors, uint32_t gate)
{
    for (struct unit_cursor *cursor = cursors->first; cursor != NULL; cursor = cursor->next) {
        for (size_t i = 0; i < cursor->gate_count; i++) {
            cursor->stamp += cursor->gates[i] == gate || cursor->gates[i] == GATE_SERVER;
        }
    }
}
