/*
 * Encryption at rest: what is in the payloads is nowhere in the file, only the right key file opens
 * it, and nothing that was encrypted can be changed or moved unnoticed.
 */

#include "wal_fixture.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "wal/cipher.h"
#include "wal/format.h"

#define MARKER "a secret that nobody may read"
#define KEY_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
#define KEY_B "//////////////////////////////////////////8=\n"

static const uint8_t journal_id[WAL_JOURNAL_ID_BYTES] = {1, 2, 3};

/* Writes `text` into a file of the fixture's directory; its path stays valid until the next call
   but one. */
static const char *write_file(const struct fixture *fixture, const char *name, const char *text,
                              mode_t mode)
{
    static char paths[2][300];
    static unsigned next;
    char *path = paths[next++ % 2];
    fixture_path(fixture, name, path, sizeof(paths[0]));
    int descriptor = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(descriptor, mode), 0);
    assert_int_equal(close(descriptor), 0);
    return path;
}

static struct wal *open_with(const struct fixture *fixture, const char *key_file)
{
    struct error error;
    struct wal *wal = NULL;
    struct wal_options options = fixture_options(fixture);
    options.key_file = key_file;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    return wal;
}

static void assert_refused(const struct fixture *fixture, const char *key_file, bool read_only,
                           const char *says)
{
    struct error error;
    struct wal *wal = NULL;
    struct wal_options options = fixture_options(fixture);
    options.key_file = key_file;
    options.read_only = read_only;
    assert_int_equal(wal_open(&options, &wal, &error), STATUS_INVALID);
    if (strstr(error.message, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    }
}

static bool file_holds(const struct fixture *fixture, const char *text)
{
    char path[300];
    struct stat file;
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    FILE *stream = fopen(path, "r");
    assert_non_null(stream);
    assert_int_equal(fstat(fileno(stream), &file), 0);
    char *bytes = malloc((size_t)file.st_size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)file.st_size, stream), file.st_size);
    assert_int_equal(fclose(stream), 0);
    bool holds = memmem(bytes, (size_t)file.st_size, text, strlen(text)) != NULL;
    free(bytes);
    return holds;
}

static void assert_payload(struct wal *wal, uint64_t lsn, const char *expected)
{
    struct error error;
    struct wal_record record;
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read(reader, lsn, &record, &error), STATUS_OK, &error);
    assert_false(record.encrypted);
    assert_int_equal(record.payload.size, strlen(expected));
    assert_memory_equal(record.payload.data, expected, strlen(expected));
    wal_reader_end(reader);
}

static void append_unit(struct wal *wal, const char *payload)
{
    uint64_t unit = wal_unit_next(wal);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, payload, NULL), STATUS_OK);
    assert_int_equal(fixture_append(wal, WAL_KIND_COMMIT, unit, payload, NULL), STATUS_OK);
}

static void test_the_file_holds_no_payload(void **state)
{
    const char *key = write_file(*state, "key", KEY_A, 0600);
    struct wal *wal = open_with(*state, key);
    append_unit(wal, MARKER);
    assert_payload(wal, 1, MARKER);
    wal_close(wal, true);
    assert_false(file_holds(*state, MARKER));
    fixture_assert_undamaged(*state); /* which needs no key */
    wal = open_with(*state, key);
    append_unit(wal, MARKER "!");
    assert_payload(wal, 2, MARKER);
    assert_payload(wal, 4, MARKER "!");
    wal_close(wal, true);
    assert_false(file_holds(*state, MARKER));
}

static void test_a_journal_can_be_encrypted_later(void **state)
{
    struct wal *wal = fixture_open(*state);
    append_unit(wal, "for everybody");
    wal_close(wal, true);
    wal = open_with(*state, write_file(*state, "key", KEY_A, 0600));
    append_unit(wal, MARKER);
    assert_payload(wal, 1, "for everybody");
    assert_payload(wal, 3, MARKER);
    wal_close(wal, true);
    assert_true(file_holds(*state, "for everybody"));
    assert_false(file_holds(*state, MARKER));
}

static void test_only_the_right_key_file_opens_it(void **state)
{
    const char *key = write_file(*state, "key", KEY_A, 0600);
    struct wal *wal = open_with(*state, key);
    append_unit(wal, MARKER);
    wal_close(wal, true);
    const char *other = write_file(*state, "other", KEY_B, 0600);
    assert_refused(*state, NULL, false, "--wal-key-file");
    assert_refused(*state, other, false, "not the key file");
    assert_refused(*state, other, true, "not the key file");
    assert_refused(*state, "/nowhere/at/all", true, "/nowhere/at/all");
    /* Without one it can be looked at, but for its payloads. */
    struct error error;
    struct wal_record record;
    struct wal_options options = fixture_options(*state);
    options.read_only = true;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    assert_int_equal(fixture_statistics(wal).records, 2);
    struct wal_reader *reader = fixture_reader(wal);
    assert_int_equal(wal_read(reader, 1, &record, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "--wal-key-file"));
    wal_reader_end(reader);
    wal_close(wal, false);
}

