#ifndef HOLDFAST_WAL_SCAN_H
#define HOLDFAST_WAL_SCAN_H

/*
 * What the parts of verification share. Private to wal/.
 *
 *   scan.c        parent and child
 *   scan_pages.c  the pages, without LMDB
 *   scan_rows.c   the tables, through LMDB: records, units, chains, and that they agree
 *   scan_tail.c   the tail, and that it continues the tables
 *   scan_note.c   what is found
 *
 * All but the first is the child's, on its only thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wal/rows.h"
#include "wal/store.h"

/* Shared between parent and child. */
struct scan {
    const char *directory;
    bool everything;
    bool without_tail;  /* a copy that is not in its place yet: it has none, whatever it says */
    enum status status; /* of the scan itself, for example STATUS_VERSION */
    struct error error;
    bool pages_damaged;
    bool tail_damaged; /* something that counts is missing from it */
    bool rows_checked; /* all rows, while the pages were walked */
    bool finished;
    char doing[64]; /* for the parent, should the child die */
    uint64_t at;    /* LSN or unit that `doing` has come to */
    struct wal_verification found;
};

/* ---- scan_note.c */

void scan_note_damage(struct scan *scan, const struct wal_damage *damage);
/* Damage of a record, or with LSN 0 of the structure. */
void scan_note(struct scan *scan, uint64_t lsn, const char *message);
void scan_note_unit(struct scan *scan, uint64_t lsn, uint64_t unit, const char *what);
/* A record's damage was found on its page; now it is known whose record it is. */
void scan_note_whose(struct scan *scan, uint64_t lsn, uint64_t unit);
void scan_now_doing(struct scan *scan, const char *doing);
/* A table cannot be walked any further. */
bool scan_is_end(struct scan *scan, enum status status, const struct error *error);

/* ---- scan_pages.c */

/* Without a transaction: of a file that LMDB makes nothing of. STATUS_MEMORY, STATUS_IO. */
MUST_CHECK enum status scan_check_pages(struct scan *scan, struct store_transaction *transaction,
                                        struct error *ret_error);
/* Of the snapshot that *ret_transaction then is. Errors: as scan_check_pages() and store_begin().
 */
MUST_CHECK enum status scan_begin_and_check_pages(struct scan *scan, struct store *store,
                                                  struct store_transaction **ret_transaction,
                                                  struct error *ret_error);

/* ---- scan_rows.c */

void scan_check_everything(struct scan *scan, struct store_transaction *transaction);
void scan_check_what_opening_reads(struct scan *scan, struct store_transaction *transaction);

/* ---- scan_tail.c */

/* The tail's file as it was read. */
struct scan_tail {
    uint8_t *bytes; /* NULL: there is no file */
    size_t size;
};

/* Before the snapshot that scan_check_tail() gets. STATUS_IO, STATUS_MEMORY. */
MUST_CHECK enum status scan_read_tail(struct scan *scan, struct scan_tail *ret_tail,
                                      struct error *ret_error);
/* Checks and counts what the tail has beyond the tables. STATUS_MEMORY and the errors of reading
   again, see scan_tail.c. */
MUST_CHECK enum status scan_check_tail(struct scan *scan, struct store *store,
                                       struct store_transaction *transaction,
                                       const struct scan_tail *tail, struct error *ret_error);

#endif
