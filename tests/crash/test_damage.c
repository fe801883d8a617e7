/*
 * A journal with units of every kind, the newest groups of which are in its tail alone, and
 * hundreds of copies of it with a damaged data.mdb: flipped bits, pages that were zeroed,
 * exchanged, replaced by a former version or by noise, a file cut short, damaged meta pages,
 * damaged lists of free pages. Of each copy:
 *
 *  - whoever verifies, opens, recovers from or salvages it lives, or is told why not;
 *  - if it is called sound, then it reads exactly as the original: what was not noticed did not
 *    matter;
 *  - whoever opens it to write reads no record but byte for byte as it was written, and if he then
 *    writes, what could be read before still can;
 *  - what is salvaged of it is sound, has each record and each unit's row as the original has it,
 *    nothing of a unit that was called lost.
 *
 * And copies of tail and data.mdb that were made while a busy owner wrote to them, piece by piece:
 * each is sound and complete up to some moment since the copying began, or called damaged.
 *
 * HOLDFAST_TEST_SEED chooses the damage.
 */

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "holdfast/clock.h"
#include "test_seed.h"
#include "wal_tail_fixture.h"

#ifdef __SANITIZE_ADDRESS__
#define CASES 100 /* each takes five times as long */
#else
#define CASES 400
#endif
enum { UNITS = 220, RECORDS_MAX = 4096, UNITS_MAX = 1024, PAGE = 4096 };
enum { COPIES = 30 };
#define FILE_BYTES_MAX ((size_t)24 << 20)

static enum status prune(struct wal *wal, uint64_t ended_before_ms)
{
    const struct wal_prune_options options = {.ended_before_ms = ended_before_ms,
                                              .settled_lsn = UINT64_MAX};
    return wal_prune(wal, &options, NULL, NULL);
}

/* ------------------------------------------------------------------ the original */

struct known_record {
    struct wal_record record;
    uint8_t *payload;
};

/* All that a journal says. */
struct content {
    struct known_record records[RECORDS_MAX]; /* by LSN */
    struct wal_unit units[UNITS_MAX];         /* by number */
    uint64_t last_lsn;
    unsigned unit_count;
};

static struct content original;
static uint8_t original_bytes[FILE_BYTES_MAX];
static size_t original_size;
static uint8_t tail_bytes[FORMAT_TAIL_BYTES + 1];
static size_t tail_size;

static void append_unit(struct wal *wal, uint64_t *seed, const uint8_t *image)
{
    uint64_t unit = wal_unit_next(wal);
    uint64_t kind = fixture_random(seed) % 8;
    size_t size = fixture_random(seed) % (kind == 7 ? 30000 : 900);
    struct slice payload = slice_make(image + unit, size);
    struct wal_append last = {.kind = kind < 4   ? WAL_KIND_COMMIT
                                      : kind < 5 ? WAL_KIND_ABORT
                                      : kind < 6 ? WAL_KIND_CONFLICT
                                                 : WAL_KIND_WRITE,
                              .unit = unit,
                              .payload = payload};
    struct wal_append second = {
        .kind = WAL_KIND_WRITE, .unit = unit, .payload = payload, .next = &last};
    struct wal_append first = {
        .kind = WAL_KIND_WRITE, .unit = unit, .payload = slice_make(image, 100), .next = &second};
    struct wal_append begin = {.kind = WAL_KIND_BEGIN,
                               .unit = unit,
                               .session_key = slice_make(&unit, sizeof(unit)),
                               .transaction_number = (int64_t)unit,
                               .next = &first};
    if (fixture_random(seed) % 2 == 0) { /* in two transactions */
        first.next = NULL;
        assert_int_equal(wal_append_wait(wal, &begin, NULL), STATUS_OK);
        assert_int_equal(wal_append_wait(wal, &second, NULL), STATUS_OK);
    } else {
        assert_int_equal(wal_append_wait(wal, &begin, NULL), STATUS_OK);
    }
}