static void test_what_is_no_key_file(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        const char *says;
    } cases[] = {
        {"", 0600, "openssl rand -base64 32"},
        {"AAAA\n", 0600, "openssl rand -base64 32"},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", 0600, "openssl rand"}, /* 33 bytes */
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n", 0600, "openssl rand"}, /* 31 */
        {"????????????????????????????????????????????\n", 0600, "openssl rand"},
        {KEY_A KEY_A, 0600, "openssl rand"},
        {KEY_A, 0604, "chmod 600"},
        {KEY_A, 0620, "chmod 600"},
        {KEY_A, 0650, "chmod 600"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *path = write_file(*state, "key", cases[i].text, cases[i].mode);
        assert_refused(*state, path, false, cases[i].says);
        assert_refused(*state, path, false, path);
    }
    char directory[300];
    fixture_path(*state, "directory", directory, sizeof(directory));
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_refused(*state, directory, false, "not a file");
}

static void test_another_key_file(void **state)
{
    struct error error;
    struct wal *wal = open_with(*state, write_file(*state, "key", KEY_A, 0600));
    append_unit(wal, MARKER);
    assert_int_equal(wal_change_key(wal, "/nowhere/at/all", &error), STATUS_INVALID);
    const char *other = write_file(*state, "other", KEY_B, 0600);
    assert_status(wal_change_key(wal, other, &error), STATUS_OK, &error);
    append_unit(wal, MARKER "!");
    wal_close(wal, true);
    assert_refused(*state, write_file(*state, "key", KEY_A, 0600), false, "not the key file");
    wal = open_with(*state, write_file(*state, "other", KEY_B, 0600));
    assert_payload(wal, 1, MARKER);
    assert_payload(wal, 3, MARKER "!");
    wal_close(wal, true);
}

static void test_only_an_encrypted_journal_has_a_key_file(void **state)
{
    struct error error;
    struct wal *wal = fixture_open(*state);
    assert_int_equal(wal_change_key(wal, "/nowhere/at/all", &error), STATUS_INVALID);
    wal_close(wal, true);
}

/* Reads LSN 3 in a process that opened the journal before the data key of LSN 3 was made. */
static void test_a_reader_learns_of_new_data_keys(void **state)
{
    const char *key = write_file(*state, "key", KEY_A, 0600);
    int ready[2];
    int go[2];
    struct wal *wal = open_with(*state, key);
    append_unit(wal, MARKER);
    wal_close(wal, true);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        struct wal_record record;
        struct wal_reader *reader = NULL;
        struct wal_options options = fixture_options(*state);
        options.read_only = true;
        options.key_file = key;
        bool fine = wal_open(&options, &wal, NULL) == STATUS_OK && write(ready[1], "r", 1) == 1 &&
                    read(go[0], &byte, 1) == 1 &&
                    wal_reader_begin(wal, &reader, NULL) == STATUS_OK &&
                    wal_read(reader, 1, &record, NULL) == STATUS_OK &&
                    wal_read(reader, 3, &record, NULL) == STATUS_OK &&
                    record.payload.size == strlen(MARKER "!");
        _exit(fine ? 0 : 1);
    }
    char byte = 0;
    int result = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    wal = open_with(*state, key);
    append_unit(wal, MARKER "!");
    assert_int_equal(write(go[1], "g", 1), 1);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    wal_close(wal, true);
    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
}

/* Data keys are forgotten with the records that need them: many openings do not add up. */
static void test_unused_data_keys_are_forgotten(void **state)
{
    struct error error;
    const char *key = write_file(*state, "key", KEY_A, 0600);
    struct wal_prune_options all = {.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
    struct wal *wal = open_with(*state, key);
    uint64_t kept = wal_unit_next(wal);
    assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, kept, MARKER, NULL), STATUS_OK);
    wal_close(wal, true);
    uint64_t before = 0;
    for (int i = 0; i < 60; i++) {
        wal = open_with(*state, key);
        append_unit(wal, MARKER);
        if (i == 5) {
            before = fixture_statistics(wal).used_bytes;
        }
        assert_status(wal_prune(wal, &all, NULL, &error), STATUS_OK, &error);
        wal_close(wal, true);
    }
    wal = open_with(*state, key);
    assert_payload(wal, 1, MARKER); /* with the first of 62 data keys */
    /* 60 entries of 72 bytes would be two pages. */
    assert_true(fixture_statistics(wal).used_bytes <= before);
    wal_close(wal, true);
}

