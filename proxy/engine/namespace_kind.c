/* What a namespace is (namespace_kind.h). */
#include "engine/namespace_kind.h"

#include <string.h>

static bool is_capped(const bson_iter_t *entry)
{
    bson_iter_t options;
    bson_iter_t capped;
    return bson_iter_recurse(entry, &options) && bson_iter_find(&options, "options") &&
           BSON_ITER_HOLDS_DOCUMENT(&options) && bson_iter_recurse(&options, &capped) &&
           bson_iter_find(&capped, "capped") && bson_iter_as_bool(&capped);
}

enum namespace_kind namespace_kind_parse(const bson_t *reply)
{
    bson_iter_t at;
    bson_iter_t entry;
    bson_iter_t type;
    if (!bson_iter_init(&at, reply) ||
        !bson_iter_find_descendant(&at, "cursor.firstBatch.0", &entry) ||
        !BSON_ITER_HOLDS_DOCUMENT(&entry)) {
        return NAMESPACE_COLLECTION;
    }
    if (bson_iter_recurse(&entry, &type) && bson_iter_find(&type, "type") &&
        BSON_ITER_HOLDS_UTF8(&type)) {
        if (strcmp(bson_iter_utf8(&type, NULL), "view") == 0) {
            return NAMESPACE_VIEW;
        }
        if (strcmp(bson_iter_utf8(&type, NULL), "timeseries") == 0) {
            return NAMESPACE_TIME_SERIES;
        }
    }
    return is_capped(&entry) ? NAMESPACE_CAPPED : NAMESPACE_COLLECTION;
}

bool namespace_is_collated(const bson_t *reply)
{
    bson_iter_t at;
    bson_iter_t locale;
    return bson_iter_init(&at, reply) &&
           bson_iter_find_descendant(&at, "cursor.firstBatch.0.options.collation.locale",
                                     &locale) &&
           !(BSON_ITER_HOLDS_UTF8(&locale) && strcmp(bson_iter_utf8(&locale, NULL), "simple") == 0);
}

bool namespace_is_validated(const bson_t *reply)
{
    bson_iter_t at;
    bson_iter_t validator;
    return bson_iter_init(&at, reply) &&
           bson_iter_find_descendant(&at, "cursor.firstBatch.0.options.validator", &validator);
}

bool namespace_is_internal_database(const char *database)
{
    return strcmp(database, "admin") == 0 || strcmp(database, "config") == 0 ||
           strcmp(database, "local") == 0;
}

bool namespace_is_internal(const char *database, const char *collection)
{
    return namespace_is_internal_database(database) || strncmp(collection, "system.", 7) == 0;
}
