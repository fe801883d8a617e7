/*
 * Two looks (look.h).
 *
 *     first look --group--> batch --full, or the look is over--> pause --> second look --> findings
 *
 * Invariant: a group is handed on only if both looks showed the same bytes of it.
 *
 * Threads: the caller's.
 */
#include "scrub/look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "holdfast/clock.h"
#include "scrub/pipeline.h"

/* ------------------------------------------------------------------ cursors */

static bool cursor_of(const bson_t *reply, const char *batch, int64_t *ret_cursor,
                      bson_iter_t *ret_list)
{
    bson_iter_t at;
    bson_iter_t inside;
    bson_iter_t list;
    bool found = bson_iter_init_find(&at, reply, "cursor") && bson_iter_recurse(&at, &inside) &&
                 bson_iter_find(&inside, "id");
    if (!found) {
        return false;
    }
    int64_t cursor = bson_iter_as_int64(&inside);
    found = bson_iter_recurse(&at, &inside) && bson_iter_find(&inside, batch) &&
            bson_iter_recurse(&inside, &list);
    if (found) {
        *ret_cursor = cursor;
        *ret_list = list;
    }
    return found;
}

/* *ret_more: false if the reader has had enough. */
static void hand_over(bson_iter_t *list, scrub_on_document *on_document, void *context,
                      bool *ret_more)
{
    bool more = true;
    while (more && bson_iter_next(list)) {
        const uint8_t *data = NULL;
        uint32_t size = 0;
        bson_t document;
        if (BSON_ITER_HOLDS_DOCUMENT(list)) {
            bson_iter_document(list, &size, &data);
            more = !bson_init_static(&document, data, size) || on_document(&document, context);
        }
    }
    *ret_more = more;
}

static void cursor_kill(const struct scrub_link *link, const char *database, const char *collection,
                        int64_t cursor)
{
    bson_t reply;
    struct error ignored = {0};
    bson_t *kill =
        BCON_NEW("killCursors", BCON_UTF8(collection), "cursors", "[", BCON_INT64(cursor), "]");
    if (link->command(link->context, database, kill, &reply, &ignored) == STATUS_OK) {
        bson_destroy(&reply);
    }
    bson_destroy(kill);
}

static bson_t *get_more(int64_t cursor, const char *collection)
{
    return BCON_NEW("getMore", BCON_INT64(cursor), "collection", BCON_UTF8(collection), "batchSize",
                    BCON_INT32(SCRUB_BATCH));
}

enum status scrub_documents(const struct scrub_link *link, const char *database,
                            const bson_t *command, scrub_on_document *on_document, void *context,
                            struct error *ret_error)
{
    bson_iter_t first;
    bool more = bson_iter_init(&first, command) && bson_iter_next(&first);
    const char *collection = more ? bson_iter_utf8(&first, NULL) : "";
    const char *batch = "firstBatch";
    bson_t *next = bson_copy(command);
    int64_t cursor = 0;
    enum status status = STATUS_OK;
    do {
        bson_t reply;
        bson_iter_t list;
        status = link->command(link->context, database, next, &reply, ret_error);
        bson_destroy(next);
        next = NULL;
        if (status != STATUS_OK) {
            break;
        }
        if (cursor_of(&reply, batch, &cursor, &list)) {
            hand_over(&list, on_document, context, &more);
        } else {
            status = error_set(ret_error, STATUS_PROTOCOL, "the server's answer has no cursor");
            cursor = 0;
        }
        bson_destroy(&reply);
        batch = "nextBatch";
        if (cursor != 0 && more) {
            next = get_more(cursor, collection);
        }
    } while (next != NULL);
    if (status == STATUS_OK && cursor != 0) {
        cursor_kill(link, database, collection, cursor);
    }
    return status;
}

/* ------------------------------------------------------------------ batches */

/* Groups of one look, up to SCRUB_BATCH. */
struct batch {
    bson_t *groups[SCRUB_BATCH];
    size_t count;
};

static void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        bson_destroy(batch->groups[i]);
    }
    batch->count = 0;
}

static bool same_key(const bson_t *a, const bson_t *b)
{
    bson_iter_t key_a;
    bson_iter_t key_b;
    bson_t view_a = BSON_INITIALIZER;
    bson_t view_b = BSON_INITIALIZER;
    bool same = bson_iter_init_find(&key_a, a, "_id") && bson_iter_init_find(&key_b, b, "_id") &&
                bson_append_iter(&view_a, "", 0, &key_a) &&
                bson_append_iter(&view_b, "", 0, &key_b) && bson_equal(&view_a, &view_b);
    bson_destroy(&view_a);
    bson_destroy(&view_b);
    return same;
}

static const bson_t *batch_find(const struct batch *batch, const bson_t *like)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (same_key(batch->groups[i], like)) {
            return batch->groups[i];
        }
    }
    return NULL;
}

static bson_t *batch_keys(const struct batch *batch)
{
    bson_t *keys = bson_new();
    for (size_t i = 0; i < batch->count; i++) {
        char buffer[16];
        const char *index = NULL;
        bson_iter_t key;
        (void)bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        if (bson_iter_init_find(&key, batch->groups[i], "_id")) {
            bson_append_iter(keys, index, -1, &key);
        }
    }
    return keys;
}

