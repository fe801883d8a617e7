/*
 * `holdfast backup` (cli.h): runs a dump between two marks in the journal.
 *
 *     retention is held, with --pause all writes are --> the journal's end is fromLsn --> the
 * command
 *     --> writes go on --> a copy of the journal, whose end is untilLsn --> retention goes on
 *
 * A living holdfastd holds both for BEAT_FOR_MS at a time, so they end soon after this process
 * does.
 *
 * Threads: main only.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/backup_file.h"
#include "cli/control.h"
#include "cli/journal.h"
#include "cli/output.h"
#include "holdfast/clock.h"
#include "recover/lease.h"

#define BEAT_MS 2000
#define BEAT_FOR_MS 10000
#define LOOK_MS 50
#define PAUSE_WAIT_MS 70000 /* for open units: longer than unit.lifetime by default */
#define NOT_EXECUTED 127

struct backup {
    const struct cli_options *options;
    struct wal *wal;
    struct backup_file file;
    bool living;    /* a holdfastd is there to be asked */
    bool pausing;   /* writes are held, as far as we know */
    uint64_t beat;  /* monotonic: when it was asked last */
    uint64_t since; /* monotonic: when the pause began */
};

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

static void pause_briefly(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
}

/* ------------------------------------------------------------------ the living holdfastd */

/* *ret_held: all writes are held. STATUS_NOT_FOUND: no holdfastd is alive. */
static enum status ask(struct backup *backup, uint64_t for_ms, bool pause, bool *ret_held,
                       int64_t *ret_units, struct error *ret_error)
{
    char target[96];
    char *body = NULL;
    int code = 0;
    struct answer answer;
    (void)snprintf(target, sizeof(target), "/backup?for=%" PRIu64 "&keep=%" PRIu64 "&pause=%d",
                   for_ms, backup->file.from_lsn, pause ? 1 : 0);
    backup->beat = clock_monotonic_ms();
    enum status status = control_request(backup->options, "POST", target, &code, &body, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (code != 200) {
        body[strcspn(body, "\n")] = '\0';
        status = error_set(ret_error, STATUS_REFUSED, "%.500s", body);
    } else {
        status = answer_parse(body, &answer, ret_error);
    }
    free(body);
    if (status == STATUS_OK) {
        *ret_held = strcmp(answer_text(&answer.root, "pause"), "held") == 0;
        *ret_units = answer_number(&answer.root, "unitsOpen");
        answer_free(&answer);
    }
    return status;
}

static void release(struct backup *backup)
{
    bool held = false;
    int64_t units = 0;
    struct error ignored = {0};
    if (backup->living) {
        (void)ask(backup, 0, false, &held, &units, &ignored);
    }
}

static enum status wait_for_pause(struct backup *backup, struct error *ret_error)
{
    bool held = false;
    int64_t units = 0;
    uint64_t until_ms = clock_monotonic_ms() + PAUSE_WAIT_MS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !held) {
        status = ask(backup, BEAT_FOR_MS, true, &held, &units, ret_error);
        if (status == STATUS_OK && !held && caught != 0) {
            status = error_set(ret_error, STATUS_INVALID, "interrupted");
        } else if (status == STATUS_OK && !held && clock_monotonic_ms() > until_ms) {
            status = error_set(ret_error, STATUS_OWNED,
                               "%" PRId64 " units did not end within %d s: nothing was done. "
                               "holdfast units --locks shows them",
                               units, PAUSE_WAIT_MS / 1000);
        }
        if (status == STATUS_OK && !held) {
            pause_briefly();
        }
    }
    backup->pausing = status == STATUS_OK;
    backup->file.paused = backup->pausing;
    backup->since = clock_monotonic_ms();
    return status;
}

static void lose_pause(struct backup *backup, const char *why)
{
    backup->pausing = false;
    backup->file.paused = false;
    fprintf(stderr,
            "holdfast: writes are not held any more (%s): the dump is not of one moment; "
            "after-restore brings units together, but not what was written without one\n",
            why);
}

