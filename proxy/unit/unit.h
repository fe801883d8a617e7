#ifndef HOLDFAST_UNIT_UNIT_H
#define HOLDFAST_UNIT_UNIT_H

/*
 * Units: the atomic groups of writes, the sessions they belong to, and who may work on one now.
 *
 * A unit is worked on by one holder at a time, who has *checked it out*: a client's command, or the
 * rollback of a unit whose client has gone, which lived too long, and the like. Whoever has it
 * checked out may read and change every field but those marked (table); nobody else touches it.
 *
 *                 unit_commit_begin         COMMIT durable
 *      OPEN ---------------------> COMMITTING ------------> COMMITTED
 *       |                              | the journal refused
 *       | unit_abort_begin             v
 *       `------------------------> ABORTING ---> ABORTED      images restored, ABORT durable
 *                                      `-------> CONFLICT     set aside for an operator
 *
 * An ended unit is freed when it is checked in; its session remembers how it ended, for as long as
 * there is room, and the journal's session index remembers what was journaled.
 *
 * Threads: any; one mutex, short sections. Waiters' callbacks run with no lock held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/limits.h"
#include "holdfast/slice.h"
#include "holdfast/span.h"
#include "unit/answers.h"
#include "unit/lock_table.h"
#include "unit/uncommitted.h"
#include "unit/unit_cursors.h"

#define UNIT_STATE_LIST(X)                                                                         \
    X(OPEN)                                                                                        \
    X(COMMITTING)                                                                                  \
    X(ABORTING)                                                                                    \
    X(COMMITTED)                                                                                   \
    X(ABORTED)                                                                                     \
    X(CONFLICT)

enum unit_state {
#define X(name) UNIT_##name,
    UNIT_STATE_LIST(X)
#undef X
};

const char *unit_state_name(enum unit_state state);

/*
 * What was learned of a write that is in the journal, and is not in the journal itself yet: its
 * after-image, or that the server refused it.
 */
struct unit_known {
    int32_t number; /* of the write in its unit */
    bool refused;
    struct image after; /* owned; UNKNOWN if refused */
};

/* Where units come from. */
#define UNIT_BOUNDARY_LIST(X)                                                                      \
    X(DRIVER, "driver")                                                                            \
    X(PLAIN, "plain")                                                                              \
    X(RETRYABLE, "retryable")                                                                      \
    X(HTTP, "http")                                                                                \
    X(COMMENT, "comment")                                                                          \
    X(RESOLVE, "resolve") /* an operator's decision about a conflict (engine/resolver.h) */

enum unit_boundary {
#define X(name, text) UNIT_BOUNDARY_##name,
    UNIT_BOUNDARY_LIST(X)
#undef X
        UNIT_BOUNDARIES
};

const char *unit_boundary_name(enum unit_boundary boundary);

#define UNIT_SESSION_ID_BYTES 16
#define UNIT_RECENT_SESSIONS 8
#define UNIT_CURSORS_MAX 64
#define UNIT_NAME_BYTES 256 /* of `name`, with its NUL */

/* Session id and digest of the user: a session belongs to one user. */
struct unit_session_key {
    uint8_t bytes[UNIT_SESSION_ID_BYTES + 32];
};

#define UNIT_GATES_MAX 8

struct unit_gates {
    uint32_t gates[UNIT_GATES_MAX];
    size_t count;
};

