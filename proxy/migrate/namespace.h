#ifndef HOLDFAST_MIGRATE_NAMESPACE_H
#define HOLDFAST_MIGRATE_NAMESPACE_H

/*
 * Commands on collections and indexes of the migration's database; private to this folder. All may
 * be carried out twice: what is there or gone already is no error.
 *
 * Threads: that of the struct migrate.
 */

#include <bson/bson.h>

#include "holdfast/error.h"
#include "migrate/migrate.h"

/* What listCollections says of it, to be destroyed by the caller; NULL: there is none. */
MUST_CHECK enum status namespace_describe(struct migrate *migrate, const char *collection,
                                          bson_t **ret_description, struct error *ret_error);
/* As createIndexes takes it: without `v` and `ns`. NULL: there is none of this name. */
MUST_CHECK enum status namespace_index(struct migrate *migrate, const char *collection,
                                       const char *name, bson_t **ret_index,
                                       struct error *ret_error);
MUST_CHECK enum status namespace_create_index(struct migrate *migrate, const char *collection,
                                              const bson_t *index, struct error *ret_error);
MUST_CHECK enum status namespace_drop_index(struct migrate *migrate, const char *collection,
                                            const char *name, struct error *ret_error);
MUST_CHECK enum status namespace_create(struct migrate *migrate, const char *collection,
                                        const bson_t *options, struct error *ret_error);
MUST_CHECK enum status namespace_drop(struct migrate *migrate, const char *collection,
                                      struct error *ret_error);
MUST_CHECK enum status namespace_modify(struct migrate *migrate, const char *collection,
                                        const bson_t *options, struct error *ret_error);
/* Documents in it. */
MUST_CHECK enum status namespace_is_empty(struct migrate *migrate, const char *collection,
                                          bool *ret_empty, struct error *ret_error);

/*
 * Renames. Where `from` is gone it must be what `to` is now, by the `uuid` of the note if the
 * server tells one. STATUS_REFUSED: it is not, or there is a `to` already.
 */
MUST_CHECK enum status namespace_rename(struct migrate *migrate, const char *from, const char *to,
                                        const bson_t *note, struct error *ret_error);

#endif
