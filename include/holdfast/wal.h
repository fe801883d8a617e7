#ifndef HOLDFAST_WAL_H
#define HOLDFAST_WAL_H

/*
 * The journal: an append-only sequence of records in an LMDB environment, with group commit, and
 * before it a tail that holds the newest groups until the tables have them (wal/tail.h).
 *
 * READ THIS FIRST
 *  - A journal has one owner: the process that opened it for writing. wal_open() takes a lock that
 *    the kernel releases when that process dies. Other processes may open it read-only at any time.
 *  - One environment must never be opened twice in one process (LMDB's rule; POSIX locks).
 *  - The directory must be on a local filesystem. Network filesystems break LMDB's locks and are
 *    refused.
 *  - With WAL_DURABILITY_POWER a completion means that the records survive a power cut. With
 *    WAL_DURABILITY_PROCESS they survive kill -9 of the process, not a power cut; after a power cut
 *    the journal itself may be unreadable.
 *  - After an error from the disk (STATUS_IO) nothing is retried: every later append fails with the
 *    same status. The process should end and recover.
 *
 * Words (ARIES: C. Mohan et al., "ARIES: A Transaction Recovery Method", TODS 1992)
 *  - LSN: a record's number, from 1, without gaps at the moment of writing; never reused, also not
 *    after pruning or a restart.
 *  - previous LSN: the LSN of the same unit's record before this one, 0 for its first.
 *  - unit: an atomic group of writes; its number comes from wal_unit_next() and is never reused.
 *
 * The bytes of a record are laid out in wal/format.h. Payloads are opaque here.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/histogram.h"
#include "holdfast/limits.h"
#include "holdfast/slice.h"

struct wal;
struct wal_reader;

enum wal_durability {
    WAL_DURABILITY_POWER,   /* fdatasync before each completion */
    WAL_DURABILITY_PROCESS, /* in the page cache before each completion */
};

/* What a record says. The numbers are in the files: never change one, only add. */
#define WAL_KIND_LIST(X)                                                                           \
    X(BEGIN, 1)      /* a unit begins; first record of every unit */                               \
    X(WRITE, 2)      /* before-image and command of one document write, before it leaves */        \
    X(COMMIT, 3)     /* the unit is committed; nothing of it may be undone any more */             \
    X(ABORT, 4)      /* the unit is rolled back: every before-image is in place again */           \
    X(OUTCOME, 5)    /* reserved: the recorded reply of a retryable command */                     \
    X(SETTLED, 6)    /* reserved: the upstream has itself made everything up to an LSN durable */  \
    X(CONFLICT, 7)   /* the unit is set aside for an operator; it holds no locks any more */       \
    X(CHECKPOINT, 8) /* reserved */                                                                \
    X(COMMITTING, 9) /* native engine: the server is about to be asked to commit the unit's        \
                        transaction; how that ended only the server knows */

enum wal_kind {
#define X(name, number) WAL_KIND_##name = number,
    WAL_KIND_LIST(X)
#undef X
};

/* "BEGIN", ...; NULL for a number that is no kind. */
const char *wal_kind_name(enum wal_kind kind);

/* A unit's state is the kind of its last record. */
#define WAL_UNIT_STATE_LIST(X)                                                                     \
    X(OPEN) /* last record BEGIN or WRITE: recovery will roll it back */                           \
    X(COMMITTED)                                                                                   \
    X(ABORTED)                                                                                     \
    X(CONFLICT)                                                                                    \
    X(COMMITTING) /* last record COMMITTING: recovery will ask the server */

enum wal_unit_state {
#define X(name) WAL_UNIT_##name,
    WAL_UNIT_STATE_LIST(X)
#undef X
};

/* "open", "committed", "aborted", "conflict", "committing". Never NULL. */
const char *wal_unit_state_name(enum wal_unit_state state);

struct wal_record {
    uint64_t lsn;
    uint64_t unit;
    uint64_t previous_lsn; /* 0: the unit's first record */
    uint64_t time_ms;      /* wall clock at the append, milliseconds since 1970 */
    enum wal_kind kind;
    struct slice payload; /* valid until wal_reader_forget() or the reader's end */
    bool encrypted;       /* the payload is not readable: never so from wal_read() */
};

