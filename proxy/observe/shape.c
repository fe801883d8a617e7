/*
 * Shapes of write commands (shape.h).
 *
 *   command -> the parts that matter, wherever they stand (body or sequences)
 *           -> statements, one after another -> filter, update -> sorted names -> text
 *
 * Invariants: all bytes are read through bson_walk.h; `left` bounds the elements looked at, also
 * across statements; the text ends, and `full` is set, before it would outgrow its bound.
 */
#include "observe/shape.h"

#include <string.h>

#include "observe/identifier.h"
#include "observe/text.h"
#include "wire/bson_walk.h"

#define COLLECTION_BYTES 96u
#define NAMESPACES_MAX 64 /* of a bulkWrite, that are looked up */

struct look {
    char *text;
    size_t size;
    bool full;
    bool several;
    unsigned int left; /* elements that may still be looked at */
};

/* ------------------------------------------------------------------ text */

/* Inline: most pieces are constants of a few bytes, which need no call of memcpy() then. */
static inline void add_bytes(struct look *look, const char *bytes, size_t size)
{
    if (look->full || size > SHAPE_BYTES_MAX - TEXT_MORE_BYTES - look->size) {
        look->full = true; /* what comes behind is told no more, even if it were shorter */
        return;
    }
    memcpy(look->text + look->size, bytes, size);
    look->size += size;
}

static inline void add(struct look *look, const char *text)
{
    add_bytes(look, text, strlen(text));
}

static void add_clean(struct look *look, const char *text, size_t capacity)
{
    char clean[COLLECTION_BYTES];
    struct slice bytes = slice_text(text);
    if (bytes.size <= capacity && text_is_clean(TEXT_NAME, bytes)) { /* nearly always */
        add_bytes(look, text, bytes.size);
        return;
    }
    add_bytes(look, clean, text_clean(TEXT_NAME, bytes, clean, capacity));
}

/* ------------------------------------------------------------------ names */

/* A field's path as it is told: in the command itself where nothing had to be changed. */
struct name {
    const char *text;
    size_t size;
    unsigned int room; /* where `text` lies otherwise; NAME_ROOMS: nowhere */
};

#define NAME_ROOMS (SHAPE_NAMES_MAX + 1) /* one more: a name is made before one is dropped */

/* Sorted, each once; the smallest SHAPE_NAMES_MAX. */
struct names {
    size_t count;
    bool more;
    unsigned int rooms_taken; /* bits */
    struct name list[SHAPE_NAMES_MAX];
    char rooms[NAME_ROOMS][SHAPE_NAME_BYTES];
};

/* Not by an initialiser, which would fill the rooms with zeros. */
static void names_init(struct names *names)
{
    names->count = 0;
    names->more = false;
    names->rooms_taken = 0;
}

/* The size of a name of letters and "_-.$" only, which is nearly every one; 0 if it is not. */
static size_t plain_size(const char *text)
{
    for (size_t size = 0; size <= SHAPE_NAME_BYTES; size++) {
        char at = text[size];
        char lower = (char)(at | 0x20);
        if (at == '\0') {
            return size;
        }
        if ((lower < 'a' || lower > 'z') && at != '_' && at != '-' && at != '.' && at != '$') {
            return 0;
        }
    }
    return 0;
}

/* "items.3.price" is "items.*.price". */
static size_t take_out_identifiers(char text[SHAPE_NAME_BYTES], size_t size)
{
    size_t kept = 0;
    size_t at = 0;
    while (at <= size) {
        const char *dot = memchr(text + at, '.', size - at);
        size_t part = dot == NULL ? size - at : (size_t)(dot - (text + at));
        bool gone = identifier_is(slice_make(text + at, part));
        memmove(text + kept, gone ? "*" : text + at, gone ? 1 : part);
        kept += gone ? 1 : part;
        at += part + 1;
        if (dot != NULL) {
            text[kept++] = '.';
        }
    }
    return kept;
}

static size_t name_clean(const char *text, char ret_name[SHAPE_NAME_BYTES])
{
    /* What is much too long need not be measured to its end. */
    struct slice bytes = slice_make(text, strnlen(text, (size_t)2 * SHAPE_NAME_BYTES));
    size_t size = text_clean(TEXT_NAME, bytes, ret_name, SHAPE_NAME_BYTES);
    return take_out_identifiers(ret_name, size);
}

