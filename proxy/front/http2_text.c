/*
 * Between lists of fields and HTTP/1.1 text; see http2_text.h.
 *
 * A field's name and value are nghttp2's to check; what a text could be read in another way by is
 * checked here as well: nothing may end a line early, and the first line has its three words.
 */
#include "front/http2_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "front/grpc.h"

/* ------------------------------------------------------------------ gathering fields */

#define BUFFERS(fields)                                                                            \
    &(fields)->method, &(fields)->path, &(fields)->authority, &(fields)->cookie, &(fields)->lines

void http2_fields_init(struct http2_fields *fields)
{
    *fields = (struct http2_fields){0};
    struct buffer *const buffers[] = {BUFFERS(fields)};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        buffer_init(buffers[i], 2u * HTTP2_FIELDS_BYTES_MAX);
    }
}

void http2_fields_free(struct http2_fields *fields)
{
    struct buffer *const buffers[] = {BUFFERS(fields)};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        buffer_free(buffers[i]);
    }
}

void http2_fields_clear(struct http2_fields *fields)
{
    http2_fields_free(fields);
    http2_fields_init(fields);
}

static void put(struct http2_fields *fields, struct buffer *into, struct slice bytes)
{
    if (buffer_append(into, bytes.data, bytes.size) != STATUS_OK) {
        fields->no_memory = true;
    }
}

static bool is_any(struct slice name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (head_is_word(name, words[i])) {
            return true;
        }
    }
    return false;
}

/* Of one connection only, or written by whoever writes the text. */
static bool is_of_connection(struct slice name)
{
    static const char *const words[] = {"connection", "keep-alive",        "proxy-connection",
                                        "upgrade",    "transfer-encoding", "http2-settings"};
    return is_any(name, words, sizeof words / sizeof words[0]);
}

/* No byte of it may end a line, or a word of the first line. */
static bool is_clean(struct slice text, bool spaces)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f || (!spaces && byte <= ' ')) {
            return false;
        }
    }
    return true;
}

static void take_pseudo(struct http2_fields *fields, struct slice name, struct slice value)
{
    if (!is_clean(value, false)) {
        fields->malformed = true;
    } else if (head_is_word(name, ":method")) {
        put(fields, &fields->method, value);
    } else if (head_is_word(name, ":path")) {
        put(fields, &fields->path, value);
    } else if (head_is_word(name, ":authority")) {
        put(fields, &fields->authority, value);
    } else if (head_is_word(name, ":status")) {
        for (size_t i = 0; i < value.size && fields->status < 1000; i++) {
            fields->status = fields->status * 10 + (unsigned)(value.data[i] - '0');
        }
    }
}

void http2_fields_add(struct http2_fields *fields, struct slice name, struct slice value)
{
    fields->size += name.size + value.size + 32;
    if (fields->size > HTTP2_FIELDS_BYTES_MAX) {
        fields->too_large = true;
        return;
    }
    if (name.size > 0 && name.data[0] == ':') {
        take_pseudo(fields, name, value);
        return;
    }
    if (!is_clean(name, false) || !is_clean(value, true)) {
        fields->malformed = true;
        return;
    }
    if (head_is_word(name, "cookie")) {
        put(fields, &fields->cookie, slice_text(fields->cookie.size == 0 ? "" : "; "));
        put(fields, &fields->cookie, value);
        return;
    }
    if (is_of_connection(name) || (head_is_word(name, "host") && fields->authority.size > 0)) {
        return;
    }
    fields->has_length = fields->has_length || head_is_word(name, "content-length");
    fields->is_grpc =
        fields->is_grpc || (head_is_word(name, "content-type") && grpc_is_type(value));
    put(fields, &fields->lines, name);
    put(fields, &fields->lines, slice_text(": "));
    put(fields, &fields->lines, value);
    put(fields, &fields->lines, slice_text("\r\n"));
}

/* ------------------------------------------------------------------ writing text */

