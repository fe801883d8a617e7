/*
 * The disk: for each sector what is certain and what may be.
 *
 *     sector   durable content, then each content it was given since, with the event that did it
 *     [17]     A  B(event 40)  C(event 52)     after a power cut: A, B or C
 *     [17]     C                               once a sync returned
 *
 * `cache` is the page cache: the newest content of everything, which is what a sync writes.
 */

#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wal_fixture.h"

#define SECTOR_BYTES 512u
#define DISK_BYTES_MAX ((size_t)64 << 20)
#define SECTORS_MAX (DISK_BYTES_MAX / SECTOR_BYTES)

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

struct disk {
    const struct storage_trace *trace;
    size_t place;   /* events before it are done */
    bool is_on_way; /* the bytes of the event at `place` are among the versions already */
    uint8_t *durable;
    uint8_t *cache;
    uint64_t durable_size;
    uint64_t cache_size;
    enum name name;
    struct sector *sectors;
    size_t *dirty; /* numbers of sectors with versions */
    size_t dirty_count;
};

const char *disk_cut_name(enum disk_cut cut)
{
    static const char *const names[DISK_CUT_COUNT] = {"loses", "keeps", "reorders", "tears",
                                                      "mixes"};
    return names[cut];
}

struct disk *disk_new(const struct storage_trace *trace)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    disk->trace = trace;
    disk->durable = calloc(1, DISK_BYTES_MAX);
    disk->cache = calloc(1, DISK_BYTES_MAX);
    disk->sectors = calloc(SECTORS_MAX, sizeof(*disk->sectors));
    disk->dirty = calloc(SECTORS_MAX, sizeof(*disk->dirty));
    assert_true(disk->durable != NULL && disk->cache != NULL);
    assert_true(disk->sectors != NULL && disk->dirty != NULL);
    return disk;
}

static void forget_versions(struct sector *sector)
{
    free(sector->versions);
    *sector = (struct sector){.listed = sector->listed};
}

struct disk *disk_free(struct disk *disk)
{
    if (disk != NULL) {
        for (size_t i = 0; i < disk->dirty_count; i++) {
            forget_versions(&disk->sectors[disk->dirty[i]]);
        }
        free(disk->durable);
        free(disk->cache);
        free(disk->sectors);
        free(disk->dirty);
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

static void add_versions(struct disk *disk, size_t place)
{
    const struct storage_event *event = &disk->trace->events[place];
    assert_true(event->offset + event->size <= DISK_BYTES_MAX);
    memcpy(disk->cache + event->offset, event->bytes, event->size);
    for (size_t i = first_sector(event); i < end_sector(event); i++) {
        struct sector *sector = &disk->sectors[i];
        if (!sector->listed) {
            disk->dirty[disk->dirty_count++] = i;
            sector->listed = true;
        }
        sector->given_up = false;
        sector->versions =
            realloc(sector->versions, (sector->count + 1) * sizeof(*sector->versions));
        assert_non_null(sector->versions);
        struct version *version = &sector->versions[sector->count++];
        version->event = place;
        memcpy(version->bytes, disk->cache + i * SECTOR_BYTES, SECTOR_BYTES);
    }
    if (event->offset + event->size > disk->cache_size) {
        disk->cache_size = event->offset + event->size;
    }
}

static void make_durable(struct disk *disk, size_t number)
{
    struct sector *sector = &disk->sectors[number];
    if (sector->count > 0) {
        memcpy(disk->durable + number * SECTOR_BYTES, sector->versions[sector->count - 1].bytes,
               SECTOR_BYTES);
        forget_versions(sector);
    }
}

static void sync_everything(struct disk *disk)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->dirty_count; i++) {
        size_t number = disk->dirty[i];
        struct sector *sector = &disk->sectors[number];
        if (sector->given_up) {
            disk->dirty[kept++] = number;
            continue;
        }
        make_durable(disk, number);
        sector->listed = false;
    }
    disk->dirty_count = kept;
    disk->durable_size = disk->cache_size;
}