static struct name name_make(struct names *names, const char *text)
{
    struct name name = {.text = text, .size = plain_size(text), .room = NAME_ROOMS};
    if (name.size == 0) {
        for (name.room = 0; (names->rooms_taken & 1u << name.room) != 0; name.room++) {
        }
        names->rooms_taken |= 1u << name.room;
        name.text = names->rooms[name.room];
        name.size = name_clean(text, names->rooms[name.room]);
    }
    return name;
}

static void name_drop(struct names *names, const struct name *name)
{
    if (name->room < NAME_ROOMS) {
        names->rooms_taken &= ~(1u << name->room);
    }
}

static int name_compare(const struct name *left, const struct name *right)
{
    size_t common = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->text, right->text, common);
    return order != 0 ? order : (left->size > right->size) - (left->size < right->size);
}

static void names_add(struct names *names, const char *text)
{
    struct name name = name_make(names, text);
    size_t at = names->count;
    int order = -1;
    while (at > 0 && (order = name_compare(&names->list[at - 1], &name)) > 0) {
        at--;
    }
    if (at > 0 && order == 0) {
        name_drop(names, &name);
        return;
    }
    if (names->count == SHAPE_NAMES_MAX) {
        names->more = true;
        if (at == SHAPE_NAMES_MAX) {
            name_drop(names, &name);
            return;
        }
        names->count--;
        name_drop(names, &names->list[names->count]);
    }
    if (at < names->count) {
        memmove(&names->list[at + 1], &names->list[at], (names->count - at) * sizeof name);
    }
    names->list[at] = name;
    names->count++;
}

static void add_names(struct look *look, const struct names *names)
{
    add(look, "{");
    for (size_t i = 0; i < names->count; i++) {
        if (i > 0) {
            add(look, ",");
        }
        add_bytes(look, names->list[i].text, names->list[i].size);
    }
    if (names->more) {
        add(look, names->count > 0 ? "," TEXT_MORE : TEXT_MORE);
    }
    add(look, "}");
}

static void add_name(struct look *look, const char *text)
{
    char room[SHAPE_NAME_BYTES];
    size_t size = plain_size(text);
    if (size > 0) {
        add_bytes(look, text, size);
    } else {
        add_bytes(look, room, name_clean(text, room));
    }
}

/* ------------------------------------------------------------------ walking */

/* The next element, if it may still be looked at. False at the end, or *ret_cut. */
static bool walk(struct look *look, struct slice *fields, struct bson_element *ret_element,
                 bool *ret_cut)
{
    if (fields->size == 0) {
        return false;
    }
    if (look->left == 0 || !bson_element_next(fields, ret_element)) {
        *ret_cut = true;
        return false;
    }
    look->left--;
    return true;
}

static bool is_true(const struct bson_element *element)
{
    int64_t number = 0;
    if (element->type == BSON_TYPE_BOOL) {
        return element->value.data[0] != 0;
    }
    return bson_element_integer(element, &number) && number != 0;
}

static bool is_list_operator(const char *name)
{
    return strcmp(name, "$and") == 0 || strcmp(name, "$or") == 0 || strcmp(name, "$nor") == 0;
}

static void collect_filter(struct look *look, struct slice filter, unsigned int depth,
                           struct names *names)
{
    struct slice fields;
    struct slice list;
    struct bson_element element;
    struct bson_element inner;
    if (!bson_fields_open(filter, &fields)) {
        names->more = true;
        return;
    }
    while (walk(look, &fields, &element, &names->more)) {
        bool is_list = element.type == BSON_TYPE_ARRAY && depth < SHAPE_DEPTH_MAX &&
                       is_list_operator(element.name) && bson_fields_open(element.value, &list);
        if (!is_list || strcmp(element.name, "$and") != 0) {
            names_add(names, element.name);
        }
        while (is_list && walk(look, &list, &inner, &names->more)) {
            if (inner.type == BSON_TYPE_DOCUMENT) {
                collect_filter(look, inner.value, depth + 1, names);
            }
        }
    }
}

static void add_filter(struct look *look, const struct bson_element *filter)
{
    struct names names;
    names_init(&names);
    if (filter->type != BSON_TYPE_DOCUMENT) {
        add(look, "{?}");
        return;
    }
    collect_filter(look, filter->value, 0, &names);
    add_names(look, &names);
}

/* ------------------------------------------------------------------ updates */

