/*
 * Claim and recovery of a native journal (native.h).
 *
 * Invariant: a unit's end is written only after the server has said it, or an operator; what the
 * server cannot say now is left as it is.
 *
 * Threads: the caller's, which owns the struct upstream.
 */
#include "recover/native.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/memory.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "recover/lease.h"
#include "recover/native_left.h"
#include "upstream/transaction.h"

#define ENGINE_NAME "native"
/* A server that is just electing its primary is asked again so often, for some seconds. */
#define ASK_TIMES 40u
#define ASK_PAUSE_MS 250u
#define SESSION_MINUTES_DEFAULT 30

/* ------------------------------------------------------------------ the server */

static enum status learn_process(struct upstream *upstream, struct native_server *server,
                                 struct error *ret_error)
{
    struct upstream_description description;
    enum status status = upstream_describe(upstream, &description, ret_error);
    if (status == STATUS_OK) {
        int64_t minutes =
            description.session_minutes > 0 ? description.session_minutes : SESSION_MINUTES_DEFAULT;
        server->session_ms = (uint64_t)minutes * 60 * 1000;
        server->has_process =
            description.has_process_id && description.topology != UPSTREAM_SHARDED;
        memcpy(server->process, description.process_id, sizeof server->process);
    }
    return status;
}

enum status native_server_learn(struct upstream *upstream, struct native_server *ret_server,
                                struct error *ret_error)
{
    struct native_server server = {0};
    struct upstream_memory memory = {0};
    enum status status = learn_process(upstream, &server, ret_error);
    if (status == STATUS_OK) {
        status = upstream_learn_memory(upstream, &memory, ret_error);
    }
    if (status == STATUS_OK) {
        server.keeps_transactions = memory.keeps;
        server.tells_older = memory.tells_older;
        *ret_server = server;
    }
    return status;
}

bool native_is_conclusive(const struct native_server *server,
                          const struct record_committing *committing)
{
    return server->keeps_transactions ||
           (server->tells_older && server->has_process && committing->process != NULL &&
            memcmp(server->process, committing->process, sizeof server->process) == 0);
}

/* ------------------------------------------------------------------ the claim */

enum status native_journal_is(struct wal *wal, bool *ret_native, struct error *ret_error)
{
    char name[sizeof ENGINE_NAME] = "";
    size_t size = 0;
    enum status status =
        wal_property_get(wal, NATIVE_PROPERTY_ENGINE, name, sizeof name - 1, &size, ret_error);
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        *ret_native = status == STATUS_OK && strcmp(name, ENGINE_NAME) == 0;
        return STATUS_OK;
    }
    return status;
}

enum status native_refuse(struct wal *wal, struct error *ret_error)
{
    bool native = false;
    enum status status = native_journal_is(wal, &native, ret_error);
    if (status == STATUS_OK && native) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "this is a journal of the native engine: the journaled one needs a "
                         "directory of its own (wal.directory), or unit.engine=native");
    }
    return status;
}

enum status native_refuse_replay(struct wal *wal, struct error *ret_error)
{
    bool native = false;
    enum status status = native_journal_is(wal, &native, ret_error);
    if (status == STATUS_OK && native) {
        return error_set(ret_error, STATUS_UNSUPPORTED,
                         "a journal of the native engine holds no images: there is nothing to "
                         "bring a backup forward with. Use the server's own oplog");
    }
    return status;
}

/* Of another engine's it would be a mixture: that one restores images in the order of its LSNs. */
static enum status claim_journal(struct wal *wal, bool look_only, struct error *ret_error)
{
    uint8_t epoch[8];
    size_t size = 0;
    bool native = false;
    enum status status = native_journal_is(wal, &native, ret_error);
    if (status != STATUS_OK || native) {
        return status;
    }
    status = wal_property_get(wal, LEASE_PROPERTY_EPOCH, epoch, sizeof epoch, &size, ret_error);
    if (status == STATUS_OK) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "this is a journal of the journaled engine: the native one needs a "
                         "directory of its own (wal.directory), or unit.engine=journaled");
    }
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    return look_only
               ? STATUS_OK
               : wal_property_set(wal, NATIVE_PROPERTY_ENGINE, slice_text(ENGINE_NAME), ret_error);
}

/* Its locks are its own: this engine's transactions would pass them by. */
static enum status check_lease(struct upstream *upstream, const char *takeover,
                               struct error *ret_error)
{
    struct lease_state lease;
    enum status status = lease_read(upstream, &lease, ret_error);
    if (status != STATUS_OK || !lease.exists || lease.clean ||
        (takeover != NULL && strcasecmp(takeover, lease.journal) == 0)) {
        return status;
    }
    if (lease.age_ms < (int64_t)LEASE_VALID_MS) {
        return error_set(ret_error, STATUS_OWNED,
                         "a proxy with the journaled engine serves this server: journal %s, %s on "
                         "%s, pid %d. Stop it first",
                         lease.journal, lease.owner, lease.host, lease.pid);
    }
    return error_set(ret_error, STATUS_FOREIGN,
                     "a proxy with the journaled engine has left this server without an end "
                     "(journal %s, on %s): its units may be half done. Recover that journal first "
                     "(holdfast recover), or say with --set upstream.takeover=%s that it is dead",
                     lease.journal, lease.host, lease.journal);
}

