/* What must hold at the end of a run: of the journal, and of each unit; see model.h. */
#include <assert.h>
#include <string.h>

#include "model_private.h"
#include "store.h"
#include "wal/format.h"

/* ------------------------------------------------------------------ the journal */

struct journal_unit {
    uint64_t unit;
    struct model_unit *model;
    enum wal_kind last;
};

static struct {
    struct journal_unit units[4096];
    size_t count;
} journal;

static struct model_unit *unit_of_begin(struct slice payload)
{
    bson_iter_t at;
    bson_iter_t number;
    bson_subtype_t subtype;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!bson_iter_init_from_data(&at, payload.data, payload.size) ||
        !bson_iter_find(&at, "lsid") ||
        !bson_iter_init_from_data(&number, payload.data, payload.size) ||
        !bson_iter_find(&number, "txnNumber")) {
        return NULL;
    }
    bson_iter_binary(&at, &subtype, &size, &data);
    for (size_t i = 0; i < model.unit_count; i++) {
        if (size == 16 && memcmp(model.units[i].session, data, 16) == 0 &&
            model.units[i].transaction_number == bson_iter_as_int64(&number)) {
            return &model.units[i];
        }
    }
    return NULL;
}

void model_record_asked(uint64_t unit, enum wal_kind kind, struct slice payload)
{
    if (kind == WAL_KIND_BEGIN) {
        struct model_unit *begun = unit_of_begin(payload);
        if (begun != NULL) {
            begun->journaled_as = unit;
        }
    }
    for (size_t i = 0; i < model.unit_count && kind == WAL_KIND_COMMIT; i++) {
        if (model.units[i].journaled_as == unit) {
            model.units[i].commit_asked = model.order;
        }
    }
}

static void on_record(struct slice key, struct slice value, void *context)
{
    struct wal_record record;
    uint64_t lsn = 0;
    (void)context;
    if (format_key_get(key, &lsn, NULL) != STATUS_OK ||
        format_record_get(lsn, value, &record, NULL) != STATUS_OK) {
        sim_fail("a record of the journal is damaged");
        return;
    }
    struct journal_unit *found = NULL;
    for (size_t i = 0; i < journal.count && found == NULL; i++) {
        found = journal.units[i].unit == record.unit ? &journal.units[i] : NULL;
    }
    if (found == NULL) {
        assert(journal.count < 4096);
        found = &journal.units[journal.count++];
        *found = (struct journal_unit){.unit = record.unit};
    }
    if (record.kind == WAL_KIND_BEGIN) {
        found->model = unit_of_begin(record.payload);
    }
    found->last = record.kind;
}

static void check_journal(void)
{
    journal.count = 0;
    sim_store_each_record("/simulated", on_record, NULL);
    for (size_t i = 0; i < journal.count; i++) {
        const struct journal_unit *at = &journal.units[i];
        if (at->last == WAL_KIND_BEGIN || at->last == WAL_KIND_WRITE) {
            sim_fail("unit %llu is left open in the journal", (unsigned long long)at->unit);
        }
        if (at->last == WAL_KIND_CONFLICT) {
            sim_note("journal: unit %llu is set aside", (unsigned long long)at->unit);
            if (!model_strangers_wrote()) {
                sim_fail("unit %llu was set aside, though no stranger wrote",
                         (unsigned long long)at->unit);
            }
            if (at->model != NULL) {
                at->model->set_aside = true;
            }
        }
    }
}

