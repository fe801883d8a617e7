/*
 * The queue and the writer thread: group commit.
 *
 *      any thread               writer thread
 *
 *      wal_append() --+
 *      wal_append() --+--> queue --take all--> batch --> one LMDB transaction --commit (durable)-->
 *      wal_append() --+                                                                           |
 *                                          completed() of each group, in the order of the calls <-+
 *
 * While one batch is on its way to the disk the next one gathers in the queue: the busier it is,
 * the more groups share a commit. Where several shared the last one and fewer are there again, the
 * writer waits a part of a commit's time for those that are about to come: a commit that is saved
 * is time of the disk and of the processor for all. A group that comes alone never waits.
 *
 * A group that nobody waits for (`unhurried`) lies in the queue until another one wakes the writer,
 * or WAL_UNHURRIED_MS have passed: it costs no commit of its own.
 *
 * Invariants
 *  - completed() runs after the commit that made the group durable, or after the group failed; in
 *    the order of the wal_append() calls; never under the lock.
 *  - A group that breaks the rules or meets the quota fails alone (batch.c checks it beforehand).
 * If LMDB itself runs out of room the whole transaction is lost, so the batch is cut in halves and
 *    tried again, down to single groups: what can get in gets in.
 *  - After any other failure of the store nothing is tried again and everything fails with
 *    STATUS_IO: nobody knows what the disk kept.
 *
 * `lock` guards the queues, `failure` and the flags; all else belongs to the writer thread.
 */

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "holdfast/crash_point.h"
#include "wal/batch.h"
#include "wal/internal.h"

/* One transaction's share, so that a long queue neither holds up the first answers nor fills memory
   with changed pages. A single larger group still goes as a whole. */
#define BATCH_BYTES_MAX ((uint64_t)16 << 20)
#define BATCH_GROUPS_MAX 4096u
/* Removing rows takes pages, too: LMDB changes copies. */
#define PRUNE_BYTES ((uint64_t)4 << 20)
/* What is waited for others to join: this part of the last commit's time, and never longer. */
#define GATHER_PART 2
#define GATHER_US_MAX ((uint64_t)300)
/* How often slots of dead readers are looked for, while there is something to write. */
#define STALE_READERS_MS 1000u

struct task {
    const struct writer_task *task;
    enum status status;
    struct error error;
    bool done;
    struct task *next;
};

struct writer {
    struct wal *wal;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;     /* something was queued, or `stopping` */
    pthread_cond_t finished; /* a task or a waited-for append is done */
    struct wal_append *queue_first;
    struct wal_append *queue_last;
    size_t queue_count;   /* of them, those that somebody waits for */
    uint32_t patience_us; /* of the first of these */
    bool waits_briefly;   /* the writer looks into the queue by itself soon */
    struct task *task_first;
    struct task *task_last;
    bool stopping;
    struct error failure; /* status is not STATUS_OK: final */
    /* the writer thread only */
    uint64_t stale_checked_ms;
    size_t shared_count; /* groups that were in the queue the last time */
    uint64_t commit_us;  /* what the last commit took */
    uint64_t file_bytes; /* at the last batch */
    uint64_t growth_ms;  /* when the file last grew into the reserve */
    bool growth_seen;
    bool unhurried_seen; /* lately: under `lock` */
};

/* A run of queued groups, linked by queue_next. */
struct run {
    struct wal_append *first;
    size_t count;
};

/* ------------------------------------------------------------------ failing and completing */

static void fail_for_good(struct writer *writer, const struct error *error)
{
    atomic_store(&writer->wal->failed, true);
    pthread_mutex_lock(&writer->lock);
    if (writer->failure.status == STATUS_OK) {
        writer->failure = *error;
        writer->failure.status = STATUS_IO;
    }
    pthread_mutex_unlock(&writer->lock);
}

bool writer_has_failed(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    bool failed = writer->failure.status != STATUS_OK;
    pthread_mutex_unlock(&writer->lock);
    return failed;
}

