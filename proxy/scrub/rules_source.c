/* A rule's sources (rules_private.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scrub/rules_private.h"

void rules_source_free(struct scrub_source *source)
{
    bson_free(source->name);
    bson_free(source->collection);
    bson_destroy(source->where);
    bson_destroy(source->unwind);
    bson_destroy(source->key);
    bson_destroy(source->value);
    bson_destroy(source->sum);
    bson_destroy(source->sound);
    *source = (struct scrub_source){0};
}

static bool path_is_plain(const bson_iter_t *value)
{
    if (!BSON_ITER_HOLDS_UTF8(value)) {
        return false;
    }
    const char *text = bson_iter_utf8(value, NULL);
    return text[0] == '$' && text[1] != '$' && text[1] != '\0';
}

/* Paths only: then the key can be looked for by a query, which an index may answer. */
static bool key_is_plain(const bson_t *key)
{
    bson_iter_t at;
    bson_iter_t each;
    if (!bson_iter_init_find(&at, key, "e")) {
        return false;
    }
    if (!BSON_ITER_HOLDS_ARRAY(&at)) {
        return path_is_plain(&at);
    }
    bool plain = bson_iter_recurse(&at, &each);
    while (plain && bson_iter_next(&each)) {
        plain = path_is_plain(&each);
    }
    return plain;
}

/* "collection.path"; "collection" alone stands for its _id. */
static enum status read_short(const struct place *place, struct scrub_source *source)
{
    const char *text = NULL;
    char path[PATH_BYTES];
    enum status status = place_text(place, &text);
    if (status != STATUS_OK) {
        return status;
    }
    size_t size = strcspn(text, ".");
    bool whole = text[size] == '\0';
    if (size == 0 || strlen(text) >= sizeof(path) || (!whole && text[size + 1] == '\0')) {
        return place_refuse(place, "expected COLLECTION.PATH, as in orders.customer");
    }
    source->collection = bson_strndup(text, size);
    (void)snprintf(path, sizeof(path), "$%s", whole ? "_id" : text + size + 1);
    source->key = BCON_NEW("e", BCON_UTF8(path));
    return STATUS_OK;
}

static enum status read_unwind(const struct place *place, struct scrub_source *source)
{
    struct place found;
    bson_t *paths = NULL;
    if (!place_find(place, "unwind", &found)) {
        return STATUS_OK;
    }
    enum status status = place_path_or_expression(&found, &paths);
    if (status != STATUS_OK) {
        return status;
    }
    bson_iter_t at;
    bson_iter_t each;
    bool plain = bson_iter_init_find(&at, paths, "e");
    if (plain && BSON_ITER_HOLDS_ARRAY(&at) && bson_iter_recurse(&at, &each)) {
        while (plain && bson_iter_next(&each)) {
            plain = path_is_plain(&each);
            bson_append_iter(source->unwind, bson_iter_key(&each), -1, &each);
        }
    } else if (plain) {
        plain = path_is_plain(&at);
        bson_append_iter(source->unwind, "0", 1, &at);
    }
    bson_destroy(paths);
    return plain ? STATUS_OK : place_refuse(&found, "unwind wants a path, or a list of paths");
}

static enum status read_expression(const struct place *place, const char *name,
                                   bson_t **ret_expression)
{
    struct place found;
    return place_find(place, name, &found) ? place_path_or_expression(&found, ret_expression)
                                           : STATUS_OK;
}

static enum status read_names(const struct place *place, struct scrub_source *source)
{
    struct place found;
    const char *text = NULL;
    if (!place_find(place, "in", &found)) {
        return place_refuse(place, "in: is missing: of which collection?");
    }
    enum status status = place_text(&found, &text);
    if (status != STATUS_OK) {
        return status;
    }
    source->collection = bson_strdup(text);
    if (place_find(place, "name", &found)) {
        status = place_text(&found, &text);
        if (status == STATUS_OK) {
            source->name = bson_strdup(text);
        }
    }
    return status;
}

static enum status read_long(const struct place *place, const char *also,
                             struct scrub_source *source)
{
    const char *names[16] = {"in", "name", "where", "unwind", "key", "value", "sum"};
    size_t count = 7;
    struct place found;
    for (const char *each = also; each != NULL && each[0] != '\0' && count + 1 < 16;) {
        names[count++] = each;
        each += strlen(each) + 1;
    }
    enum status status = place_check_keys(place, names);
    if (status == STATUS_OK) {
        status = read_names(place, source);
    }
    if (status == STATUS_OK && place_find(place, "where", &found)) {
        bson_destroy(source->where);
        source->where = NULL;
        status = place_document(&found, &source->where);
    }
    if (status == STATUS_OK) {
        status = read_unwind(place, source);
    }
    if (status == STATUS_OK) {
        status = read_expression(place, "key", &source->key);
    }
    if (status == STATUS_OK) {
        status = read_expression(place, "value", &source->value);
    }
    return status == STATUS_OK ? read_expression(place, "sum", &source->sum) : status;
}

/* Expressions call it by this name, so it is one of a field's. */
static bool name_is_good(const char *name)
{
    return name[0] != '\0' && strlen(name) < 64 && strpbrk(name, ".$") == NULL;
}

enum status rules_source_read(const struct place *place, const char *name, const char *also,
                              bool needs_key, struct scrub_source *ret_source)
{
    struct scrub_source source = {.where = bson_new(), .unwind = bson_new()};
    enum status status = BSON_ITER_HOLDS_UTF8(&place->at) ? read_short(place, &source)
                                                          : read_long(place, also, &source);
    if (status == STATUS_OK && source.key == NULL && needs_key) {
        source.key = BCON_NEW("e", BCON_UTF8("$_id"));
    }
    if (status == STATUS_OK && source.name == NULL) {
        source.name = bson_strdup(name == NULL ? source.collection : name);
    }
    if (status == STATUS_OK && !name_is_good(source.name)) {
        status = place_refuse(place, "%.60s is no good name: give it one with name:", source.name);
    }
    if (status != STATUS_OK) {
        rules_source_free(&source);
        return status;
    }
    source.key_is_plain = source.key != NULL && key_is_plain(source.key);
    *ret_source = source;
    return STATUS_OK;
}
