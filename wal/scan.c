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
 * the tables are read through LMDB, which is what a proxy is going to do, and compared.
 *
 * Whole verification reads everything twice. The check before opening walks the list of free pages,
 * all branches and a bounded part of each table's end, where the owner is going to write; then the
 * properties and the open units with all their records: what recovery reads next anyway, so it
 * costs one fork and warms the page cache for the recovery.
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
#include "wal/pages.h"
#include "wal/rows.h"

#define DAMAGE_MAX (sizeof(((struct wal_verification *)NULL)->damage) / sizeof(struct wal_damage))

/* How much of each table the check before opening reads: 4 MiB, in pages of 4 KiB. */
#define PAGES_BEFORE_OPEN 1024u
#define SNAPSHOT_TRIES 100

/* Shared between parent and child. */
struct scan {
    const char *directory;
    bool everything;
    enum status status; /* of the scan itself, for example STATUS_VERSION */
    struct error error;
    bool pages_damaged;
    bool rows_checked; /* all rows, while the pages were walked */
    bool finished;
    char doing[64]; /* for the parent, should the child die */
    uint64_t at;    /* LSN or unit that `doing` has come to */
    struct wal_verification found;
};

/* ------------------------------------------------------------------ the child */

static void note_damage(struct scan *scan, const struct wal_damage *damage)
{
    struct wal_verification *found = &scan->found;
    if (found->damage_count < DAMAGE_MAX) {
        found->damage[found->damage_count] = *damage;
    }
    found->damage_count++;
}

static void note(struct scan *scan, uint64_t lsn, const char *message)
{
    struct wal_damage damage = {.lsn = lsn, .offset = WAL_NO_OFFSET};
    snprintf(damage.message, sizeof(damage.message), "%.255s", message);
    note_damage(scan, &damage);
}

static void note_unit(struct scan *scan, uint64_t lsn, uint64_t unit, const char *what)
{
    struct wal_damage damage = {.lsn = lsn, .unit = unit, .offset = WAL_NO_OFFSET};
    snprintf(damage.message, sizeof(damage.message), "unit %" PRIu64 ": %.200s", unit, what);
    note_damage(scan, &damage);
}

/* A record's damage was found on its page; now it is known whose record it is. */
static void note_whose(struct scan *scan, uint64_t lsn, uint64_t unit)
{
    struct wal_verification *found = &scan->found;
    for (size_t i = 0; i < found->damage_count && i < DAMAGE_MAX; i++) {
        if (found->damage[i].lsn == lsn && found->damage[i].unit == 0) {
            found->damage[i].unit = unit;
        }
    }
}

static void now_doing(struct scan *scan, const char *doing)
{
    snprintf(scan->doing, sizeof(scan->doing), "%s", doing);
    scan->at = 0;
}

/* A table cannot be walked any further. */
static bool is_end(struct scan *scan, enum status status, const struct error *error)
{
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        note(scan, 0, error->message);
    }
    return status != STATUS_OK;
}

/*
 * Follows a unit's chain from its last record to its first. Damage of single records is noted here
 * only if `note_records`: a whole verification has noted it already while it walked the records.
 */
static uint64_t check_chain(struct scan *scan, struct store_transaction *transaction,
                            const struct wal_unit *unit, bool note_records)
{
    uint64_t length = 0;
    uint64_t lsn = unit->last_lsn;
    struct wal_record record = {0};
    while (lsn != 0) {
        struct error error;
        enum status status = rows_record(transaction, lsn, &record, &error);
        if (status != STATUS_OK) {
            if (status == STATUS_NOT_FOUND || note_records) {
                note_unit(scan, lsn, unit->unit, error.message);
            }
            note_whose(scan, lsn, unit->unit);
            return length;
        }
        length++;
        if (record.unit != unit->unit) {
            note_unit(scan, lsn, unit->unit, "its chain leads to another unit's record");
            return length;
        }
        lsn = record.previous_lsn;
    }
    if (length == 0 || record.lsn != unit->first_lsn || record.kind != WAL_KIND_BEGIN ||
        record.time_ms != unit->begin_time_ms) {
        note_unit(scan, unit->first_lsn, unit->unit, "its chain does not end at its BEGIN record");
    }
    return length;
}