static enum status check(const struct http2_fields *fields)
{
    if (fields->no_memory) {
        return STATUS_MEMORY;
    }
    if (fields->too_large) {
        return STATUS_LIMIT;
    }
    return fields->malformed ? STATUS_INVALID : STATUS_OK;
}

static enum status put_text(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

static enum status put_line(struct buffer *out, const char *name, const struct buffer *value)
{
    if (value->size == 0) {
        return STATUS_OK;
    }
    enum status status = put_text(out, name);
    status = status == STATUS_OK ? buffer_append(out, value->data, value->size) : status;
    return status == STATUS_OK ? put_text(out, "\r\n") : status;
}

/* The other fields, without a length where the text is chunked. */
static enum status put_lines(const struct http2_fields *fields, bool drop_length,
                             struct buffer *out)
{
    struct slice rest = buffer_slice(&fields->lines);
    struct slice line;
    struct slice name;
    struct slice value;
    enum status status = STATUS_OK;
    if (!drop_length) {
        return buffer_append(out, rest.data, rest.size);
    }
    for (struct slice at = rest; status == STATUS_OK && head_take_line(&rest, &line); at = rest) {
        bool is_field = head_take_field(&at, &name, &value);
        if (!is_field || !head_is_word(name, "content-length")) {
            status = buffer_append(out, line.data, line.size + 2);
        }
    }
    return status;
}

static enum status put_fields(const struct http2_fields *fields, const char *framing,
                              bool drop_length, struct buffer *out)
{
    enum status status = put_line(out, "host: ", &fields->authority);
    status = status == STATUS_OK ? put_lines(fields, drop_length, out) : status;
    status = status == STATUS_OK ? put_line(out, "cookie: ", &fields->cookie) : status;
    status = status == STATUS_OK ? put_text(out, framing) : status;
    return status == STATUS_OK ? put_text(out, "\r\n") : status;
}

static enum http2_body body_of(const struct http2_fields *fields, bool ended)
{
    if (ended) {
        return HTTP2_BODY_NONE;
    }
    return fields->has_length ? HTTP2_BODY_LENGTH : HTTP2_BODY_CHUNKED;
}

static const char *framing_of(const struct http2_fields *fields, enum http2_body body,
                              bool empty_is_said)
{
    if (body == HTTP2_BODY_CHUNKED) {
        return "transfer-encoding: chunked\r\n";
    }
    if (body == HTTP2_BODY_CLOSE) {
        return "connection: close\r\n";
    }
    return body == HTTP2_BODY_NONE && empty_is_said && !fields->has_length ? "content-length: 0\r\n"
                                                                           : "";
}

/* Those that servers want to know the length of. */
static bool has_usually_body(struct slice method)
{
    static const char *const words[] = {"POST", "PUT", "PATCH"};
    return is_any(method, words, sizeof words / sizeof words[0]);
}

enum status http2_write_request(const struct http2_fields *fields, bool ended, struct buffer *out,
                                enum http2_body *ret_body)
{
    enum status status = check(fields);
    enum http2_body body = body_of(fields, ended);
    struct slice method = buffer_slice(&fields->method);
    if (status != STATUS_OK || method.size == 0 || fields->path.size == 0) {
        return status == STATUS_OK ? STATUS_INVALID : status;
    }
    status = buffer_append(out, method.data, method.size);
    status = status == STATUS_OK ? put_text(out, " ") : status;
    status =
        status == STATUS_OK ? buffer_append(out, fields->path.data, fields->path.size) : status;
    status = status == STATUS_OK ? put_text(out, " HTTP/1.1\r\n") : status;
    if (status == STATUS_OK) {
        status = put_fields(fields, framing_of(fields, body, has_usually_body(method)), false, out);
    }
    if (status == STATUS_OK) {
        *ret_body = body;
    }
    return status;
}

enum status http2_write_answer(const struct http2_fields *fields, bool ended, bool to_head,
                               bool old, struct buffer *out, enum http2_body *ret_body)
{
    char line[32];
    enum status status = check(fields);
    bool bodiless = fields->status < 200 || fields->status == 204 || fields->status == 304;
    if (status != STATUS_OK || fields->status < 100 || fields->status > 999) {
        return status == STATUS_OK ? STATUS_INVALID : status;
    }
    enum http2_body body = body_of(fields, ended || to_head || bodiless);
    bool drop_length = body == HTTP2_BODY_LENGTH && fields->is_grpc;
    body = drop_length ? HTTP2_BODY_CHUNKED : body;
    body = old && body == HTTP2_BODY_CHUNKED ? HTTP2_BODY_CLOSE : body;
    (void)snprintf(line, sizeof line, "HTTP/1.1 %u \r\n", fields->status);
    status = put_text(out, line);
    if (status == STATUS_OK) {
        status =
            put_fields(fields, framing_of(fields, body, !to_head && !bodiless), drop_length, out);
    }
    if (status == STATUS_OK) {
        *ret_body = body;
    }
    return status;
}

enum status http2_write_trailers(const struct http2_fields *fields, struct buffer *out)
{
    enum status status = check(fields);
    status = status == STATUS_OK ? put_text(out, "0\r\n") : status;
    status = status == STATUS_OK ? put_lines(fields, fields->has_length, out) : status;
    return status == STATUS_OK ? put_text(out, "\r\n") : status;
}

/* ------------------------------------------------------------------ reading text */

/* nghttp2 does not write to it, and copies it when it is submitted. */
static uint8_t *unconst(const void *bytes)
{
    return (uint8_t *)(uintptr_t)bytes;
}

static void add(struct http2_list *list, struct slice name, struct slice value)
{
    list->fields[list->count++] = (nghttp2_nv){
        .name = unconst(name.data),
        .namelen = name.size,
        .value = unconst(value.data == NULL ? (const uint8_t *)"" : value.data),
        .valuelen = value.size,
    };
}

/* Room for as many fields as there are lines, and for their names. */
static enum status prepare(struct slice lines, size_t more, struct http2_list *ret_list)
{
    size_t count = more;
    for (size_t i = 0; i < lines.size; i++) {
        count += lines.data[i] == '\n';
    }
    *ret_list = (struct http2_list){.fields = calloc(count, sizeof(nghttp2_nv))};
    buffer_init(&ret_list->names, lines.size + 1);
    if (ret_list->fields == NULL || buffer_reserve(&ret_list->names, lines.size + 1) != STATUS_OK) {
        http2_list_free(ret_list);
        return STATUS_MEMORY;
    }
    return STATUS_OK;
}

void http2_list_free(struct http2_list *list)
{
    free(list->fields);
    buffer_free(&list->names);
    list->fields = NULL;
    list->count = 0;
}

/* The names have room that was reserved, so none moves. */
static struct slice lower(struct http2_list *list, struct slice name)
{
    uint8_t *at = &list->names.data[list->names.size];
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        at[i] = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte - 'A' + 'a') : byte;
    }
    buffer_grew(&list->names, name.size);
    return slice_make(at, name.size);
}

