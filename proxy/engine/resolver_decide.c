/*
 * Carrying a decision about a conflict out in the living proxy (resolver.h).
 *
 * Invariants: no document is read for the decision before its lock is held; none is touched before
 * the records with its images are durable and published; what was begun and cannot be finished is
 * rolled back by the pool, as of any unit.
 *
 * The unit is made before it is asked which process the server is: so a recovery after a restart of
 * the server either is seen here, or waits for this unit (restart/restart.c).
 *
 * Threads: the resolver's, which may block.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/finish.h"
#include "engine/release.h"
#include "engine/resolver_private.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "recover/fence.h"

/* An operator sees how a decision that was taken back ended, if the server answers. */
#define TAKEN_BACK_MS 10000u
#define LOOK_MS 20

static const char reason[] = "a conflict could not be resolved";

/* ------------------------------------------------------------------ carrying out */

static enum status journal(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    for (size_t i = 0; i < decision->write_count; i++) {
        struct record_write *write = &decision->writes[i];
        write->plain_probe =
            gate_plain_probe(decider->engine->gates, decider_gate_of(write->namespace));
    }
    decision->unit = decider->unit->id;
    (void)snprintf(decider->unit->connection, sizeof decider->unit->connection, "%s", FENCE_NOBODY);
    enum status status = resolve_journal(decider->engine->wal, decision, ret_error);
    if (status == STATUS_IO) {
        release_end_process("a record could not be made durable", decider->unit, status);
    }
    if (status == STATUS_OK) {
        decider->unit->begun = true;
        decider->unit->write_count = decision->write_count;
    }
    return status;
}

