/*
 * The documents of holdfast.state: reads them; changes identity and lease by one guarded
 * findAndModify each (layout in lease.h), and others by an update.
 *
 * Invariant: what is on the server was written by some version of this program or by anybody else;
 * a field that is missing or of another type reads as zero or empty, which the rules in lease.c
 * treat as foreign, never as ours.
 *
 * Threads: the struct upstream's.
 */

#include "recover/state.h"

#include <bson/bson.h>
#include <stdio.h>
#include <string.h>

#define COLLECTION "state"

/* A view of the document at `path` of the reply; false if there is none. */
static bool reply_document(const bson_t *reply, const char *path, bson_t *ret_view)
{
    bson_iter_t at;
    bson_iter_t found;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!bson_iter_init(&at, reply) || !bson_iter_find_descendant(&at, path, &found) ||
        !BSON_ITER_HOLDS_DOCUMENT(&found)) {
        return false;
    }
    bson_iter_document(&found, &size, &data);
    return data != NULL && bson_init_static(ret_view, data, size);
}

enum status state_find(struct upstream *upstream, const char *id,
                       void (*take)(const bson_t *document, void *context), void *context,
                       struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    bson_t reply;
    bson_t view;
    BSON_APPEND_UTF8(&command, "find", COLLECTION);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_UTF8(&filter, "_id", id);
    bson_append_document_end(&command, &filter);
    BSON_APPEND_INT32(&command, "limit", 1);
    BSON_APPEND_BOOL(&command, "singleBatch", true);
    enum status status =
        upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, NULL, ret_error);
    bson_destroy(&command);
    if (status != STATUS_OK) {
        return status;
    }
    if (reply_document(&reply, "cursor.firstBatch.0", &view)) {
        take(&view, context);
    }
    bson_destroy(&reply);
    return STATUS_OK;
}

enum status state_update_run(struct upstream *upstream, const struct state_update *update,
                             int64_t *ret_matched, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t updates;
    bson_t statement;
    bson_t reply;
    bson_iter_t at;
    int32_t code = 0;
    BSON_APPEND_UTF8(&command, "update", COLLECTION);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &statement);
    BSON_APPEND_DOCUMENT(&statement, "q", update->query);
    BSON_APPEND_DOCUMENT(&statement, "u", update->change);
    BSON_APPEND_BOOL(&statement, "upsert", update->upsert);
    bson_append_document_end(&updates, &statement);
    bson_append_array_end(&command, &updates);
    enum status status =
        update->durable
            ? upstream_command_durable(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, &code,
                                       ret_error)
            : upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, &code, ret_error);
    bson_destroy(&command);
    if (status != STATUS_OK) {
        return status;
    }
    *ret_matched = bson_iter_init_find(&at, &reply, "n") ? bson_iter_as_int64(&at) : 0;
    bson_destroy(&reply);
    return STATUS_OK;
}

static void read_text(const bson_t *view, const char *name, char *ret_text, size_t capacity)
{
    bson_iter_t at;
    ret_text[0] = '\0';
    if (bson_iter_init_find(&at, view, name) && BSON_ITER_HOLDS_UTF8(&at)) {
        snprintf(ret_text, capacity, "%s", bson_iter_utf8(&at, NULL));
    }
}

static int64_t read_number(const bson_t *view, const char *name)
{
    bson_iter_t at;
    if (bson_iter_init_find(&at, view, name) &&
        (BSON_ITER_HOLDS_INT(&at) || BSON_ITER_HOLDS_DOUBLE(&at))) {
        return bson_iter_as_int64(&at);
    }
    return 0;
}

/* ------------------------------------------------------------------ identity */

static void read_identity(const bson_t *view, void *context)
{
    struct state_identity *ret_identity = context;
    bson_iter_t at;
    if (bson_iter_init_find(&at, view, "id") && BSON_ITER_HOLDS_OID(&at)) {
        ret_identity->exists = true;
        memcpy(ret_identity->id, bson_iter_oid(&at)->bytes, sizeof(ret_identity->id));
    }
}