enum status native_claim(struct wal *wal, struct upstream *upstream, const char *takeover,
                         bool look_only, struct error *ret_error)
{
    struct lease_options options = {.takeover = takeover, .look_only = look_only};
    enum status status = check_lease(upstream, takeover, ret_error);
    if (status == STATUS_OK) {
        status = claim_journal(wal, look_only, ret_error);
    }
    return status == STATUS_OK ? lease_identify(upstream, wal, &options, ret_error) : status;
}

/* ------------------------------------------------------------------ asking */

const char *native_conflict_reason(enum commit_verdict verdict, bool too_old)
{
    if (too_old) {
        return "outcome unknown: the commit is older than the server's memory of its session";
    }
    return verdict == COMMIT_FORBIDDEN
               ? "outcome unknown: the proxy's own user may not name the session of another user "
                 "(privilege impersonate on the cluster)"
               : "outcome unknown: the server cannot tell any more whether it committed this";
}

enum status native_ask(struct upstream *upstream, const struct native_server *server,
                       const char *user, struct slice committing_payload,
                       enum commit_verdict *ret_verdict, int32_t *ret_code, struct error *ret_error)
{
    struct record_committing committing;
    bson_t reply;
    enum status status = record_get_committing(committing_payload, &committing, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (strstr(user, "(unknown mechanism)") != NULL) { /* its session cannot be named */
        *ret_verdict = COMMIT_FORBIDDEN;
        *ret_code = 13; /* Unauthorized: its client has to ask */
        return STATUS_OK;
    }
    const struct upstream_transaction transaction = {
        .lsid = committing.lsid,
        .number = committing.transaction_number,
        .recovery_token = committing.recovery_token,
        .api = committing.api,
        .user = user,
    };
    status = upstream_commit_again(upstream, &transaction, &reply, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct native_server now = *server;
    if (!now.keeps_transactions) {
        status = learn_process(upstream, &now, ret_error); /* who has answered, at the latest */
    }
    if (status == STATUS_OK) {
        const struct commit_asked asked = {
            .again = true,
            .conclusive = native_is_conclusive(&now, &committing),
        };
        *ret_verdict =
            commit_verdict(slice_make(bson_get_data(&reply), reply.len), &asked, ret_code);
    }
    bson_destroy(&reply);
    return status;
}

/* Until it has an answer. */
static enum status ask_long(struct upstream *upstream, const struct native_server *server,
                            const struct unit_history *history, enum commit_verdict *ret_verdict,
                            struct error *ret_error)
{
    int32_t code = 0;
    *ret_verdict = COMMIT_OPEN;
    for (unsigned i = 0; i < ASK_TIMES && *ret_verdict == COMMIT_OPEN; i++) {
        if (i > 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = ASK_PAUSE_MS * 1000000L}, NULL);
        }
        enum status status = native_ask(upstream, server, history->begin.user, history->committing,
                                        ret_verdict, &code, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return *ret_verdict != COMMIT_OPEN
               ? STATUS_OK
               : error_set(ret_error, STATUS_UNREACHABLE,
                           "the server cannot say now how the transaction ended (code %d)", code);
}

/* ------------------------------------------------------------------ recovery */

struct recovering {
    struct wal *wal;
    struct upstream *upstream;
    const struct native_recovery_options *options;
    struct native_report *report;
    struct native_server server;
    struct native_left left;
    uint64_t *units;
    size_t count;
};

static enum status list_units(struct recovering *recovering, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit = {0};
    size_t capacity = 0;
    enum status status = wal_reader_begin(recovering->wal, &reader, ret_error);
    while (status == STATUS_OK) {
        status = wal_read_open_next(reader, unit.unit, &unit, ret_error);
        if (status == STATUS_OK && unit.state == WAL_UNIT_CONFLICT) {
            recovering->report->conflicts_left++;
        } else if (status == STATUS_OK) {
            uint64_t *more = memory_reserve(recovering->units, recovering->count, &capacity,
                                            sizeof *recovering->units);
            if (more == NULL) {
                status = error_set(ret_error, STATUS_MEMORY, "out of memory for a list of units");
                break;
            }
            recovering->units = more;
            recovering->units[recovering->count++] = unit.unit;
        }
    }
    wal_reader_end(reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status append_end(struct wal *wal, uint64_t unit, enum wal_kind kind,
                              const char *reason, struct slice reply, struct error *ret_error)
{
    bson_t payload = BSON_INITIALIZER;
    if (kind == WAL_KIND_COMMIT) {
        record_put_commit(&payload, NULL, 0, reply);
    } else if (kind == WAL_KIND_ABORT) {
        record_put_abort(&payload, reason);
    } else {
        record_put_conflict(&payload, reason, NULL, 0);
    }
    struct wal_append append = {
        .kind = kind, .unit = unit, .payload = slice_make(bson_get_data(&payload), payload.len)};
    enum status status = wal_append_wait(wal, &append, ret_error);
    bson_destroy(&payload);
    return status;
}

static enum status end_unit(struct recovering *recovering, const struct unit_history *history,
                            enum commit_verdict verdict, struct error *ret_error)
{
    struct native_report *report = recovering->report;
    struct native_unit done = {.history = history, .state = WAL_UNIT_CONFLICT};
    enum wal_kind kind = WAL_KIND_CONFLICT;
    bool too_old =
        verdict == COMMIT_LOST &&
        commit_is_too_old(history->last_time_ms, clock_wall_ms(), recovering->server.session_ms);
    struct record_committing committing = {0};
    if (verdict == COMMIT_COMMITTED) {
        kind = WAL_KIND_COMMIT;
        done.state = WAL_UNIT_COMMITTED;
    } else if (verdict == COMMIT_LOST && !too_old) {
        kind = WAL_KIND_ABORT;
        done.state = WAL_UNIT_ABORTED;
        done.reason = "the server has no such transaction: it was never acknowledged";
    } else {
        done.reason = native_conflict_reason(verdict, too_old);
    }
    CRASH_POINT(native_asked);
    enum status status = record_get_committing(history->committing, &committing, ret_error);
    if (status == STATUS_OK) {
        status = append_end(recovering->wal, history->unit, kind, done.reason, committing.reply,
                            ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    report->committed += done.state == WAL_UNIT_COMMITTED ? 1 : 0;
    report->lost += done.state == WAL_UNIT_ABORTED ? 1 : 0;
    report->conflicts_new += done.state == WAL_UNIT_CONFLICT ? 1 : 0;
    report->conflicts_left += done.state == WAL_UNIT_CONFLICT ? 1 : 0;
    if (recovering->options->unit_done != NULL) {
        recovering->options->unit_done(&done, recovering->options->context);
    }
    return STATUS_OK;
}

/* No commit was sent: what the server still has of it is aborted. */
static enum status end_open(struct recovering *recovering, const struct unit_history *history,
                            struct error *ret_error)
{
    static const char reason[] = "it was open when the proxy ended";
    struct native_unit done = {.history = history, .state = WAL_UNIT_ABORTED, .reason = reason};
    enum status status = STATUS_OK;
    if (!recovering->options->dry_run) {
        done.left = native_left_abort(&recovering->left, history);
        CRASH_POINT(native_asked);
        status = append_end(recovering->wal, history->unit, WAL_KIND_ABORT, reason,
                            (struct slice){0}, ret_error);
    }
    if (status == STATUS_OK) {
        recovering->report->rolled_back++;
        if (recovering->options->unit_done != NULL) {
            recovering->options->unit_done(&done, recovering->options->context);
        }
    }
    return status;
}

static enum status recover_unit(struct recovering *recovering, uint64_t unit,
                                struct error *ret_error)
{
    struct unit_history *history = NULL;
    enum commit_verdict verdict = COMMIT_OPEN;
    enum status status = unit_history_load(recovering->wal, unit, &history, ret_error);
    if (status == STATUS_OK && history->state == WAL_UNIT_OPEN) {
        status = end_open(recovering, history, ret_error);
        unit_history_free(history);
        return status;
    }
    if (status == STATUS_OK && recovering->options->dry_run) {
        struct native_unit left = {.history = history, .state = WAL_UNIT_COMMITTING};
        recovering->report->not_asked++;
        if (recovering->options->unit_done != NULL) {
            recovering->options->unit_done(&left, recovering->options->context);
        }
        unit_history_free(history);
        return STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = ask_long(recovering->upstream, &recovering->server, history, &verdict, ret_error);
    }
    if (status == STATUS_OK) {
        status = end_unit(recovering, history, verdict, ret_error);
    }
    unit_history_free(history);
    return status == STATUS_OK ? STATUS_OK : error_prefix(ret_error, "unit %" PRIu64, unit);
}

enum status native_recover(struct wal *wal, struct upstream *upstream,
                           const struct native_recovery_options *options,
                           struct native_report *ret_report, struct error *ret_error)
{
    struct recovering recovering = {
        .wal = wal, .upstream = upstream, .options = options, .report = ret_report};
    *ret_report = (struct native_report){0};
    enum status status = list_units(&recovering, ret_error);
    if (status == STATUS_OK && recovering.count > 0 && !options->dry_run) {
        status = native_server_learn(upstream, &recovering.server, ret_error);
    }
    if (status == STATUS_OK && !options->dry_run) {
        status = native_left_begin(wal, upstream, &recovering.left, ret_error);
    }
    for (size_t i = 0; status == STATUS_OK && i < recovering.count; i++) {
        status = recover_unit(&recovering, recovering.units[i], ret_error);
    }
    if (status == STATUS_OK && !options->dry_run) {
        status = native_left_end(wal, &recovering.left, ret_error);
    }
    free(recovering.units);
    return status;
}