/* Makes the record a plain one with a payload of the forger's, in every page that has it. */
static void forge_plain(const struct fixture *fixture, uint64_t lsn)
{
    char path[300];
    struct stat file;
    fixture_path(fixture, "data.mdb", path, sizeof(path));
    int descriptor = open(path, O_RDWR);
    assert_int_equal(fstat(descriptor, &file), 0);
    uint8_t *bytes = malloc((size_t)file.st_size);
    assert_non_null(bytes);
    assert_int_equal(pread(descriptor, bytes, (size_t)file.st_size, 0), file.st_size);
    size_t forged = 0;
    for (size_t at = 0; at + FORMAT_RECORD_HEADER_BYTES < (size_t)file.st_size; at++) {
        struct wal_record record;
        size_t size = FORMAT_RECORD_HEADER_BYTES + slice_load_u32be(bytes + at + 8);
        if (memcmp(bytes + at, "HFWR", 4) == 0 && size < (size_t)file.st_size - at &&
            format_record_get(lsn, slice_make(bytes + at, size), &record, NULL) == STATUS_OK) {
            memset(bytes + at + FORMAT_RECORD_HEADER_BYTES, 'x', record.payload.size);
            record.encrypted = false;
            format_record_put(bytes + at, &record);
            forged++;
        }
    }
    assert_true(forged > 0);
    assert_int_equal(pwrite(descriptor, bytes, (size_t)file.st_size, 0), file.st_size);
    assert_int_equal(close(descriptor), 0);
    free(bytes);
}

/* Recovery would write what it holds to the server. */
static void test_a_plain_record_in_place_of_an_encrypted_one(void **state)
{
    struct error error;
    struct wal_record record;
    const char *key = write_file(*state, "key", KEY_A, 0600);
    struct wal_prune_options all = {.ended_before_ms = UINT64_MAX, .settled_lsn = UINT64_MAX};
    struct wal *wal = fixture_open(*state);
    append_unit(wal, "from before");
    wal_close(wal, true);
    for (int i = 0; i < 2; i++) { /* the first of the data keys is forgotten */
        wal = open_with(*state, key);
        append_unit(wal, MARKER);
        assert_payload(wal, 1, "from before");
        wal_close(wal, true);
    }
    forge_plain(*state, 3);
    forge_plain(*state, 6);
    wal = open_with(*state, key);
    struct wal_reader *reader = fixture_reader(wal);
    assert_status(wal_read(reader, 2, &record, &error), STATUS_OK, &error);
    assert_int_equal(wal_read(reader, 3, &record, &error), STATUS_CORRUPT);
    assert_status(wal_read(reader, 4, &record, &error), STATUS_OK, &error);
    assert_int_equal(wal_read(reader, 6, &record, &error), STATUS_CORRUPT);
    assert_int_equal(wal_read_next(reader, 5, &record, &error), STATUS_CORRUPT);
    wal_reader_end(reader);
    assert_status(wal_prune(wal, &all, NULL, &error), STATUS_OK, &error);
    wal_close(wal, true);
    wal = open_with(*state, key); /* forgets data keys */
    append_unit(wal, MARKER);
    wal_close(wal, true);
    forge_plain(*state, 7);
    wal = open_with(*state, key);
    reader = fixture_reader(wal);
    assert_int_equal(wal_read(reader, 7, &record, &error), STATUS_CORRUPT);
    wal_reader_end(reader);
    wal_close(wal, true);
}

/* ------------------------------------------------------------------ the cipher alone */

static enum status nothing_is_used(void *context, uint64_t first, uint64_t end, bool *ret_used,
                                   struct error *ret_error)
{
    (void)context;
    (void)first;
    (void)end;
    (void)ret_error;
    *ret_used = false;
    return STATUS_OK;
}

static struct cipher *begin_cipher(const struct fixture *fixture)
{
    struct error error;
    struct cipher *cipher = NULL;
    struct cipher_use use = {.find = nothing_is_used};
    const char *key = write_file(fixture, "key", KEY_A, 0600);
    assert_status(cipher_open(key, journal_id, &cipher, &error), STATUS_OK, &error);
    assert_status(cipher_begin(cipher, 1, &use, &error), STATUS_OK, &error);
    return cipher;
}

static const struct wal_record sample = {
    .lsn = 7,
    .unit = 3,
    .previous_lsn = 5,
    .time_ms = 1700000000123,
    .kind = WAL_KIND_WRITE,
};

