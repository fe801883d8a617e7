/*
 * Threads that append, each with units of its own; completions arrive on the journal's writer
 * thread, which alone fills in the table of records.
 */

#include "workload.h"

#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>

#include "storage.h"
#include "wal_fixture.h"

enum { THREADS = 4, GROUP_RECORDS_MAX = 4, LONG_UNIT_RECORDS = 700 };
enum { READ_EVERY = 3 };
enum { SMALL_BYTES = 200, LARGE_BYTES = 40000 };

/* ------------------------------------------------------------------ payloads */

static void fill_payload(uint8_t *payload, uint32_t size, uint64_t unit, enum wal_kind kind)
{
    uint64_t seed = unit * 16 + (uint64_t)kind;
    for (uint32_t i = 0; i < size; i += (uint32_t)sizeof(seed)) {
        uint64_t value = fixture_random(&seed);
        uint32_t left = size - i;
        memcpy(payload + i, &value, left < sizeof(value) ? left : sizeof(value));
    }
}

static bool payload_is_right(const struct wal_record *record)
{
    static uint8_t wanted[LARGE_BYTES];
    if (record->payload.size > sizeof(wanted)) {
        return false;
    }
    fill_payload(wanted, (uint32_t)record->payload.size, record->unit, record->kind);
    return slice_equal(record->payload, slice_make(wanted, record->payload.size));
}

/* ------------------------------------------------------------------ appending */

/* One thread, and the group that it has under way. */
struct producer {
    struct workload *workload;
    struct wal *wal;
    pthread_t thread;
    sem_t done;
    unsigned groups;
    uint64_t seed;
    uint64_t open_unit; /* 0: none */
    struct wal_append appends[GROUP_RECORDS_MAX];
    uint8_t payloads[GROUP_RECORDS_MAX][LARGE_BYTES];
    unsigned count;
};

/* On the writer thread. */
static void remember(struct workload *workload, const struct wal_append *first)
{
    if (first->status != STATUS_OK) {
        workload->failed++;
        return;
    }
    for (const struct wal_append *append = first; append != NULL; append = append->next) {
        if (append->lsn >= WORKLOAD_RECORDS_MAX) {
            abort();
        }
        workload->records[append->lsn] = (struct workload_record){
            .unit = append->unit,
            .kind = append->kind,
            .payload_size = (uint32_t)append->payload.size,
            .ends_group = append->next == NULL,
        };
        workload->last_lsn = append->lsn;
    }
    storage_mark(WORKLOAD_ACKNOWLEDGED, workload->last_lsn);
}

static void completed(struct wal_append *first, void *context)
{
    struct producer *producer = context;
    remember(producer->workload, first);
    sem_post(&producer->done);
}

static void add_record(struct producer *producer, enum wal_kind kind, uint64_t unit, uint32_t size)
{
    uint8_t *payload = producer->payloads[producer->count];
    struct wal_append *append = &producer->appends[producer->count];
    fill_payload(payload, size, unit, kind);
    *append = (struct wal_append){.kind = kind, .unit = unit, .payload = slice_make(payload, size)};
    if (producer->count > 0) {
        producer->appends[producer->count - 1].next = append;
    }
    producer->count++;
}

/* The next group: a whole unit, a unit's begin, or more of the unit that is open. */
static void make_group(struct producer *producer)
{
    uint64_t *seed = &producer->seed;
    bool is_large = fixture_random(seed) % 8 == 0;
    uint32_t size = (uint32_t)(fixture_random(seed) % (is_large ? LARGE_BYTES : SMALL_BYTES));
    producer->count = 0;
    if (producer->open_unit == 0) {
        uint64_t unit = wal_unit_next(producer->wal);
        add_record(producer, WAL_KIND_BEGIN, unit, 30);
        add_record(producer, WAL_KIND_WRITE, unit, size);
        if (fixture_random(seed) % 3 == 0) {
            add_record(producer, WAL_KIND_WRITE, unit, 100);
            add_record(producer, WAL_KIND_COMMIT, unit, 20);
            return;
        }
        producer->open_unit = unit;
        return;
    }
    switch (fixture_random(seed) % 5) {
    case 0:
        add_record(producer, WAL_KIND_ABORT, producer->open_unit, 10);
        producer->open_unit = 0;
        break;
    case 1:
        add_record(producer, WAL_KIND_COMMIT, producer->open_unit, size);
        producer->open_unit = 0;
        break;
    case 2:
        add_record(producer, WAL_KIND_CONFLICT, producer->open_unit, size);
        producer->open_unit = 0;
        break;
    default:
        add_record(producer, WAL_KIND_WRITE, producer->open_unit, size);
        break;
    }
}

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (unsigned i = 0; i < producer->groups; i++) {
        make_group(producer);
        producer->appends[0].completed = completed;
        producer->appends[0].context = producer;
        wal_append(producer->wal, &producer->appends[0]);
        while (sem_wait(&producer->done) != 0) {
        }
    }
    return NULL;
}

