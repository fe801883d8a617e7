/*
 * Ownership: each rule of lease.h against a real server, with the journals that break it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recover/lease.h"
#include "recover/lease_keeper.h"
#include "server_fixture.h"

#include "test_journal.h"

struct journal {
    char directory[TEST_DIRECTORY_BYTES];
    struct wal *wal;
    char id[LEASE_JOURNAL_TEXT_BYTES];
};

static void reset(void)
{
    need_server();
    run_json(upstream, "holdfast",
             "{\"delete\": \"state\", \"deletes\": [{\"q\": {}, \"limit\": 0}]}");
}

static struct journal make(void)
{
    struct journal journal = {0};
    directory_new(journal.directory);
    journal.wal = journal_open(journal.directory);
    lease_journal_text(wal_journal_id(journal.wal), journal.id);
    return journal;
}

static void drop(struct journal *journal)
{
    wal_close(journal->wal, true);
    directory_remove(journal->directory);
}

static struct error error;
static struct lease lease;

static enum status acquire(struct journal *journal, const char *takeover)
{
    struct lease_options options = {.takeover = takeover, .owner = "a test"};
    error = (struct error){0};
    return lease_acquire(upstream, journal->wal, &options, &lease, &error);
}

static void assert_acquired(struct journal *journal, const char *takeover)
{
    if (acquire(journal, takeover) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
}

static void assert_release(struct journal *journal, bool clean)
{
    assert_int_equal(lease_release(upstream, &lease, wal_last_lsn(journal->wal), 0, clean, &error),
                     STATUS_OK);
}

/* As if the owner had died a while ago, and on which host. */
static void age(const char *more)
{
    char command[512];
    snprintf(
        command, sizeof(command),
        "{\"update\": \"state\", \"updates\": [{\"q\": {\"_id\": \"lease\"}, \"u\": {\"$set\": "
        "{\"renewedAt\": {\"$date\": \"2001-01-01T00:00:00Z\"}%s}}}]}",
        more);
    run_json(upstream, "holdfast", command);
}

static void set(const char *fields)
{
    char command[512];
    snprintf(
        command, sizeof(command),
        "{\"update\": \"state\", \"updates\": [{\"q\": {\"_id\": \"lease\"}, \"u\": {\"$set\": "
        "%s}}]}",
        fields);
    run_json(upstream, "holdfast", command);
}

static void a_new_database_is_taken_and_remembered(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    uint8_t identity[12];
    size_t size = 0;
    assert_acquired(&journal, NULL);
    assert_int_equal(lease.epoch, 1);
    assert_int_equal(
        wal_property_get(journal.wal, LEASE_PROPERTY_IDENTITY, identity, 12, &size, NULL),
        STATUS_OK);
    assert_int_equal(size, 12);
    assert_memory_equal(identity, lease.identity, 12);
    assert_int_equal(lease_renew(upstream, &lease, 7, 2, &error), STATUS_OK);
    struct lease_state seen = {0};
    assert_int_equal(lease_read(upstream, &seen, &error), STATUS_OK);
    assert_true(seen.exists);
    assert_string_equal(seen.journal, journal.id);
    assert_string_equal(seen.owner, "a test");
    assert_int_equal(seen.last_lsn, 7);
    assert_int_equal(seen.units_open, 2);
    assert_false(seen.clean);
    assert_true(seen.age_ms < 5000);
    drop(&journal);
}

/* The journal's lock is ours, so its former owner is dead: no waiting, a higher epoch. */
static void a_restart_takes_its_own_lease_at_once(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    struct lease former = lease;
    assert_acquired(&journal, NULL);
    assert_int_equal(lease.epoch, former.epoch + 1);
    assert_false(lease.former_unclean);
    assert_int_equal(lease_renew(upstream, &former, 0, 0, &error), STATUS_OWNED);
    assert_int_equal(lease_release(upstream, &former, 0, 0, true, &error), STATUS_OWNED);
    assert_int_equal(lease_renew(upstream, &lease, 0, 0, &error), STATUS_OK);
    drop(&journal);
}

