/*
 * The probe document (probe.h). A field that is missing or of another type reads as zero or empty,
 * which says that nothing is known to have survived.
 *
 * Threads: the struct upstream's.
 */

#include "recover/probe.h"

#include <stdio.h>
#include <string.h>

#define COLLECTION "state"
#define PROBE_ID "probe"

static void read_probe(const bson_t *view, struct probe *probe)
{
    bson_iter_t at;
    probe->exists = true;
    if (bson_iter_init_find(&at, view, "journal") && BSON_ITER_HOLDS_UTF8(&at)) {
        (void)snprintf(probe->journal, sizeof(probe->journal), "%s", bson_iter_utf8(&at, NULL));
    }
    if (bson_iter_init_find(&at, view, "epoch") && BSON_ITER_HOLDS_INT64(&at)) {
        probe->epoch = bson_iter_int64(&at);
    }
    if (bson_iter_init_find(&at, view, "number") && BSON_ITER_HOLDS_INT64(&at)) {
        probe->number = bson_iter_int64(&at);
    }
    if (bson_iter_init_find(&at, view, "lsn") && BSON_ITER_HOLDS_INT64(&at) &&
        bson_iter_int64(&at) > 0) {
        probe->lsn = (uint64_t)bson_iter_int64(&at);
    }
    if (bson_iter_init_find(&at, view, "process") && BSON_ITER_HOLDS_OID(&at)) {
        probe->has_process = true;
        memcpy(probe->process, bson_iter_oid(&at)->bytes, sizeof(probe->process));
    }
}

enum status probe_read(struct upstream *upstream, struct probe *ret_probe, struct error *ret_error)
{
    struct probe probe = {0};
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    bson_t reply;
    bson_t view;
    bson_iter_t at;
    bson_iter_t found;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    BSON_APPEND_UTF8(&command, "find", COLLECTION);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_UTF8(&filter, "_id", PROBE_ID);
    bson_append_document_end(&command, &filter);
    BSON_APPEND_INT32(&command, "limit", 1);
    BSON_APPEND_BOOL(&command, "singleBatch", true);
    enum status status =
        upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command, &reply, NULL, ret_error);
    bson_destroy(&command);
    if (status != STATUS_OK) {
        return status;
    }
    if (bson_iter_init(&at, &reply) &&
        bson_iter_find_descendant(&at, "cursor.firstBatch.0", &found) &&
        BSON_ITER_HOLDS_DOCUMENT(&found)) {
        bson_iter_document(&found, &size, &data);
        if (data != NULL && bson_init_static(&view, data, size)) {
            read_probe(&view, &probe);
        }
    }
    bson_destroy(&reply);
    *ret_probe = probe;
    return STATUS_OK;
}

static void append_probe(bson_t *update, const struct probe *probe)
{
    BSON_APPEND_UTF8(update, "journal", probe->journal);
    BSON_APPEND_INT64(update, "epoch", probe->epoch);
    BSON_APPEND_INT64(update, "number", probe->number);
    BSON_APPEND_INT64(update, "lsn", (int64_t)probe->lsn);
    if (probe->has_process) {
        bson_oid_t process;
        bson_oid_init_from_data(&process, probe->process);
        BSON_APPEND_OID(update, "process", &process);
    }
}

/* `guarded`: only if it is of the same journal and epoch; else whatever is there, or nothing. */
static enum status run_update(struct upstream *upstream, const struct probe *probe, bool guarded,
                              bool durable, int64_t *ret_matched, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t updates;
    bson_t statement;
    bson_t part;
    bson_t reply;
    bson_iter_t at;
    int32_t code = 0;
    BSON_APPEND_UTF8(&command, "update", COLLECTION);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &updates);
    BSON_APPEND_DOCUMENT_BEGIN(&updates, "0", &statement);
    BSON_APPEND_DOCUMENT_BEGIN(&statement, "q", &part);
    BSON_APPEND_UTF8(&part, "_id", PROBE_ID);
    if (guarded) {
        BSON_APPEND_UTF8(&part, "journal", probe->journal);
        BSON_APPEND_INT64(&part, "epoch", probe->epoch);
    }
    bson_append_document_end(&statement, &part);
    BSON_APPEND_DOCUMENT_BEGIN(&statement, "u", &part);
    append_probe(&part, probe);
    bson_append_document_end(&statement, &part);
    BSON_APPEND_BOOL(&statement, "upsert", !guarded);
    bson_append_document_end(&updates, &statement);
    bson_append_array_end(&command, &updates);
    enum status status = durable ? upstream_command_durable(upstream, UPSTREAM_OWN_DATABASE,
                                                            &command, &reply, &code, ret_error)
                                 : upstream_command(upstream, UPSTREAM_OWN_DATABASE, &command,
                                                    &reply, &code, ret_error);
    bson_destroy(&command);
    if (status != STATUS_OK) {
        return status;
    }
    *ret_matched = bson_iter_init_find(&at, &reply, "n") ? bson_iter_as_int64(&at) : 0;
    bson_destroy(&reply);
    return STATUS_OK;
}

enum status probe_make(struct upstream *upstream, const struct probe *probe,
                       struct error *ret_error)
{
    int64_t matched;
    return run_update(upstream, probe, false, true, &matched, ret_error);
}

enum status probe_advance(struct upstream *upstream, const struct probe *probe, bool durable,
                          bool *ret_ours, struct error *ret_error)
{
    int64_t matched;
    enum status status = run_update(upstream, probe, true, durable, &matched, ret_error);
    if (status == STATUS_OK) {
        *ret_ours = matched == 1;
    }
    return status;
}
