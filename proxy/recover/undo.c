/*
 * Rolling one unit back (undo.h).
 *
 *     group writes by document (chain.c)
 *     for each document: read it, find it in its chain ----- none of them --> conflict
 *     UNDO_CHECKED
 *     for each write, newest first: restore what was before it, guarded --- not met --> conflict
 *     UNDO_RESTORED (once per image)
 *
 * Invariants: nothing is written before every document was found in its chain; a step replaces the
 * image that it expects and no other.
 *
 * Threads: the struct upstream's; no state of its own.
 */

#include "recover/undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/crash_point.h"
#include "recover/chain.h"
#include "recover/park.h"

/* What a CONFLICT record may hold of images; more documents are counted, not shown. */
#define CONFLICT_BYTES_MAX (48u * 1024u * 1024u)

struct undo {
    struct upstream *upstream;
    const struct unit_history *history;
    struct chain_set set;
    struct undo_summary summary;
    /* documents in conflict, as they go into the record; `found` is owned */
    struct record_conflict_document *conflicts;
    size_t conflict_shown;
    size_t conflict_bytes;
    char reason[640];
};

static size_t image_bytes(struct image image)
{
    return image.presence == IMAGE_PRESENT ? image.document.size : 0;
}

/* Takes over *found. The first document's reason stands for the unit. */
static enum status add_conflict(struct undo *undo, const struct chain *chain, struct image *found,
                                const char *reason, struct error *ret_error)
{
    const struct record_write *last = &undo->history->writes[chain->links[chain->link_count - 1]];
    struct record_conflict_document document = {
        .number = (int32_t)chain->links[chain->link_count - 1],
        .namespace = last->namespace,
        .key = last->key,
        .before = chain_image(&undo->set, chain, 0),
        .after = chain_image(&undo->set, chain, chain->link_count),
        .found = *found,
    };
    size_t bytes = image_bytes(document.before) + image_bytes(document.after) +
                   image_bytes(document.found) + document.key.size;
    undo->summary.conflicts++;
    if (undo->reason[0] == '\0') {
        snprintf(undo->reason, sizeof(undo->reason), "%s", reason);
    }
    /* The first is always shown: an operator needs at least one document to look at. */
    if (undo->conflict_shown > 0 && undo->conflict_bytes + bytes > CONFLICT_BYTES_MAX) {
        image_free(found);
        return STATUS_OK;
    }
    void *more = realloc(undo->conflicts, (undo->conflict_shown + 1) * sizeof(*undo->conflicts));
    if (more == NULL) {
        image_free(found);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    undo->conflicts = more;
    undo->conflicts[undo->conflict_shown] = document;
    undo->conflict_shown++;
    undo->conflict_bytes += bytes;
    *found = (struct image){.presence = IMAGE_UNKNOWN};
    return STATUS_OK;
}

static void put_conflict(const struct undo *undo, bson_t *conflict)
{
    char reason[sizeof(undo->reason) + 128];
    size_t left_out = undo->summary.conflicts - undo->conflict_shown;
    if (left_out > 0) {
        snprintf(reason, sizeof(reason), "%s (and %zu more documents that are not shown here)",
                 undo->reason, left_out);
    } else {
        snprintf(reason, sizeof(reason), "%s", undo->reason);
    }
    record_put_conflict(conflict, reason, undo->conflicts, undo->conflict_shown);
}

static void undo_free(struct undo *undo)
{
    for (size_t i = 0; i < undo->conflict_shown; i++) {
        image_free(&undo->conflicts[i].found);
    }
    free(undo->conflicts);
    chain_set_free(&undo->set);
}

/* ------------------------------------------------------------------ looking */

/* The newest image that equals `found`; false if none does. */
static bool find_position(const struct undo *undo, struct chain *chain, struct image found)
{
    for (size_t i = chain->link_count + 1; i-- > 0;) {
        if (image_equal(chain_image(&undo->set, chain, i), found)) {
            chain->position = i;
            return true;
        }
    }
    return false;
}

/*
 * Asks the server what the last write makes of its before-image, if the journal does not say.
 * STATUS_CONFLICT: it cannot say either.
 */
static enum status learn_last(struct undo *undo, struct chain *chain, struct error *ret_error)
{
    const struct record_write *last = &undo->history->writes[chain->links[chain->link_count - 1]];
    if (last->after.presence != IMAGE_UNKNOWN || chain->learned.presence != IMAGE_UNKNOWN) {
        return STATUS_OK;
    }
    if (last->command.size == 0) {
        return error_set(ret_error, STATUS_CONFLICT, "its command is not in the journal");
    }
    enum status status =
        upstream_evaluate(undo->upstream, last->command, last->before, &chain->learned, ret_error);
    return status == STATUS_INVALID ? STATUS_CONFLICT : status;
}

/* In words, for a document that is none of its images. */
static void describe_stranger(const struct record_write *write, struct image found,
                              const char *detail, char *ret_reason, size_t capacity)
{
    const char *what = found.presence == IMAGE_ABSENT
                           ? "is gone, which the unit did not do"
                           : "is neither what it was before the unit nor what the unit wrote";
    snprintf(ret_reason, capacity, "a document of %.200s %s: somebody else changed it%s%.200s",
             write->namespace, what, detail[0] == '\0' ? "" : "; ", detail);
}

static enum status judge_document(struct undo *undo, struct chain *chain, struct image *found,
                                  struct error *ret_error)
{
    const struct record_write *last = &undo->history->writes[chain->links[chain->link_count - 1]];
    char reason[sizeof(undo->reason)];
    struct error why = {0};
    if (park_is_parked(undo->history->unit, last->key, *found)) {
        chain->position = chain->link_count;
        chain->parked = true;
        undo->summary.restorable++;
        return STATUS_OK;
    }
    bool known = find_position(undo, chain, *found);
    /* At its oldest image a document needs nothing, whatever happened in between. */
    if (image_equal(chain_image(&undo->set, chain, 0), *found)) {
        chain->position = 0;
        return STATUS_OK;
    }
    if (!known) {
        enum status status = learn_last(undo, chain, &why);
        if (status != STATUS_OK && status != STATUS_CONFLICT) {
            return error_set(ret_error, status, "%s", why.message);
        }
        known = status == STATUS_OK && find_position(undo, chain, *found);
    }
    if (known && !chain->broken) {
        undo->summary.restorable++;
        return STATUS_OK;
    }
    if (known) {
        snprintf(reason, sizeof(reason),
                 "a document of %.200s was changed by somebody else between two writes of the unit",
                 last->namespace);
    } else {
        describe_stranger(last, *found, why.message, reason, sizeof(reason));
    }
    return add_conflict(undo, chain, found, reason, ret_error);
}

static enum status look(struct undo *undo, struct error *ret_error)
{
    for (size_t i = 0; i < undo->set.chain_count; i++) {
        struct chain *chain = &undo->set.chains[i];
        const struct record_write *last =
            &undo->history->writes[chain->links[chain->link_count - 1]];
        struct image found = {0};
        enum status status =
            upstream_find_image(undo->upstream, last->namespace, last->key, &found, ret_error);
        if (status == STATUS_OK) {
            status = judge_document(undo, chain, &found, ret_error);
        }
        image_free(&found);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ restoring */

/* A step was not possible: what is there now, and why. */
static enum status step_conflict(struct undo *undo, const struct chain *chain, size_t steps_done,
                                 const char *why, struct error *ret_error)
{
    const struct record_write *last = &undo->history->writes[chain->links[chain->link_count - 1]];
    char reason[sizeof(undo->reason)];
    struct image found = {0};
    enum status status =
        upstream_find_image(undo->upstream, last->namespace, last->key, &found, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    snprintf(reason, sizeof(reason),
             "a document of %.200s could not be restored: %.300s; the unit is undone in part (%zu "
             "images were restored before)",
             last->namespace, why, steps_done);
    status = add_conflict(undo, chain, &found, reason, ret_error);
    image_free(&found);
    return status;
}

/*
 * One step from chain->position down to `target`. *ret_stopped: it met a conflict.
 */
static enum status restore_step(struct undo *undo, struct chain *chain, size_t target,
                                const char *comment, size_t *steps_done, bool *ret_stopped,
                                struct error *ret_error)
{
    const struct record_write *write = &undo->history->writes[chain->links[target]];
    struct park_step step = {
        .unit = undo->history->unit,
        .namespace = write->namespace,
        .key = write->key,
        .expected = chain_image(&undo->set, chain, chain->position),
        .wanted = chain_image(&undo->set, chain, target),
        .parked = chain->parked,
        .comment = comment,
    };
    enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    enum status status = park_replace_image(undo->upstream, &step, &swap, &error);
    chain->parked = step.parked;
    if (status == STATUS_CONFLICT || status == STATUS_UNSUPPORTED) {
        *ret_stopped = true;
        return step_conflict(undo, chain, *steps_done, error.message, ret_error);
    }
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    if (swap == UPSTREAM_SWAP_DIFFERS) {
        *ret_stopped = true;
        return step_conflict(undo, chain, *steps_done,
                             "it was changed while the unit was being undone, or the server "
                             "cannot hold its former bytes",
                             ret_error);
    }
    chain->position = target;
    *steps_done += 1;
    CRASH_POINT(undo_restored);
    return STATUS_OK;
}

/*
 * Newest write first. A write whose predecessor in the unit is on the same document goes together
 * with it in one step: nothing of another document lies between the two.
 */
static enum status restore(struct undo *undo, struct error *ret_error)
{
    char comment[64];
    size_t steps_done = 0;
    bool stopped = false;
    snprintf(comment, sizeof(comment), "holdfast: rollback of unit %" PRIu64, undo->history->unit);
    for (size_t i = undo->set.write_count; i-- > 0 && !stopped;) {
        if (undo->set.chain_of[i] == CHAIN_NONE) {
            continue;
        }
        struct chain *chain = &undo->set.chains[undo->set.chain_of[i]];
        size_t target = undo->set.place_of[i];
        if (target >= chain->position) {
            continue; /* this write did not happen, or is undone already */
        }
        if (i > 0 && undo->set.chain_of[i - 1] == undo->set.chain_of[i]) {
            continue; /* the next turn goes further back */
        }
        enum status status =
            restore_step(undo, chain, target, comment, &steps_done, &stopped, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ */

static enum status run(struct upstream *upstream, const struct unit_history *history,
                       bool look_only, enum undo_result *ret_result, bson_t *conflict,
                       struct undo_summary *ret_summary, struct error *ret_error)
{
    struct undo undo = {.upstream = upstream, .history = history};
    enum status status = chain_set_make(history, &undo.set, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    undo.summary.documents = undo.set.chain_count;
    status = look(&undo, ret_error);
    if (status == STATUS_OK && undo.summary.conflicts == 0 && !look_only) {
        CRASH_POINT(undo_checked);
        status = restore(&undo, ret_error);
    }
    if (status == STATUS_OK) {
        if (undo.summary.conflicts > 0) {
            put_conflict(&undo, conflict);
        }
        *ret_result = undo.summary.conflicts > 0 ? UNDO_CONFLICT : UNDO_DONE;
        if (ret_summary != NULL) {
            *ret_summary = undo.summary;
        }
    }
    undo_free(&undo);
    return status;
}

enum status undo_unit(struct upstream *upstream, const struct unit_history *history,
                      enum undo_result *ret_result, bson_t *conflict, struct error *ret_error)
{
    return run(upstream, history, false, ret_result, conflict, NULL, ret_error);
}

enum status undo_check(struct upstream *upstream, const struct unit_history *history,
                       enum undo_result *ret_result, bson_t *conflict,
                       struct undo_summary *ret_summary, struct error *ret_error)
{
    return run(upstream, history, true, ret_result, conflict, ret_summary, ret_error);
}