static void make_original(const struct fixture *fixture)
{
    static uint8_t image[64 << 10];
    uint64_t seed = 1;
    struct wal *wal = fixture_open(fixture);
    for (size_t i = 0; i < sizeof(image); i++) {
        image[i] = (uint8_t)fixture_random(&seed);
    }
    for (unsigned i = 0; i < UNITS / 2; i++) {
        append_unit(wal, &seed, image);
    }
    assert_int_equal(prune(wal, UINT64_MAX), STATUS_OK); /* makes free pages */
    for (unsigned i = 0; i < UNITS / 2; i++) {
        append_unit(wal, &seed, image);
    }
    struct wal_unit open = {0};
    struct wal_reader *reader = fixture_reader(wal);
    do {
        assert_int_equal(wal_read_open_next(reader, open.unit, &open, NULL), STATUS_OK);
    } while (open.state != WAL_UNIT_OPEN);
    wal_reader_end(reader);
    wal_close(wal, false);
    const struct left_group groups[] = {
        {WAL_KIND_BEGIN, 900, NULL, "nine hundred"}, {WAL_KIND_WRITE, open.unit, "goes on", NULL},
        {WAL_KIND_WRITE, 900, "more", NULL},         {WAL_KIND_BEGIN, 901, NULL, NULL},
        {WAL_KIND_COMMIT, 900, NULL, NULL},          {WAL_KIND_COMMIT, open.unit, NULL, NULL},
        {WAL_KIND_BEGIN, 902, "two", "two"},         {WAL_KIND_CONFLICT, 902, "why", NULL},
        {WAL_KIND_WRITE, 901, "open", NULL},
    };
    left_tail_make(fixture, groups, sizeof(groups) / sizeof(groups[0]));
}

static void path_in(const struct fixture *fixture, const char *place, const char *file, char *path,
                    size_t size)
{
    char name[64];
    snprintf(name, sizeof(name), "%s/%s", place, file);
    fixture_path(fixture, name, path, size);
}

static void file_path(const struct fixture *fixture, const char *place, char *path, size_t size)
{
    path_in(fixture, place, "data.mdb", path, size);
}

static void tail_path(const struct fixture *fixture, const char *place, char *path, size_t size)
{
    path_in(fixture, place, FORMAT_TAIL_FILE, path, size);
}

static size_t read_file(const char *path, uint8_t *bytes, size_t capacity)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    assert_true(size < capacity);
    assert_int_equal(fclose(file), 0);
    return size;
}

