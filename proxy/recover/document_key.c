/* Which document a write is of (document_key.h). Works on the caller's memory only. */

#include "recover/document_key.h"

#include <bson/bson.h>
#include <math.h>
#include <string.h>

struct document_key document_key_make(const char *namespace, struct slice key)
{
    struct document_key made = {.namespace = namespace, .key = key};
    bson_t view;
    bson_iter_t at;
    if (!bson_init_static(&view, key.data, key.size) || !bson_iter_init_find(&at, &view, "_id")) {
        return made;
    }
    if (BSON_ITER_HOLDS_INT(&at)) {
        made.whole = true;
        made.number = bson_iter_as_int64(&at);
    } else if (BSON_ITER_HOLDS_DOUBLE(&at)) {
        double value = bson_iter_double(&at);
        /* Up to 2^53 a double names one whole number only. */
        if (value >= -9007199254740992.0 && value <= 9007199254740992.0 && floor(value) == value) {
            made.whole = true;
            made.number = (int64_t)value;
        }
    }
    return made;
}

int document_key_compare(const struct document_key *a, const struct document_key *b)
{
    int order = strcmp(a->namespace, b->namespace);
    if (order != 0) {
        return order;
    }
    if (a->whole != b->whole) {
        return a->whole ? -1 : 1;
    }
    if (a->whole) {
        return a->number == b->number ? 0 : a->number < b->number ? -1 : 1;
    }
    if (a->key.size != b->key.size) {
        return a->key.size < b->key.size ? -1 : 1;
    }
    return memcmp(a->key.data, b->key.data, a->key.size);
}
