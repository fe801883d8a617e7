/*
 * Members of a replica set (members.h).
 *
 * Invariant: `list` is replaced as a whole, by the one thread that refreshes; others read it under
 * the mutex. A name is resolved once, and again when it has no address.
 */
#include "upstream/members.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/private.h"

/* A member with more has none: an operator's few words. */
#define TAGS_BYTES_MAX 1024u

struct member {
    struct topology_target target;
    struct selection_member is;
    uint8_t tags[TAGS_BYTES_MAX];
};

struct list {
    struct member members[TOPOLOGY_MEMBERS_MAX];
    size_t count;
};

struct members {
    pthread_mutex_t mutex;
    struct list *list;
    int64_t heartbeat_ms;
    int64_t threshold_ms;
    size_t turn; /* of those that may be taken, one after the other */
    _Atomic bool wanted;
    _Atomic bool missing;
};

struct members *members_new(int64_t heartbeat_ms, int64_t threshold_ms)
{
    struct members *members = calloc(1, sizeof *members);
    struct list *list = calloc(1, sizeof *list);
    if (members == NULL || list == NULL) {
        free(members);
        free(list);
        return NULL;
    }
    (void)pthread_mutex_init(&members->mutex, NULL);
    members->list = list;
    members->heartbeat_ms = heartbeat_ms;
    members->threshold_ms = threshold_ms;
    return members;
}

struct members *members_free(struct members *members)
{
    if (members != NULL) {
        (void)pthread_mutex_destroy(&members->mutex);
        free(members->list);
        free(members);
    }
    return NULL;
}

bool members_are_wanted(struct members *members)
{
    return atomic_load_explicit(&members->wanted, memory_order_relaxed);
}

bool members_take_missing(struct members *members)
{
    return atomic_exchange(&members->missing, false);
}

/* ------------------------------------------------------------------ looking at them */

static const struct member *find(const struct list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->members[i].target.name, name) == 0) {
            return &list->members[i];
        }
    }
    return NULL;
}

static void take_tags(const bson_t *hello, struct member *member)
{
    bson_iter_t at;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (bson_iter_init_find(&at, hello, "tags") && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        bson_iter_document(&at, &size, &data);
        if (size <= sizeof member->tags) {
            memcpy(member->tags, data, size);
            member->is.tags = slice_make(member->tags, size);
        }
    }
}

/* False: it is neither primary nor secondary. */
static bool take(const struct list *before, const mongoc_server_description_t *description,
                 struct member *member)
{
    const char *type = mongoc_server_description_type(description);
    const mongoc_host_list_t *host = mongoc_server_description_host(description);
    const bson_t *hello = mongoc_server_description_hello_response(description);
    bson_iter_t at;
    bson_iter_t written;
    bool primary = strcmp(type, "RSPrimary") == 0;
    if (!primary && strcmp(type, "RSSecondary") != 0) {
        return false;
    }
    *member = (struct member){
        .is.primary = primary,
        .is.seen_ms = mongoc_server_description_last_update_time(description) / 1000,
        .is.round_trip_ms = mongoc_server_description_round_trip_time(description),
    };
    if (bson_iter_init(&at, hello) &&
        bson_iter_find_descendant(&at, "lastWrite.lastWriteDate", &written) &&
        BSON_ITER_HOLDS_DATE_TIME(&written)) {
        member->is.last_write_ms = bson_iter_date_time(&written);
    }
    take_tags(hello, member);
    const struct member *known = find(before, host->host_and_port);
    if (known != NULL && known->target.address_count > 0) {
        member->target = known->target;
    } else {
        topology_resolve(host, &member->target);
    }
    return true;
}

void members_refresh(struct members *members, void *client)
{
    size_t count = 0;
    struct list *list = calloc(1, sizeof *list);
    mongoc_server_description_t **servers = mongoc_client_get_server_descriptions(client, &count);
    for (size_t i = 0; list != NULL && i < count && list->count < TOPOLOGY_MEMBERS_MAX; i++) {
        list->count += take(members->list, servers[i], &list->members[list->count]);
    }
    mongoc_server_descriptions_destroy_all(servers, count);
    if (list != NULL) {
        pthread_mutex_lock(&members->mutex);
        struct list *former = members->list;
        members->list = list;
        pthread_mutex_unlock(&members->mutex);
        free(former);
    }
}

/* ------------------------------------------------------------------ choosing one */

/* `name` "": none. */
static bool is_among(const struct list *list, const size_t *indexes, size_t count, const char *name,
                     size_t *ret_index)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list->members[indexes[i]].target.name, name) == 0) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

enum topology_choice members_choose(struct members *members,
                                    const struct selection_preference *preference, const char *stay,
                                    const char *avoid, bool looks,
                                    struct topology_target *ret_target)
{
    struct selection_member all[TOPOLOGY_MEMBERS_MAX];
    size_t indexes[TOPOLOGY_MEMBERS_MAX];
    size_t taken = 0;
    enum topology_choice choice = TOPOLOGY_CHOICE_NONE;
    atomic_store_explicit(&members->wanted, true, memory_order_relaxed);
    pthread_mutex_lock(&members->mutex);
    const struct list *list = members->list;
    for (size_t i = 0; i < list->count; i++) {
        all[i] = list->members[i].is;
    }
    size_t count = selection_find(all, list->count, preference, members->heartbeat_ms,
                                  members->threshold_ms, indexes);
    if (count > 1 && is_among(list, indexes, count, avoid, &taken)) {
        indexes[taken] = indexes[--count];
    }
    if (count > 0) {
        if (!is_among(list, indexes, count, stay, &taken)) {
            taken = members->turn % count;
            /* The read for which one only looks is chosen for again, and in the same turn; but the
               primary's is not. */
            members->turn += !looks || list->members[indexes[taken]].is.primary;
        }
        const struct member *member = &list->members[indexes[taken]];
        *ret_target = member->target;
        choice = member->is.primary ? TOPOLOGY_CHOICE_PRIMARY : TOPOLOGY_CHOICE_SECONDARY;
    }
    bool missing = choice == TOPOLOGY_CHOICE_NONE && list->count > 0; /* else not looked at yet */
    pthread_mutex_unlock(&members->mutex);
    if (missing) {
        atomic_store(&members->missing, true);
    }
    return choice;
}

bool members_find(struct members *members, const char *name, struct topology_target *ret_target)
{
    pthread_mutex_lock(&members->mutex);
    const struct member *member = find(members->list, name);
    if (member != NULL) {
        *ret_target = member->target;
    }
    pthread_mutex_unlock(&members->mutex);
    return member != NULL;
}
