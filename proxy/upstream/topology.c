/*
 * Following a replica set or a cluster (topology.h).
 *
 *   libmongoc's monitors --callbacks--> `seen` --> own thread: names become addresses, the target
 *   is chosen --> `view`, `target`, `generation` --> workers
 *
 * libmongoc calls back under its own lock, so that what may wait (name service, `changed`) is done
 * by a thread of our own. Its pool of clients is there for the monitors only; what they
 * send is hello, which needs no permit and no login.
 *
 * A monitor whose server is away looks again only every heartbeatFrequencyMS (10 s), unless
 * somebody selects a server and finds none. So while there is none a second thread does that, the
 * seeker. It also looks at the members for reads by preference (members.h), and seeks one that is
 * missing.
 *
 * Invariant: `generation` changes with each change of the target, before anybody can see that.
 */
#include "upstream/topology.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/condition.h"
#include "holdfast/clock.h"
#include "upstream/members.h"
#include "upstream/private.h"
#include "upstream/upstream.h"

/* Between two looks of the seeker; and for how long one may wait for a server. */
#define SEEK_MS 500
#define HEARTBEAT_MS_DEFAULT 10000
#define LOCAL_THRESHOLD_MS_DEFAULT 15

/* What libmongoc told last of a member. */
struct seen_member {
    struct topology_member told;
    mongoc_host_list_t host; /* `next` is not valid */
};

struct seen {
    char kind[32]; /* libmongoc's name of it */
    char set_name[128];
    struct seen_member members[TOPOLOGY_MEMBERS_MAX];
    size_t member_count;
};

struct topology {
    pthread_mutex_t mutex;
    pthread_cond_t wake;     /* of the own thread */
    pthread_cond_t settled;  /* of topology_wait() */
    pthread_mutex_t telling; /* held while `changed` is called */
    pthread_t thread;
    pthread_t seeker;
    pthread_cond_t seek; /* of the seeker */
    mongoc_client_pool_t *pool;
    struct members *members; /* for reads by preference */
    struct topology_options options;
    struct seen seen;
    bool news;
    bool stopping;
    struct topology_view view;
    struct topology_target target; /* name "": none */
    _Atomic uint64_t generation;
    char set_name[128]; /* that the URI names; "": none, a cluster */
};

static const char *const state_names[] = {
#define X(name, text) [TOPOLOGY_##name] = (text),
    TOPOLOGY_STATE_LIST(X)
#undef X
};

const char *upstream_topology_name(enum upstream_topology topology)
{
    static const char *const names[] = {
        [UPSTREAM_STANDALONE] = "standalone",
        [UPSTREAM_REPLICA_SET] = "replicaSet",
        [UPSTREAM_SHARDED] = "sharded",
    };
    return names[topology];
}

const char *topology_state_name(enum topology_state state)
{
    return state_names[state];
}