struct wal_unit {
    uint64_t unit;
    uint64_t first_lsn;
    uint64_t last_lsn;
    uint64_t begin_time_ms;
    uint64_t last_time_ms;
    enum wal_unit_state state;
};

/* What a retried command is recognised by: the session's newest transaction number and its unit. */
struct wal_session {
    int64_t transaction_number;
    uint64_t unit;
    enum wal_unit_state unit_state;
    uint64_t time_ms; /* when it was last changed */
};

#define WAL_JOURNAL_ID_BYTES 16

struct wal_options {
    const char *directory; /* made with mode 0700 if absent and not read_only */
    uint64_t quota_bytes;  /* at least 1 MiB; the map is a little larger (reserve) */
    enum wal_durability durability;
    bool read_only;    /* only a readers' lock, for wal_compact(); no thread, nothing changed */
    const char *owner; /* a short text for the lock file, shown to who is refused */
    /* Payloads are encrypted with the key in this file, see wal_change_key(). NULL: they are not; a
       journal that is encrypted can then be opened to read only, and no record of it read. */
    const char *key_file;
    /* The owner's lock that wal_close_for() of a living process has left open, inherited; it is
       closed with the journal, or if opening fails. 0: the lock is taken here. */
    int owner_lock;
};

/*
 * Opens, and unless read_only makes, the journal in options->directory.
 *
 * Errors: STATUS_OWNED (a live process owns it: the message names its pid and owner text),
 * STATUS_VERSION (another format version: names both), STATUS_CORRUPT, STATUS_UNSUPPORTED (network
 * filesystem), STATUS_NOT_FOUND (read_only and there is no journal), STATUS_INVALID (options; a key
 * file that is missing, not safe, or not the journal's),
 * STATUS_FULL, STATUS_IO (unwritable directory and the like: names the path).
 * The caller owns *ret_wal and gives it to wal_close().
 */
MUST_CHECK enum status wal_open(const struct wal_options *options, struct wal **ret_wal,
                                struct error *ret_error);

/*
 * Waits until everything submitted is completed, writes the clean-shutdown mark if `clean`, stops
 * the writer, releases the lock. NULL is harmless. Returns NULL. No reader may be left.
 */
struct wal *wal_close(struct wal *wal, bool clean);

/*
 * The same, but the owner's lock goes on being held by *ret_lock, for a successor's
 * wal_options.owner_lock: nobody else comes between. Whoever closes all copies of that descriptor
 * gives the lock free.
 */
struct wal *wal_close_for(struct wal *wal, bool clean, int *ret_lock);

/* 16 random bytes, made with the journal; they name it for ever. Valid while `wal` is open. */
const uint8_t *wal_journal_id(const struct wal *wal);

/* True if the owner before us ended with wal_close(..., true), and for a journal just made. */
bool wal_was_clean(const struct wal *wal);

/*
 * Where a journal's data lies, to tell it from a copy of itself.
 *
 * `file` is another one for each copy that was made file by file (its inode and when that was
 * made), and stays with the disk if that is attached to another machine. `host` names the running
 * kernel and the device: two processes with both alike share the owner's lock. Empty: not known,
 * which is like no other. A snapshot of a whole disk has the `file` of its original.
 */
struct wal_place {
    char file[64];
    char host[64];
};

/*
 * Before wal_open() of the journal that this process is to own: closes an existing directory of
 * ours to everybody else (0700) and sets *ret_narrowed if it was not. Errors: STATUS_INVALID
 * (somebody else's, that everybody may write to), STATUS_IO.
 */
MUST_CHECK enum status wal_directory_protect(const char *directory, bool *ret_narrowed,
                                             struct error *ret_error);

/* Any thread. Errors: STATUS_IO, STATUS_INVALID (path too long). */
MUST_CHECK enum status wal_place_get(const char *directory, struct wal_place *ret_place,
                                     struct error *ret_error);

/* Of this journal as it was opened. Valid while `wal` is open. */
const struct wal_place *wal_place(const struct wal *wal);

