/*
 * Groups a unit's writes by document (chain.h).
 *
 * The order is made by sorting, so that a unit of many writes costs n log n and no table of ours.
 *
 * Threads: works on the caller's memory only.
 */

#include "recover/chain.h"

#include <stdlib.h>

#include "recover/document_key.h"

/* A write and what it is sorted by. */
struct entry {
    size_t index;
    struct document_key document;
};

static int compare_entry(const void *a_void, const void *b_void)
{
    const struct entry *a = a_void;
    const struct entry *b = b_void;
    int order = document_key_compare(&a->document, &b->document);
    if (order != 0) {
        return order;
    }
    return a->index == b->index ? 0 : a->index < b->index ? -1 : 1;
}

struct history_image chain_image(const struct chain_set *set, const struct chain *chain,
                                 size_t index)
{
    return index < chain->link_count ? set->writes[chain->links[index]].before
                                     : set->writes[chain->links[index - 1]].after;
}

const struct history_write *chain_last(const struct chain_set *set, const struct chain *chain)
{
    return &set->writes[chain->links[chain->link_count - 1]];
}

/* ------------------------------------------------------------------ comparing */

struct comparison {
    struct image found;
    size_t position;
    bool oldest;
    bool broken;
};

/* Image `index` of the chain; `former` is what the write before it left, as far as that is known.
 */
static void compare_image(struct comparison *comparison, size_t index, struct image former,
                          struct image image)
{
    /* A write's after-image is the next one's before-image, unless somebody came in between. */
    if (former.presence != IMAGE_UNKNOWN && !image_equal(former, image)) {
        comparison->broken = true;
    }
    if (image_equal(image, comparison->found)) {
        comparison->oldest = comparison->oldest || index == 0;
        comparison->position = index;
    }
}

enum status chain_compare(const struct unit_history *history, const struct chain_set *set,
                          const struct chain *chain, struct image found, size_t *ret_position,
                          bool *ret_oldest, bool *ret_broken, struct error *ret_error)
{
    struct comparison comparison = {.found = found, .position = CHAIN_NONE};
    struct wal_reader *reader = NULL;
    struct image former = {.presence = IMAGE_UNKNOWN};
    enum status status = history_reader_begin(history, &reader, ret_error);
    for (size_t i = 0; status == STATUS_OK && i < chain->link_count; i++) {
        const struct history_write *write = &set->writes[chain->links[i]];
        struct image before;
        status = history_image_view(reader, &write->before, &before, ret_error);
        if (status == STATUS_OK) {
            compare_image(&comparison, i, former, before);
            status = history_image_view(reader, &write->after, &former, ret_error);
        }
    }
    if (status == STATUS_OK) {
        compare_image(&comparison, chain->link_count, former, former);
    }
    wal_reader_end(reader);
    if (status == STATUS_OK) {
        *ret_position = comparison.position;
        *ret_oldest = comparison.oldest;
        *ret_broken = comparison.broken;
    }
    return status;
}

/* ------------------------------------------------------------------ grouping */

static enum status check_writes(const struct unit_history *history, struct error *ret_error)
{
    for (size_t i = 0; i < history->write_count; i++) {
        const struct history_write *write = &history->writes[i];
        if (write->before.presence == IMAGE_UNKNOWN || write->namespace == NULL ||
            write->key.size < 5) {
            return error_set(ret_error, STATUS_CORRUPT, "write %zu has no before-image or no key",
                             i);
        }
    }
    return STATUS_OK;
}

static void fill(struct chain_set *set, const struct entry *entries, size_t count)
{
    struct chain *chain = NULL;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || document_key_compare(&entries[i - 1].document, &entries[i].document) != 0) {
            chain = &set->chains[set->chain_count];
            chain->links = &set->links[i];
            set->chain_count++;
        }
        set->links[i] = entries[i].index;
        set->chain_of[entries[i].index] = set->chain_count - 1;
        set->place_of[entries[i].index] = chain->link_count;
        chain->link_count++;
    }
}

enum status chain_set_make(const struct unit_history *history, struct chain_set *ret_set,
                           struct error *ret_error)
{
    size_t count = history->write_count;
    struct chain_set set = {.writes = history->writes, .write_count = count};
    struct entry *entries = NULL;
    enum status status = check_writes(history, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    entries = calloc(count + 1, sizeof(*entries));
    set.chains = calloc(count + 1, sizeof(*set.chains));
    set.links = calloc(count + 1, sizeof(*set.links));
    set.chain_of = calloc(count + 1, sizeof(*set.chain_of));
    set.place_of = calloc(count + 1, sizeof(*set.place_of));
    if (entries == NULL || set.chains == NULL || set.links == NULL || set.chain_of == NULL ||
        set.place_of == NULL) {
        free(entries);
        chain_set_free(&set);
        return error_set(ret_error, STATUS_MEMORY, "out of memory for %zu writes", count);
    }
    size_t happened = 0;
    for (size_t i = 0; i < count; i++) {
        set.chain_of[i] = CHAIN_NONE;
        if (!history->writes[i].refused) {
            struct entry *entry = &entries[happened++];
            entry->index = i;
            entry->document =
                document_key_make(history->writes[i].namespace, history->writes[i].key);
        }
    }
    qsort(entries, happened, sizeof(*entries), compare_entry);
    fill(&set, entries, happened);
    free(entries);
    *ret_set = set;
    return STATUS_OK;
}

void chain_set_free(struct chain_set *set)
{
    free(set->chains);
    free(set->links);
    free(set->chain_of);
    free(set->place_of);
    *set = (struct chain_set){0};
}