/* True if a later group may get in: nothing is wrong with what the disk holds. */
static bool is_lack_of_room(enum status status)
{
    /* LMDB gives a transaction up cleanly when memory is short, as it does when the disk is full.
     */
    return status == STATUS_FULL || status == STATUS_MEMORY;
}

/* Gives a group its result; it may be gone afterwards. */
static void complete(struct wal_append *first, enum status status)
{
    for (struct wal_append *record = first; record != NULL; record = record->next) {
        record->status = status;
        record->lsn = status == STATUS_OK ? record->lsn : 0;
    }
    if (first->completed != NULL) {
        first->completed(first, first->context);
    }
}

static void complete_run(struct run run, enum status status)
{
    for (size_t i = 0; i < run.count; i++) {
        struct wal_append *group = run.first;
        run.first = group->queue_next;
        complete(group, status);
    }
}

/* ------------------------------------------------------------------ one transaction */

/*
 * True while the part of the map that is kept for ending units is whole. Near the end of the map it
 * counts how much of the file is free. A file that still grows there has free pages that an old
 * reader holds back: then new units wait a second, so that they cannot use up the reserve.
 */
static bool reserve_is_kept(struct writer *writer, const struct store_usage *usage)
{
    uint64_t kept = writer->wal->reserve_bytes / 2;
    uint64_t before = writer->file_bytes;
    uint64_t now_ms = clock_monotonic_ms();
    writer->file_bytes = usage->file_bytes;
    if (usage->file_bytes + kept <= usage->map_bytes) {
        return true;
    }
    if (before != 0 && usage->file_bytes > before) {
        writer->growth_seen = true;
        writer->growth_ms = now_ms;
    }
    bool grows = writer->growth_seen && now_ms - writer->growth_ms < 1000;
    return usage->file_bytes - usage->used_bytes >= kept && !grows;
}

static void clear_stale_readers(struct writer *writer)
{
    uint64_t now_ms = clock_monotonic_ms();
    if (now_ms - writer->stale_checked_ms >= STALE_READERS_MS) {
        writer->stale_checked_ms = now_ms;
        store_clear_stale_readers(writer->wal->store);
    }
}

