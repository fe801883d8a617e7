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
#include <string.h>

#include "holdfast/crash_point.h"
#include "recover/chain.h"
#include "recover/conflict_list.h"
#include "recover/park.h"

struct undo {
    struct upstream *upstream;
    const struct unit_history *history;
    struct chain_set set;
    struct undo_summary summary;
    struct conflict_list conflicts;
    char reason[640];
    /* of the restoring */
    char comment[64];
    size_t steps_done;
    bool stopped; /* a step met a conflict */
};

/* The document's images as the unit saw it. `learned`: its last one if the server told it, else
   UNKNOWN; moved. */
static enum status read_conflict(struct undo *undo, const struct chain *chain,
                                 struct image *learned, struct record_conflict_document *document,
                                 struct error *ret_error)
{
    struct history_image before = chain_image(&undo->set, chain, 0);
    struct history_image after = chain_image(&undo->set, chain, chain->link_count);
    enum status status = history_image_read(undo->history, &before, &document->before, ret_error);
    if (status == STATUS_OK && after.presence != IMAGE_UNKNOWN) {
        status = history_image_read(undo->history, &after, &document->after, ret_error);
    } else if (status == STATUS_OK) {
        document->after = *learned;
        *learned = (struct image){.presence = IMAGE_UNKNOWN};
    }
    return status;
}

/* Takes over *found, and *learned if it is of use. The first document's reason stands for the
   unit. */
static enum status add_conflict(struct undo *undo, const struct chain *chain, struct image *found,
                                struct image *learned, const char *reason, struct error *ret_error)
{
    const struct history_write *last = chain_last(&undo->set, chain);
    struct record_conflict_document document = {
        .number = (int32_t)chain->links[chain->link_count - 1],
        .namespace = last->namespace,
        .key = last->key,
        .found = *found,
    };
    *found = (struct image){.presence = IMAGE_UNKNOWN};
    undo->summary.conflicts++;
    if (undo->reason[0] == '\0') {
        snprintf(undo->reason, sizeof(undo->reason), "%s", reason);
    }
    enum status status = read_conflict(undo, chain, learned, &document, ret_error);
    if (status != STATUS_OK) {
        conflict_document_free(&document);
        return status;
    }
    return conflict_list_add(&undo->conflicts, &document, ret_error);
}

static void undo_free(struct undo *undo)
{
    conflict_list_free(&undo->conflicts);
    chain_set_free(&undo->set);
}

/* ------------------------------------------------------------------ looking */

enum status undo_evaluate(struct upstream *upstream, const struct unit_history *history,
                          const struct history_write *write, struct image *ret_after,
                          struct error *ret_error)
{
    struct image command = {0};
    struct image before = {0};
    if (write->command.presence == IMAGE_UNKNOWN) {
        return error_set(ret_error, STATUS_CONFLICT, "its command is not in the journal");
    }
    enum status status = history_image_read(history, &write->command, &command, ret_error);
    if (status == STATUS_OK) {
        status = history_image_read(history, &write->before, &before, ret_error);
    }
    if (status == STATUS_OK) {
        status = upstream_evaluate(upstream, command.document, before, ret_after, ret_error);
        status = status == STATUS_INVALID ? STATUS_CONFLICT : status;
    }
    image_free(&command);
    image_free(&before);
    return status;
}

/* Asks for the last after-image, if the journal does not say it. STATUS_CONFLICT: nobody can. */
static enum status learn_last(const struct undo *undo, const struct chain *chain,
                              struct image *ret_learned, struct error *ret_error)
{
    const struct history_write *last = chain_last(&undo->set, chain);
    return last->after.presence != IMAGE_UNKNOWN
               ? STATUS_OK
               : undo_evaluate(undo->upstream, undo->history, last, ret_learned, ret_error);
}

/* In words, for a document that is none of its images. */
static void describe_stranger(const struct history_write *write, struct image found,
                              const char *detail, char *ret_reason, size_t capacity)
{
    const char *what = found.presence == IMAGE_ABSENT
                           ? "is gone, which the unit did not do"
                           : "is neither what it was before the unit nor what the unit wrote";
    snprintf(ret_reason, capacity, "a document of %.200s %s: somebody else changed it%s%.200s",
             write->namespace, what, detail[0] == '\0' ? "" : "; ", detail);
}

