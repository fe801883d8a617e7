/* Server selection (selection.h). Pure. */
#include "upstream/selection.h"

#include <bson/bson.h>
#include <string.h>

static const char *const mode_names[] = {
    [SELECTION_PRIMARY_PREFERRED] = "primaryPreferred",
    [SELECTION_SECONDARY] = "secondary",
    [SELECTION_SECONDARY_PREFERRED] = "secondaryPreferred",
    [SELECTION_NEAREST] = "nearest",
};

const char *selection_mode_name(enum selection_mode mode)
{
    return mode_names[mode];
}

/* ------------------------------------------------------------------ the preference */

static bool parse_mode(const bson_iter_t *at, enum selection_mode *ret_mode)
{
    for (size_t i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++) {
        if (BSON_ITER_HOLDS_UTF8(at) && strcmp(bson_iter_utf8(at, NULL), mode_names[i]) == 0) {
            *ret_mode = (enum selection_mode)i;
            return true;
        }
    }
    return false;
}

/* An array of documents of texts. */
static bool parse_tags(const bson_iter_t *at, struct slice *ret_tags)
{
    bson_iter_t set;
    bson_iter_t tag;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!BSON_ITER_HOLDS_ARRAY(at) || !bson_iter_recurse(at, &set)) {
        return false;
    }
    while (bson_iter_next(&set)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(&set) || !bson_iter_recurse(&set, &tag)) {
            return false;
        }
        while (bson_iter_next(&tag)) {
            if (!BSON_ITER_HOLDS_UTF8(&tag)) {
                return false;
            }
        }
    }
    bson_iter_array(at, &size, &data);
    *ret_tags = slice_make(data, size);
    return true;
}

static bool parse_staleness(const bson_iter_t *at, int64_t *ret_ms)
{
    int64_t seconds = BSON_ITER_HOLDS_NUMBER(at) ? bson_iter_as_int64(at) : 0;
    if (seconds == -1) { /* as drivers say none */
        return true;
    }
    if (seconds < SELECTION_STALENESS_SECONDS_MIN || seconds > INT32_MAX) {
        return false;
    }
    *ret_ms = seconds * 1000;
    return true;
}

bool selection_preference_parse(struct slice document, struct selection_preference *ret_preference)
{
    struct selection_preference preference = {0};
    bson_t view;
    bson_iter_t at;
    bool has_mode = false;
    if (document.size < 5 || !bson_init_static(&view, document.data, document.size) ||
        !bson_iter_init(&at, &view)) {
        return false;
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool fine = true;
        if (strcmp(name, "mode") == 0) {
            fine = parse_mode(&at, &preference.mode);
            has_mode = true;
        } else if (strcmp(name, "tags") == 0) {
            fine = parse_tags(&at, &preference.tags);
        } else if (strcmp(name, "maxStalenessSeconds") == 0) {
            fine = parse_staleness(&at, &preference.staleness_ms);
        } /* hedge: for a cluster's routers */
        if (!fine) {
            return false;
        }
    }
    if (has_mode) {
        *ret_preference = preference;
    }
    return has_mode;
}

/* ------------------------------------------------------------------ the members */

struct pool {
    const struct selection_member *members;
    size_t count;
    const struct selection_preference *preference;
    int64_t heartbeat_ms;
};

static const struct selection_member *find_primary(const struct pool *pool)
{
    for (size_t i = 0; i < pool->count; i++) {
        if (pool->members[i].primary) {
            return &pool->members[i];
        }
    }
    return NULL;
}

/* How far a secondary is behind, at most: behind the primary, or the freshest while there is none.
 */
static int64_t staleness(const struct pool *pool, const struct selection_member *member)
{
    const struct selection_member *primary = find_primary(pool);
    int64_t newest_ms = member->last_write_ms;
    if (primary != NULL) {
        return (member->seen_ms - member->last_write_ms) -
               (primary->seen_ms - primary->last_write_ms) + pool->heartbeat_ms;
    }
    for (size_t i = 0; i < pool->count; i++) {
        newest_ms =
            pool->members[i].last_write_ms > newest_ms ? pool->members[i].last_write_ms : newest_ms;
    }
    return newest_ms - member->last_write_ms + pool->heartbeat_ms;
}

