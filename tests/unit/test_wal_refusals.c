/*
 * What the journal refuses, each with a message that says what is wrong: another format version,
 * files that are no journal, a directory that cannot be used, and damaged bytes, wherever they are.
 * A damaged journal may never take the caller's process with it.
 */

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/wait.h>

#include "wal/format.h"
#include "wal_fixture.h"

/* ------------------------------------------------------------------ another version, another file
 */

/* Replaces a row behind the journal's back. */
static void overwrite_row(const struct fixture *fixture, const char *table, const char *name,
                          const void *bytes, size_t size)
{
    MDB_env *environment = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi = 0;
    char text[64];
    char value_bytes[64];
    memcpy(value_bytes, bytes, size);
    MDB_val key = {.mv_size = strlen(name), .mv_data = text};
    MDB_val value = {.mv_size = size, .mv_data = value_bytes};
    snprintf(text, sizeof(text), "%s", name);
    assert_int_equal(mdb_env_create(&environment), 0);
    assert_int_equal(mdb_env_set_maxdbs(environment, 8), 0);
    assert_int_equal(mdb_env_open(environment, fixture->directory, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(environment, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, table, MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(environment);
}

static void assert_open_refused(const struct fixture *fixture, bool read_only, enum status expected,
                                const char *text)
{
    struct wal *wal = NULL;
    struct error error = {.status = STATUS_OK};
    struct wal_options options = fixture_options(fixture);
    options.read_only = read_only;
    assert_status(wal_open(&options, &wal, &error), expected, &error);
    assert_null(wal);
    assert_int_equal(error.status, expected);
    if (strstr(error.message, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, text);
    }
}

static void test_other_format_version(void **state)
{
    uint8_t row[8] = {0, 0, 0, 77};
    struct wal_verification found;
    struct error error;
    wal_close(fixture_open(*state), true);
    slice_store_u32be(row + 4, format_property_crc(".format", slice_make(row, 4)));
    overwrite_row(*state, "properties", ".format", row, sizeof(row));
    const struct fixture *fixture = *state;
    assert_open_refused(fixture, false, STATUS_VERSION, "77");
    assert_open_refused(fixture, true, STATUS_VERSION, "understands versions 1 to 8");
    assert_int_equal(wal_verify(fixture->directory, &found, &error), STATUS_VERSION);
}

static void test_damaged_format_version(void **state)
{
    uint8_t row[8] = {0, 0, 0, 1, 9, 9, 9, 9};
    wal_close(fixture_open(*state), true);
    overwrite_row(*state, "properties", ".format", row, sizeof(row));
    assert_open_refused(*state, false, STATUS_CORRUPT, ".format");
}

static void test_other_lmdb_environment(void **state)
{
    overwrite_row(*state, "somebody else's", "key", "value", 5);
    assert_open_refused(*state, false, STATUS_INVALID, "not a journal");
    assert_open_refused(*state, true, STATUS_INVALID, "not a journal");
}

static void test_foreign_data_file_is_refused_and_kept(void **state)
{
    static char text[9000];
    char read_back[sizeof(text)];
    char path[512];
    static const size_t sizes[] = {1, 100, 4096, sizeof(text)};
    memset(text, 'z', sizeof(text));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fixture_write(*state, "data.mdb", text, sizes[i]);
        assert_open_refused(*state, false, STATUS_CORRUPT, "data.mdb");
        assert_open_refused(*state, true, STATUS_CORRUPT, "data.mdb");
        fixture_path(*state, "data.mdb", path, sizeof(path));
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fread(read_back, 1, sizeof(read_back), file), sizes[i]);
        assert_memory_equal(read_back, text, sizes[i]);
        fclose(file);
    }
}

static void test_other_files_in_the_directory_are_left_alone(void **state)
{
    char path[512];
    fixture_write(*state, "notes.txt", "mine", 4);
    wal_close(fixture_open(*state), true);
    fixture_path(*state, "notes.txt", path, sizeof(path));
    assert_int_equal(access(path, R_OK), 0);
}

static void test_empty_data_file_is_a_new_journal(void **state)
{
    fixture_write(*state, "data.mdb", "", 0);
    assert_open_refused(*state, true, STATUS_NOT_FOUND, "no journal");
    wal_close(fixture_open(*state), true);
    fixture_assert_undamaged(*state);
}

/* ------------------------------------------------------------------ directories */

static void test_reading_what_does_not_exist(void **state)
{
    struct fixture none;
    struct wal_verification found;
    struct error error;
    char path[300];
    fixture_path(*state, "none", path, sizeof(path));
    snprintf(none.directory, sizeof(none.directory), "%.255s", path);
    assert_open_refused(*state, true, STATUS_NOT_FOUND, "no journal");
    assert_open_refused(&none, true, STATUS_NOT_FOUND, "none");
    assert_int_equal(wal_verify(none.directory, &found, &error), STATUS_NOT_FOUND);
    assert_int_equal(access(none.directory, F_OK), -1);
}

static void test_unusable_directories(void **state)
{
    struct fixture bad;
    char path[300];
    fixture_write(*state, "file", "x", 1);
    fixture_path(*state, "file", path, sizeof(path));
    snprintf(bad.directory, sizeof(bad.directory), "%.255s", path);
    assert_open_refused(&bad, false, STATUS_INVALID, "not a directory");
    fixture_path(*state, "no/such/parent", path, sizeof(path));
    snprintf(bad.directory, sizeof(bad.directory), "%.255s", path);
    assert_open_refused(&bad, false, STATUS_IO, "no/such/parent");
}

static void test_invalid_options(void **state)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_options options = fixture_options(*state);
    options.quota_bytes = 1000;
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_INVALID);
    options.quota_bytes = UINT64_MAX;
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_INVALID);
    options = fixture_options(*state);
    options.directory = "";
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_INVALID);
}

