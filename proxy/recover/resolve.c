/*
 * Deciding conflicts (resolve.h).
 *
 * Invariants: no document is touched before the records with its images are durable; the conflict
 * ends in the same group as the unit that decided it.
 *
 * Threads: the caller's, which owns the struct upstream.
 */
#include "recover/resolve.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "holdfast/crash_point.h"
#include "recover/chain.h"
#include "recover/fence.h"
#include "recover/undo.h"

/* ------------------------------------------------------------------ looking */

static enum status load(struct wal *wal, uint64_t unit, struct unit_history **ret_history,
                        struct error *ret_error)
{
    enum status status = unit_history_load(wal, unit, ret_history, ret_error);
    if (status == STATUS_OK && (*ret_history)->state != WAL_UNIT_CONFLICT) {
        status = error_set(ret_error, STATUS_INVALID, "unit %" PRIu64 " is %s, not in conflict",
                           unit, wal_unit_state_name((*ret_history)->state));
    }
    return status;
}

/* UNKNOWN if neither journal nor server can tell. */
static enum status read_after(struct upstream *upstream, const struct unit_history *history,
                              const struct history_write *last, struct image *ret_after,
                              struct error *ret_error)
{
    if (last->after.presence != IMAGE_UNKNOWN) {
        return history_image_read(history, &last->after, ret_after, ret_error);
    }
    enum status status = undo_evaluate(upstream, history, last, ret_after, ret_error);
    return status == STATUS_CONFLICT ? STATUS_OK : status;
}

static enum status look_at(struct upstream *upstream, const struct unit_history *history,
                           const struct chain_set *set, const struct chain *chain,
                           struct resolve_document *document, struct error *ret_error)
{
    const struct history_write *last = chain_last(set, chain);
    struct history_image before = chain_image(set, chain, 0);
    *document = (struct resolve_document){
        .namespace = last->namespace,
        .key = last->key,
        .first = chain->links[0],
        .last = chain->links[chain->link_count - 1],
    };
    enum status status = history_image_read(history, &before, &document->before, ret_error);
    if (status == STATUS_OK) {
        status = read_after(upstream, history, last, &document->after, ret_error);
    }
    return status == STATUS_OK ? upstream_find_image(upstream, document->namespace, document->key,
                                                     &document->found, ret_error)
                               : status;
}

static int compare_first_write(const void *a_void, const void *b_void)
{
    const struct resolve_document *a = a_void;
    const struct resolve_document *b = b_void;
    return a->first < b->first ? -1 : a->first > b->first;
}

static size_t image_bytes(const struct resolve_document *document)
{
    return document->before.document.size + document->after.document.size +
           document->found.document.size;
}

