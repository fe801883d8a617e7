/*
 * The words of a migration file (file_words.h). One table says which there are; what a word becomes
 * is a function above it.
 *
 * Threads: any.
 */
#include "migrate/file_words.h"

#include <stdlib.h>
#include <string.h>

/* Of a collection: with its database it stays below the server's 255. */
#define NAME_BYTES_MAX 120

/* ------------------------------------------------------------------ values of fields */

size_t reading_field(const struct reading *reading, const char *name)
{
    size_t i = 0;
    while (i < WORD_FIELDS_MAX && reading->word->fields[i].name != NULL &&
           strcmp(reading->word->fields[i].name, name) != 0) {
        i++;
    }
    return i;
}

static bool field_find(const struct reading *reading, const char *name, bson_iter_t *ret_at)
{
    size_t i = reading_field(reading, name);
    return i < WORD_FIELDS_MAX && reading->values[i] != NULL &&
           bson_iter_init_find(ret_at, reading->values[i], "v");
}

static const char *field_text(const struct reading *reading, const char *name)
{
    bson_iter_t at;
    return field_find(reading, name, &at) && BSON_ITER_HOLDS_UTF8(&at) ? bson_iter_utf8(&at, NULL)
                                                                       : NULL;
}

static bool field_bool(const struct reading *reading, const char *name, bool otherwise)
{
    bson_iter_t at;
    return field_find(reading, name, &at) && BSON_ITER_HOLDS_BOOL(&at) ? bson_iter_bool(&at)
                                                                       : otherwise;
}

/* A copy of a document or an array, or NULL. */
static bson_t *field_document(const struct reading *reading, const char *name)
{
    bson_iter_t at;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!field_find(reading, name, &at)) {
        return NULL;
    }
    if (BSON_ITER_HOLDS_DOCUMENT(&at)) {
        bson_iter_document(&at, &size, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(&at)) {
        bson_iter_array(&at, &size, &data);
    }
    return data == NULL ? NULL : bson_new_from_data(data, size);
}

enum status reading_refuse(const struct reading *reading, const char *field, const char *says)
{
    size_t i = field == NULL ? WORD_FIELDS_MAX : reading_field(reading, field);
    const yaml_node_t *at =
        i < WORD_FIELDS_MAX && reading->fields[i] != NULL ? reading->fields[i] : reading->at;
    return yaml_refuse(reading->file, at, reading->error, "%s%s%s: %s", reading->word->word,
                       field == NULL ? "" : ": ", field == NULL ? "" : field, says);
}

static bool holds_only(bson_iter_t *array, bson_type_t type)
{
    bson_iter_t at;
    bool any = false;
    if (!bson_iter_recurse(array, &at)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        any = true;
        if (bson_iter_type(&at) != type) {
            return false;
        }
    }
    return any;
}

/* What is wrong with the value for a field of its type; NULL: nothing. */
const char *reading_judge(enum field_type type, const bson_t *value)
{
    bson_iter_t at;
    bool found = bson_iter_init_find(&at, value, "v");
    switch (type) {
    case FIELD_TEXT:
        return found && BSON_ITER_HOLDS_UTF8(&at) && bson_iter_utf8(&at, NULL)[0] != '\0'
                   ? NULL
                   : "expected a text";
    case FIELD_TEXTS:
        return found && (BSON_ITER_HOLDS_UTF8(&at) ||
                         (BSON_ITER_HOLDS_ARRAY(&at) && holds_only(&at, BSON_TYPE_UTF8)))
                   ? NULL
                   : "expected a text or a list of texts";
    case FIELD_BOOL:
        return found && BSON_ITER_HOLDS_BOOL(&at) ? NULL : "expected true or false";
    case FIELD_DOCUMENT:
        return found && BSON_ITER_HOLDS_DOCUMENT(&at) ? NULL : "expected a document";
    case FIELD_DOCUMENTS:
        return found && BSON_ITER_HOLDS_ARRAY(&at) && holds_only(&at, BSON_TYPE_DOCUMENT)
                   ? NULL
                   : "expected a list of documents";
    case FIELD_UPDATE:
        return found && (BSON_ITER_HOLDS_DOCUMENT(&at) ||
                         (BSON_ITER_HOLDS_ARRAY(&at) && holds_only(&at, BSON_TYPE_DOCUMENT)))
                   ? NULL
                   : "expected update operators, or a list of pipeline stages";
    default:
        return "unknown";
    }
}

