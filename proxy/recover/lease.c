/*
 * The rules of ownership (lease.h).
 *
 *   journal's identity   server's identity   lease                         answer
 *   none                 any                 none                          take
 *   same                 same                ours, fresh, not our lock     OWNED (wait)
 *   same                 same                ours, LSN or epoch newer      FOREIGN: stale copy
 *   same                 same                ours, unclean, another file   FOREIGN unless vouched
 *   same                 same                ours, else                    take
 *   same                 none                                              FOREIGN unless vouched
 *                                                                          or the journal is empty
 *   same                 other                                             FOREIGN
 *   none or same         same                another's, clean, aged        take
 *   none or same         same                another's, clean, young       FOREIGN unless vouched
 *   none or same         same                another's, fresh              OWNED (wait)
 *   none or same         same                another's, old                FOREIGN unless vouched
 *
 * Our own lease needs no waiting if its owner worked on this very file under this kernel: the
 * journal's lock, which we hold, proves that it is dead. A copy of the journal has a lock of its
 * own, and a disk that was attached elsewhere has another kernel's.
 *
 * An owner that died left no word of what it wrote last: the lease is some seconds older. The file
 * that it worked on has it all. Whether a copy has, depends on when it was made; a copy that misses
 * a COMMIT would undo what was acknowledged. So it is refused until somebody vouches, but for one
 * thing: of a clean end the lease has the last LSN, and a copy that reaches it is whole.
 *
 * The epoch that a journal remembers is that of the lease, or a lower one if its owner died between
 * the two (see "Order"), and then nothing was appended. If anything was, then by somebody else on
 * another copy.
 *
 * A journal that was closed cleanly has no open unit, but for half an hour (a session's timeout) a
 * driver may still ask again for the outcome of a commit that only that journal remembers. Until
 * then another journal in its place is more likely a mistake than a wish.
 *
 * Order: the lease is taken first, then the journal remembers identity and epoch. A crash between
 * the two leaves a lease that is ours and a journal that takes it again.
 *
 * Threads: those of the struct upstream.
 */

#include "recover/lease.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "recover/state.h"

#define POLL_MS 100
#define TAKE_TRIES 10

void lease_journal_text(const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                        char ret_text[LEASE_JOURNAL_TEXT_BYTES])
{
    for (size_t i = 0; i < WAL_JOURNAL_ID_BYTES; i++) {
        snprintf(ret_text + 2 * i, 3, "%02x", journal_id[i]);
    }
}

/* All that the rules look at. */
struct claim {
    struct upstream *upstream;
    struct wal *wal;
    const struct lease_options *options;
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    char host[256];
    bool journal_has_identity;
    uint8_t journal_identity[12];
    int64_t journal_epoch;
    struct state_identity server_identity;
    struct lease_state lease;
};

static bool vouched_for(const struct claim *claim, const char *journal)
{
    const char *takeover = claim->options->takeover;
    return takeover != NULL && takeover[0] != '\0' && strcasecmp(takeover, journal) == 0;
}

static enum status claim_read_journal(struct claim *claim, struct error *ret_error)
{
    uint8_t epoch[8];
    size_t size = 0;
    enum status status =
        wal_property_get(claim->wal, LEASE_PROPERTY_IDENTITY, claim->journal_identity,
                         sizeof(claim->journal_identity), &size, ret_error);
    if (status == STATUS_OK && size != sizeof(claim->journal_identity)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the journal's property " LEASE_PROPERTY_IDENTITY " has %zu bytes", size);
    }
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return status;
    }
    claim->journal_has_identity = status == STATUS_OK;
    status =
        wal_property_get(claim->wal, LEASE_PROPERTY_EPOCH, epoch, sizeof(epoch), &size, ret_error);
    if (status == STATUS_OK && size != sizeof(epoch)) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "the journal's property " LEASE_PROPERTY_EPOCH " has %zu bytes", size);
    }
    if (status == STATUS_OK) {
        claim->journal_epoch = (int64_t)slice_load_u64be(epoch);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status check_identity(struct claim *claim, struct error *ret_error)
{
    enum status status = state_read_identity(claim->upstream, &claim->server_identity, ret_error);
    if (status != STATUS_OK || !claim->journal_has_identity) {
        return status;
    }
    if (!claim->server_identity.exists) {
        /* An empty journal has nothing to lose: the server forgot what was written to it last,
           which a server may after a crash. */
        if (vouched_for(claim, claim->journal) || wal_last_lsn(claim->wal) == 0) {
            return STATUS_OK;
        }
        return error_set(
            ret_error, STATUS_FOREIGN,
            "this journal belongs to a database that the server does not know: it is another "
            "database's, or this one was emptied or restored from a dump. If the "
            "journal does belong here, say so with --set upstream.takeover=%s; "
            "otherwise use an empty journal directory",
            claim->journal);
    }
    if (memcmp(claim->journal_identity, claim->server_identity.id,
               sizeof(claim->journal_identity)) != 0) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "this is the journal of another database: check --wal and --upstream. "
                         "For a new database use an empty journal directory");
    }
    return STATUS_OK;
}

