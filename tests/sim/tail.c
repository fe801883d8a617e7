/*
 * The tail's file in memory, in the place of wal/tail_file.c, with what a crash leaves of it.
 *
 *   tail_file_write() --> on its way --> written (`now`) --sync--> on the disk (`synced`)
 *
 * It lies on the same disk as the store and outlives the process. What a death leaves
 *   - of a write on its way: its beginning, as far as the kernel came; if the power is cut as well,
 *     any of its sectors, in no order;
 *   - of what was written and not synced: all of it; if the power is cut, any of its sectors;
 *   - of a file that was just made: all or nothing.
 *
 * A write that fails for good may be there or not, and nothing may be written or committed after it
 * in the same life: this file and store.c watch over that.
 *
 * There is one journal, so there is one such file.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "store.h"
#include "wal/tail.h"

#define SECTOR_BYTES 512u

/* One file: what is read from it, and what the disk has. */
struct image {
    uint8_t *now;
    uint8_t *synced;
    size_t used; /* all behind it is zero in both */
};

static struct {
    char directory[128]; /* empty: there is none yet */
    struct image image;
    bool unnamed; /* a power cut may take the whole file: its directory was not synced */
    struct {
        uint8_t *bytes; /* NULL: no write is on its way */
        uint64_t offset;
        size_t size;
    } write;
} tail;

struct tail_file {
    bool with_sync;
};

/* ------------------------------------------------------------------ images */

static struct image image_make(void)
{
    return (struct image){
        .now = sim_malloc(FORMAT_TAIL_BYTES),
        .synced = sim_malloc(FORMAT_TAIL_BYTES),
    };
}

static void image_free(struct image *image)
{
    sim_free(image->now);
    sim_free(image->synced);
    *image = (struct image){0};
}

static void image_write(struct image *image, uint64_t offset, const uint8_t *bytes, size_t size)
{
    assert(offset + size <= FORMAT_TAIL_BYTES);
    if (size > 0) {
        memcpy(image->now + offset, bytes, size);
    }
    image->used = offset + size > image->used ? offset + size : image->used;
}

static void image_sync(struct image *image)
{
    memcpy(image->synced, image->now, image->used);
}

/* Of each sector that was not synced, what is written or what was there before. */
static void image_lose(struct image *image)
{
    for (size_t at = 0; at < image->used; at += SECTOR_BYTES) {
        bool differs = memcmp(image->now + at, image->synced + at, SECTOR_BYTES) != 0;
        if (differs && random_chance(1, 2)) {
            memcpy(image->now + at, image->synced + at, SECTOR_BYTES);
        }
    }
    image_sync(image);
}

/* ------------------------------------------------------------------ what a death leaves */

static void forget_write(void)
{
    sim_free(tail.write.bytes);
    tail.write.bytes = NULL;
}

/* Whole sectors of the write that is on its way, from its beginning; `limit`: of them, at most. */
static void write_beginning(size_t limit)
{
    size_t size = random_below(limit + 1) * SECTOR_BYTES;
    image_write(&tail.image, tail.write.offset, tail.write.bytes,
                size < tail.write.size ? size : tail.write.size);
}

static void write_sectors(void)
{
    unsigned part = 1 + (unsigned)random_below(8);
    for (size_t at = 0; at < tail.write.size; at += SECTOR_BYTES) {
        size_t left = tail.write.size - at;
        if (random_chance(part, 8)) {
            image_write(&tail.image, tail.write.offset + at, tail.write.bytes + at,
                        left < SECTOR_BYTES ? left : SECTOR_BYTES);
        }
    }
}

