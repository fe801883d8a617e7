/*
 * Spans and events as JSON (bodies.h), put together by libbson, whose relaxed extended JSON of
 * texts, booleans and 32-bit numbers is plain JSON.
 *
 * Sources: https://opentelemetry.io/docs/specs/otlp/ (JSON Protobuf Encoding) and the semantic
 * conventions for database and HTTP spans; docs/OBSERVABILITY.md lists what is told.
 */
#include "telemetry/bodies.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "holdfast/clock.h"

/* OTLP's numbers. */
enum { OTLP_KIND_INTERNAL = 1, OTLP_KIND_SERVER = 2, OTLP_KIND_CLIENT = 3 };
enum { OTLP_STATUS_ERROR = 2 };
enum { OTLP_FLAG_SAMPLED = 1 };

static void put_text(bson_t *document, const char *key, const char *text)
{
    size_t size = strlen(text);
    char plain[1024];
    if (bson_utf8_validate(text, size, false)) {
        BSON_APPEND_UTF8(document, key, text);
        return;
    }
    size = size < sizeof plain - 1 ? size : sizeof plain - 1;
    for (size_t i = 0; i < size; i++) {
        plain[i] = '?';
        if ((unsigned char)text[i] < 0x80) {
            plain[i] = text[i];
        }
    }
    plain[size] = '\0';
    BSON_APPEND_UTF8(document, key, plain);
}

static void put_hex(bson_t *document, const char *key, const uint8_t *bytes, size_t count)
{
    char text[2 * SPAN_TRACE_BYTES + 1] = "";
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++) {
        any |= bytes[i];
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    if (any != 0) {
        BSON_APPEND_UTF8(document, key, text);
    }
}

static void put_number_text(bson_t *document, const char *key, uint64_t number, const char *zeros)
{
    char text[48];
    (void)snprintf(text, sizeof text, "%" PRIu64 "%s", number, zeros);
    BSON_APPEND_UTF8(document, key, text);
}

/* ------------------------------------------------------------------ arrays */

struct list {
    bson_t array;
    uint32_t count;
};

static void list_begin(bson_t *document, const char *key, struct list *list)
{
    list->count = 0;
    BSON_APPEND_ARRAY_BEGIN(document, key, &list->array);
}

static void item_begin(struct list *list, bson_t *item)
{
    char buffer[16];
    const char *key = NULL;
    size_t size = bson_uint32_to_string(list->count++, &key, buffer, sizeof buffer);
    bson_append_document_begin(&list->array, key, (int)size, item);
}

/* { key, value: { type: text } }; an empty text is not told. */
static void attribute_of(struct list *list, const char *name, const char *type, const char *text)
{
    bson_t item;
    bson_t value;
    if (text == NULL || text[0] == '\0') {
        return;
    }
    item_begin(list, &item);
    BSON_APPEND_UTF8(&item, "key", name);
    BSON_APPEND_DOCUMENT_BEGIN(&item, "value", &value);
    put_text(&value, type, text);
    bson_append_document_end(&item, &value);
    bson_append_document_end(&list->array, &item);
}

static void attribute(struct list *list, const char *name, const char *text)
{
    attribute_of(list, name, "stringValue", text);
}

static void attribute_number(struct list *list, const char *name, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    attribute_of(list, name, "intValue", text);
}

/* ------------------------------------------------------------------ spans */

/* "POST /v2/projects": of a call. */
static void put_call(struct list *attributes, const struct span *span)
{
    char method[32];
    size_t size = strcspn(span->name, " ");
    (void)snprintf(method, sizeof method, "%.*s", (int)size, span->name);
    attribute(attributes, "http.request.method", method);
    attribute(attributes, "url.path", span->name + size + (span->name[size] == ' ' ? 1 : 0));
    attribute(attributes, "holdfast.service", span->application);
}

static void put_command(struct list *attributes, const struct span *span)
{
    char code[16] = "";
    if (span->code != 0) {
        (void)snprintf(code, sizeof code, "%d", span->code);
    }
    attribute(attributes, "db.system", "mongodb"); /* the name before 1.27, which is still read */
    attribute(attributes, "db.system.name", "mongodb");
    attribute(attributes, "db.namespace", span->database);
    attribute(attributes, "db.collection.name", span->collection);
    attribute(attributes, "db.operation.name", span->operation);
    attribute(attributes, "db.response.status_code", code);
    attribute(attributes, "error.type", code);
}

static void put_attributes(bson_t *document, const struct span *span)
{
    struct list attributes;
    list_begin(document, "attributes", &attributes);
    switch (span->kind) {
    case SPAN_SERVER:
        put_call(&attributes, span);
        break;
    case SPAN_CLIENT:
        put_command(&attributes, span);
        break;
    case SPAN_INTERNAL:
        break;
    }
    attribute(&attributes, "user.name", span->user);
    attribute(&attributes, "client.address", span->client);
    if (span->kind != SPAN_SERVER) {
        attribute(&attributes, "holdfast.client.application", span->application);
    }
    attribute_number(&attributes, "holdfast.unit.id", span->unit);
    attribute(&attributes, "holdfast.unit.boundary", span->boundary);
    attribute(&attributes, "holdfast.unit.outcome", span->outcome);
    attribute(&attributes, "holdfast.unit.reason", span->reason);
    bson_append_array_end(document, &attributes.array);
}

