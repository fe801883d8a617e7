/*
 * Keys of requests that may be repeated; see idempotency.h.
 *
 * What is recorded is counted by the time of its commit, in SLICES slices of the time that answers
 * are kept, as a ring: the slice that comes round again has expired.
 *
 * Invariants: a key is in `running` from where it was found new until the journal tells how its
 * unit ended, so that whoever does not find it there finds the journal's last word. `mutex` guards
 * everything but the options that are fixed.
 */
#include "boundary/idempotency.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "boundary/outcome.h"
#include "holdfast/clock.h"
#include "holdfast/log.h"
#include "holdfast/request_key.h"
#include "recover/record.h"

#define SLICES 64u

struct running {
    struct unit_session_key key;
    UT_hash_handle hh;
};

struct idempotency {
    struct wal *wal;
    pthread_mutex_t mutex;
    uint64_t keep_ms;
    struct running *running; /* uthash head */
    uint64_t bytes_max;
    uint64_t slice_bytes[SLICES];
    uint64_t slice_number; /* the newest one: wall clock / its length */
    uint64_t bytes;        /* the sum of them */
    uint64_t answered;
    uint64_t refused;
};

/* ------------------------------------------------------------------ how much is recorded */

static uint64_t slice_ms(const struct idempotency *idempotency)
{
    return idempotency->keep_ms / SLICES + 1;
}

/* The time goes on: what is older than all slices does not count any more. */
static void turn(struct idempotency *idempotency, uint64_t now_ms)
{
    uint64_t number = now_ms / slice_ms(idempotency);
    uint64_t steps = number > idempotency->slice_number ? number - idempotency->slice_number : 0;
    for (uint64_t i = 1; i <= steps && i <= SLICES; i++) {
        uint64_t *slice = &idempotency->slice_bytes[(number - steps + i) % SLICES];
        idempotency->bytes -= *slice;
        *slice = 0;
    }
    if (steps > SLICES) {
        memset(idempotency->slice_bytes, 0, sizeof idempotency->slice_bytes);
        idempotency->bytes = 0;
    }
    idempotency->slice_number += steps;
}

static void count(struct idempotency *idempotency, uint64_t time_ms, uint64_t bytes)
{
    uint64_t number = time_ms / slice_ms(idempotency);
    bool expired = number + SLICES <= idempotency->slice_number;
    if (!expired) {
        /* A clock that was ahead when it was recorded: as if it were new. */
        number = number > idempotency->slice_number ? idempotency->slice_number : number;
        idempotency->slice_bytes[number % SLICES] += bytes;
        idempotency->bytes += bytes;
    }
}

/* ------------------------------------------------------------------ what the journal has */

struct kept {
    struct slice fingerprint;
    struct slice answer;
    bool closes;
};

static enum status get_binary(const bson_t *document, const char *name, struct slice *ret_bytes)
{
    bson_iter_t at;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    if (!bson_iter_init_find(&at, document, name) || !BSON_ITER_HOLDS_BINARY(&at)) {
        return STATUS_CORRUPT;
    }
    bson_iter_binary(&at, NULL, &size, &data);
    *ret_bytes = slice_make(data, size);
    return STATUS_OK;
}

/* Slices point into the record. */
static enum status read_kept(struct wal_reader *reader, uint64_t number, struct kept *ret_kept,
                             struct error *error)
{
    struct wal_record record;
    struct slice reply;
    struct kept kept = {0};
    bson_t view;
    bson_iter_t at;
    enum status status = outcome_read_last(reader, number, &record, error);
    status = status == STATUS_OK ? record_get_reply(record.payload, &reply, error) : status;
    if (status != STATUS_OK) {
        return status;
    }
    if (!bson_init_static(&view, reply.data, reply.size) ||
        get_binary(&view, "fingerprint", &kept.fingerprint) != STATUS_OK ||
        get_binary(&view, "answer", &kept.answer) != STATUS_OK) {
        return error_set(error, STATUS_CORRUPT, "the answer that unit %llu has kept is no answer",
                         (unsigned long long)number);
    }
    kept.closes = bson_iter_init_find(&at, &view, "closes") && bson_iter_as_bool(&at);
    *ret_kept = kept;
    return STATUS_OK;
}

bool idempotency_put_answer(bson_t *reply, const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                            struct slice answer, bool closes)
{
    return answer.size <= LIMIT_DOCUMENT_BYTES_MAX / 2 &&
           BSON_APPEND_BINARY(reply, "fingerprint", BSON_SUBTYPE_BINARY, fingerprint,
                              IDEMPOTENCY_FINGERPRINT_BYTES) &&
           BSON_APPEND_BINARY(reply, "answer", BSON_SUBTYPE_BINARY, answer.data,
                              (uint32_t)answer.size) &&
           BSON_APPEND_BOOL(reply, "closes", closes);
}

