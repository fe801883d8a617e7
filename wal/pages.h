#ifndef HOLDFAST_WAL_PAGES_H
#define HOLDFAST_WAL_PAGES_H

/*
 * The pages of data.mdb, read without LMDB. Private to wal/.
 *
 * LMDB has no checksums of its pages and trusts what it finds there: a damaged one can lead it to
 * read anywhere, or to write new records over old ones. This reads the same bytes through checked
 * slices only, so that whatever is in the file cannot lead it astray, says where in the file each
 * damage is, and goes on behind it.
 *
 * The file (LMDB 0.9, format version 1; numbers in the machine's own byte order)
 *
 *   page 0, 1   the meta pages; the one with the higher transaction number counts
 *   page n      at the file's offset n * page size
 *
 *   every page                              meta page, behind the page's header
 *     0  8  its number                        16   4  magic 0xBEEFC0DE
 *     8  2  unused                            20   4  version 1
 *    10  2  flags: 1 branch, 2 leaf,          24  16  address and size of the map
 *             4 overflow, 8 meta              40  48  tree of the free pages; its first field is
 *    12  2  lower: end of the node table              the page size
 *    14  2  upper: start of the nodes         88  48  tree of the tables
 *    12  4  overflow: how many pages         136   8  the last page that was ever used
 *    16     node table, 2 bytes a node       144   8  transaction number
 *
 *   node                                     tree
 *     0  4  leaf: size of the value            0  4  zero
 *     4  2  leaf: flags, 1: the value is on    4  2  flags: 8 for that of the free pages, else 0
 *           overflow pages, 2: it is a tree    6  2  depth
 *     0  6  branch: page below                 8 32  branch, leaf, overflow pages; rows
 *     6  2  size of the key                   40  8  root page; all ones: empty
 *     8     key, then value
 *
 * Beyond what LMDB checks: each page is where its number says, in one place only, and not at the
 * same time free; its nodes fill it without gap or overlap; keys ascend, within what the branch
 * above says; the trees have as many rows and pages as they say.
 *
 * One thread at a time per object.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "wal/store.h"

#define PAGES_NO_OFFSET UINT64_MAX
#define PAGES_NO_ROWS UINT64_MAX

struct pages;

struct pages_visitor {
    /* A row of a table of the journal; `offset` is its value's place in the file. */
    void (*row)(void *context, enum store_table table, struct slice key, struct slice value,
                uint64_t offset);
    /* What is wrong, and where: PAGES_NO_OFFSET if it is in no one place. */
    void (*damage)(void *context, uint64_t offset, const char *message);
    void *context;
    /* How many pages of each table are read at most, from its end; 0: all. */
    uint64_t pages_max;
    /* Values on pages of their own are read as well; else `row` is not called for those. */
    bool large_values;
};

/* Errors: STATUS_NOT_FOUND (no file, or an empty one), STATUS_IO, STATUS_MEMORY. */
MUST_CHECK enum status pages_open(const char *directory, struct pages **ret_pages,
                                  struct error *ret_error);
/* NULL is harmless; returns NULL. */
struct pages *pages_close(struct pages *pages);

uint32_t pages_page_bytes(const struct pages *pages);
uint64_t pages_file_bytes(const struct pages *pages);

struct pages_result {
    bool has_snapshot;     /* a meta page was found to start from */
    bool former_snapshot;  /* the newest one is damaged: it is that of the transaction before */
    bool free_pages_whole; /* the list of free pages was read, and none of them is in use */
    uint64_t transaction;
    uint64_t records; /* rows that the table `records` says it has; PAGES_NO_ROWS: it is missing */
};

/*
 * Walks the snapshot of `transaction` (0: the newest), reports all rows and all damage. A row that
 * is reported lies on a page that is sound by itself. STATUS_NOT_FOUND: that transaction's meta
 * page is not there (any more); STATUS_IO; STATUS_MEMORY.
 */
MUST_CHECK enum status pages_walk(struct pages *pages, uint64_t transaction,
                                  const struct pages_visitor *visitor,
                                  struct pages_result *ret_result, struct error *ret_error);

/* True if the page at `offset` is used by the walked snapshot, and neither free nor used twice. */
bool pages_is_used_once(const struct pages *pages, uint64_t offset);

/* True if the page at `offset` is in the list of free pages, or behind all pages. */
bool pages_is_free(const struct pages *pages, uint64_t offset);

/* Reads `size` bytes at `offset` of the file. False: they are not there. */
bool pages_read(const struct pages *pages, uint64_t offset, size_t size, uint8_t *ret_bytes);

#endif
