/*
 * The view of a command: one pass over the top-level fields, a table of those that matter.
 *
 * Invariants: a control field is read at most once, a second one refuses the command; a field that
 * is not in the table is measured and skipped; nothing is allocated by command_view_parse().
 *
 * Threads: pure functions.
 */

#include "wire/command.h"

#include <string.h>

#include "wire/bson_walk.h"

enum { SESSION_ID_BYTES = 16, DATABASE_NAME_BYTES_MAX = 63 };

typedef enum status (*field_reader)(const struct bson_element *element, struct command_view *view,
                                    struct error *ret_error);

static enum status wrong_type(const struct bson_element *element, const char *wanted,
                              struct error *ret_error)
{
    return error_set(ret_error, STATUS_INVALID, "%s must be %s, not BSON type 0x%02x",
                     element->name, wanted, (unsigned)element->type);
}

static enum status read_database(const struct bson_element *element, struct command_view *view,
                                 struct error *ret_error)
{
    const char *text = bson_element_text(element);
    if (text == NULL) {
        return wrong_type(element, "a string without NUL", ret_error);
    }
    size_t size = strlen(text);
    if (size == 0 || size > DATABASE_NAME_BYTES_MAX || strchr(text, '.') != NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "$db must be a database name: 1 to %d bytes without a dot",
                         DATABASE_NAME_BYTES_MAX);
    }
    view->database = text;
    return STATUS_OK;
}

/* The sub-document's field `name`, refused if it is there twice. False: broken or twice. */
static bool find_once(struct slice document, const char *name, bool *ret_found,
                      struct bson_element *ret_element)
{
    struct slice fields;
    struct bson_element element;
    bool found = false;
    if (!bson_fields_open(document, &fields)) {
        return false;
    }
    while (bson_element_next(&fields, &element)) {
        if (!bson_element_is(&element, name)) {
            continue;
        }
        if (found) {
            return false;
        }
        found = true;
        *ret_element = element;
    }
    *ret_found = found;
    return fields.size == 0;
}

static enum status read_sub_document(const struct bson_element *element, const char *name,
                                     bool *ret_found, struct bson_element *ret_inner,
                                     struct error *ret_error)
{
    if (element->type != BSON_TYPE_DOCUMENT) {
        return wrong_type(element, "a document", ret_error);
    }
    if (!find_once(element->value, name, ret_found, ret_inner)) {
        return error_set(ret_error, STATUS_INVALID, "%s is broken BSON or holds %s twice",
                         element->name, name);
    }
    return STATUS_OK;
}

