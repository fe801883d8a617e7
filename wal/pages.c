/*
 * data.mdb without LMDB (pages.h): the file, its meta pages, and what a walk found of each page.
 *
 *     meta page --> the trees of its snapshot (pages_walk.c) --> marks: used, free, twice
 *
 * Invariant: a byte of the file is only looked at after it was read into memory of our own.
 *
 * The caller's thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/pages_private.h"

#define META_END 152u
#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define PAGE_BYTES_MIN 512u
#define PAGE_BYTES_MAX 65536u
#define SHORT_BY_MAX 65536u

bool pages_read(const struct pages *pages, uint64_t offset, size_t size, uint8_t *ret_bytes)
{
    size_t done = 0;
    if (offset > pages->file_bytes || size > pages->file_bytes - offset) {
        return false;
    }
    while (done < size) {
        ssize_t got =
            pread(pages->descriptor, ret_bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

__attribute__((format(printf, 3, 4))) void pages_report(struct pages *pages, uint64_t offset,
                                                        const char *format, ...)
{
    char message[200];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    pages->visitor->damage(pages->visitor->context, offset, message);
}

/* ------------------------------------------------------------------ meta pages */

static bool is_page_size(uint32_t bytes)
{
    return bytes >= PAGE_BYTES_MIN && bytes <= PAGE_BYTES_MAX && (bytes & (bytes - 1)) == 0;
}

/* The page size is in both meta pages; where the second one is follows from it. */
static uint32_t find_page_bytes(const struct pages *pages)
{
    uint8_t bytes[META_END];
    for (uint32_t size = 0; size <= PAGE_BYTES_MAX; size = size == 0 ? PAGE_BYTES_MIN : size * 2) {
        if (!pages_read(pages, size, sizeof(bytes), bytes) ||
            load32(bytes + HEADER_BYTES) != META_MAGIC) {
            continue;
        }
        uint32_t stated = load32(bytes + 40);
        if (is_page_size(stated) && (size == 0 || size == stated)) {
            return stated;
        }
    }
    return 0;
}

/*
 * What must be right of both. The rest only counts in the newest one: after a meta page that could
 * not be written LMDB puts back the former transaction number into it, but not the former roots.
 */
static const char *header_fault(const struct pages *pages, const uint8_t *bytes, uint64_t number)
{
    if (load64(bytes) != number || load16(bytes + 10) != PAGE_META) {
        return "it does not begin as one";
    }
    if (load32(bytes + HEADER_BYTES) != META_MAGIC) {
        return "its magic number is wrong";
    }
    if (load32(bytes + 20) != META_VERSION) {
        return "it has another format version";
    }
    if (load32(bytes + 40) != pages->page_bytes) {
        return "its page size is another one";
    }
    uint64_t transaction = load64(bytes + 144);
    if (transaction != 0 && transaction % 2 != number) {
        return "its transaction number belongs into the other one";
    }
    return NULL;
}

static const char *roots_fault(const struct pages *pages, const struct meta *meta)
{
    /* Free pages at the end may never have been written, but only as many as a change takes. */
    if (meta->last_page < 1 ||
        meta->last_page / 2 > pages->file_bytes / pages->page_bytes + SHORT_BY_MAX) {
        return "its last page is impossible";
    }
    if (meta->map_bytes / pages->page_bytes <= meta->last_page) {
        return "its map is impossible";
    }
    if (meta->free_pages.flags != FREE_TREE_FLAGS || meta->tables.flags != 0 ||
        meta->tables.pad != 0) {
        return "the flags of its trees are wrong";
    }
    if ((meta->tables.root != NO_PAGE && meta->tables.root > meta->last_page) ||
        (meta->free_pages.root != NO_PAGE && meta->free_pages.root > meta->last_page)) {
        return "its roots are behind its last page";
    }
    return NULL;
}

static void report_meta(struct pages *pages, uint64_t number, const char *fault)
{
    pages_report(pages, number * pages->page_bytes, "meta page %" PRIu64 ": %s", number, fault);
}

static struct meta load_meta(struct pages *pages, uint64_t number)
{
    uint8_t bytes[META_END];
    struct meta meta = {0};
    const char *fault = "the file ends before it";
    if (pages_read(pages, number * pages->page_bytes, sizeof(bytes), bytes)) {
        meta = (struct meta){
            .map_bytes = load64(bytes + 32),
            .transaction = load64(bytes + 144),
            .last_page = load64(bytes + 136),
            .free_pages = load_tree(bytes + 40),
            .tables = load_tree(bytes + 88),
        };
        fault = header_fault(pages, bytes, number);
    }
    if (fault != NULL) {
        report_meta(pages, number, fault);
    }
    meta.sound = fault == NULL;
    return meta;
}

/* An owner at work writes them: what was read half before and half after says nothing. */
static bool metas_stand_still(const struct pages *pages)
{
    uint8_t first[2 * META_END];
    uint8_t second[2 * META_END];
    uint8_t *const looks[] = {first, second};
    for (size_t i = 0; i < 2; i++) {
        if (!pages_read(pages, 0, META_END, looks[i]) ||
            !pages_read(pages, pages->page_bytes, META_END, looks[i] + META_END)) {
            return true; /* nobody works on such a file */
        }
    }
    return memcmp(first, second, sizeof(first)) == 0;
}