/* "pipeline[$match,$merge]": stages in their order, which means something. */
static void add_pipeline(struct look *look, struct slice pipeline)
{
    struct slice stages;
    struct bson_element stage;
    struct bson_element operator;
    bool cut = false;
    const char *between = "";
    add(look, " pipeline[");
    if (!bson_fields_open(pipeline, &stages)) {
        stages = (struct slice){0};
        cut = true;
    }
    for (unsigned int count = 0; walk(look, &stages, &stage, &cut); count++) {
        struct slice inside = {0};
        if (count == SHAPE_NAMES_MAX) {
            cut = true;
            break;
        }
        add(look, between);
        between = ",";
        if (stage.type == BSON_TYPE_DOCUMENT && bson_fields_open(stage.value, &inside) &&
            bson_element_next(&inside, &operator)) {
            add_name(look, operator.name);
        } else {
            add(look, "?");
        }
    }
    if (cut) {
        add(look, between);
        add(look, TEXT_MORE);
    }
    add(look, "]");
}

struct operators {
    size_t count;
    bool more;
    struct bson_element list[SHAPE_NAMES_MAX];
};

static void operators_add(struct operators *operators, const struct bson_element *element)
{
    size_t at = operators->count;
    while (at > 0 && strcmp(operators->list[at - 1].name, element->name) > 0) {
        at--;
    }
    if (operators->count == SHAPE_NAMES_MAX) {
        operators->more = true;
        if (at == SHAPE_NAMES_MAX) {
            return;
        }
        operators->count--;
    }
    if (at < operators->count) {
        memmove(&operators->list[at + 1], &operators->list[at],
                (operators->count - at) * sizeof *element);
    }
    operators->list[at] = *element;
    operators->count++;
}

/* "$set{data,keyId}" */
static void add_operator(struct look *look, const struct bson_element *operator)
{
    struct names names;
    struct slice fields;
    struct bson_element field;
    names_init(&names);
    add(look, " ");
    add_name(look, operator->name);
    if (operator->type != BSON_TYPE_DOCUMENT || !bson_fields_open(operator->value, &fields)) {
        add(look, "{?}");
        return;
    }
    while (walk(look, &fields, &field, &names.more)) {
        names_add(&names, field.name);
    }
    add_names(look, &names);
}

static void add_update(struct look *look, const struct bson_element *update)
{
    struct operators operators; /* not by an initialiser, which would fill the list with zeros */
    struct slice fields;
    struct bson_element element;
    operators.count = 0;
    operators.more = false;
    if (update->type == BSON_TYPE_ARRAY) {
        add_pipeline(look, update->value);
        return;
    }
    if (update->type != BSON_TYPE_DOCUMENT || !bson_fields_open(update->value, &fields)) {
        add(look, " ?");
        return;
    }
    while (walk(look, &fields, &element, &operators.more)) {
        if (element.name[0] != '$') {
            add(look, " replacement");
            return;
        }
        operators_add(&operators, &element);
    }
    if (operators.count == 0) {
        add(look, operators.more ? " ?" : " replacement");
        return;
    }
    for (size_t i = 0; i < operators.count; i++) {
        add_operator(look, &operators.list[i]);
    }
    if (operators.more) {
        add(look, " " TEXT_MORE);
    }
}

/* ------------------------------------------------------------------ statements */

/* What a statement says, under whichever names; type BSON_TYPE_EOD: nothing. */
struct parts {
    struct bson_element filter;
    struct bson_element update;
    struct bson_element kind; /* of a command, and of a bulkWrite's operation: its first field */
    bool upsert;
    bool multi;
    bool remove;
    bool limited;
};

static void part_read(const struct bson_element *element, struct parts *parts)
{
    switch (element->name[0]) {
    case 'q':
    case 'f':
        if (bson_element_is(element, "q") || bson_element_is(element, "query") ||
            bson_element_is(element, "filter")) {
            parts->filter = *element;
        }
        return;
    case 'u':
        if (bson_element_is(element, "u") || bson_element_is(element, "update") ||
            bson_element_is(element, "updateMods")) {
            parts->update = *element;
        } else if (bson_element_is(element, "upsert")) {
            parts->upsert = is_true(element);
        }
        return;
    case 'm':
        parts->multi = bson_element_is(element, "multi") ? is_true(element) : parts->multi;
        return;
    case 'r':
        parts->remove = bson_element_is(element, "remove") ? is_true(element) : parts->remove;
        return;
    case 'l':
        parts->limited = bson_element_is(element, "limit") ? is_true(element) : parts->limited;
        return;
    default:
        return;
    }
}

static void parts_read(struct look *look, struct slice document, bool first_is_kind,
                       struct parts *ret_parts)
{
    struct slice fields;
    struct bson_element element;
    bool cut = false;
    *ret_parts = (struct parts){.upsert = false};
    if (!bson_fields_open(document, &fields)) {
        return;
    }
    while (walk(look, &fields, &element, &cut)) {
        if (first_is_kind) {
            ret_parts->kind = element;
            first_is_kind = false;
        } else {
            part_read(&element, ret_parts);
        }
    }
}

