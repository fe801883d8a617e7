/*
 * The redo as a whole (redo.h): units in, documents grouped, what became of the units out.
 *
 *     load --> group by document --> find (redo_find.c) --> decide --> move (redo_move.c) --> tell
 *
 * Threads: the struct upstream's; no state of its own.
 */

#include "recover/redo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/crash_point.h"
#include "recover/conflict_list.h"
#include "recover/redo_private.h"

static enum status no_memory(struct error *ret_error)
{
    return error_set(ret_error, STATUS_MEMORY, "out of memory for a redo");
}

enum status redo_read(const struct redo *redo, const struct history_image *image,
                      struct image *ret_copy, struct error *ret_error)
{
    return history_image_read(redo->members[0].history, image, ret_copy, ret_error);
}

/* ------------------------------------------------------------------ loading */

static enum redo_role role_of(const struct unit_history *history)
{
    switch (history->state) {
    case WAL_UNIT_COMMITTED:
        return REDO_WINNER;
    case WAL_UNIT_ABORTED:
        return record_is_kept(history->last_payload) ? REDO_ASIDE : REDO_LOSER;
    case WAL_UNIT_OPEN:
        return REDO_LOSER;
    case WAL_UNIT_CONFLICT:
    case WAL_UNIT_COMMITTING: /* has no images */
        break;
    }
    return REDO_ASIDE;
}