static bool has_tags(const struct selection_member *member, const bson_iter_t *set)
{
    bson_iter_t wanted;
    bson_iter_t has;
    if (!bson_iter_recurse(set, &wanted)) {
        return false;
    }
    while (bson_iter_next(&wanted)) {
        if (member->tags.size == 0 ||
            !bson_iter_init_from_data(&has, member->tags.data, member->tags.size) ||
            !bson_iter_find(&has, bson_iter_key(&wanted)) || !BSON_ITER_HOLDS_UTF8(&has) ||
            strcmp(bson_iter_utf8(&has, NULL), bson_iter_utf8(&wanted, NULL)) != 0) {
            return false;
        }
    }
    return true;
}

/* Those of the right kind, fresh enough, and with these tags. `set` NULL: whatever they are. */
static size_t find_fitting(const struct pool *pool, bool with_primary, const bson_iter_t *set,
                           size_t *ret_indexes)
{
    size_t found = 0;
    for (size_t i = 0; i < pool->count; i++) {
        const struct selection_member *member = &pool->members[i];
        bool kind = !member->primary || with_primary;
        bool fresh = member->primary || pool->preference->staleness_ms == 0 ||
                     staleness(pool, member) <= pool->preference->staleness_ms;
        if (kind && fresh && (set == NULL || has_tags(member, set))) {
            ret_indexes[found++] = i;
        }
    }
    return found;
}

static size_t find_tagged(const struct pool *pool, bool with_primary, size_t *ret_indexes)
{
    const struct slice *tags = &pool->preference->tags;
    bson_iter_t set;
    bool any = false;
    size_t found = 0;
    if (tags->size > 0 && bson_iter_init_from_data(&set, tags->data, tags->size)) {
        while (found == 0 && bson_iter_next(&set)) {
            any = true;
            found = find_fitting(pool, with_primary, &set, ret_indexes);
        }
    }
    return any ? found : find_fitting(pool, with_primary, NULL, ret_indexes);
}

static size_t find_primary_index(const struct pool *pool, size_t *ret_indexes)
{
    const struct selection_member *primary = find_primary(pool);
    if (primary == NULL) {
        return 0;
    }
    ret_indexes[0] = (size_t)(primary - pool->members);
    return 1;
}

static size_t keep_near(const struct pool *pool, int64_t threshold_ms, size_t found,
                        size_t *indexes)
{
    int64_t nearest_ms = INT64_MAX;
    size_t kept = 0;
    for (size_t i = 0; i < found; i++) {
        int64_t round_trip_ms = pool->members[indexes[i]].round_trip_ms;
        nearest_ms = round_trip_ms < nearest_ms ? round_trip_ms : nearest_ms;
    }
    for (size_t i = 0; i < found; i++) {
        if (pool->members[indexes[i]].round_trip_ms - nearest_ms <= threshold_ms) {
            indexes[kept++] = indexes[i];
        }
    }
    return kept;
}

size_t selection_find(const struct selection_member *members, size_t count,
                      const struct selection_preference *preference, int64_t heartbeat_ms,
                      int64_t threshold_ms, size_t *ret_indexes)
{
    const struct pool pool = {members, count, preference, heartbeat_ms};
    size_t found = 0;
    switch (preference->mode) {
    case SELECTION_PRIMARY_PREFERRED:
        found = find_primary_index(&pool, ret_indexes);
        found = found > 0 ? found : find_tagged(&pool, false, ret_indexes);
        break;
    case SELECTION_SECONDARY:
        found = find_tagged(&pool, false, ret_indexes);
        break;
    case SELECTION_SECONDARY_PREFERRED:
        found = find_tagged(&pool, false, ret_indexes);
        found = found > 0 ? found : find_primary_index(&pool, ret_indexes);
        break;
    case SELECTION_NEAREST:
        found = find_tagged(&pool, true, ret_indexes);
        break;
    }
    return keep_near(&pool, threshold_ms, found, ret_indexes);
}
