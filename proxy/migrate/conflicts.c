/* Documents that could not be undone, in their migration's row (conflicts.h). */
#include "migrate/conflicts.h"

#include <string.h>

#define CONFLICTS_KEPT 100

void conflict_put_key(bson_t *target, const char *name, struct slice key)
{
    bson_t view;
    bson_iter_t at;
    if (bson_init_static(&view, key.data, key.size) && bson_iter_init_find(&at, &view, "_id")) {
        bson_append_iter(target, name, -1, &at);
    }
}

void conflicts_put(const struct row *row, bson_t *set, const struct migrate_conflict *conflicts,
                   size_t count)
{
    bson_t list;
    bson_iter_t at;
    bson_iter_t each;
    uint32_t kept = 0;
    char index[16];
    const char *key = NULL;
    BSON_APPEND_INT64(set, "conflicts", row->conflicts + (int64_t)count);
    BSON_APPEND_ARRAY_BEGIN(set, "conflictList", &list);
    if (row_find(row, "conflictList", &at) && BSON_ITER_HOLDS_ARRAY(&at) &&
        bson_iter_recurse(&at, &each)) {
        for (; bson_iter_next(&each) && kept < CONFLICTS_KEPT; kept++) {
            bson_uint32_to_string(kept, &key, index, sizeof(index));
            bson_append_iter(&list, key, -1, &each);
        }
    }
    for (size_t i = 0; i < count && kept < CONFLICTS_KEPT; i++, kept++) {
        bson_t one;
        bson_uint32_to_string(kept, &key, index, sizeof(index));
        bson_append_document_begin(&list, key, -1, &one);
        BSON_APPEND_UTF8(&one, "ns", conflicts[i].namespace);
        conflict_put_key(&one, "key", conflicts[i].key);
        BSON_APPEND_UTF8(&one, "reason", conflicts[i].reason);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(set, &list);
}

bool conflict_is_known(const struct row *row, const char *namespace, struct slice key_document)
{
    bson_iter_t at;
    bson_iter_t each;
    bool known = false;
    bson_t key = BSON_INITIALIZER;
    conflict_put_key(&key, "key", key_document);
    if (row_find(row, "conflictList", &at) && BSON_ITER_HOLDS_ARRAY(&at) &&
        bson_iter_recurse(&at, &each)) {
        while (!known && bson_iter_next(&each)) {
            bson_iter_t of;
            bson_iter_t id;
            bson_t one = BSON_INITIALIZER;
            bool same = bson_iter_recurse(&each, &of) && bson_iter_find(&of, "ns") &&
                        BSON_ITER_HOLDS_UTF8(&of) &&
                        strcmp(bson_iter_utf8(&of, NULL), namespace) == 0;
            if (same && bson_iter_recurse(&each, &id) && bson_iter_find(&id, "key")) {
                bson_append_iter(&one, "key", 3, &id);
                known = bson_equal(&one, &key);
            }
            bson_destroy(&one);
        }
    }
    bson_destroy(&key);
    return known;
}