static void put_link(bson_t *document, const struct span *span)
{
    static const uint8_t none[SPAN_ID_BYTES];
    struct list links;
    bson_t link;
    if (memcmp(span->linked_span_id, none, sizeof none) == 0) {
        return;
    }
    list_begin(document, "links", &links);
    item_begin(&links, &link);
    put_hex(&link, "traceId", span->linked_trace_id, SPAN_TRACE_BYTES);
    put_hex(&link, "spanId", span->linked_span_id, SPAN_ID_BYTES);
    bson_append_document_end(&links.array, &link);
    bson_append_array_end(document, &links.array);
}

static void put_span(bson_t *document, const struct span *span)
{
    static const int32_t kinds[] = {[SPAN_INTERNAL] = OTLP_KIND_INTERNAL,
                                    [SPAN_SERVER] = OTLP_KIND_SERVER,
                                    [SPAN_CLIENT] = OTLP_KIND_CLIENT};
    char name[sizeof span->name];
    /* A path names one thing or another, of which there are too many for a span's name. */
    size_t size = span->kind == SPAN_SERVER ? strcspn(span->name, " ") : strlen(span->name);
    (void)snprintf(name, sizeof name, "%.*s", (int)size, span->name);
    put_hex(document, "traceId", span->context.trace_id, SPAN_TRACE_BYTES);
    put_hex(document, "spanId", span->context.span_id, SPAN_ID_BYTES);
    put_hex(document, "parentSpanId", span->context.parent_id, SPAN_ID_BYTES);
    BSON_APPEND_INT32(document, "flags", OTLP_FLAG_SAMPLED);
    put_text(document, "name", name);
    BSON_APPEND_INT32(document, "kind", kinds[span->kind]);
    put_number_text(document, "startTimeUnixNano", span->started_us, "000");
    put_number_text(document, "endTimeUnixNano", span->ended_us, "000");
    put_attributes(document, span);
    put_link(document, span);
    bson_t status;
    BSON_APPEND_DOCUMENT_BEGIN(document, "status", &status);
    if (span->failed) {
        BSON_APPEND_INT32(&status, "code", OTLP_STATUS_ERROR);
    }
    bson_append_document_end(document, &status);
}

static void put_resource(bson_t *document, const char *instance)
{
    bson_t resource;
    struct list attributes;
    BSON_APPEND_DOCUMENT_BEGIN(document, "resource", &resource);
    list_begin(&resource, "attributes", &attributes);
    attribute(&attributes, "service.name", "holdfast");
    attribute(&attributes, "service.version", HOLDFAST_VERSION);
    attribute(&attributes, "service.instance.id", instance);
    bson_append_array_end(&resource, &attributes.array);
    bson_append_document_end(document, &resource);
}

char *bodies_spans(const char *instance, const struct span *spans, size_t count)
{
    bson_t body = BSON_INITIALIZER;
    struct list resources;
    struct list scopes;
    struct list list;
    bson_t resource;
    bson_t scope;
    bson_t name;
    list_begin(&body, "resourceSpans", &resources);
    item_begin(&resources, &resource);
    put_resource(&resource, instance);
    list_begin(&resource, "scopeSpans", &scopes);
    item_begin(&scopes, &scope);
    BSON_APPEND_DOCUMENT_BEGIN(&scope, "scope", &name);
    BSON_APPEND_UTF8(&name, "name", "holdfast");
    BSON_APPEND_UTF8(&name, "version", HOLDFAST_VERSION);
    bson_append_document_end(&scope, &name);
    list_begin(&scope, "spans", &list);
    for (size_t i = 0; i < count; i++) {
        bson_t span;
        item_begin(&list, &span);
        put_span(&span, &spans[i]);
        bson_append_document_end(&list.array, &span);
    }
    bson_append_array_end(&scope, &list.array);
    bson_append_document_end(&scopes.array, &scope);
    bson_append_array_end(&resource, &scopes.array);
    bson_append_document_end(&resources.array, &resource);
    bson_append_array_end(&body, &resources.array);
    char *text = bson_as_relaxed_extended_json(&body, NULL);
    bson_destroy(&body);
    return text;
}

/* ------------------------------------------------------------------ events */

char *bodies_event(const char *instance, const struct event_notice *notice)
{
    bson_t body = BSON_INITIALIZER;
    bson_t part;
    char time[CLOCK_TEXT_BYTES];
    clock_text(notice->time_ms, time);
    BSON_APPEND_UTF8(&body, "type", event_type(notice->kind));
    BSON_APPEND_UTF8(&body, "reason", event_reason(notice->kind));
    put_text(&body, "message", notice->message);
    BSON_APPEND_UTF8(&body, "time", time);
    BSON_APPEND_DOCUMENT_BEGIN(&body, "involvedObject", &part);
    BSON_APPEND_UTF8(&part, "kind", event_object(notice->kind));
    put_text(&part, "name", notice->object_name);
    bson_append_document_end(&body, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&body, "source", &part);
    BSON_APPEND_UTF8(&part, "component", "holdfast");
    put_text(&part, "instance", instance);
    bson_append_document_end(&body, &part);
    char *text = bson_as_relaxed_extended_json(&body, NULL);
    bson_destroy(&body);
    return text;
}
