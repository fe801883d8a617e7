#ifndef HOLDFAST_WAL_ROWS_H
#define HOLDFAST_WAL_ROWS_H

/*
 * Typed access to the store's rows: store.h moves bytes, format.h lays them out, this joins the
 * two. Private to wal/. Threads, lifetimes and errors: as in store.h; what fails its checksum is
 * STATUS_CORRUPT.
 */

#include "wal/format.h"
#include "wal/store.h"

MUST_CHECK enum status rows_record(struct store_transaction *transaction, uint64_t lsn,
                                   struct wal_record *ret_record, struct error *ret_error);
MUST_CHECK enum status rows_record_next(struct store_transaction *transaction, uint64_t after_lsn,
                                        struct wal_record *ret_record, struct error *ret_error);

MUST_CHECK enum status rows_unit(struct store_transaction *transaction, uint64_t unit,
                                 struct format_unit *ret_unit, struct error *ret_error);
/* The same, where it may well be that there is none: that is no error, and no sentence about it. */
MUST_CHECK enum status rows_unit_find(struct store_transaction *transaction, uint64_t unit,
                                      bool *ret_found, struct format_unit *ret_unit,
                                      struct error *ret_error);
MUST_CHECK enum status rows_unit_next(struct store_transaction *transaction, uint64_t after_unit,
                                      struct format_unit *ret_unit, struct error *ret_error);
/* Writes the row and its entry in the table `open`. `stands_open`: the row that is there now, if
   any, says that it has one. */
MUST_CHECK enum status rows_unit_put(struct store_transaction *transaction,
                                     const struct format_unit *unit, bool stands_open,
                                     struct error *ret_error);
MUST_CHECK enum status rows_open_next(struct store_transaction *transaction, uint64_t after_unit,
                                      uint64_t *ret_unit, struct error *ret_error);

MUST_CHECK enum status rows_session(struct store_transaction *transaction, struct slice key,
                                    struct format_session *ret_session, struct error *ret_error);
MUST_CHECK enum status rows_session_put(struct store_transaction *transaction, struct slice key,
                                        const struct format_session *session,
                                        struct error *ret_error);

MUST_CHECK enum status rows_property(struct store_transaction *transaction, const char *name,
                                     struct slice *ret_value, struct error *ret_error);
MUST_CHECK enum status rows_property_put(struct store_transaction *transaction, const char *name,
                                         struct slice value, struct error *ret_error);
MUST_CHECK enum status rows_property_delete(struct store_transaction *transaction, const char *name,
                                            struct error *ret_error);

/* A property of two 8-byte numbers (.floor, .prune). Both are 0 if there is none. */
MUST_CHECK enum status rows_pair(struct store_transaction *transaction, const char *name,
                                 uint64_t *ret_first, uint64_t *ret_second,
                                 struct error *ret_error);
MUST_CHECK enum status rows_pair_put(struct store_transaction *transaction, const char *name,
                                     uint64_t first, uint64_t second, struct error *ret_error);

/* The highest LSN and the highest unit that were ever stored; 0: none. */
MUST_CHECK enum status rows_highest(struct store_transaction *transaction, uint64_t *ret_lsn,
                                    uint64_t *ret_unit, struct error *ret_error);

/* STATUS_VERSION if the journal's format is not the one this program understands. */
MUST_CHECK enum status rows_version(struct store_transaction *transaction, uint32_t *ret_version,
                                    struct error *ret_error);
MUST_CHECK enum status rows_version_put(struct store_transaction *transaction, uint32_t version,
                                        struct error *ret_error);

#endif