struct unit {
    uint64_t id;
    /* Changed by unit_state_set() only, by who has it checked out; atomic for those who look on. */
    _Atomic enum unit_state state;
    enum unit_boundary boundary;
    struct unit_session_key session_key;
    struct unit_session_key journal_key; /* what the journal finds it by, if is_journaled_key */
    uint8_t session_id[UNIT_SESSION_ID_BYTES];
    bool has_session;      /* found again by session_key */
    bool has_lsid;         /* session_id is a session's of the wire protocol */
    bool is_journaled_key; /* journal_key goes into the journal: how it ended is known for long */
    bool is_request; /* journal_key is of a request that may be repeated: it is journaled even if it
                        wrote nothing */
    bool is_of_connection; /* it ends with the client whose connection carried it last */
    bool reads_snapshot; /* driver, http, comment: reads can see what was committed when it began */
    bool maybe_repeated; /* retryable: the journal may know its transaction number already */
    int64_t transaction_number;
    char *user;
    char *client;      /* address:port */
    char *application; /* appName, "" if none */
    char *name;        /* http: method and path; comment: the unit's id; else NULL */
    uint64_t began_ms; /* monotonic */
    uint64_t began_wall_us;
    uint64_t lifetime_ms; /* 0: as all others */
    struct span_context trace;
    const char *end_reason; /* why it was rolled back, a literal; set by who does it */

    struct lock_owner locks;
    struct uncommitted_owner uncommitted;
    /* Gates that it came to too late for its snapshot. A session's next unit enters them with its
       first command. */
    struct unit_gates missed;
    struct unit_gates early;
    struct unit_cursors kept_cursors;

    size_t write_count; /* WRITE records in the journal; the next one's number */
    uint64_t bytes;     /* images and commands in them */
    struct unit_known *known;
    size_t known_count;
    size_t known_capacity;
    struct answers answers; /* comment: to writes that their driver may send again */
    int64_t *cursors;       /* serializable: opened by its reads, a ring of UNIT_CURSORS_MAX */
    size_t cursor_count;    /* noted so far */
    bool begun;             /* BEGIN is in the journal */
    void *native;           /* the native engine's part; NULL: none */
    void (*native_free)(void *native);
    void *deferred; /* writes that are put off (engine/deferred.h); NULL: none */
    void (*deferred_free)(void *deferred);
    /* Not NULL: what the server has done cannot be told apart from what a stranger did; the unit is
       for an operator. A literal. */
    const char *doubt;
    bool fate_unknown;   /* a connection broke with a write of it on its way */
    bool undo_broken;    /* the same of a rollback's own connection and a step of the undo */
    char connection[64]; /* the proxy's end of the connection that carried the last write */

    /* (table) */
    bool checked_out;
    const char *abort_reason; /* not NULL: whoever checks it in must roll it back */
    struct unit_waiter *first_waiter;
    uint64_t holder;         /* number of the connection that carried its last command */
    uint64_t orphaned_at_ms; /* that connection has closed; 0: it has not */
    uint64_t recent_sessions[UNIT_RECENT_SESSIONS]; /* of the closed connection */
    bool search_running;
    struct unit *older;
    struct unit *younger;
};

struct unit_table;

struct unit_waiter {
    void (*ready)(struct unit_waiter *waiter); /* check out again: everything may have changed */
    struct unit_waiter *next;                  /* private */
    struct unit *unit;                         /* private */
};

/* `units_max`: open at one time; `sessions_max`: remembered. NULL: out of memory. */
struct unit_table *unit_table_new(size_t units_max, size_t sessions_max);
struct unit_table *unit_table_free(struct unit_table *table);

/* From now on; units beyond it that are open already go on. */
void unit_table_set_units_max(struct unit_table *table, size_t units_max);

struct unit_request {
    const char *user;
    struct slice session_id; /* 16 bytes */
    /* Not NULL: a unit of the boundary `boundary`, found by this key and not by user and session;
       several connections may carry it. */
    const struct unit_session_key *key;
    enum unit_boundary boundary;                /* begin; with `key` only */
    const char *name;                           /* see struct unit; with `key` only */
    bool journaled_key;                         /* with `key` only */
    const struct unit_session_key *request_key; /* begin, with `key` only: not NULL: the journal
                                                   finds it by this key, and by its own number */
    uint64_t lifetime_ms; /* begin: it is rolled back when it is older; 0: as all others */
    uint64_t group;       /* begin: readers of this group see what it writes; 0: none */
    int64_t transaction_number;
    bool begin;
    bool retryable;      /* begin: a plain write that may come again under the same number */
    bool serializable;   /* begin: it locks what it reads */
    uint64_t connection; /* number of the connection that asks */
    const char *client;
    const char *application;
    uint64_t id;                      /* for a new unit */
    const struct span_context *trace; /* begin: its own span; NULL: one is made */
    uint64_t place; /* for a new unit without a session: see lock_owner_place_kept(). A session
                       keeps a victim's place, and what its transaction failed over
                       (lock_hints.h), by itself for the transaction that follows */
};

