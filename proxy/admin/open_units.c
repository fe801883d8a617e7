/*
 * Open units as JSON (open_units.h). The journal is looked at after units and locks (look.h): of a
 * unit that has ended in between, what it has written may be missing. What a unit has written is
 * read from its last records in the journal, so that no write has to tell anybody of it.
 *
 * Threads: the admin servers'.
 */
#include "admin/open_units.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "admin/json.h"
#include "admin/look.h"
#include "admin/query.h"
#include "recover/record.h"

#define NAMESPACES_SHOWN_MAX 8u
#define NAMESPACE_BYTES 256u /* MongoDB's own limit, and a NUL; longer ones are not shown */

/* NULL: out of memory, or nobody is served yet; the answer is written and *ret_code says so. */
static struct admin_look *take_look(const struct admin_facts *facts, struct evbuffer *body,
                                    int *ret_code)
{
    *ret_code = 503;
    if (facts->engine == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"the proxy is %s\"}\n",
                                  admin_phase_name(facts->phase));
        return NULL;
    }
    struct admin_look *look =
        admin_look_take(facts->engine, ADMIN_UNITS_LOOKED_AT_MAX, ADMIN_UNITS_LOOKED_AT_MAX);
    if (look == NULL) {
        (void)evbuffer_add_printf(body, "{\"error\":\"out of memory\"}\n");
        return NULL;
    }
    *ret_code = 200;
    return look;
}

static void write_who(struct evbuffer *body, const struct unit_view *unit)
{
    admin_json_member(body, false, "boundary", unit->boundary);
    admin_json_member(body, false, "user", unit->user);
    admin_json_member(body, false, "client", unit->client);
    admin_json_member(body, false, "appName", unit->application);
    (void)evbuffer_add_printf(body, ",\"ageMillis\":%" PRIu64, unit->age_ms);
}

static bool add_namespace(char shown[][NAMESPACE_BYTES], size_t *count, const char *namespace)
{
    size_t size = strlen(namespace) + 1;
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(shown[i], namespace) == 0) {
            return false;
        }
    }
    if (*count == NAMESPACES_SHOWN_MAX || size > NAMESPACE_BYTES) {
        return false;
    }
    memcpy(shown[(*count)++], namespace, size);
    return true;
}

/* From its last record back. */
static void write_writes(struct wal_reader *reader, uint64_t id, struct evbuffer *body)
{
    char shown[NAMESPACES_SHOWN_MAX][NAMESPACE_BYTES];
    size_t shown_count = 0;
    int64_t writes = 0;
    struct wal_unit unit;
    struct wal_record record;
    struct record_write write;
    uint64_t lsn =
        reader != NULL && wal_read_unit(reader, id, &unit, NULL) == STATUS_OK ? unit.last_lsn : 0;
    (void)evbuffer_add_printf(body, ",\"namespaces\":[");
    for (unsigned i = 0; i < ADMIN_UNIT_WRITES_LOOKED_AT_MAX && lsn != 0; i++) {
        if (wal_read(reader, lsn, &record, NULL) != STATUS_OK || record.kind != WAL_KIND_WRITE ||
            record_get_write(record.payload, &write, NULL) != STATUS_OK) {
            break;
        }
        writes = writes == 0 ? (int64_t)write.number + 1 : writes;
        if (add_namespace(shown, &shown_count, write.namespace)) {
            (void)evbuffer_add_printf(body, "%s", shown_count == 1 ? "" : ",");
            admin_json_text(body, write.namespace);
        }
        lsn = record.previous_lsn < lsn ? record.previous_lsn : 0;
        wal_reader_forget(reader); /* of an encrypted journal: an image each */
    }
    (void)evbuffer_add_printf(body, "],\"writes\":%" PRId64, writes);
}