bool topology_code_is_state_change(int32_t code)
{
    /* InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryOrSecondary,
       PrimarySteppedDown, ShutdownInProgress, NotWritablePrimary, NotPrimaryNoSecondaryOk,
       LegacyNotPrimary. */
    static const int32_t codes[] = {11600, 11602, 13436, 189, 91, 10107, 13435, 10058};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ what libmongoc tells */

static enum topology_state state_of(const char *type)
{
    return strcmp(type, "RSPrimary") == 0     ? TOPOLOGY_PRIMARY
           : strcmp(type, "RSSecondary") == 0 ? TOPOLOGY_SECONDARY
           : strcmp(type, "Mongos") == 0      ? TOPOLOGY_MONGOS
           : strncmp(type, "RS", 2) == 0      ? TOPOLOGY_OTHER
                                              : TOPOLOGY_UNKNOWN;
}

static void see_member(struct seen *seen, mongoc_server_description_t *description)
{
    struct seen_member *member = &seen->members[seen->member_count++];
    const mongoc_host_list_t *host = mongoc_server_description_host(description);
    const bson_t *hello = mongoc_server_description_hello_response(description);
    bson_iter_t at;
    *member = (struct seen_member){
        .told.state = state_of(mongoc_server_description_type(description)),
        .told.round_trip_ms = mongoc_server_description_round_trip_time(description),
        .host = *host,
    };
    (void)snprintf(member->told.name, sizeof member->told.name, "%s", host->host_and_port);
    if (seen->set_name[0] == '\0' && bson_iter_init_find(&at, hello, "setName") &&
        BSON_ITER_HOLDS_UTF8(&at)) {
        (void)snprintf(seen->set_name, sizeof seen->set_name, "%s", bson_iter_utf8(&at, NULL));
    }
}

static bool is_seen(const struct seen *seen, const char *name)
{
    for (size_t i = 0; i < seen->member_count; i++) {
        if (strcmp(seen->members[i].told.name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void see_unknown(struct seen *seen, const char *name)
{
    if (seen->member_count < TOPOLOGY_MEMBERS_MAX && !is_seen(seen, name)) {
        struct seen_member *member = &seen->members[seen->member_count++];
        *member = (struct seen_member){.told.round_trip_ms = -1};
        (void)snprintf(member->told.name, sizeof member->told.name, "%s", name);
    }
}

static bool see_hosts(struct seen *seen, const bson_t *hello)
{
    static const char *const lists[] = {"hosts", "passives", "arbiters"};
    bool some = false;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        bson_iter_t at;
        bson_iter_t host;
        if (!bson_iter_init_find(&at, hello, lists[i]) || !BSON_ITER_HOLDS_ARRAY(&at) ||
            !bson_iter_recurse(&at, &host)) {
            continue;
        }
        while (bson_iter_next(&host)) {
            if (BSON_ITER_HOLDS_UTF8(&host)) {
                see_unknown(seen, bson_iter_utf8(&host, NULL));
                some = true;
            }
        }
    }
    return some;
}

/* libmongoc leaves out whom it knows nothing of: those are told by the others, else they are who
   was there before. */
static void see_missing(struct seen *seen, mongoc_server_description_t **servers, size_t count,
                        const struct seen *before)
{
    bool some = false;
    for (size_t i = 0; i < count && !some; i++) {
        some = see_hosts(seen, mongoc_server_description_hello_response(servers[i]));
    }
    for (size_t i = 0; i < before->member_count && !some; i++) {
        see_unknown(seen, before->members[i].told.name);
    }
}

/* A monitor's thread, under libmongoc's lock. */
static void on_topology(const mongoc_apm_topology_changed_t *event)
{
    struct topology *topology = mongoc_apm_topology_changed_get_context(event);
    const mongoc_topology_description_t *description =
        mongoc_apm_topology_changed_get_new_description(event);
    size_t count = 0;
    mongoc_server_description_t **servers =
        mongoc_topology_description_get_servers(description, &count);
    struct seen *seen = calloc(1, sizeof *seen);
    if (seen != NULL) {
        (void)snprintf(seen->kind, sizeof seen->kind, "%s",
                       mongoc_topology_description_type(description));
        for (size_t i = 0; i < count && i < TOPOLOGY_MEMBERS_MAX; i++) {
            see_member(seen, servers[i]);
        }
        pthread_mutex_lock(&topology->mutex);
        see_missing(seen, servers, count, &topology->seen);
        topology->seen = *seen;
        topology->news = true;
        pthread_cond_signal(&topology->wake);
        pthread_cond_signal(&topology->seek);
        pthread_mutex_unlock(&topology->mutex);
    }
    free(seen);
    mongoc_server_descriptions_destroy_all(servers, count);
}

/* ------------------------------------------------------------------ where connections go */

/* NULL: nowhere. The primary; of routers the one there is, else the nearest. */
static const struct seen_member *choose(const struct seen *seen, const char *current)
{
    const struct seen_member *best = NULL;
    for (size_t i = 0; i < seen->member_count; i++) {
        const struct seen_member *at = &seen->members[i];
        if (at->told.state == TOPOLOGY_PRIMARY) {
            return at;
        }
        if (at->told.state != TOPOLOGY_MONGOS) {
            continue;
        }
        if (strcmp(at->told.name, current) == 0) {
            return at;
        }
        if (best == NULL || at->told.round_trip_ms < best->told.round_trip_ms) {
            best = at;
        }
    }
    return best;
}

static void resolve_path(const char *path, struct topology_target *target)
{
    struct sockaddr_un *address = (struct sockaddr_un *)(void *)&target->addresses[0];
    size_t size = strlen(path);
    if (size < sizeof address->sun_path) {
        address->sun_family = AF_UNIX;
        memcpy(address->sun_path, path, size + 1);
        target->sizes[0] = sizeof *address;
        target->address_count = 1;
    }
}

void topology_resolve(const mongoc_host_list_t *host, struct topology_target *target)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8];
    (void)snprintf(target->name, sizeof target->name, "%s", host->host_and_port);
    (void)snprintf(target->host, sizeof target->host, "%s", host->host);
    if (host->family == AF_UNIX) {
        resolve_path(host->host, target);
        return;
    }
    (void)snprintf(port, sizeof port, "%u", (unsigned)host->port);
    if (getaddrinfo(host->host, port, &hints, &found) != 0) {
        return;
    }
    for (const struct addrinfo *at = found;
         at != NULL && target->address_count < TOPOLOGY_ADDRESSES_MAX; at = at->ai_next) {
        memcpy(&target->addresses[target->address_count], at->ai_addr, at->ai_addrlen);
        target->sizes[target->address_count++] = at->ai_addrlen;
    }
    freeaddrinfo(found);
}

static void view_make(const struct seen *seen, const struct topology *topology,
                      struct topology_view *view)
{
    view->kind = topology->set_name[0] != '\0' || strncmp(seen->kind, "ReplicaSet", 10) == 0
                     ? UPSTREAM_REPLICA_SET
                     : UPSTREAM_SHARDED;
    (void)snprintf(view->set_name, sizeof view->set_name, "%s",
                   seen->set_name[0] != '\0' ? seen->set_name : topology->set_name);
    view->member_count = seen->member_count;
    view->known = false;
    for (size_t i = 0; i < seen->member_count; i++) {
        view->members[i] = seen->members[i].told;
        view->known = view->known || seen->members[i].told.state != TOPOLOGY_UNKNOWN;
    }
}

/* With the mutex, which is given away while names are resolved. */
static void publish(struct topology *topology)
{
    struct seen *seen = malloc(sizeof *seen);
    struct topology_target target = {0};
    topology->news = false;
    if (seen == NULL) {
        return;
    }
    *seen = topology->seen;
    pthread_mutex_unlock(&topology->mutex);
    const struct seen_member *chosen = choose(seen, topology->target.name);
    if (chosen != NULL) {
        topology_resolve(&chosen->host, &target);
    }
    pthread_mutex_lock(&topology->mutex);
    struct topology_view *view = &topology->view;
    view_make(seen, topology, view);
    if (strcmp(target.name, topology->target.name) != 0) {
        (void)atomic_fetch_add(&topology->generation, 1);
        if (target.name[0] != '\0' && strcmp(target.name, view->current) != 0) {
            view->changes += view->current[0] != '\0';
            (void)snprintf(view->current, sizeof view->current, "%s", target.name);
        }
    }
    topology->target = target;
    pthread_cond_broadcast(&topology->settled);
    free(seen);
}

static void view_copy(struct topology *topology, struct topology_view *view)
{
    *view = topology->view;
    view->generation = atomic_load(&topology->generation);
    (void)snprintf(view->current, sizeof view->current, "%s", topology->target.name);
}

static void *topology_main(void *argument)
{
    struct topology *topology = argument;
    struct topology_view *view = calloc(1, sizeof *view);
    pthread_mutex_lock(&topology->mutex);
    while (!topology->stopping) {
        if (!topology->news) {
            pthread_cond_wait(&topology->wake, &topology->mutex);
            continue;
        }
        publish(topology);
        if (view != NULL) {
            view_copy(topology, view);
            pthread_mutex_unlock(&topology->mutex);
            pthread_mutex_lock(&topology->telling);
            if (topology->options.changed != NULL) {
                topology->options.changed(topology->options.context, view);
            }
            pthread_mutex_unlock(&topology->telling);
            pthread_mutex_lock(&topology->mutex);
        }
    }
    pthread_mutex_unlock(&topology->mutex);
    free(view);
    return NULL;
}

/* ------------------------------------------------------------------ while there is none */

/* `preference` NULL: where one can write. */
static void select_once(struct topology *topology, const mongoc_read_prefs_t *preference)
{
    bson_error_t error;
    mongoc_client_t *client = mongoc_client_pool_pop(topology->pool);
    mongoc_server_description_t *found =
        mongoc_client_select_server(client, preference == NULL, preference, &error);
    if (found != NULL) {
        mongoc_server_description_destroy(found);
    }
    mongoc_client_pool_push(topology->pool, client);
}

/* Makes all monitors look at once: no member has this tag, so one is sought. */
static void seek_member(struct topology *topology)
{
    bson_t tags = BSON_INITIALIZER;
    mongoc_read_prefs_t *preference = mongoc_read_prefs_new(MONGOC_READ_SECONDARY);
    BSON_APPEND_UTF8(&tags, "holdfast", "nobody");
    mongoc_read_prefs_add_tag(preference, &tags);
    select_once(topology, preference);
    mongoc_read_prefs_destroy(preference);
    bson_destroy(&tags);
}

static void look_at_members(struct topology *topology)
{
    if (members_take_missing(topology->members)) {
        seek_member(topology);
    }
    if (members_are_wanted(topology->members)) {
        mongoc_client_t *client = mongoc_client_pool_pop(topology->pool);
        members_refresh(topology->members, client);
        mongoc_client_pool_push(topology->pool, client);
    }
}

static void *seeker_main(void *argument)
{
    struct topology *topology = argument;
    pthread_mutex_lock(&topology->mutex);
    while (!topology->stopping) {
        bool none = topology->target.name[0] == '\0';
        pthread_mutex_unlock(&topology->mutex);
        if (none) {
            select_once(topology, NULL);
        }
        look_at_members(topology);
        pthread_mutex_lock(&topology->mutex);
        if (!topology->stopping) { /* what was found may not be published yet */
            condition_wait_until(&topology->seek, &topology->mutex, clock_monotonic_ms() + SEEK_MS);
        }
    }
    pthread_mutex_unlock(&topology->mutex);
    return NULL;
}

/* ------------------------------------------------------------------ starting and stopping */

static enum status pool_start(struct topology *topology, struct error *ret_error)
{
    mongoc_uri_t *uri = NULL;
    bson_error_t error = {0};
    enum status status = uri_parse(topology->options.uri, &uri, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    const char *set_name = mongoc_uri_get_replica_set(uri);
    (void)snprintf(topology->set_name, sizeof topology->set_name, "%s",
                   set_name == NULL ? "" : set_name);
    for (const mongoc_host_list_t *at = mongoc_uri_get_hosts(uri); at != NULL; at = at->next) {
        see_unknown(&topology->seen, at->host_and_port);
    }
    topology->view.kind = set_name == NULL ? UPSTREAM_SHARDED : UPSTREAM_REPLICA_SET;
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS,
                                   uri_wait_of(topology->options.connect_ms));
    mongoc_apm_callbacks_t *callbacks = mongoc_apm_callbacks_new();
    mongoc_apm_set_topology_changed_cb(callbacks, on_topology);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SEEK_MS);
    topology->members = members_new(
        mongoc_uri_get_option_as_int32(uri, MONGOC_URI_HEARTBEATFREQUENCYMS, HEARTBEAT_MS_DEFAULT),
        mongoc_uri_get_option_as_int32(uri, MONGOC_URI_LOCALTHRESHOLDMS,
                                       LOCAL_THRESHOLD_MS_DEFAULT));
    if (topology->members == NULL) {
        mongoc_apm_callbacks_destroy(callbacks);
        mongoc_uri_destroy(uri);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    topology->pool = mongoc_client_pool_new_with_error(uri, &error);
    status = topology->pool == NULL ? srv_failed(uri, &error, ret_error) : STATUS_OK;
    mongoc_uri_destroy(uri);
    if (status != STATUS_OK) {
        mongoc_apm_callbacks_destroy(callbacks);
        return status;
    }
    (void)mongoc_client_pool_set_appname(topology->pool, "holdfast");
    (void)mongoc_client_pool_set_apm_callbacks(topology->pool, callbacks, topology);
    mongoc_apm_callbacks_destroy(callbacks);
    /* The monitors begin with the first client that is taken. */
    mongoc_client_pool_push(topology->pool, mongoc_client_pool_pop(topology->pool));
    return STATUS_OK;
}

static void tell_to_stop(struct topology *topology)
{
    pthread_mutex_lock(&topology->mutex);
    topology->stopping = true;
    pthread_cond_signal(&topology->wake);
    pthread_cond_signal(&topology->seek);
    pthread_mutex_unlock(&topology->mutex);
}

static void topology_free(struct topology *topology)
{
    (void)pthread_mutex_destroy(&topology->mutex);
    (void)pthread_mutex_destroy(&topology->telling);
    (void)pthread_cond_destroy(&topology->wake);
    (void)pthread_cond_destroy(&topology->settled);
    (void)pthread_cond_destroy(&topology->seek);
    members_free(topology->members);
    free(topology);
}

static enum status threads_start(struct topology *topology, struct error *ret_error)
{
    bool first = pthread_create(&topology->thread, NULL, topology_main, topology) == 0;
    if (first && pthread_create(&topology->seeker, NULL, seeker_main, topology) == 0) {
        return STATUS_OK;
    }
    if (first) {
        tell_to_stop(topology);
        (void)pthread_join(topology->thread, NULL);
    }
    return error_set(ret_error, STATUS_MEMORY, "no threads for the monitoring of the servers");
}

enum status topology_start(const struct topology_options *options, struct topology **ret_topology,
                           struct error *ret_error)
{
    struct topology *topology = calloc(1, sizeof *topology);
    if (topology == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    upstream_library_init();
    topology->options = *options;
    atomic_store(&topology->generation, 1);
    (void)pthread_mutex_init(&topology->mutex, NULL);
    (void)pthread_mutex_init(&topology->telling, NULL);
    (void)pthread_cond_init(&topology->wake, NULL);
    condition_init(&topology->settled);
    condition_init(&topology->seek);
    enum status status = pool_start(topology, ret_error);
    if (status == STATUS_OK) {
        status = threads_start(topology, ret_error);
    }
    if (status != STATUS_OK) {
        if (topology->pool != NULL) {
            mongoc_client_pool_destroy(topology->pool);
        }
        topology_free(topology);
        return status;
    }
    *ret_topology = topology;
    return STATUS_OK;
}

void topology_silence(struct topology *topology)
{
    if (topology != NULL) {
        pthread_mutex_lock(&topology->telling);
        topology->options.changed = NULL;
        pthread_mutex_unlock(&topology->telling);
    }
}

struct topology *topology_stop(struct topology *topology)
{
    if (topology == NULL) {
        return NULL;
    }
    tell_to_stop(topology);
    (void)pthread_join(topology->seeker, NULL);
    mongoc_client_pool_destroy(topology->pool); /* no callback after this */
    (void)pthread_join(topology->thread, NULL);
    topology_free(topology);
    return NULL;
}

/* "a:1 primary, b:2 unknown" */
static void tell_members(const struct topology_view *view, char *text, size_t capacity)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < view->member_count && used + 1 < capacity; i++) {
        int size = snprintf(text + used, capacity - used, "%s%.100s %s", i == 0 ? "" : ", ",
                            view->members[i].name, state_names[view->members[i].state]);
        used += size < 0 ? 0 : (size_t)size;
    }
}

enum status topology_wait(struct topology *topology, uint64_t wait_ms, struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + wait_ms;
    char members[400];
    pthread_mutex_lock(&topology->mutex);
    while (topology->target.name[0] == '\0' && clock_monotonic_ms() < until_ms) {
        condition_wait_until(&topology->settled, &topology->mutex, until_ms);
    }
    bool found = topology->target.name[0] != '\0';
    tell_members(&topology->view, members, sizeof members);
    pthread_mutex_unlock(&topology->mutex);
    return found ? STATUS_OK
                 : error_set(ret_error, STATUS_UNREACHABLE,
                             "none of the servers of upstream.uri is a primary or a mongos: %s",
                             members[0] == '\0' ? "none has answered" : members);
}

void topology_view_get(struct topology *topology, struct topology_view *ret_view)
{
    pthread_mutex_lock(&topology->mutex);
    view_copy(topology, ret_view);
    pthread_mutex_unlock(&topology->mutex);
}

/* ------------------------------------------------------------------ for connections */

uint64_t topology_generation(const struct topology *topology)
{
    return atomic_load_explicit(&topology->generation, memory_order_acquire);
}

bool topology_has_target(struct topology *topology)
{
    pthread_mutex_lock(&topology->mutex);
    bool found = topology->target.name[0] != '\0';
    pthread_mutex_unlock(&topology->mutex);
    return found;
}

bool topology_target_get(struct topology *topology, struct topology_target *ret_target)
{
    pthread_mutex_lock(&topology->mutex);
    bool found = topology->target.name[0] != '\0' && topology->target.address_count > 0;
    if (found) {
        *ret_target = topology->target;
        ret_target->generation = atomic_load(&topology->generation);
    }
    pthread_mutex_unlock(&topology->mutex);
    return found;
}

static bool text_is(const bson_t *hello, const char *name, const char *wanted)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, hello, name) && BSON_ITER_HOLDS_UTF8(&at) &&
           strcmp(bson_iter_utf8(&at, NULL), wanted) == 0;
}