/* Once in a while. A holdfastd that is away may come back. */
static void beat(struct backup *backup)
{
    bool held = false;
    int64_t units = 0;
    struct error error = {0};
    if (!backup->living || clock_monotonic_ms() - backup->beat < BEAT_MS) {
        return;
    }
    if (backup->pausing && clock_monotonic_ms() - backup->since > backup->options->limit_ms) {
        lose_pause(backup, "--limit");
    }
    enum status status = ask(backup, BEAT_FOR_MS, backup->pausing, &held, &units, &error);
    if (backup->pausing && !held) {
        lose_pause(backup, status == STATUS_OK ? "holdfastd has let go of them" : error.message);
    }
}

/* ------------------------------------------------------------------ the marks */

static enum status read_end(struct wal *wal, uint64_t *ret_lsn, struct error *ret_error)
{
    struct wal_statistics figures;
    enum status status = wal_statistics_get(wal, &figures, ret_error);
    if (status == STATUS_OK) {
        *ret_lsn = figures.last_lsn;
    }
    return status;
}

static enum status begin(struct backup *backup, struct error *ret_error)
{
    bool held = false;
    int64_t units = 0;
    struct error away = {0};
    lease_journal_text(wal_journal_id(backup->wal), backup->file.journal);
    enum status status = read_end(backup->wal, &backup->file.from_lsn, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = ask(backup, BEAT_FOR_MS, false, &held, &units, &away);
    backup->living = status != STATUS_NOT_FOUND;
    if (status == STATUS_NOT_FOUND && !backup->options->pause) {
        status = STATUS_OK; /* nobody writes by it, and nobody prunes */
    } else if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", away.message);
    } else if (backup->options->pause) {
        status = wait_for_pause(backup, ret_error);
    }
    if (status == STATUS_OK) {
        /* Later than what retention keeps, and earlier than anything that the dump sees. */
        status = read_end(backup->wal, &backup->file.from_lsn, ret_error);
    }
    backup->file.until_lsn = backup->file.from_lsn;
    backup->file.began_ms = clock_wall_ms();
    return status == STATUS_OK
               ? backup_file_write(backup->options->target, &backup->file, ret_error)
               : status;
}

/* The end mark is that of the copy: what is in neither is not missed. */
static enum status copy_journal(struct backup *backup, struct error *ret_error)
{
    char directory[PATH_MAX];
    struct wal *copy = NULL;
    struct wal_options options = {
        .directory = directory, .key_file = backup->options->key_file, .read_only = true};
    if (snprintf(directory, sizeof(directory), "%s/" BACKUP_JOURNAL_NAME,
                 backup->options->target) >= (int)sizeof(directory)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the backup is too long");
    }
    enum status status = wal_copy(backup->wal, directory, ret_error);
    /* LMDB's rule: one process opens one environment once; these are two. */
    if (status == STATUS_OK) {
        status = wal_open(&options, &copy, ret_error);
    }
    if (status == STATUS_OK) {
        status = read_end(copy, &backup->file.until_lsn, ret_error);
        wal_close(copy, false);
    }
    backup->file.journal_copied = status == STATUS_OK;
    return status;
}

static enum status finish(struct backup *backup, int exit_code, struct error *ret_error)
{
    bool held = false;
    int64_t units = 0;
    struct error error = {0};
    if (backup->pausing) {
        /* Was it held to the end? Then writes go on. */
        enum status asked = ask(backup, BEAT_FOR_MS, true, &held, &units, &error);
        if (asked != STATUS_OK || !held) {
            lose_pause(backup, asked == STATUS_OK ? "holdfastd has let go of them" : error.message);
        }
        (void)ask(backup, BEAT_FOR_MS, false, &held, &units, &error);
    }
    enum status status = read_end(backup->wal, &backup->file.until_lsn, ret_error);
    if (status == STATUS_OK && exit_code == 0 && !backup->options->without_journal) {
        status = copy_journal(backup, ret_error);
    }
    if (status == STATUS_OK) {
        backup->file.finished = exit_code == 0;
        backup->file.exit_code = exit_code;
        backup->file.ended_ms = clock_wall_ms();
        status = backup_file_write(backup->options->target, &backup->file, ret_error);
    }
    return status;
}