/* What Connection lines name, sorted: a head has room for thousands of them, and of fields. */
struct named {
    struct slice *items; /* NULL: none */
    size_t count;
};

/* In some order of their own, whatever their case. */
static int compare(const void *left, const void *right)
{
    const struct slice *one = left;
    const struct slice *other = right;
    if (one->size != other->size) {
        return one->size < other->size ? -1 : 1;
    }
    return strncasecmp((const char *)one->data, (const char *)other->data, one->size);
}

/* Returns how many there are; `items` may be NULL. */
static size_t list_named(struct slice lines, struct slice *items)
{
    size_t count = 0;
    struct slice name;
    struct slice value;
    struct slice item;
    while (head_take_field(&lines, &name, &value)) {
        while (head_is_word(name, "connection") && head_take_item(&value, &item)) {
            if (items != NULL) {
                items[count] = item;
            }
            count++;
        }
    }
    return count;
}

/* The items are the caller's to free. */
static enum status find_named(struct slice lines, struct named *ret_named)
{
    struct named named = {.count = list_named(lines, NULL)};
    if (named.count > 0) {
        named.items = calloc(named.count, sizeof *named.items);
        if (named.items == NULL) {
            return STATUS_MEMORY;
        }
        (void)list_named(lines, named.items);
        qsort(named.items, named.count, sizeof *named.items, compare);
    }
    *ret_named = named;
    return STATUS_OK;
}

