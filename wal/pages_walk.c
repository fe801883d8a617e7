/*
 * Walking the trees of data.mdb (the layout is drawn in pages.h).
 *
 *     meta page --> free list's tree        every leaf: lists of page numbers
 *              `--> tree of the tables      every leaf: five rows, each a tree
 *                      `--> records, units, open, sessions, properties --> visitor
 *
 * Invariants
 *  - A byte of the file is only looked at through a slice of the page that was read.
 *  - Each page is entered once: it is marked before anything on it is followed, so that no damage
 *    can send the walk round in circles, and its depth is bounded.
 *  - What is wrong is reported and left out; its neighbours are walked all the same.
 *
 * The caller's thread.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "wal/pages_private.h"

#define NODE_BYTES 8u
#define TREE_BYTES 48u
#define DEPTH_MAX 32u

/* Which tree is walked. */
enum role { ROLE_FREE, ROLE_TABLES, ROLE_ROWS };

struct walk {
    struct pages *pages;
    enum role role;
    enum store_table table;
    const char *name;
    struct tree counted;
    bool damaged;
    struct tree *trees; /* ROLE_TABLES: what was found, by table */
    bool *found;
};

__attribute__((format(printf, 3, 4))) static void spoil(struct walk *walk, uint64_t page,
                                                        const char *format, ...)
{
    char text[120];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    walk->damaged = true;
    pages_report(walk->pages, page * walk->pages->page_bytes, "page %" PRIu64 " of %s: %s", page,
                 walk->name, text);
}

/* True if the page was marked by nobody before. */
static bool take_page(struct walk *walk, uint64_t page, uint64_t from)
{
    struct pages *pages = walk->pages;
    if (page < FIRST_PAGE || page >= pages->page_count) {
        spoil(walk, from, "it leads to page %" PRIu64 ", which there is not", page);
        return false;
    }
    if (pages->marks[page] != MARK_NONE) {
        pages->marks[page] = MARK_TWICE;
        spoil(walk, from, "it leads to page %" PRIu64 ", which is in use elsewhere", page);
        return false;
    }
    pages->marks[page] = MARK_USED;
    return true;
}

/* ------------------------------------------------------------------ one page */

struct page_view {
    uint64_t number;
    const uint8_t *bytes;
    bool leaf;
    uint16_t upper;
    uint32_t nodes;
};

struct node_view {
    struct slice key;
    struct slice value; /* leaf; of an overflow value its first page's number */
    uint16_t flags;
    uint32_t value_size;
    uint64_t below;        /* branch */
    uint64_t value_offset; /* leaf: in the file */
};

/* Null, or what is wrong with node `index`. */
static const char *view_node(const struct walk *walk, const struct page_view *page, uint32_t index,
                             struct node_view *ret_node, uint32_t *ret_bytes)
{
    uint32_t page_bytes = walk->pages->page_bytes;
    uint32_t at = load16(page->bytes + HEADER_BYTES + 2u * index);
    if (at < page->upper || at % 2 != 0 || at > page_bytes - NODE_BYTES) {
        return "a node is outside of the page";
    }
    const uint8_t *node = page->bytes + at;
    uint32_t key_size = load16(node + 6);
    uint32_t low = load32(node);
    uint32_t room = page_bytes - at - NODE_BYTES;
    struct node_view view = {.flags = load16(node + 4)};
    uint32_t value_bytes = 0;
    if (page->leaf) {
        view.value_size = low;
        value_bytes = (view.flags & NODE_OVERFLOW) != 0 ? (uint32_t)sizeof(uint64_t) : low;
    } else {
        view.below = low | (uint64_t)view.flags << 32;
    }
    if (key_size > room || value_bytes > room - key_size) {
        return "a node is longer than the page";
    }
    view.key = slice_make(node + NODE_BYTES, key_size);
    view.value = slice_make(node + NODE_BYTES + key_size, value_bytes);
    view.value_offset = page->number * page_bytes + at + NODE_BYTES + key_size;
    *ret_node = view;
    *ret_bytes = (NODE_BYTES + key_size + value_bytes + 1u) & ~1u;
    return NULL;
}