/* ------------------------------------------------------------------ names */

enum status reading_collection(struct reading *reading, const char *field, char **ret_name)
{
    const char *text = field_text(reading, field);
    if (text == NULL || strlen(text) > NAME_BYTES_MAX || strchr(text, '$') != NULL ||
        text[0] == '.' || strncmp(text, "system.", 7) == 0) {
        return reading_refuse(reading, field, "not a collection's name");
    }
    if (strncmp(text, "holdfast_", 9) == 0) {
        return reading_refuse(reading, field,
                              "collections that begin with holdfast_ are Holdfast's own");
    }
    *ret_name = strdup(text);
    return *ret_name != NULL ? STATUS_OK
                             : error_set(reading->error, STATUS_MEMORY, "out of memory");
}

/* A path as in an update: dots between names. */
static bool is_path(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && text[0] != '$' && text[0] != '.' && text[size - 1] != '.' &&
           strstr(text, "..") == NULL && strcmp(text, "_id") != 0;
}

/* ------------------------------------------------------------------ what words become */

static bson_t *exists(const char *field, bool there)
{
    return BCON_NEW(field, "{", "$exists", BCON_BOOL(there), "}");
}

static bool all_begin_with_dollar(const bson_t *document)
{
    bson_iter_t at;
    bool any = false;
    if (!bson_iter_init(&at, document)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        any = true;
        if (bson_iter_key(&at)[0] != '$') {
            return false;
        }
    }
    return any;
}

static enum status build_update(struct reading *reading, struct step *step)
{
    bson_iter_t at;
    step->update = field_document(reading, "update");
    step->filter = field_document(reading, "filter");
    step->array_filters = field_document(reading, "arrayFilters");
    if (step->filter == NULL) {
        step->filter = bson_new();
    }
    step->pipeline = field_find(reading, "update", &at) && BSON_ITER_HOLDS_ARRAY(&at);
    if (!step->pipeline && !all_begin_with_dollar(step->update)) {
        return reading_refuse(
            reading, "update",
            "expected update operators such as $set; a whole document is not replaced");
    }
    if (step->pipeline && step->array_filters != NULL) {
        return reading_refuse(reading, "arrayFilters", "not with a pipeline");
    }
    return STATUS_OK;
}

static enum status build_delete(struct reading *reading, struct step *step)
{
    step->filter = field_document(reading, "filter");
    return STATUS_OK;
}

static enum status build_insert(struct reading *reading, struct step *step)
{
    step->documents = field_document(reading, "documents");
    return STATUS_OK;
}

/* Each field is a step of its own: one that is there already must not be set. */
static enum status build_set_default(struct reading *reading, struct step *step)
{
    bson_t *fields = field_document(reading, "fields");
    bson_iter_t at;
    enum status status =
        bson_empty(fields) ? reading_refuse(reading, "fields", "expected fields") : STATUS_OK;
    bool more = bson_iter_init(&at, fields) && bson_iter_next(&at);
    while (status == STATUS_OK && more) {
        struct step one = {.kind = step->kind, .word = step->word, .line = step->line};
        const char *name = bson_iter_key(&at);
        bson_t set = BSON_INITIALIZER;
        bson_append_iter(&set, NULL, -1, &at);
        status = is_path(name) ? reading_collection(reading, "collection", &one.collection)
                               : reading_refuse(reading, "fields", "not a field's name");
        if (status == STATUS_OK) {
            one.name = strdup(name);
            one.filter = exists(name, false);
            one.update = BCON_NEW("$set", BCON_DOCUMENT(&set));
        }
        bson_destroy(&set);
        more = bson_iter_next(&at);
        if (status == STATUS_OK && more) {
            status = step_list_add(reading->list, &one)
                         ? STATUS_OK
                         : error_set(reading->error, STATUS_MEMORY, "out of memory");
        } else if (status == STATUS_OK) {
            step_free(step);
            *step = one; /* the last one, which the caller adds */
        } else {
            step_free(&one);
        }
    }
    bson_destroy(fields);
    return status;
}