static enum status begin_batch(struct writer *writer, struct batch *ret_batch,
                               struct error *ret_error)
{
    struct wal *wal = writer->wal;
    struct store_usage usage;
    bool ballast = true;
    struct batch batch = {
        .cipher = wal->cipher,
        .quota_bytes = wal->quota_bytes,
        .time_ms = clock_wall_ms(),
        .last_lsn = atomic_load(&wal->last_lsn),
        .version = wal->version,
    };
    enum status status = store_ballast_keep(wal->store, &ballast, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(wal->store, true, &batch.transaction, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = store_usage_get(batch.transaction, &usage, ret_error);
    if (status != STATUS_OK) {
        store_abort(batch.transaction);
        return status;
    }
    batch.only_ends = !reserve_is_kept(writer, &usage) || !ballast;
    batch.ends_bytes = usage.map_bytes - PRUNE_BYTES;
    *ret_batch = batch;
    return STATUS_OK;
}

/* After the commit: what readers of the counters may see, before anybody is told. */
static void publish(struct wal *wal, const struct batch *batch, size_t groups)
{
    wal->version = batch->version;
    atomic_store(&wal->last_lsn, batch->last_lsn);
    atomic_fetch_add(&wal->batches, 1);
    atomic_fetch_add(&wal->groups, groups);
    uint64_t next = atomic_load(&wal->unit_next);
    while (next <= batch->last_unit &&
           !atomic_compare_exchange_weak(&wal->unit_next, &next, batch->last_unit + 1)) {
    }
}

/* Puts and commits a run. STATUS_OK: each group has its own status; else none of it is stored. */
static enum status write_run(struct writer *writer, struct run run, struct error *ret_error)
{
    struct batch batch;
    size_t groups = 0;
    enum status status = begin_batch(writer, &batch, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    struct wal_append *group = run.first;
    for (size_t i = 0; i < run.count; i++) {
        status = batch_put(&batch, group, &group->status, ret_error);
        if (status != STATUS_OK) {
            store_abort(batch.transaction);
            return status;
        }
        groups += group->status == STATUS_OK ? 1 : 0;
        group = group->queue_next;
    }
    if (groups == 0) {
        store_abort(batch.transaction);
        return STATUS_OK;
    }
    CRASH_POINT(wal_batch_put);
    uint64_t started_us = clock_monotonic_us();
    status = store_commit(batch.transaction, ret_error);
    if (status == STATUS_OK) {
        writer->commit_us = clock_monotonic_us() - started_us;
        histogram_observe_alone(&writer->wal->commits, writer->commit_us);
        CRASH_POINT(wal_batch_durable);
        publish(writer->wal, &batch, groups);
    }
    return status;
}

static struct run cut_front(struct run *run, size_t count)
{
    struct run front = {.first = run->first, .count = count};
    for (size_t i = 0; i < count; i++) {
        run->first = run->first->queue_next;
    }
    run->count -= count;
    return front;
}

static void note_room(struct wal *wal, const struct wal_append *first, enum status status)
{
    if ((status == STATUS_OK || status == STATUS_FULL) && !batch_group_only_ends(first)) {
        atomic_store(&wal->short_of_room, status == STATUS_FULL);
    }
}

/* Writes a run and completes it. Recursion halves the run: its depth is the logarithm of it. */
static void settle_run(struct writer *writer, struct run run)
{
    struct error error;
    if (writer_has_failed(writer)) {
        complete_run(run, STATUS_IO);
        return;
    }
    enum status status = write_run(writer, run, &error);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < run.count; i++) {
            struct wal_append *group = run.first;
            run.first = group->queue_next;
            note_room(writer->wal, group, group->status);
            complete(group, group->status);
        }
        return;
    }
    if (!is_lack_of_room(status)) {
        fail_for_good(writer, &error);
        complete_run(run, STATUS_IO);
        return;
    }
    if (run.count == 1) {
        note_room(writer->wal, run.first, STATUS_FULL);
        complete_run(run, STATUS_FULL);
        return;
    }
    struct run front = cut_front(&run, run.count / 2);
    settle_run(writer, front);
    settle_run(writer, run);
}

static void write_queue(struct writer *writer, struct wal_append *queue)
{
    while (queue != NULL) {
        struct run run = {.first = queue};
        uint64_t bytes = 0;
        while (queue != NULL && run.count < BATCH_GROUPS_MAX) {
            bytes += batch_group_bytes(queue);
            if (run.count > 0 && bytes > BATCH_BYTES_MAX) {
                break;
            }
            run.count++;
            queue = queue->queue_next;
        }
        settle_run(writer, run);
    }
}

/* ------------------------------------------------------------------ tasks */

static enum status run_task(struct writer *writer, const struct writer_task *task,
                            struct error *ret_error)
{
    struct store_transaction *transaction = NULL;
    struct error error;
    bool in_commit = false;
    enum status status = store_begin(writer->wal->store, true, &transaction, &error);
    if (status == STATUS_OK) {
        status = task->run(writer->wal, transaction, task->context, &error);
        if (status == STATUS_OK) {
            in_commit = true;
            status = store_commit(transaction, &error);
        } else {
            store_abort(transaction);
        }
    }
    if (status != STATUS_OK) {
        *ret_error = error;
        if (status == STATUS_IO || (in_commit && !is_lack_of_room(status))) {
            fail_for_good(writer, &error);
        }
    }
    return status;
}

static void run_tasks(struct writer *writer, struct task *tasks)
{
    while (tasks != NULL) {
        struct task *task = tasks;
        struct error error = {0};
        tasks = task->next;
        enum status status = STATUS_IO;
        if (!writer_has_failed(writer)) {
            status = run_task(writer, task->task, &error);
        }
        pthread_mutex_lock(&writer->lock);
        task->error = error.status == STATUS_OK ? writer->failure : error;
        task->status = status;
        task->done = true;
        pthread_cond_broadcast(&writer->finished);
        pthread_mutex_unlock(&writer->lock);
    }
}

/* ------------------------------------------------------------------ the thread */

/* With the lock, which it gives free meanwhile. */
static void gather(struct writer *writer)
{
    uint64_t wait_us = writer->commit_us / GATHER_PART;
    bool patient = writer->patience_us > 0;
    if (writer->shared_count < 2 || (!patient && writer->queue_count >= writer->shared_count) ||
        writer->task_first != NULL || writer->stopping) {
        return;
    }
    wait_us = wait_us > GATHER_US_MAX ? GATHER_US_MAX : wait_us;
    wait_us = patient ? writer->patience_us : wait_us;
    pthread_mutex_unlock(&writer->lock);
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)wait_us * 1000}, NULL);
    pthread_mutex_lock(&writer->lock);
}