/* Transactions write the two in turn, so that the numbers follow each other. */
static void check_turns(struct pages *pages, const struct meta metas[2])
{
    uint64_t high = metas[0].transaction;
    uint64_t low = metas[1].transaction;
    if (low > high) {
        high = metas[1].transaction;
        low = metas[0].transaction;
    }
    if (metas[0].sound && metas[1].sound && high > 1 && high - low != 1) {
        pages_report(pages, 0,
                     "the transaction numbers of the meta pages, %" PRIu64 " and %" PRIu64
                     ", do not follow each other: the last transaction may be lost",
                     metas[0].transaction, metas[1].transaction);
    }
}

/* ------------------------------------------------------------------ the whole */

static enum mark mark_of(const struct pages *pages, uint64_t page)
{
    return page < pages->page_count ? (enum mark)pages->marks[page] : MARK_NONE;
}

enum status pages_walk(struct pages *pages, uint64_t transaction,
                       const struct pages_visitor *visitor, struct pages_result *ret_result,
                       struct error *ret_error)
{
    struct pages_result result = {0};
    pages->visitor = visitor;
    pages->stopped = false;
    free(pages->marks);
    pages->marks = NULL;
    pages->page_count = 0;
    pages->page_bytes = find_page_bytes(pages);
    if (pages->page_bytes == 0) {
        pages_report(pages, 0,
                     "none of the two meta pages can be found: this is no journal, or its "
                     "beginning is lost");
        *ret_result = result;
        return STATUS_OK;
    }
    struct stat file;
    if (fstat(pages->descriptor, &file) == 0) {
        pages->file_bytes = (uint64_t)file.st_size; /* its owner may have made it longer */
    }
    if (transaction != 0 && !metas_stand_still(pages)) {
        return error_set(ret_error, STATUS_NOT_FOUND, "the meta pages are being written");
    }
    struct meta metas[2] = {load_meta(pages, 0), load_meta(pages, 1)};
    check_turns(pages, metas);
    bool second =
        metas[1].sound && (!metas[0].sound || metas[1].transaction > metas[0].transaction);
    uint64_t chosen = second ? 1 : 0;
    if (transaction != 0 && metas[chosen].transaction != transaction) {
        chosen = 1 - chosen;
        if (!metas[chosen].sound || metas[chosen].transaction != transaction) {
            return error_set(ret_error, STATUS_NOT_FOUND, "the snapshot is gone");
        }
    }
    const char *fault = metas[chosen].sound ? roots_fault(pages, &metas[chosen]) : NULL;
    if (fault != NULL) {
        report_meta(pages, chosen, fault);
        metas[chosen].sound = false;
        chosen = 1 - chosen;
    }
    const struct meta *meta = &metas[chosen];
    if (!meta->sound || roots_fault(pages, meta) != NULL) {
        *ret_result = result;
        return STATUS_OK;
    }
    pages->page_count = meta->last_page + 1;
    pages->marks = calloc(pages->page_count, 1);
    if (pages->marks == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    result.has_snapshot = true;
    /* Nobody can tell whether one that is not sound was the newer one. */
    result.former_snapshot = !metas[1 - chosen].sound;
    result.transaction = meta->transaction;
    result.free_pages_whole = pages_walk_snapshot(pages, meta, chosen);
    result.records = pages->records;
    *ret_result = result;
    return STATUS_OK;
}

bool pages_is_used_once(const struct pages *pages, uint64_t offset)
{
    return pages->page_bytes != 0 && mark_of(pages, offset / pages->page_bytes) == MARK_USED;
}

bool pages_is_free(const struct pages *pages, uint64_t offset)
{
    return pages->page_bytes != 0 && pages->page_count != 0 &&
           (mark_of(pages, offset / pages->page_bytes) == MARK_FREE ||
            offset / pages->page_bytes >= pages->page_count);
}

uint32_t pages_page_bytes(const struct pages *pages)
{
    return pages->page_bytes;
}

uint64_t pages_file_bytes(const struct pages *pages)
{
    return pages->file_bytes;
}

enum status pages_open(const char *directory, struct pages **ret_pages, struct error *ret_error)
{
    char path[PATH_MAX];
    struct stat file;
    if (snprintf(path, sizeof(path), "%s/data.mdb", directory) >= (int)sizeof(path)) {
        return error_set(ret_error, STATUS_INVALID, "the path of the journal is too long");
    }
    struct pages *pages = calloc(1, sizeof(*pages));
    if (pages == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    pages->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (pages->descriptor < 0 || fstat(pages->descriptor, &file) != 0 || file.st_size == 0) {
        int failure = pages->descriptor < 0 ? errno : 0;
        pages_close(pages);
        return failure != 0 && failure != ENOENT
                   ? error_set(ret_error, STATUS_IO, "cannot read %s: %s", path, strerror(failure))
                   : error_set(ret_error, STATUS_NOT_FOUND, "there is no journal in %s", directory);
    }
    pages->file_bytes = (uint64_t)file.st_size;
    *ret_pages = pages;
    return STATUS_OK;
}

struct pages *pages_close(struct pages *pages)
{
    if (pages != NULL) {
        if (pages->descriptor >= 0) {
            (void)close(pages->descriptor);
        }
        free(pages->marks);
        free(pages);
    }
    return NULL;
}