/* Root may write anywhere, so the attempt is made by a child that is somebody else. */
static void test_unwritable_directory(void **state)
{
    const struct fixture *fixture = *state;
    struct wal_options options = fixture_options(fixture);
    struct error error;
    int wait_status = 0;
    wal_close(fixture_open(fixture), true);
    assert_int_equal(chmod(fixture->directory, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        struct wal *wal = NULL;
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(2);
        }
        bool named = wal_open(&options, &wal, &error) == STATUS_IO &&
                     strstr(error.message, fixture->directory) != NULL;
        options.read_only = true; /* data.mdb and lock.mdb are the owner's only, if that is root */
        enum status status = wal_open(&options, &wal, &error);
        named = named && (status == STATUS_OK || status == STATUS_IO);
        named = named && (status == STATUS_OK || strstr(error.message, "lock.mdb") != NULL);
        _exit(named ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_int_equal(chmod(fixture->directory, 0755), 0);
    assert_true(WIFEXITED(wait_status));
    assert_int_equal(WEXITSTATUS(wait_status), 0);
}

/* ------------------------------------------------------------------ damaged bytes */

#define MARK "a payload that is easy to find again in the file: 0123456789"

static void fill(const struct fixture *fixture, unsigned units)
{
    struct wal *wal = fixture_open(fixture);
    static char image[6000];
    memset(image, 'i', sizeof(image) - 1);
    for (unsigned i = 0; i < units; i++) {
        uint64_t unit = wal_unit_next(wal);
        struct wal_append last = {.kind = i % 3 == 0   ? WAL_KIND_COMMIT
                                          : i % 3 == 1 ? WAL_KIND_CONFLICT
                                                       : WAL_KIND_WRITE,
                                  .unit = unit,
                                  .payload = slice_text(i % 2 == 0 ? MARK : image)};
        struct wal_append write = {
            .kind = WAL_KIND_WRITE, .unit = unit, .payload = slice_text(MARK), .next = &last};
        struct wal_append begin = {.kind = WAL_KIND_BEGIN,
                                   .unit = unit,
                                   .session_key = slice_make(&unit, sizeof(unit)),
                                   .next = &write};
        assert_int_equal(wal_append_wait(wal, &begin, NULL), STATUS_OK);
    }
    wal_close(wal, true);
}

static size_t read_data(const struct fixture *fixture, uint8_t *bytes, size_t capacity)
{
    char path[512];
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, capacity, file);
    assert_true(size < capacity);
    fclose(file);
    return size;
}

static void flip(const struct fixture *fixture, size_t offset, uint8_t mask)
{
    char path[512];
    uint8_t byte = 0;
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    int descriptor = open(path, O_RDWR);
    assert_true(descriptor >= 0);
    assert_int_equal(pread(descriptor, &byte, 1, (off_t)offset), 1);
    byte ^= mask;
    assert_int_equal(pwrite(descriptor, &byte, 1, (off_t)offset), 1);
    close(descriptor);
}

static uint8_t data[4 << 20];

static void test_flipped_byte_in_a_record(void **state)
{
    struct wal *wal = NULL;
    struct error error;
    struct wal_record record;
    struct wal_options options = fixture_options(*state);
    fill(*state, 1); /* BEGIN 1, WRITE 2, COMMIT 3 */
    size_t size = read_data(*state, data, sizeof(data));
    uint8_t *mark = memmem(data, size, "WR\x01\x02", 4); /* the header of the WRITE */
    assert_non_null(mark);
    flip(*state, (size_t)(mark - data) + 60, 0x10);
    struct wal_verification found = fixture_verify(*state);
    assert_int_equal(found.damage_count, 1);
    assert_int_equal(found.damage[0].lsn, 2);
    assert_non_null(strstr(found.damage[0].message, "CRC-32C"));
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(wal_read(reader, 2, &record, &error), STATUS_CORRUPT);
    assert_non_null(strstr(error.message, "record 2"));
    assert_status(wal_read(reader, 3, &record, &error), STATUS_OK, &error);
    wal_reader_end(reader);
    wal_close(wal, true);
}

static void test_owner_refuses_damage_in_an_open_unit(void **state)
{
    struct wal *wal = fixture_open(*state);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, 1, MARK, NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_WRITE, 1, "x", NULL), STATUS_OK);
    wal_close(wal, true);
    size_t size = read_data(*state, data, sizeof(data));
    unsigned flipped = 0;
    for (uint8_t *at = data; (at = memmem(at, size - (size_t)(at - data), MARK, 20)) != NULL;
         at++) {
        flip(*state, (size_t)(at - data), 1); /* former versions of the page, too */
        flipped++;
    }
    assert_true(flipped > 0);
    assert_open_refused(*state, false, STATUS_CORRUPT, "unit 1");
}