static enum status build_rename_field(struct reading *reading, struct step *step)
{
    const char *from = field_text(reading, "from");
    const char *to = field_text(reading, "to");
    if (!is_path(from)) {
        return reading_refuse(reading, "from", "not a field's name");
    }
    if (!is_path(to) || strcmp(from, to) == 0) {
        return reading_refuse(reading, "to", "not another field's name");
    }
    step->name = strdup(from);
    step->update = BCON_NEW("$rename", "{", from, BCON_UTF8(to), "}");
    step->filter = exists(from, true);
    if (!field_bool(reading, "overwrite", false)) {
        bson_t *both = BCON_NEW(from, "{", "$exists", BCON_BOOL(true), "}", to, "{", "$exists",
                                BCON_BOOL(true), "}");
        bson_t nothing;
        BSON_APPEND_DOCUMENT_BEGIN(step->filter, to, &nothing);
        BSON_APPEND_BOOL(&nothing, "$exists", false);
        bson_append_document_end(step->filter, &nothing);
        step->left = both;
        step->left_says = "documents have both fields, and were left as they are: say overwrite: "
                          "true to lose what the new one holds, or put that right first";
    }
    return STATUS_OK;
}

static void put_field(bson_t *any, bson_t *unset, const char *name, uint32_t number)
{
    char index[16];
    const char *key = NULL;
    bson_t *one = exists(name, true);
    bson_uint32_to_string(number, &key, index, sizeof(index));
    BSON_APPEND_DOCUMENT(any, key, one);
    BSON_APPEND_UTF8(unset, name, "");
    bson_destroy(one);
}

static enum status build_remove_field(struct reading *reading, struct step *step)
{
    bson_t any = BSON_INITIALIZER;
    bson_t unset = BSON_INITIALIZER;
    const char *name = field_text(reading, "fields");
    bson_t *names = field_document(reading, "fields");
    enum status status = STATUS_OK;
    if (name != NULL) {
        status =
            is_path(name) ? STATUS_OK : reading_refuse(reading, "fields", "not a field's name");
        put_field(&any, &unset, name, 0);
    } else {
        bson_iter_t at;
        bool more = bson_iter_init(&at, names) && bson_iter_next(&at);
        for (uint32_t i = 0; more && status == STATUS_OK; i++, more = bson_iter_next(&at)) {
            const char *each = bson_iter_utf8(&at, NULL);
            status =
                is_path(each) ? STATUS_OK : reading_refuse(reading, "fields", "not a field's name");
            put_field(&any, &unset, each, i);
        }
    }
    step->filter = BCON_NEW("$or", BCON_ARRAY(&any));
    step->update = BCON_NEW("$unset", BCON_DOCUMENT(&unset));
    bson_destroy(&any);
    bson_destroy(&unset);
    bson_destroy(names);
    return status;
}

/* As the server and all tools name it: field and direction, joined by underscores. */
static char *index_name(const bson_t *keys)
{
    bson_string_t *name = bson_string_new(NULL);
    bson_iter_t at;
    bool more = bson_iter_init(&at, keys) && bson_iter_next(&at);
    while (more) {
        bson_string_append_printf(name, "%s%s_", name->len == 0 ? "" : "_", bson_iter_key(&at));
        if (BSON_ITER_HOLDS_UTF8(&at)) {
            bson_string_append(name, bson_iter_utf8(&at, NULL));
        } else {
            bson_string_append_printf(name, "%lld", (long long)bson_iter_as_int64(&at));
        }
        more = bson_iter_next(&at);
    }
    char *copy = strdup(name->str);
    bson_string_free(name, true);
    return copy;
}

static enum status build_create_index(struct reading *reading, struct step *step)
{
    const char *name = field_text(reading, "name");
    bson_t *keys = field_document(reading, "keys");
    bson_t *options = field_document(reading, "options");
    step->name = name != NULL ? strdup(name) : index_name(keys);
    step->index = bson_new();
    BSON_APPEND_DOCUMENT(step->index, "key", keys);
    BSON_APPEND_UTF8(step->index, "name", step->name);
    if (field_bool(reading, "unique", false)) {
        BSON_APPEND_BOOL(step->index, "unique", true);
    }
    bool empty = bson_empty(keys);
    bool twice = options != NULL &&
                 (bson_has_field(options, "key") || bson_has_field(options, "name") ||
                  (bson_has_field(step->index, "unique") && bson_has_field(options, "unique")));
    if (options != NULL && !twice) {
        bson_concat(step->index, options);
    }
    bson_destroy(keys);
    bson_destroy(options);
    return empty   ? reading_refuse(reading, "keys", "expected fields")
           : twice ? reading_refuse(reading, "options", "key, name and unique are said beside it")
                   : STATUS_OK;
}