static void a_second_proxy_is_refused_while_the_first_lives(void **state)
{
    (void)state;
    reset();
    struct journal first = make();
    struct journal second = make();
    assert_acquired(&first, NULL);
    assert_int_equal(acquire(&second, NULL), STATUS_OWNED);
    assert_non_null(strstr(error.message, "a test"));
    assert_int_equal(acquire(&second, first.id), STATUS_OWNED); /* not even vouched for */
    drop(&first);
    drop(&second);
}

/* For half an hour only the first journal can answer a commit that is asked again. */
static void a_lease_given_back_cleanly_is_free_after_a_while(void **state)
{
    (void)state;
    reset();
    struct journal first = make();
    struct journal second = make();
    struct journal third = make();
    assert_acquired(&first, NULL);
    assert_release(&first, true);
    assert_int_equal(acquire(&second, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, first.id));
    assert_acquired(&second, first.id);
    assert_int_equal(lease.epoch, 2);
    assert_false(lease.former_unclean);
    assert_release(&second, true);
    age("");
    assert_acquired(&third, NULL);
    assert_int_equal(lease.epoch, 3);
    drop(&first);
    drop(&second);
    drop(&third);
}

static void a_lease_left_uncleanly_needs_its_journal_or_a_word(void **state)
{
    (void)state;
    reset();
    struct journal first = make();
    struct journal second = make();
    assert_acquired(&first, NULL);
    age("");
    assert_int_equal(acquire(&second, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, first.id));
    assert_int_equal(acquire(&second, second.id), STATUS_FOREIGN);
    assert_acquired(&second, first.id);
    assert_true(lease.former_unclean);
    drop(&first);
    drop(&second);
}

static void an_older_copy_of_the_journal_is_refused(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    set("{\"lastLsn\": {\"$numberLong\": \"5000\"}}");
    assert_int_equal(acquire(&journal, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, "stale copy"));
    drop(&journal);
}

/* A disk that was attached elsewhere has locks of another kernel: its owner must be given time. */
static void our_file_under_another_kernel_waits(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    set("{\"place\": \"elsewhere\"}");
    assert_int_equal(acquire(&journal, NULL), STATUS_OWNED);
    age("");
    assert_acquired(&journal, NULL);
    drop(&journal);
}

/* The lock of a copy proves nothing; its owner may live, and may have written more than it has. */
static void a_copy_waits_and_then_needs_a_word(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    set("{\"file\": \"another one\"}");
    assert_int_equal(acquire(&journal, NULL), STATUS_OWNED);
    assert_int_equal(acquire(&journal, journal.id), STATUS_OWNED);
    age("");
    assert_int_equal(acquire(&journal, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, "copy"));
    assert_non_null(strstr(error.message, journal.id));
    assert_acquired(&journal, journal.id);
    drop(&journal);
}

/* After a clean end the lease has the last LSN, which tells that a copy is whole. */
static void a_copy_of_a_journal_that_was_closed_cleanly_is_taken(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    journal_begin(journal.wal);
    assert_acquired(&journal, NULL);
    assert_release(&journal, true);
    set("{\"file\": \"another one\"}");
    assert_acquired(&journal, NULL);
    assert_release(&journal, true);
    set("{\"file\": \"another one\", \"lastLsn\": {\"$numberLong\": \"5000\"}}");
    assert_int_equal(acquire(&journal, journal.id), STATUS_FOREIGN);
    drop(&journal);
}

/* Another copy was used since: it has an epoch that this one does not know, and other records. */
static void a_copy_that_others_have_overtaken_is_stale(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    journal_begin(journal.wal);
    set("{\"epoch\": {\"$numberLong\": \"9\"}}");
    assert_int_equal(acquire(&journal, journal.id), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, "stale copy"));
    set("{\"lastLsn\": {\"$numberLong\": \"1\"}}"); /* died between the lease and the journal */
    assert_acquired(&journal, NULL);
    assert_int_equal(lease.epoch, 10);
    drop(&journal);
}

