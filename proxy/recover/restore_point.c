/* Restored databases and journals (restore_point.h). The struct upstream's thread. */

#include "recover/restore_point.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "recover/native.h"
#include "recover/probe.h"
#include "recover/state.h"

#define POLL_MS 200
#define REPLAY_OWNER "holdfast replay"

/* ------------------------------------------------------------------ reading */

/* What a replay has left. */
struct note {
    bool exists;
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    uint64_t lsn;
    bool whole;
};

static void take_note(const bson_t *document, void *context)
{
    struct note *note = context;
    bson_iter_t at;
    note->exists = true;
    if (bson_iter_init_find(&at, document, "journal") && BSON_ITER_HOLDS_UTF8(&at)) {
        (void)snprintf(note->journal, sizeof(note->journal), "%s", bson_iter_utf8(&at, NULL));
    }
    if (bson_iter_init_find(&at, document, "throughLsn") && bson_iter_as_int64(&at) > 0) {
        note->lsn = (uint64_t)bson_iter_as_int64(&at);
    }
    if (bson_iter_init_find(&at, document, "whole")) {
        note->whole = bson_iter_as_bool(&at);
    }
}

static enum status read_replay_note(struct upstream *upstream, struct note *ret_note,
                                    struct error *ret_error)
{
    struct note note = {0};
    enum status status = state_find(upstream, "replay", take_note, &note, ret_error);
    if (status == STATUS_OK) {
        *ret_note = note;
    }
    return status;
}

static bool is_living(const struct lease_state *lease)
{
    return lease->exists && !lease->clean && lease->age_ms < (int64_t)LEASE_VALID_MS;
}

static void judge_lease(struct restore_point *point)
{
    point->lease_ours = point->lease.exists && strcmp(point->lease.journal, point->journal) == 0;
    point->living = is_living(&point->lease);
}

/* The newest of what the database tells. */
static void prove(struct restore_point *point, const char *journal, uint64_t lsn)
{
    if (lsn > 0 && strcmp(journal, point->journal) == 0) {
        point->proven = true;
        point->backup_lsn = lsn > point->backup_lsn ? lsn : point->backup_lsn;
    }
}

