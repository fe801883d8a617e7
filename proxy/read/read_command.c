/* Taking commands that read apart. Pure; peer bytes are read through wire/bson_walk.h only. */
#include "read/read_command.h"

#include <string.h>

#include "wire/bson_walk.h"

/* Pipelines in stages of pipelines; deeper ones count as reading anything. */
#define PIPELINE_DEPTH_MAX 8

/* ------------------------------------------------------------------ parsing */

static const struct {
    const char *name;
    enum read_kind kind;
} kinds[] = {
    {"find", READ_FIND},         {"aggregate", READ_AGGREGATE}, {"count", READ_COUNT},
    {"distinct", READ_DISTINCT}, {"getMore", READ_GET_MORE},
};

static bool kind_of(const char *name, enum read_kind *ret_kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *ret_kind = kinds[i].kind;
            return true;
        }
    }
    return false;
}

bool read_command_is_known(const char *name)
{
    enum read_kind kind;
    return kind_of(name, &kind);
}

static bool is_true(const struct bson_element *element)
{
    int64_t number = 0;
    if (element->type == BSON_TYPE_BOOL) {
        return element->value.size == 1 && element->value.data[0] != 0;
    }
    return bson_element_integer(element, &number) && number != 0;
}

static void take_document(struct read_command *command, const struct bson_element *element,
                          struct slice *into)
{
    if (element->type == BSON_TYPE_DOCUMENT) {
        *into = element->value.size > 5 ? element->value : (struct slice){0};
    } else {
        command->is_odd |= element->type != BSON_TYPE_NULL;
    }
}

static void take_number(struct read_command *command, const struct bson_element *element,
                        int64_t *into)
{
    int64_t number = 0;
    if (element->type == BSON_TYPE_NULL) {
        return;
    }
    if (!bson_element_integer(element, &number) || number < INT32_MIN) {
        command->is_odd = true;
    } else if (number >= 0) {
        *into = number;
    } else if (command->kind == READ_COUNT) {
        *into = -number;
    } else {
        command->is_odd = true;
    }
}

static void take_collation(struct read_command *command, const struct bson_element *element)
{
    struct bson_element locale;
    const char *text = NULL;
    if (element->type == BSON_TYPE_DOCUMENT && element->value.size <= 5) {
        return;
    }
    if (element->type == BSON_TYPE_DOCUMENT &&
        bson_element_find(element->value, "locale", &locale)) {
        text = bson_element_text(&locale);
    }
    command->has_collation = text == NULL || strcmp(text, "simple") != 0;
}

/* { cursor: { batchSize } } stays as it is; whatever else of it is odd the server refuses. */
static void take_find_option(struct read_command *command, const struct bson_element *element)
{
    static const char *const odd[] = {"max", "min", "returnKey", "showRecordId", NULL};
    static const char *const tailing[] = {"tailable", "awaitData", "oplogReplay", NULL};
    if (bson_element_is(element, "singleBatch")) {
        command->single_batch = is_true(element);
    } else if (bson_element_is(element, "batchSize")) {
        command->has_batch_size = element->type != BSON_TYPE_NULL;
        take_number(command, element, &command->batch_size);
    } else if (bson_element_is(element, "sort")) {
        take_document(command, element, &command->sort);
    } else if (bson_element_is(element, "projection")) {
        take_document(command, element, &command->projection);
    } else if (bson_element_is(element, "ntoreturn")) {
        command->is_odd = true;
    } else if (bson_name_is_one_of(element->name, odd)) {
        command->is_odd |=
            element->type == BSON_TYPE_DOCUMENT ? element->value.size > 5 : is_true(element);
    } else if (bson_name_is_one_of(element->name, tailing)) {
        command->tails |= is_true(element);
    }
}

static void take_field(struct read_command *command, const struct bson_element *element)
{
    if (bson_element_is(element, "filter") || bson_element_is(element, "query")) {
        take_document(command, element, &command->filter);
    } else if (bson_element_is(element, "skip")) {
        take_number(command, element, &command->skip);
    } else if (bson_element_is(element, "limit")) {
        take_number(command, element, &command->limit);
    } else if (bson_element_is(element, "collation")) {
        take_collation(command, element);
    } else if (bson_element_is(element, "key")) {
        command->key = bson_element_text(element);
    } else if (bson_element_is(element, "pipeline")) {
        command->pipeline = element->type == BSON_TYPE_ARRAY ? element->value : (struct slice){0};
    } else if (bson_element_is(element, "cursor")) {
        struct bson_element size;
        command->has_batch_size = command->kind == READ_AGGREGATE &&
                                  element->type == BSON_TYPE_DOCUMENT &&
                                  bson_element_find(element->value, "batchSize", &size);
        if (command->has_batch_size) {
            take_number(command, &size, &command->batch_size);
        }
    } else if (bson_element_is(element, "explain")) {
        command->passes |= command->kind == READ_AGGREGATE && is_true(element);
    } else if (command->kind == READ_FIND) {
        take_find_option(command, element);
    }
}