static bool state_fits(enum wal_unit_state state, enum wal_kind kind)
{
    switch (state) {
    case WAL_UNIT_OPEN:
        return kind == WAL_KIND_BEGIN || kind == WAL_KIND_WRITE;
    case WAL_UNIT_COMMITTED:
        return kind == WAL_KIND_COMMIT;
    case WAL_UNIT_ABORTED:
        return kind == WAL_KIND_ABORT;
    case WAL_UNIT_CONFLICT:
        return kind == WAL_KIND_CONFLICT;
    }
    return false;
}

static void check_last_record(struct scan *scan, struct store_transaction *transaction,
                              const struct wal_unit *unit)
{
    struct wal_record record;
    enum status status = rows_record(transaction, unit->last_lsn, &record, NULL);
    if (status == STATUS_OK &&
        (!state_fits(unit->state, record.kind) || record.time_ms != unit->last_time_ms)) {
        note_unit(scan, unit->last_lsn, unit->unit, "its row contradicts its last record");
    }
}

/* Returns how many keys the table has that hold a whole record. */
static uint64_t check_records(struct scan *scan, struct store_transaction *transaction)
{
    uint8_t after[FORMAT_KEY_BYTES];
    uint64_t lsn = 0;
    uint64_t rows = 0;
    now_doing(scan, "reading records");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct wal_record record;
        uint64_t next = 0;
        format_key_put(after, lsn);
        enum status status = store_next(transaction, STORE_RECORDS,
                                        slice_make(after, sizeof(after)), &key, &value, &error);
        if (is_end(scan, status, &error)) {
            return rows;
        }
        status = format_key_get(key, &next, &error);
        if (status != STATUS_OK || next <= lsn) {
            note(scan, 0, "the records' keys are not in order");
            return rows;
        }
        lsn = next;
        scan->at = lsn;
        scan->found.records_checked++;
        rows++;
        if (!scan->rows_checked && format_record_get(lsn, value, &record, &error) != STATUS_OK) {
            note(scan, lsn, error.message);
        }
    }
}

/* The row's session, if it still is this unit's. */
static void check_session_of(struct scan *scan, struct store_transaction *transaction,
                             const struct format_unit *row)
{
    struct format_session session;
    struct error error;
    if (row->session_key_size == 0) {
        return;
    }
    enum status status = rows_session(
        transaction, slice_make(row->session_key, row->session_key_size), &session, &error);
    if (status == STATUS_NOT_FOUND) {
        /* A newer transaction of the session may have taken the row along when it was removed, but
           then it is newer and ended before: a unit that is there keeps or follows its session. */
        return;
    }
    if (status != STATUS_OK) {
        note_unit(scan, 0, row->unit.unit, error.message);
    }
}

struct tally {
    uint64_t records; /* in chains */
    uint64_t open;    /* units in a state that belongs into the table `open` */
};

static void check_units(struct scan *scan, struct store_transaction *transaction,
                        struct tally *tally)
{
    uint8_t after[FORMAT_KEY_BYTES];
    uint64_t unit = 0;
    now_doing(scan, "reading units");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct format_unit row;
        uint64_t next = 0;
        format_key_put(after, unit);
        enum status status = store_next(transaction, STORE_UNITS, slice_make(after, sizeof(after)),
                                        &key, &value, &error);
        if (is_end(scan, status, &error)) {
            return;
        }
        status = format_key_get(key, &next, &error);
        if (status != STATUS_OK || next <= unit) {
            note(scan, 0, "the units' keys are not in order");
            return;
        }
        unit = next;
        scan->at = unit;
        scan->found.units_checked++;
        if (format_unit_get(unit, value, &row, &error) != STATUS_OK) {
            if (!scan->rows_checked) {
                note_unit(scan, 0, unit, error.message);
            }
            continue;
        }
        tally->records += check_chain(scan, transaction, &row.unit, false);
        tally->open += format_unit_is_open(row.unit.state) ? 1 : 0;
        check_last_record(scan, transaction, &row.unit);
        check_session_of(scan, transaction, &row);
    }
}

