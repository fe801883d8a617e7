#ifndef HOLDFAST_ENGINE_TOUCHED_H
#define HOLDFAST_ENGINE_TOUCHED_H

/*
 * The namespaces that a transaction of the server has been in: it has locks there, for which a
 * command that creates or drops something waits until the transaction ends.
 *
 * They are kept as hashes, up to TOUCHED_MAX; beyond, and of a command that names more than is
 * understood, any. So it may say of one that it was not in that it was. The other way round it errs
 * of a view, which it knows by the view's name and not by its collection's.
 *
 * Pure; whoever has the unit checked out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOUCHED_MAX 64

/* All zeros: none. */
struct touched {
    uint64_t hashes[TOUCHED_MAX];
    size_t count;
    bool any;
};

/* NULL: any. */
void touched_add(struct touched *touched, const char *database, const char *collection);
bool touched_has(const struct touched *touched, const char *database, const char *collection);

#endif