static int compare_keys(const struct walk *walk, struct slice a, struct slice b)
{
    if (walk->role == ROLE_FREE && a.size == sizeof(uint64_t) && b.size == sizeof(uint64_t)) {
        uint64_t left = load64(a.data);
        uint64_t right = load64(b.data);
        return left < right ? -1 : left > right ? 1 : 0;
    }
    size_t both = a.size < b.size ? a.size : b.size;
    int order = both == 0 ? 0 : memcmp(a.data, b.data, both);
    return order != 0 ? order : a.size < b.size ? -1 : a.size > b.size ? 1 : 0;
}

struct bounds {
    struct slice least; /* size 0: none */
    struct slice below; /* every key is less than this; size 0: none */
};

/* NULL, or what is wrong with the nodes as a whole. */
static const char *check_nodes(const struct walk *walk, const struct page_view *page,
                               struct bounds bounds)
{
    struct node_view node;
    struct slice former = {0};
    uint32_t filled = 0;
    for (uint32_t i = 0; i < page->nodes; i++) {
        uint32_t bytes = 0;
        const char *fault = view_node(walk, page, i, &node, &bytes);
        if (fault != NULL) {
            return fault;
        }
        filled += bytes;
        if (!page->leaf && i == 0) {
            continue; /* its key means nothing: it stands for all that are less than the second */
        }
        if ((former.size > 0 && compare_keys(walk, former, node.key) >= 0) ||
            (bounds.least.size > 0 && compare_keys(walk, node.key, bounds.least) < 0) ||
            (bounds.below.size > 0 && compare_keys(walk, node.key, bounds.below) >= 0)) {
            return "its keys are not in order";
        }
        former = node.key;
    }
    return filled == walk->pages->page_bytes - page->upper ? NULL
                                                           : "its nodes do not fill it exactly";
}

/* NULL, or what is wrong with the page. */
static const char *view_page(const struct walk *walk, uint64_t number, uint8_t *room,
                             unsigned depth, struct bounds bounds, struct page_view *ret_page)
{
    uint32_t page_bytes = walk->pages->page_bytes;
    if (!pages_read(walk->pages, number * page_bytes, page_bytes, room)) {
        return "the file ends before it";
    }
    uint16_t flags = load16(room + 10);
    uint16_t lower = load16(room + 12);
    struct page_view page = {.number = number,
                             .bytes = room,
                             .leaf = flags == PAGE_LEAF,
                             .upper = load16(room + 14),
                             .nodes = (lower - HEADER_BYTES) / 2u};
    if (load64(room) != number) {
        return "it says that it is another page";
    }
    if (flags != PAGE_LEAF && flags != PAGE_BRANCH) {
        return "it is of another kind than it should be";
    }
    if (lower < HEADER_BYTES || lower % 2 != 0 || lower > page.upper || page.upper > page_bytes ||
        page.nodes < (page.leaf ? 1u : 2u)) {
        return "its header contradicts itself";
    }
    if (depth == 0) {
        return "it is deeper than its tree";
    }
    const char *fault = check_nodes(walk, &page, bounds);
    if (fault == NULL) {
        *ret_page = page;
    }
    return fault;
}

/* ------------------------------------------------------------------ leaves */

static void walk_free_list(struct walk *walk, const struct node_view *node, struct slice value)
{
    struct pages *pages = walk->pages;
    uint64_t page = node->value_offset / pages->page_bytes;
    uint64_t count = value.size < 8 ? 0 : load64(value.data);
    if (node->key.size != 8 || value.size < 8 || count > value.size / 8 - 1) {
        spoil(walk, page, "a list of free pages has an impossible size");
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t freed = load64(value.data + 8 * (i + 1));
        if (freed < FIRST_PAGE || freed >= pages->page_count) {
            spoil(walk, page, "page %" PRIu64 " is called free, and there is no such page", freed);
        } else if (pages->marks[freed] != MARK_NONE) {
            pages->marks[freed] = MARK_TWICE;
            spoil(walk, page, "page %" PRIu64 " is called free, and is in use or free twice",
                  freed);
        } else {
            pages->marks[freed] = MARK_FREE;
        }
    }
}