/* An owner that renews while we wait is alive: there is nothing to wait for. */
static void waiting_ends_when_the_owner_shows_itself(void **state)
{
    (void)state;
    reset();
    struct journal first = make();
    struct journal second = make();
    assert_acquired(&first, NULL);
    struct lease_keeper *keeper = NULL;
    struct lease_keeper_options keep = {
        .upstream_uri = server.uri,
        .connect_ms = 5000,
        .lease = &lease,
        .directory = first.directory,
        .wal = first.wal,
    };
    assert_int_equal(lease_keeper_start(&keep, &keeper, &error), STATUS_OK);
    struct lease_options options = {.wait_ms = 3600000, .owner = "another test"};
    struct lease taken;
    assert_int_equal(lease_acquire(upstream, second.wal, &options, &taken, &error), STATUS_OWNED);
    lease_keeper_stop(keeper);
    drop(&first);
    drop(&second);
}

/* The end takes as long as a renewal that waits for its answer; the switch is off by then. */
static void ending_while_the_server_stands_still_is_no_death(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not take threads that a child of ours starts */
#endif
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    struct lease_keeper *keeper = NULL;
    struct lease_keeper_options keep = {
        .upstream_uri = server.uri,
        .connect_ms = 5000,
        .lease = &lease,
        .directory = journal.directory,
        .wal = journal.wal,
    };
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        if (lease_keeper_start(&keep, &keeper, NULL) != STATUS_OK) {
            _exit(1);
        }
        (void)kill(server.pid, SIGSTOP);
        (void)nanosleep(&(struct timespec){.tv_sec = LEASE_HOLD_MS / 1000 - 1}, NULL);
        (void)nanosleep(&(struct timespec){.tv_nsec = 900000000L}, NULL);
        lease_keeper_stop(keeper);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(kill(server.pid, SIGCONT), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    drop(&journal);
}

static void a_journal_of_another_database_is_refused(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    assert_acquired(&journal, NULL);
    run_json(upstream, "holdfast",
             "{\"update\": \"state\", \"updates\": [{\"q\": {\"_id\": \"identity\"}, \"u\": "
             "{\"$set\": {\"id\": {\"$oid\": \"0123456789abcdef01234567\"}}}}]}");
    assert_int_equal(acquire(&journal, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, "another database"));
    drop(&journal);
}

static void an_emptied_database_is_refused_unless_vouched_for(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    uint8_t identity[12];
    assert_acquired(&journal, NULL);
    reset();
    assert_acquired(&journal, NULL); /* nothing is in the journal that could belong elsewhere */
    journal_begin(journal.wal);
    memcpy(identity, lease.identity, 12);
    reset();
    assert_int_equal(acquire(&journal, NULL), STATUS_FOREIGN);
    assert_non_null(strstr(error.message, "emptied"));
    assert_acquired(&journal, journal.id);
    assert_memory_equal(lease.identity, identity, 12);
    assert_int_equal(lease.epoch, 3); /* never lower than the journal remembers */
    drop(&journal);
}

static void looking_takes_nothing(void **state)
{
    (void)state;
    reset();
    struct journal journal = make();
    struct lease_options options = {.look_only = true};
    struct lease_state seen = {0};
    assert_int_equal(lease_acquire(upstream, journal.wal, &options, &lease, &error), STATUS_OK);
    assert_int_equal(lease_read(upstream, &seen, &error), STATUS_OK);
    assert_false(seen.exists);
    drop(&journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_database_is_taken_and_remembered),
        cmocka_unit_test(a_restart_takes_its_own_lease_at_once),
        cmocka_unit_test(a_second_proxy_is_refused_while_the_first_lives),
        cmocka_unit_test(a_lease_given_back_cleanly_is_free_after_a_while),
        cmocka_unit_test(a_lease_left_uncleanly_needs_its_journal_or_a_word),
        cmocka_unit_test(an_older_copy_of_the_journal_is_refused),
        cmocka_unit_test(our_file_under_another_kernel_waits),
        cmocka_unit_test(a_copy_waits_and_then_needs_a_word),
        cmocka_unit_test(a_copy_of_a_journal_that_was_closed_cleanly_is_taken),
        cmocka_unit_test(a_copy_that_others_have_overtaken_is_stale),
        cmocka_unit_test(waiting_ends_when_the_owner_shows_itself),
        cmocka_unit_test(ending_while_the_server_stands_still_is_no_death),
        cmocka_unit_test(a_journal_of_another_database_is_refused),
        cmocka_unit_test(an_emptied_database_is_refused_unless_vouched_for),
        cmocka_unit_test(looking_takes_nothing),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