/* The newest LSN that is durable; 0 in an empty journal. Any thread. */
uint64_t wal_last_lsn(const struct wal *wal);

/* A new unit number: greater than every one ever used in this journal. Any thread; lock-free. */
uint64_t wal_unit_next(struct wal *wal);

/* ------------------------------------------------------------------ appending */

/*
 * One record to append. The caller owns it and everything it points to, and leaves all of it
 * untouched from wal_append() until `completed` was called.
 */
struct wal_append {
    /* filled in by the caller */
    enum wal_kind kind;
    uint64_t unit;
    struct slice payload;
    struct wal_append *next; /* further records of the same atomic group, or NULL */
    /* On BEGIN: the session and transaction number to remember the unit by; size 0: none. */
    struct slice session_key; /* up to LIMIT_SESSION_KEY_BYTES */
    int64_t transaction_number;
    /* Called once per group, on its first record, on the writer thread, after the group is durable
       or has failed. Must not block and must not call into the journal except wal_append(). */
    void (*completed)(struct wal_append *first, void *context);
    void *context;
    /* On a group's first record: nobody waits for it. It goes with the next group that somebody
       waits for, or by itself after WAL_UNHURRIED_MS; so it costs no sync of its own. */
    bool unhurried;
    /* Likewise, where several have lately shared a commit: how long the writer may wait for more,
       at most WAL_PATIENCE_US_MAX, instead of the short time that it takes by itself; 0: that. */
    uint32_t patience_us;
    /* filled in by the journal before `completed` */
    uint64_t lsn;       /* 0 if it failed */
    enum status status; /* OK, FULL (the quota or the disk: nothing was written, later groups may
                           succeed), IO (final), INVALID (the group breaks the rules below) */
    /* private to the journal */
    struct wal_append *queue_next;
};

/* Longer than a unit of a few writes takes, whose BEGIN is to go with its commit; short, for a kill
   before leaves that unit's transaction open at the server (recover/native_left.h). */
#define WAL_UNHURRIED_MS 20u
#define WAL_PATIENCE_US_MAX 2000u

/* The payload of a record for which there is room even in a full journal: see wal_append(). */
#define WAL_SHORT_PAYLOAD_BYTES 512u

/*
 * Appends a group of records atomically: after a crash all of them are there or none. Groups are
 * written in the order of the calls; many groups share one sync. Never blocks on the disk. Any
 * thread.
 *
 * Rules (broken: STATUS_INVALID): a unit's first record is BEGIN; nothing follows ABORT; after
 * COMMIT only CONFLICT (the server has lost it and it cannot be done again); after CONFLICT only
 * COMMIT, ABORT or CONFLICT (an operator's decision); after COMMITTING only COMMIT, ABORT or
 * CONFLICT.
 *
 * Space: BEGIN, WRITE and COMMITTING fail with FULL at options.quota_bytes; COMMIT, ABORT and
 * CONFLICT may use a reserve beyond it. In the reserve each unit that has not ended has a place of
 * its own for one CONFLICT and one ABORT or COMMIT, if the record is alone in its group and has a
 * payload of up to WAL_SHORT_PAYLOAD_BYTES: these always fit, so that what is open can always be
 * ended. A larger end may fail with FULL when the reserve is short; then end the unit with a short
 * one.
 */
void wal_append(struct wal *wal, struct wal_append *first);

/* The same, and waits for the completion. Not from the writer thread or an event loop. */
MUST_CHECK enum status wal_append_wait(struct wal *wal, struct wal_append *first,
                                       struct error *ret_error);

/* ------------------------------------------------------------------ reading */

/*
 * A reader sees one snapshot of the journal. Keep it short: while it is open, freed pages of the
 * file cannot be used again. One thread at a time per reader; any number of readers.
 * Errors: STATUS_CORRUPT, STATUS_IO.
 */
MUST_CHECK enum status wal_reader_begin(struct wal *wal, struct wal_reader **ret_reader,
                                        struct error *ret_error);
/* Gives back the memory of payloads that were decrypted: for whoever reads many records in one
   snapshot. The payloads that the reader has returned are not valid any more. */