static enum status compare(struct wal_reader *reader, const struct wal_session *session,
                           const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                           struct idempotency_answer *ret_answer, enum idempotency_found *ret_found,
                           struct error *error)
{
    struct kept kept;
    enum status status = read_kept(reader, session->unit, &kept, error);
    if (status == STATUS_NOT_FOUND) { /* an operator has decided that it stands */
        *ret_found = IDEMPOTENCY_CONFLICT;
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct slice wanted = slice_make(fingerprint, IDEMPOTENCY_FINGERPRINT_BYTES);
    if (!slice_equal(kept.fingerprint, wanted)) {
        *ret_found = IDEMPOTENCY_MISUSED;
        return STATUS_OK;
    }
    ret_answer->closes = kept.closes;
    *ret_found = IDEMPOTENCY_ANSWERED;
    return buffer_append(&ret_answer->bytes, kept.answer.data, kept.answer.size);
}

static enum status look_up(struct wal *wal, const struct unit_session_key *key,
                           const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                           struct idempotency_answer *ret_answer, uint64_t *ret_unit,
                           enum idempotency_found *ret_found, struct error *error)
{
    struct wal_reader *reader = NULL;
    struct wal_session session = {0};
    bool kept = false;
    enum status status = wal_reader_begin(wal, &reader, error);
    if (status == STATUS_OK) {
        status =
            wal_read_session(reader, slice_make(key->bytes, sizeof key->bytes), &session, error);
    }
    if (status == STATUS_NOT_FOUND) {
        *ret_found = IDEMPOTENCY_NEW;
        status = STATUS_OK;
    } else if (status == STATUS_OK) {
        *ret_unit = session.unit;
        switch (session.unit_state) {
        case WAL_UNIT_COMMITTED:
            status = compare(reader, &session, fingerprint, ret_answer, ret_found, error);
            break;
        case WAL_UNIT_ABORTED:
            status = outcome_read_kept(reader, session.unit, &kept, error);
            *ret_found = kept ? IDEMPOTENCY_CONFLICT : IDEMPOTENCY_NEW;
            break;
        case WAL_UNIT_CONFLICT:
            *ret_found = IDEMPOTENCY_CONFLICT;
            break;
        case WAL_UNIT_OPEN:       /* its rollback waits for the server */
        case WAL_UNIT_COMMITTING: /* its commit does */
            *ret_found = IDEMPOTENCY_RUNNING;
            break;
        }
    }
    wal_reader_end(reader);
    return status;
}

/* ------------------------------------------------------------------ a request */

static struct running *find_running(struct idempotency *idempotency,
                                    const struct unit_session_key *key)
{
    struct running *running = NULL;
    HASH_FIND(hh, idempotency->running, key, sizeof *key, running);
    return running;
}

/* Under the mutex. */
static enum idempotency_found claim(struct idempotency *idempotency,
                                    const struct unit_session_key *key)
{
    if (find_running(idempotency, key) != NULL) {
        return IDEMPOTENCY_RUNNING;
    }
    struct running *running = calloc(1, sizeof *running);
    if (running == NULL) {
        LOG(LOG_ERROR, "http", "Out of memory for an Idempotency-Key");
        return IDEMPOTENCY_FAILED;
    }
    running->key = *key;
    HASH_ADD(hh, idempotency->running, key, sizeof running->key, running);
    return IDEMPOTENCY_NEW;
}

static bool is_full(struct idempotency *idempotency)
{
    pthread_mutex_lock(&idempotency->mutex);
    turn(idempotency, clock_wall_ms());
    bool full = idempotency->bytes >= idempotency->bytes_max;
    pthread_mutex_unlock(&idempotency->mutex);
    return full;
}

static void note(struct idempotency *idempotency, enum idempotency_found found)
{
    pthread_mutex_lock(&idempotency->mutex);
    idempotency->answered += found == IDEMPOTENCY_ANSWERED;
    idempotency->refused += found != IDEMPOTENCY_ANSWERED && found != IDEMPOTENCY_NEW;
    pthread_mutex_unlock(&idempotency->mutex);
}

enum idempotency_found idempotency_begin(struct idempotency *idempotency,
                                         const struct unit_session_key *key,
                                         const uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES],
                                         struct idempotency_answer *ret_answer, uint64_t *ret_unit)
{
    struct error error = {0};
    pthread_mutex_lock(&idempotency->mutex);
    enum idempotency_found found = claim(idempotency, key);
    pthread_mutex_unlock(&idempotency->mutex);
    if (found == IDEMPOTENCY_NEW) {
        enum status status =
            look_up(idempotency->wal, key, fingerprint, ret_answer, ret_unit, &found, &error);
        if (status != STATUS_OK) {
            LOG(LOG_ERROR, "journal", "What a request was answered cannot be read",
                LOG_TEXT("reason", error.message));
            found = IDEMPOTENCY_FAILED;
        } else if (found == IDEMPOTENCY_NEW && is_full(idempotency)) {
            found = IDEMPOTENCY_FULL;
        }
        if (found != IDEMPOTENCY_NEW) {
            idempotency_end(idempotency, key, 0);
        }
    }
    note(idempotency, found);
    return found;
}

