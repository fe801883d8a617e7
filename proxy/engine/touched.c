/* Namespaces that a transaction has been in (touched.h). Pure. */
#include "engine/touched.h"

/* FNV-1a, over both names with the NUL between them. */
static uint64_t hash_of(const char *database, const char *collection)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (const char *at = database;; at++) {
        hash = (hash ^ (uint8_t)*at) * UINT64_C(1099511628211);
        if (*at == '\0') {
            break;
        }
    }
    for (const char *at = collection; *at != '\0'; at++) {
        hash = (hash ^ (uint8_t)*at) * UINT64_C(1099511628211);
    }
    return hash;
}

static bool is_there(const struct touched *touched, uint64_t hash)
{
    for (size_t i = 0; i < touched->count; i++) {
        if (touched->hashes[i] == hash) {
            return true;
        }
    }
    return false;
}

void touched_add(struct touched *touched, const char *database, const char *collection)
{
    if (touched->any) {
        return;
    }
    if (database == NULL || collection == NULL) {
        touched->any = true;
        return;
    }
    uint64_t hash = hash_of(database, collection);
    if (is_there(touched, hash)) {
        return;
    }
    if (touched->count == TOUCHED_MAX) {
        touched->any = true;
    } else {
        touched->hashes[touched->count++] = hash;
    }
}

bool touched_has(const struct touched *touched, const char *database, const char *collection)
{
    bool some = touched->any || touched->count > 0;
    if (touched->any || database == NULL || collection == NULL) {
        return some;
    }
    return is_there(touched, hash_of(database, collection));
}