void wal_reader_forget(struct wal_reader *reader);
/* NULL is harmless; returns NULL. */
struct wal_reader *wal_reader_end(struct wal_reader *reader);

/*
 * Reads the record `lsn`, checked: magic, version, length, CRC-32C, key against header; decrypted.
 * Errors: STATUS_NOT_FOUND, STATUS_CORRUPT (names the LSN and what is wrong), STATUS_INVALID (it is
 * encrypted and the journal was opened without a key file), STATUS_MEMORY.
 */
MUST_CHECK enum status wal_read(struct wal_reader *reader, uint64_t lsn,
                                struct wal_record *ret_record, struct error *ret_error);

/* The first record with an LSN greater than `after_lsn`. Errors: as wal_read(). */
MUST_CHECK enum status wal_read_next(struct wal_reader *reader, uint64_t after_lsn,
                                     struct wal_record *ret_record, struct error *ret_error);

/* The unit `unit`. Errors: STATUS_NOT_FOUND, STATUS_CORRUPT. */
MUST_CHECK enum status wal_read_unit(struct wal_reader *reader, uint64_t unit,
                                     struct wal_unit *ret_unit, struct error *ret_error);

/* The first unit with a number greater than `after_unit`. Errors: as wal_read_unit(). */
MUST_CHECK enum status wal_read_unit_next(struct wal_reader *reader, uint64_t after_unit,
                                          struct wal_unit *ret_unit, struct error *ret_error);

/*
 * The same among the units that are not ended: state OPEN or CONFLICT. Costs what those cost, not
 * what the journal holds.
 */
MUST_CHECK enum status wal_read_open_next(struct wal_reader *reader, uint64_t after_unit,
                                          struct wal_unit *ret_unit, struct error *ret_error);

/* The session of `key`. Errors: STATUS_NOT_FOUND, STATUS_CORRUPT. */
MUST_CHECK enum status wal_read_session(struct wal_reader *reader, struct slice key,
                                        struct wal_session *ret_session, struct error *ret_error);
/*
 * The first session whose key is greater than `after`, byte by byte; size 0: the first of all. Its
 * key is copied: LIMIT_SESSION_KEY_BYTES at most. Errors: STATUS_NOT_FOUND (no further one),
 * STATUS_CORRUPT.
 */
MUST_CHECK enum status wal_read_session_next(struct wal_reader *reader, struct slice after,
                                             uint8_t ret_key[LIMIT_SESSION_KEY_BYTES],
                                             size_t *ret_key_size, struct wal_session *ret_session,
                                             struct error *ret_error);

/* ------------------------------------------------------------------ properties, retention, figures
 */

/*
 * Small durable properties by name (up to 64 characters), for example the upstream's identity.
 * wal_property_set() waits for the disk; not from an event loop. wal_property_get() copies up to
 * `capacity` bytes and stores the property's whole size. A name that begins with a dot is the
 * journal's own: STATUS_INVALID. Errors: STATUS_NOT_FOUND, FULL, IO, CORRUPT.
 */
#define WAL_PROPERTY_BYTES_MAX (1024u * 1024u)
MUST_CHECK enum status wal_property_set(struct wal *wal, const char *name, struct slice value,
                                        struct error *ret_error);
MUST_CHECK enum status wal_property_get(struct wal *wal, const char *name, void *buffer,
                                        size_t capacity, size_t *ret_size, struct error *ret_error);

struct wal_prune_options {
    uint64_t ended_before_ms; /* units that ended (COMMITTED, ABORTED) before that go */
    /* But not those whose last record is newer than this: the server may not have made them durable
       yet, and only their records could bring them back. UINT64_MAX: that is no matter. */
    uint64_t settled_lsn;
    /* Units whose session key begins so stay until they ended before `kept_ended_before_ms`. Size
       0: none does. */
    struct slice kept_prefix;
    uint64_t kept_ended_before_ms;
    /* Asked between two transactions, on the caller's thread, so that it may also wait a little and
       leave the disk to others. False: no further one. NULL: all at once. */
    bool (*go_on)(void *context);
    void *context;
};