static enum status read_session(const struct bson_element *element, struct command_view *view,
                                struct error *ret_error)
{
    struct bson_element id;
    bool found = false;
    enum status status = read_sub_document(element, "id", &found, &id, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    view->has_session = true;
    /* length (4), subtype (1), then the bytes */
    if (found && id.type == BSON_TYPE_BINARY && id.value.size == 5 + SESSION_ID_BYTES &&
        id.value.data[4] == BSON_SUBTYPE_UUID) {
        view->session_id = slice_make(id.value.data + 5, SESSION_ID_BYTES);
    }
    return STATUS_OK;
}

static enum status read_transaction_number(const struct bson_element *element,
                                           struct command_view *view, struct error *ret_error)
{
    bool whole = element->type == BSON_TYPE_INT64 || element->type == BSON_TYPE_INT32;
    if (!whole || !bson_element_integer(element, &view->transaction_number)) {
        return wrong_type(element, "a 64 bit integer", ret_error);
    }
    if (view->transaction_number < 0) {
        return error_set(ret_error, STATUS_INVALID, "txnNumber must not be negative");
    }
    view->has_transaction_number = true;
    return STATUS_OK;
}

static enum status read_bool(const struct bson_element *element, bool *ret_has, bool *ret_value,
                             struct error *ret_error)
{
    if (element->type != BSON_TYPE_BOOL) {
        return wrong_type(element, "true or false", ret_error);
    }
    *ret_has = true;
    *ret_value = element->value.data[0] != 0;
    return STATUS_OK;
}

static enum status read_autocommit(const struct bson_element *element, struct command_view *view,
                                   struct error *ret_error)
{
    return read_bool(element, &view->has_autocommit, &view->autocommit, ret_error);
}

static enum status read_start_transaction(const struct bson_element *element,
                                          struct command_view *view, struct error *ret_error)
{
    return read_bool(element, &view->has_start_transaction, &view->start_transaction, ret_error);
}

static enum status read_write_concern(const struct bson_element *element, struct command_view *view,
                                      struct error *ret_error)
{
    struct bson_element w;
    bool found = false;
    int64_t number = 0;
    if (element->type == BSON_TYPE_NULL) {
        return STATUS_OK; /* as if it were not there, as with mongod */
    }
    enum status status = read_sub_document(element, "w", &found, &w, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    view->has_write_concern = true;
    view->write_concern_unacknowledged = found && bson_element_integer(&w, &number) && number == 0;
    return STATUS_OK;
}

static enum status read_read_concern(const struct bson_element *element, struct command_view *view,
                                     struct error *ret_error)
{
    struct bson_element level;
    bool found = false;
    if (element->type == BSON_TYPE_NULL) {
        return STATUS_OK;
    }
    enum status status = read_sub_document(element, "level", &found, &level, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (found) {
        view->read_concern_level = bson_element_text(&level);
        if (view->read_concern_level == NULL) {
            return wrong_type(&level, "a string without NUL", ret_error);
        }
    }
    view->has_read_concern = true;
    return STATUS_OK;
}

static enum status read_comment(const struct bson_element *element, struct command_view *view,
                                struct error *ret_error)
{
    (void)ret_error;
    view->has_comment = true;
    view->comment_offset = (uint32_t)slice_offset(view->body, element->raw);
    return STATUS_OK;
}

static enum status read_max_time(const struct bson_element *element, struct command_view *view,
                                 struct error *ret_error)
{
    int64_t milliseconds = 0;
    if (element->type == BSON_TYPE_NULL) {
        return STATUS_OK;
    }
    if (!bson_element_integer(element, &milliseconds) || milliseconds < 0 ||
        milliseconds > INT32_MAX) {
        return error_set(ret_error, STATUS_INVALID, "maxTimeMS must be a whole number from 0 to %d",
                         INT32_MAX);
    }
    view->max_time_ms = milliseconds;
    return STATUS_OK;
}

/* What else it may be is the server's to refuse. */
static enum status read_preference(const struct bson_element *element, struct command_view *view,
                                   struct error *ret_error)
{
    (void)ret_error;
    if (element->type == BSON_TYPE_DOCUMENT) {
        view->read_preference = element->value;
    }
    return STATUS_OK;
}

static const struct {
    const char *name;
    field_reader read;
} control_fields[] = {
    {"$db", read_database},
    {"lsid", read_session},
    {"txnNumber", read_transaction_number},
    {"autocommit", read_autocommit},
    {"startTransaction", read_start_transaction},
    {"writeConcern", read_write_concern},
    {"readConcern", read_read_concern},
    {"comment", read_comment},
    {"maxTimeMS", read_max_time},
    {"$readPreference", read_preference},
};

enum { CONTROL_FIELDS = sizeof(control_fields) / sizeof(control_fields[0]) };

static enum status read_field(const struct bson_element *element, bool seen[CONTROL_FIELDS],
                              struct command_view *view, struct error *ret_error)
{
    for (size_t i = 0; i < CONTROL_FIELDS; i++) {
        if (!bson_element_is(element, control_fields[i].name)) {
            continue;
        }
        if (seen[i]) {
            return error_set(ret_error, STATUS_INVALID, "%s appears twice in the command",
                             element->name);
        }
        seen[i] = true;
        return control_fields[i].read(element, view, ret_error);
    }
    return STATUS_OK;
}

static void read_first(const struct bson_element *element, struct command_view *view)
{
    const char *text = bson_element_text(element);
    view->name = element->name;
    view->first_type = element->type;
    view->collection = text != NULL && text[0] != '\0' ? text : NULL;
}

enum status command_view_parse(struct slice body, struct command_view *ret_view,
                               struct error *ret_error)
{
    struct command_view view = {.body = body};
    bool seen[CONTROL_FIELDS] = {false};
    struct bson_element element;
    struct slice fields;
    if (!bson_fields_open(body, &fields)) {
        return error_set(ret_error, STATUS_INVALID, "the command is not a BSON document");
    }
    while (bson_element_next(&fields, &element)) {
        if (view.name == NULL) {
            read_first(&element, &view);
        }
        enum status status = read_field(&element, seen, &view, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (fields.size != 0) {
        return error_set(ret_error, STATUS_INVALID, "the command is broken BSON at byte %zu",
                         (size_t)(fields.data - body.data));
    }
    if (view.name == NULL || view.name[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID, "the command has no name");
    }
    *ret_view = view;
    return STATUS_OK;
}

enum status command_copy_without(bson_t *ret_copy, struct slice body, const char *const *names)
{
    struct bson_element element;
    struct slice fields;
    size_t size = 5; /* length and terminator */
    if (body.size > INT32_MAX || !bson_fields_open(body, &fields)) {
        return STATUS_INVALID;
    }
    while (bson_element_next(&fields, &element)) {
        size += bson_name_is_one_of(element.name, names) ? 0 : element.raw.size;
    }
    if (fields.size != 0 || !bson_fields_open(body, &fields)) {
        return STATUS_INVALID;
    }
    bson_init(ret_copy);
    uint8_t *at = bson_reserve_buffer(ret_copy, (uint32_t)size);
    if (at == NULL) {
        bson_destroy(ret_copy);
        return STATUS_INVALID;
    }
    slice_store_u32le(at, (uint32_t)size);
    size_t used = 4;
    while (bson_element_next(&fields, &element)) {
        if (!bson_name_is_one_of(element.name, names)) {
            memcpy(at + used, element.raw.data, element.raw.size);
            used += element.raw.size;
        }
    }
    at[used] = 0;
    return STATUS_OK;
}

void command_put_api(bson_t *command, struct slice body)
{
    static const char *const flags[] = {"apiStrict", "apiDeprecationErrors"};
    struct bson_element element;
    if (bson_element_find(body, "apiVersion", &element)) {
        const char *version = bson_element_text(&element);
        if (version != NULL && strlen(version) <= COMMAND_API_VERSION_BYTES) {
            BSON_APPEND_UTF8(command, "apiVersion", version);
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (bson_element_find(body, flags[i], &element) && element.type == BSON_TYPE_BOOL) {
            bson_append_bool(command, flags[i], -1, element.value.data[0] != 0);
        }
    }
}