enum unit_checkout {
    UNIT_CHECKOUT_READY,      /* *ret_unit is yours */
    UNIT_CHECKOUT_WAITING,    /* somebody works on it; `ready` will be called */
    UNIT_CHECKOUT_SUPERSEDED, /* begin: *ret_unit, yours, is the session's older unit: roll it back,
                                 check it in, ask again */
    UNIT_CHECKOUT_COMMITTED,  /* this transaction number has ended so */
    UNIT_CHECKOUT_ABORTED,
    UNIT_CHECKOUT_CONFLICT,
    UNIT_CHECKOUT_UNKNOWN, /* not in memory: the journal may know */
    UNIT_CHECKOUT_TOO_OLD, /* the session is at a higher number */
    UNIT_CHECKOUT_EXISTS,  /* begin: this number was begun before; for a retryable write: by a
                              transaction that is open; with `key`: it is open */
    UNIT_CHECKOUT_LIMIT,   /* begin: too many units are open */
    UNIT_CHECKOUT_NO_MEMORY,
};

void unit_session_key_make(const char *user, struct slice session_id,
                           struct unit_session_key *ret_key);

/* The key of unit `id` of the HTTP boundary, which nobody else can name. */
void unit_session_key_of_call(uint64_t id, struct unit_session_key *ret_key);

/* The key of the unit that `user` calls `name` in comments. */
void unit_session_key_of_name(const char *user, const char *name, struct unit_session_key *ret_key);

/*
 * The key in the journal of the unit of a request that its caller may repeat: by the service that
 * it went to, and what the caller calls it (holdfast/request_key.h). No other key is equal to it.
 */
void unit_session_key_of_request(const char *service, struct slice name,
                                 struct unit_session_key *ret_key);

/* The group of readers that name the unit of this key (unit/uncommitted.h); never 0. */
uint64_t unit_session_key_group(const struct unit_session_key *key);

enum unit_checkout unit_table_checkout(struct unit_table *table, const struct unit_request *request,
                                       struct unit_waiter *waiter, struct unit **ret_unit);

/* A unit without a session, checked out, counted in the limit. NULL: limit or out of memory. */
struct unit *unit_table_new_plain(struct unit_table *table, const struct unit_request *request);

/* The unit turns out to be this user's. By who has it checked out. False: out of memory. */
MUST_CHECK bool unit_table_set_user(struct unit_table *table, struct unit *unit, const char *user);

/* Whether the key's unit is open, and serializable. */
bool unit_table_is_serializable(struct unit_table *table, const struct unit_session_key *key);

/* An open unit as somebody sees it who looks on. */
struct unit_view {
    uint64_t id;
    enum unit_state state;
    bool busy; /* somebody works on it at this moment */
    bool serializable;
    const char *boundary;  /* a literal */
    const char *ends_with; /* why it is to be rolled back, a literal; NULL: it is not */
    uint64_t age_ms;
    char user[128]; /* texts are cut */
    char client[64];
    char application[LIMIT_APPLICATION_BYTES];
};

/* Up to `max` of the open units, oldest first; returns how many. */
size_t unit_table_view(struct unit_table *table, struct unit_view *views, size_t max);

/*
 * The snapshot of an open unit for a reader beside it (uncommitted_snapshot_share()). False: there
 * is no such unit, or it has none. *ret_id: the unit's.
 */