bool topology_accepts(struct topology *topology, struct slice hello)
{
    bson_t document;
    bson_iter_t at;
    if (!bson_init_static(&document, hello.data, hello.size)) {
        return false;
    }
    bool primary = (bson_iter_init_find(&at, &document, "isWritablePrimary") ||
                    bson_iter_init_find(&at, &document, "ismaster")) &&
                   bson_iter_as_bool(&at);
    pthread_mutex_lock(&topology->mutex);
    bool good = topology->view.kind == UPSTREAM_SHARDED
                    ? text_is(&document, "msg", "isdbgrid")
                    : primary && text_is(&document, "setName", topology->view.set_name);
    pthread_mutex_unlock(&topology->mutex);
    return good;
}

bool topology_is_member(struct topology *topology, struct slice hello, bool secondary_only)
{
    bson_t document;
    bson_iter_t at;
    if (!bson_init_static(&document, hello.data, hello.size)) {
        return false;
    }
    bool good = bson_iter_init_find(&at, &document, "secondary") && bson_iter_as_bool(&at);
    if (!good && !secondary_only) {
        good = bson_iter_init_find(&at, &document, "ismaster") && bson_iter_as_bool(&at);
    }
    pthread_mutex_lock(&topology->mutex);
    good = good && text_is(&document, "setName", topology->view.set_name);
    pthread_mutex_unlock(&topology->mutex);
    return good;
}

static bool is_set(struct topology *topology)
{
    pthread_mutex_lock(&topology->mutex);
    bool set = topology->view.kind == UPSTREAM_REPLICA_SET;
    pthread_mutex_unlock(&topology->mutex);
    return set;
}

enum topology_choice topology_choose(struct topology *topology,
                                     const struct selection_preference *preference,
                                     const char *stay, const char *avoid, bool looks,
                                     struct topology_target *ret_target)
{
    if (!is_set(topology)) {
        return TOPOLOGY_CHOICE_PRIMARY;
    }
    bool wanted = members_are_wanted(topology->members);
    enum topology_choice choice =
        members_choose(topology->members, preference, stay, avoid, looks, ret_target);
    if (!wanted) {
        pthread_cond_signal(&topology->seek); /* soon, not at its next turn */
    }
    return choice;
}

bool topology_member_target(struct topology *topology, const char *name,
                            struct topology_target *ret_target)
{
    return members_find(topology->members, name, ret_target);
}

void topology_suspect(struct topology *topology, uint64_t generation)
{
    uint64_t expected = generation;
    (void)atomic_compare_exchange_strong(&topology->generation, &expected, generation + 1);
}