static bool journal_sets_aside_unnamed(void)
{
    for (size_t i = 0; i < journal.count; i++) {
        if (journal.units[i].last == WAL_KIND_CONFLICT && journal.units[i].model == NULL) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ the end */

/* A plain write to one document is not in the journal: a crash of the server may take it, as it
   would without the proxy. */
static bool may_be_lost(const struct model_effect *effect)
{
    return effect->command->unit->kind == MODEL_PLAIN ||
           effect->command->unit->kind == MODEL_STRANGER;
}

/* A stranger took the change back, and the command, sent again, was rightly done again. */
static bool is_done_later(const struct model_effect *effect)
{
    bool stranger = false;
    for (const struct model_effect *at = effect + 1; at < model.effects + model.effect_count;
         at++) {
        if (model_same_document(at, effect)) {
            stranger = stranger || model_is_strangers(at->command);
            if (stranger && at->command == effect->command && model_is_there(at)) {
                return true;
            }
        }
    }
    return false;
}

/* Documents that the command has changed for good. */
static int64_t changed_by(const struct model_command *command)
{
    int64_t count = 0;
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *at = &model.effects[i];
        bool counts = at->command == command && at->taken_back == 0 &&
                      (!at->lost || may_be_lost(at)) && !is_done_later(at);
        count += counts ? 1 : 0;
    }
    return count;
}

/*
 * Whether the document came back to what the unit had found, by the unit's own changes or by what
 * strangers did after them: then there is nothing to undo.
 */
static bool is_as_before(const struct model_effect *effect)
{
    const struct model_effect *first = NULL;
    bool as_before = false;
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *at = &model.effects[i];
        bool own = at->command->unit == effect->command->unit;
        if (!model_is_there(at) || !model_same_document(at, effect)) {
            continue;
        }
        first = first == NULL && own ? at : first;
        if (first != NULL && (own || model_is_strangers(at->command))) {
            bool back = model_same_bytes(&first->before, &at->after);
            as_before = back || (as_before && !own);
        }
    }
    return as_before;
}

/* All or nothing. What was done and taken back before counts as nothing. */
static void check_either(const struct model_unit *unit)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *kept = &model.effects[i];
        if (kept->command->unit != unit || !model_is_there(kept) || is_as_before(kept)) {
            continue;
        }
        for (size_t j = i + 1; j < model.effect_count; j++) {
            if (model.effects[j].command->unit == unit && !model_is_there(&model.effects[j]) &&
                !(model.effects[j].lost && may_be_lost(&model.effects[j]))) {
                sim_fail("unit %zu is half there", model_number_of(unit));
            }
        }
    }
}

static void check_whole(const struct model_unit *unit)
{
    for (size_t i = 0; i < model.command_count; i++) {
        const struct model_command *command = &model.commands[i];
        int64_t count = changed_by(command);
        /* What changed nothing is not remembered, by mongod neither: the first sending of a command
           that was sent again may still come, and be done. */
        if (command->unit == unit && unit->kind == MODEL_RETRYABLE && command->changed == 0) {
            check_either(unit);
            continue;
        }
        if (command->unit == unit && command->replied && count != command->changed) {
            sim_fail("unit %zu is committed, and command %zu changed %lld documents; there are "
                     "%lld",
                     model_number_of(unit), i + 1, (long long)command->changed, (long long)count);
        }
    }
    if (unit->kind != MODEL_TRANSACTION) {
        return;
    }
    for (size_t i = 0; i < model.effect_count; i++) {
        if (model.effects[i].command->unit == unit && model.effects[i].taken_back != 0) {
            sim_fail("unit %zu is committed, and a change of it was taken back",
                     model_number_of(unit));
        }
    }
}

static void check_absent(const struct model_unit *unit)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        if (model.effects[i].command->unit == unit && model_is_there(&model.effects[i]) &&
            !is_as_before(&model.effects[i])) {
            sim_fail("unit %zu was rolled back, and a change of it is there",
                     model_number_of(unit));
        }
    }
}

/* A command that is done again changes a document a second time. */
static void check_once(void)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        for (size_t j = i + 1; j < model.effect_count; j++) {
            if (model.effects[i].command == model.effects[j].command &&
                model_is_there(&model.effects[i]) && model_is_there(&model.effects[j]) &&
                model_same_document(&model.effects[i], &model.effects[j]) &&
                !is_done_later(&model.effects[i])) {
                sim_fail("unit %zu changed a document twice by one command",
                         model_number_of(model.effects[i].command->unit));
            }
        }
    }
}