bool unit_table_share_snapshot(struct unit_table *table, const struct unit_session_key *key,
                               struct uncommitted_table *uncommitted,
                               struct uncommitted_owner *into, uint64_t *ret_id);

/* Stops waiting. True: `ready` will not be called. */
bool unit_table_cancel(struct unit_table *table, struct unit_waiter *waiter);

/*
 * Gives the unit back. Returns a reason if it must be rolled back first: then it is still checked
 * out, and the caller rolls it back and checks it in again. An ended unit is freed.
 */
MUST_CHECK const char *unit_table_checkin(struct unit_table *table, struct unit *unit);

/*
 * Takes an open unit to roll it back: returns it checked out, or NULL if there is none or somebody
 * works on it, who is then told at check-in. `reason` is a literal. *ret_found (may be NULL): there
 * is one.
 */
struct unit *unit_table_take(struct unit_table *table, uint64_t id, const char *reason,
                             bool *ret_found);

/* The same for the open unit of a key. */
struct unit *unit_table_take_key(struct unit_table *table, const struct unit_session_key *key,
                                 const char *reason);

/* The same for the open unit of a session. */
struct unit *unit_table_take_session(struct unit_table *table, const char *user,
                                     struct slice session_id, const char *reason);

/* A unit that is older than `lifetime_ms`, or than its own lifetime, and is not being worked on,
   taken; those that are are marked. */
struct unit *unit_table_take_expired(struct unit_table *table, uint64_t lifetime_ms,
                                     const char *reason);

/* Any open unit that nobody works on; marks all others. For the end of the process. */
struct unit *unit_table_take_any(struct unit_table *table, const char *reason);

/* Any open unit that nobody works on and that has written something, or put it off, or relies on
   what it has read (it is serializable); marks all that are being worked on. */
struct unit *unit_table_take_begun(struct unit_table *table, const char *reason);

size_t unit_table_open_count(struct unit_table *table);

/* Of the open ones, those that somebody works on. */
size_t unit_table_busy_count(struct unit_table *table);

/* ---- whose client has gone */

/* A connection has closed: its units are orphans until another connection of that client adopts
   them. `recent` are digests of the sessions the connection has carried. */
void unit_table_orphan(struct unit_table *table, uint64_t connection,
                       const uint64_t recent[UNIT_RECENT_SESSIONS], uint64_t now_ms);

struct unit_orphan {
    uint64_t unit;
    uint64_t recent_sessions[UNIT_RECENT_SESSIONS];
};

/* The next orphan since before `orphaned_before_ms` for which nobody searches yet; marks it so. */
bool unit_table_next_orphan(struct unit_table *table, uint64_t orphaned_before_ms,
                            struct unit_orphan *ret_orphan);

/* A connection of the same client lives: it is no orphan any more. 0: none was found; the search
   is over, and true says that it is still an orphan. */
bool unit_table_adopt(struct unit_table *table, uint64_t unit, uint64_t connection);

/* ---- the unit itself, by who has it checked out */

void unit_state_set(struct unit *unit, enum unit_state state);

/* A cursor that a serializable unit has opened. Beyond UNIT_CURSORS_MAX, and without memory, the
   oldest are forgotten. */
void unit_cursor_note(struct unit *unit, int64_t cursor_id);
bool unit_cursor_is_known(const struct unit *unit, int64_t cursor_id);

/* The server has told the after-image of write `number` (copied). STATUS_MEMORY. */
MUST_CHECK enum status unit_learn(struct unit *unit, int32_t number, struct image after);
/* The server did not carry out write `number`. STATUS_MEMORY. */
MUST_CHECK enum status unit_learn_refused(struct unit *unit, int32_t number);
/* It came to this gate too late; see `missed`. */
void unit_miss_gate(struct unit *unit, uint32_t gate);
/* The first `count` entries of `known` are in the journal now. */
void unit_known_drop(struct unit *unit, size_t count);

#endif