/* ------------------------------------------------------------------ a second look */

struct second_look {
    const struct batch *wanted;
    struct batch seen;
};

static bool on_second(const bson_t *group, void *context)
{
    struct second_look *look = context;
    /* Others have a key that contains one of those asked for. */
    if (look->seen.count < SCRUB_BATCH && batch_find(look->wanted, group) != NULL) {
        look->seen.groups[look->seen.count++] = bson_copy(group);
    }
    return true;
}

static enum status look_again(const struct scrub_link *link, const struct scrub_rule *rule,
                              const struct batch *wanted, struct second_look *look,
                              struct error *ret_error)
{
    bson_t *keys = batch_keys(wanted);
    bson_t *command = scrub_pipeline_groups(rule, keys, link->now_ms);
    look->wanted = wanted;
    look->seen.count = 0;
    enum status status = scrub_documents(link, rule->database, command, on_second, look, ret_error);
    bson_destroy(command);
    bson_destroy(keys);
    return status;
}

enum status scrub_look_at(const struct scrub_link *link, const struct scrub_rule *rule,
                          const bson_t *group, bson_t **ret_group, struct error *ret_error)
{
    struct batch wanted = {.count = 1};
    struct second_look look;
    wanted.groups[0] = bson_copy(group);
    enum status status = look_again(link, rule, &wanted, &look, ret_error);
    if (status == STATUS_OK) {
        *ret_group = look.seen.count == 0 ? NULL : bson_copy(look.seen.groups[0]);
    }
    batch_clear(&look.seen);
    batch_clear(&wanted);
    return status;
}

/* ------------------------------------------------------------------ all findings */

struct search {
    const struct scrub_link *link;
    const struct scrub_rule *rule;
    uint64_t pause_ms;
    uint64_t added_ms; /* when the newest group of the batch was seen */
    scrub_on_finding *on_finding;
    void *context;
    struct batch batch;
    struct second_look second;
    struct scrub_counts counts;
    enum status status;
    struct error *error;
};

static void pause_since(uint64_t since_ms, uint64_t pause_ms)
{
    uint64_t passed_ms = clock_monotonic_ms() - since_ms;
    if (passed_ms < pause_ms) {
        uint64_t left_ms = pause_ms - passed_ms;
        struct timespec pause = {.tv_sec = (time_t)(left_ms / 1000),
                                 .tv_nsec = (long)(left_ms % 1000) * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
}

static uint64_t rows_of(const struct scrub_rule *rule, const bson_t *group)
{
    char path[96];
    bson_iter_t at;
    bson_iter_t found;
    (void)snprintf(path, sizeof(path), "%s.n", rule->sources[0].name);
    return bson_iter_init(&at, group) && bson_iter_find_descendant(&at, path, &found)
               ? (uint64_t)bson_iter_as_int64(&found)
               : 0;
}

static enum status batch_judge(struct search *search)
{
    if (search->batch.count == 0) {
        return STATUS_OK;
    }
    pause_since(search->added_ms, search->pause_ms);
    enum status status =
        look_again(search->link, search->rule, &search->batch, &search->second, search->error);
    for (size_t i = 0; status == STATUS_OK && i < search->batch.count; i++) {
        const bson_t *group = search->batch.groups[i];
        const bson_t *again = batch_find(&search->second.seen, group);
        if (again != NULL && bson_equal(group, again)) {
            search->counts.found++;
            search->counts.rows += rows_of(search->rule, group);
            status = search->on_finding(search->rule, group, search->context, search->error);
        } else if (again != NULL) {
            search->counts.moving++;
        }
    }
    batch_clear(&search->second.seen);
    batch_clear(&search->batch);
    return status;
}

static bool on_first(const bson_t *group, void *context)
{
    struct search *search = context;
    if (search->batch.count == SCRUB_BATCH) {
        search->status = batch_judge(search);
    }
    if (search->status == STATUS_OK) {
        search->batch.groups[search->batch.count++] = bson_copy(group);
        search->added_ms = clock_monotonic_ms();
    }
    return search->status == STATUS_OK;
}

enum status scrub_find(const struct scrub_link *link, const struct scrub_rule *rule,
                       uint64_t pause_ms, scrub_on_finding *on_finding, void *context,
                       struct scrub_counts *ret_counts, struct error *ret_error)
{
    struct search *search = calloc(1, sizeof(*search));
    if (search == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    *search = (struct search){.link = link,
                              .rule = rule,
                              .pause_ms = pause_ms,
                              .on_finding = on_finding,
                              .context = context,
                              .error = ret_error};
    bson_t *command = scrub_pipeline_groups(rule, NULL, link->now_ms);
    enum status status =
        scrub_documents(link, rule->database, command, on_first, search, ret_error);
    bson_destroy(command);
    status = status == STATUS_OK ? search->status : status;
    status = status == STATUS_OK ? batch_judge(search) : status;
    batch_clear(&search->batch);
    if (status == STATUS_OK) {
        *ret_counts = search->counts;
    } else {
        error_prefix(ret_error, "rule %.100s", rule->name);
    }
    free(search);
    return status;
}