static void add_update_parts(struct look *look, const struct parts *parts)
{
    add_filter(look, &parts->filter);
    add_update(look, &parts->update);
    add(look, parts->upsert ? " upsert" : "");
    add(look, parts->multi ? " multi" : "");
    look->several = look->several || parts->multi;
}

static void add_delete_parts(struct look *look, const struct parts *parts, bool one)
{
    add_filter(look, &parts->filter);
    add(look, one ? " one" : " many");
    look->several = look->several || !one;
}

/* ------------------------------------------------------------------ a command's documents */

/* Documents in the body's array or in a sequence. */
struct documents {
    bool found;
    bool is_array;
    struct slice rest;
};

static struct documents documents_find(struct look *look, const struct command_view *view,
                                       const struct op_msg *message, const char *name)
{
    struct documents documents = {.found = false};
    struct slice sections = message->sections;
    struct op_msg_sequence sequence;
    struct slice fields;
    struct bson_element element;
    bool cut = false;
    while (message->has_sequence && op_msg_sequence_next(&sections, &sequence)) {
        if (slice_equal(sequence.identifier, slice_text(name))) {
            return (struct documents){.found = true, .rest = sequence.documents};
        }
    }
    if (!bson_fields_open(view->body, &fields)) {
        return documents;
    }
    while (walk(look, &fields, &element, &cut)) {
        if (element.type == BSON_TYPE_ARRAY && bson_element_is(&element, name)) {
            documents.is_array = true;
            documents.found = bson_fields_open(element.value, &documents.rest);
            break;
        }
    }
    return documents;
}

/* False at the end; an element of an array that is no document is an empty slice. */
static bool documents_next(struct look *look, struct documents *documents,
                           struct slice *ret_document)
{
    struct bson_element element;
    bool cut = false;
    if (!documents->is_array) {
        if (look->left == 0 || !bson_slice_next(&documents->rest, ret_document)) {
            return false;
        }
        look->left--;
        return true;
    }
    if (!walk(look, &documents->rest, &element, &cut)) {
        return false;
    }
    *ret_document = element.type == BSON_TYPE_DOCUMENT ? element.value : (struct slice){0};
    return true;
}

/* The `number`th namespace of a bulkWrite. */
static void add_bulk_namespace(struct look *look, struct documents namespaces, int64_t number)
{
    struct slice document;
    struct bson_element ns;
    const char *text = NULL;
    bool there = number >= 0 && number < NAMESPACES_MAX;
    for (int64_t i = 0; there && i <= number; i++) {
        there = documents_next(look, &namespaces, &document);
    }
    if (there && bson_element_find(document, "ns", &ns)) {
        text = bson_element_text(&ns);
    }
    add(look, " ");
    if (text != NULL) {
        add_clean(look, text, COLLECTION_BYTES);
    } else {
        add(look, "?");
    }
}

static void add_bulk_operation(struct look *look, const struct parts *parts,
                               const struct documents *namespaces)
{
    int64_t number = -1;
    if (parts->kind.name == NULL || !bson_element_integer(&parts->kind, &number)) {
        add(look, "?");
        return;
    }
    add_clean(look, parts->kind.name, SHAPE_NAME_BYTES);
    add_bulk_namespace(look, *namespaces, number);
    if (bson_element_is(&parts->kind, "update")) {
        add(look, " ");
        add_update_parts(look, parts);
    } else if (bson_element_is(&parts->kind, "delete")) {
        add(look, " ");
        add_delete_parts(look, parts, !parts->multi);
    }
}

enum statement_kind_of {
    OF_UPDATE,
    OF_DELETE,
    OF_BULK,
};

static void add_statement(struct look *look, enum statement_kind_of kind, struct slice document,
                          const struct documents *namespaces)
{
    struct parts parts;
    parts_read(look, document, kind == OF_BULK, &parts);
    if (kind == OF_UPDATE) {
        add_update_parts(look, &parts);
    } else if (kind == OF_DELETE) {
        add_delete_parts(look, &parts, parts.limited);
    } else {
        add_bulk_operation(look, &parts, namespaces);
    }
}

/* The statement that begins at `from` says what the one that ends there said, from `before` on. */
static bool is_repeat(const struct look *look, size_t before, size_t end, size_t from)
{
    return end > before && look->size - from == end - before &&
           memcmp(look->text + before, look->text + from, end - before) == 0;
}