static enum status look(struct wal *wal, struct upstream *upstream, uint64_t unit, size_t bytes_max,
                        struct resolve_plan *plan, struct error *ret_error)
{
    struct chain_set set = {0};
    size_t bytes = 0;
    enum status status = load(wal, unit, &plan->history, ret_error);
    if (status == STATUS_OK) {
        status = chain_set_make(plan->history, &set, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    plan->documents = calloc(set.chain_count + 1, sizeof *plan->documents);
    if (plan->documents == NULL) {
        status = error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < set.chain_count && status == STATUS_OK; i++) {
        plan->document_count++;
        status =
            look_at(upstream, plan->history, &set, &set.chains[i], &plan->documents[i], ret_error);
        bytes += image_bytes(&plan->documents[i]);
        if (status == STATUS_OK && bytes > bytes_max) {
            status = error_set(ret_error, STATUS_LIMIT,
                               "the documents of unit %" PRIu64 " take more than %zu MiB: stop "
                               "holdfastd and decide with holdfast resolve",
                               unit, bytes_max >> 20);
        }
    }
    chain_set_free(&set);
    if (status == STATUS_OK) {
        qsort(plan->documents, plan->document_count, sizeof *plan->documents, compare_first_write);
    }
    return status;
}

enum status resolve_look(struct wal *wal, struct upstream *upstream, uint64_t unit,
                         size_t bytes_max, struct resolve_plan *ret_plan, struct error *ret_error)
{
    *ret_plan = (struct resolve_plan){0};
    enum status status = look(wal, upstream, unit, bytes_max, ret_plan, ret_error);
    if (status != STATUS_OK) {
        resolve_plan_free(ret_plan);
    }
    return status;
}

void resolve_plan_free(struct resolve_plan *plan)
{
    for (size_t i = 0; i < plan->document_count; i++) {
        image_free(&plan->documents[i].before);
        image_free(&plan->documents[i].after);
        image_free(&plan->documents[i].found);
    }
    free(plan->documents);
    unit_history_free(plan->history);
    *plan = (struct resolve_plan){0};
}

void resolve_choose(struct resolve_plan *plan, enum resolve_choice choice)
{
    plan->choice = choice;
    for (size_t i = 0; i < plan->document_count; i++) {
        plan->documents[i].choice = choice;
    }
}

struct image resolve_wanted(const struct resolve_document *document, enum resolve_choice choice)
{
    switch (choice) {
    case RESOLVE_KEEP:
        break;
    case RESOLVE_RESTORE:
        return document->before;
    case RESOLVE_APPLY:
        return document->after;
    }
    return document->found;
}

const char *resolve_effect(const struct resolve_document *document, enum resolve_choice choice)
{
    struct image wanted = resolve_wanted(document, choice);
    if (wanted.presence == IMAGE_UNKNOWN) {
        return "unknown";
    }
    if (image_equal(document->found, wanted)) {
        return "stays";
    }
    if (wanted.presence == IMAGE_ABSENT) {
        return "removed";
    }
    return document->found.presence == IMAGE_ABSENT ? "inserted" : "replaced";
}

/* ------------------------------------------------------------------ deciding */

static enum record_operation operation_of(struct image found, struct image wanted)
{
    if (found.presence == IMAGE_ABSENT) {
        return RECORD_INSERT;
    }
    return wanted.presence == IMAGE_ABSENT ? RECORD_DELETE : RECORD_UPDATE;
}

static enum status add_change(struct resolve_decision *decision,
                              const struct resolve_document *document, struct error *ret_error)
{
    struct image wanted = resolve_wanted(document, document->choice);
    if (wanted.presence == IMAGE_UNKNOWN) {
        return error_set(ret_error, STATUS_INVALID,
                         "what the unit wrote into a document of %.200s is not known: keep or "
                         "restore",
                         document->namespace);
    }
    if (image_equal(document->found, wanted)) {
        return STATUS_OK;
    }
    decision->writes[decision->write_count] = (struct record_write){
        .number = (int32_t)decision->write_count,
        .operation = operation_of(document->found, wanted),
        .namespace = document->namespace,
        .key = document->key,
        .before = document->found,
        .after = wanted,
        .connection = FENCE_NOBODY, /* ours is not known */
    };
    decision->write_count++;
    return STATUS_OK;
}

/*
 * The documents that change: restored in the opposite order of the unit's, applied in its order,
 * because only those orders are sure to pass unique indexes.
 */
enum status resolve_decide(const struct resolve_plan *plan, struct resolve_decision *ret_decision,
                           struct error *ret_error)
{
    enum status status = STATUS_OK;
    *ret_decision = (struct resolve_decision){.plan = plan};
    ret_decision->writes = calloc(plan->document_count + 1, sizeof *ret_decision->writes);
    if (ret_decision->writes == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = plan->document_count; status == STATUS_OK && i-- > 0;) {
        if (plan->documents[i].choice == RESOLVE_RESTORE) {
            status = add_change(ret_decision, &plan->documents[i], ret_error);
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < plan->document_count; i++) {
        if (plan->documents[i].choice == RESOLVE_APPLY) {
            status = add_change(ret_decision, &plan->documents[i], ret_error);
        }
    }
    return status;
}

void resolve_decision_free(struct resolve_decision *decision)
{
    for (size_t i = 0; i < decision->payload_count; i++) {
        bson_destroy(&decision->payloads[i]);
    }
    free(decision->payloads);
    free(decision->records);
    free(decision->writes);
    *decision = (struct resolve_decision){0};
}

/* ------------------------------------------------------------------ carrying out */

static struct slice payload_slice(const bson_t *payload)
{
    return slice_make(bson_get_data(payload), payload->len);
}

enum status resolve_journal(struct wal *wal, struct resolve_decision *decision,
                            struct error *ret_error)
{
    size_t count = decision->write_count + 1;
    char application[64];
    snprintf(application, sizeof application, "holdfast resolve %" PRIu64,
             decision->plan->history->unit);
    struct record_begin begin = {
        .boundary = "resolve", .user = "", .client = "", .application = application};
    decision->records = calloc(count, sizeof *decision->records);
    decision->payloads = memory_new_aligned(count, sizeof *decision->payloads, _Alignof(bson_t));
    if (decision->records == NULL || decision->payloads == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        bson_init(&decision->payloads[i]);
        decision->payload_count++;
        if (i == 0) {
            record_put_begin(&decision->payloads[i], &begin);
        } else {
            record_put_write(&decision->payloads[i], &decision->writes[i - 1], NULL, 0);
        }
        decision->records[i] = (struct wal_append){
            .kind = i == 0 ? WAL_KIND_BEGIN : WAL_KIND_WRITE,
            .unit = decision->unit,
            .payload = payload_slice(&decision->payloads[i]),
            .next = i + 1 < count ? &decision->records[i + 1] : NULL,
        };
    }
    enum status status = wal_append_wait(wal, decision->records, ret_error);
    if (status == STATUS_OK) {
        CRASH_POINT(resolve_journaled);
    }
    return status;
}

/* What the server does not take however often it is asked. */
static bool is_refusal(enum status status)
{
    return status == STATUS_CONFLICT || status == STATUS_UNSUPPORTED || status == STATUS_REFUSED;
}

enum status resolve_replace(struct upstream *upstream, const struct resolve_decision *decision,
                            struct error *ret_error)
{
    char comment[64];
    snprintf(comment, sizeof comment, "holdfast: resolve of unit %" PRIu64,
             decision->plan->history->unit);
    for (size_t i = 0; i < decision->write_count; i++) {
        const struct record_write *write = &decision->writes[i];
        enum upstream_swap swap = UPSTREAM_SWAP_DIFFERS;
        enum status status =
            upstream_replace_image(upstream, write->namespace, write->key, write->before,
                                   write->after, comment, &swap, ret_error);
        if (status != STATUS_OK) {
            return is_refusal(status) ? STATUS_CONFLICT : status;
        }
        if (swap == UPSTREAM_SWAP_DIFFERS) {
            return error_set(ret_error, STATUS_CONFLICT,
                             "a document of %.200s has been changed meanwhile", write->namespace);
        }
        CRASH_POINT(resolve_replaced);
    }
    return STATUS_OK;
}

/* What the unit counts as. */
enum outcome {
    OUTCOME_KEPT,
    OUTCOME_RESTORED,
    OUTCOME_APPLIED,
    OUTCOME_MIXED,
};

static enum outcome outcome_of(const struct resolve_plan *plan)
{
    static const enum outcome alike[] = {
        [RESOLVE_KEEP] = OUTCOME_KEPT,
        [RESOLVE_RESTORE] = OUTCOME_RESTORED,
        [RESOLVE_APPLY] = OUTCOME_APPLIED,
    };
    enum resolve_choice first = plan->document_count > 0 ? plan->documents[0].choice : plan->choice;
    for (size_t i = 1; i < plan->document_count; i++) {
        if (plan->documents[i].choice != first) {
            return OUTCOME_MIXED;
        }
    }
    return alike[first];
}

/* One that was neither undone nor done whole is not to be run again: it counts as kept. */
enum status resolve_end(struct wal *wal, const struct resolve_decision *decision,
                        struct error *ret_error)
{
    static const char *const reasons[] = {
        [OUTCOME_KEPT] = "resolved by an operator: what is there was kept",
        [OUTCOME_RESTORED] = "resolved by an operator: what was there before was restored",
        [OUTCOME_MIXED] = "resolved by an operator: decided document by document",
    };
    bson_t own = BSON_INITIALIZER;
    bson_t payload = BSON_INITIALIZER;
    enum outcome outcome = outcome_of(decision->plan);
    bool applied = outcome == OUTCOME_APPLIED;
    record_put_commit(&own, NULL, 0, (struct slice){0});
    if (applied) {
        record_put_commit(&payload, NULL, 0, (struct slice){0});
    } else {
        record_put_resolved(&payload, reasons[outcome], outcome != OUTCOME_RESTORED);
    }
    struct wal_append end = {
        .kind = applied ? WAL_KIND_COMMIT : WAL_KIND_ABORT,
        .unit = decision->plan->history->unit,
        .payload = payload_slice(&payload),
    };
    struct wal_append first = {
        .kind = WAL_KIND_COMMIT,
        .unit = decision->unit,
        .payload = payload_slice(&own),
        .next = &end,
    };
    enum status status = wal_append_wait(wal, decision->write_count > 0 ? &first : &end, ret_error);
    bson_destroy(&own);
    bson_destroy(&payload);
    return status;
}

/* ------------------------------------------------------------------ on a stopped proxy's journal
 */

static enum status end_own_unit(struct wal *wal, uint64_t unit, enum undo_result result,
                                const bson_t *conflict, struct error *ret_error)
{
    bson_t payload = BSON_INITIALIZER;
    record_put_abort(&payload, "a conflict could not be resolved");
    struct wal_append append = {
        .kind = result == UNDO_DONE ? WAL_KIND_ABORT : WAL_KIND_CONFLICT,
        .unit = unit,
        .payload = payload_slice(result == UNDO_DONE ? &payload : conflict),
    };
    enum status status = wal_append_wait(wal, &append, ret_error);
    bson_destroy(&payload);
    return status;
}

/* Everything back as it was looked at. `why` is what stopped us. */
static enum status take_back(struct wal *wal, struct upstream *upstream, uint64_t number,
                             const struct error *why, struct error *ret_error)
{
    bson_t conflict = BSON_INITIALIZER;
    enum undo_result result = UNDO_DONE;
    struct unit_history *unit = NULL;
    enum status status = unit_history_load(wal, number, &unit, ret_error);
    if (status == STATUS_OK) {
        status = undo_unit(upstream, unit, &result, &conflict, ret_error);
    }
    unit_history_free(unit);
    if (status == STATUS_OK) {
        status = end_own_unit(wal, number, result, &conflict, ret_error);
    }
    bson_destroy(&conflict);
    if (status != STATUS_OK) {
        return status;
    }
    if (result == UNDO_CONFLICT) {
        return error_set(ret_error, STATUS_CONFLICT,
                         "%s; taking the other changes back met a conflict, too: see unit %" PRIu64,
                         why->message, number);
    }
    return error_set(ret_error, STATUS_CONFLICT,
                     "%s: nothing was changed, the unit is still in conflict", why->message);
}

static enum status change(struct wal *wal, struct upstream *upstream,
                          struct resolve_decision *decision, struct error *ret_error)
{
    struct error why = {0};
    decision->unit = wal_unit_next(wal);
    enum status status = resolve_journal(wal, decision, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status = resolve_replace(upstream, decision, &why);
    if (status == STATUS_CONFLICT) {
        return take_back(wal, upstream, decision->unit, &why, ret_error);
    }
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(ret_error, status, "%s; the next recovery takes back what was begun",
                           why.message);
}

enum status resolve_carry_out(struct wal *wal, struct upstream *upstream,
                              const struct resolve_plan *plan, size_t *ret_changed,
                              struct error *ret_error)
{
    struct resolve_decision decision;
    enum status status = resolve_decide(plan, &decision, ret_error);
    if (status == STATUS_OK && decision.write_count > 0) {
        status = change(wal, upstream, &decision, ret_error);
    }
    if (status == STATUS_OK) {
        status = resolve_end(wal, &decision, ret_error);
        *ret_changed = decision.write_count;
    }
    resolve_decision_free(&decision);
    return status;
}