static enum status replace(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    enum status status = STATUS_OK;
    decider->names = calloc(decision->write_count, sizeof *decider->names);
    if (decider->names == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        lock_name_of(decision->writes[i].namespace, decision->writes[i].key, &decider->names[i]);
        status = decider_publish(decider, i, ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        lock_mark_written(decider->engine->locks, &decider->unit->locks, &decider->names[i], true);
    }
    if (status == STATUS_OK) {
        status = resolve_replace(decider->upstream, decision, ret_error);
        /* A step may still be on its way. */
        decider->unit->undo_broken = status == STATUS_UNREACHABLE;
    }
    return status;
}

static enum status end(struct decider *decider, struct error *ret_error)
{
    unit_state_set(decider->unit, UNIT_COMMITTING);
    enum status status = resolve_end(decider->engine->wal, &decider->decision, ret_error);
    if (status == STATUS_IO) {
        release_end_process("the end of a conflict could not be made durable", decider->unit,
                            status);
    }
    return status;
}

static enum status change(struct decider *decider, struct error *ret_error)
{
    struct resolve_decision *decision = &decider->decision;
    enum status status = resolver_choose(&decider->plan, decider->job->choices, ret_error);
    if (status == STATUS_OK) {
        status = resolve_decide(&decider->plan, decision, ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < decision->write_count; i++) {
        status = decider_lock_keys(decider, &decision->writes[i], ret_error);
    }
    if (status == STATUS_OK && decision->write_count > 0) {
        status = journal(decider, ret_error);
        if (status == STATUS_OK) {
            status = replace(decider, ret_error);
        }
    }
    return status == STATUS_OK ? end(decider, ret_error) : status;
}

/* Under the locks: is it what the operator saw? */
static enum status look_again(struct decider *decider, struct error *ret_error)
{
    char digest[RESOLVER_DIGEST_BYTES];
    resolve_plan_free(&decider->plan);
    enum status status = resolve_look(decider->engine->wal, decider->upstream, decider->job->unit,
                                      RESOLVER_BYTES_MAX, &decider->plan, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    resolver_digest(&decider->plan, digest);
    return strcmp(digest, decider->job->seen) == 0
               ? STATUS_OK
               : error_set(
                     ret_error, STATUS_CONFLICT,
                     "a document has changed since it was shown: nothing was done, look again");
}

/* ------------------------------------------------------------------ the unit */

static enum status make_unit(struct decider *decider, struct error *ret_error)
{
    char application[64];
    (void)snprintf(application, sizeof application, "holdfast resolve %" PRIu64,
                   decider->job->unit);
    struct unit_request request = {
        .user = "",
        .client = "",
        .application = application,
        .id = wal_unit_next(decider->engine->wal),
    };
    decider->unit = unit_table_new_plain(decider->engine->units, &request);
    if (decider->unit == NULL) {
        return error_set(ret_error, STATUS_LIMIT, "unit.maxOpen units are open: try again later");
    }
    decider->unit->boundary = UNIT_BOUNDARY_RESOLVE;
    return STATUS_OK;
}

/* Says after `why` what became of what was begun. */
static enum status tell_taken_back(struct wal *wal, uint64_t id, const struct error *why,
                                   struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + TAKEN_BACK_MS;
    enum wal_unit_state state = rollback_state_of(wal, id);
    while (state == WAL_UNIT_OPEN && why->status != STATUS_UNREACHABLE &&
           clock_monotonic_ms() < until_ms) {
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        state = rollback_state_of(wal, id);
    }
    switch (state) {
    case WAL_UNIT_ABORTED:
        return error_set(ret_error, why->status,
                         "%s: nothing was changed, the unit is still in conflict", why->message);
    case WAL_UNIT_CONFLICT:
        return error_set(ret_error, why->status,
                         "%s; taking the other changes back met a conflict, too: see unit %" PRIu64,
                         why->message, id);
    default:
        return error_set(ret_error, why->status,
                         "%s; what was begun is taken back when the server answers: the unit is "
                         "still in conflict",
                         why->message);
    }
}

/* The unit goes: what it did stays, or is undone by the pool. */
static enum status end_unit(struct decider *decider, enum status status, struct error *ret_error)
{
    struct unit *unit = decider->unit;
    uint64_t id = unit->id;
    if (status == STATUS_OK) {
        unit_state_set(unit, UNIT_COMMITTED);
        release_unit(decider->engine, unit);
        const char *left = unit_table_checkin(decider->engine->units, unit);
        assert(left == NULL); /* an ended unit is always taken back */
        return STATUS_OK;
    }
    bool begun = unit->begun;
    rollback_detached(decider->engine, unit, reason);
    if (!begun) {
        return status;
    }
    struct error why = *ret_error;
    why.status = status;
    return tell_taken_back(decider->engine->wal, id, &why, ret_error);
}

enum status resolver_decide(const struct resolver_options *options, struct upstream *upstream,
                            struct resolver_job *job, struct error *ret_error)
{
    struct decider decider = {
        .options = options, .engine = options->engine, .upstream = upstream, .job = job};
    (void)sem_init(&decider.come, 0, 0);
    enum status status = resolve_look(decider.engine->wal, upstream, job->unit, RESOLVER_BYTES_MAX,
                                      &decider.plan, ret_error);
    if (status == STATUS_OK) {
        status = make_unit(&decider, ret_error);
    }
    if (status == STATUS_OK) {
        if (options->process != NULL) {
            status = server_process_check_upstream(options->process, upstream, ret_error);
        }
        if (status == STATUS_OK) {
            status = decider_lock_documents(&decider, ret_error);
        }
        if (status == STATUS_OK) {
            status = look_again(&decider, ret_error);
        }
        if (status == STATUS_OK) {
            status = change(&decider, ret_error);
        }
        job->changed = decider.decision.write_count;
        status = end_unit(&decider, status, ret_error);
    }
    if (status == STATUS_OK) {
        LOG(LOG_INFO, "unit", "Conflict resolved by an operator", LOG_NUMBER("unit", job->unit),
            LOG_NUMBER("changed", job->changed), LOG_TEXT("choices", job->choices));
    }
    resolve_decision_free(&decider.decision);
    resolve_plan_free(&decider.plan);
    free(decider.names);
    (void)sem_destroy(&decider.come);
    return status;
}