enum verdict {
    VERDICT_TAKE,
    VERDICT_WAIT,   /* it still looks alive */
    VERDICT_REFUSE, /* the error is set */
};

/* Ours by its name; but are we the ones who wrote it, and do we know all that it knows? */
static enum verdict judge_own(const struct claim *claim, struct error *ret_error)
{
    const struct lease_state *lease = &claim->lease;
    uint64_t last_lsn = wal_last_lsn(claim->wal);
    const struct wal_place *place = wal_place(claim->wal);
    bool fresh = !lease->clean && lease->age_ms < (int64_t)LEASE_VALID_MS;
    bool same_file = place->file[0] != '\0' && strcmp(lease->place.file, place->file) == 0;
    bool our_lock =
        same_file && place->host[0] != '\0' && strcmp(lease->place.host, place->host) == 0;
    bool others_since =
        claim->journal_epoch < lease->epoch && (uint64_t)lease->last_lsn != last_lsn;
    if (fresh && !our_lock) {
        return VERDICT_WAIT;
    }
    if ((lease->last_lsn > 0 && (uint64_t)lease->last_lsn > last_lsn) || others_since) {
        error_set(ret_error, STATUS_FOREIGN,
                  "stale copy of the journal: it ends at LSN %" PRIu64
                  ", the database has seen LSN %" PRId64
                  ", of another copy or before the end of this one was lost. Use the newest "
                  "journal. If that is lost, start with an empty journal "
                  "directory and --set upstream.takeover=%s; units that were open then stay as "
                  "they are",
                  last_lsn, lease->last_lsn, claim->journal);
        return VERDICT_REFUSE;
    }
    if (!lease->clean && !same_file && !vouched_for(claim, claim->journal)) {
        error_set(
            ret_error, STATUS_FOREIGN,
            "this is a copy of the journal, and its last owner (%.100s on host %.60s) did not "
            "end cleanly: what it wrote last is perhaps not in here. If it was copied after "
            "that one had ended, say so with --set upstream.takeover=%s; otherwise use the "
            "original",
            lease->owner, lease->host, claim->journal);
        return VERDICT_REFUSE;
    }
    return VERDICT_TAKE;
}

static enum verdict judge(const struct claim *claim, struct error *ret_error)
{
    const struct lease_state *lease = &claim->lease;
    if (!lease->exists) {
        return VERDICT_TAKE;
    }
    if (strcmp(lease->journal, claim->journal) == 0) {
        return judge_own(claim, ret_error);
    }
    if (lease->clean && lease->age_ms >= (int64_t)LEASE_REMEMBERED_MS) {
        return VERDICT_TAKE;
    }
    if (!lease->clean && lease->age_ms < (int64_t)LEASE_VALID_MS) {
        return VERDICT_WAIT;
    }
    if (vouched_for(claim, lease->journal)) {
        return VERDICT_TAKE;
    }
    if (lease->clean) {
        error_set(ret_error, STATUS_FOREIGN,
                  "this database was last served with another journal (%s, by %.100s on host "
                  "%.60s), which still answers for its commits. Use that journal; or, to go on "
                  "with this one at once, vouch with --set upstream.takeover=%s",
                  lease->journal, lease->owner, lease->host, lease->journal);
        return VERDICT_REFUSE;
    }
    error_set(ret_error, STATUS_FOREIGN,
              "another journal (%s, of %.100s on host %.60s, %d units open) was in use here and "
              "did not end cleanly: its open units must be rolled back first. Run holdfast "
              "recover with that journal; or, if it is lost, vouch with "
              "--set upstream.takeover=%s",
              lease->journal, lease->owner, lease->host, lease->units_open, lease->journal);
    return VERDICT_REFUSE;
}