/* ------------------------------------------------------------------ the command */

static void child(char *const *command)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* a dump whose marks nobody sets is none */
    (void)signal(SIGPIPE, SIG_DFL);
    (void)execvp(command[0], command);
    fprintf(stderr, "holdfast: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(NOT_EXECUTED);
}

/* The command's exit code, or 128 and the signal that ended it, as shells have it. */
static enum status run(struct backup *backup, int *ret_code, struct error *ret_error)
{
    int outcome = 0;
    pid_t pid = fork();
    if (pid < 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot start a process: %s", strerror(errno));
    }
    if (pid == 0) {
        child(backup->options->command);
    }
    for (;;) {
        pid_t ended = waitpid(pid, &outcome, WNOHANG);
        if (ended == pid) {
            break;
        }
        if (ended < 0 && errno != EINTR) {
            return error_set(ret_error, STATUS_IO, "cannot wait for the command: %s",
                             strerror(errno));
        }
        if (caught != 0) {
            (void)kill(pid, caught);
            caught = 0;
        }
        beat(backup);
        pause_briefly();
    }
    *ret_code = WIFEXITED(outcome) ? WEXITSTATUS(outcome) : 128 + WTERMSIG(outcome);
    return STATUS_OK;
}

static enum status check_options(const struct cli_options *options, struct error *ret_error)
{
    struct stat found;
    if (options->command == NULL || options->command[0] == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "what makes the dump? holdfast backup ... -- mongodump --out DIR/dump");
    }
    if (options->target == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "where is the backup? --to DIR: its marks are put there");
    }
    if (mkdir(options->target, 0700) != 0 && errno != EEXIST) {
        return error_set(ret_error, STATUS_IO, "cannot make %s: %s", options->target,
                         strerror(errno));
    }
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/" BACKUP_FILE_NAME, options->target) < (int)sizeof(path) &&
        stat(path, &found) == 0) {
        return error_set(ret_error, STATUS_EXISTS,
                         "%s is there: a backup has a directory of its own", path);
    }
    return STATUS_OK;
}

static void tell(const struct backup *backup, int exit_code)
{
    const struct backup_file *file = &backup->file;
    if (!file->finished) {
        fprintf(stderr, "holdfast: the command ended with %d: this is no backup\n", exit_code);
        return;
    }
    fprintf(stderr,
            "holdfast: backup in %s: LSN %" PRIu64 " to %" PRIu64 "%s%s\n"
            "After restoring it: holdfast after-restore --backup %s --onto URI\n",
            backup->options->target, file->from_lsn, file->until_lsn,
            file->paused ? ", of one moment" : "", file->journal_copied ? ", with the journal" : "",
            backup->options->target);
}

enum cli_exit cli_backup(const struct cli_options *options)
{
    struct backup backup = {.options = options, .file = {.command = options->command}};
    struct error error = {0};
    int exit_code = 0;
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    enum status status = check_options(options, &error);
    if (status == STATUS_OK) {
        status = journal_open_to_read(options, &backup.wal, &error);
    }
    if (status == STATUS_OK) {
        status = begin(&backup, &error);
    }
    if (status == STATUS_OK) {
        status = run(&backup, &exit_code, &error);
    }
    if (status == STATUS_OK) {
        status = finish(&backup, exit_code, &error);
    }
    release(&backup);
    backup.wal = wal_close(backup.wal, false);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    tell(&backup, exit_code);
    return (enum cli_exit)exit_code;
}
