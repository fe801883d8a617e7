/*
 * The queue and the writer thread: group commit.
 *
 *      any thread               writer thread
 *
 *      wal_append() --+
 *      wal_append() --+--> queue --take all--> batch --> commit.c makes it durable --+
 *      wal_append() --+                                                              |
 *                             completed() of each group, in the order of the calls <-+
 *
 * While one batch is on its way to the disk the next one gathers in the queue: the busier it is,
 * the more groups share a sync. Where several shared the last one and fewer are there again, the
 * writer waits a part of a sync's time for those that are about to come: a sync that is saved is
 * time of the disk and of the processor for all. A group that comes alone never waits.
 *
 * A group that nobody waits for (`unhurried`) lies in the queue until another one wakes the writer,
 * or WAL_UNHURRIED_MS have passed: it costs no sync of its own.
 *
 * Invariants
 *  - completed() runs after what made the group durable, or after the group failed; in the order of
 *    the wal_append() calls; never under the lock.
 *  - A group that breaks the rules or meets the quota fails alone (batch.c checks it beforehand).
 *  - If LMDB itself runs out of room the whole transaction is lost: a checkpoint comes first, then
 *    the batch is cut in halves and tried again, down to single groups. Where not even the
 *    checkpoint has room, only what ends units is tried: it may fit into the tail.
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
#include "wal/commit.h"
#include "wal/internal.h"

/* One transaction's share, so that a long queue neither holds up the first answers nor fills memory
   with changed pages. A single larger group still goes as a whole. */
#define BATCH_BYTES_MAX ((uint64_t)16 << 20)
#define BATCH_GROUPS_MAX 4096u
/* What is waited for others to join: this part of the last commit's time, and never longer. */
#define GATHER_PART 2
#define GATHER_US_MAX ((uint64_t)300)
/* How often slots of dead readers are looked for, while there is something to write. */
#define STALE_READERS_MS 1000u
/* When nothing has been appended for so long, the tables are brought up to date. */
#define CHECKPOINT_AFTER_MS 20u
#define CHECKPOINT_AGAIN_MS 1000u /* if there was no room */

struct task {
    const struct writer_task *task;
    enum status status;
    struct error error;
    bool done;
    struct task *next;
};

struct writer {
    struct wal *wal;
    struct committer *committer; /* the writer thread's */
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
    bool lacks_room;     /* the last checkpoint found none */
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

/* ------------------------------------------------------------------ runs */

static void clear_stale_readers(struct writer *writer)
{
    uint64_t now_ms = clock_monotonic_ms();
    if (now_ms - writer->stale_checked_ms >= STALE_READERS_MS) {
        writer->stale_checked_ms = now_ms;
        store_clear_stale_readers(writer->wal->store);
    }
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

/* What does not get into the tables for lack of room stays in the tail. */
static void checkpoint(struct writer *writer)
{
    struct error error;
    if (writer_has_failed(writer)) {
        return;
    }
    enum status status = committer_checkpoint(writer->committer, &error);
    writer->lacks_room = status_is_lack_of_room(status);
    if (status != STATUS_OK && !writer->lacks_room) {
        fail_for_good(writer, &error);
    }
}

static void settle_run(struct writer *writer, struct run run);

/* Not even a checkpoint has room. Each part of the run would try it again, so only what ends units
   is tried by itself: it may fit into the tail. */
static void settle_without_room(struct writer *writer, struct run run)
{
    bool alone = run.count == 1;
    while (run.count > 0) {
        struct run one = cut_front(&run, 1);
        if (!alone && batch_group_only_ends(one.first)) {
            settle_run(writer, one);
        } else {
            note_room(writer->wal, one.first, STATUS_FULL);
            complete_run(one, STATUS_FULL);
        }
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
    enum status status = committer_write(writer->committer, run.first, run.count, &error);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < run.count; i++) {
            struct wal_append *group = run.first;
            run.first = group->queue_next;
            note_room(writer->wal, group, group->status);
            complete(group, group->status);
        }
        return;
    }
    if (!status_is_lack_of_room(status)) {
        fail_for_good(writer, &error);
        complete_run(run, STATUS_IO);
        return;
    }
    if (committer_is_behind(writer->committer)) {
        checkpoint(writer); /* gives back the pages that were copied */
        if (writer->lacks_room) {
            settle_without_room(writer, run);
        } else {
            settle_run(writer, run);
        }
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
    bool in_commit = true;
    enum status status = committer_checkpoint(writer->committer, &error);
    if (status == STATUS_OK) {
        in_commit = false;
        status = store_begin(writer->wal->store, true, &transaction, &error);
    }
    if (transaction != NULL) {
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
        if (status == STATUS_IO || (in_commit && !status_is_lack_of_room(status))) {
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
    uint64_t wait_us = committer_last_us(writer->committer) / GATHER_PART;
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
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t until_ms = now_ms + WAL_UNHURRIED_MS;
    uint64_t checkpoint_ms = UINT64_MAX;
    if (committer_is_behind(writer->committer) && writer->failure.status == STATUS_OK) {
        checkpoint_ms = now_ms + (writer->lacks_room ? CHECKPOINT_AGAIN_MS : CHECKPOINT_AFTER_MS);
    }
    writer->waits_briefly = writer->unhurried_seen;
    while (!is_awaited(writer)) {
        if (writer->queue_first != NULL && !writer->waits_briefly) {
            until_ms = clock_monotonic_ms() + WAL_UNHURRIED_MS;
            writer->waits_briefly = true;
        }
        uint64_t end_ms =
            writer->waits_briefly && until_ms < checkpoint_ms ? until_ms : checkpoint_ms;
        if (end_ms == UINT64_MAX) {
            pthread_cond_wait(&writer->work, &writer->lock);
            continue;
        }
        condition_wait_until(&writer->work, &writer->lock, end_ms);
        now_ms = clock_monotonic_ms();
        if (writer->waits_briefly && now_ms >= until_ms) {
            writer->waits_briefly = false;
            writer->unhurried_seen = writer->queue_first != NULL;
            if (writer->queue_first != NULL) {
                break;
            }
        }
        if (now_ms >= checkpoint_ms && !is_awaited(writer)) {
            if (writer->queue_first == NULL) {
                break;
            }
            checkpoint_ms = UINT64_MAX; /* what nobody waits for goes first, in its own time */
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
        bool stops = queue == NULL && tasks == NULL && writer->stopping;
        writer->queue_first = NULL;
        writer->queue_last = NULL;
        writer->shared_count =
            writer->queue_count == 0 ? writer->shared_count : writer->queue_count;
        writer->queue_count = 0;
        writer->patience_us = 0;
        writer->task_first = NULL;
        writer->task_last = NULL;
        pthread_mutex_unlock(&writer->lock);
        if (queue == NULL && tasks == NULL) {
            checkpoint(writer);
        } else {
            clear_stale_readers(writer);
            write_queue(writer, queue);
            run_tasks(writer, tasks);
        }
        if (stops) {
            return NULL;
        }
        pthread_mutex_lock(&writer->lock);
    }
}

enum status writer_start(struct wal *wal, struct committer *committer, struct writer **ret_writer,
                         struct error *ret_error)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        committer_free(committer);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    writer->wal = wal;
    writer->committer = committer;
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
        committer_free(committer);
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
    committer_free(writer->committer);
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
