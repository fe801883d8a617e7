#ifndef HOLDFAST_UNIT_UNCOMMITTED_H
#define HOLDFAST_UNIT_UNCOMMITTED_H

/*
 * Which documents the server shows as no commit has left them: written by units that are open, and
 * where their before-images are. It is what a reader must know to see the committed state.
 *
 * A unit *publishes* a document before its first write to it leaves, and takes it back when it has
 * ended: committed, its images restored, or set aside. So at each moment
 *
 *     committed state = what the server holds, without the published documents
 *                       + their before-images
 *
 * All documents of a unit go at once, with the mutex held: a reader that collects sees a commit
 * wholly or not at all.
 *
 * No window. A reader looks, then the server evaluates; a unit may publish in between. Each
 * publication counts up the *stamp* of its gate (a namespace, unit/gate.h), before the write
 * leaves:
 *
 *     reader:  stamp, then who is published  ->  send  ->  reply  ->  same stamp?  -- yes -> answer
 *                                                                     no -> all over again
 *     unit:    publish: stamp++, in the table  ->  send the write
 *
 * With the same stamp no write that the reader does not know of had left before the reply was
 * there. What else may have changed meanwhile is committed (plain writes, commits) or was left out
 * by the reader (writes to, and undo of, what it knew to be published). A reader without luck takes
 * a *turn*: until it ends it, publications in that gate wait. Who waits longest goes first: turns
 * that come while units wait begin behind them.
 *
 * For reads of one document there are finer stamps by its name (UNCOMMITTED_STRIPES of them; two
 * names that share one only make a reader look twice).
 *
 * Threads: any; one mutex, short sections. The looks that a reader without units in its way needs,
 * uncommitted_stamp() and uncommitted_is_empty(), take none. Callbacks come with no lock held, from
 * the thread that ended what was waited for.
 *
 * Memory: about 250 bytes and the _id for each document that an open unit has written (the lock
 * table's `locks_max` bounds them).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "unit/lock_table.h"

struct uncommitted_table;

/* A document, and where its before-image is in the journal. Never changes once it is published. */
struct uncommitted_document {
    const char *namespace; /* "database.collection", owned by the document, as `key` */
    struct slice key;      /* {_id: value} */
    struct lock_name name;
    uint64_t unit;
    uint64_t group;   /* see struct uncommitted_reader; 0: none */
    bool was_present; /* false: there was no document before */
    uint64_t lsn;     /* the image, as what follows: its record, and where in the payload */
    uint32_t offset;  /* bytes */
    uint32_t size;    /* bytes; 0 if absent */
    struct uncommitted_links *links; /* private */
};

/* What a unit has published; lies in the unit. Zero-initialised, but for unit and group. */
struct uncommitted_owner {
    uint64_t unit;
    uint64_t group;
    struct uncommitted_document *first; /* private, as the next */
    struct uncommitted_links *heads;
    uint64_t snapshot_at; /* uncommitted_snapshot_begin(), as the next two */
    uint64_t plain_epoch;
    bool has_snapshot;
    bool is_look;                    /* private */
    struct uncommitted_owner *older; /* private: list of those with a snapshot */
    struct uncommitted_owner *younger;
};

/* `past_max`: see uncommitted_snapshot_begin(). NULL: out of memory. */
struct uncommitted_table *uncommitted_table_new(size_t past_max);
/* Nothing is published or waits, and no snapshot is left. NULL is harmless; returns NULL. */
struct uncommitted_table *uncommitted_table_free(struct uncommitted_table *table);

/* ------------------------------------------------------------------ units */

/* A document to publish, with copies of namespace and key. NULL: out of memory. */
struct uncommitted_document *uncommitted_document_new(const char *namespace, struct slice key,
                                                      const struct lock_name *name);
/* What it takes of a command of a reader, or a little more (read/rewrite.h). */
static inline uint64_t uncommitted_document_bytes(const struct uncommitted_document *document)
{
    return document->size + 3 * (uint64_t)document->key.size + 64;
}
/* One that was not published, or a reader's. NULL is harmless. */
void uncommitted_document_release(struct uncommitted_document *document);

