/*
 * What lies ready behind the journal's file (wal/room.h): zeros where the next pages go, never over
 * what is there, so that in `power` hardly a commit makes the file longer.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/room.h"
#include "wal_fixture.h"

enum { PAGES_BYTES = 40960 };

static int open_pages(const struct fixture *fixture, const char *mode)
{
    char path[512];
    uint8_t pages[PAGES_BYTES];
    (void)snprintf(path, sizeof path, "%s/pages", fixture->directory);
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    memset(pages, 7, sizeof pages);
    assert_true(mode[0] == 'r' || fwrite(pages, sizeof pages, 1, file) == 1);
    assert_int_equal(fflush(file), 0);
    int descriptor = dup(fileno(file));
    assert_true(descriptor >= 0);
    assert_int_equal(fclose(file), 0);
    return descriptor;
}

static uint64_t size_of(int descriptor)
{
    struct stat file;
    assert_int_equal(fstat(descriptor, &file), 0);
    return (uint64_t)file.st_size;
}

static void test_zeros_lie_behind_the_last_page(void **state)
{
    struct room room = {.with_zeros = true};
    uint8_t bytes[2];
    bool kept = false;
    int descriptor = open_pages(*state, "w+b");
    assert_int_equal(room_keep(&room, descriptor, PAGES_BYTES, &kept), 0);
    assert_true(kept);
    if (room.unsupported) {
        skip(); /* a file system that allocates nothing beforehand gets no zeros either */
    }
    uint64_t size = size_of(descriptor);
    assert_true(size > PAGES_BYTES);
    assert_int_equal(pread(descriptor, bytes, 2, PAGES_BYTES - 1), 2);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(bytes[1], 0);
    /* Pages that are used up cost nothing more, until few are left. */
    assert_int_equal(pwrite(descriptor, "page", 4, PAGES_BYTES), 4);
    assert_int_equal(room_keep(&room, descriptor, PAGES_BYTES + 4096, &kept), 0);
    assert_int_equal(size_of(descriptor), size);
    assert_int_equal(room_keep(&room, descriptor, size - 4096, &kept), 0);
    assert_true(size_of(descriptor) > size);
    assert_int_equal(pread(descriptor, bytes, 1, PAGES_BYTES), 1);
    assert_int_equal(bytes[0], 'p');
    (void)close(descriptor);
}

static void test_without_syncs_there_are_no_zeros(void **state)
{
    struct room room = {0};
    bool kept = false;
    int descriptor = open_pages(*state, "w+b");
    assert_int_equal(room_keep(&room, descriptor, PAGES_BYTES, &kept), 0);
    assert_int_equal(size_of(descriptor), PAGES_BYTES);
    (void)close(descriptor);
}

/* What ails the disk is told: nothing is written to it any more. */
static void test_zeros_that_cannot_be_written_are_an_error(void **state)
{
    struct room room = {.with_zeros = true, .allocated_end = (uint64_t)1 << 30};
    bool kept = false;
    (void)close(open_pages(*state, "w+b"));
    int descriptor = open_pages(*state, "rb");
    assert_int_equal(room_keep(&room, descriptor, PAGES_BYTES, &kept), EBADF);
    (void)close(descriptor);
}

/* The reason for it all: of many commits that need new pages hardly any makes the file longer. */
static void test_commits_stay_inside_the_file(void **state)
{
    const struct fixture *fixture = *state;
    struct wal_options options = fixture_options(fixture);
    struct wal *wal = NULL;
    struct error error;
    char path[512];
    unsigned grown = 0;
    uint64_t before = 0;
    struct stat file;
    options.durability = WAL_DURABILITY_POWER;
    assert_status(wal_open(&options, &wal, &error), STATUS_OK, &error);
    (void)snprintf(path, sizeof path, "%s/data.mdb", fixture->directory);
    for (uint64_t unit = 1; unit <= 100; unit++) {
        static char image[3000];
        memset(image, 'x', sizeof image - 1);
        assert_int_equal(fixture_append(wal, WAL_KIND_BEGIN, unit, image, NULL), STATUS_OK);
        assert_int_equal(stat(path, &file), 0);
        grown += (uint64_t)file.st_size > before ? 1 : 0;
        before = (uint64_t)file.st_size;
    }
    assert_true(before > 100 * 3000);
    assert_true(grown < 10);
    wal_close(wal, true);
    fixture_assert_undamaged(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_zeros_lie_behind_the_last_page, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_without_syncs_there_are_no_zeros, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_zeros_that_cannot_be_written_are_an_error,
                                        fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_commits_stay_inside_the_file, fixture_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