static enum status read_identity(struct upstream *upstream, struct wal *wal,
                                 struct restore_point *point, struct error *ret_error)
{
    struct state_identity server = {0};
    uint8_t ours[12];
    size_t size = 0;
    enum status status = state_read_identity(upstream, &server, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    point->identity_exists = server.exists;
    status = wal_property_get(wal, LEASE_PROPERTY_IDENTITY, ours, sizeof(ours), &size, ret_error);
    if (status == STATUS_OK) {
        point->identity_ours =
            server.exists && size == sizeof(ours) && memcmp(ours, server.id, sizeof(ours)) == 0;
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status restore_point_read(struct upstream *upstream, struct wal *wal,
                               struct restore_point *ret_point, struct error *ret_error)
{
    struct restore_point point = {0};
    struct wal_statistics figures;
    struct probe probe = {0};
    struct note replay = {0};
    lease_journal_text(wal_journal_id(wal), point.journal);
    enum status status = native_refuse_replay(wal, ret_error);
    if (status == STATUS_OK) {
        status = wal_statistics_get(wal, &figures, ret_error);
    }
    if (status == STATUS_OK) {
        status = read_identity(upstream, wal, &point, ret_error);
    }
    if (status == STATUS_OK) {
        status = lease_read(upstream, &point.lease, ret_error);
    }
    if (status == STATUS_OK) {
        status = probe_read(upstream, &probe, ret_error);
    }
    if (status == STATUS_OK) {
        status = read_replay_note(upstream, &replay, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    judge_lease(&point);
    if (point.lease.exists && point.lease.last_lsn >= 0) {
        prove(&point, point.lease.journal, (uint64_t)point.lease.last_lsn);
    }
    if (probe.exists) {
        prove(&point, probe.journal, probe.lsn);
    }
    point.replayed = replay.exists && strcmp(replay.journal, point.journal) == 0;
    point.replayed_whole = point.replayed && replay.whole;
    if (point.replayed) {
        point.identity_ours = point.identity_exists;
        prove(&point, replay.journal, replay.lsn);
    }
    point.pruned_lsn = figures.pruned_lsn;
    point.last_lsn = figures.last_lsn;
    point.units_open = figures.units_open;
    *ret_point = point;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the lease */

static enum status refuse_living(const struct lease_state *lease, struct error *ret_error)
{
    return error_set(ret_error, STATUS_OWNED,
                     "this database is being served by %.120s (host %.100s, pid %d), which renewed "
                     "its lease %" PRId64 " ms ago: stop that first",
                     lease->owner[0] == '\0' ? "a proxy" : lease->owner, lease->host, lease->pid,
                     lease->age_ms);
}

static enum status take(struct upstream *upstream, struct wal *wal,
                        const struct restore_point *point, struct lease *lease, bool *ret_taken,
                        struct error *ret_error)
{
    char host[256] = "";
    if (gethostname(host, sizeof(host) - 1) != 0) {
        host[0] = '\0';
    }
    struct state_owner owner = {
        .journal = point->journal,
        .epoch = point->lease.epoch + 1,
        .owner = REPLAY_OWNER,
        .host = host,
        .pid = (int32_t)getpid(),
        .last_lsn = (int64_t)point->backup_lsn,
        .place = wal_place(wal),
    };
    lease->place = *wal_place(wal);
    memcpy(lease->journal, point->journal, sizeof(lease->journal));
    lease->epoch = owner.epoch;
    return state_take_lease(upstream, &point->lease, &owner, ret_taken, ret_error);
}

enum status restore_point_take(struct upstream *upstream, struct wal *wal, uint64_t wait_ms,
                               struct restore_point *point, struct lease *ret_lease,
                               struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    struct lease lease = {0};
    bool taken = false;
    while (!taken) {
        enum status status = lease_read(upstream, &point->lease, ret_error);
        if (status == STATUS_OK && !is_living(&point->lease)) {
            status = take(upstream, wal, point, &lease, &taken, ret_error);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (!taken && clock_monotonic_ms() >= until_ms) {
            return refuse_living(&point->lease, ret_error);
        }
        if (!taken) {
            (void)nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
        }
    }
    judge_lease(point);
    *ret_lease = lease;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ the marks */

static enum status set_fields(struct upstream *upstream, const char *id, const bson_t *set,
                              struct error *ret_error)
{
    bson_t query = BSON_INITIALIZER;
    bson_t change = BSON_INITIALIZER;
    const struct state_update update = {
        .query = &query, .change = &change, .upsert = true, .durable = true};
    int64_t matched;
    BSON_APPEND_UTF8(&query, "_id", id);
    BSON_APPEND_DOCUMENT(&change, "$set", set);
    enum status status = state_update_run(upstream, &update, &matched, ret_error);
    bson_destroy(&query);
    bson_destroy(&change);
    return status;
}

/* The journal's own, or a new one: see the header. */
static enum status set_identity(struct upstream *upstream, struct wal *wal, bool whole,
                                struct error *ret_error)
{
    bson_t set = BSON_INITIALIZER;
    bson_oid_t id;
    uint8_t bytes[12];
    size_t size = 0;
    enum status status = STATUS_OK;
    bson_oid_init(&id, NULL);
    if (whole) {
        status =
            wal_property_get(wal, LEASE_PROPERTY_IDENTITY, bytes, sizeof(bytes), &size, ret_error);
        if (status == STATUS_OK && size == sizeof(bytes)) {
            bson_oid_init_from_data(&id, bytes);
        }
    }
    if (status == STATUS_OK || status == STATUS_NOT_FOUND) {
        BSON_APPEND_OID(&set, "id", &id);
        status = set_fields(upstream, "identity", &set, ret_error);
    }
    bson_destroy(&set);
    return status;
}

/* What a recovery would find missing since the backup is there now. */
static enum status set_probe(struct upstream *upstream, const struct lease *lease,
                             uint64_t through_lsn, struct error *ret_error)
{
    struct probe probe = {0};
    enum status status = probe_read(upstream, &probe, ret_error);
    if (status == STATUS_OK) {
        memcpy(probe.journal, lease->journal, sizeof(probe.journal));
        probe.epoch = lease->epoch;
        probe.number++;
        probe.lsn = through_lsn;
        probe.has_process = false; /* whoever comes next shall take it for a restart, and look */
        status = probe_make(upstream, &probe, ret_error);
    }
    return status;
}

enum status restore_point_leave(struct upstream *upstream, const struct restore_point *point,
                                const struct lease *lease, struct error *ret_error)
{
    return lease_release(upstream, lease, point->backup_lsn, (uint32_t)point->units_open, false,
                         ret_error);
}

enum status restore_point_finish(struct upstream *upstream, struct wal *wal,
                                 const struct restore_point *point, const struct lease *lease,
                                 uint64_t through_lsn, bool whole, struct error *ret_error)
{
    bson_t set = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&set, "journal", point->journal);
    BSON_APPEND_INT64(&set, "throughLsn", (int64_t)through_lsn);
    BSON_APPEND_BOOL(&set, "whole", whole);
    BSON_APPEND_DATE_TIME(&set, "at", (int64_t)clock_wall_ms());
    /* First the note, which says why the identity is another one. */
    enum status status = set_fields(upstream, "replay", &set, ret_error);
    if (status == STATUS_OK) {
        status = set_identity(upstream, wal, whole, ret_error);
    }
    if (status == STATUS_OK) {
        status = set_probe(upstream, lease, through_lsn, ret_error);
    }
    if (status == STATUS_OK) {
        status = lease_release(upstream, lease, through_lsn, (uint32_t)point->units_open,
                               point->units_open == 0, ret_error);
    }
    bson_destroy(&set);
    return status;
}
