/*
 * Replies: MongoDB's error codes, the replies that the proxy makes, and a view of a server's.
 *
 * Invariant: a reply made here is one that every driver can read: valid BSON with valid UTF-8,
 * whatever text of a client went into its message.
 *
 * Threads: pure functions on the caller's memory.
 */

#include "wire/reply.h"

#include <stdio.h>
#include <string.h>

#include "wire/bson_walk.h"

enum { MESSAGE_BYTES = 1024 };

const char *reply_code_name(int code)
{
    switch (code) {
#define X(name, number)                                                                            \
    case number:                                                                                   \
        return #name;
        REPLY_CODE_LIST(X)
#undef X
    default:
        return NULL;
    }
}

const char *reply_code_name_or_location(int code, char buffer[REPLY_CODE_NAME_BYTES])
{
    const char *name = reply_code_name(code);
    if (name == NULL) {
        (void)snprintf(buffer, REPLY_CODE_NAME_BYTES, "Location%d", code);
        name = buffer;
    }
    return name;
}

bool reply_code_is_transient(int code)
{
    switch (code) {
    /* the transaction met another one, or is not there (any more) */
    case REPLY_CODE_WriteConflict:
    case REPLY_CODE_LockTimeout:
    case REPLY_CODE_NoSuchTransaction:
    case REPLY_CODE_PreparedTransactionInProgress:
    /* its snapshot or its routing is out of date */
    case REPLY_CODE_SnapshotTooOld:
    case REPLY_CODE_SnapshotUnavailable:
    case REPLY_CODE_StaleChunkHistory:
    case REPLY_CODE_StaleDbVersion:
    case REPLY_CODE_StaleConfig:
    case REPLY_CODE_StaleEpoch:
    /* the server went away or is no primary */
    case REPLY_CODE_HostUnreachable:
    case REPLY_CODE_HostNotFound:
    case REPLY_CODE_NetworkTimeout:
    case REPLY_CODE_ShutdownInProgress:
    case REPLY_CODE_PrimarySteppedDown:
    case REPLY_CODE_ExceededTimeLimit:
    case REPLY_CODE_SocketException:
    case REPLY_CODE_NotWritablePrimary:
    case REPLY_CODE_InterruptedAtShutdown:
    case REPLY_CODE_InterruptedDueToReplStateChange:
    case REPLY_CODE_NotPrimaryNoSecondaryOk:
    case REPLY_CODE_NotPrimaryOrSecondary:
        return true;
    default:
        return false;
    }
}

/* Drivers refuse text that is not UTF-8, which a cut or a client's bytes may have made of it. */
static void make_readable(char *text)
{
    if (bson_utf8_validate(text, strlen(text), false)) {
        return;
    }
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80) {
            *text = '?';
        }
    }
}

void reply_put_error(bson_t *reply, int code, const char *label, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    char location[REPLY_CODE_NAME_BYTES];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(message, sizeof(message), format, arguments) < 0) {
        message[0] = '\0';
    }
    va_end(arguments);
    make_readable(message);
    const char *name = reply_code_name_or_location(code, location);
    (void)BSON_APPEND_DOUBLE(reply, "ok", 0.0);
    (void)BSON_APPEND_UTF8(reply, "errmsg", message);
    (void)BSON_APPEND_INT32(reply, "code", code);
    (void)BSON_APPEND_UTF8(reply, "codeName", name);
    if (label != NULL) {
        bson_t labels;
        (void)BSON_APPEND_ARRAY_BEGIN(reply, "errorLabels", &labels);
        (void)BSON_APPEND_UTF8(&labels, "0", label);
        (void)bson_append_array_end(reply, &labels);
    }
}

void reply_put_ok(bson_t *reply)
{
    (void)BSON_APPEND_DOUBLE(reply, "ok", 1.0);
}

static void read_ok(const struct bson_element *element, struct reply_view *view)
{
    int64_t number = 0;
    if (element->type == BSON_TYPE_BOOL) {
        view->ok = element->value.data[0] != 0;
    } else if (bson_element_integer(element, &number)) {
        view->ok = number != 0;
    }
}