/*
 * Removes units that ended, their records, and sessions that name them, in short transactions on
 * the writer thread: appends go on in between. Open units and conflicts stay. Waits, for as long as
 * the backlog takes; not from an event loop. *ret_units (may be NULL): how many, also on failure
 * and where `go_on` ended it.
 */
MUST_CHECK enum status wal_prune(struct wal *wal, const struct wal_prune_options *options,
                                 uint64_t *ret_units, struct error *ret_error);

/*
 * How many units wal_prune() would remove now, counted up to `limit`. Changes nothing, works on a
 * journal that was opened to read only, in short snapshots. `go_on` is not asked.
 */
MUST_CHECK enum status wal_prune_count(struct wal *wal, const struct wal_prune_options *options,
                                       uint64_t limit, uint64_t *ret_units,
                                       struct error *ret_error);

/*
 * Gives the space of removed records back to the disk: writes what is left into a new file beside
 * the journal's, checks it, and puts it in its place by a rename. Nobody may have the journal open:
 * it takes the owner's lock, and STATUS_OWNED also says that a process reads it. A crash at any
 * step leaves the old file whole or the new one. Needs as much room on the disk as what is left.
 * The process must have no threads that hold locks (it forks). *ret_before, *ret_after: the file's
 * size. Errors: as wal_open(); a damaged journal is left as it is.
 */
MUST_CHECK enum status wal_compact(const char *directory, const char *owner, uint64_t *ret_before,
                                   uint64_t *ret_after, struct error *ret_error);

/*
 * Writes the journal as it is at this moment into `directory`, which is made, or is there without a
 * journal; for a journal that was opened to read only, while its owner goes on. Pages that are
 * freed meanwhile are not used again before it is done. To the lease it is a copy
 * (recover/lease.h). After an error there is no journal in `directory`.
 * Errors: STATUS_EXISTS, STATUS_IO, STATUS_FULL, STATUS_INVALID.
 */
MUST_CHECK enum status wal_copy(struct wal *wal, const char *directory, struct error *ret_error);

/* ------------------------------------------------------------------ encryption at rest */

/*
 * What is encrypted, and how: wal/cipher.h. A key file holds 32 random bytes in base64 (`openssl
 * rand -base64 32`), readable by its owner only, or root's and readable by a group. A journal
 * opened with a key file for the first time is encrypted from there on; the records that it had
 * stay as they are until retention removes them and wal_compact() their pages.
 */

/*
 * Wraps the journal's data keys with the key in another file, in one transaction: from then on only
 * that file opens it. Waits. Who has it open to read may go on.
 * Errors: STATUS_INVALID (not encrypted, or the file), STATUS_FULL, STATUS_IO.
 */
MUST_CHECK enum status wal_change_key(struct wal *wal, const char *key_file,
                                      struct error *ret_error);

struct wal_statistics {
    uint64_t quota_bytes;
    uint64_t used_bytes; /* pages in use, without pages free for use again */
    uint64_t records;
    uint64_t first_lsn; /* 0: none */
    uint64_t last_lsn;
    uint64_t last_unit;  /* the highest number ever given out to one that wrote */
    uint64_t pruned_lsn; /* the highest one that retention has removed; 0: none */
    uint64_t units_open; /* OPEN or COMMITTING */
    uint64_t units_conflict;
    uint64_t commits; /* of the tables, since the journal was made or compacted, by whomever */
    uint64_t batches; /* how often groups were made durable together since wal_open() */
    uint64_t groups;  /* groups appended since wal_open() */
};

/* How long batches of groups took to be durable since wal_open(): with durability `power`, their
   syncs. Any thread. Valid while `wal` is open. */
const struct histogram *wal_commit_times(const struct wal *wal);

MUST_CHECK enum status wal_statistics_get(struct wal *wal, struct wal_statistics *ret_statistics,
                                          struct error *ret_error);

/*
 * Whether new units could be journaled at this moment, as far as can be told without writing: for
 * health checks. Never waits for the writer or a sync. Any thread.
 *
 * STATUS_OK; STATUS_FULL (records were refused for lack of room, and the quota or the disk that was
 * short still is); STATUS_IO (the disk has failed; final); STATUS_INVALID (read_only); and the
 * errors of reading.
 */
