/*
 * The steps of a migration file. One table says which words there are and which fields each has;
 * what a word becomes is a function beside it.
 *
 * Threads: any.
 */
#include "migrate/file_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 8
#define NAME_BYTES_MAX                                                                             \
    120 /* of a collection: with its database it stays below the server's 255                      \
         */

enum field_type {
    FIELD_NONE,
    FIELD_TEXT,
    FIELD_TEXTS, /* one or a list of them */
    FIELD_BOOL,
    FIELD_DOCUMENT,
    FIELD_DOCUMENTS, /* a list, not empty */
    FIELD_UPDATE,    /* operators, or a list of stages */
};

struct field {
    const char *name;
    enum field_type type;
    bool required;
};

struct reading; /* one step while it is read */

struct word {
    const char *word;
    enum step_kind kind;
    struct field fields[FIELDS_MAX];
    enum status (*build)(struct reading *reading, struct step *step);
};

struct reading {
    const struct yaml_file *file;
    const struct word *word;
    const yaml_node_t *at;
    const yaml_node_t *fields[FIELDS_MAX]; /* where each stands; NULL: it does not */
    bson_t *values[FIELDS_MAX];            /* {"v": value} */
    struct step_list *list;
    struct error *error;
};

/* ------------------------------------------------------------------ values of fields */

static size_t field_index(const struct reading *reading, const char *name)
{
    size_t i = 0;
    while (i < FIELDS_MAX && reading->word->fields[i].name != NULL &&
           strcmp(reading->word->fields[i].name, name) != 0) {
        i++;
    }
    return i;
}