static void write_to(const char *path, const uint8_t *bytes, size_t size)
{
    (void)remove(path); /* a new file: LMDB maps the old one perhaps still in a child */
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A data.mdb, and the tail beside it. */
static void write_file(const struct fixture *fixture, const char *place, const uint8_t *bytes,
                       size_t size)
{
    char path[512];
    fixture_path(fixture, place, path, sizeof(path));
    assert_true(mkdir(path, 0700) == 0 || access(path, F_OK) == 0);
    file_path(fixture, place, path, sizeof(path));
    write_to(path, bytes, size);
    tail_path(fixture, place, path, sizeof(path));
    write_to(path, tail_bytes, tail_size);
}

static void remove_place(const struct fixture *fixture, const char *place)
{
    char path[512];
    fixture_path(fixture, place, path, sizeof(path));
    nftw(path, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct wal_options options_of(const struct fixture *fixture, const char *place, char *path,
                                     size_t size, bool read_only)
{
    struct wal_options options = fixture_options(fixture);
    fixture_path(fixture, place, path, size);
    options.directory = path;
    options.read_only = read_only;
    return options;
}

/* ------------------------------------------------------------------ comparing */

/* True if `record` is what the original has under its LSN. */
static bool record_is_original(const struct wal_record *record)
{
    const struct known_record *known =
        record->lsn < RECORDS_MAX ? &original.records[record->lsn] : NULL;
    return known != NULL && known->record.lsn == record->lsn &&
           known->record.unit == record->unit && known->record.kind == record->kind &&
           known->record.previous_lsn == record->previous_lsn &&
           known->record.time_ms == record->time_ms &&
           slice_equal(known->record.payload, record->payload);
}

static bool unit_is_original(const struct wal_unit *unit)
{
    const struct wal_unit *known = unit->unit < UNITS_MAX ? &original.units[unit->unit] : NULL;
    return known != NULL && known->unit == unit->unit && known->first_lsn == unit->first_lsn &&
           known->last_lsn == unit->last_lsn && known->state == unit->state &&
           known->begin_time_ms == unit->begin_time_ms && known->last_time_ms == unit->last_time_ms;
}

static void remember_original(const struct fixture *fixture)
{
    char path[512];
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = options_of(fixture, ".", path, sizeof(path), true);
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    struct wal_record record = {0};
    while (wal_read_next(reader, record.lsn, &record, &error) == STATUS_OK) {
        assert_true(record.lsn < RECORDS_MAX);
        struct known_record *known = &original.records[record.lsn];
        known->payload = malloc(record.payload.size + 1);
        assert_non_null(known->payload);
        if (record.payload.size > 0) {
            memcpy(known->payload, record.payload.data, record.payload.size);
        }
        known->record = record;
        known->record.payload = slice_make(known->payload, record.payload.size);
        original.last_lsn = record.lsn;
    }
    struct wal_unit unit = {0};
    while (wal_read_unit_next(reader, unit.unit, &unit, &error) == STATUS_OK) {
        assert_true(unit.unit < UNITS_MAX);
        original.units[unit.unit] = unit;
        original.unit_count++;
    }
    wal_reader_end(reader);
    wal_close(wal, false);
}

/* ------------------------------------------------------------------ in a child */

enum outcome {
    OUTCOME_REFUSED = 10, /* with a message */
    OUTCOME_SAME,         /* all is as in the original */
    OUTCOME_LESS,         /* some things cannot be read, all else is as in the original */
    OUTCOME_WRONG,        /* something else was read */
    OUTCOME_SILENT,       /* refused without a word */
};

/* Reads all. A record or row that cannot be read is left out. */
static enum outcome read_all(struct wal *wal, bool units_too)
{
    struct wal_reader *reader = NULL;
    bool less = false;
    unsigned units = 0;
    uint64_t next_open = 0;
    if (wal_reader_begin(wal, &reader, NULL) != STATUS_OK) {
        return OUTCOME_LESS;
    }
    for (uint64_t lsn = 1; lsn <= original.last_lsn; lsn++) {
        struct wal_record record;
        enum status status = wal_read(reader, lsn, &record, NULL);
        bool wanted = original.records[lsn].record.lsn != 0;
        if (status == STATUS_OK && !record_is_original(&record)) {
            return OUTCOME_WRONG;
        }
        less = less || (status != STATUS_OK && wanted);
    }
    for (uint64_t number = 1; number < UNITS_MAX && units_too; number++) {
        struct wal_unit unit;
        if (wal_read_unit(reader, number, &unit, NULL) == STATUS_OK) {
            units++;
            if (!unit_is_original(&unit)) {
                return OUTCOME_WRONG;
            }
        }
    }
    struct wal_unit open = {0};
    while (wal_read_open_next(reader, open.unit, &open, NULL) == STATUS_OK) {
        next_open++;
    }
    for (uint64_t number = 1; number < UNITS_MAX; number++) {
        const struct wal_unit *unit = &original.units[number];
        bool is_open =
            unit->unit != 0 && (unit->state == WAL_UNIT_OPEN || unit->state == WAL_UNIT_CONFLICT);
        next_open -= is_open ? 1 : 0;
    }
    wal_reader_end(reader);
    return less || units != original.unit_count || next_open != 0 ? OUTCOME_LESS : OUTCOME_SAME;
}

/* As a recovery does: reads each open unit from its end; then ends it. */
static bool recover_all(struct wal *wal)
{
    struct wal_unit open = {0};
    for (;;) {
        struct wal_reader *reader = NULL;
        struct wal_record record;
        if (wal_reader_begin(wal, &reader, NULL) != STATUS_OK) {
            return true;
        }
        enum status status = wal_read_open_next(reader, open.unit, &open, NULL);
        for (uint64_t lsn = status == STATUS_OK ? open.last_lsn : 0; lsn != 0;
             lsn = record.previous_lsn) {
            status = wal_read(reader, lsn, &record, NULL);
            if (status != STATUS_OK) {
                break;
            }
            if (!record_is_original(&record)) {
                return false;
            }
        }
        wal_reader_end(reader);
        if (status != STATUS_OK) {
            return true;
        }
        struct wal_append end = {.kind = WAL_KIND_ABORT, .unit = open.unit};
        if (open.state == WAL_UNIT_OPEN && wal_append_wait(wal, &end, NULL) != STATUS_OK) {
            return true; /* told */
        }
    }
}

enum purpose { LOOK, RECOVER_AND_WRITE, LOOK_AGAIN };

static enum outcome open_and_read(const struct fixture *fixture, const char *place,
                                  enum purpose purpose)
{
    bool write = purpose == RECOVER_AND_WRITE;
    char path[512];
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options options = options_of(fixture, place, path, sizeof(path), !write);
    if (wal_open(&options, &wal, &error) != STATUS_OK) {
        return error.message[0] == '\0' ? OUTCOME_SILENT : OUTCOME_REFUSED;
    }
    enum outcome outcome = write ? OUTCOME_SAME : read_all(wal, purpose == LOOK);
    if (write && !recover_all(wal)) {
        outcome = OUTCOME_WRONG;
    }
    if (write) {
        static const uint8_t image[9000] = {7};
        for (int i = 0; i < 20; i++) {
            uint64_t unit = wal_unit_next(wal);
            struct wal_append record = {
                .kind = WAL_KIND_WRITE, .unit = unit, .payload = slice_make(image, sizeof(image))};
            struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .next = &record};
            if (wal_append_wait(wal, &begin, NULL) != STATUS_OK) {
                break;
            }
        }
        uint64_t before = original.last_lsn % 2 == 0 ? UINT64_MAX : 1;
        enum status pruned = prune(wal, before); /* old pages are touched, too */
        (void)pruned;
    }
    wal_close(wal, false);
    return outcome;
}

/* In a child: LMDB may kill whoever only looks; a reader is not the daemon. */
static int in_child(const struct fixture *fixture, const char *place, enum purpose purpose)
{
    int wait_status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
        for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
            (void)signal(deadly[i], SIG_DFL); /* cmocka would go on with the next test */
        }
        FILE *nowhere = freopen("/dev/null", "w", stderr); /* LMDB says its last words */
        (void)nowhere;
        _exit((int)open_and_read(fixture, place, purpose));
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
}

/* ------------------------------------------------------------------ damage */

static uint8_t bytes[FILE_BYTES_MAX];

static size_t some_page(uint64_t *seed, size_t size)
{
    return fixture_random(seed) % (size / PAGE) * PAGE;
}

/* Damages `bytes`; returns the new size, and what was done. */
static size_t damage(uint64_t *seed, size_t size, char *what, size_t what_size)
{
    static uint8_t kept[PAGE];
    size_t page = some_page(seed, size);
    size_t other = some_page(seed, size);
    size_t at = page + fixture_random(seed) % PAGE;
    uint8_t mask = (uint8_t)(1u << fixture_random(seed) % 8);
    uint64_t kind = fixture_random(seed) % 10;
    snprintf(what, what_size, "kind %" PRIu64 ", byte %zu, page %zu and %zu, mask %u", kind, at,
             page / PAGE, other / PAGE, mask);
    switch (kind) {
    case 0:
    case 1: /* anywhere */
        bytes[at] ^= mask;
        return size;
    case 2:
    case 3: /* headers and tables of nodes are where LMDB trusts what it reads */
        bytes[page + fixture_random(seed) % 64] ^= mask;
        return size;
    case 4: /* a node */
        bytes[page + PAGE - 1 - fixture_random(seed) % 200] ^= mask;
        return size;
    case 5: /* a meta page */
        at = fixture_random(seed) % 2 * PAGE + fixture_random(seed) % 152;
        snprintf(what, what_size, "meta page, byte %zu, mask %u", at, mask);
        bytes[at] ^= mask;
        return size;
    case 6:
        memset(bytes + page, 0, PAGE);
        return size;
    case 7: /* pages out of order */
        memcpy(kept, bytes + page, PAGE);
        memcpy(bytes + page, bytes + other, PAGE);
        memcpy(bytes + other, kept, PAGE);
        return size;
    case 8: /* a sector of noise */
        at = page + fixture_random(seed) % 8 * 512;
        for (size_t i = 0; i < 512; i++) {
            bytes[at + i] = (uint8_t)fixture_random(seed);
        }
        return size;
    default:
        return size - fixture_random(seed) % (size / 2);
    }
}

/* ------------------------------------------------------------------ one case */

struct tally {
    unsigned sound;
    unsigned refused;
    unsigned opened;
    unsigned salvaged;
    unsigned units_kept;
    unsigned units_lost;
};

static bool lost[UNITS_MAX];
static unsigned lost_count;

static void on_lost_unit(void *context, const struct wal_unit *unit, const char *why)
{
    (void)context;
    assert_true(why[0] != '\0');
    if (unit->unit < UNITS_MAX && original.units[unit->unit].unit != 0) {
        lost_count += lost[unit->unit] ? 0 : 1;
        lost[unit->unit] = true;
    }
}

static void on_lost_record(void *context, const struct wal_record *record)
{
    (void)context;
    /* Of a unit that is known; others were pruned. */
    if (record->lsn < RECORDS_MAX && original.records[record->lsn].record.lsn != 0) {
        assert_true(record_is_original(record));
    }
}

static void check_salvaged(const struct fixture *fixture, const char *what)
{
    char path[512];
    struct wal *wal = NULL;
    struct error error;
    struct wal_verification found;
    struct wal_options options = options_of(fixture, "salvaged", path, sizeof(path), false);
    assert_status(wal_verify(path, &found, &error), STATUS_OK, &error);
    if (found.damage_count != 0) {
        fail_msg("%s: salvaged, and yet %s", what, found.damage[0].message);
    }
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_true(wal_last_lsn(wal) > original.last_lsn);
    struct wal_reader *reader = fixture_reader(wal);
    struct wal_record record = {0};
    while (wal_read_next(reader, record.lsn, &record, &error) == STATUS_OK) {
        if (!record_is_original(&record) || lost[record.unit]) {
            fail_msg("%s: salvaged record %" PRIu64 " is not the original's", what, record.lsn);
        }
    }
    struct wal_unit unit = {0};
    while (wal_read_unit_next(reader, unit.unit, &unit, &error) == STATUS_OK) {
        if (!unit_is_original(&unit) || lost[unit.unit]) {
            fail_msg("%s: salvaged unit %" PRIu64 " is not the original's", what, unit.unit);
        }
    }
    wal_reader_end(reader);
    wal_close(wal, false);
}

static void salvage(const struct fixture *fixture, const char *what, struct tally *tally)
{
    char from[512];
    char to[512];
    struct wal_salvage done;
    struct error error = {0};
    fixture_path(fixture, "damaged", from, sizeof(from));
    fixture_path(fixture, "salvaged", to, sizeof(to));
    memset(lost, 0, sizeof(lost));
    lost_count = 0;
    struct wal_salvage_options options = {
        .directory = from, .target = to, .lost_unit = on_lost_unit, .lost_record = on_lost_record};
    if (wal_salvage_run(&options, &done, &error) != STATUS_OK) {
        assert_true(error.message[0] != '\0');
        return;
    }
    tally->salvaged++;
    tally->units_kept += (unsigned)done.units_kept;
    tally->units_lost += (unsigned)done.units_lost;
    check_salvaged(fixture, what);
    if (done.damage_count == 0 && done.units_lost != 0) {
        fail_msg("%s: units are lost although nothing is damaged", what);
    }
    remove_place(fixture, "salvaged");
}

static void run_case(const struct fixture *fixture, uint64_t seed, struct tally *tally)
{
    char what[200];
    char path[512];
    struct wal_verification found = {0};
    struct error error = {0};
    memcpy(bytes, original_bytes, original_size);
    size_t size = damage(&seed, original_size, what, sizeof(what));
    write_file(fixture, "damaged", bytes, size);
    fixture_path(fixture, "damaged", path, sizeof(path));

    enum status status = wal_verify(path, &found, &error);
    bool sound = status == STATUS_OK && found.damage_count == 0;
    int looked = in_child(fixture, "damaged", LOOK);
    tally->sound += sound ? 1 : 0;
    if (looked < 0 || looked == OUTCOME_SILENT || looked == OUTCOME_WRONG ||
        (sound && looked != OUTCOME_SAME)) {
        fail_msg("%s: verified as %s, read with outcome %d", what, sound ? "sound" : "damaged",
                 looked);
    }
    salvage(fixture, what, tally);

    int written = in_child(fixture, "damaged", RECOVER_AND_WRITE);
    if (written != OUTCOME_REFUSED && written != OUTCOME_SAME) {
        fail_msg("%s: opened to write: outcome %d", what, written);
    }
    tally->refused += written == OUTCOME_REFUSED ? 1 : 0;
    tally->opened += written == OUTCOME_SAME ? 1 : 0;
    if (sound && written == OUTCOME_REFUSED) {
        fail_msg("%s: verified as sound, and refused", what);
    }
    if (written == OUTCOME_SAME && looked >= 0) {
        /* The states of units have changed; records are for ever. */
        int after = in_child(fixture, "damaged", LOOK_AGAIN);
        if (after < 0 || after == OUTCOME_WRONG || after == OUTCOME_REFUSED) {
            fail_msg("%s: writing made it worse: outcome %d", what, after);
        }
    }
    remove_place(fixture, "damaged");
}

static void test_damaged_in_hundreds_of_ways(void **state)
{
    const struct fixture *fixture = *state;
    char path[512];
    struct tally tally = {0};
    uint64_t seed = seed_of_run();
    make_original(fixture);
    remember_original(fixture);
    file_path(fixture, ".", path, sizeof(path));
    original_size = read_file(path, original_bytes, sizeof(original_bytes)) / PAGE * PAGE;
    tail_path(fixture, ".", path, sizeof(path));
    tail_size = read_file(path, tail_bytes, sizeof(tail_bytes));
    for (int i = 0; i < CASES; i++) {
        run_case(fixture, fixture_random(&seed), &tally);
    }
    print_message("%u called sound, %u refused, %u opened, %u salvaged (%u units kept, %u lost)\n",
                  tally.sound, tally.refused, tally.opened, tally.salvaged, tally.units_kept,
                  tally.units_lost);
    assert_true(tally.refused > CASES / 10);
    assert_true(tally.salvaged > CASES / 2);
    assert_true(tally.units_lost > 0);
}

/* ------------------------------------------------------------------ copied while in use */

static _Atomic bool writer_stops;
static _Atomic bool writer_failed;
static _Atomic uint64_t acknowledged; /* the last LSN */

static void *keep_writing(void *context)
{
    struct wal *wal = context;
    static const uint8_t image[3000] = {3};
    while (!atomic_load(&writer_stops)) {
        uint64_t unit = wal_unit_next(wal);
        struct wal_append commit = {.kind = WAL_KIND_COMMIT, .unit = unit};
        struct wal_append record = {.kind = WAL_KIND_WRITE,
                                    .unit = unit,
                                    .payload = slice_make(image, unit % sizeof(image))};
        struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .next = &record};
        enum status status = wal_append_wait(wal, &begin, NULL);
        if (status == STATUS_OK) {
            status = wal_append_wait(wal, &commit, NULL);
        }
        if (status == STATUS_OK) {
            atomic_store(&acknowledged, commit.lsn);
        }
        /* Where writing is faster than pruning, it waits for that. */
        if (status == STATUS_FULL || unit % 64 == 0) {
            status = prune(wal, status == STATUS_FULL ? UINT64_MAX : clock_wall_ms() - 20);
        }
        if (status != STATUS_OK) {
            atomic_store(&writer_failed, true); /* not by an assertion: this is no test's thread */
            return NULL;
        }
    }
    return NULL;
}