static enum status owned_error(const struct lease_state *lease, struct error *ret_error)
{
    return error_set(ret_error, STATUS_OWNED,
                     "the database is in use by %.120s (host %.100s, pid %d, journal %s), which "
                     "renewed its lease %" PRId64 " ms ago. A server has one holdfastd: stop that "
                     "one first; if it is dead, wait some seconds",
                     lease->owner[0] == '\0' ? "another proxy" : lease->owner, lease->host,
                     lease->pid, lease->journal, lease->age_ms);
}

static int64_t next_epoch(const struct claim *claim)
{
    int64_t highest = claim->lease.epoch;
    if (claim->journal_epoch > highest) {
        highest = claim->journal_epoch;
    }
    return highest + 1;
}

static enum status take(struct claim *claim, int64_t epoch, bool *ret_taken,
                        struct error *ret_error)
{
    struct state_owner owner = {
        .journal = claim->journal,
        .epoch = epoch,
        .owner = claim->options->owner == NULL ? "" : claim->options->owner,
        .host = claim->host,
        .pid = (int32_t)getpid(),
        .last_lsn = (int64_t)wal_last_lsn(claim->wal),
        .place = wal_place(claim->wal),
    };
    return state_take_lease(claim->upstream, &claim->lease, &owner, ret_taken, ret_error);
}