/* Whatever single byte is wrong: nobody crashes, and the damage is reported or does not matter. */
static void test_flips_anywhere_never_crash_the_caller(void **state)
{
    enum { FLIPS = 400 };
    uint64_t seed = 4;
    unsigned noticed = 0;
    fill(*state, 60);
    size_t size = read_data(*state, data, sizeof(data));
    for (int i = 0; i < FLIPS; i++) {
        struct wal *wal = NULL;
        struct wal_verification found = {0};
        struct error error;
        struct wal_options options = fixture_options(*state);
        size_t offset = fixture_random(&seed) % size;
        uint8_t mask = (uint8_t)(1u << fixture_random(&seed) % 8);
        if (i % 4 == 0) { /* page headers and node tables are where LMDB trusts what it reads */
            offset = offset / 4096 * 4096 + offset % 64;
        }
        flip(*state, offset, mask);
        options.read_only = true;
        enum status status = wal_verify(options.directory, &found, &error);
        noticed += status != STATUS_OK || found.damage_count > 0 ? 1 : 0;
        if (wal_open(&options, &wal, &error) == STATUS_OK) {
            wal_close(wal, false);
        }
        flip(*state, offset, mask);
    }
    assert_true(noticed > FLIPS / 10);
    fixture_assert_undamaged(*state);
}

/* A file that lost its end: the process that opens it gets an answer, not SIGBUS. */
static void test_cut_file(void **state)
{
    char path[512];
    fill(*state, 60);
    size_t size = read_data(*state, data, sizeof(data));
    fixture_path(*state, "data.mdb", path, sizeof(path));
    for (size_t cut = 0; cut < 8; cut++) {
        struct wal_verification found = {0};
        struct error error;
        fixture_write(*state, "data.mdb", data, size * cut / 8 + 1);
        enum status status = wal_verify(((struct fixture *)*state)->directory, &found, &error);
        assert_true(status != STATUS_OK || found.damage_count > 0);
        struct wal *wal = NULL;
        struct wal_options options = fixture_options(*state);
        if (wal_open(&options, &wal, &error) == STATUS_OK) {
            wal_close(wal, false); /* what opening and recovery read was whole */
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_other_format_version),
        TEST(test_damaged_format_version),
        TEST(test_other_lmdb_environment),
        TEST(test_foreign_data_file_is_refused_and_kept),
        TEST(test_other_files_in_the_directory_are_left_alone),
        TEST(test_empty_data_file_is_a_new_journal),
        TEST(test_reading_what_does_not_exist),
        TEST(test_unusable_directories),
        TEST(test_invalid_options),
        TEST(test_unwritable_directory),
        TEST(test_flipped_byte_in_a_record),
        TEST(test_owner_refuses_damage_in_an_open_unit),
        TEST(test_flips_anywhere_never_crash_the_caller),
        TEST(test_cut_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
