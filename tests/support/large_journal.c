/*
 * Makes a large journal, and measures what its size costs. Not a test: figures for
 * docs/PERFORMANCE.md, and a journal of any size to try the programs on.
 *
 *     large_journal make DIRECTORY UNITS OPEN     UNITS ended units of 3 writes of 1 KB, and OPEN
 *                                                 open ones spread among them; goes on if it exists
 *     large_journal open DIRECTORY                milliseconds of wal_open() and wal_close()
 *     large_journal prune DIRECTORY               appends one group after the other, first alone,
 *                                                 then while everything ended is pruned
 *     large_journal drop DIRECTORY                takes its pages out of the page cache
 *
 * The open units are inserts of documents that nobody has made: a recovery has to look for each
 * and finds nothing to undo.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "holdfast/clock.h"
#include "holdfast/wal.h"
#include "recover/record.h"

enum {
    WRITES = 3,
    WRITE_BYTES = 1024,
    GROUP_UNITS = 256,
    RECORDS = WRITES + 2, /* BEGIN and COMMIT, too */
    ALONE_MS = 5000,
};

static void check(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "large_journal: %s\n", error->message);
        exit(1);
    }
}

static struct wal *open_journal(const char *directory, enum wal_durability durability)
{
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options options = {.directory = directory,
                                  .quota_bytes = UINT64_C(64) << 30,
                                  .durability = durability,
                                  .owner = "large_journal"};
    check(wal_open(&options, &wal, &error), &error);
    return wal;
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

/* ------------------------------------------------------------------ making */

struct payloads {
    bson_t begin;
    bson_t writes[WRITES];
    bson_t commit;
};

static void payloads_make(struct payloads *payloads, uint64_t unit)
{
    struct record_begin begin = {
        .boundary = "driver", .user = "admin.alice", .client = "10.0.0.1:5", .application = "shop"};
    static char filling[WRITE_BYTES];
    memset(filling, 'x', sizeof filling - 1);
    bson_init(&payloads->begin);
    bson_init(&payloads->commit);
    record_put_begin(&payloads->begin, &begin);
    record_put_commit(&payloads->commit, NULL, 0, (struct slice){0});
    for (int32_t i = 0; i < WRITES; i++) {
        bson_t key = BSON_INITIALIZER;
        bson_t document = BSON_INITIALIZER;
        BSON_APPEND_INT64(&key, "_id", (int64_t)(unit * WRITES) + i);
        BSON_APPEND_INT64(&document, "_id", (int64_t)(unit * WRITES) + i);
        BSON_APPEND_UTF8(&document, "v", filling);
        struct record_write write = {
            .number = i,
            .operation = RECORD_INSERT,
            .namespace = "large_journal.documents",
            .key = slice_of(&key),
            .before = {.presence = IMAGE_ABSENT},
            .after = {.presence = IMAGE_PRESENT, .document = slice_of(&document)},
            .connection = "10.0.0.1:6",
        };
        bson_init(&payloads->writes[i]);
        record_put_write(&payloads->writes[i], &write, NULL, 0);
        bson_destroy(&key);
        bson_destroy(&document);
    }
}

static void payloads_free(struct payloads *payloads)
{
    bson_destroy(&payloads->begin);
    bson_destroy(&payloads->commit);
    for (int i = 0; i < WRITES; i++) {
        bson_destroy(&payloads->writes[i]);
    }
}

/* One unit's records, chained; returns the last. */
static struct wal_append *unit_records(struct wal_append *records, struct wal *wal,
                                       const struct payloads *payloads, bool ended)
{
    uint64_t unit = wal_unit_next(wal);
    int count = ended ? RECORDS : RECORDS - 1;
    for (int i = 0; i < count; i++) {
        bool first = i == 0;
        bool last = i == RECORDS - 1;
        records[i] = (struct wal_append){
            .kind = first  ? WAL_KIND_BEGIN
                    : last ? WAL_KIND_COMMIT
                           : WAL_KIND_WRITE,
            .unit = unit,
            .payload = slice_of(first  ? &payloads->begin
                                : last ? &payloads->commit
                                       : &payloads->writes[i - 1]),
            .next = i + 1 < count ? &records[i + 1] : NULL,
        };
    }
    return &records[count - 1];
}

static void make(const char *directory, uint64_t units, uint64_t open)
{
    static struct payloads payloads[GROUP_UNITS];
    static struct wal_append records[GROUP_UNITS * RECORDS];
    struct wal *wal = open_journal(directory, WAL_DURABILITY_PROCESS);
    uint64_t total = units + open;
    uint64_t stride = open == 0 ? UINT64_MAX : total / open;
    for (uint64_t done = 0; done < total;) {
        struct error error = {0};
        struct wal_append *last = NULL;
        int count = 0;
        for (; count < GROUP_UNITS && done < total; count++, done++) {
            struct wal_append *first = &records[count * RECORDS];
            payloads_make(&payloads[count], done);
            if (last != NULL) {
                last->next = first;
            }
            bool stays_open = done % stride == stride - 1 && done / stride < open;
            last = unit_records(first, wal, &payloads[count], !stays_open);
        }
        check(wal_append_wait(wal, records, &error), &error);
        for (int i = 0; i < count; i++) {
            payloads_free(&payloads[i]);
        }
    }
    wal_close(wal, false);
}

/* ------------------------------------------------------------------ measuring */

static void measure_open(const char *directory)
{
    uint64_t start = clock_monotonic_ms();
    struct wal *wal = open_journal(directory, WAL_DURABILITY_POWER);
    uint64_t opened = clock_monotonic_ms();
    wal_close(wal, false);
    printf("open %" PRIu64 " ms, close %" PRIu64 " ms\n", opened - start,
           clock_monotonic_ms() - opened);
}

struct pruning {
    struct wal *wal;
    uint64_t units;
    uint64_t ms;
    atomic_bool done;
};

static void *prune_main(void *context)
{
    struct pruning *pruning = context;
    struct error error = {0};
    uint64_t start = clock_monotonic_ms();
    check(wal_prune(pruning->wal,
                    &(struct wal_prune_options){.ended_before_ms = clock_wall_ms(),
                                                .settled_lsn = UINT64_MAX},
                    &pruning->units, &error),
          &error);
    pruning->ms = clock_monotonic_ms() - start;
    atomic_store(&pruning->done, true);
    return NULL;
}

static int compare_times(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Appends units one after the other until `done`, or for ALONE_MS. */
static void measure_appends(struct wal *wal, const char *label, const atomic_bool *done)
{
    enum { TIMES_MAX = 1 << 20 };
    double *times = calloc(TIMES_MAX, sizeof *times);
    size_t count = 0;
    double start = now_ms();
    while (times != NULL && count < TIMES_MAX &&
           (done != NULL ? !atomic_load(done) : now_ms() - start < ALONE_MS)) {
        struct error error = {0};
        struct payloads payloads;
        struct wal_append records[RECORDS];
        payloads_make(&payloads, count);
        unit_records(records, wal, &payloads, true);
        double began = now_ms();
        check(wal_append_wait(wal, records, &error), &error);
        times[count++] = now_ms() - began;
        payloads_free(&payloads);
    }
    if (count > 0) {
        qsort(times, count, sizeof *times, compare_times);
        printf("%-14s %7zu appends: median %.2f ms, 99 %% %.2f ms, longest %.2f ms\n", label, count,
               times[count / 2], times[count * 99 / 100], times[count - 1]);
    }
    free(times);
}

static void measure_prune(const char *directory)
{
    struct pruning pruning = {.wal = open_journal(directory, WAL_DURABILITY_POWER)};
    pthread_t thread;
    measure_appends(pruning.wal, "alone", NULL);
    if (pthread_create(&thread, NULL, prune_main, &pruning) != 0) {
        exit(1);
    }
    measure_appends(pruning.wal, "while pruning", &pruning.done);
    pthread_join(thread, NULL);
    printf("pruned %" PRIu64 " units in %" PRIu64 " ms\n", pruning.units, pruning.ms);
    measure_appends(pruning.wal, "afterwards", NULL);
    wal_close(pruning.wal, false);
}

static void drop(const char *directory, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fdatasync(descriptor) != 0 ||
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) != 0) {
        perror(path);
        exit(1);
    }
    close(descriptor);
}

int main(int count, char **arguments)
{
    if (count == 5 && strcmp(arguments[1], "make") == 0) {
        make(arguments[2], strtoull(arguments[3], NULL, 10), strtoull(arguments[4], NULL, 10));
    } else if (count == 3 && strcmp(arguments[1], "open") == 0) {
        measure_open(arguments[2]);
    } else if (count == 3 && strcmp(arguments[1], "prune") == 0) {
        measure_prune(arguments[2]);
    } else if (count == 3 && strcmp(arguments[1], "drop") == 0) {
        drop(arguments[2], "data.mdb");
        drop(arguments[2], "tail.wal");
    } else {
        fprintf(stderr, "usage: large_journal make DIRECTORY UNITS OPEN\n"
                        "       large_journal open|prune|drop DIRECTORY\n");
        return 2;
    }
    return 0;
}