/* ------------------------------------------------------------------ pipelines */

static bool stage_of(const struct bson_element *element, struct bson_element *ret_stage)
{
    struct slice fields;
    return element->type == BSON_TYPE_DOCUMENT && bson_fields_open(element->value, &fields) &&
           bson_element_next(&fields, ret_stage);
}

void read_command_add_gate(struct read_command *command, uint32_t gate, const char *name)
{
    for (size_t i = 1; i < command->gate_count; i++) {
        const char *known = command->names[i];
        if (command->gates[i] == gate &&
            (name == NULL || known == NULL || strcmp(known, name) == 0)) {
            return;
        }
    }
    if (gate == GATE_SERVER || command->gate_count == READ_GATES_MAX) {
        command->gates[1] = GATE_SERVER; /* it stands for all */
        command->names[1] = NULL;
        command->gate_count = 2;
    } else if (command->gate_count < 2 || command->gates[1] != GATE_SERVER) {
        command->names[command->gate_count] = name;
        command->gates[command->gate_count++] = gate;
    }
}

static void add_collection(struct read_command *command, const struct bson_element *name)
{
    const char *text = bson_element_text(name);
    if (text == NULL || command->other_count == READ_OTHERS_MAX) {
        command->reads_anything = true;
        return;
    }
    for (size_t i = 0; i < command->other_count; i++) {
        if (strcmp(command->others[i], text) == 0) {
            return;
        }
    }
    command->others[command->other_count++] = text;
}

static void add_pipeline(struct read_command *command, struct slice pipeline, int depth);

/* { $lookup: { from, pipeline }, $graphLookup: { from }, $unionWith: NAME or { coll, pipeline } }
 */
static void add_reading_stage(struct read_command *command, const struct bson_element *stage,
                              int depth)
{
    struct bson_element field;
    const char *name = bson_element_is(stage, "$unionWith") ? "coll" : "from";
    if (stage->type == BSON_TYPE_UTF8) {
        add_collection(command, stage);
        return;
    }
    if (stage->type != BSON_TYPE_DOCUMENT) {
        return; /* an error */
    }
    if (bson_element_find(stage->value, name, &field)) {
        add_collection(command, &field);
    }
    if (bson_element_find(stage->value, "pipeline", &field) && field.type == BSON_TYPE_ARRAY) {
        add_pipeline(command, field.value, depth - 1);
    }
}

/* All collections that its stages read. Too deep counts as any. */
static void add_pipeline(struct read_command *command, struct slice pipeline, int depth)
{
    static const char *const reading[] = {"$lookup", "$graphLookup", "$unionWith", NULL};
    struct slice stages;
    struct bson_element element;
    struct bson_element stage;
    if (depth == 0 || !bson_fields_open(pipeline, &stages)) {
        command->reads_anything = true;
        return;
    }
    while (bson_element_next(&stages, &element)) {
        struct slice facets;
        struct bson_element facet;
        if (!stage_of(&element, &stage)) {
            continue;
        }
        if (bson_name_is_one_of(stage.name, reading)) {
            add_reading_stage(command, &stage, depth);
            continue;
        }
        if (!bson_element_is(&stage, "$facet") || stage.type != BSON_TYPE_DOCUMENT ||
            !bson_fields_open(stage.value, &facets)) {
            continue;
        }
        while (bson_element_next(&facets, &facet)) {
            if (facet.type == BSON_TYPE_ARRAY) {
                add_pipeline(command, facet.value, depth - 1);
            }
        }
    }
}

void read_command_add_pipeline(struct read_command *command, struct slice pipeline)
{
    add_pipeline(command, pipeline, PIPELINE_DEPTH_MAX);
}

static bool first_stage_is_one_of(struct slice pipeline, const char *const *names)
{
    struct slice stages;
    struct bson_element element;
    struct bson_element stage;
    return bson_fields_open(pipeline, &stages) && bson_element_next(&stages, &element) &&
           stage_of(&element, &stage) && bson_name_is_one_of(stage.name, names);
}

