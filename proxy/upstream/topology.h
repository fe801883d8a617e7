#ifndef HOLDFAST_UPSTREAM_TOPOLOGY_H
#define HOLDFAST_UPSTREAM_TOPOLOGY_H

/*
 * What stands behind an upstream URI that names more than one server: a replica set, whose primary
 * changes, or the routers of a cluster. libmongoc's monitoring looks on (driver specification:
 * Server Discovery and Monitoring), so a primary that has been succeeded and does not know it yet
 * is not believed (electionId, setVersion); here stands what the proxy makes of it: which server
 * the clients' connections go to, and a *generation*, another one with each change of that.
 *
 * A URI that names one server and no replicaSet= is not followed (upstream_uri_follows()): then
 * there is no topology, and everything goes to that server, whatever it is.
 *
 * Of a cluster's routers one is taken, and kept as long as it is there: a driver takes the proxy
 * for one mongos, and may run one transaction over several connections.
 *
 * Threads: any; nothing here waits but topology_start(), topology_wait() and topology_stop().
 * `changed` is called on a thread of the topology's own.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "upstream/selection.h"
#include "upstream/upstream.h"

struct topology;

/* Members of a set are 50 at most; a list of routers is cut here. */
#define TOPOLOGY_MEMBERS_MAX 64
#define TOPOLOGY_NAME_BYTES 300
/* Addresses of one name that are tried in turn. */
#define TOPOLOGY_ADDRESSES_MAX 4

#define TOPOLOGY_STATE_LIST(X)                                                                     \
    X(UNKNOWN, "unknown") /* it does not answer, or what it says does not fit */                   \
    X(PRIMARY, "primary")                                                                          \
    X(SECONDARY, "secondary")                                                                      \
    X(MONGOS, "mongos")                                                                            \
    X(OTHER, "other") /* an arbiter, a member that starts or was not initiated */

enum topology_state {
#define X(name, text) TOPOLOGY_##name,
    TOPOLOGY_STATE_LIST(X)
#undef X
        TOPOLOGY_STATES
};

/* "primary". */
const char *topology_state_name(enum topology_state state);

/* A server to connect to. */
struct topology_target {
    char name[TOPOLOGY_NAME_BYTES]; /* "host:port", or the path of a socket */
    char host[256];                 /* without the port: what its certificate names */
    struct sockaddr_storage addresses[TOPOLOGY_ADDRESSES_MAX];
    socklen_t sizes[TOPOLOGY_ADDRESSES_MAX];
    size_t address_count; /* 0: the name does not resolve */
    uint64_t generation;
};

struct topology_member {
    char name[TOPOLOGY_NAME_BYTES];
    enum topology_state state;
    int64_t round_trip_ms; /* -1: not known */
};

/* As it is at one moment, for status and log. */
struct topology_view {
    enum upstream_topology kind; /* REPLICA_SET or SHARDED; of what is not known yet REPLICA_SET if
                                    the URI names one */
    bool known;                  /* somebody has answered */
    char set_name[128];
    char current[TOPOLOGY_NAME_BYTES]; /* where connections go; "": nowhere */
    uint64_t generation;
    uint64_t changes; /* how often `current` became another server */
    struct topology_member members[TOPOLOGY_MEMBERS_MAX];
    size_t member_count;
};

struct topology_options {
    const char *uri; /* one that is followed */
    uint64_t connect_ms;
    /* Members or their states, or where connections go, are others now. May be NULL. */
    void (*changed)(void *context, const struct topology_view *view);
    void *context;
};

/*
 * Begins to look on. Errors: STATUS_INVALID (the URI), STATUS_UNREACHABLE (mongodb+srv: the name
 * does not resolve), STATUS_MEMORY.
 */
MUST_CHECK enum status topology_start(const struct topology_options *options,
                                      struct topology **ret_topology, struct error *ret_error);

/* When it returns `changed` is not called any more. NULL is harmless. Not from `changed`. */
void topology_silence(struct topology *topology);

/* NULL is harmless; returns NULL. */
struct topology *topology_stop(struct topology *topology);

/* Until there is somewhere to connect to, wait_ms at most. Errors: STATUS_UNREACHABLE, says who of
   the members is what. */
MUST_CHECK enum status topology_wait(struct topology *topology, uint64_t wait_ms,
                                     struct error *ret_error);

void topology_view_get(struct topology *topology, struct topology_view *ret_view);

/* ------------------------------------------------------------------ for connections */

/* One atomic load: whether a connection that was made in `generation` is still to the right server.
 */
uint64_t topology_generation(const struct topology *topology);

/* Whether there is one. A short mutex, as the next. */
bool topology_has_target(struct topology *topology);

/* Where a connection goes that is made now. False: nowhere at the moment. */
bool topology_target_get(struct topology *topology, struct topology_target *ret_target);

/*
 * Whether a server that was connected to may be worked with, by its reply to hello: a primary of
 * the right set, or a router. One that has been succeeded says that it is one, too: the generation
 * of the connection tells.
 */
bool topology_accepts(struct topology *topology, struct slice hello);

/* ------------------------------------------------------------------ reads by preference */

enum topology_choice {
    TOPOLOGY_CHOICE_NONE, /* there is no such member now, or it is not known yet: ask again */
    TOPOLOGY_CHOICE_PRIMARY,
    TOPOLOGY_CHOICE_SECONDARY,
};

/*
 * Where a read of a replica set goes; of a cluster always TOPOLOGY_CHOICE_PRIMARY, for a router
 * chooses by itself, and *ret_target is untouched. Of several that may take it `stay` is taken if
 * it is one, and `avoid` only if it is the only one; else they take turns. Both "": none. `looks`:
 * whoever asks wants to know only whether it is the primary. If it is, that was its turn; else the
 * member is chosen when the read begins, and the look has taken nobody's turn.
 */
enum topology_choice topology_choose(struct topology *topology,
                                     const struct selection_preference *preference,
                                     const char *stay, const char *avoid, bool looks,
                                     struct topology_target *ret_target);
/* The member of that name. False: there is none now. */
bool topology_member_target(struct topology *topology, const char *name,
                            struct topology_target *ret_target);
/* Whether what answers hello so is a secondary of the set, or its primary. */
bool topology_is_member(struct topology *topology, struct slice hello, bool secondary_only);

/* ------------------------------------------------------------------ what tells of a change */

/*
 * A server of `generation` says that it is not the primary any more: connections of it are not used
 * for new commands. Harmless if that is known already.
 */
void topology_suspect(struct topology *topology, uint64_t generation);

/*
 * A reply's error code by which a server says that it is not, or not for long, the primary (driver
 * specification: "not writable primary" and "node is recovering" errors).
 */
bool topology_code_is_state_change(int32_t code);

#endif