static bool is_awaited(const struct writer *writer)
{
    return writer->queue_count > 0 || writer->task_first != NULL || writer->stopping;
}

/*
 * With the lock. Ends when there is something to do. Where unhurried groups come, the first wait is
 * a bounded one, so that they need not wake anybody to be seen in time.
 */
static void wait_for_work(struct writer *writer)
{
    uint64_t until_ms = clock_monotonic_ms() + WAL_UNHURRIED_MS;
    writer->waits_briefly = writer->unhurried_seen;
    while (!is_awaited(writer)) {
        if (writer->queue_first != NULL && !writer->waits_briefly) {
            until_ms = clock_monotonic_ms() + WAL_UNHURRIED_MS;
            writer->waits_briefly = true;
        }
        if (!writer->waits_briefly) {
            pthread_cond_wait(&writer->work, &writer->lock);
            continue;
        }
        condition_wait_until(&writer->work, &writer->lock, until_ms);
        if (clock_monotonic_ms() >= until_ms) {
            writer->waits_briefly = false;
            writer->unhurried_seen = writer->queue_first != NULL;
            if (writer->queue_first != NULL) {
                break;
            }
        }
    }
    writer->waits_briefly = false;
}

static void *writer_main(void *argument)
{
    struct writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        wait_for_work(writer);
        if (writer->queue_first != NULL) {
            gather(writer);
        }
        struct wal_append *queue = writer->queue_first;
        struct task *tasks = writer->task_first;
        if (queue == NULL && tasks == NULL) {
            break;
        }
        writer->queue_first = NULL;
        writer->queue_last = NULL;
        writer->shared_count =
            writer->queue_count == 0 ? writer->shared_count : writer->queue_count;
        writer->queue_count = 0;
        writer->patience_us = 0;
        writer->task_first = NULL;
        writer->task_last = NULL;
        pthread_mutex_unlock(&writer->lock);
        clear_stale_readers(writer);
        write_queue(writer, queue);
        run_tasks(writer, tasks);
        pthread_mutex_lock(&writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

enum status writer_start(struct wal *wal, struct writer **ret_writer, struct error *ret_error)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    writer->wal = wal;
    pthread_mutex_init(&writer->lock, NULL);
    condition_init(&writer->work);
    pthread_cond_init(&writer->finished, NULL);
    /* Signals are for the program's own threads. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&writer->thread, NULL, writer_main, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        pthread_cond_destroy(&writer->finished);
        pthread_cond_destroy(&writer->work);
        pthread_mutex_destroy(&writer->lock);
        free(writer);
        return error_set(ret_error, STATUS_LIMIT, "cannot start the journal's writer thread: %s",
                         strerror(code));
    }
    *ret_writer = writer;
    return STATUS_OK;
}

struct writer *writer_stop(struct writer *writer)
{
    if (writer == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->finished);
    pthread_cond_destroy(&writer->work);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
    return NULL;
}

/* ------------------------------------------------------------------ the callers' side */

void wal_append(struct wal *wal, struct wal_append *first)
{
    struct writer *writer = wal->writer;
    for (struct wal_append *record = first; record != NULL; record = record->next) {
        record->lsn = 0;
    }
    first->queue_next = NULL;
    if (writer == NULL) {
        complete(first, STATUS_INVALID); /* opened to read only */
        return;
    }
    pthread_mutex_lock(&writer->lock);
    if (writer->queue_last == NULL) {
        writer->queue_first = first;
    } else {
        writer->queue_last->queue_next = first;
    }
    writer->queue_last = first;
    if (writer->queue_count == 0 && !first->unhurried) {
        writer->patience_us =
            first->patience_us < WAL_PATIENCE_US_MAX ? first->patience_us : WAL_PATIENCE_US_MAX;
    }
    writer->queue_count += first->unhurried ? 0 : 1;
    writer->unhurried_seen = writer->unhurried_seen || first->unhurried;
    if (!first->unhurried || !writer->waits_briefly) {
        pthread_cond_signal(&writer->work);
    }
    pthread_mutex_unlock(&writer->lock);
}

struct waiter {
    struct writer *writer;
    bool done;
};

static void wake_waiter(struct wal_append *first, void *context)
{
    struct waiter *waiter = context;
    (void)first;
    if (waiter->writer == NULL) {
        waiter->done = true;
        return;
    }
    pthread_mutex_lock(&waiter->writer->lock);
    waiter->done = true;
    pthread_cond_broadcast(&waiter->writer->finished);
    pthread_mutex_unlock(&waiter->writer->lock);
}

static enum status explain_append(struct wal *wal, enum status status, struct error *ret_error)
{
    switch (status) {
    case STATUS_OK:
        return STATUS_OK;
    case STATUS_FULL:
        return error_set(ret_error, status,
                         "the journal is full (its quota of %llu bytes, or the disk)",
                         (unsigned long long)wal->quota_bytes);
    case STATUS_INVALID:
        return error_set(ret_error, status,
                         wal->read_only ? "the journal was opened to read only"
                                        : "these records may not follow what their unit's "
                                          "records in the journal say");
    default:
        assert(wal->writer != NULL); /* without one the answer is INVALID */
        pthread_mutex_lock(&wal->writer->lock);
        struct error failure = wal->writer->failure;
        pthread_mutex_unlock(&wal->writer->lock);
        return error_set(ret_error, status, "%s", failure.message);
    }
}

enum status wal_append_wait(struct wal *wal, struct wal_append *first, struct error *ret_error)
{
    struct waiter waiter = {.writer = wal->writer};
    first->completed = wake_waiter;
    first->context = &waiter;
    wal_append(wal, first);
    if (wal->writer != NULL) {
        pthread_mutex_lock(&wal->writer->lock);
        while (!waiter.done) {
            pthread_cond_wait(&wal->writer->finished, &wal->writer->lock);
        }
        pthread_mutex_unlock(&wal->writer->lock);
    }
    return explain_append(wal, first->status, ret_error);
}

enum status writer_run(struct writer *writer, const struct writer_task *wanted,
                       struct error *ret_error)
{
    struct task task = {.task = wanted};
    pthread_mutex_lock(&writer->lock);
    if (writer->task_last == NULL) {
        writer->task_first = &task;
    } else {
        writer->task_last->next = &task;
    }
    writer->task_last = &task;
    pthread_cond_signal(&writer->work);
    while (!task.done) {
        pthread_cond_wait(&writer->finished, &writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    if (task.status != STATUS_OK) {
        return error_set(ret_error, task.status, "%s", task.error.message);
    }
    return STATUS_OK;
}
