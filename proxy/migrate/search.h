#ifndef HOLDFAST_MIGRATE_SEARCH_H
#define HOLDFAST_MIGRATE_SEARCH_H

/*
 * The _ids of all documents of a collection that match a filter, in the order of _id, a few at a
 * time, from any place on: a migration goes on where it was.
 *
 * Each step asks for a part of the collection only, which is bounded by its number of documents and
 * shrinks where the server is slow, so that no search lasts long enough to be in anybody's way.
 * Comparisons of the server see values of one type only ({$gt: 5} finds no text): after the last
 * number come the texts, and so on, by the order of BSON types.
 *
 * A document is found if it matched, as committed, when the search came by.
 *
 * Threads: that of its struct maintain.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stddef.h>

#include "maintain/maintain.h"

struct search {
    struct maintain *maintain;
    const char *database;
    const char *collection;
    const bson_t *filter;
    /* private from here */
    bson_t *at;     /* {"v": _id} of the last one that is done; NULL: from the beginning */
    bool inclusive; /* `at` itself is not done yet */
    bson_t *found;  /* the reply with the _ids found last */
    uint32_t found_count;
    bson_t *until; /* the reply with the _id up to which there are no others; NULL: not known */
    uint32_t part; /* documents looked at by one search */
};

/* `at`: {"v": _id}, of which a copy is kept, or NULL. search_close() frees. */
void search_open(struct search *search, const bson_t *at);
void search_close(struct search *search);

/* Finds up to `limit` further ones; *ret_count 0: there are none. Errors: those of maintain.h. */
MUST_CHECK enum status search_next(struct search *search, uint32_t limit, uint32_t *ret_count,
                                   struct error *ret_error);

/* The _id number `index` of those found last. */
bool search_id(const struct search *search, uint32_t index, bson_iter_t *ret_id);

/* The first `count` of those found last are done. */
void search_move(struct search *search, uint32_t count);

/* Types of BSON behind that of the value, by the server's order, for {$type: ...}. For tests too.
 */
size_t search_types_behind(const bson_iter_t *value, const char *const **ret_types);

#endif