/* Whether each of its elements is a document: else the server refuses it. */
static bool is_pipeline(struct slice pipeline)
{
    struct slice stages;
    struct bson_element element;
    if (!bson_fields_open(pipeline, &stages)) {
        return false;
    }
    while (bson_element_next(&stages, &element)) {
        if (element.type != BSON_TYPE_DOCUMENT) {
            return false;
        }
    }
    return true;
}

static void look_at_pipeline(struct read_command *command)
{
    /* What these show is no document of a collection, or a change once it is there. */
    static const char *const of_the_server[] = {
        "$changeStream",      "$collStats",
        "$currentOp",         "$documents",
        "$indexStats",        "$listLocalSessions",
        "$listSearchIndexes", "$listSessions",
        "$planCacheStats",    NULL,
    };
    if (!is_pipeline(command->pipeline)) {
        command->passes = true; /* an error; or it is in a sequence, which no driver sends */
        return;
    }
    add_pipeline(command, command->pipeline, PIPELINE_DEPTH_MAX);
    command->passes |=
        command->other_count == 0 && !command->reads_anything &&
        (command->collection == NULL || first_stage_is_one_of(command->pipeline, of_the_server));
}

/* ------------------------------------------------------------------ the whole command */

static void take_get_more(struct read_command *command)
{
    struct bson_element element;
    command->collection = NULL;
    if (bson_element_find(command->view->body, "collection", &element)) {
        command->collection = bson_element_text(&element);
    }
    if (!bson_element_find(command->view->body, "getMore", &element) ||
        !bson_element_integer(&element, &command->cursor_id)) {
        command->cursor_id = 0;
    }
    /* Only cursors that wait for new documents (tailable, change streams) are asked so. */
    command->awaits = command->view->max_time_ms > 0;
    command->passes = command->collection == NULL;
}

/* { _id: value } and nothing else. */
static void look_for_id(struct read_command *command)
{
    struct slice fields;
    struct bson_element element;
    if (command->kind == READ_FIND && command->filter.size > 0 &&
        bson_fields_open(command->filter, &fields) && bson_element_next(&fields, &element) &&
        fields.size == 0 && bson_element_is(&element, "_id")) {
        command->id = element.raw;
    }
}

