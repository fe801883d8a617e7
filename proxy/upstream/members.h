#ifndef HOLDFAST_UPSTREAM_MEMBERS_H
#define HOLDFAST_UPSTREAM_MEMBERS_H

/*
 * The members of a followed replica set as reads by preference need them: their tags, how far they
 * are behind, how near they are, and their addresses. libmongoc's monitors know; but what they tell
 * by themselves is only what changes, which these do not count as. So they are asked, by the
 * topology's own thread, and only once somebody wants it.
 *
 * Any thread; a short mutex. members_refresh(): one thread at a time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "upstream/selection.h"
#include "upstream/topology.h"

struct members;

/* NULL: out of memory. */
struct members *members_new(int64_t heartbeat_ms, int64_t threshold_ms);
/* NULL is harmless; returns NULL. */
struct members *members_free(struct members *members);

/* Whether somebody has asked for a member. */
bool members_are_wanted(struct members *members);

/* Whether one was missing since it was last asked. */
bool members_take_missing(struct members *members);

/* `client`: a mongoc_client_t. Resolves names, which may wait. */
void members_refresh(struct members *members, void *client);

/* As topology_choose(), topology_member_target(). */
enum topology_choice members_choose(struct members *members,
                                    const struct selection_preference *preference, const char *stay,
                                    const char *avoid, bool looks,
                                    struct topology_target *ret_target);
bool members_find(struct members *members, const char *name, struct topology_target *ret_target);

#endif