static void read_code(const struct bson_element *element, struct reply_view *view)
{
    int64_t number = 0;
    if (bson_element_integer(element, &number) && number >= INT32_MIN && number <= INT32_MAX) {
        view->code = (int32_t)number;
    }
}

static void read_code_name(const struct bson_element *element, struct reply_view *view)
{
    view->code_name = bson_element_text(element);
}

static void read_message(const struct bson_element *element, struct reply_view *view)
{
    view->message = bson_element_text(element);
}

static void read_labels(const struct bson_element *element, struct reply_view *view)
{
    struct slice fields;
    struct bson_element label;
    if (element->type != BSON_TYPE_ARRAY || !bson_fields_open(element->value, &fields)) {
        return;
    }
    while (bson_element_next(&fields, &label)) {
        const char *text = bson_element_text(&label);
        view->is_transient |= text != NULL && strcmp(text, REPLY_LABEL_TRANSIENT) == 0;
    }
}

static void read_write_errors(const struct bson_element *element, struct reply_view *view)
{
    if (element->type == BSON_TYPE_ARRAY) {
        view->write_errors = element->value;
        view->has_write_errors = element->value.size > 5; /* 5: an empty array */
    }
}

static void read_write_concern_error(const struct bson_element *element, struct reply_view *view)
{
    view->has_write_concern_error = element->type == BSON_TYPE_DOCUMENT;
}

static void read_n(const struct bson_element *element, struct reply_view *view)
{
    view->has_n = bson_element_integer(element, &view->n);
}

static void read_modified(const struct bson_element *element, struct reply_view *view)
{
    view->has_modified = bson_element_integer(element, &view->modified);
}

static void read_cursor(const struct bson_element *element, struct reply_view *view)
{
    struct slice fields;
    struct bson_element inner;
    if (element->type != BSON_TYPE_DOCUMENT || !bson_fields_open(element->value, &fields)) {
        return;
    }
    while (bson_element_next(&fields, &inner)) {
        if (bson_element_is(&inner, "id") && inner.type == BSON_TYPE_INT64) {
            view->has_cursor = bson_element_integer(&inner, &view->cursor_id);
        } else if (inner.type == BSON_TYPE_ARRAY && (bson_element_is(&inner, "firstBatch") ||
                                                     bson_element_is(&inner, "nextBatch"))) {
            view->batch = inner.value;
        }
    }
}

static void read_value(const struct bson_element *element, struct reply_view *view)
{
    view->has_value = element->type == BSON_TYPE_DOCUMENT || element->type == BSON_TYPE_NULL;
    view->value = element->type == BSON_TYPE_DOCUMENT ? element->value : (struct slice){0};
}

static void read_upserted(const struct bson_element *element, struct reply_view *view)
{
    view->upserted = element->type == BSON_TYPE_ARRAY ? element->value : (struct slice){0};
}

static void read_last_error_object(const struct bson_element *element, struct reply_view *view)
{
    view->last_error_object =
        element->type == BSON_TYPE_DOCUMENT ? element->value : (struct slice){0};
}

static const struct {
    const char *name;
    void (*read)(const struct bson_element *element, struct reply_view *view);
} reply_fields[] = {
    {"ok", read_ok},
    {"code", read_code},
    {"codeName", read_code_name},
    {"errmsg", read_message},
    {"errorLabels", read_labels},
    {"writeErrors", read_write_errors},
    {"writeConcernError", read_write_concern_error},
    {"n", read_n},
    {"nModified", read_modified},
    {"cursor", read_cursor},
    {"value", read_value},
    {"upserted", read_upserted},
    {"lastErrorObject", read_last_error_object},
};

enum status reply_view_parse(struct slice reply, struct reply_view *ret_view)
{
    struct reply_view view = {0};
    struct bson_element element;
    struct slice fields;
    if (!bson_fields_open(reply, &fields)) {
        return STATUS_PROTOCOL;
    }
    while (bson_element_next(&fields, &element)) {
        for (size_t i = 0; i < sizeof(reply_fields) / sizeof(reply_fields[0]); i++) {
            if (bson_element_is(&element, reply_fields[i].name)) {
                reply_fields[i].read(&element, &view);
                break;
            }
        }
    }
    if (fields.size != 0) {
        return STATUS_PROTOCOL;
    }
    *ret_view = view;
    return STATUS_OK;
}