/* One statement as it is, several as "[a; b +; c]". */
static void add_statements(struct look *look, enum statement_kind_of kind,
                           struct documents documents, const struct documents *namespaces)
{
    struct slice document;
    struct slice next;
    if (!documents.found || !documents_next(look, &documents, &document)) {
        add(look, " ?");
        return;
    }
    bool more = documents_next(look, &documents, &next);
    if (!more && kind != OF_BULK) {
        add(look, " ");
        add_statement(look, kind, document, namespaces);
        return;
    }
    look->several = look->several || more;
    add(look, " [");
    size_t before = 0; /* where the former statement's text begins and ends */
    size_t end = 0;
    bool repeated = false;
    for (unsigned int told = 0; !look->full;) {
        size_t mark = look->size;
        if (told > 0) {
            add(look, repeated ? " +; " : "; ");
        }
        size_t from = look->size;
        if (told == SHAPE_STATEMENTS_MAX) {
            add(look, TEXT_MORE);
            repeated = false;
            break;
        }
        add_statement(look, kind, document, namespaces);
        if (is_repeat(look, before, end, from)) {
            look->size = mark;
            repeated = true;
        } else {
            before = from;
            end = look->size;
            repeated = false;
            told++;
        }
        if (!more) {
            break;
        }
        document = next;
        more = documents_next(look, &documents, &next);
    }
    add(look, repeated ? " +]" : "]");
}

/* ------------------------------------------------------------------ commands */

static void add_insert(struct look *look, struct documents documents)
{
    struct slice document;
    if (!documents.found || !documents_next(look, &documents, &document)) {
        add(look, " ?");
        return;
    }
    look->several = documents_next(look, &documents, &document);
    add(look, look->several ? " many" : " one");
}

static void add_find_and_modify(struct look *look, struct slice body)
{
    struct parts parts;
    parts_read(look, body, true, &parts);
    add(look, " ");
    if (parts.remove) {
        add_filter(look, &parts.filter);
        add(look, " remove");
        return;
    }
    parts.multi = false;
    add_update_parts(look, &parts);
}

static void add_namespace(struct look *look, const struct command_view *view)
{
    add(look, " ");
    if (view->database != NULL) {
        add_clean(look, view->database, SHAPE_NAME_BYTES);
    } else {
        add(look, "?");
    }
    if (view->collection != NULL) {
        add(look, ".");
        add_clean(look, view->collection, COLLECTION_BYTES);
    }
}

static void add_command(struct look *look, const struct command_view *view,
                        const struct op_msg *message)
{
    if (strcmp(view->name, "update") == 0) {
        add(look, "update");
        add_namespace(look, view);
        add_statements(look, OF_UPDATE, documents_find(look, view, message, "updates"), NULL);
        return;
    }
    if (strcmp(view->name, "findAndModify") == 0 || strcmp(view->name, "findandmodify") == 0) {
        add(look, "findAndModify");
        add_namespace(look, view);
        add_find_and_modify(look, view->body);
        return;
    }
    add_clean(look, view->name, SHAPE_NAME_BYTES);
    if (strcmp(view->name, "bulkWrite") == 0) {
        struct documents namespaces = documents_find(look, view, message, "nsInfo");
        struct documents documents = documents_find(look, view, message, "ops");
        add_statements(look, OF_BULK, documents, &namespaces);
        return;
    }
    add_namespace(look, view);
    if (strcmp(view->name, "insert") == 0) {
        add_insert(look, documents_find(look, view, message, "documents"));
    } else if (strcmp(view->name, "delete") == 0) {
        add_statements(look, OF_DELETE, documents_find(look, view, message, "deletes"), NULL);
    } else if (strcmp(view->name, "aggregate") == 0) {
        struct bson_element pipeline;
        if (bson_element_find(view->body, "pipeline", &pipeline) &&
            pipeline.type == BSON_TYPE_ARRAY) {
            add_pipeline(look, pipeline.value);
        }
    }
}

void shape_make(const struct command_view *view, const struct op_msg *message,
                struct shape *ret_shape)
{
    struct look look = {.text = ret_shape->text, .left = SHAPE_LOOK_MAX};
    add_command(&look, view, message);
    if (look.full) {
        memcpy(look.text + look.size, TEXT_MORE, TEXT_MORE_BYTES);
        look.size += TEXT_MORE_BYTES;
    }
    look.text[look.size] = '\0';
    ret_shape->size = look.size;
    ret_shape->several = look.several;
}