static void sleep_ms(long milliseconds)
{
    struct timespec pause = {.tv_sec = milliseconds / 1000,
                             .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Reads and judges until the lease is ours, refused, or alive for longer than wait_ms. */
static enum status contend(struct claim *claim, int64_t *ret_epoch, struct error *ret_error)
{
    uint64_t until = clock_monotonic_ms() + claim->options->wait_ms;
    int64_t seen_ms = 0; /* the renewal that we wait to grow old */
    for (unsigned int tries = 0; tries < TAKE_TRIES;) {
        struct error error = {0};
        bool taken = false;
        enum status status = lease_read(claim->upstream, &claim->lease, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        enum verdict verdict = judge(claim, &error);
        if (verdict == VERDICT_REFUSE) {
            return error_set(ret_error, error.status, "%s", error.message);
        }
        if (verdict == VERDICT_WAIT) {
            bool renewed = seen_ms != 0 && claim->lease.renewed_at_ms != seen_ms;
            if (renewed || clock_monotonic_ms() >= until) {
                return owned_error(&claim->lease, ret_error);
            }
            seen_ms = claim->lease.renewed_at_ms;
            sleep_ms(POLL_MS);
            continue;
        }
        if (claim->options->look_only) {
            *ret_epoch = 0;
            return STATUS_OK;
        }
        int64_t epoch = next_epoch(claim);
        status = take(claim, epoch, &taken, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (taken) {
            *ret_epoch = epoch;
            return STATUS_OK;
        }
        tries++;
    }
    return owned_error(&claim->lease, ret_error);
}

static enum status settle_identity(struct claim *claim, struct error *ret_error)
{
    uint8_t id[12];
    if (claim->server_identity.exists || claim->options->look_only) {
        return STATUS_OK;
    }
    if (claim->journal_has_identity) {
        memcpy(id, claim->journal_identity, sizeof(id)); /* vouched for */
    } else {
        bson_oid_t fresh;
        bson_oid_init(&fresh, NULL);
        memcpy(id, fresh.bytes, sizeof(id));
    }
    enum status status =
        state_make_identity(claim->upstream, id, &claim->server_identity, ret_error);
    if (status == STATUS_OK && !claim->server_identity.exists) {
        return error_set(ret_error, STATUS_FOREIGN,
                         "the document `identity` of " UPSTREAM_OWN_DATABASE
                         ".state is not one of Holdfast");
    }
    if (status == STATUS_OK && claim->journal_has_identity &&
        memcmp(claim->server_identity.id, claim->journal_identity, sizeof(id)) != 0) {
        return error_set(ret_error, STATUS_FOREIGN, "this is the journal of another database");
    }
    return status;
}

static enum status remember_identity(struct claim *claim, struct error *ret_error)
{
    struct slice id = slice_make(claim->server_identity.id, sizeof(claim->server_identity.id));
    return claim->journal_has_identity
               ? STATUS_OK
               : wal_property_set(claim->wal, LEASE_PROPERTY_IDENTITY, id, ret_error);
}

static enum status remember(struct claim *claim, int64_t epoch, struct error *ret_error)
{
    uint8_t bytes[8];
    enum status status = remember_identity(claim, ret_error);
    if (status == STATUS_OK) {
        slice_store_u64be(bytes, (uint64_t)epoch);
        status = wal_property_set(claim->wal, LEASE_PROPERTY_EPOCH,
                                  slice_make(bytes, sizeof(bytes)), ret_error);
    }
    return status;
}

static struct claim claim_make(struct upstream *upstream, struct wal *wal,
                               const struct lease_options *options)
{
    struct claim claim = {.upstream = upstream, .wal = wal, .options = options};
    lease_journal_text(wal_journal_id(wal), claim.journal);
    if (gethostname(claim.host, sizeof(claim.host) - 1) != 0) {
        claim.host[0] = '\0';
    }
    return claim;
}

/* What the journal and the server say of the database: it must be the same. */
static enum status claim_check(struct claim *claim, struct error *ret_error)
{
    enum status status = claim_read_journal(claim, ret_error);
    return status == STATUS_OK ? check_identity(claim, ret_error) : status;
}

enum status lease_identify(struct upstream *upstream, struct wal *wal,
                           const struct lease_options *options, struct error *ret_error)
{
    struct claim claim = claim_make(upstream, wal, options);
    enum status status = claim_check(&claim, ret_error);
    if (status == STATUS_OK) {
        status = settle_identity(&claim, ret_error);
    }
    return status == STATUS_OK && !options->look_only ? remember_identity(&claim, ret_error)
                                                      : status;
}

enum status lease_acquire(struct upstream *upstream, struct wal *wal,
                          const struct lease_options *options, struct lease *ret_lease,
                          struct error *ret_error)
{
    struct claim claim = claim_make(upstream, wal, options);
    struct lease lease = {0};
    enum status status = claim_check(&claim, ret_error);
    if (status == STATUS_OK) {
        status = contend(&claim, &lease.epoch, ret_error);
    }
    if (status == STATUS_OK) {
        status = settle_identity(&claim, ret_error);
    }
    if (status == STATUS_OK && !options->look_only) {
        status = remember(&claim, lease.epoch, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(lease.journal, claim.journal, sizeof(lease.journal));
    lease.place = *wal_place(wal);
    memcpy(lease.identity, claim.server_identity.id, sizeof(lease.identity));
    lease.vouched = vouched_for(&claim, claim.journal);
    lease.former_unclean =
        claim.lease.exists && !claim.lease.clean && strcmp(claim.lease.journal, claim.journal) != 0;
    *ret_lease = lease;
    return STATUS_OK;
}

static enum status lost(struct upstream *upstream, struct error *ret_error)
{
    struct lease_state state;
    enum status status = lease_read(upstream, &state, ret_error);
    return status == STATUS_OK ? owned_error(&state, ret_error) : status;
}

enum status lease_renew(struct upstream *upstream, const struct lease *lease, uint64_t last_lsn,
                        uint32_t units_open, struct error *ret_error)
{
    bool ours = false;
    enum status status =
        state_renew_lease(upstream, lease, last_lsn, units_open, false, &ours, ret_error);
    return status == STATUS_OK && !ours ? lost(upstream, ret_error) : status;
}

enum status lease_release(struct upstream *upstream, const struct lease *lease, uint64_t last_lsn,
                          uint32_t units_open, bool clean, struct error *ret_error)
{
    bool ours = false;
    enum status status =
        state_renew_lease(upstream, lease, last_lsn, units_open, clean, &ours, ret_error);
    return status == STATUS_OK && !ours ? lost(upstream, ret_error) : status;
}

enum status lease_regain(struct upstream *upstream, struct wal *wal, const struct lease *lease,
                         struct error *ret_error)
{
    const struct lease_options options = {.owner = "holdfastd"};
    struct claim claim = claim_make(upstream, wal, &options);
    bool taken = false;
    enum status status = claim_check(&claim, ret_error);
    if (status == STATUS_OK) {
        status = settle_identity(&claim, ret_error);
    }
    for (int tries = 0; status == STATUS_OK && !taken && tries < TAKE_TRIES; tries++) {
        status = lease_read(upstream, &claim.lease, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        bool same = claim.lease.exists && claim.lease.epoch == lease->epoch &&
                    strcmp(claim.lease.journal, lease->journal) == 0;
        if (same) {
            return lease_renew(upstream, lease, wal_last_lsn(wal), 0, ret_error);
        }
        if (claim.lease.exists && claim.lease.epoch >= lease->epoch) {
            return owned_error(&claim.lease, ret_error);
        }
        status = take(&claim, lease->epoch, &taken, ret_error);
    }
    return status == STATUS_OK && !taken ? owned_error(&claim.lease, ret_error) : status;
}
