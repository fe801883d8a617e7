/*
 * The lock of a database's migrations (lock.h).
 *
 *     free --acquire--> held, renewed every LOCK_RENEW_MS --release--> free
 *                         '--not renewed for LOCK_VALID_MS, or its process is dead--> free
 *
 * `mutex` guards what the two threads share.
 */
#include "migrate/lock.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "migrate/row.h"

#define HOST_BYTES 128
#define NAME_BYTES 128
#define POLL_MS 250

struct lock {
    struct lock_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stopping;
    uint64_t renewed_ms; /* monotonic: when the last renewal that succeeded was sent off */
};

/* ------------------------------------------------------------------ who we are */

/* The same for processes that see each other's numbers: a kernel's start and its pid namespace. */
static void host_identify(char ret_host[HOST_BYTES])
{
    char space[64] = "";
    char boot[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    size_t size = file == NULL ? 0 : fread(boot, 1, sizeof(boot) - 1, file);
    if (file != NULL) {
        (void)fclose(file);
    }
    boot[size] = '\0';
    boot[strcspn(boot, "\n")] = '\0';
    ssize_t length = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);
    space[length < 0 ? 0 : length] = '\0';
    (void)snprintf(ret_host, HOST_BYTES, "%s/%s", boot, space);
}

static void name_get(char ret_name[NAME_BYTES])
{
    if (gethostname(ret_name, NAME_BYTES - 1) != 0 ||
        !bson_utf8_validate(ret_name, strnlen(ret_name, NAME_BYTES), false)) {
        (void)snprintf(ret_name, NAME_BYTES, "unknown");
    }
    ret_name[NAME_BYTES - 1] = '\0';
}

/* ------------------------------------------------------------------ the document */

static const char *text_of(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) && BSON_ITER_HOLDS_UTF8(&at)
               ? bson_iter_utf8(&at, NULL)
               : "";
}

static int64_t date_of(const bson_t *document, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, name) && BSON_ITER_HOLDS_DATE_TIME(&at)
               ? bson_iter_date_time(&at)
               : 0;
}

