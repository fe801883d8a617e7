#ifndef HOLDFAST_WAL_PAGES_PRIVATE_H
#define HOLDFAST_WAL_PAGES_PRIVATE_H

/*
 * What the two halves of pages.h share.
 *
 *   pages.c       the file, its meta pages, where a walk starts
 *   pages_walk.c  the trees below a meta page
 */

#include <string.h>

#include "wal/pages.h"

#define HEADER_BYTES 16u
#define NO_PAGE UINT64_MAX
#define FIRST_PAGE 2u /* behind the meta pages */

enum {
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    PAGE_META = 8,
    NODE_OVERFLOW = 1,
    NODE_TREE = 2,
    FREE_TREE_FLAGS = 8, /* its keys are numbers */
};

enum mark {
    MARK_NONE,
    MARK_USED,
    MARK_TWICE, /* used in two places, or used and free: nobody knows whose bytes these are */
    MARK_FREE,
};

struct tree {
    uint32_t pad; /* of the free pages': the page size */
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t overflow_pages;
    uint64_t rows;
    uint64_t root;
};

struct meta {
    bool sound;
    uint64_t map_bytes;
    uint64_t transaction;
    uint64_t last_page;
    struct tree free_pages;
    struct tree tables;
};

struct pages {
    int descriptor;
    uint64_t file_bytes;
    uint32_t page_bytes;
    uint64_t page_count; /* of the walked snapshot */
    uint8_t *marks;
    uint64_t pages_read;
    bool stopped;     /* pages_max was reached */
    uint64_t records; /* see pages_result */
    const struct pages_visitor *visitor;
};

static inline uint16_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline struct tree load_tree(const uint8_t *at)
{
    return (struct tree){
        .pad = load32(at),
        .flags = load16(at + 4),
        .depth = load16(at + 6),
        .branch_pages = load64(at + 8),
        .leaf_pages = load64(at + 16),
        .overflow_pages = load64(at + 24),
        .rows = load64(at + 32),
        .root = load64(at + 40),
    };
}

/* Tells the visitor. */
__attribute__((format(printf, 3, 4))) void pages_report(struct pages *pages, uint64_t offset,
                                                        const char *format, ...);

/* Walks all trees of the snapshot; true if the list of free pages is whole. */
bool pages_walk_snapshot(struct pages *pages, const struct meta *meta, uint64_t meta_page);

#endif
