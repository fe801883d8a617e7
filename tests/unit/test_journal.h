#ifndef HOLDFAST_TESTS_TEST_JOURNAL_H
#define HOLDFAST_TESTS_TEST_JOURNAL_H

/*
 * A journal of a test's own, with units as a killed proxy leaves them. Include after test_server.h.
 */

#include "holdfast/wal.h"
#include "recover/record.h"

#define JOURNAL_QUOTA_BYTES (UINT64_C(64) << 20)

static inline void journal_check(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "journal: %s: %s\n", status_name(status), error->message);
        abort();
    }
}

static inline struct wal *journal_open(const char *directory)
{
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options options = {.directory = directory,
                                  .quota_bytes = JOURNAL_QUOTA_BYTES,
                                  .durability = WAL_DURABILITY_PROCESS,
                                  .owner = "a unit test"};
    journal_check(wal_open(&options, &wal, &error), &error);
    return wal;
}

static inline void journal_append(struct wal *wal, uint64_t unit, enum wal_kind kind,
                                  const bson_t *payload)
{
    struct error error = {0};
    struct wal_append append = {
        .kind = kind, .unit = unit, .payload = slice_make(bson_get_data(payload), payload->len)};
    journal_check(wal_append_wait(wal, &append, &error), &error);
}

static inline uint64_t journal_begin(struct wal *wal)
{
    struct record_begin begin = {
        .boundary = "driver", .user = "admin.alice", .client = "10.0.0.1:5", .application = "shop"};
    uint64_t unit = wal_unit_next(wal);
    bson_t payload = BSON_INITIALIZER;
    record_put_begin(&payload, &begin);
    journal_append(wal, unit, WAL_KIND_BEGIN, &payload);
    bson_destroy(&payload);
    return unit;
}

/* after "?": an update whose reply is not in the journal. "" is absent. */
static inline void journal_write(struct wal *wal, uint64_t unit, int32_t number,
                                 const char *namespace, const char *key, const char *before,
                                 const char *after, const char *command)
{
    struct record_write write = {.number = number,
                                 .operation = RECORD_UPDATE,
                                 .namespace = namespace,
                                 .key = key_of(key),
                                 .before = image_of(before),
                                 .connection = "10.0.0.1:6"};
    if (strcmp(after, "?") != 0) {
        write.after = image_of(after);
    }
    if (before[0] == '\0') {
        write.operation = RECORD_INSERT;
    } else if (after[0] == '\0') {
        write.operation = RECORD_DELETE;
    } else {
        write.command = key_of(command);
    }
    bson_t payload = BSON_INITIALIZER;
    record_put_write(&payload, &write, NULL, 0);
    journal_append(wal, unit, WAL_KIND_WRITE, &payload);
    bson_destroy(&payload);
}

static inline void journal_commit(struct wal *wal, uint64_t unit)
{
    bson_t payload = BSON_INITIALIZER;
    record_put_commit(&payload, NULL, 0, (struct slice){0});
    journal_append(wal, unit, WAL_KIND_COMMIT, &payload);
    bson_destroy(&payload);
}

static inline enum wal_unit_state journal_state(struct wal *wal, uint64_t unit)
{
    struct wal_reader *reader = NULL;
    struct wal_unit found = {0};
    struct error error = {0};
    journal_check(wal_reader_begin(wal, &reader, &error), &error);
    journal_check(wal_read_unit(reader, unit, &found, &error), &error);
    wal_reader_end(reader);
    return found.state;
}

#endif