/* Returns how many entries the table `open` has. */
static uint64_t check_open(struct scan *scan, struct store_transaction *transaction, bool chains)
{
    uint64_t unit = 0;
    uint64_t entries = 0;
    now_doing(scan, "reading open units");
    for (;;) {
        struct error error;
        struct format_unit row;
        enum status status = rows_open_next(transaction, unit, &unit, &error);
        if (is_end(scan, status, &error)) {
            return entries;
        }
        scan->at = unit;
        entries++;
        status = rows_unit(transaction, unit, &row, &error);
        if (status != STATUS_OK) {
            note_unit(scan, 0, unit, error.message);
            continue;
        }
        if (!format_unit_is_open(row.unit.state)) {
            note_unit(scan, 0, unit, "it is listed as open although it ended");
        }
        if (chains) {
            check_chain(scan, transaction, &row.unit, true);
            check_last_record(scan, transaction, &row.unit);
        }
    }
}

static void check_sessions(struct scan *scan, struct store_transaction *transaction)
{
    uint8_t after_bytes[LIMIT_SESSION_KEY_BYTES];
    struct slice after = slice_make(after_bytes, 0);
    now_doing(scan, "reading sessions");
    for (;;) {
        struct slice key;
        struct slice value;
        struct error error;
        struct format_session session;
        struct format_unit row;
        enum status status = store_next(transaction, STORE_SESSIONS, after, &key, &value, &error);
        if (is_end(scan, status, &error)) {
            return;
        }
        if (key.size == 0 || key.size > LIMIT_SESSION_KEY_BYTES) {
            note(scan, 0, "a session has a key of an impossible size");
            return;
        }
        memcpy(after_bytes, key.data, key.size);
        after.size = key.size;
        scan->at++;
        status = format_session_get(key, value, &session, &error);
        if (status == STATUS_OK) {
            status = rows_unit(transaction, session.unit, &row, &error);
        }
        if (status != STATUS_OK) {
            note(scan, 0, error.message);
        }
    }
}

/* Records of a unit that retention has begun to remove. */
static uint64_t check_prune_rest(struct scan *scan, struct store_transaction *transaction)
{
    uint64_t length = 0;
    struct wal_unit rest = {0};
    struct error error;
    now_doing(scan, "reading a unit that is being removed");
    if (rows_pair(transaction, FORMAT_PROPERTY_PRUNE, &rest.unit, &rest.last_lsn, &error) !=
        STATUS_OK) {
        note(scan, 0, error.message);
        return 0;
    }
    for (uint64_t lsn = rest.last_lsn; lsn != 0;) {
        struct wal_record record;
        if (rows_record(transaction, lsn, &record, &error) != STATUS_OK) {
            note_unit(scan, lsn, rest.unit, error.message);
            return length;
        }
        length++;
        lsn = record.previous_lsn;
    }
    return length;
}

static void check_properties(struct scan *scan, struct store_transaction *transaction)
{
    char name[FORMAT_PROPERTY_NAME_BYTES_MAX + 1] = "";
    now_doing(scan, "reading properties");
    for (;;) {
        struct slice key;
        struct slice row;
        struct slice value;
        struct error error;
        enum status status =
            store_next(transaction, STORE_PROPERTIES, slice_text(name), &key, &row, &error);
        if (is_end(scan, status, &error)) {
            return;
        }
        if (key.size == 0 || key.size > FORMAT_PROPERTY_NAME_BYTES_MAX ||
            memchr(key.data, 0, key.size) != NULL) {
            note(scan, 0, "a property has an impossible name");
            return;
        }
        memcpy(name, key.data, key.size);
        name[key.size] = '\0';
        scan->at++;
        if (!scan->rows_checked && format_property_get(name, row, &value, &error) != STATUS_OK) {
            note(scan, 0, error.message);
        }
    }
}