/* Lies in the caller's memory until it is published. */
struct uncommitted_publication {
    struct uncommitted_owner *owner;
    uint32_t gate; /* that of the namespace of all its documents */
    /* They belong to the table from the call on; the array stays the caller's. One whose document
       this unit has published before is dropped: the first image is the committed one. */
    struct uncommitted_document **documents;
    size_t count;
    void (*published)(struct uncommitted_publication *publication);
    /* private */
    struct uncommitted_publication *next;
};

/*
 * True: published. False: readers have their turn; `published` will be called.
 *
 * With a count of 0: asks to be admitted. Who has locked nothing yet does so before it begins to,
 * if uncommitted_is_draining(): there, not with locks that others wait for, it is kept waiting.
 */
bool uncommitted_publish(struct uncommitted_table *table,
                         struct uncommitted_publication *publication);
/* True: it waited, and will not be published; its documents are the caller's again. False:
   `published` is on its way. */
bool uncommitted_publish_cancel(struct uncommitted_table *table,
                                struct uncommitted_publication *publication);

/*
 * The unit has ended, and what the server holds is committed. Call it before its locks go.
 * `changed`: that is what the unit has written; false: it was undone.
 */
void uncommitted_end(struct uncommitted_table *table, struct uncommitted_owner *owner,
                     bool changed);

/*
 * From now on, until the unit ends, reads for it can see what is committed at this moment: what
 * units change that end later stays in the table, with its before-image, as long as somebody began
 * before. At most `past_max` documents: beyond, the oldest are forgotten, and who began
 * before that has no snapshot any more. Harmless if it was called before.
 *
 * `plain_epoch`: gate_epoch_next() right before, kept with it: plain writes are not published.
 */
void uncommitted_snapshot_begin(struct uncommitted_table *table, struct uncommitted_owner *owner,
                                uint64_t plain_epoch);
/* Its snapshot, if it has one, which nobody has read yet, is of this moment from now on. */
void uncommitted_snapshot_renew(struct uncommitted_table *table, struct uncommitted_owner *owner,
                                uint64_t plain_epoch);
/* The same snapshot for `into`, which is zeros, until uncommitted_end() of that: of any thread, as
   long as `from` is there. False: `from` has none. */
bool uncommitted_snapshot_share(struct uncommitted_table *table, struct uncommitted_owner *from,
                                struct uncommitted_owner *into);

/*
 * For a write that searches what the server holds, and then wants to know what units had hidden
 * from that search: an owner of its own, which begins before the search and ends by
 * uncommitted_end(). It is a snapshot, in which also those documents stay that were undone since:
 * the search may have seen them before they were.
 */
void uncommitted_look_begin(struct uncommitted_table *table, struct uncommitted_owner *look);

/* ------------------------------------------------------------------ readers */

/*
 * Who reads: sees what its own unit has written, and what units of its group have; with a snapshot
 * nothing that was committed later. Zeros: nobody.
 */
struct uncommitted_reader {
    uint64_t unit;
    uint64_t group;
    uint64_t snapshot_at;
    bool has_snapshot;
};

/*
 * Some of what its snapshot is made of was forgotten. That may happen at any moment, and changes no
 * stamp: so each look says by itself whether it came too late.
 */
bool uncommitted_snapshot_is_lost(struct uncommitted_table *table,
                                  const struct uncommitted_reader *reader);

/* Read it before anything else; compare it when the reply is there. GATE_SERVER: of all gates. */
uint64_t uncommitted_stamp(const struct uncommitted_table *table, uint32_t gate);
/* Nothing of the gate is published. */
bool uncommitted_is_empty(const struct uncommitted_table *table, uint32_t gate);

/* The same of one document: nobody has published it (or one that shares its stripe). */
#define UNCOMMITTED_STRIPES 16384u
uint32_t uncommitted_name_stamp(const struct uncommitted_table *table,
                                const struct lock_name *name);
bool uncommitted_name_is_free(const struct uncommitted_table *table, const struct lock_name *name);

/* What somebody else than the reader has published under this name, or has changed since its
   snapshot, for release; NULL: nobody. STATUS_LIMIT: the snapshot is lost. */