/* Between a transaction's change, or what it was told of it, and its commit nobody else changes the
   document. */
static void check_isolated(const struct model_effect *effect)
{
    const struct model_unit *unit = effect->command->unit;
    uint64_t until = effect->taken_back != 0 ? effect->taken_back : unit->commit_asked;
    if (unit->kind != MODEL_TRANSACTION || unit->set_aside ||
        (unit->outcome == MODEL_ROLLED_BACK && effect->taken_back == 0) || effect->lost) {
        return;
    }
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *other = &model.effects[i];
        if (other->order > effect->since && other->order < until && other->command->unit != unit &&
            !model_is_strangers(other->command) && model_same_document(other, effect)) {
            sim_fail("unit %zu changed what unit %zu had changed and not yet committed",
                     model_number_of(other->command->unit), model_number_of(unit));
        }
    }
}

/* Somebody else has changed the document after the transaction had read it, and before it wrote. */
static void check_read(const struct model_effect *effect, const struct model_read *read)
{
    const struct model_unit *unit = effect->command->unit;
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *other = &model.effects[i];
        if (other->command->unit != unit && other->order > read->at &&
            other->order < effect->since && !model_is_strangers(other->command) &&
            model_is_there(other) && other->command->unit->outcome == MODEL_COMMITTED &&
            model_same_document(other, effect)) {
            sim_fail("unit %zu wrote a document that unit %zu had changed since it read it",
                     model_number_of(unit), model_number_of(other->command->unit));
        }
    }
}

static void check_reads(const struct model_effect *effect)
{
    const struct model_unit *unit = effect->command->unit;
    if (unit->kind != MODEL_TRANSACTION || unit->outcome != MODEL_COMMITTED || unit->set_aside ||
        !model_is_there(effect) || model_server_lost()) {
        return;
    }
    for (size_t i = 0; i < model.read_count; i++) {
        const struct model_read *read = &model.reads[i];
        bson_t key = BSON_INITIALIZER;
        BSON_APPEND_INT32(&key, "_id", read->id);
        if (read->unit == unit && model_has_key(effect, read->namespace, &key)) {
            check_read(effect, read);
        }
        bson_destroy(&key);
    }
}

static void check_unit(const struct model_unit *unit)
{
    if (unit->kind == MODEL_STRANGER || unit->set_aside ||
        (unit->kind == MODEL_PLAIN && journal_sets_aside_unnamed())) {
        return; /* what strangers did is kept, and an operator is told */
    }
    switch (unit->outcome) {
    case MODEL_COMMITTED:
        check_whole(unit);
        break;
    case MODEL_ROLLED_BACK:
        check_absent(unit);
        break;
    case MODEL_UNKNOWN:
        check_either(unit);
        break;
    case MODEL_AWRY:
        sim_fail("unit %zu ended in an error that says nothing, and is not set aside",
                 model_number_of(unit));
        break;
    }
}

/*
 * Of a document that came and went within what was lost, nothing had to be done again: it is as if
 * all of that were there.
 */
static void forgive_no_change(void)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        size_t last = model.effect_count;
        for (size_t j = i;
             j < model.effect_count && model.effects[i].lost && model.effects[i].taken_back == 0;
             j++) {
            if (model.effects[j].lost && model.effects[j].taken_back == 0 &&
                model_same_document(&model.effects[i], &model.effects[j]) &&
                model_same_bytes(&model.effects[i].before, &model.effects[j].after)) {
                last = j;
            }
        }
        for (size_t j = i; last < model.effect_count && j <= last; j++) {
            if (model_same_document(&model.effects[i], &model.effects[j])) {
                model.effects[j].lost = false;
            }
        }
    }
}

void model_check(void)
{
    forgive_no_change();
    check_journal();
    check_once();
    for (size_t i = 0; i < model.unit_count; i++) {
        check_unit(&model.units[i]);
    }
    for (size_t i = 0; i < model.effect_count; i++) {
        check_isolated(&model.effects[i]);
        check_reads(&model.effects[i]);
    }
}