static bool is_named(const struct named *named, struct slice name)
{
    return named->count > 0 &&
           bsearch(&name, named->items, named->count, sizeof *named->items, compare) != NULL;
}

static bool is_passed_on(const struct named *named, struct slice name, struct slice value)
{
    if (is_of_connection(name)) {
        return false;
    }
    if (head_is_word(name, "te")) {
        return head_is_word(value, "trailers"); /* the only one that HTTP/2 knows */
    }
    return !is_named(named, name);
}

/* Frees the list if it fails. */
static enum status add_lines(struct slice lines, bool drop_host, bool drop_length,
                             struct http2_list *list)
{
    struct named named;
    struct slice name;
    struct slice value;
    enum status status = find_named(lines, &named);
    if (status != STATUS_OK) {
        http2_list_free(list);
        return status;
    }
    while (head_take_field(&lines, &name, &value)) {
        bool dropped = (drop_host && head_is_word(name, "host")) ||
                       (drop_length && head_is_word(name, "content-length"));
        if (!dropped && is_passed_on(&named, name, value)) {
            add(list, lower(list, name), value);
        }
    }
    free(named.items);
    return STATUS_OK;
}

/* With the slash that a URL may leave out; what is put there has room, as names have. */
static struct slice path_of(struct http2_list *list, struct slice path)
{
    if (path.size > 0 && path.data[0] != '?') {
        return path;
    }
    uint8_t *at = &list->names.data[list->names.size];
    at[0] = '/';
    if (path.size > 0) {
        memcpy(at + 1, path.data, path.size);
    }
    buffer_grew(&list->names, path.size + 1);
    return slice_make(at, path.size + 1);
}

enum status http2_read_request(struct slice head, const struct http_head *parsed, bool tls,
                               struct http2_list *ret_list)
{
    struct slice lines = head;
    struct slice line;
    struct slice host = {0};
    struct slice path = {0};
    if (!head_take_line(&lines, &line) || parsed->upgrade ||
        head_is_word(parsed->method, "CONNECT")) {
        return STATUS_UNSUPPORTED;
    }
    enum status status = prepare(head, 4, ret_list);
    if (status != STATUS_OK) {
        return status;
    }
    /* "http://host/path" is "/path" of that host, whatever Host says (RFC 9112, section 3.2.2). */
    if (!head_split_target(parsed->target, &host, &path)) {
        path = parsed->target; /* "*" */
    }
    if (host.size == 0) {
        (void)head_find(head, "host", &host);
    }
    add(ret_list, slice_text(":method"), parsed->method);
    add(ret_list, slice_text(":scheme"), slice_text(tls ? "https" : "http"));
    add(ret_list, slice_text(":path"), path_of(ret_list, path));
    if (host.size > 0) {
        add(ret_list, slice_text(":authority"), host);
    }
    return add_lines(lines, true, false, ret_list);
}

enum status http2_read_answer(struct slice head, const struct http_head *parsed, bool bodiless,
                              struct http2_list *ret_list)
{
    struct slice lines = head;
    struct slice line;
    if (!head_take_line(&lines, &line)) {
        return STATUS_INVALID;
    }
    enum status status = prepare(head, 1, ret_list);
    if (status != STATUS_OK) {
        return status;
    }
    /* Of gRPC's "Trailers-Only" the length was put there by http2_write_answer(). */
    bool drop_length = bodiless && grpc_is_type(parsed->content_type);
    add(ret_list, slice_text(":status"), slice_make(&line.data[9], 3));
    return add_lines(lines, false, drop_length, ret_list);
}

enum status http2_read_trailers(struct slice lines, struct http2_list *ret_list)
{
    enum status status = prepare(lines, 1, ret_list);
    return status == STATUS_OK ? add_lines(lines, true, true, ret_list) : status;
}