MUST_CHECK enum status wal_check_writable(struct wal *wal, struct error *ret_error);

/* ------------------------------------------------------------------ verification */

#define WAL_NO_OFFSET UINT64_MAX

struct wal_damage {
    uint64_t lsn;      /* 0: not a record but the journal's structure */
    uint64_t unit;     /* whose record or row it is; 0: nobody's, or not known */
    uint64_t offset;   /* in data.mdb; WAL_NO_OFFSET: in no one place */
    char message[256]; /* what is wrong */
};

struct wal_verification {
    uint64_t records_checked;
    uint64_t units_checked;
    uint64_t damage_count;
    uint32_t page_bytes; /* of data.mdb: the page of an offset is offset / page_bytes; 0: unknown */
    struct wal_damage damage[32]; /* the first ones */
};

/*
 * Checks every page of data.mdb and every record (as wal_read() does), that every unit's chain of
 * previous LSNs is whole, that unit states agree with last records, and the open and session
 * indexes. LMDB has no page checksums and may crash on a damaged page: the work is done in a child
 * process, whose death is reported as damage of the structure. May run while the journal's owner
 * runs. Not from a process with threads that hold locks (it forks): CLI and start of the daemon
 * only.
 *
 * STATUS_OK: it could be done, see *ret_verification for what was found. Errors: as wal_open() with
 * read_only.
 */
MUST_CHECK enum status wal_verify(const char *directory, struct wal_verification *ret_verification,
                                  struct error *ret_error);

/* ------------------------------------------------------------------ salvage */

struct wal_salvage_options {
    const char *directory; /* of the damaged journal, which is only read */
    const char *target;    /* a new journal is made here: absent, or a directory without one */
    const char *key_file;  /* of an encrypted journal, for what is told of lost records; or NULL */
    /* Called for each unit that is not in the new journal, with what is wrong, and then for each of
       its records that is intact, in order; `record` is valid during the call. May be NULL. */
    void (*lost_unit)(void *context, const struct wal_unit *unit, const char *why);
    void (*lost_record)(void *context, const struct wal_record *record);
    void *context;
};

struct wal_salvage {
    uint64_t damage_count; /* of the pages and rows; 0: the journal is sound */
    uint64_t units_kept;
    uint64_t units_lost;
    uint64_t records_kept;
    uint64_t records_lost; /* intact ones, of units that are lost */
    uint64_t sessions_lost;
    uint64_t properties_lost;
    bool end_lost; /* of what was changed last, something is lost: see wal_salvage_run() */
    uint8_t journal_id[WAL_JOURNAL_ID_BYTES];
};

/*
 * Makes a new journal, with the same id, out of everything that is provably intact in a damaged
 * one.
 *
 * A unit is kept, under its own number and with the LSNs and times of its records, if its row is
 * intact and every record of its chain is: found by the tables, or by its own bytes on a page that
 * is not free, and with the right checksum. Else nothing of it is kept, for a part of a unit could
 * neither be undone nor be called done. What the database holds of a lost unit stays as it is
 * there.
 *
 * If the newest meta page is damaged, the one before it leads to the journal as it was a
 * transaction earlier. Then units that were open in it are lost as well: they may have been
 * committed since. The same if a part of the tail is missing. What is whole of the tail counts.
 *
 * The new journal's numbers go on far behind those of the old one, so that none is given out again
 * that was on a lost page. To the lease it is a copy (recover/lease.h).
 *
 * The journal must have no owner. Reads without LMDB, so no damage can crash it.
 *
 * Errors: STATUS_OWNED, STATUS_NOT_FOUND, STATUS_CORRUPT (not even the journal's id and version are
 * intact: nothing can be kept), STATUS_VERSION, STATUS_INVALID (there is a journal in `target`, or
 * it is the damaged one), STATUS_FULL, STATUS_IO. After an error there is no journal in `target`.
 */
MUST_CHECK enum status wal_salvage_run(const struct wal_salvage_options *options,
                                       struct wal_salvage *ret_salvage, struct error *ret_error);

#endif
