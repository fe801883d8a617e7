#ifndef HOLDFAST_READ_RESOLVE_H
#define HOLDFAST_READ_RESOLVE_H

/*
 * Which collections a reading command reads, views looked through (engine/namespace_cache.h): its
 * gates are those of the collections behind, for nothing is ever uncommitted in a view.
 *
 * Any thread.
 */

#include "engine/namespace_cache.h"
#include "read/read_command.h"

/* Views of views, as mongod allows them; and views in all, of one command. */
#define READ_VIEWS_DEEP_MAX 20
#define READ_VIEWS_MAX 40

/* The views that a command looks through. Zero-initialised. */
struct read_views {
    struct view_definition *held[READ_VIEWS_MAX];
    size_t count;
    /* The first of them: what the command names, then what that is a view of, and so on. */
    size_t chain_count;
    const char *base; /* the collection behind; without a view the command's own. Theirs */
};

/*
 * Of a parsed command: sets what it says there. Where the server cannot be asked, where something
 * is just being made a view, or with more views than that, the command is_unsure.
 *
 * True: done; the command's `others` may point into *ret_views now. False: *ret_ask has to be asked
 * for first, and nothing is changed. `can_ask` false: what is not known is unsure.
 */
bool read_resolve(struct namespace_cache *cache, bool can_ask, struct read_command *command,
                  struct read_views *ret_views, const char **ret_ask);

/* The same where that is all there is to it: one name, known as a collection's. A few atomic loads.
   False: nothing is changed. */
bool read_resolve_plain(struct namespace_cache *cache, struct read_command *command);

/* Harmless if there is none. */
void read_views_release(struct read_views *views);

#endif
