/* The journal's directory is for its owner alone. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "holdfast/wal.h"
#include "test_program.h"

static mode_t mode_of(const char *path)
{
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    return found.st_mode & 07777;
}

static void test_ours_is_narrowed(void **state)
{
    (void)state;
    static const mode_t modes[] = {0755, 0777, 0770, 0701, 01777, 02750};
    char path[TEST_DIRECTORY_BYTES];
    bool narrowed = true;
    directory_new(path);
    assert_int_equal(wal_directory_protect(path, &narrowed, NULL), STATUS_OK);
    assert_false(narrowed);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(wal_directory_protect(path, &narrowed, NULL), STATUS_OK);
        assert_true(narrowed);
        assert_int_equal(mode_of(path) & 0777, 0700);
    }
    rmdir(path);
    assert_int_equal(wal_directory_protect(path, &narrowed, NULL), STATUS_OK);
    assert_false(narrowed);
}

/* Of somebody else: as a mounted volume is, closed but for its group, or open to everybody. */
static void test_of_somebody_else(void **state)
{
    (void)state;
    char path[TEST_DIRECTORY_BYTES];
    struct error error = {0};
    bool narrowed = true;
    directory_new(path);
    if (geteuid() != 0 || chown(path, 12345, 12345) != 0) {
        rmdir(path);
        skip();
    }
    assert_int_equal(chmod(path, 02775), 0);
    assert_int_equal(wal_directory_protect(path, &narrowed, &error), STATUS_OK);
    assert_false(narrowed);
    assert_int_equal(mode_of(path), 02775);
    assert_int_equal(chmod(path, 01777), 0);
    assert_int_equal(wal_directory_protect(path, &narrowed, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "directory of its own"));
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours_is_narrowed),
        cmocka_unit_test(test_of_somebody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