enum status state_read_identity(struct upstream *upstream, struct state_identity *ret_identity,
                                struct error *ret_error)
{
    struct state_identity identity = {0};
    enum status status = state_find(upstream, "identity", read_identity, &identity, ret_error);
    if (status == STATUS_OK) {
        *ret_identity = identity;
    }
    return status;
}

enum status state_make_identity(struct upstream *upstream, const uint8_t id[12],
                                struct state_identity *ret_identity, struct error *ret_error)
{
    struct state_identity identity = {0};
    bson_t command = BSON_INITIALIZER;
    bson_t query;
    bson_t update;
    bson_t set;
    bson_t reply;
    bson_t view;
    bson_oid_t oid;
    int32_t code = 0;
    bson_oid_init_from_data(&oid, id);
    BSON_APPEND_UTF8(&command, "findAndModify", COLLECTION);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &query);
    BSON_APPEND_UTF8(&query, "_id", "identity");
    bson_append_document_end(&command, &query);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "update", &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$setOnInsert", &set);
    BSON_APPEND_OID(&set, "id", &oid);
    bson_append_document_end(&update, &set);
    bson_append_document_end(&command, &update);
    BSON_APPEND_BOOL(&command, "upsert", true);
    BSON_APPEND_BOOL(&command, "new", true);
    enum status status = upstream_command_durable(upstream, UPSTREAM_OWN_DATABASE, &command, &reply,
                                                  &code, ret_error);
    bson_destroy(&command);
    if (status == STATUS_REFUSED && code == 11000) {
        /* Two proxies at once: the other's identity is there now. */
        return state_read_identity(upstream, ret_identity, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (reply_document(&reply, "value", &view)) {
        read_identity(&view, &identity);
    }
    bson_destroy(&reply);
    *ret_identity = identity;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ lease */

static void read_lease(const bson_t *view, void *context)
{
    struct lease_state *ret_state = context;
    bson_iter_t at;
    ret_state->exists = true;
    read_text(view, "journal", ret_state->journal, sizeof(ret_state->journal));
    read_text(view, "owner", ret_state->owner, sizeof(ret_state->owner));
    read_text(view, "host", ret_state->host, sizeof(ret_state->host));
    read_text(view, "file", ret_state->place.file, sizeof(ret_state->place.file));
    read_text(view, "place", ret_state->place.host, sizeof(ret_state->place.host));
    ret_state->epoch = read_number(view, "epoch");
    ret_state->pid = (int32_t)read_number(view, "pid");
    ret_state->last_lsn = read_number(view, "lastLsn");
    ret_state->units_open = (int32_t)read_number(view, "unitsOpen");
    ret_state->clean =
        bson_iter_init_find(&at, view, "clean") && BSON_ITER_HOLDS_BOOL(&at) && bson_iter_bool(&at);
    if (bson_iter_init_find(&at, view, "renewedAt") && BSON_ITER_HOLDS_DATE_TIME(&at)) {
        ret_state->renewed_at_ms = bson_iter_date_time(&at);
    }
}

enum status lease_read(struct upstream *upstream, struct lease_state *ret_state,
                       struct error *ret_error)
{
    struct lease_state state = {0};
    struct upstream_description server;
    enum status status = state_find(upstream, "lease", read_lease, &state, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    /* After the lease was read, so that its age is never taken for less than it is by our delay
       alone; the guard of a take compares renewedAt anyway. */
    status = upstream_describe(upstream, &server, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    state.age_ms = server.local_time_ms - state.renewed_at_ms;
    *ret_state = state;
    return STATUS_OK;
}

static void append_query(bson_t *command, const char *journal, int64_t epoch,
                         const int64_t *renewed_at_ms)
{
    bson_t query;
    BSON_APPEND_DOCUMENT_BEGIN(command, "query", &query);
    BSON_APPEND_UTF8(&query, "_id", "lease");
    BSON_APPEND_UTF8(&query, "journal", journal);
    BSON_APPEND_INT64(&query, "epoch", epoch);
    if (renewed_at_ms != NULL) {
        BSON_APPEND_DATE_TIME(&query, "renewedAt", *renewed_at_ms);
    }
    bson_append_document_end(command, &query);
}

static void append_place(bson_t *set, const struct wal_place *place)
{
    BSON_APPEND_UTF8(set, "file", place->file);
    BSON_APPEND_UTF8(set, "place", place->host);
}

static void append_renewal(bson_t *update)
{
    bson_t now;
    BSON_APPEND_DOCUMENT_BEGIN(update, "$currentDate", &now);
    BSON_APPEND_BOOL(&now, "renewedAt", true);
    bson_append_document_end(update, &now);
}

/* *ret_met: the query found its document, or the upsert made it. */
static enum status run_change(struct upstream *upstream, bson_t *command, bool *ret_met,
                              struct error *ret_error)
{
    bson_t reply;
    bson_t view;
    int32_t code = 0;
    BSON_APPEND_BOOL(command, "new", true);
    enum status status = upstream_command_durable(upstream, UPSTREAM_OWN_DATABASE, command, &reply,
                                                  &code, ret_error);
    if (status == STATUS_REFUSED && code == 11000) {
        *ret_met = false;
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        *ret_met = reply_document(&reply, "value", &view);
        bson_destroy(&reply);
    }
    return status;
}

enum status state_take_lease(struct upstream *upstream, const struct lease_state *seen,
                             const struct state_owner *owner, bool *ret_taken,
                             struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t query;
    bson_t update;
    bson_t set;
    BSON_APPEND_UTF8(&command, "findAndModify", COLLECTION);
    if (seen->exists) {
        append_query(&command, seen->journal, seen->epoch, &seen->renewed_at_ms);
    } else {
        /* A lease names a journal: if somebody has made one since, the query misses it and the
           upsert meets its _id. */
        BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &query);
        BSON_APPEND_UTF8(&query, "_id", "lease");
        bson_t absent;
        BSON_APPEND_DOCUMENT_BEGIN(&query, "journal", &absent);
        BSON_APPEND_BOOL(&absent, "$exists", false);
        bson_append_document_end(&query, &absent);
        bson_append_document_end(&command, &query);
        BSON_APPEND_BOOL(&command, "upsert", true);
    }
    BSON_APPEND_DOCUMENT_BEGIN(&command, "update", &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
    BSON_APPEND_UTF8(&set, "journal", owner->journal);
    BSON_APPEND_INT64(&set, "epoch", owner->epoch);
    BSON_APPEND_UTF8(&set, "owner", owner->owner);
    BSON_APPEND_UTF8(&set, "host", owner->host);
    BSON_APPEND_INT32(&set, "pid", owner->pid);
    BSON_APPEND_INT64(&set, "lastLsn", owner->last_lsn);
    BSON_APPEND_INT32(&set, "unitsOpen", 0);
    BSON_APPEND_BOOL(&set, "clean", false);
    append_place(&set, owner->place);
    bson_append_document_end(&update, &set);
    append_renewal(&update);
    bson_append_document_end(&command, &update);
    enum status status = run_change(upstream, &command, ret_taken, ret_error);
    bson_destroy(&command);
    return status;
}

enum status state_renew_lease(struct upstream *upstream, const struct lease *lease,
                              uint64_t last_lsn, uint32_t units_open, bool clean, bool *ret_ours,
                              struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t update;
    bson_t set;
    BSON_APPEND_UTF8(&command, "findAndModify", COLLECTION);
    append_query(&command, lease->journal, lease->epoch, NULL);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "update", &update);
    BSON_APPEND_DOCUMENT_BEGIN(&update, "$set", &set);
    BSON_APPEND_INT64(&set, "lastLsn", (int64_t)last_lsn);
    BSON_APPEND_INT32(&set, "unitsOpen", (int32_t)units_open);
    BSON_APPEND_BOOL(&set, "clean", clean);
    append_place(&set, &lease->place);
    bson_append_document_end(&update, &set);
    append_renewal(&update);
    bson_append_document_end(&command, &update);
    enum status status = run_change(upstream, &command, ret_ours, ret_error);
    bson_destroy(&command);
    return status;
}
