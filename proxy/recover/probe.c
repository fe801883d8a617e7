/*
 * The probe document (probe.h). A field that is missing or of another type reads as zero or empty,
 * which says that nothing is known to have survived.
 *
 * Threads: the struct upstream's.
 */

#include "recover/probe.h"

#include <stdio.h>
#include <string.h>

#include "recover/state.h"

#define PROBE_ID "probe"

static void read_probe(const bson_t *view, void *context)
{
    struct probe *probe = context;
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
    enum status status = state_find(upstream, PROBE_ID, read_probe, &probe, ret_error);
    if (status == STATUS_OK) {
        *ret_probe = probe;
    }
    return status;
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
    bson_t query = BSON_INITIALIZER;
    bson_t change = BSON_INITIALIZER;
    const struct state_update update = {
        .query = &query, .change = &change, .upsert = !guarded, .durable = durable};
    BSON_APPEND_UTF8(&query, "_id", PROBE_ID);
    if (guarded) {
        BSON_APPEND_UTF8(&query, "journal", probe->journal);
        BSON_APPEND_INT64(&query, "epoch", probe->epoch);
    }
    append_probe(&change, probe);
    enum status status = state_update_run(upstream, &update, ret_matched, ret_error);
    bson_destroy(&query);
    bson_destroy(&change);
    return status;
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
