/* Places in a rules file (rules_private.h). */
#include "scrub/rules_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status place_refuse(const struct place *place, const char *format, ...)
{
    char what[400];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    return error_set(place->error, STATUS_INVALID, "%.100s:%lu: %s", yaml_tree_name(place->tree),
                     yaml_tree_line(place->tree, place->path), what);
}

bool place_find(const struct place *place, const char *name, struct place *ret_found)
{
    bson_iter_t inside;
    struct place found = {.tree = place->tree, .error = place->error};
    if (!BSON_ITER_HOLDS_DOCUMENT(&place->at) && !BSON_ITER_HOLDS_ARRAY(&place->at)) {
        return false;
    }
    if (!bson_iter_recurse(&place->at, &inside) || !bson_iter_find(&inside, name)) {
        return false;
    }
    /* Cut off where it is too long: then messages name a line further up. */
    int used = snprintf(found.path, sizeof(found.path), "%s%s", place->path,
                        place->path[0] == '\0' ? "" : ".");
    if (used >= 0 && (size_t)used < sizeof(found.path)) {
        size_t left = sizeof(found.path) - (size_t)used - 1;
        size_t size = strlen(name) < left ? strlen(name) : left;
        memcpy(found.path + used, name, size);
        found.path[(size_t)used + size] = '\0';
    }
    found.at = inside;
    *ret_found = found;
    return true;
}

size_t place_count(const struct place *place)
{
    bson_iter_t inside;
    size_t count = 0;
    if (bson_iter_recurse(&place->at, &inside)) {
        while (bson_iter_next(&inside)) {
            count++;
        }
    }
    return count;
}

enum status place_check_keys(const struct place *place, const char *const *names)
{
    bson_iter_t inside;
    if (!BSON_ITER_HOLDS_DOCUMENT(&place->at) || !bson_iter_recurse(&place->at, &inside)) {
        return place_refuse(place, "this must be a mapping (key: value)");
    }
    while (bson_iter_next(&inside)) {
        const char *const *name = names;
        while (*name != NULL && strcmp(*name, bson_iter_key(&inside)) != 0) {
            name++;
        }
        struct place wrong;
        if (*name == NULL && place_find(place, bson_iter_key(&inside), &wrong)) {
            return place_refuse(&wrong, "unknown key %.60s", bson_iter_key(&inside));
        }
    }
    return STATUS_OK;
}

enum status place_text(const struct place *place, const char **ret_text)
{
    if (!BSON_ITER_HOLDS_UTF8(&place->at) || bson_iter_utf8(&place->at, NULL)[0] == '\0') {
        return place_refuse(place, "this must be a text");
    }
    *ret_text = bson_iter_utf8(&place->at, NULL);
    return STATUS_OK;
}

enum status place_document(const struct place *place, bson_t **ret_document)
{
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!BSON_ITER_HOLDS_DOCUMENT(&place->at)) {
        return place_refuse(place, "this must be a mapping (key: value)");
    }
    bson_iter_document(&place->at, &size, &data);
    *ret_document = bson_new_from_data(data, size);
    return STATUS_OK;
}

bson_t *place_expression(const struct place *place)
{
    bson_t *expression = bson_new();
    bson_append_iter(expression, "e", 1, &place->at);
    return expression;
}

/* A path gets its $; whatever is no text stays. */
static bool append_path(bson_t *to, const char *key, const bson_iter_t *value)
{
    char path[PATH_BYTES];
    if (!BSON_ITER_HOLDS_UTF8(value) || bson_iter_utf8(value, NULL)[0] == '$') {
        return bson_append_iter(to, key, -1, value);
    }
    int size = snprintf(path, sizeof(path), "$%s", bson_iter_utf8(value, NULL));
    return size > 1 && (size_t)size < sizeof(path) && BSON_APPEND_UTF8(to, key, path);
}

enum status place_path_or_expression(const struct place *place, bson_t **ret_expression)
{
    bson_t *expression = bson_new();
    bool done = true;
    if (BSON_ITER_HOLDS_ARRAY(&place->at)) {
        bson_t list;
        bson_iter_t each;
        BSON_APPEND_ARRAY_BEGIN(expression, "e", &list);
        done = bson_iter_recurse(&place->at, &each);
        while (done && bson_iter_next(&each)) {
            done = append_path(&list, bson_iter_key(&each), &each);
        }
        bson_append_array_end(expression, &list);
    } else {
        done = append_path(expression, "e", &place->at);
    }
    if (!done) {
        bson_destroy(expression);
        return place_refuse(place, "a path must be a text of at most %d bytes", PATH_BYTES - 2);
    }
    *ret_expression = expression;
    return STATUS_OK;
}