static void give_everything_up(struct disk *disk)
{
    for (size_t i = 0; i < disk->dirty_count; i++) {
        disk->sectors[disk->dirty[i]].given_up = true;
    }
}

/* The event has returned. */
static void finish_event(struct disk *disk, const struct storage_event *event)
{
    switch (event->kind) {
    case STORAGE_WRITE_THROUGH:
        for (size_t i = first_sector(event); i < end_sector(event) && !event->failed; i++) {
            make_durable(disk, i);
        }
        break;
    case STORAGE_SYNC:
        if (event->failed) {
            give_everything_up(disk);
        } else {
            sync_everything(disk);
        }
        break;
    case STORAGE_RESIZE:
        assert_true(event->offset >= disk->cache_size); /* the journal only ever lets it grow */
        disk->cache_size = event->offset;
        break;
    case STORAGE_RENAME:
        disk->name = NAME_CHANGES;
        break;
    case STORAGE_SYNC_DIRECTORY:
        disk->name = disk->name == NAME_CHANGES ? NAME_FINAL : disk->name;
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

static size_t oldest_event(const struct disk *disk)
{
    size_t oldest = disk->place;
    for (size_t i = 0; i < disk->dirty_count; i++) {
        const struct sector *sector = &disk->sectors[disk->dirty[i]];
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

static uint64_t size_after(const struct disk *disk, enum disk_cut cut, uint64_t *seed)
{
    if (cut == DISK_CUT_LOSES) {
        return disk->durable_size;
    }
    if (cut == DISK_CUT_KEEPS || disk->cache_size <= disk->durable_size) {
        return disk->cache_size;
    }
    uint64_t sectors = (disk->cache_size - disk->durable_size) / SECTOR_BYTES;
    return fixture_random(seed) % 2 == 0
               ? disk->cache_size
               : disk->durable_size + fixture_random(seed) % (sectors + 1) * SECTOR_BYTES;
}

static bool has_final_name(const struct disk *disk, enum disk_cut cut, uint64_t *seed)
{
    if (disk->name != NAME_CHANGES) {
        return disk->name == NAME_FINAL;
    }
    return cut == DISK_CUT_KEEPS || (cut != DISK_CUT_LOSES && fixture_random(seed) % 2 == 0);
}

static int make_file(const struct disk *disk, enum disk_cut cut, uint64_t *seed,
                     const char *directory)
{
    char path[512];
    bool is_final = has_final_name(disk, cut, seed);
    if (!is_final) {
        snprintf(path, sizeof(path), "%s/journal.new", directory);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    snprintf(path, sizeof(path), "%s/%sdata.mdb", directory, is_final ? "" : "journal.new/");
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(descriptor >= 0);
    return descriptor;
}

void disk_cut_power(const struct disk *disk, enum disk_cut cut, uint64_t *seed,
                    const char *directory)
{
    struct choice choice = {.cut = cut, .salt = fixture_random(seed)};
    size_t oldest = oldest_event(disk);
    choice.torn_event = oldest + fixture_random(seed) % (disk->place - oldest + 1);
    uint64_t size = size_after(disk, cut, seed);
    int descriptor = make_file(disk, cut, seed, directory);
    assert_int_equal(write(descriptor, disk->durable, size), size);
    for (size_t i = 0; i < disk->dirty_count; i++) {
        size_t number = disk->dirty[i];
        const struct sector *sector = &disk->sectors[number];
        size_t kept = versions_kept(sector, &choice, seed);
        if (kept > 0 && (number + 1) * SECTOR_BYTES <= size) {
            assert_int_equal(pwrite(descriptor, sector->versions[kept - 1].bytes, SECTOR_BYTES,
                                    (off_t)(number * SECTOR_BYTES)),
                             SECTOR_BYTES);
        }
    }
    assert_int_equal(close(descriptor), 0);
}