/* *ret_document NULL: nobody has ever taken it, or it was given back. */
static enum status look(struct maintain *maintain, const char *database, bson_t **ret_document,
                        struct error *ret_error)
{
    bson_t reply;
    bson_t *command = BCON_NEW("find", ROW_COLLECTION, "filter", "{", "_id", "lock", "}", "limit",
                               BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    enum status status =
        maintain_command(maintain, database, command, MAINTAIN_IDEMPOTENT, &reply, ret_error);
    bson_destroy(command);
    if (status != STATUS_OK) {
        return status;
    }
    uint32_t position = 0;
    struct slice document;
    *ret_document = maintain_next(&reply, &position, &document)
                        ? bson_new_from_data(document.data, document.size)
                        : NULL;
    bson_destroy(&reply);
    return STATUS_OK;
}

static void describe(const bson_t *document, char *holder, size_t capacity)
{
    (void)snprintf(holder, capacity, "process %lld on %s",
                   (long long)maintain_number(document, "pid"), text_of(document, "on"));
}

/* Whether its owner can hold it no longer. */
static bool is_free(const bson_t *document, int64_t now_ms)
{
    char host[HOST_BYTES];
    int64_t pid = maintain_number(document, "pid");
    host_identify(host);
    if (date_of(document, "expiresAt") <= now_ms) {
        return true;
    }
    return strcmp(text_of(document, "host"), host) == 0 && pid > 0 && pid <= INT_MAX &&
           kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static bson_t *document_make(const struct lock_options *options, int64_t now_ms)
{
    char host[HOST_BYTES];
    char name[NAME_BYTES];
    host_identify(host);
    name_get(name);
    return BCON_NEW("_id", "lock", "owner", BCON_UTF8(options->owner), "host", BCON_UTF8(host),
                    "pid", BCON_INT64(getpid()), "on", BCON_UTF8(name), "since",
                    BCON_DATE_TIME(now_ms), "expiresAt", BCON_DATE_TIME(now_ms + LOCK_VALID_MS));
}

/* Puts ours in the place of what was found, or of nothing. *ret_taken false: another was first. */
static enum status take(struct maintain *maintain, const struct lock_options *options,
                        const bson_t *found, int64_t now_ms, bool *ret_taken,
                        struct error *ret_error)
{
    bson_t reply;
    bson_t *document = document_make(options, now_ms);
    bson_t *command =
        found == NULL
            ? BCON_NEW("insert", ROW_COLLECTION, "documents", "[", BCON_DOCUMENT(document), "]")
            : BCON_NEW("update", ROW_COLLECTION, "updates", "[", "{", "q", "{", "_id", "lock",
                       "owner", BCON_UTF8(text_of(found, "owner")), "expiresAt",
                       BCON_DATE_TIME(date_of(found, "expiresAt")), "}", "u",
                       BCON_DOCUMENT(document), "}", "]");
    enum status status =
        maintain_command(maintain, options->database, command, MAINTAIN_ONCE, &reply, ret_error);
    bson_destroy(command);
    bson_destroy(document);
    *ret_taken = false;
    if (status == STATUS_OK) {
        *ret_taken = maintain_number(&reply, "n") == 1;
        bson_destroy(&reply);
    } else if (status == STATUS_REFUSED &&
               maintain_refusal(maintain).code == MAINTAIN_DUPLICATE_KEY) {
        status = STATUS_OK;
    }
    return status;
}

/* One look and, where it is free, one attempt. A lost answer is found out by the next look. */
static enum status try_once(struct maintain *maintain, const struct lock_options *options,
                            bool *ret_taken, char *holder, size_t capacity, struct error *ret_error)
{
    bson_t *found = NULL;
    int64_t now_ms = 0;
    *ret_taken = false;
    enum status status = look(maintain, options->database, &found, ret_error);
    if (status == STATUS_OK) {
        status = maintain_time(maintain, &now_ms, ret_error);
    }
    if (status == STATUS_OK && found != NULL &&
        strcmp(text_of(found, "owner"), options->owner) == 0) {
        *ret_taken = true;
    } else if (status == STATUS_OK && (found == NULL || is_free(found, now_ms))) {
        status = take(maintain, options, found, now_ms, ret_taken, ret_error);
    }
    if (status == STATUS_OK && found != NULL) {
        describe(found, holder, capacity);
    }
    bson_destroy(found);
    return status;
}

enum status lock_holder(struct maintain *maintain, const char *database, char *holder,
                        size_t capacity, struct error *ret_error)
{
    bson_t *found = NULL;
    int64_t now_ms = 0;
    enum status status = look(maintain, database, &found, ret_error);
    if (status == STATUS_OK) {
        status = maintain_time(maintain, &now_ms, ret_error);
    }
    if (status == STATUS_OK) {
        holder[0] = '\0';
        if (found != NULL && !is_free(found, now_ms)) {
            describe(found, holder, capacity);
        }
    }
    bson_destroy(found);
    return status;
}

/* ------------------------------------------------------------------ renewing */

static enum status renew(struct maintain *maintain, const struct lock_options *options)
{
    bson_t reply;
    int64_t now_ms = 0;
    enum status status = maintain_time(maintain, &now_ms, NULL);
    if (status != STATUS_OK) {
        return status;
    }
    bson_t *command =
        BCON_NEW("update", ROW_COLLECTION, "updates", "[", "{", "q", "{", "_id", "lock", "owner",
                 BCON_UTF8(options->owner), "}", "u", "{", "$set", "{", "expiresAt",
                 BCON_DATE_TIME(now_ms + LOCK_VALID_MS), "}", "}", "}", "]");
    status =
        maintain_command(maintain, options->database, command, MAINTAIN_IDEMPOTENT, &reply, NULL);
    bson_destroy(command);
    if (status == STATUS_OK) {
        status = maintain_number(&reply, "n") == 1 ? STATUS_OK : STATUS_OWNED;
        bson_destroy(&reply);
    }
    return status;
}

static bool is_stopping(void *context)
{
    struct lock *lock = context;
    pthread_mutex_lock(&lock->mutex);
    bool stopping = lock->stopping;
    pthread_mutex_unlock(&lock->mutex);
    return stopping;
}

static void *renewer_main(void *context)
{
    struct lock *lock = context;
    struct maintain *maintain = NULL;
    struct maintain_options connection = lock->options.connection;
    connection.patience_ms = LOCK_RENEW_MS;
    connection.stop = is_stopping;
    connection.context = lock;
    pthread_mutex_lock(&lock->mutex);
    while (!lock->stopping) {
        condition_wait_until(&lock->changed, &lock->mutex, clock_monotonic_ms() + LOCK_RENEW_MS);
        if (lock->stopping) {
            break;
        }
        pthread_mutex_unlock(&lock->mutex);
        uint64_t sent_ms = clock_monotonic_ms();
        enum status status =
            maintain != NULL ? STATUS_OK : maintain_open(&connection, &maintain, NULL);
        status = status == STATUS_OK ? renew(maintain, &lock->options) : status;
        pthread_mutex_lock(&lock->mutex);
        lock->renewed_ms = status == STATUS_OK ? sent_ms : lock->renewed_ms;
    }
    pthread_mutex_unlock(&lock->mutex);
    maintain_close(maintain);
    return NULL;
}

bool lock_is_lost(struct lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    bool lost = clock_monotonic_ms() - lock->renewed_ms > LOCK_VALID_MS;
    pthread_mutex_unlock(&lock->mutex);
    return lost;
}

static enum status keep(const struct lock_options *options, uint64_t sent_ms,
                        struct lock **ret_lock, struct error *ret_error)
{
    struct lock *lock = calloc(1, sizeof(*lock));
    if (lock == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    lock->options = *options;
    lock->renewed_ms = sent_ms;
    pthread_mutex_init(&lock->mutex, NULL);
    condition_init(&lock->changed);
    if (pthread_create(&lock->thread, NULL, renewer_main, lock) != 0) {
        pthread_cond_destroy(&lock->changed);
        pthread_mutex_destroy(&lock->mutex);
        free(lock);
        return error_set(ret_error, STATUS_MEMORY, "cannot start a thread");
    }
    *ret_lock = lock;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ taking and giving back */

static void pause_a_moment(void)
{
    struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    (void)nanosleep(&pause, NULL);
}

enum status lock_acquire(struct maintain *maintain, const struct lock_options *options,
                         struct lock **ret_lock, struct error *ret_error)
{
    uint64_t since_ms = clock_monotonic_ms();
    bool said = false;
    for (;;) {
        char holder[HOST_BYTES + NAME_BYTES] = "another process";
        bool taken = false;
        uint64_t sent_ms = clock_monotonic_ms();
        enum status status = try_once(maintain, options, &taken, holder, sizeof(holder), ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (taken) {
            return keep(options, sent_ms, ret_lock, ret_error);
        }
        if (clock_monotonic_ms() - since_ms >= options->wait_ms ||
            (options->connection.stop != NULL &&
             options->connection.stop(options->connection.context))) {
            return error_set(ret_error, STATUS_OWNED,
                             "%s is migrating this database; --wait TIME waits for it", holder);
        }
        if (!said && options->waiting != NULL) {
            options->waiting(options->context, holder);
        }
        said = true;
        pause_a_moment();
    }
}

struct lock *lock_release(struct maintain *maintain, struct lock *lock)
{
    if (lock == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&lock->mutex);
    lock->stopping = true;
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
    pthread_join(lock->thread, NULL);
    bson_t reply;
    bson_t *command =
        BCON_NEW("delete", ROW_COLLECTION, "deletes", "[", "{", "q", "{", "_id", "lock", "owner",
                 BCON_UTF8(lock->options.owner), "}", "limit", BCON_INT32(1), "}", "]");
    /* Who cannot give it back leaves it to expire. */
    if (maintain_command(maintain, lock->options.database, command, MAINTAIN_ONCE, &reply, NULL) ==
        STATUS_OK) {
        bson_destroy(&reply);
    }
    bson_destroy(command);
    pthread_cond_destroy(&lock->changed);
    pthread_mutex_destroy(&lock->mutex);
    free(lock);
    return NULL;
}