static void take_table(struct walk *walk, const struct node_view *node)
{
    static const char *const names[STORE_TABLE_COUNT] = {
#define X(name, text) [STORE_##name] = text,
        STORE_TABLE_LIST(X)
#undef X
    };
    uint64_t page = node->value_offset / walk->pages->page_bytes;
    for (int i = 0; i < STORE_TABLE_COUNT; i++) {
        if (slice_equal(node->key, slice_text(names[i])) && node->flags == NODE_TREE &&
            node->value.size == TREE_BYTES) {
            walk->trees[i] = load_tree(node->value.data);
            walk->found[i] = true;
            if (walk->trees[i].flags != 0 || walk->trees[i].pad != 0) {
                spoil(walk, page, "the flags of the table %s are wrong", names[i]);
            }
            return;
        }
    }
    spoil(walk, page, "it names a table that a journal does not have");
}

static void take_row(struct walk *walk, const struct node_view *node, struct slice value,
                     uint64_t offset)
{
    if (walk->role == ROLE_FREE) {
        walk_free_list(walk, node, value);
    } else {
        walk->pages->visitor->row(walk->pages->visitor->context, walk->table, node->key, value,
                                  offset);
    }
}

/* A value on pages of its own: marks them, and reads it if it is wanted. */
static void walk_overflow(struct walk *walk, const struct node_view *node)
{
    struct pages *pages = walk->pages;
    uint64_t from = node->value_offset / pages->page_bytes;
    uint64_t first = load64(node->value.data);
    uint64_t count = ((uint64_t)node->value_size + HEADER_BYTES - 1) / pages->page_bytes + 1;
    uint8_t header[HEADER_BYTES];
    if (count > pages->page_count || first > pages->page_count - count) {
        spoil(walk, from, "it leads to page %" PRIu64 ", which there is not", first);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (!take_page(walk, first + i, from)) {
            return;
        }
    }
    walk->counted.overflow_pages += count;
    if (!pages_read(pages, first * pages->page_bytes, sizeof(header), header) ||
        load64(header) != first || load16(header + 10) != PAGE_OVERFLOW ||
        load32(header + 12) != count) {
        spoil(walk, first, "it does not begin as a page of a large value does");
        return;
    }
    if (walk->role != ROLE_FREE && !pages->visitor->large_values) {
        return;
    }
    uint8_t *value = malloc(node->value_size == 0 ? 1 : node->value_size);
    uint64_t offset = first * pages->page_bytes + HEADER_BYTES;
    if (value == NULL || !pages_read(pages, offset, node->value_size, value)) {
        spoil(walk, first, value == NULL ? "no memory to read it" : "the file ends in it");
    } else {
        take_row(walk, node, slice_make(value, node->value_size), offset);
    }
    free(value);
}

static void walk_leaf(struct walk *walk, const struct page_view *page)
{
    for (uint32_t i = 0; i < page->nodes; i++) {
        struct node_view node;
        uint32_t bytes = 0;
        if (view_node(walk, page, i, &node, &bytes) != NULL) {
            continue; /* cannot be: check_nodes() has looked */
        }
        walk->counted.rows++;
        if (walk->role == ROLE_TABLES) {
            take_table(walk, &node);
        } else if (node.flags == 0) {
            take_row(walk, &node, node.value, node.value_offset);
        } else if (node.flags == NODE_OVERFLOW) {
            walk_overflow(walk, &node);
        } else {
            spoil(walk, page->number, "a node has impossible flags");
        }
    }
}

/* ------------------------------------------------------------------ trees */

/* What pages_max leaves out; the free list and the tables are always read. */
static bool is_enough(struct walk *walk, bool root)
{
    struct pages *pages = walk->pages;
    if (walk->role == ROLE_ROWS && !root && pages->visitor->pages_max != 0 &&
        pages->pages_read >= pages->visitor->pages_max) {
        pages->stopped = true;
        return true;
    }
    return false;
}

/* Has the kernel begin to read the pages below one, all at once, as far as they will be read. */
static void fetch_below(const struct walk *walk, const struct page_view *page)
{
    const struct pages *pages = walk->pages;
    uint64_t left = page->nodes;
    if (walk->role == ROLE_ROWS && pages->visitor->pages_max != 0) {
        uint64_t wanted = pages->visitor->pages_max - pages->pages_read;
        left = pages->pages_read > pages->visitor->pages_max ? 0 : wanted < left ? wanted : left;
    }
    for (uint32_t i = page->nodes; left > 0; left--) {
        struct node_view node;
        uint32_t bytes = 0;
        if (view_node(walk, page, --i, &node, &bytes) == NULL && node.below < pages->page_count) {
            (void)posix_fadvise(pages->descriptor, (off_t)(node.below * pages->page_bytes),
                                pages->page_bytes, POSIX_FADV_WILLNEED);
        }
    }
}