/* As cp does, slower: the tail before the tables. */
static size_t copy_slowly(const struct fixture *fixture)
{
    char path[512];
    const size_t piece = 64 << 10;
    size_t size = 0;
    tail_path(fixture, ".", path, sizeof(path));
    tail_size = read_file(path, tail_bytes, sizeof(tail_bytes));
    file_path(fixture, ".", path, sizeof(path));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (size_t got = piece; got == piece; size += got) {
        assert_true(size + piece <= sizeof(bytes));
        got = fread(bytes + size, 1, piece, file);
        usleep(300);
    }
    assert_int_equal(fclose(file), 0);
    return size;
}

static void test_copied_while_in_use(void **state)
{
    const struct fixture *fixture = *state;
    char path[512];
    pthread_t thread;
    unsigned sound = 0;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* forks beside a busy writer: minutes, and nothing of it that the test above has not */
#endif
    struct wal *wal = fixture_open(fixture);
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, wal), 0);
    for (int i = 0; i < COPIES; i++) {
        struct wal_verification found = {0};
        struct error error = {0};
        uint64_t before = atomic_load(&acknowledged);
        write_file(fixture, "damaged", bytes, copy_slowly(fixture));
        fixture_path(fixture, "damaged", path, sizeof(path));
        enum status status = wal_verify(path, &found, &error);
        if (status != STATUS_OK || found.damage_count > 0) {
            continue;
        }
        sound++;
        struct wal *copy = NULL;
        struct wal_options options = options_of(fixture, "damaged", path, sizeof(path), false);
        assert_status(wal_open(&options, &copy, &error), STATUS_OK, &error);
        assert_true(wal_last_lsn(copy) >= before);
        wal_close(copy, false);
    }
    for (int i = 0; i < COPIES; i++) {
        fixture_assert_undamaged(fixture); /* beside its busy owner the original is, at each look */
    }
    atomic_store(&writer_stops, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&writer_failed));
    fixture_assert_undamaged(fixture);
    wal_close(wal, true);
    print_message("%u of %d copies are sound\n", sound, COPIES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_damaged_in_hundreds_of_ways),
                                       TEST(test_copied_while_in_use)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