static size_t sectors_of(size_t size)
{
    return (size + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

void sim_tail_crash(bool power_cut)
{
    if (tail.write.bytes != NULL) {
        if (power_cut) {
            write_sectors();
        } else {
            write_beginning(sectors_of(tail.write.size));
        }
        forget_write();
    }
    if (power_cut && tail.unnamed && random_chance(1, 2)) {
        image_free(&tail.image);
    }
    if (power_cut && tail.image.now != NULL) {
        image_lose(&tail.image);
    }
    tail.unnamed = tail.unnamed && !power_cut;
}

void sim_tail_directory_synced(void)
{
    tail.unnamed = false;
}

void sim_tail_reset(void)
{
    forget_write();
    image_free(&tail.image);
    memset(&tail, 0, sizeof tail);
}

/* ------------------------------------------------------------------ tail_file.c */

static void take_time(void)
{
    fiber_sleep(random_chance(1, 50) ? random_below(200000) : 10 + random_below(500));
}

/* Under another name first; then it has the name, which may yet be lost. */
static enum status make(const char *directory, bool with_sync, struct error *ret_error)
{
    sim_store_expect_sound("the tail is made");
    process_place("tail make");
    if (sim_store_is_full()) {
        return error_set(ret_error, STATUS_FULL, "the simulated disk is full");
    }
    take_time();
    bool fails = sim_store_fails("the making of the tail fails");
    if (!fails || random_chance(1, 2)) {
        tail.image = image_make();
        tail.unnamed = true;
        (void)snprintf(tail.directory, sizeof tail.directory, "%s", directory);
        process_place("tail renamed");
    }
    if (fails) {
        return error_set(ret_error, STATUS_IO, "the simulated disk has failed");
    }
    if (with_sync) {
        sim_tail_directory_synced();
    }
    return STATUS_OK;
}

enum status tail_file_open(const char *directory, bool with_sync, struct tail_file **ret_file,
                           struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (tail.image.now == NULL) {
        status = make(directory, with_sync, ret_error);
    }
    if (status == STATUS_OK) {
        assert(strcmp(tail.directory, directory) == 0);
        *ret_file = calloc(1, sizeof **ret_file);
        (*ret_file)->with_sync = with_sync;
    }
    return status;
}

struct tail_file *tail_file_close(struct tail_file *file)
{
    free(file);
    return NULL;
}

/* Of a write that finds no room a beginning is there. */
static enum status write_durably(const struct tail_file *file, uint64_t offset, struct slice bytes,
                                 struct error *ret_error)
{
    assert(tail.image.now != NULL && tail.write.bytes == NULL);
    sim_store_expect_sound("the tail is written to");
    tail.write.bytes = sim_malloc(bytes.size);
    memcpy(tail.write.bytes, bytes.data, bytes.size);
    tail.write.size = bytes.size;
    tail.write.offset = offset;
    fiber_preempt();
    process_place("tail write");
    /* Its blocks are there; but a disk that never writes in place needs others. */
    if (sim_store_is_full() && random_chance(1, 4)) {
        write_beginning(sectors_of(bytes.size) - 1);
        forget_write();
        return error_set(ret_error, STATUS_FULL, "the simulated disk is full");
    }
    if (sim_store_fails("a write to the tail fails")) {
        return error_set(ret_error, STATUS_IO, "the simulated disk has failed");
    }
    image_write(&tail.image, offset, tail.write.bytes, tail.write.size);
    forget_write();
    take_time();
    process_place("tail sync");
    if (sim_store_fails("a sync of the tail fails")) {
        return error_set(ret_error, STATUS_IO, "the simulated disk has failed");
    }
    if (file->with_sync) {
        image_sync(&tail.image);
    }
    process_place("tail written");
    return STATUS_OK;
}

enum status tail_file_write(struct tail_file *file, uint64_t offset, struct slice bytes,
                            struct error *ret_error)
{
    assert(offset % FORMAT_FRAME_ALIGNMENT == 0 && bytes.size <= FORMAT_FRAME_BYTES_MAX);
    return write_durably(file, offset, bytes, ret_error);
}

enum status tail_file_clear(struct tail_file *file, struct error *ret_error)
{
    size_t size = tail.image.used; /* behind it are zeros */
    if (size == 0) {
        return STATUS_OK;
    }
    uint8_t *zeros = calloc(1, size);
    process_place("tail clear");
    enum status status = write_durably(file, 0, slice_make(zeros, size), ret_error);
    free(zeros);
    return status;
}

enum status tail_file_read(const char *directory, size_t limit, uint8_t **ret_bytes,
                           size_t *ret_size, struct error *ret_error)
{
    (void)ret_error;
    *ret_bytes = NULL;
    *ret_size = 0;
    if (tail.image.now == NULL || strcmp(tail.directory, directory) != 0) {
        return STATUS_OK;
    }
    *ret_bytes = calloc(1, FORMAT_TAIL_BYTES);
    memcpy(*ret_bytes, tail.image.now, tail.image.used);
    *ret_size = limit;
    return STATUS_OK;
}