static enum status build_drop_index(struct reading *reading, struct step *step)
{
    const char *name = field_text(reading, "name");
    if (strcmp(name, "_id_") == 0 || strcmp(name, "*") == 0) {
        return reading_refuse(reading, "name", "not an index that can be dropped here");
    }
    step->name = strdup(name);
    return STATUS_OK;
}

static enum status build_create_collection(struct reading *reading, struct step *step)
{
    step->options = field_document(reading, "options");
    if (step->options == NULL) {
        step->options = bson_new();
    }
    return bson_has_field(step->options, "create") || bson_has_field(step->options, "viewOn")
               ? reading_refuse(reading, "options", "not a collection's options")
               : STATUS_OK;
}

static enum status build_rename_collection(struct reading *reading, struct step *step)
{
    enum status status = reading_collection(reading, "to", &step->name);
    if (status == STATUS_OK && strcmp(step->name, step->collection) == 0) {
        return reading_refuse(reading, "to", "not another collection's name");
    }
    return status;
}

static enum status build_drop_collection(struct reading *reading, struct step *step)
{
    step->keep = field_bool(reading, "keep", true);
    return STATUS_OK;
}

static enum status build_set_validator(struct reading *reading, struct step *step)
{
    static const char *const names[][2] = {
        {"validator", "validator"}, {"level", "validationLevel"}, {"action", "validationAction"}};
    step->options = bson_new();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bson_iter_t at;
        if (field_find(reading, names[i][0], &at)) {
            bson_append_iter(step->options, names[i][1], -1, &at);
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the table */

#define COLLECTION                                                                                 \
    {                                                                                              \
        "collection", FIELD_TEXT, true                                                             \
    }

static const struct word words[] = {
    {"update",
     STEP_UPDATE,
     {COLLECTION,
      {"filter", FIELD_DOCUMENT, false},
      {"update", FIELD_UPDATE, true},
      {"arrayFilters", FIELD_DOCUMENTS, false}},
     build_update},
    {"setDefault", STEP_UPDATE, {COLLECTION, {"fields", FIELD_DOCUMENT, true}}, build_set_default},
    {"renameField",
     STEP_UPDATE,
     {COLLECTION,
      {"from", FIELD_TEXT, true},
      {"to", FIELD_TEXT, true},
      {"overwrite", FIELD_BOOL, false}},
     build_rename_field},
    {"removeField", STEP_UPDATE, {COLLECTION, {"fields", FIELD_TEXTS, true}}, build_remove_field},
    {"delete", STEP_DELETE, {COLLECTION, {"filter", FIELD_DOCUMENT, true}}, build_delete},
    {"insert", STEP_INSERT, {COLLECTION, {"documents", FIELD_DOCUMENTS, true}}, build_insert},
    {"createIndex",
     STEP_CREATE_INDEX,
     {COLLECTION,
      {"keys", FIELD_DOCUMENT, true},
      {"name", FIELD_TEXT, false},
      {"unique", FIELD_BOOL, false},
      {"options", FIELD_DOCUMENT, false}},
     build_create_index},
    {"dropIndex", STEP_DROP_INDEX, {COLLECTION, {"name", FIELD_TEXT, true}}, build_drop_index},
    {"createCollection",
     STEP_CREATE_COLLECTION,
     {COLLECTION, {"options", FIELD_DOCUMENT, false}},
     build_create_collection},
    {"renameCollection",
     STEP_RENAME_COLLECTION,
     {COLLECTION, {"to", FIELD_TEXT, true}},
     build_rename_collection},
    {"dropCollection",
     STEP_DROP_COLLECTION,
     {COLLECTION, {"keep", FIELD_BOOL, false}},
     build_drop_collection},
    {"setValidator",
     STEP_SET_VALIDATOR,
     {COLLECTION,
      {"validator", FIELD_DOCUMENT, true},
      {"level", FIELD_TEXT, false},
      {"action", FIELD_TEXT, false}},
     build_set_validator},
};

const struct word *word_find(const char *text)
{
    for (size_t i = 0; text != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].word, text) == 0) {
            return &words[i];
        }
    }
    return NULL;
}