/* `learned` gets the last image if the server had to be asked. */
static enum status judge_document(struct undo *undo, struct chain *chain, struct image *found,
                                  struct image *learned, struct error *ret_error)
{
    const struct history_write *last = chain_last(&undo->set, chain);
    char reason[sizeof(undo->reason)];
    struct error why = {0};
    bool oldest = false;
    bool broken = false;
    if (park_is_parked(undo->history->unit, last->key, *found)) {
        chain->position = chain->link_count;
        chain->parked = true;
        undo->summary.restorable++;
        return STATUS_OK;
    }
    enum status status = chain_compare(undo->history, &undo->set, chain, *found, &chain->position,
                                       &oldest, &broken, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    /* At its oldest image a document needs nothing, whatever happened in between. */
    if (oldest) {
        chain->position = 0;
        return STATUS_OK;
    }
    if (chain->position == CHAIN_NONE) {
        status = learn_last(undo, chain, learned, &why);
        if (status != STATUS_OK && status != STATUS_CONFLICT) {
            return error_set(ret_error, status, "%s", why.message);
        }
        if (image_equal(*learned, *found)) {
            chain->position = chain->link_count;
        }
    }
    if (chain->position != CHAIN_NONE && !broken) {
        undo->summary.restorable++;
        return STATUS_OK;
    }
    if (chain->position != CHAIN_NONE) {
        snprintf(reason, sizeof(reason),
                 "a document of %.200s was changed by somebody else between two writes of the unit",
                 last->namespace);
    } else {
        describe_stranger(last, *found, why.message, reason, sizeof(reason));
    }
    return add_conflict(undo, chain, found, learned, reason, ret_error);
}

static enum status look(struct undo *undo, struct error *ret_error)
{
    for (size_t i = 0; i < undo->set.chain_count; i++) {
        struct chain *chain = &undo->set.chains[i];
        const struct history_write *last = chain_last(&undo->set, chain);
        struct image found = {0};
        struct image learned = {0};
        enum status status =
            upstream_find_image(undo->upstream, last->namespace, last->key, &found, ret_error);
        if (status == STATUS_OK) {
            status = judge_document(undo, chain, &found, &learned, ret_error);
        }
        image_free(&found);
        image_free(&learned);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ restoring */

/* A step was not possible: what is there now, and why. *expected is taken over where the journal
   does not have it. */
static enum status step_conflict(struct undo *undo, const struct chain *chain,
                                 struct image *expected, const char *why, struct error *ret_error)
{
    const struct history_write *last = chain_last(&undo->set, chain);
    char reason[sizeof(undo->reason)];
    struct image found = {0};
    struct image unknown = {0};
    undo->stopped = true;
    enum status status =
        upstream_find_image(undo->upstream, last->namespace, last->key, &found, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    snprintf(reason, sizeof(reason),
             "a document of %.200s could not be restored: %.300s; the unit is undone in part (%zu "
             "images were restored before)",
             last->namespace, why, undo->steps_done);
    return add_conflict(undo, chain, &found,
                        chain->position == chain->link_count ? expected : &unknown, reason,
                        ret_error);
}

/* The image that the document is at. What the server told while all were looked at was not kept: it
   is asked again, and tells the same. */
static enum status read_expected(const struct undo *undo, const struct chain *chain,
                                 struct image *ret_expected, struct error *ret_error)
{
    struct history_image expected = chain_image(&undo->set, chain, chain->position);
    if (chain->position == chain->link_count && expected.presence == IMAGE_UNKNOWN &&
        !chain->parked) {
        return learn_last(undo, chain, ret_expected, ret_error);
    }
    return history_image_read(undo->history, &expected, ret_expected, ret_error);
}

static enum status replace_image(struct undo *undo, struct chain *chain, size_t target,
                                 struct image *expected, struct image *wanted,
                                 struct error *ret_error)
{
    const struct history_write *write = &undo->history->writes[chain->links[target]];
    struct park_step step = {
        .unit = undo->history->unit,
        .namespace = write->namespace,
        .key = write->key,
        .expected = *expected,
        .wanted = *wanted,
        .parked = chain->parked,
        .comment = undo->comment,
    };
    enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
    struct error error = {0};
    enum status status = park_replace_image(undo->upstream, &step, &swap, &error);
    chain->parked = step.parked;
    if (status == STATUS_CONFLICT || status == STATUS_UNSUPPORTED) {
        return step_conflict(undo, chain, expected, error.message, ret_error);
    }
    if (status != STATUS_OK) {
        return error_set(ret_error, status, "%s", error.message);
    }
    if (swap == UPSTREAM_SWAP_DIFFERS) {
        return step_conflict(undo, chain, expected,
                             "it was changed while the unit was being undone, or the server "
                             "cannot hold its former bytes",
                             ret_error);
    }
    chain->position = target;
    undo->steps_done++;
    CRASH_POINT(undo_restored);
    return STATUS_OK;
}

/* One step from chain->position down to `target`. */
static enum status restore_step(struct undo *undo, struct chain *chain, size_t target,
                                struct error *ret_error)
{
    struct history_image before = chain_image(&undo->set, chain, target);
    struct image expected = {0};
    struct image wanted = {0};
    struct error error = {0};
    enum status status = read_expected(undo, chain, &expected, &error);
    if (status == STATUS_CONFLICT) {
        return step_conflict(undo, chain, &expected, error.message, ret_error);
    }
    if (status == STATUS_OK) {
        status = history_image_read(undo->history, &before, &wanted, &error);
    }
    if (status != STATUS_OK) {
        error_set(ret_error, status, "%s", error.message);
    } else {
        status = replace_image(undo, chain, target, &expected, &wanted, ret_error);
    }
    image_free(&expected);
    image_free(&wanted);
    return status;
}

/*
 * Newest write first. A write whose predecessor in the unit is on the same document goes together
 * with it in one step: nothing of another document lies between the two.
 */
static enum status restore(struct undo *undo, struct error *ret_error)
{
    snprintf(undo->comment, sizeof(undo->comment), "holdfast: rollback of unit %" PRIu64,
             undo->history->unit);
    for (size_t i = undo->set.write_count; i-- > 0 && !undo->stopped;) {
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
        enum status status = restore_step(undo, chain, target, ret_error);
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
            conflict_list_put(&undo.conflicts, undo.reason, conflict);
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
