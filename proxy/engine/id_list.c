/* Arrays of _ids (id_list.h). Pure. */
#include "engine/id_list.h"

#include <stdlib.h>
#include <string.h>

#include "unit/lock_table.h"
#include "wire/overlay.h"

void id_list_append(bson_t *ids, uint32_t *count, const bson_iter_t *id)
{
    struct overlay_index index = overlay_index_next(count);
    bson_append_iter(ids, overlay_index_text(&index), index.size, id);
}

bool id_list_append_of(bson_t *ids, uint32_t *count, struct slice document)
{
    bson_iter_t id;
    bool found = document.size > 0 && bson_iter_init_from_data(&id, document.data, document.size) &&
                 bson_iter_find(&id, "_id");
    if (found) {
        id_list_append(ids, count, &id);
    }
    return found;
}

/* ------------------------------------------------------------------ those that are there twice */

struct entry {
    struct lock_name name;
    uint32_t index;
};

static int compare(const void *a_void, const void *b_void)
{
    const struct entry *a = a_void;
    const struct entry *b = b_void;
    int order = memcmp(&a->name, &b->name, sizeof a->name);
    return order != 0 ? order : a->index < b->index ? -1 : a->index > b->index;
}

static void fill(const bson_t *ids, struct entry *entries, uint32_t count)
{
    bson_iter_t at;
    (void)bson_iter_init(&at, ids);
    for (uint32_t i = 0; i < count && bson_iter_next(&at); i++) {
        bson_t key = BSON_INITIALIZER;
        bson_append_iter(&key, "_id", 3, &at);
        lock_name_of("", slice_make(bson_get_data(&key), key.len), &entries[i].name);
        entries[i].index = i;
        bson_destroy(&key);
    }
}

static void copy_others(const bson_t *ids, const bool *repeated, bson_t *ret_kept)
{
    bson_iter_t at;
    uint32_t kept = 0;
    (void)bson_iter_init(&at, ids);
    for (uint32_t i = 0; bson_iter_next(&at); i++) {
        if (!repeated[i]) {
            id_list_append(ret_kept, &kept, &at);
        }
    }
}

enum status id_list_drop_repeated(bson_t *ids, uint32_t count)
{
    bool any = false;
    struct entry *entries = calloc((size_t)count + 1, sizeof *entries);
    bool *repeated = calloc((size_t)count + 1, sizeof *repeated);
    if (entries == NULL || repeated == NULL) {
        free(entries);
        free(repeated);
        return STATUS_MEMORY;
    }
    fill(ids, entries, count);
    qsort(entries, count, sizeof *entries, compare);
    for (uint32_t i = 1; i < count; i++) {
        if (memcmp(&entries[i - 1].name, &entries[i].name, sizeof entries[i].name) == 0) {
            any = repeated[entries[i].index] = true;
        }
    }
    if (any) {
        bson_t kept = BSON_INITIALIZER;
        copy_others(ids, repeated, &kept);
        bson_destroy(ids);
        bson_steal(ids, &kept);
    }
    free(entries);
    free(repeated);
    return STATUS_OK;
}