static void check_everything(struct scan *scan, struct store_transaction *transaction)
{
    struct tally tally = {0};
    uint64_t rows = check_records(scan, transaction);
    check_units(scan, transaction, &tally);
    uint64_t open = check_open(scan, transaction, false);
    check_sessions(scan, transaction);
    check_properties(scan, transaction);
    tally.records += check_prune_rest(scan, transaction);
    /* What is damaged was noted above and is missing in one of the sums. */
    if (scan->found.damage_count == 0 && tally.records != rows) {
        note(scan, 0, "there are records that belong to no unit's chain");
    }
    if (scan->found.damage_count == 0 && tally.open != open) {
        note(scan, 0, "an open unit is not listed as open");
    }
}

static void check_what_opening_reads(struct scan *scan, struct store_transaction *transaction)
{
    struct slice key;
    struct slice value;
    struct error error;
    check_properties(scan, transaction);
    now_doing(scan, "reading the ends of the tables");
    for (int table = 0; table < STORE_TABLE_COUNT; table++) {
        enum status status = store_last(transaction, (enum store_table)table, &key, &value, &error);
        struct wal_record record;
        uint64_t lsn = 0;
        if (is_end(scan, status, &error) || table != STORE_RECORDS) {
            continue;
        }
        status = format_key_get(key, &lsn, &error);
        status = status != STATUS_OK ? status : format_record_get(lsn, value, &record, &error);
        is_end(scan, status, &error);
    }
    check_open(scan, transaction, true);
}

/* ------------------------------------------------------------------ the child: pages */

static void on_page_damage(void *context, uint64_t offset, const char *message)
{
    struct wal_damage damage = {.offset = offset};
    snprintf(damage.message, sizeof(damage.message), "%.255s", message);
    note_damage(context, &damage);
    ((struct scan *)context)->pages_damaged = true;
}

/* What is wrong with a row by itself. */
static enum status check_row(enum store_table table, struct slice key, struct slice value,
                             struct wal_damage *damage, struct error *ret_error)
{
    struct wal_record record;
    struct format_unit unit;
    struct format_session session;
    struct slice property;
    char name[FORMAT_PROPERTY_NAME_BYTES_MAX + 1] = "";
    uint64_t number = 0;
    bool numbered = table == STORE_RECORDS || table == STORE_UNITS || table == STORE_OPEN;
    enum status status = numbered ? format_key_get(key, &number, ret_error) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    switch (table) {
    case STORE_RECORDS:
        damage->lsn = number;
        return format_record_get(number, value, &record, ret_error);
    case STORE_UNITS:
        damage->unit = number;
        return format_unit_get(number, value, &unit, ret_error);
    case STORE_OPEN:
        damage->unit = number;
        return format_open_get(number, value, ret_error);
    case STORE_SESSIONS:
        return format_session_get(key, value, &session, ret_error);
    case STORE_PROPERTIES:
        if (key.size == 0 || key.size >= sizeof(name) || memchr(key.data, 0, key.size) != NULL) {
            return error_set(ret_error, STATUS_CORRUPT, "a property has an impossible name");
        }
        memcpy(name, key.data, key.size);
        return format_property_get(name, value, &property, ret_error);
    default:
        return STATUS_OK;
    }
}

static void on_row(void *context, enum store_table table, struct slice key, struct slice value,
                   uint64_t offset)
{
    struct scan *scan = context;
    struct wal_damage damage = {.offset = offset};
    struct error error;
    if (scan->everything && check_row(table, key, value, &damage, &error) != STATUS_OK) {
        snprintf(damage.message, sizeof(damage.message), "%.255s", error.message);
        note_damage(scan, &damage);
    }
}

/*
 * Walks the pages of the snapshot that `transaction` holds fast, NULL: of the newest. While an
 * owner works on the file its meta pages change: STATUS_NOT_FOUND, take a newer snapshot.
 */
