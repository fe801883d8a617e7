#ifndef HOLDFAST_ENGINE_NATIVE_PRIVATE_H
#define HOLDFAST_ENGINE_NATIVE_PRIVATE_H

/* Shared by the files of the native engine only. */

#include <pthread.h>
#include <uthash.h>

#include "engine/native.h"

#define NATIVE_PARTS 64u
/* A session and its user, as one key. */
#define NATIVE_KEY_BYTES (UNIT_SESSION_ID_BYTES + 512u)

enum native_state {
    NATIVE_OPEN,
    NATIVE_JOURNALING, /* COMMITTING is on its way to the disk */
    NATIVE_COMMITTING, /* it is durable, and the server has not said how it ended */
    NATIVE_ENDED,
};

/* A session's newest transaction. */
struct native_entry {
    UT_hash_handle hh;
    int64_t number;
    enum native_state state;
    bool wrote;
    bool set_aside; /* COMMITTING: a conflict by now, which a late "committed" yet ends */
    bool has_process;
    uint8_t process[UPSTREAM_PROCESS_BYTES]; /* that the commit was first sent to */
    uint64_t unit;                           /* JOURNALING, COMMITTING */
    uint64_t used_ms;
    uint64_t began_us;
    bson_t *commands; /* an array; NULL: none */
    uint32_t command_count;
    int32_t left; /* commands that there was no room for */
    size_t key_size;
    uint8_t key[];
};

struct native_part {
    _Alignas(64) pthread_mutex_t lock;
    struct native_entry *entries; /* uthash head; the longest unused first, more or less */
    size_t kept;                  /* bytes of all its entries' commands */
};

struct native_key {
    size_t size;
    uint8_t bytes[NATIVE_KEY_BYTES];
};

/* A commit whose outcome is not known. */
struct native_doubt {
    struct native_doubt *next;
    uint64_t unit;
    uint64_t since_ms; /* monotonic */
    bool counted;      /* see native_outcome_append() */
    bool set_aside;    /* it is a conflict already: only "committed" is news */
    bool unsent;       /* nobody has sent the commit: who may not ask has not committed it either */
    char *user;
    bson_t committing; /* payload, without commands */
    struct native_key key;
    int64_t number;
    uint64_t ask_at_ms;                                       /* monotonic */
    void (*told)(void *context, enum commit_verdict verdict); /* NULL: nobody waits any more */
    void *context;
};

/* A transaction that nobody will commit. */
struct native_abort {
    struct native_abort *next;
    char *user;
    bson_t lsid;
    bson_t api; /* parameters of its commands; may be empty */
    int64_t number;
};

struct native {
    struct native_options options;
    _Atomic uint64_t audit_bytes;
    struct native_part parts[NATIVE_PARTS];
    /* the thread that asks */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct native_doubt *doubts;
    size_t doubt_count;
    struct native_abort *aborts;
    size_t abort_count;
    bool stopping;
};

/* native.c */
void native_key_make(const char *user, struct slice session_id, struct native_key *ret_key);
/* Locks the part of the key. */
struct native_part *native_part_lock(struct native *native, const struct native_key *key);
struct native_entry *native_entry_find(struct native_part *part, const struct native_key *key);
/* The entry's transaction has committed: a commit that comes again passes. With the part's lock, as
   the next. */
void native_entry_end(struct native_part *part, struct native_entry *entry);
void native_entry_remove(struct native_part *part, struct native_entry *entry);

/* native_outcome.c: appends COMMIT or ABORT, or CONFLICT, which nobody waits for. `reply`: what
   COMMIT keeps, size 0: nothing. `counted`: the unit is counted elsewhere. */
void native_outcome_append(struct native *native, uint64_t unit, enum wal_kind kind,
                           const char *reason, struct slice reply, bool counted);
/* The same, and waits until it is there. Not from an event loop or the journal's writer thread. */
void native_outcome_append_wait(struct native *native, uint64_t unit, enum wal_kind kind,
                                const char *reason, struct slice reply, bool counted);
/* What is durable is not known any more: the next start recovers. */
_Noreturn void native_end_process(const char *message, uint64_t unit, enum status status);
/* To the session's entry, if it is still this unit's: it has ended, or is set aside (CONFLICT). */
void native_outcome_note(struct native *native, const struct native_key *key, uint64_t unit,
                         enum wal_kind kind);

/* native.c: the command as if its sequences had been in its body, without what is of its session
   only. False: it is no BSON. */
bool native_copy_command(const struct command_view *view, const struct op_msg *message,
                         bson_t *ret_copy);

/* native_asker.c. A doubt that came up now, with an empty `committing`, for native_asker_add();
   `user` is copied. NULL: out of memory. */
struct native_doubt *native_doubt_new(uint64_t unit, const char *user);
/* Takes the doubt over. If nobody waits for it, the client is given time to ask. */
void native_asker_add(struct native *native, struct native_doubt *doubt);
/* The client asks by itself: it is given time once more. */
void native_asker_defer(struct native *native, uint64_t unit);
/* The server is told to abort the transaction, once, if it can be reached: its own timeout does it
   else. */
void native_asker_abort(struct native *native, const char *user, const bson_t *lsid,
                        const bson_t *api, int64_t number);
MUST_CHECK enum status native_asker_start(struct native *native, struct error *ret_error);
/* Ends the thread. */
void native_asker_end(struct native *native);
/* After that: frees what it has left. */
void native_asker_free(struct native *native);
/* It was settled by somebody else. */
void native_asker_settled(struct native *native, uint64_t unit);

#endif
