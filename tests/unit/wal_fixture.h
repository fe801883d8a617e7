#ifndef HOLDFAST_TESTS_UNIT_WAL_FIXTURE_H
#define HOLDFAST_TESTS_UNIT_WAL_FIXTURE_H

/*
 * What the journal's tests share: a directory of their own, and short names for one record.
 * Include after <cmocka.h>'s own prerequisites; everything fails the test that calls it.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/wal.h"

#define FIXTURE_QUOTA_BYTES ((uint64_t)32 << 20)
#define FIXTURE_UNUSED __attribute__((unused))

struct fixture {
    char directory[256];
};

FIXTURE_UNUSED static void fixture_path(const struct fixture *fixture, const char *name, char *path,
                                        size_t size)
{
    assert_true(snprintf(path, size, "%s/%s", fixture->directory, name) < (int)size);
}

static int fixture_remove_one(const char *path, const struct stat *status, int type,
                              struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

FIXTURE_UNUSED static int fixture_setup(void **state)
{
    const char *parent = getenv("TMPDIR");
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof(fixture->directory), "%s/holdfast-wal-XXXXXX",
             parent == NULL || parent[0] == '\0' ? "/tmp" : parent);
    assert_non_null(mkdtemp(fixture->directory));
    *state = fixture;
    return 0;
}

FIXTURE_UNUSED static int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    nftw(fixture->directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

FIXTURE_UNUSED static struct wal_options fixture_options(const struct fixture *fixture)
{
    return (struct wal_options){
        .directory = fixture->directory,
        .quota_bytes = FIXTURE_QUOTA_BYTES,
        .durability = WAL_DURABILITY_PROCESS, /* the order of writes is the same, and it is quick */
        .owner = "a test",
        .key_file = getenv("HOLDFAST_TEST_KEY_FILE"), /* or NULL */
    };
}

#define assert_status(actual, expected, error)                                                     \
    do {                                                                                           \
        enum status status_ = (actual);                                                            \
        if (status_ != (expected)) {                                                               \
            fail_msg("%s instead of %s: %s", status_name(status_), status_name(expected),          \
                     status_ == STATUS_OK ? "" : (error)->message);                                \
        }                                                                                          \
    } while (0)

FIXTURE_UNUSED static struct wal *fixture_open(const struct fixture *fixture)
{
    struct error error;
    struct wal *wal = NULL;
    struct wal_options options = fixture_options(fixture);
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

FIXTURE_UNUSED static enum status fixture_append(struct wal *wal, enum wal_kind kind, uint64_t unit,
                                                 const char *payload, uint64_t *ret_lsn)
{
    struct wal_append record = {.kind = kind, .unit = unit, .payload = slice_text(payload)};
    enum status status = wal_append_wait(wal, &record, NULL);
    if (ret_lsn != NULL) {
        *ret_lsn = record.lsn;
    }
    return status;
}

FIXTURE_UNUSED static struct wal_reader *fixture_reader(struct wal *wal)
{
    struct error error;
    struct wal_reader *reader = NULL;
    assert_status(wal_reader_begin(wal, &reader, &error), STATUS_OK, &error);
    return reader;
}

FIXTURE_UNUSED static struct wal_statistics fixture_statistics(struct wal *wal)
{
    struct error error;
    struct wal_statistics statistics;
    assert_status(wal_statistics_get(wal, &statistics, &error), STATUS_OK, &error);
    return statistics;
}

/* The journal in the fixture's directory, whole and undamaged. */
FIXTURE_UNUSED static struct wal_verification fixture_verify(const struct fixture *fixture)
{
    struct error error;
    struct wal_verification found;
    assert_status(wal_verify(fixture->directory, &found, &error), STATUS_OK, &error);
    return found;
}

FIXTURE_UNUSED static void fixture_assert_undamaged(const struct fixture *fixture)
{
    struct wal_verification found = fixture_verify(fixture);
    if (found.damage_count != 0) {
        fail_msg("damage: %s", found.damage[0].message);
    }
}

/* Returns the size; a file that is larger than `capacity` is cut. */
FIXTURE_UNUSED static size_t fixture_read(const struct fixture *fixture, const char *name,
                                          uint8_t *bytes, size_t capacity)
{
    char path[300];
    fixture_path(fixture, name, path, sizeof(path));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    assert_int_equal(fclose(file), 0);
    return size;
}

/* In place of what is there. */
FIXTURE_UNUSED static void fixture_write(const struct fixture *fixture, const char *name,
                                         const void *bytes, size_t size)
{
    char path[300];
    fixture_path(fixture, name, path, sizeof(path));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A random number whose sequence follows from the seed alone. */
FIXTURE_UNUSED static uint64_t fixture_random(uint64_t *seed)
{
    *seed += 0x9E3779B97F4A7C15u; /* splitmix64 */
    uint64_t value = *seed;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

#endif