static enum status check_pages(struct scan *scan, struct store_transaction *transaction,
                               struct error *ret_error)
{
    struct pages *pages = NULL;
    struct pages_result result = {0};
    struct store_usage usage = {0};
    struct pages_visitor visitor = {
        .row = on_row,
        .damage = on_page_damage,
        .context = scan,
        .pages_max = scan->everything ? 0 : PAGES_BEFORE_OPEN,
        .large_values = scan->everything,
    };
    now_doing(scan, "walking the pages");
    enum status status = STATUS_OK;
    if (transaction != NULL) {
        status = store_usage_get(transaction, &usage, ret_error);
    }
    if (status == STATUS_OK) {
        status = pages_open(scan->directory, &pages, ret_error);
    }
    if (status == STATUS_OK) {
        uint64_t before = scan->found.damage_count;
        status = pages_walk(pages, usage.commits, &visitor, &result, ret_error);
        if (status == STATUS_NOT_FOUND) {
            scan->found.damage_count = before; /* the meta pages were being written */
            scan->pages_damaged = false;
        }
        scan->found.page_bytes = pages_page_bytes(pages);
        scan->rows_checked = scan->everything && status == STATUS_OK && result.has_snapshot;
    }
    pages_close(pages);
    return status;
}

static enum status begin_and_check_pages(struct scan *scan, struct store *store,
                                         struct store_transaction **ret_transaction,
                                         struct error *ret_error)
{
    enum status status = STATUS_NOT_FOUND;
    for (int i = 0; i < SNAPSHOT_TRIES && status == STATUS_NOT_FOUND; i++) {
        struct store_transaction *transaction = NULL;
        status = store_begin(store, false, &transaction, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        status = check_pages(scan, transaction, ret_error);
        if (status == STATUS_OK) {
            *ret_transaction = transaction;
        } else {
            store_abort(transaction);
        }
    }
    return status == STATUS_NOT_FOUND
               ? error_set(ret_error, STATUS_LIMIT,
                           "the journal is written to faster than it can be read: try again")
               : status;
}

static enum status scan_in_child(struct scan *scan)
{
    struct store *store = NULL;
    struct store_transaction *transaction = NULL;
    enum store_content content = STORE_NOTHING;
    /* What is open is spread over the journal: around each of its pages the kernel would read a
       quarter of a megabyte that nobody needs. */
    struct store_options options = {
        .directory = scan->directory, .read_only = true, .scattered = !scan->everything};
    now_doing(scan, "opening the files");
    enum status status = store_open(&options, &store, &content, &scan->error);
    if (status == STATUS_OK && content == STORE_NOTHING) {
        status =
            error_set(&scan->error, STATUS_NOT_FOUND, "there is no journal in %s", scan->directory);
    }
    if (scan->everything && status == STATUS_CORRUPT) {
        /* LMDB cannot make anything of it: what can be told without it is told. */
        note(scan, 0, scan->error.message);
        return check_pages(scan, NULL, &scan->error);
    }
    if (status == STATUS_OK) {
        status = begin_and_check_pages(scan, store, &transaction, &scan->error);
    }
    if (status == STATUS_OK) {
        status = rows_check_version(transaction, &scan->error);
    }
    if (scan->everything && status == STATUS_CORRUPT) {
        note(scan, 0, scan->error.message);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (scan->pages_damaged) {
        return STATUS_OK; /* LMDB is not let near them */
    }
    now_doing(scan, "reading the list of free pages");
    struct error error;
    is_end(scan, store_check_free_pages(transaction, &error), &error);
    if (scan->everything) {
        check_everything(scan, transaction);
    } else {
        check_what_opening_reads(scan, transaction);
    }
    store_abort(transaction);
    store_close(store);
    return STATUS_OK;
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
    note(scan, 0, message);
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
       could kill it. */
    bool matters = !scan->finished || scan->pages_damaged || !read_only;
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

enum status scan_verify(const char *directory, struct wal_verification *ret_verification,
                        struct error *ret_error)
{
    struct scan *scan = map_scan(directory, true, ret_error);
    if (scan == NULL) {
        return STATUS_MEMORY;
    }
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
        status = scan_verify(directory, ret_verification, ret_error);
    }
    directory_unlock(lock);
    return status;
}