MUST_CHECK enum status uncommitted_find(struct uncommitted_table *table,
                                        const struct lock_name *name,
                                        const struct uncommitted_reader *reader,
                                        struct uncommitted_document **ret_found);

struct uncommitted_view {
    uint64_t stamp; /* of the gate, at that moment */
    struct uncommitted_document **documents;
    size_t count;
};

/*
 * What others than the reader have published in a namespace, and what was changed there since its
 * snapshot: of each document the image that the reader sees. NULL: in all that share the gate
 * (GATE_SERVER: anywhere). Give it to uncommitted_view_free(). STATUS_LIMIT: together they are more
 * than `bytes_max` (uncommitted_document_bytes()); of a reader without a snapshot that is known
 * before documents are walked; or the snapshot is lost. STATUS_MEMORY.
 *
 * Its cost, with the mutex held: that of the documents it gives, and one step for each unit there.
 */
MUST_CHECK enum status uncommitted_collect(struct uncommitted_table *table, uint32_t gate,
                                           const char *namespace,
                                           const struct uncommitted_reader *reader,
                                           uint64_t bytes_max, struct uncommitted_view *ret_view);
void uncommitted_view_free(struct uncommitted_view *view);

/* Whether others than the reader have published anything in the gate; snapshots do not count. Its
   cost is a step for each unit that the reader sees. */
bool uncommitted_has_others(struct uncommitted_table *table, uint32_t gate,
                            const struct uncommitted_reader *reader);
/* Whether anything was changed there since the reader's snapshot, or that is lost. */
bool uncommitted_has_changed(struct uncommitted_table *table, uint32_t gate,
                             const struct uncommitted_reader *reader);

enum uncommitted_turn_kind {
    UNCOMMITTED_TURN_READ,  /* nobody publishes. For one read, and unit.lockWait at most */
    UNCOMMITTED_TURN_DRAIN, /* nobody is admitted, so that all end that are there. Not for long */
};

bool uncommitted_is_draining(const struct uncommitted_table *table, uint32_t gate);

/* Lies in the caller's memory from the call until it is ended. */
struct uncommitted_turn {
    uint32_t gate; /* GATE_SERVER: all */
    enum uncommitted_turn_kind kind;
    void (*begun)(struct uncommitted_turn *turn);
    /* private */
    bool queued;
    struct uncommitted_turn *next;
};

/* True: it has begun. False: units are before it; `begun` will be called. */
bool uncommitted_turn_begin(struct uncommitted_table *table, struct uncommitted_turn *turn);
/* False: `begun` is on its way, and the turn has to be ended after it. True: ended. */
bool uncommitted_turn_cancel(struct uncommitted_table *table, struct uncommitted_turn *turn);
void uncommitted_turn_end(struct uncommitted_table *table, struct uncommitted_turn *turn);

/*
 * A turn for reading without a lock, for a read that cannot be done again. True: nothing of the
 * gate is published, and nobody publishes until uncommitted_read_leave(). False: it has not begun.
 */
bool uncommitted_read_enter(struct uncommitted_table *table, uint32_t gate);
void uncommitted_read_leave(struct uncommitted_table *table, uint32_t gate);

/* A turn that has begun becomes one for reading, before those that it has kept waiting. */
void uncommitted_turn_make_read(struct uncommitted_table *table, struct uncommitted_turn *turn);

/* Lies in the caller's memory until it is called or taken back. */
struct uncommitted_watch {
    uint32_t gate; /* GATE_SERVER: any */
    void (*ended)(struct uncommitted_watch *watch);
    /* private */
    bool waiting;
    struct uncommitted_watch *next;
    struct uncommitted_watch *previous;
};

/* `ended` is called once, when a unit that has published in the gate ends. False: others than the
   reader have published nothing there (uncommitted_has_others()), and it will not be called. */
bool uncommitted_watch(struct uncommitted_table *table, struct uncommitted_watch *watch,
                       const struct uncommitted_reader *reader);
/* True: it will not be called. */
bool uncommitted_unwatch(struct uncommitted_table *table, struct uncommitted_watch *watch);

/* For figures and tests. */
size_t uncommitted_count(struct uncommitted_table *table);

#endif