void workload_run(struct workload *workload, struct wal *wal, unsigned groups, uint64_t seed)
{
    static struct producer producers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        producers[i] = (struct producer){
            .workload = workload, .wal = wal, .groups = groups / THREADS, .seed = seed + i};
        sem_init(&producers[i].done, 0, 0);
        assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(producers[i].thread, NULL);
        sem_destroy(&producers[i].done);
    }
}

enum status workload_begin(struct workload *workload, struct wal *wal)
{
    static uint8_t payload[30];
    struct wal_append begin = {
        .kind = WAL_KIND_BEGIN,
        .unit = wal_unit_next(wal),
        .payload = slice_make(payload, sizeof(payload)),
    };
    fill_payload(payload, sizeof(payload), begin.unit, begin.kind);
    enum status status = wal_append_wait(wal, &begin, NULL);
    remember(workload, &begin);
    if (status == STATUS_IO) {
        /* Nobody knows whether it is there; if it is, it is the next. */
        workload->records[workload->last_lsn + 1] = (struct workload_record){
            .unit = begin.unit,
            .kind = begin.kind,
            .payload_size = sizeof(payload),
            .ends_group = true,
        };
    }
    return status;
}

void workload_long_unit(struct workload *workload, struct wal *wal)
{
    static struct wal_append appends[LONG_UNIT_RECORDS];
    static uint8_t payload[8];
    uint64_t unit = wal_unit_next(wal);
    fill_payload(payload, sizeof(payload), unit, WAL_KIND_WRITE);
    for (unsigned i = 0; i < LONG_UNIT_RECORDS; i++) {
        bool is_last = i + 1 == LONG_UNIT_RECORDS;
        appends[i] = (struct wal_append){
            .kind = i == 0    ? WAL_KIND_BEGIN
                    : is_last ? WAL_KIND_COMMIT
                              : WAL_KIND_WRITE,
            .unit = unit,
            .payload = slice_make(payload, i == 0 || is_last ? 0 : sizeof(payload)),
            .next = is_last ? NULL : &appends[i + 1],
        };
    }
    assert_int_equal(wal_append_wait(wal, &appends[0], NULL), STATUS_OK);
    remember(workload, &appends[0]);
}

void workload_prune(struct workload *workload, struct wal *wal)
{
    assert_true(workload->prune_count < WORKLOAD_PRUNES_MAX);
    workload->prunes[workload->prune_count].place =
        storage_mark(WORKLOAD_PRUNE, workload->last_lsn);
    workload->prunes[workload->prune_count].last_lsn = workload->last_lsn;
    workload->prune_count++;
    assert_int_equal(wal_prune(wal,
                               &(struct wal_prune_options){.ended_before_ms = UINT64_MAX,
                                                           .settled_lsn = UINT64_MAX},
                               NULL, NULL),
                     STATUS_OK);
}

/* ------------------------------------------------------------------ checking */

/* Up to which LSN units that ended may have been removed. */
static uint64_t pruned_up_to(const struct workload *workload, size_t place)
{
    uint64_t lsn = 0;
    for (unsigned i = 0; i < workload->prune_count; i++) {
        if (workload->prunes[i].place < place) {
            lsn = workload->prunes[i].last_lsn;
        }
    }
    return lsn;
}

/* True if the unit ended by `until`. */
static bool ended_by(const struct workload *workload, uint64_t unit, uint64_t until)
{
    for (uint64_t lsn = until; lsn > 0; lsn--) {
        const struct workload_record *record = &workload->records[lsn];
        if (record->unit == unit) {
            return record->kind == WAL_KIND_COMMIT || record->kind == WAL_KIND_ABORT;
        }
    }
    return false;
}

