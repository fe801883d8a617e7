/*
 * The disk: for each sector of each file what is certain and what may be.
 *
 *     sector   durable content, then each content it was given since, with the event that did it
 *     [17]     A  B(event 40)  C(event 52)     after a power cut: A, B or C
 *     [17]     C                               once a sync returned
 *
 * `cache` is the page cache: the newest content of everything, which is what a sync writes.
 *
 * tail.wal is made anew under another name, so that there may be several files of which a power cut
 * leaves one: `tails`, the oldest first, until the directory is synced.
 */

#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wal_fixture.h"

#define SECTOR_BYTES 512u
#define TABLES_BYTES_MAX ((size_t)64 << 20)
#define TAIL_BYTES_MAX ((size_t)2 << 20)
#define TAILS_MAX 8

struct version {
    size_t event;
    uint8_t bytes[SECTOR_BYTES];
};

struct sector {
    struct version *versions; /* since it was last durable, oldest first */
    size_t count;
    bool listed;   /* in `dirty` */
    bool given_up; /* a sync failed and it was not written since: no sync writes it */
};

enum name {
    NAME_OLD,     /* journal.new/data.mdb */
    NAME_CHANGES, /* renamed, its directory not synced yet */
    NAME_FINAL,   /* data.mdb */
};

struct file {
    uint8_t *durable;
    uint8_t *cache;
    size_t bytes_max;
    uint64_t durable_size;
    uint64_t cache_size;
    struct sector *sectors;
    size_t *dirty; /* numbers of sectors with versions */
    size_t dirty_count;
};

struct disk {
    const struct storage_trace *trace;
    size_t place;   /* events before it are done */
    bool is_on_way; /* the bytes of the event at `place` are among the versions already */
    struct file *tables;
    enum name tables_name;
    struct file *tails[TAILS_MAX]; /* which may have the name tail.wal; NULL: there is none */
    size_t tail_count;
    struct file *tail_new; /* tail.wal.new; NULL: there is none */
};

const char *disk_cut_name(enum disk_cut cut)
{
    static const char *const names[DISK_CUT_COUNT] = {"loses", "keeps", "reorders", "tears",
                                                      "mixes"};
    return names[cut];
}

static struct file *file_new(size_t bytes_max)
{
    struct file *file = calloc(1, sizeof(*file));
    assert_non_null(file);
    file->bytes_max = bytes_max;
    file->durable = calloc(1, bytes_max);
    file->cache = calloc(1, bytes_max);
    file->sectors = calloc(bytes_max / SECTOR_BYTES, sizeof(*file->sectors));
    file->dirty = calloc(bytes_max / SECTOR_BYTES, sizeof(*file->dirty));
    assert_true(file->durable != NULL && file->cache != NULL);
    assert_true(file->sectors != NULL && file->dirty != NULL);
    return file;
}

static void forget_versions(struct sector *sector)
{
    free(sector->versions);
    *sector = (struct sector){.listed = sector->listed};
}

static void file_free(struct file *file)
{
    if (file != NULL) {
        for (size_t i = 0; i < file->dirty_count; i++) {
            forget_versions(&file->sectors[file->dirty[i]]);
        }
        free(file->durable);
        free(file->cache);
        free(file->sectors);
        free(file->dirty);
        free(file);
    }
}

struct disk *disk_new(const struct storage_trace *trace)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    disk->trace = trace;
    disk->tables = file_new(TABLES_BYTES_MAX);
    disk->tail_count = 1; /* none */
    return disk;
}

struct disk *disk_free(struct disk *disk)
{
    if (disk != NULL) {
        file_free(disk->tables);
        file_free(disk->tail_new);
        for (size_t i = 0; i < disk->tail_count; i++) {
            file_free(disk->tails[i]);
        }
        free(disk);
    }
    return NULL;
}

/* ------------------------------------------------------------------ playing */

static size_t first_sector(const struct storage_event *event)
{
    return event->offset / SECTOR_BYTES;
}

static size_t end_sector(const struct storage_event *event)
{
    return (event->offset + event->size + SECTOR_BYTES - 1) / SECTOR_BYTES;
}

/* NULL: the event is none of a file's. */
static struct file *file_of(struct disk *disk, const struct storage_event *event)
{
    switch (event->file) {
    case STORAGE_NO_FILE:
        return NULL;
    case STORAGE_TABLES:
        return disk->tables;
    case STORAGE_TAIL:
        return disk->tails[disk->tail_count - 1];
    case STORAGE_TAIL_NEW:
        return disk->tail_new;
    }
    return NULL;
}