void idempotency_end(struct idempotency *idempotency, const struct unit_session_key *key,
                     size_t recorded)
{
    pthread_mutex_lock(&idempotency->mutex);
    struct running *running = find_running(idempotency, key);
    if (running != NULL) {
        HASH_DEL(idempotency->running, running);
        free(running);
    }
    if (recorded > 0) {
        uint64_t now_ms = clock_wall_ms();
        turn(idempotency, now_ms);
        count(idempotency, now_ms, recorded);
    }
    pthread_mutex_unlock(&idempotency->mutex);
}

/* ------------------------------------------------------------------ life */

/* All that is recorded: the journal's sessions of this kind stand together. */
static enum status count_recorded(struct idempotency *idempotency, struct error *error)
{
    struct wal_reader *reader = NULL;
    struct wal_session session;
    uint8_t key[LIMIT_SESSION_KEY_BYTES];
    size_t size = REQUEST_KEY_PREFIX_BYTES;
    memcpy(key, REQUEST_KEY_PREFIX, size);
    enum status status = wal_reader_begin(idempotency->wal, &reader, error);
    while (status == STATUS_OK) {
        status = wal_read_session_next(reader, slice_make(key, size), key, &size, &session, error);
        if (status != STATUS_OK || memcmp(key, REQUEST_KEY_PREFIX, REQUEST_KEY_PREFIX_BYTES) != 0) {
            break;
        }
        struct kept kept;
        if (session.unit_state == WAL_UNIT_COMMITTED &&
            read_kept(reader, session.unit, &kept, error) == STATUS_OK) {
            count(idempotency, session.time_ms, kept.answer.size);
        }
        wal_reader_forget(reader);
    }
    wal_reader_end(reader);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* For `holdfast prune` on a stopped holdfastd's journal. */
static enum status tell_retention(struct idempotency *idempotency, struct error *error)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%" PRIu64, idempotency->keep_ms);
    return wal_property_set(idempotency->wal, REQUEST_KEEP_PROPERTY,
                            slice_make((const uint8_t *)text, (size_t)size), error);
}

enum status idempotency_new(const struct idempotency_options *options,
                            struct idempotency **ret_idempotency, struct error *ret_error)
{
    struct idempotency *idempotency = calloc(1, sizeof *idempotency);
    if (idempotency == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    idempotency->wal = options->wal;
    idempotency->keep_ms = options->keep_ms;
    idempotency->bytes_max = options->bytes_max;
    idempotency->slice_number = clock_wall_ms() / slice_ms(idempotency);
    (void)pthread_mutex_init(&idempotency->mutex, NULL);
    enum status status = tell_retention(idempotency, ret_error);
    if (status == STATUS_OK) {
        status = count_recorded(idempotency, ret_error);
    }
    if (status != STATUS_OK) {
        idempotency_free(idempotency);
        return status;
    }
    *ret_idempotency = idempotency;
    return STATUS_OK;
}

struct idempotency *idempotency_free(struct idempotency *idempotency)
{
    if (idempotency != NULL) {
        struct running *running = NULL;
        struct running *next = NULL;
        HASH_ITER(hh, idempotency->running, running, next)
        {
            HASH_DEL(idempotency->running, running);
            free(running);
        }
        (void)pthread_mutex_destroy(&idempotency->mutex);
        free(idempotency);
    }
    return NULL;
}

void idempotency_set_quota(struct idempotency *idempotency, uint64_t bytes_max)
{
    pthread_mutex_lock(&idempotency->mutex);
    idempotency->bytes_max = bytes_max;
    pthread_mutex_unlock(&idempotency->mutex);
}

void idempotency_figures_get(struct idempotency *idempotency,
                             struct idempotency_figures *ret_figures)
{
    pthread_mutex_lock(&idempotency->mutex);
    turn(idempotency, clock_wall_ms());
    *ret_figures = (struct idempotency_figures){
        .running = HASH_COUNT(idempotency->running),
        .recorded_bytes = idempotency->bytes,
        .answered = idempotency->answered,
        .refused = idempotency->refused,
    };
    pthread_mutex_unlock(&idempotency->mutex);
}