/* Every record up to `last` that must be there; no other. NULL, or what is wrong. */
static const char *compare(const struct workload *workload, struct wal_reader *reader,
                           uint64_t last, uint64_t pruned, uint64_t *ret_lsn)
{
    struct wal_record found = {0};
    enum status status = wal_read_next(reader, 0, &found, NULL);
    for (uint64_t lsn = 1; lsn <= last; lsn++) {
        const struct workload_record *wanted = &workload->records[lsn];
        *ret_lsn = lsn;
        if (status == STATUS_OK && found.lsn == lsn) {
            if (found.unit != wanted->unit || found.kind != wanted->kind ||
                found.payload.size != wanted->payload_size || !payload_is_right(&found)) {
                return "is not what was appended";
            }
            status = wal_read_next(reader, lsn, &found, NULL);
        } else if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
            return "cannot be read";
        } else if (!ended_by(workload, wanted->unit, pruned)) {
            return "is missing";
        }
    }
    *ret_lsn = found.lsn;
    return status == STATUS_NOT_FOUND ? NULL : "was never appended";
}

static bool explain(char *why, size_t size, uint64_t lsn, const char *what)
{
    snprintf(why, size, "record %" PRIu64 " %s", lsn, what);
    return false;
}

static bool check_records(const struct workload *workload, struct wal *wal,
                          const struct workload_promise *promise, char *why, size_t why_size)
{
    struct wal_reader *reader = NULL;
    uint64_t last = wal_last_lsn(wal);
    uint64_t lsn = 0;
    if (last < promise->acknowledged) {
        snprintf(why, why_size, "it ends at %" PRIu64 ", acknowledged was %" PRIu64, last,
                 promise->acknowledged);
        return false;
    }
    if (last > workload->last_lsn || (last > 0 && !workload->records[last].ends_group)) {
        return explain(why, why_size, last, "is the last, which no group ends with");
    }
    if (wal_reader_begin(wal, &reader, NULL) != STATUS_OK) {
        return explain(why, why_size, 0, "cannot be read");
    }
    const char *wrong =
        compare(workload, reader, last, pruned_up_to(workload, promise->place), &lsn);
    wal_reader_end(reader);
    return wrong == NULL ? true : explain(why, why_size, lsn, wrong);
}

/* The journal goes on: with numbers that were never used. */
static bool check_appending(struct wal *wal, char *why, size_t why_size)
{
    uint64_t last = wal_last_lsn(wal);
    uint64_t unit = wal_unit_next(wal);
    struct wal_append commit = {.kind = WAL_KIND_COMMIT, .unit = unit};
    struct wal_append begin = {.kind = WAL_KIND_BEGIN, .unit = unit, .next = &commit};
    struct error error = {0};
    if (wal_append_wait(wal, &begin, &error) != STATUS_OK || begin.lsn != last + 1) {
        snprintf(why, why_size, "cannot append: %.200s", error.message);
        return false;
    }
    return true;
}

/* Read only first, which changes nothing: where there is no journal yet there is nothing to see. */
static bool check_before_recovery(const struct workload *workload,
                                  const struct wal_options *options,
                                  const struct workload_promise *promise, char *why,
                                  size_t why_size)
{
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options read_only = *options;
    read_only.read_only = true;
    enum status status = wal_open(&read_only, &wal, &error);
    if (status != STATUS_OK) {
        snprintf(why, why_size, "cannot be opened to read: %.200s", error.message);
        return status == STATUS_NOT_FOUND && promise->acknowledged == 0;
    }
    bool fine = check_records(workload, wal, promise, why, why_size);
    wal_close(wal, false);
    return fine;
}

bool workload_check(const struct workload *workload, const char *directory,
                    const struct workload_promise *promise, char *why, size_t why_size)
{
    struct wal *wal = NULL;
    struct wal_verification found = {0};
    struct error error = {0};
    struct wal_options options = {
        .directory = directory,
        .quota_bytes = FIXTURE_QUOTA_BYTES,
        .durability = WAL_DURABILITY_PROCESS, /* this image needs to survive nothing */
        .owner = "a test",
        .key_file = getenv("HOLDFAST_TEST_KEY_FILE"),
    };
    enum status status = wal_verify(directory, &found, &error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        snprintf(why, why_size, "cannot be verified: %.200s", error.message);
        return false;
    }
    if (found.damage_count > 0) {
        snprintf(why, why_size, "damaged: %.200s", found.damage[0].message);
        return false;
    }
    bool is_read = promise->place % READ_EVERY == 0; /* it takes a third of the time */
    if (is_read && !check_before_recovery(workload, &options, promise, why, why_size)) {
        return false;
    }
    status = wal_open(&options, &wal, &error);
    if (status != STATUS_OK) {
        snprintf(why, why_size, "cannot be opened: %.200s", error.message);
        return false;
    }
    bool fine =
        check_records(workload, wal, promise, why, why_size) && check_appending(wal, why, why_size);
    wal_close(wal, false);
    return fine;
}