static void test_what_was_changed_or_moved_is_noticed(void **state)
{
    struct error error;
    struct cipher *cipher = begin_cipher(*state);
    uint8_t sealed[sizeof(MARKER) - 1 + CIPHER_OVERHEAD_BYTES];
    uint8_t plain[sizeof(sealed)];
    struct wal_record record = sample;
    record.payload = slice_text(MARKER);
    assert_status(cipher_encrypt(cipher, &record, sealed, &error), STATUS_OK, &error);
    record.payload = slice_make(sealed, sizeof(sealed));
    assert_status(cipher_decrypt(cipher, &record, plain, &error), STATUS_OK, &error);
    assert_memory_equal(plain, MARKER, strlen(MARKER));
    for (size_t bit = 32; bit < sizeof(sealed) * 8; bit++) { /* behind the data key's number */
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(cipher_decrypt(cipher, &record, plain, NULL), STATUS_CORRUPT);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    sealed[3] ^= 2;
    assert_int_equal(cipher_decrypt(cipher, &record, plain, NULL), STATUS_NOT_FOUND);
    sealed[3] ^= 2;
    for (size_t size = 4; size < sizeof(sealed); size++) {
        record.payload = slice_make(sealed, size);
        assert_int_equal(cipher_decrypt(cipher, &record, plain, NULL), STATUS_CORRUPT);
    }
    record.payload = slice_make(sealed, sizeof(sealed));
    struct wal_record moved[5] = {record, record, record, record, record};
    moved[0].lsn++;
    moved[1].unit++;
    moved[2].previous_lsn++;
    moved[3].time_ms++;
    moved[4].kind = WAL_KIND_COMMIT;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(cipher_decrypt(cipher, &moved[i], plain, NULL), STATUS_CORRUPT);
    }
    cipher_close(cipher);
}

static void test_no_nonce_is_used_twice(void **state)
{
    struct error error;
    struct wal_record record = sample;
    record.payload = slice_text(MARKER);
    uint8_t sealed[3][sizeof(MARKER) - 1 + CIPHER_OVERHEAD_BYTES];
    struct cipher *cipher = begin_cipher(*state);
    assert_status(cipher_encrypt(cipher, &record, sealed[0], &error), STATUS_OK, &error);
    assert_status(cipher_encrypt(cipher, &record, sealed[1], &error), STATUS_OK, &error);
    assert_memory_not_equal(sealed[0] + 4, sealed[1] + 4, 8); /* the nonce's count */
    cipher_close(cipher);
    cipher = begin_cipher(*state); /* another data key, so the same count does no harm */
    assert_status(cipher_encrypt(cipher, &record, sealed[2], &error), STATUS_OK, &error);
    assert_memory_equal(sealed[0] + 4, sealed[2] + 4, 8);
    assert_memory_not_equal(sealed[0] + 12, sealed[2] + 12, sizeof(MARKER) - 1);
    cipher_close(cipher);
}

static void test_wrapped_keys_belong_to_their_journal(void **state)
{
    struct error error;
    struct cipher *cipher = begin_cipher(*state);
    struct cipher *other = NULL;
    uint8_t *property = NULL;
    size_t size = 0;
    const uint8_t other_id[WAL_JOURNAL_ID_BYTES] = {9};
    const char *key = write_file(*state, "key", KEY_A, 0600);
    assert_status(cipher_property(cipher, &property, &size, &error), STATUS_OK, &error);
    assert_status(cipher_learn(cipher, slice_make(property, size), &error), STATUS_OK, &error);
    assert_status(cipher_open(key, other_id, &other, &error), STATUS_OK, &error);
    assert_int_equal(cipher_learn(other, slice_make(property, size), &error), STATUS_CORRUPT);
    for (size_t i = 0; i < size; i++) {
        property[i] ^= 1;
        enum status status = cipher_learn(cipher, slice_make(property, size), &error);
        assert_int_equal(status, i < 8 ? STATUS_INVALID : STATUS_CORRUPT);
        property[i] ^= 1;
        assert_int_not_equal(cipher_learn(cipher, slice_make(property, i), NULL),
                             i == 8 ? STATUS_CORRUPT : STATUS_OK);
    }
    free(property);
    cipher_close(other);
    cipher_close(cipher);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_file_holds_no_payload),
        TEST(test_a_journal_can_be_encrypted_later),
        TEST(test_only_the_right_key_file_opens_it),
        TEST(test_what_is_no_key_file),
        TEST(test_another_key_file),
        TEST(test_only_an_encrypted_journal_has_a_key_file),
        TEST(test_a_reader_learns_of_new_data_keys),
        TEST(test_unused_data_keys_are_forgotten),
        TEST(test_a_plain_record_in_place_of_an_encrypted_one),
        TEST(test_what_was_changed_or_moved_is_noticed),
        TEST(test_no_nonce_is_used_twice),
        TEST(test_wrapped_keys_belong_to_their_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