enum status read_command_parse(const struct command_view *view, struct read_command *ret_command)
{
    struct read_command command = {.view = view};
    struct slice fields;
    struct bson_element element;
    if (!kind_of(view->name, &command.kind)) {
        return STATUS_NOT_FOUND;
    }
    command.database = view->database;
    command.collection = view->collection;
    if (command.kind == READ_GET_MORE) {
        take_get_more(&command);
    } else {
        if (!bson_fields_open(view->body, &fields)) {
            return STATUS_INVALID;
        }
        while (bson_element_next(&fields, &element)) {
            take_field(&command, &element);
        }
        if (fields.size != 0) {
            return STATUS_INVALID;
        }
        look_for_id(&command);
    }
    if (command.kind == READ_AGGREGATE) {
        look_at_pipeline(&command);
    } else {
        command.passes |= command.collection == NULL;
    }
    command.is_special = command.passes || command.tails;
    /* "available" is what asks for speed and takes what may be rolled back. */
    command.passes |=
        command.database == NULL ||
        (view->read_concern_level != NULL && strcmp(view->read_concern_level, "available") == 0);
    command.gates[0] = command.collection == NULL || command.database == NULL
                           ? GATE_SERVER
                           : gate_of(command.database, command.collection);
    command.names[0] = command.collection;
    command.gate_count = 1;
    for (size_t i = 0; i < command.other_count && command.database != NULL; i++) {
        read_command_add_gate(&command, gate_of(command.database, command.others[i]),
                              command.others[i]);
    }
    if (command.reads_anything) {
        read_command_add_gate(&command, GATE_SERVER, NULL);
    }
    *ret_command = command;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ analysis */

/* Whether a field of one of these names is anywhere inside. bson_check() has bounded the depth. */
static bool holds_name(struct slice document, const char *const *names)
{
    struct slice fields;
    struct bson_element element;
    if (document.size == 0 || !bson_fields_open(document, &fields)) {
        return false;
    }
    while (bson_element_next(&fields, &element)) {
        if (bson_name_is_one_of(element.name, names)) {
            return true;
        }
        if ((element.type == BSON_TYPE_DOCUMENT || element.type == BSON_TYPE_ARRAY) &&
            holds_name(element.value, names)) {
            return true;
        }
    }
    return false;
}

/* Only fields with 1 and -1. */
static bool is_plain_sort(struct slice sort)
{
    struct slice fields;
    struct bson_element element;
    if (sort.size == 0) {
        return true;
    }
    if (!bson_fields_open(sort, &fields)) {
        return false;
    }
    while (bson_element_next(&fields, &element)) {
        int64_t direction = 0;
        if (element.name[0] == '$' || !bson_element_integer(&element, &direction) ||
            (direction != 1 && direction != -1)) {
            return false;
        }
    }
    return true;
}

/* A find's projection that $project takes to mean the same. */
static bool is_plain_projection(struct slice projection)
{
    static const char *const of_find[] = {"$elemMatch", "$slice", "$meta", NULL};
    struct slice fields;
    struct bson_element element;
    if (projection.size == 0) {
        return true;
    }
    if (holds_name(projection, of_find) || !bson_fields_open(projection, &fields)) {
        return false;
    }
    while (bson_element_next(&fields, &element)) {
        if (strchr(element.name, '$') != NULL) {
            return false; /* `array.$` */
        }
    }
    return true;
}

/* $unwind takes no step into an array by its place. */
static bool is_plain_path(const char *path)
{
    bool start = true;
    if (path == NULL || path[0] == '\0' || path[0] == '$') {
        return false;
    }
    for (; *path != '\0'; path++) {
        if (start && ((*path >= '0' && *path <= '9') || *path == '.' || *path == '$')) {
            return false;
        }
        start = *path == '.';
    }
    return !start;
}

static const char *const first_only[] = {
    "$text",   "$where",      "$near",         "$nearSphere", "$geoNear",
    "$search", "$searchMeta", "$vectorSearch", NULL,
};

bool read_command_is_first_only(struct slice pipeline)
{
    return holds_name(pipeline, first_only);
}

enum read_form read_command_analyse(const struct read_command *command, const char **ret_why)
{
    static const char *const collation_free[] = {"$meta", NULL};
    const char *why = NULL;
    if (command->passes) {
        return READ_FORM_PASS;
    }
    if (command->kind == READ_GET_MORE) {
        why = "a cursor";
    } else if (command->collection == NULL) {
        why = "a pipeline of no collection that reads others";
    } else if (command->is_unsure) {
        why = "of a namespace that may be a view";
    } else if (command->tails) {
        why = "a tailable cursor";
    } else if (command->is_odd) {
        why = "an option that only find has";
    } else if (holds_name(command->filter, first_only) ||
               holds_name(command->pipeline, first_only) ||
               holds_name(command->pipeline, collation_free)) {
        why = "$text, $where, $near or $geoNear";
    } else if (!is_plain_sort(command->sort)) {
        why = "a sort by something else than fields";
    } else if (!is_plain_projection(command->projection)) {
        why = "a projection with $elemMatch, $slice, $meta or a position";
    } else if (command->kind == READ_DISTINCT && !is_plain_path(command->key)) {
        why = "a distinct of a place in an array";
    }
    if (why != NULL) {
        *ret_why = why;
        return READ_FORM_WAIT;
    }
    bson_t key = BSON_INITIALIZER;
    bool point = read_command_point_key(command, &key);
    bson_destroy(&key);
    return point && !command->is_view ? READ_FORM_POINT : READ_FORM_OVERLAY;
}

bool read_command_names_one(const bson_iter_t *id, bool collated)
{
    switch (bson_iter_type(id)) {
    case BSON_TYPE_UTF8:
    case BSON_TYPE_DOCUMENT:
        return !collated;
    case BSON_TYPE_OID:
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
    case BSON_TYPE_DECIMAL128:
    case BSON_TYPE_BINARY:
    case BSON_TYPE_BOOL:
    case BSON_TYPE_DATE_TIME:
        return true;
    default:
        return false; /* null finds what has no _id; an array, what holds it */
    }
}

bool read_command_point_key(const struct read_command *command, bson_t *key)
{
    bson_iter_t id;
    bson_iter_t inside;
    if (command->id.size == 0 || command->is_odd ||
        !bson_iter_init_from_data(&id, command->filter.data, command->filter.size) ||
        !bson_iter_next(&id)) {
        return false;
    }
    if (BSON_ITER_HOLDS_DOCUMENT(&id) && bson_iter_recurse(&id, &inside) &&
        bson_iter_next(&inside) && bson_iter_key(&inside)[0] == '$') {
        bson_iter_t only = inside;
        if (strcmp(bson_iter_key(&inside), "$eq") != 0 || bson_iter_next(&inside)) {
            return false;
        }
        id = only;
    }
    return read_command_names_one(&id, command->has_collation) &&
           bson_append_iter(key, "_id", 3, &id);
}
