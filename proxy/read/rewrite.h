#ifndef HOLDFAST_READ_REWRITE_H
#define HOLDFAST_READ_REWRITE_H

/*
 * A reading command as an aggregation over the committed state, and the answer to that as the
 * command's own.
 *
 *   find       overlay, $sort, $skip, $limit, $project; its reply is the aggregation's
 *   count      overlay, $skip, $limit, $group           { n, ok }
 *   distinct   overlay, $unwind ..., $group             { values, ok }
 *   aggregate  overlay, its own stages (leading $match stages go into the overlay)
 *
 * Where a find is sorted and limited, the collection's side is sorted and limited by itself before
 * the images join it, so that an index serves it as before.
 *
 * Whatever else the command says (hint, collation, comment, maxTimeMS, readConcern, let, lsid ...)
 * goes along as it is. Pure; any thread.
 */

#include "read/read_command.h"
#include "read/resolve.h"
#include "wire/overlay.h"

/* A command is one document of 16 MiB; what else it says takes room, too. */
#define REWRITE_BYTES_MAX (15u * 1024u * 1024u)

/* What the _id of a document that is left out takes of a command, at most. */
static inline size_t rewrite_key_bytes(struct slice key)
{
    return 3 * key.size + 64;
}

struct rewrite_options {
    int64_t max_time_ms; /* instead of the command's own; 0: that */
    bool in_unit;        /* without the fields of a transaction */
    bool whole;   /* find, aggregate: if it names no batchSize, all in one batch, up to 16 MiB */
    bool always;  /* the same if it does */
    bool gathers; /* all that match, as they are: what comes behind the filter is left out */
    const struct read_views *views; /* what the command names is one; NULL: a collection */
    /* The command is a find by _id of the one image: the collection need not be looked at. */
    bool only_images;
};

/*
 * Of a command whose form is OVERLAY or POINT. Reorders nothing of the caller's. On success the
 * caller destroys *ret_command. STATUS_LIMIT: it is larger than REWRITE_BYTES_MAX;
 * STATUS_UNSUPPORTED: by a collation other _ids may be the same as a key with text; STATUS_MEMORY.
 */
MUST_CHECK enum status rewrite_read(const struct read_command *command,
                                    const struct overlay_image *images, size_t image_count,
                                    const struct rewrite_options *options, bson_t *ret_command);

/*
 * `rewrite_read` of a view: overlay of the collection behind, the pipelines of the views from the
 * innermost on, then a $match with the filter and the rest. The answer of a cursor that stays open
 * names that collection, for getMore; else the view.
 */

/* The command as it came, with these options. The caller destroys *ret_command. STATUS_INVALID. */
MUST_CHECK enum status rewrite_original(const struct read_command *command,
                                        const struct rewrite_options *options, bson_t *ret_command);

/* Appends the answer to the empty document *answer. `reply` is the server's, and ok.
   STATUS_PROTOCOL: it makes no sense. */
MUST_CHECK enum status rewrite_reply(const struct read_command *command, struct slice reply,
                                     bson_t *answer);

#endif