static void add_versions(struct disk *disk, size_t place)
{
    const struct storage_event *event = &disk->trace->events[place];
    if (event->file == STORAGE_TAIL_NEW && event->offset == 0) {
        file_free(disk->tail_new);
        disk->tail_new = file_new(TAIL_BYTES_MAX);
    }
    struct file *file = file_of(disk, event);
    assert_non_null(file);
    assert_true(event->offset + event->size <= file->bytes_max);
    memcpy(file->cache + event->offset, event->bytes, event->size);
    for (size_t i = first_sector(event); i < end_sector(event); i++) {
        struct sector *sector = &file->sectors[i];
        if (!sector->listed) {
            file->dirty[file->dirty_count++] = i;
            sector->listed = true;
        }
        sector->given_up = false;
        sector->versions =
            realloc(sector->versions, (sector->count + 1) * sizeof(*sector->versions));
        assert_non_null(sector->versions);
        struct version *version = &sector->versions[sector->count++];
        version->event = place;
        memcpy(version->bytes, file->cache + i * SECTOR_BYTES, SECTOR_BYTES);
    }
    if (event->offset + event->size > file->cache_size) {
        file->cache_size = event->offset + event->size;
    }
}

static void make_durable(struct file *file, size_t number)
{
    struct sector *sector = &file->sectors[number];
    if (sector->count > 0) {
        memcpy(file->durable + number * SECTOR_BYTES, sector->versions[sector->count - 1].bytes,
               SECTOR_BYTES);
        forget_versions(sector);
    }
}

static void sync_everything(struct file *file)
{
    size_t kept = 0;
    for (size_t i = 0; i < file->dirty_count; i++) {
        size_t number = file->dirty[i];
        struct sector *sector = &file->sectors[number];
        if (sector->given_up) {
            file->dirty[kept++] = number;
            continue;
        }
        make_durable(file, number);
        sector->listed = false;
    }
    file->dirty_count = kept;
    file->durable_size = file->cache_size;
}

static void give_everything_up(struct file *file)
{
    for (size_t i = 0; i < file->dirty_count; i++) {
        file->sectors[file->dirty[i]].given_up = true;
    }
}

static void rename_file(struct disk *disk, const struct storage_event *event)
{
    if (event->file == STORAGE_TABLES) {
        disk->tables_name = NAME_CHANGES;
        return;
    }
    assert_true(event->file == STORAGE_TAIL && disk->tail_new != NULL);
    assert_true(disk->tail_count < TAILS_MAX);
    disk->tails[disk->tail_count++] = disk->tail_new;
    disk->tail_new = NULL;
}

static void sync_directory(struct disk *disk)
{
    disk->tables_name = disk->tables_name == NAME_CHANGES ? NAME_FINAL : disk->tables_name;
    for (size_t i = 0; i + 1 < disk->tail_count; i++) {
        file_free(disk->tails[i]);
    }
    disk->tails[0] = disk->tails[disk->tail_count - 1];
    disk->tail_count = 1;
}

/* The event has returned. */
static void finish_event(struct disk *disk, const struct storage_event *event)
{
    struct file *file = file_of(disk, event);
    switch (event->kind) {
    case STORAGE_WRITE_THROUGH:
        for (size_t i = first_sector(event); i < end_sector(event) && !event->failed; i++) {
            make_durable(file, i);
        }
        break;
    case STORAGE_SYNC:
        if (event->failed) {
            give_everything_up(file);
        } else {
            sync_everything(file);
        }
        break;
    case STORAGE_RESIZE:
        assert_true(event->offset >= file->cache_size); /* the journal only ever lets it grow */
        file->cache_size = event->offset;
        break;
    case STORAGE_RENAME:
        rename_file(disk, event);
        break;
    case STORAGE_SYNC_DIRECTORY:
        sync_directory(disk);
        break;
    case STORAGE_WRITE:
    case STORAGE_MARK:
        break;
    }
}

void disk_play_until(struct disk *disk, size_t place)
{
    assert_true(place >= disk->place && place <= disk->trace->count);
    for (;;) {
        bool is_end = disk->place == disk->trace->count;
        const struct storage_event *event = is_end ? NULL : &disk->trace->events[disk->place];
        if (!is_end && !disk->is_on_way && event->size > 0) {
            add_versions(disk, disk->place);
        }
        disk->is_on_way = true;
        if (disk->place == place) {
            return;
        }
        finish_event(disk, event);
        disk->place++;
        disk->is_on_way = false;
    }
}

/* ------------------------------------------------------------------ cutting */

/* A fair coin that always falls alike for one write of one cut. */
static bool coin(uint64_t salt, size_t event)
{
    uint64_t seed = salt ^ (uint64_t)event * 0x9E3779B97F4A7C15u;
    return (fixture_random(&seed) & 1) != 0;
}

struct choice {
    enum disk_cut cut;
    uint64_t salt;
    size_t torn_event;
};