static enum status load(struct redo *redo, struct error *ret_error)
{
    const struct redo_options *options = redo->options;
    redo->members = calloc(options->unit_count + 1, sizeof(*redo->members));
    if (redo->members == NULL) {
        return no_memory(ret_error);
    }
    for (size_t i = 0; i < options->unit_count; i++) {
        struct redo_member *member = &redo->members[i];
        enum status status =
            unit_history_load(redo->wal, options->units[i], &member->history, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        redo->member_count++;
        redo->entry_count += member->history->write_count;
        member->role = role_of(member->history);
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ grouping */

static int compare_entries(const void *a_void, const void *b_void)
{
    const struct redo_entry *a = a_void;
    const struct redo_entry *b = b_void;
    int order = document_key_compare(&a->document, &b->document);
    if (order != 0) {
        return order;
    }
    return a->write->lsn == b->write->lsn ? 0 : a->write->lsn < b->write->lsn ? -1 : 1;
}

static enum status fill_entries(struct redo *redo, struct error *ret_error)
{
    size_t count = 0;
    for (size_t m = 0; m < redo->member_count; m++) {
        const struct unit_history *history = redo->members[m].history;
        for (size_t w = 0; w < history->write_count; w++) {
            const struct history_write *write = &history->writes[w];
            if (write->refused) {
                continue;
            }
            if (write->before.presence == IMAGE_UNKNOWN ||
                (redo->members[m].role == REDO_WINNER && write->after.presence == IMAGE_UNKNOWN)) {
                return error_set(ret_error, STATUS_CORRUPT,
                                 "unit %" PRIu64 ": an image of write %zu is not in the journal",
                                 history->unit, w);
            }
            redo->entries[count++] =
                (struct redo_entry){.member = m,
                                    .write = write,
                                    .document = document_key_make(write->namespace, write->key)};
        }
    }
    redo->entry_count = count;
    return STATUS_OK;
}

static enum status group(struct redo *redo, struct error *ret_error)
{
    redo->entries = calloc(redo->entry_count + 1, sizeof(*redo->entries));
    redo->documents = calloc(redo->entry_count + 1, sizeof(*redo->documents));
    if (redo->entries == NULL || redo->documents == NULL) {
        return no_memory(ret_error);
    }
    enum status status = fill_entries(redo, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    qsort(redo->entries, redo->entry_count, sizeof(*redo->entries), compare_entries);
    for (size_t i = 0; i < redo->entry_count; i++) {
        if (i == 0 ||
            document_key_compare(&redo->entries[i - 1].document, &redo->entries[i].document) != 0) {
            redo->documents[redo->document_count++].first = i;
        }
        redo->documents[redo->document_count - 1].count++;
    }
    redo->report->documents = redo->document_count;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ deciding */

void redo_set_conflict(struct redo *redo, const struct redo_document *document, const char *reason)
{
    for (size_t i = 0; i < document->count; i++) {
        struct redo_member *member = &redo->members[redo->entries[document->first + i].member];
        /* What has been rolled back is: nobody waits for anything of it. */
        if (member->role == REDO_ASIDE || member->history->state == WAL_UNIT_ABORTED) {
            continue;
        }
        if (!member->in_conflict) {
            (void)snprintf(member->reason, sizeof(member->reason), "%s", reason);
        }
        member->in_conflict = true;
        member->role = REDO_ASIDE;
    }
}

/* The last committed image, as the journal tells it; false: the document is to be left alone. */
static bool find_target(const struct redo *redo, struct redo_document *document)
{
    enum redo_role last = REDO_ASIDE;
    for (size_t i = 0; i < document->count; i++) {
        const struct redo_entry *entry = &redo->entries[document->first + i];
        bool goes_on = i > 0 && entry[-1].member == entry->member;
        last = redo->members[entry->member].role;
        if (last == REDO_WINNER) {
            document->target = entry->write->after;
            document->target_entry = document->first + i;
        } else if (!goes_on) {
            document->target = entry->write->before;
            document->target_entry = document->first + i;
        }
    }
    return last != REDO_ASIDE;
}

/* The newest write to the document that is committed; NULL: none is. One that is not may follow it:
   what was before that is the target then, and is committed all the same. */
static const struct redo_entry *last_winner(const struct redo *redo,
                                            const struct redo_document *document)
{
    for (size_t i = document->count; i-- > 0;) {
        const struct redo_entry *entry = &redo->entries[document->first + i];
        if (redo->members[entry->member].role == REDO_WINNER) {
            return entry;
        }
    }
    return NULL;
}

static enum status is_there(const struct redo *redo, const struct redo_document *document,
                            bool *ret_is, struct error *ret_error)
{
    struct image at = {0};
    struct image target = {0};
    enum status status = redo_read(redo, &document->at, &at, ret_error);
    if (status == STATUS_OK) {
        status = redo_read(redo, &document->target, &target, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_is = image_equal(at, target);
    }
    image_free(&at);
    image_free(&target);
    return status;
}

static enum status decide(struct redo *redo, struct error *ret_error)
{
    for (size_t i = 0; i < redo->document_count; i++) {
        struct redo_document *document = &redo->documents[i];
        const struct redo_entry *winner = last_winner(redo, document);
        bool there = false;
        if (!find_target(redo, document) || document->place == REDO_AT_OTHER) {
            continue;
        }
        /* Older than all that was journaled, and nothing committed came after: it stays. */
        if (document->place == REDO_AT_OLDER && winner == NULL) {
            continue;
        }
        if (document->place == REDO_AT_IMAGE && document->at.presence != IMAGE_UNKNOWN) {
            enum status status = is_there(redo, document, &there, ret_error);
            if (status != STATUS_OK) {
                return status;
            }
        }
        if (there) {
            continue;
        }
        document->wanted = true;
        redo->report->moved++;
        if (winner != NULL && (document->place == REDO_AT_OLDER ||
                               winner == &redo->entries[document->target_entry])) {
            redo->members[winner->member].redone = true;
        }
    }
    return STATUS_OK;
}

/* ------------------------------------------------------------------ telling */

/* What the member's unit did to the document, and what is there instead. */
static enum status describe(const struct redo *redo, size_t member,
                            const struct redo_document *document,
                            struct record_conflict_document *ret_conflict, struct error *ret_error)
{
    const struct redo_entry *first = NULL;
    const struct redo_entry *last = NULL;
    for (size_t i = 0; i < document->count; i++) {
        const struct redo_entry *entry = &redo->entries[document->first + i];
        if (entry->member == member) {
            first = first == NULL ? entry : first;
            last = entry;
        }
    }
    if (first == NULL) {
        return STATUS_NOT_FOUND;
    }
    const struct unit_history *history = redo->members[member].history;
    struct record_conflict_document conflict = {
        .number = (int32_t)(last->write - history->writes),
        .namespace = last->write->namespace,
        .key = last->write->key,
    };
    enum status status = redo_read(redo, &first->write->before, &conflict.before, ret_error);
    if (status == STATUS_OK) {
        status = redo_read(redo, &last->write->after, &conflict.after, ret_error);
    }
    if (status == STATUS_OK && !image_copy(document->owned, &conflict.found)) {
        status = no_memory(ret_error);
    }
    if (status != STATUS_OK) {
        conflict_document_free(&conflict);
        return status;
    }
    *ret_conflict = conflict;
    return STATUS_OK;
}

static enum status put_conflict(const struct redo *redo, size_t member, bson_t *payload,
                                struct error *ret_error)
{
    struct conflict_list list = {0};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < redo->document_count && status == STATUS_OK; i++) {
        struct record_conflict_document conflict;
        if (redo->documents[i].place != REDO_AT_OTHER) {
            continue;
        }
        status = describe(redo, member, &redo->documents[i], &conflict, ret_error);
        if (status == STATUS_OK) {
            status = conflict_list_add(&list, &conflict, ret_error);
        } else if (status == STATUS_NOT_FOUND) {
            status = STATUS_OK; /* it is not of this unit */
        }
    }
    if (status == STATUS_OK) {
        conflict_list_put(&list, redo->members[member].reason, payload);
    }
    conflict_list_free(&list);
    return status;
}

static enum status tell_unit(const struct redo *redo, size_t member, struct error *ret_error)
{
    const struct redo_member *at = &redo->members[member];
    struct redo_unit unit = {.history = at->history};
    bson_t conflict = BSON_INITIALIZER;
    enum status status = STATUS_OK;
    if (at->in_conflict) {
        unit.fate = REDO_CONFLICT;
        status = put_conflict(redo, member, &conflict, ret_error);
        unit.conflict = slice_make(bson_get_data(&conflict), conflict.len);
    } else if (at->role == REDO_WINNER) {
        unit.fate = at->redone ? REDO_REDONE : REDO_WHOLE;
    } else {
        unit.fate = REDO_ABSENT;
    }
    if (status == STATUS_OK) {
        status = redo->options->unit_done(&unit, redo->options->context, ret_error);
    }
    bson_destroy(&conflict);
    return status;
}

static enum status tell(const struct redo *redo, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < redo->member_count && status == STATUS_OK; i++) {
        if (redo->members[i].role != REDO_ASIDE || redo->members[i].in_conflict) {
            status = tell_unit(redo, i, ret_error);
        }
    }
    return status;
}

/* ------------------------------------------------------------------ */

static void redo_free(struct redo *redo)
{
    for (size_t i = 0; i < redo->member_count; i++) {
        unit_history_free(redo->members[i].history);
    }
    for (size_t i = 0; i < redo->document_count; i++) {
        image_free(&redo->documents[i].owned);
    }
    free(redo->members);
    free(redo->entries);
    free(redo->documents);
}

enum status redo_run(struct wal *wal, struct upstream *upstream, const struct redo_options *options,
                     struct redo_report *ret_report, struct error *ret_error)
{
    struct redo redo = {.wal = wal, .upstream = upstream, .options = options, .report = ret_report};
    *ret_report = (struct redo_report){0};
    enum status status = load(&redo, ret_error);
    if (status == STATUS_OK) {
        status = group(&redo, ret_error);
    }
    if (status == STATUS_OK) {
        status = redo_find(&redo, ret_error);
    }
    if (status == STATUS_OK) {
        status = decide(&redo, ret_error);
    }
    if (status == STATUS_OK && !options->dry_run) {
        CRASH_POINT(redo_checked);
        status = redo_move(&redo, ret_error);
    }
    if (status == STATUS_OK) {
        status = tell(&redo, ret_error);
    }
    redo_free(&redo);
    return status;
}
