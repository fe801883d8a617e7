/*
 * Verification, and the check before opening.
 *
 * LMDB trusts its pages: a damaged one can lead it to read anywhere. So whatever reads a journal
 * that may be damaged does it in a child process, and writes what it finds into memory that it
 * shares with its parent. If the child dies, the parent knows how far it got and calls that damage.
 *
 *     parent                               child (no other thread, no lock taken over)
 *     map shared memory
 *     fork ------------------------------> open read-only, walk the tables,
 *     wait                                 note damage and progress in the shared memory
 *     read shared memory, unmap <--------- _exit(0), or a signal, or LMDB's abort()
 *
 * First the pages are walked without LMDB (pages.h), which says where in the file a damage is; then
 * the tables are read through LMDB, which is what a proxy is going to do, and compared. The tail,
 * which was read before, is what comes after them.
 *
 * Whole verification reads everything twice. The check before opening walks the list of free pages,
 * all branches and a bounded part of each table's end, where the owner is going to write; then the
 * properties and the open units with all their records: what recovery reads next anyway, so it
 * costs one fork and warms the page cache for the recovery; and the tail, which is small.
 *
 * Both run on the caller's thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wal/directory.h"
#include "wal/internal.h"
#include "wal/scan.h"

/* ------------------------------------------------------------------ the child */

static enum status scan_in_child(struct scan *scan)
{
    struct store *store = NULL;
    struct store_transaction *transaction = NULL;
    struct scan_tail tail = {0};
    enum store_content content = STORE_NOTHING;
    /* What is open is spread over the journal: around each of its pages the kernel would read a
       quarter of a megabyte that nobody needs. */
    struct store_options options = {
        .directory = scan->directory, .read_only = true, .scattered = !scan->everything};
    scan_now_doing(scan, "opening the files");
    enum status status = store_open(&options, &store, &content, &scan->error);
    if (status == STATUS_OK && content == STORE_NOTHING) {
        status =
            error_set(&scan->error, STATUS_NOT_FOUND, "there is no journal in %s", scan->directory);
    }
    if (scan->everything && status == STATUS_CORRUPT) {
        /* LMDB cannot make anything of it: what can be told without it is told. */
        scan_note(scan, 0, scan->error.message);
        return scan_check_pages(scan, NULL, &scan->error);
    }
    if (status == STATUS_OK) {
        status = scan_read_tail(scan, &tail, &scan->error);
    }
    if (status == STATUS_OK) {
        status = scan_begin_and_check_pages(scan, store, &transaction, &scan->error);
    }
    if (status == STATUS_OK) {
        uint32_t version = 0;
        status = rows_version(transaction, &version, &scan->error);
    }
    if (scan->everything && status == STATUS_CORRUPT) {
        scan_note(scan, 0, scan->error.message);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (scan->pages_damaged) {
        return STATUS_OK; /* LMDB is not let near them */
    }
    scan_now_doing(scan, "reading the list of free pages");
    struct error error;
    scan_is_end(scan, store_check_free_pages(transaction, &error), &error);
    if (scan->everything) {
        scan_check_everything(scan, transaction);
    } else {
        scan_check_what_opening_reads(scan, transaction);
    }
    status = scan_check_tail(scan, store, transaction, &tail, &scan->error);
    store_abort(transaction);
    store_close(store);
    return status;
}

static _Noreturn void child_main(struct scan *scan)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    struct rlimit none = {0, 0};
    /* Neither a core file nor what LMDB or a sanitizer has to say: the parent makes the report. */
    setrlimit(RLIMIT_CORE, &none);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere >= 0) {
        (void)dup2(nowhere, STDERR_FILENO);
    }
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        signal(deadly[i], SIG_DFL);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    scan->status = scan_in_child(scan);
    scan->finished = true;
    _exit(0);
}

/* ------------------------------------------------------------------ the parent */

static void note_death(struct scan *scan, int wait_status)
{
    char message[256];
    char how[64] = "ended";
    if (WIFSIGNALED(wait_status)) {
        snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
    }
    scan->doing[sizeof(scan->doing) - 1] = '\0';
    snprintf(message, sizeof(message),
             "pages are damaged: the process that was %s %s, after number %" PRIu64, scan->doing,
             how, scan->at);
    scan_note(scan, 0, message);
}

/* Runs the scan. STATUS_OK: *scan says what was found. */
static enum status run_child(struct scan *scan, struct error *ret_error)
{
    int wait_status = 0;
    pid_t child = fork();
    if (child < 0) {
        return error_set(ret_error, STATUS_LIMIT, "cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        child_main(scan);
    }
    while (waitpid(child, &wait_status, 0) < 0) {
        if (errno != EINTR) {
            /* SIGCHLD is ignored: the child is gone, only its end is not known. */
            break;
        }
    }
    if (!scan->finished) {
        note_death(scan, wait_status);
        return STATUS_OK;
    }
    if (scan->status != STATUS_OK) {
        return error_set(ret_error, scan->status, "%s", scan->error.message);
    }
    return STATUS_OK;
}

static struct scan *map_scan(const char *directory, bool everything, struct error *ret_error)
{
    struct scan *scan =
        mmap(NULL, sizeof(*scan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (scan == MAP_FAILED) {
        error_set(ret_error, STATUS_MEMORY, "out of memory");
        return NULL;
    }
    scan->directory = directory;
    scan->everything = everything;
    return scan;
}

enum status scan_check_before_open(const char *directory, bool read_only, struct error *ret_error)
{
    struct scan *scan = map_scan(directory, false, ret_error);
    if (scan == NULL) {
        return STATUS_MEMORY;
    }
    enum status status = run_child(scan, ret_error);
    if (status == STATUS_NOT_FOUND) {
        status = STATUS_OK; /* nothing in the files yet: wal_open() deals with that */
    }
    /* A reader that only looks may look at the rows that are whole, but not at damaged pages, which
       could kill it, nor at a past that it would take for the present. */
    bool matters = !scan->finished || scan->pages_damaged || scan->tail_damaged || !read_only;
    if (status == STATUS_OK && scan->found.damage_count > 0 && matters) {
        status =
            error_set(ret_error, STATUS_CORRUPT,
                      "the journal in %s is damaged, and nothing was done with it: %s. Keep the "
                      "directory as it is; holdfast verify tells all that is wrong, and \"A "
                      "damaged journal\" in docs/OPERATIONS.md what to do",
                      directory, scan->found.damage[0].message);
    }
    munmap(scan, sizeof(*scan));
    return status;
}

enum status scan_verify(const char *directory, bool without_tail,
                        struct wal_verification *ret_verification, struct error *ret_error)
{
    struct scan *scan = map_scan(directory, true, ret_error);
    if (scan == NULL) {
        return STATUS_MEMORY;
    }
    scan->without_tail = without_tail;
    enum status status = run_child(scan, ret_error);
    if (status == STATUS_OK) {
        *ret_verification = scan->found;
    }
    munmap(scan, sizeof(*scan));
    return status;
}

enum status wal_verify(const char *directory, struct wal_verification *ret_verification,
                       struct error *ret_error)
{
    int lock = -1;
    if (directory == NULL || directory[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID, "the journal needs a directory");
    }
    enum status status = directory_check_filesystem(directory, ret_error);
    if (status == STATUS_OK) {
        status = directory_lock_readers(directory, false, &lock, ret_error);
    }
    if (status == STATUS_OK) {
        status = scan_verify(directory, false, ret_verification, ret_error);
    }
    directory_unlock(lock);
    return status;
}