static bool field_find(const struct reading *reading, const char *name, bson_iter_t *ret_at)
{
    size_t i = field_index(reading, name);
    return i < FIELDS_MAX && reading->values[i] != NULL &&
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

static enum status refuse(const struct reading *reading, const char *field, const char *says)
{
    size_t i = field == NULL ? FIELDS_MAX : field_index(reading, field);
    const yaml_node_t *at =
        i < FIELDS_MAX && reading->fields[i] != NULL ? reading->fields[i] : reading->at;
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
static const char *field_judge(enum field_type type, const bson_t *value)
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

static enum status take_collection(struct reading *reading, const char *field, char **ret_name)
{
    const char *text = field_text(reading, field);
    if (text == NULL || strlen(text) > NAME_BYTES_MAX || strchr(text, '$') != NULL ||
        text[0] == '.' || strncmp(text, "system.", 7) == 0) {
        return refuse(reading, field, "not a collection's name");
    }
    if (strncmp(text, "holdfast_", 9) == 0) {
        return refuse(reading, field, "collections that begin with holdfast_ are Holdfast's own");
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
        return refuse(reading, "update",
                      "expected update operators such as $set; a whole document is not replaced");
    }
    if (step->pipeline && step->array_filters != NULL) {
        return refuse(reading, "arrayFilters", "not with a pipeline");
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
        bson_empty(fields) ? refuse(reading, "fields", "expected fields") : STATUS_OK;
    bool more = bson_iter_init(&at, fields) && bson_iter_next(&at);
    while (status == STATUS_OK && more) {
        struct step one = {.kind = step->kind, .word = step->word, .line = step->line};
        const char *name = bson_iter_key(&at);
        bson_t set = BSON_INITIALIZER;
        bson_append_iter(&set, NULL, -1, &at);
        status = is_path(name) ? take_collection(reading, "collection", &one.collection)
                               : refuse(reading, "fields", "not a field's name");
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
        return refuse(reading, "from", "not a field's name");
    }
    if (!is_path(to) || strcmp(from, to) == 0) {
        return refuse(reading, "to", "not another field's name");
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
        status = is_path(name) ? STATUS_OK : refuse(reading, "fields", "not a field's name");
        put_field(&any, &unset, name, 0);
    } else {
        bson_iter_t at;
        bool more = bson_iter_init(&at, names) && bson_iter_next(&at);
        for (uint32_t i = 0; more && status == STATUS_OK; i++, more = bson_iter_next(&at)) {
            const char *each = bson_iter_utf8(&at, NULL);
            status = is_path(each) ? STATUS_OK : refuse(reading, "fields", "not a field's name");
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
    return empty   ? refuse(reading, "keys", "expected fields")
           : twice ? refuse(reading, "options", "key, name and unique are said beside it")
                   : STATUS_OK;
}

static enum status build_drop_index(struct reading *reading, struct step *step)
{
    const char *name = field_text(reading, "name");
    if (strcmp(name, "_id_") == 0 || strcmp(name, "*") == 0) {
        return refuse(reading, "name", "not an index that can be dropped here");
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
               ? refuse(reading, "options", "not a collection's options")
               : STATUS_OK;
}

static enum status build_rename_collection(struct reading *reading, struct step *step)
{
    enum status status = take_collection(reading, "to", &step->name);
    if (status == STATUS_OK && strcmp(step->name, step->collection) == 0) {
        return refuse(reading, "to", "not another collection's name");
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

/* ------------------------------------------------------------------ reading */

static enum status read_field(struct reading *reading, const yaml_node_t *key,
                              const yaml_node_t *value)
{
    const char *name = yaml_text(key);
    size_t i = name == NULL ? FIELDS_MAX : field_index(reading, name);
    if (i >= FIELDS_MAX || reading->word->fields[i].name == NULL) {
        return yaml_refuse(reading->file, key, reading->error, "%s has no field %.60s",
                           reading->word->word, name == NULL ? "that is no text" : name);
    }
    if (reading->values[i] != NULL) {
        return yaml_refuse(reading->file, key, reading->error, "%s stands here twice", name);
    }
    reading->fields[i] = key;
    enum status status = yaml_value(reading->file, value, &reading->values[i], reading->error);
    const char *wrong =
        status == STATUS_OK ? field_judge(reading->word->fields[i].type, reading->values[i]) : NULL;
    return wrong != NULL ? refuse(reading, name, wrong) : status;
}

static enum status read_fields(struct reading *reading, const yaml_node_t *mapping)
{
    yaml_document_t *document = reading->file->document;
    enum status status = STATUS_OK;
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         status == STATUS_OK && pair < mapping->data.mapping.pairs.top; pair++) {
        status = read_field(reading, yaml_document_get_node(document, pair->key),
                            yaml_document_get_node(document, pair->value));
    }
    for (size_t i = 0; i < FIELDS_MAX && status == STATUS_OK; i++) {
        const struct field *field = &reading->word->fields[i];
        if (field->name != NULL && field->required && reading->values[i] == NULL) {
            status = yaml_refuse(reading->file, reading->at, reading->error, "%s needs %s",
                                 reading->word->word, field->name);
        }
    }
    return status;
}

static enum status build(struct reading *reading)
{
    struct step step = {
        .kind = reading->word->kind, .word = reading->word->word, .line = yaml_line(reading->at)};
    enum status status = take_collection(reading, "collection", &step.collection);
    if (status == STATUS_OK) {
        status = reading->word->build(reading, &step);
    }
    if (status != STATUS_OK) {
        step_free(&step);
        return status;
    }
    return step_list_add(reading->list, &step)
               ? STATUS_OK
               : error_set(reading->error, STATUS_MEMORY, "out of memory");
}

static const struct word *word_find(const char *text)
{
    for (size_t i = 0; text != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].word, text) == 0) {
            return &words[i];
        }
    }
    return NULL;
}

static enum status read_step(const struct yaml_file *file, const yaml_node_t *node,
                             struct step_list *list, struct error *ret_error)
{
    struct reading reading = {.file = file, .at = node, .list = list, .error = ret_error};
    const yaml_node_pair_t *pair =
        node != NULL && node->type == YAML_MAPPING_NODE ? node->data.mapping.pairs.start : NULL;
    if (pair == NULL || node->data.mapping.pairs.top - pair != 1) {
        return yaml_refuse(file, node, ret_error, "expected one step, as - update: {...}");
    }
    const char *text = yaml_text(yaml_document_get_node(file->document, pair->key));
    const yaml_node_t *fields = yaml_document_get_node(file->document, pair->value);
    reading.word = word_find(text);
    if (reading.word == NULL) {
        return yaml_refuse(file, node, ret_error, "there is no step %.60s",
                           text == NULL ? "of that name" : text);
    }
    if (fields == NULL || fields->type != YAML_MAPPING_NODE) {
        return yaml_refuse(file, node, ret_error, "%s needs fields", reading.word->word);
    }
    enum status status = read_fields(&reading, fields);
    if (status == STATUS_OK) {
        status = build(&reading);
    }
    for (size_t i = 0; i < FIELDS_MAX; i++) {
        bson_destroy(reading.values[i]);
    }
    return status;
}

enum status file_steps_read(const struct yaml_file *file, const yaml_node_t *sequence,
                            struct step_list *list, struct error *ret_error)
{
    enum { STEPS_MAX = 1000 };
    if (sequence == NULL || sequence->type != YAML_SEQUENCE_NODE) {
        return yaml_refuse(file, sequence, ret_error, "expected a list of steps");
    }
    enum status status = STATUS_OK;
    for (yaml_node_item_t *item = sequence->data.sequence.items.start;
         status == STATUS_OK && item < sequence->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(file->document, *item);
        status = list->count < STEPS_MAX
                     ? read_step(file, node, list, ret_error)
                     : yaml_refuse(file, node, ret_error, "more than %d steps", STEPS_MAX);
    }
    return status;
}