static void walk_page(struct walk *walk, uint64_t number, uint64_t from, unsigned depth,
                      struct bounds bounds, bool root)
{
    struct page_view page;
    if (!take_page(walk, number, from) || is_enough(walk, root)) {
        return;
    }
    uint8_t *room = malloc(walk->pages->page_bytes);
    if (room == NULL) {
        spoil(walk, number, "no memory to read it");
        return;
    }
    walk->pages->pages_read++; /* of this table */
    const char *fault = view_page(walk, number, room, depth, bounds, &page);
    if (fault != NULL) {
        spoil(walk, number, "%s", fault);
    } else if (page.leaf) {
        walk->counted.leaf_pages++;
        walk_leaf(walk, &page);
    } else {
        walk->counted.branch_pages++;
        fetch_below(walk, &page);
        /* From the end: the newest records are there. */
        for (uint32_t i = page.nodes; i-- > 0;) {
            struct node_view node;
            struct node_view next;
            uint32_t bytes = 0;
            struct bounds inner = bounds;
            if (view_node(walk, &page, i, &node, &bytes) != NULL) {
                continue; /* cannot be, as above */
            }
            if (i > 0) {
                inner.least = node.key;
            }
            if (i + 1 < page.nodes && view_node(walk, &page, i + 1, &next, &bytes) == NULL) {
                inner.below = next.key;
            }
            walk_page(walk, node.below, number, depth - 1, inner, false);
        }
    }
    free(room);
}

static void walk_tree(struct walk *walk, const struct tree *tree, uint64_t from)
{
    if (tree->root == NO_PAGE) {
        if (tree->rows != 0) {
            spoil(walk, from, "%s has no pages, and yet rows", walk->name);
        }
        return;
    }
    if (tree->depth == 0 || tree->depth > DEPTH_MAX) {
        spoil(walk, from, "the depth of %s is impossible", walk->name);
        return;
    }
    walk_page(walk, tree->root, from, tree->depth, (struct bounds){0}, true);
    const struct tree *counted = &walk->counted;
    if (!walk->damaged && !walk->pages->stopped &&
        (counted->rows != tree->rows || counted->leaf_pages != tree->leaf_pages ||
         counted->branch_pages != tree->branch_pages ||
         counted->overflow_pages != tree->overflow_pages)) {
        spoil(walk, from, "%s does not have as many rows and pages as is said there", walk->name);
    }
}

bool pages_walk_snapshot(struct pages *pages, const struct meta *meta, uint64_t meta_page)
{
    static const char *const names[STORE_TABLE_COUNT] = {
#define X(name, text) [STORE_##name] = "the table " text,
        STORE_TABLE_LIST(X)
#undef X
    };
    /* Small ones first, so that pages_max falls on the large ones. */
    static const enum store_table order[STORE_TABLE_COUNT] = {
        STORE_PROPERTIES, STORE_OPEN, STORE_RECORDS, STORE_UNITS, STORE_SESSIONS};
    struct tree trees[STORE_TABLE_COUNT];
    bool found[STORE_TABLE_COUNT] = {0};
    struct walk tables = {.pages = pages,
                          .role = ROLE_TABLES,
                          .name = "the list of tables",
                          .trees = trees,
                          .found = found};
    walk_tree(&tables, &meta->tables, meta_page);
    pages->records = found[STORE_RECORDS] ? trees[STORE_RECORDS].rows : PAGES_NO_ROWS;
    for (size_t i = 0; i < STORE_TABLE_COUNT; i++) {
        enum store_table table = order[i];
        struct walk rows = {
            .pages = pages, .role = ROLE_ROWS, .table = table, .name = names[table]};
        pages->pages_read = 0;
        if (found[table]) {
            walk_tree(&rows, &trees[table], meta->tables.root);
        } else {
            pages_report(pages, PAGES_NO_OFFSET, "%s is missing", names[table]);
        }
    }
    struct walk frees = {.pages = pages, .role = ROLE_FREE, .name = "the list of free pages"};
    walk_tree(&frees, &meta->free_pages, meta_page);
    return !frees.damaged;
}
