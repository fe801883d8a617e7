/*
 * Work on a stopped proxy's journal (session.h).
 *
 * Threads: main; the journal's writer behind it.
 */
#include "cli/session.h"

#include <string.h>
#include <unistd.h>

#include "cli/journal.h"
#include "cli/output.h"
#include "recover/native.h"

/* Another process recovers these units now: nothing of ours may follow. */
static void on_lease_lost(void *context, const struct error *error)
{
    (void)context;
    _exit((int)output_failure(error));
}

/* Nobody else can have it: its journal is ours, and there is no other claim. */
static enum status claim_native(struct session *session, struct error *ret_error)
{
    const struct cli_options *options = session->options;
    enum status status =
        upstream_open(options->upstream, options->connect_ms, &session->upstream, ret_error);
    return status == STATUS_OK ? native_claim(session->wal, session->upstream, options->takeover,
                                              options->dry_run, ret_error)
                               : status;
}

static enum status acquire(struct session *session, struct error *ret_error)
{
    const struct cli_options *options = session->options;
    struct lease_options lease_options = {
        .takeover = options->takeover,
        .wait_ms = LEASE_VALID_MS + 2000,
        .owner = session->owner,
        .look_only = options->dry_run,
    };
    enum status status =
        upstream_open(options->upstream, options->connect_ms, &session->upstream, ret_error);
    if (status == STATUS_OK) {
        status = lease_acquire(session->upstream, session->wal, &lease_options, &session->lease,
                               ret_error);
    }
    session->leased = status == STATUS_OK && !options->dry_run;
    if (session->leased) {
        struct lease_keeper_options keep = {
            .upstream_uri = options->upstream,
            .connect_ms = options->connect_ms,
            .lease = &session->lease,
            .directory = options->wal,
            .wal = session->wal,
            .lost = on_lease_lost,
        };
        status = lease_keeper_start(&keep, &session->keeper, ret_error);
    }
    return status;
}

enum status session_open(struct session *session, struct error *ret_error)
{
    if (session->options->upstream == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "--upstream is missing: which server, for example mongodb://host:port?");
    }
    enum status status =
        journal_open_stopped(session->options, session->owner, &session->wal, ret_error);
    if (status == STATUS_OK) {
        status = native_journal_is(session->wal, &session->native, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    return session->native ? claim_native(session, ret_error) : acquire(session, ret_error);
}

/* Without a unit left open another journal may take the database over. */
void session_close(struct session *session, bool settled)
{
    session->keeper = lease_keeper_stop(session->keeper);
    if (session->leased) {
        struct error error = {0};
        if (lease_release(session->upstream, &session->lease, wal_last_lsn(session->wal), 0,
                          settled, &error) != STATUS_OK) {
            output_failure(&error);
        }
    }
    upstream_close(session->upstream);
    if (session->wal != NULL) {
        bool clean = session->options->dry_run ? wal_was_clean(session->wal) : settled;
        wal_close(session->wal, clean);
    }
}