static void write_unit(const struct admin_look *look, const struct unit_view *unit,
                       struct wal_reader *reader, struct evbuffer *body)
{
    const struct lock_view *locks = admin_look_locks(look, unit->id);
    (void)evbuffer_add_printf(body, "{\"unit\":%" PRIu64, unit->id);
    admin_json_member(body, false, "state", unit_state_name(unit->state));
    write_who(body, unit);
    (void)evbuffer_add_printf(body, ",\"busy\":%s,\"locksHeld\":%zu", unit->busy ? "true" : "false",
                              locks == NULL ? 0 : locks->held_count);
    if (locks != NULL && locks->waits_for != 0) {
        (void)evbuffer_add_printf(body, ",\"waitsFor\":%" PRIu64, locks->waits_for);
    }
    if (unit->ends_with != NULL) {
        admin_json_member(body, false, "endsWith", unit->ends_with);
    }
    write_writes(reader, unit->id, body);
    (void)evbuffer_add_printf(body, "}");
}

int admin_units_write(const struct admin_facts *facts, const char *query, struct evbuffer *body)
{
    int code = 0;
    uint64_t from = query_number(query, "from", 0);
    uint64_t count = query_number(query, "count", ADMIN_UNITS_PAGE_MAX);
    struct wal_reader *reader = NULL;
    struct admin_look *look = take_look(facts, body, &code);
    if (look == NULL) {
        return code;
    }
    if (wal_reader_begin(facts->wal, &reader, NULL) != STATUS_OK) {
        reader = NULL; /* then without what they wrote */
    }
    count = count > ADMIN_UNITS_PAGE_MAX ? ADMIN_UNITS_PAGE_MAX : count;
    from = from > look->unit_count ? look->unit_count : from;
    uint64_t until = from + count < look->unit_count ? from + count : look->unit_count;
    (void)evbuffer_add_printf(body, "{\"open\":%zu,\"from\":%" PRIu64 ",\"units\":[", look->open,
                              from);
    for (uint64_t i = from; i < until; i++) {
        (void)evbuffer_add_printf(body, "%s", i == from ? "" : ",");
        write_unit(look, &look->units[i], reader, body);
    }
    wal_reader_end(reader);
    (void)evbuffer_add_printf(body, "],\"more\":%s}\n", until < look->open ? "true" : "false");
    free(look);
    return 200;
}

static const struct unit_view *unit_of(const struct admin_look *look, uint64_t id)
{
    for (size_t i = 0; i < look->unit_count; i++) {
        if (look->units[i].id == id) {
            return &look->units[i];
        }
    }
    return NULL;
}

static void write_wait(const struct admin_look *look, const struct unit_view *unit,
                       uint64_t waits_for, struct evbuffer *body)
{
    const struct unit_view *holder = unit_of(look, waits_for);
    const struct lock_view *locks = admin_look_locks(look, waits_for);
    (void)evbuffer_add_printf(body, "{\"unit\":%" PRIu64, unit->id);
    write_who(body, unit);
    (void)evbuffer_add_printf(body, ",\"waitsFor\":%" PRIu64, waits_for);
    if (holder != NULL) {
        (void)evbuffer_add_printf(body, ",\"holder\":{\"unit\":%" PRIu64, waits_for);
        write_who(body, holder);
        if (locks != NULL && locks->waits_for != 0) {
            (void)evbuffer_add_printf(body, ",\"waitsFor\":%" PRIu64, locks->waits_for);
        }
        (void)evbuffer_add_printf(body, "}");
    }
    (void)evbuffer_add_printf(body, "}");
}

int admin_waits_write(const struct admin_facts *facts, const char *query, struct evbuffer *body)
{
    int code = 0;
    size_t listed = 0;
    bool more = false;
    (void)query;
    struct admin_look *look = take_look(facts, body, &code);
    if (look == NULL) {
        return code;
    }
    (void)evbuffer_add_printf(body, "{\"waits\":[");
    for (size_t i = 0; i < look->unit_count && !more; i++) {
        const struct lock_view *locks = admin_look_locks(look, look->units[i].id);
        if (locks == NULL || locks->waits_for == 0) {
            continue;
        }
        more = listed == ADMIN_UNITS_PAGE_MAX;
        if (!more) {
            (void)evbuffer_add_printf(body, "%s", listed++ == 0 ? "" : ",");
            write_wait(look, &look->units[i], locks->waits_for, body);
        }
    }
    (void)evbuffer_add_printf(body, "],\"more\":%s}\n", more ? "true" : "false");
    free(look);
    return 200;
}
