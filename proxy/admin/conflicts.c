/*
 * Units in conflict as JSON (conflicts.h).
 *
 * Threads: the admin servers' and the resolver's; each call has a reader of the journal of its own,
 * which is closed before it returns.
 */
#include "admin/conflicts.h"

#include <inttypes.h>
#include <string.h>

#include "admin/json.h"
#include "admin/query.h"
#include "holdfast/clock.h"
#include "recover/record.h"

#define NAMESPACES_SHOWN_MAX 8u
/* Of a conflict; each is found from the record's beginning. */
#define DOCUMENTS_COUNTED_MAX 200u

static void time_member(struct evbuffer *body, const char *name, uint64_t time_ms)
{
    char text[CLOCK_TEXT_BYTES];
    clock_text(time_ms, text);
    (void)evbuffer_add_printf(body, ",\"%s\":\"%s\"", name, text);
}

/* The different namespaces of the record's documents, and how many documents there are. */
static void write_documents(struct evbuffer *body, struct slice payload)
{
    const char *shown[NAMESPACES_SHOWN_MAX];
    size_t shown_count = 0;
    struct record_conflict_document document;
    size_t count = 0;
    (void)evbuffer_add_printf(body, ",\"namespaces\":[");
    for (; count < DOCUMENTS_COUNTED_MAX &&
           record_get_conflict(payload, count, &document, NULL) == STATUS_OK;
         count++) {
        bool known = shown_count == NAMESPACES_SHOWN_MAX;
        for (size_t i = 0; i < shown_count && !known; i++) {
            known = strcmp(shown[i], document.namespace) == 0;
        }
        if (!known) {
            (void)evbuffer_add_printf(body, "%s", shown_count == 0 ? "" : ",");
            admin_json_text(body, document.namespace);
            shown[shown_count++] = document.namespace;
        }
    }
    (void)evbuffer_add_printf(body, "],\"documents\":%zu", count);
}

static void write_conflict(struct wal_reader *reader, const struct wal_unit *unit,
                           struct evbuffer *body)
{
    struct wal_record record;
    struct record_begin begin = {.boundary = "?", .user = "", .client = "", .application = ""};
    const char *reason = "";
    (void)evbuffer_add_printf(body, "{\"unit\":%" PRIu64, unit->unit);
    if (wal_read(reader, unit->first_lsn, &record, NULL) != STATUS_OK ||
        record_get_begin(record.payload, &begin, NULL) != STATUS_OK) {
        reason = "its first record cannot be read: see holdfast verify";
    }
    admin_json_member(body, false, "boundary", begin.boundary);
    admin_json_member(body, false, "user", begin.user);
    admin_json_member(body, false, "client", begin.client);
    admin_json_member(body, false, "appName", begin.application);
    admin_json_member(body, false, "name", begin.name == NULL ? "" : begin.name);
    time_member(body, "began", unit->begin_time_ms);
    time_member(body, "last", unit->last_time_ms);
    if (wal_read(reader, unit->last_lsn, &record, NULL) == STATUS_OK) {
        if (record_get_reason(record.payload, &reason, NULL) != STATUS_OK) {
            reason = "its last record cannot be read: see holdfast verify";
        }
        write_documents(body, record.payload);
    }
    admin_json_member(body, false, "reason", reason);
    (void)evbuffer_add_printf(body, "}");
}

int admin_conflicts_write(const struct admin_facts *facts, const char *query, struct evbuffer *body)
{
    struct wal_statistics figures;
    struct wal_reader *reader = NULL;
    struct wal_unit unit;
    uint64_t after = query_number(query, "after", 0);
    unsigned listed = 0;
    bool more = false;
    if (facts->wal == NULL || wal_statistics_get(facts->wal, &figures, NULL) != STATUS_OK ||
        wal_reader_begin(facts->wal, &reader, NULL) != STATUS_OK) {
        (void)evbuffer_add_printf(body, "{\"error\":\"the journal cannot be read now\"}\n");
        return 503;
    }
    (void)evbuffer_add_printf(body, "{\"total\":%" PRIu64 ",\"conflicts\":[",
                              figures.units_conflict);
    while (wal_read_open_next(reader, after, &unit, NULL) == STATUS_OK) {
        after = unit.unit;
        if (unit.state != WAL_UNIT_CONFLICT) {
            continue;
        }
        if (listed == ADMIN_CONFLICTS_LISTED_MAX) {
            more = true;
            break;
        }
        (void)evbuffer_add_printf(body, "%s", listed++ == 0 ? "" : ",");
        write_conflict(reader, &unit, body);
        wal_reader_forget(reader); /* of an encrypted journal: whole images, a hundred times */
    }
    wal_reader_end(reader);
    (void)evbuffer_add_printf(body, "],\"more\":%s}\n", more ? "true" : "false");
    return 200;
}

static void write_document(const struct resolve_document *document, size_t *room,
                           struct evbuffer *body)
{
    struct image key = {.presence = IMAGE_PRESENT, .document = document->key};
    (void)evbuffer_add_printf(body, "{");
    admin_json_member(body, true, "ns", document->namespace);
    (void)evbuffer_add_printf(body, ",\"key\":");
    admin_json_image(body, key, room);
    (void)evbuffer_add_printf(body, ",\"before\":");
    admin_json_image(body, document->before, room);
    (void)evbuffer_add_printf(body, ",\"after\":");
    admin_json_image(body, document->after, room);
    (void)evbuffer_add_printf(body, ",\"found\":");
    admin_json_image(body, document->found, room);
    (void)evbuffer_add_printf(body, ",\"restore\":\"%s\",\"apply\":\"%s\"}",
                              resolve_effect(document, RESOLVE_RESTORE),
                              resolve_effect(document, RESOLVE_APPLY));
}

void admin_conflict_write(const struct resolve_plan *plan, const char *digest, size_t from,
                          struct evbuffer *body)
{
    size_t room = ADMIN_IMAGES_SHOWN_BYTES;
    size_t count = plan->document_count;
    (void)evbuffer_add_printf(body,
                              "{\"unit\":%" PRIu64
                              ",\"seen\":\"%s\",\"from\":%zu,\"documentCount\":%zu,\"documents\":[",
                              plan->history->unit, digest, from, count);
    for (size_t i = from; i < count && i - from < ADMIN_DOCUMENTS_SHOWN_MAX; i++) {
        (void)evbuffer_add_printf(body, "%s", i == from ? "" : ",");
        write_document(&plan->documents[i], &room, body);
    }
    (void)evbuffer_add_printf(body, "]}\n");
}