static size_t oldest_event(const struct file *file, size_t place)
{
    size_t oldest = place;
    for (size_t i = 0; i < file->dirty_count; i++) {
        const struct sector *sector = &file->sectors[file->dirty[i]];
        if (sector->count > 0 && sector->versions[0].event < oldest) {
            oldest = sector->versions[0].event;
        }
    }
    return oldest;
}

/* How many of a sector's versions have happened: the last of these is what the disk holds. */
static size_t versions_kept(const struct sector *sector, const struct choice *choice,
                            uint64_t *seed)
{
    size_t kept = 0;
    switch (choice->cut) {
    case DISK_CUT_LOSES:
        return 0;
    case DISK_CUT_KEEPS:
        return sector->count;
    case DISK_CUT_MIXES:
        return fixture_random(seed) % (sector->count + 1);
    case DISK_CUT_REORDERS:
        for (size_t i = 0; i < sector->count; i++) {
            kept = coin(choice->salt, sector->versions[i].event) ? i + 1 : kept;
        }
        return kept;
    case DISK_CUT_TEARS:
        for (size_t i = 0; i < sector->count; i++) {
            size_t event = sector->versions[i].event;
            bool is_there = event < choice->torn_event ||
                            (event == choice->torn_event && fixture_random(seed) % 2 == 0);
            kept = is_there ? i + 1 : kept;
        }
        return kept;
    case DISK_CUT_COUNT:
        break;
    }
    return 0;
}

static uint64_t size_after(const struct file *file, enum disk_cut cut, uint64_t *seed)
{
    if (cut == DISK_CUT_LOSES) {
        return file->durable_size;
    }
    if (cut == DISK_CUT_KEEPS || file->cache_size <= file->durable_size) {
        return file->cache_size;
    }
    uint64_t sectors = (file->cache_size - file->durable_size) / SECTOR_BYTES;
    return fixture_random(seed) % 2 == 0
               ? file->cache_size
               : file->durable_size + fixture_random(seed) % (sectors + 1) * SECTOR_BYTES;
}

/* Whether something of names that is not durable yet has happened. */
static bool happened(enum disk_cut cut, uint64_t *seed)
{
    return cut == DISK_CUT_KEEPS || (cut != DISK_CUT_LOSES && fixture_random(seed) % 2 == 0);
}

static int make_tables(const struct disk *disk, enum disk_cut cut, uint64_t *seed,
                       const char *directory)
{
    char path[512];
    bool is_final = disk->tables_name == NAME_FINAL ||
                    (disk->tables_name == NAME_CHANGES && happened(cut, seed));
    if (!is_final) {
        snprintf(path, sizeof(path), "%s/journal.new", directory);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(path, sizeof(path), "%s/%sdata.mdb", directory, is_final ? "" : "journal.new/");
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(descriptor >= 0);
    return descriptor;
}

/* Closes it. */
static void fill(const struct file *file, size_t place, enum disk_cut cut, uint64_t *seed,
                 int descriptor)
{
    struct choice choice = {.cut = cut, .salt = fixture_random(seed)};
    size_t oldest = oldest_event(file, place);
    choice.torn_event = oldest + fixture_random(seed) % (place - oldest + 1);
    uint64_t size = size_after(file, cut, seed);
    assert_int_equal(write(descriptor, file->durable, size), size);
    for (size_t i = 0; i < file->dirty_count; i++) {
        size_t number = file->dirty[i];
        const struct sector *sector = &file->sectors[number];
        size_t kept = versions_kept(sector, &choice, seed);
        if (kept > 0 && (number + 1) * SECTOR_BYTES <= size) {
            assert_int_equal(pwrite(descriptor, sector->versions[kept - 1].bytes, SECTOR_BYTES,
                                    (off_t)(number * SECTOR_BYTES)),
                             SECTOR_BYTES);
        }
    }
    assert_int_equal(close(descriptor), 0);
}

static void make_tail(const struct disk *disk, const struct file *file, const char *name,
                      enum disk_cut cut, uint64_t *seed, const char *directory)
{
    char path[512];
    if (file != NULL) {
        snprintf(path, sizeof(path), "%s/%s", directory, name);
        int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(descriptor >= 0);
        fill(file, disk->place, cut, seed, descriptor);
    }
}

void disk_cut_power(const struct disk *disk, enum disk_cut tables, enum disk_cut tail,
                    uint64_t *seed, const char *directory)
{
    fill(disk->tables, disk->place, tables, seed, make_tables(disk, tables, seed, directory));
    size_t named = 0;
    while (named + 1 < disk->tail_count && happened(tail, seed)) {
        named++;
    }
    make_tail(disk, disk->tails[named], "tail.wal", tail, seed, directory);
    if (happened(tail, seed)) {
        make_tail(disk, disk->tail_new, "tail.wal.new", tail, seed, directory);
    }
}
