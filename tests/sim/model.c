/* What must hold, whatever has happened; see model.h. */
#include "model.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "network.h"
#include "store.h"
#include "wal/format.h"

#define UNITS_MAX 512
#define COMMANDS_MAX 2048
#define EFFECTS_MAX 8192

struct model_unit {
    enum model_kind kind;
    enum model_outcome outcome;
    uint8_t session[16];
    int64_t transaction_number;
    uint64_t commit_sent; /* when: in the order of effects; UINT64_MAX: not */
    bool set_aside;       /* the journal says so */
};

struct command {
    struct model_unit *unit;
    struct bytes bytes;
    bool replied;
    bool late; /* a plain write, carried out when who had passed it on was gone */
    int64_t changed;
};

/* A change of a document on the server. */
struct effect {
    uint64_t order;
    uint64_t taken_back; /* when; 0: not */
    bool lost;           /* by a crash of the server */
    bool gone;           /* lost, and others have written since: it will not come back */
    struct command *command;
    char namespace[32];
    struct bytes key;
    struct bytes before; /* size 0: there was none */
    struct bytes after;
};

static struct model_unit units[UNITS_MAX];
static size_t unit_count;
static struct command commands[COMMANDS_MAX];
static size_t command_count;
static struct effect effects[EFFECTS_MAX];
static size_t effect_count;
static uint64_t order;

static bool view(const struct bytes *bytes, bson_t *ret_view)
{
    return bytes->size > 0 && bson_init_static(ret_view, bytes->data, bytes->size);
}

static void keep(struct bytes *bytes, const bson_t *document)
{
    if (document != NULL) {
        bytes_append(bytes, bson_get_data(document), document->len);
    }
}

static bool is(const struct bytes *bytes, const bson_t *document)
{
    return document == NULL ? bytes->size == 0
                            : bytes->size == document->len &&
                                  memcmp(bytes->data, bson_get_data(document), bytes->size) == 0;
}

static const char *text_of(const bson_t *key)
{
    static char text[64];
    char *json = bson_as_relaxed_extended_json(key, NULL);
    (void)snprintf(text, sizeof text, "%s", json);
    bson_free(json);
    return text;
}

static size_t number_of(const struct model_unit *unit)
{
    return (size_t)(unit - units);
}

/* ------------------------------------------------------------------ what clients ask and hear */

struct model_unit *model_unit_new(enum model_kind kind, const uint8_t session[16],
                                  int64_t transaction_number)
{
    assert(unit_count < UNITS_MAX);
    struct model_unit *unit = &units[unit_count++];
    *unit = (struct model_unit){
        .kind = kind, .transaction_number = transaction_number, .commit_sent = UINT64_MAX};
    if (session != NULL) {
        memcpy(unit->session, session, sizeof unit->session);
    }
    return unit;
}

uint64_t model_command_new(struct model_unit *unit, const bson_t *command)
{
    assert(command_count < COMMANDS_MAX);
    struct command *at = &commands[command_count++];
    *at = (struct command){.unit = unit};
    keep(&at->bytes, command);
    char *json = bson_as_relaxed_extended_json(command, NULL);
    sim_note("unit %zu command %zu: %s", number_of(unit), command_count, json);
    bson_free(json);
    return command_count;
}

void model_is_late(uint64_t tag)
{
    if (tag > 0 && commands[tag - 1].unit->kind == MODEL_PLAIN) {
        sim_note("command %llu comes late", (unsigned long long)tag);
        commands[tag - 1].late = true;
    }
}

void model_replied(uint64_t tag, int64_t changed)
{
    commands[tag - 1].replied = true;
    commands[tag - 1].changed = changed;
}

void model_commit_sent(struct model_unit *unit)
{
    unit->commit_sent = unit->commit_sent == UINT64_MAX ? order : unit->commit_sent;
}

void model_ended(struct model_unit *unit, enum model_outcome outcome)
{
    static const char *const names[] = {"unknown", "committed", "rolled back", "awry"};
    sim_note("unit %zu: %s", number_of(unit), names[outcome]);
    unit->outcome = outcome;
}

/* The proxy cannot know of it: written around it, or by a plain write that a former life of it had
   passed on and that arrived late. */
static bool is_strangers(const struct command *command)
{
    return command->unit->kind == MODEL_STRANGER || command->late;
}

/* Whether the change is in the document, as far as it is for its unit. */
static bool is_there(const struct effect *effect)
{
    return effect->taken_back == 0 && !effect->lost;
}

static bool has_key(const struct effect *effect, const char *namespace, const bson_t *key)
{
    return strcmp(effect->namespace, namespace) == 0 && is(&effect->key, key);
}

bool model_has_changed(const struct model_unit *unit, const char *namespace, int32_t id)
{
    bson_t key = BSON_INITIALIZER;
    bool found = false;
    BSON_APPEND_INT32(&key, "_id", id);
    for (size_t i = 0; i < effect_count; i++) {
        found = found || (effects[i].command->unit == unit && is_there(&effects[i]) &&
                          has_key(&effects[i], namespace, &key));
    }
    bson_destroy(&key);
    return found;
}

bool model_strangers_wrote(void)
{
    for (size_t i = 0; i < command_count; i++) {
        if (is_strangers(&commands[i])) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ what a command makes of it */

/* The statement of the command for this document, and what it makes of it; false: none. */
static bool statement_result(const bson_t *statement, const char *filter_name, const char *update,
                             const bson_t *key, const bson_t *before, bson_t **ret_after)
{
    bson_iter_t at;
    bson_t filter;
    uint32_t size;
    const uint8_t *data;
    const char *unknown = NULL;
    bson_iter_t change;
    (void)bson_iter_init_find(&at, statement, filter_name);
    bson_iter_document(&at, &size, &data);
    (void)bson_init_static(&filter, data, size);
    if (!operators_match(before == NULL ? key : before, &filter, &unknown)) {
        return false;
    }
    if (bson_iter_init_find(&change, statement, update)) {
        *ret_after = operators_apply(before, &filter, &change, 0, &unknown);
    }
    return true;
}

static bool list_result(const bson_t *command, const char *list, const bson_t *key,
                        const bson_t *before, bson_t **ret_after)
{
    bson_iter_t statements;
    bson_iter_t at;
    bool found = false;
    if (!bson_iter_init_find(&statements, command, list) || !bson_iter_recurse(&statements, &at)) {
        return false;
    }
    while (!found && bson_iter_next(&at)) {
        bson_t statement;
        uint32_t size;
        const uint8_t *data;
        bson_iter_document(&at, &size, &data);
        (void)bson_init_static(&statement, data, size);
        if (strcmp(list, "documents") != 0) {
            found = statement_result(&statement, "q", "u", key, before, ret_after);
            continue;
        }
        bson_iter_t id;
        bson_iter_t wanted;
        found = before == NULL && operators_id(&statement, &id) && operators_id(key, &wanted) &&
                operators_same_value(&id, &wanted);
        if (found) {
            *ret_after = bson_copy(&statement);
        }
    }
    return found;
}

static bool command_result(const struct command *command, const bson_t *key, const bson_t *before,
                           bson_t **ret_after)
{
    bson_t body;
    *ret_after = NULL;
    (void)view(&command->bytes, &body);
    if (bson_has_field(&body, "findAndModify")) {
        return statement_result(&body, "query", "update", key, before, ret_after);
    }
    return list_result(&body, "documents", key, before, ret_after) ||
           list_result(&body, "updates", key, before, ret_after) ||
           list_result(&body, "deletes", key, before, ret_after);
}

/* ------------------------------------------------------------------ what the server sees */

static struct effect *effect_new(const char *namespace, const bson_t *key)
{
    assert(effect_count < EFFECTS_MAX);
    struct effect *effect = &effects[effect_count++];
    *effect = (struct effect){.order = ++order};
    (void)snprintf(effect->namespace, sizeof effect->namespace, "%s", namespace);
    keep(&effect->key, key);
    return effect;
}

static void give_up_lost(const char *namespace, const bson_t *key)
{
    for (size_t i = 0; i < effect_count; i++) {
        if (effects[i].lost && has_key(&effects[i], namespace, key)) {
            effects[i].gone = true;
        }
    }
}

static void client_changed(const char *namespace, const bson_t *key, const bson_t *before,
                           const bson_t *after, struct command *command)
{
    if (!is_strangers(command)) {
        give_up_lost(namespace, key); /* nothing passes before all is there again that can be */
    }
    struct effect *effect = effect_new(namespace, key);
    bson_t *expected = NULL;
    effect->command = command;
    keep(&effect->before, before);
    keep(&effect->after, after);
    sim_note("effect %llu: unit %zu changes %s %s", (unsigned long long)effect->order,
             number_of(command->unit), namespace, text_of(key));
    if (!command_result(command, key, before, &expected)) {
        sim_fail("%s %s was changed by a command that does not select it", namespace, text_of(key));
    } else if (!is(&effect->after, expected)) {
        sim_fail("%s %s was changed to what its command does not make of it", namespace,
                 text_of(key));
    }
    if (expected != NULL) {
        bson_destroy(expected);
    }
}

static bool same_bytes(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

static bool same_document(const struct effect *a, const struct effect *b)
{
    return strcmp(a->namespace, b->namespace) == 0 && a->key.size == b->key.size &&
           memcmp(a->key.data, b->key.data, a->key.size) == 0;
}

/*
 * Whether a write that was journaled and perhaps never sent would have made of the document what is
 * there: from what was before, or what is behind, the oldest change that is taken back.
 */
static bool is_in_journal_only(const struct effect *from, const struct effect *last,
                               const bson_t *key)
{
    const struct bytes *sources[] = {&from->before, &from->after};
    bool found = false;
    for (size_t i = 0; i < 2 * command_count && !found; i++) {
        const struct command *command = &commands[i / 2];
        bson_t before;
        bson_t *after = NULL;
        bool was = view(sources[i % 2], &before);
        if (!is_strangers(command) && !command->replied &&
            command_result(command, key, was ? &before : NULL, &after)) {
            found = is(&last->after, after);
        }
        if (after != NULL) {
            bson_destroy(after);
        }
    }
    return found;
}

/*
 * A unit that was undone, and the proxy died before it could say so, is undone a second time.
 * Strangers have meanwhile made of what was restored, `from` on, just what the unit had made of it.
 */
static bool is_undone_again(const struct effect *from, const struct effect *last,
                            const char *namespace, const bson_t *key)
{
    bool again = false;
    for (const struct effect *at = effects; is_strangers(from->command) && at < from; at++) {
        again = again ||
                (at->taken_back != 0 && !is_strangers(at->command) && has_key(at, namespace, key) &&
                 same_bytes(&at->before, &from->before) && same_bytes(&at->after, &last->after));
    }
    return again;
}

/*
 * Strangers have changed the document since, and brought it back to something that the unit knows:
 * nobody can see that they were there.
 */
static bool is_unseen(const struct effect *from, const char *namespace, const bson_t *key)
{
    const struct effect *last = from;
    bool unseen = false;
    for (const struct effect *at = from; at < effects + effect_count; at++) {
        last = is_there(at) && has_key(at, namespace, key) ? at : last;
    }
    for (const struct effect *at = from; at < effects + effect_count; at++) {
        bool own =
            is_there(at) && at->command->unit == from->command->unit && has_key(at, namespace, key);
        unseen = unseen || (own && (same_bytes(&at->before, &last->after) ||
                                    same_bytes(&at->after, &last->after)));
    }
    return unseen || is_in_journal_only(from, last, key) ||
           is_undone_again(from, last, namespace, key);
}

/* Takes back the effect and all on this document that followed it. */
static void take_back(struct effect *from, const char *namespace, const bson_t *key)
{
    bool unseen = is_unseen(from, namespace, key);
    for (struct effect *at = from; at < effects + effect_count; at++) {
        if (!is_there(at) || !has_key(at, namespace, key)) {
            continue;
        }
        at->taken_back = order;
        sim_note("effect %llu is taken back", (unsigned long long)at->order);
        if (is_strangers(at->command) && !unseen) {
            sim_fail("newer data of a stranger in %s %s was overwritten", namespace, text_of(key));
        } else if (!is_strangers(at->command) && at->command->unit != from->command->unit) {
            sim_fail("undoing a unit took back another unit's change of %s %s", namespace,
                     text_of(key));
        }
    }
}

/*
 * What a crash of the server has taken is done again: this change, and all before it that were lost
 * as well. NULL: there is none that makes this of the document. Where that is "nothing", it may as
 * well be an undo of what came later.
 */
static struct effect *find_lost(const char *namespace, const bson_t *key, const bson_t *after)
{
    bool newer = false;
    for (size_t i = effect_count; i > 0; i--) {
        struct effect *at = &effects[i - 1];
        if (!has_key(at, namespace, key) || at->taken_back != 0) {
            continue;
        }
        if (at->lost && !at->gone && is(&at->after, after) && !(newer && after == NULL)) {
            return at;
        }
        newer = newer || !at->lost;
    }
    return NULL;
}

static void do_again(const struct effect *last, const char *namespace, const bson_t *key)
{
    for (size_t i = 0; i < effect_count; i++) {
        struct effect *at = &effects[i];
        if (at->taken_back != 0 || !has_key(at, namespace, key)) {
            continue;
        }
        if (at->order > last->order && !at->lost) {
            sim_fail("what was lost of %s %s was done again over newer data", namespace,
                     text_of(key));
        } else if (at->order <= last->order && at->lost && !at->gone) {
            sim_note("effect %llu is done again", (unsigned long long)at->order);
            at->lost = false;
        }
    }
}

/* The proxy itself: it may put back what was there before a unit's change, or do again what was
   lost. */
static void proxy_changed(const char *namespace, const bson_t *key, const bson_t *after)
{
    struct effect *lost = find_lost(namespace, key, after);
    order++;
    if (lost != NULL) {
        do_again(lost, namespace, key);
        return;
    }
    for (size_t i = effect_count; i > 0; i--) {
        struct effect *at = &effects[i - 1];
        if (is_there(at) && has_key(at, namespace, key) && is(&at->before, after)) {
            take_back(at, namespace, key);
            return;
        }
    }
    sim_fail("the proxy wrote something of its own to %s %s", namespace, text_of(key));
}

/* The server has crashed: its newest change of the document is gone. */
static void on_lost(const char *namespace, const bson_t *key)
{
    for (size_t i = effect_count; i > 0; i--) {
        struct effect *at = &effects[i - 1];
        if (is_there(at) && has_key(at, namespace, key)) {
            sim_note("effect %llu is lost", (unsigned long long)at->order);
            at->lost = true;
            return;
        }
    }
}

static void on_change(const char *namespace, const bson_t *key, const bson_t *before,
                      const bson_t *after, uint64_t tag)
{
    if (strncmp(namespace, "shop.", 5) != 0) {
        return;
    }
    if (tag > 0) {
        client_changed(namespace, key, before, after, &commands[tag - 1]);
    } else {
        proxy_changed(namespace, key, after);
    }
}

void model_begin_run(void)
{
    database_watch_with(on_change, on_lost);
}

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

static struct model_unit *unit_of_begin(const struct wal_record *record)
{
    bson_iter_t at;
    bson_iter_t number;
    bson_subtype_t subtype;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (!bson_iter_init_from_data(&at, record->payload.data, record->payload.size) ||
        !bson_iter_find(&at, "lsid") ||
        !bson_iter_init_from_data(&number, record->payload.data, record->payload.size) ||
        !bson_iter_find(&number, "txnNumber")) {
        return NULL;
    }
    bson_iter_binary(&at, &subtype, &size, &data);
    for (size_t i = 0; i < unit_count; i++) {
        if (size == 16 && memcmp(units[i].session, data, 16) == 0 &&
            units[i].transaction_number == bson_iter_as_int64(&number)) {
            return &units[i];
        }
    }
    return NULL;
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
        found->model = unit_of_begin(&record);
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
static bool may_be_lost(const struct effect *effect)
{
    return effect->command->unit->kind == MODEL_PLAIN ||
           effect->command->unit->kind == MODEL_STRANGER;
}

/* A stranger took the change back, and the command, sent again, was rightly done again. */
static bool is_done_later(const struct effect *effect)
{
    bool stranger = false;
    for (const struct effect *at = effect + 1; at < effects + effect_count; at++) {
        if (same_document(at, effect)) {
            stranger = stranger || is_strangers(at->command);
            if (stranger && at->command == effect->command && is_there(at)) {
                return true;
            }
        }
    }
    return false;
}

/* Documents that the command has changed for good. */
static int64_t changed_by(const struct command *command)
{
    int64_t count = 0;
    for (size_t i = 0; i < effect_count; i++) {
        const struct effect *at = &effects[i];
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
static bool is_as_before(const struct effect *effect)
{
    const struct effect *first = NULL;
    bool as_before = false;
    for (size_t i = 0; i < effect_count; i++) {
        const struct effect *at = &effects[i];
        bool own = at->command->unit == effect->command->unit;
        if (!is_there(at) || !same_document(at, effect)) {
            continue;
        }
        first = first == NULL && own ? at : first;
        if (first != NULL && (own || is_strangers(at->command))) {
            bool back = same_bytes(&first->before, &at->after);
            as_before = back || (as_before && !own);
        }
    }
    return as_before;
}

/* All or nothing. What was done and taken back before counts as nothing. */
static void check_either(const struct model_unit *unit)
{
    for (size_t i = 0; i < effect_count; i++) {
        const struct effect *kept = &effects[i];
        if (kept->command->unit != unit || !is_there(kept) || is_as_before(kept)) {
            continue;
        }
        for (size_t j = i + 1; j < effect_count; j++) {
            if (effects[j].command->unit == unit && !is_there(&effects[j]) &&
                !(effects[j].lost && may_be_lost(&effects[j]))) {
                sim_fail("unit %zu is half there", number_of(unit));
            }
        }
    }
}

static void check_whole(const struct model_unit *unit)
{
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &commands[i];
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
                     number_of(unit), i + 1, (long long)command->changed, (long long)count);
        }
    }
    if (unit->kind != MODEL_TRANSACTION) {
        return;
    }
    for (size_t i = 0; i < effect_count; i++) {
        if (effects[i].command->unit == unit && effects[i].taken_back != 0) {
            sim_fail("unit %zu is committed, and a change of it was taken back", number_of(unit));
        }
    }
}

static void check_absent(const struct model_unit *unit)
{
    for (size_t i = 0; i < effect_count; i++) {
        if (effects[i].command->unit == unit && is_there(&effects[i]) &&
            !is_as_before(&effects[i])) {
            sim_fail("unit %zu was rolled back, and a change of it is there", number_of(unit));
        }
    }
}

/* A command that is done again changes a document a second time. */
static void check_once(void)
{
    for (size_t i = 0; i < effect_count; i++) {
        for (size_t j = i + 1; j < effect_count; j++) {
            if (effects[i].command == effects[j].command && is_there(&effects[i]) &&
                is_there(&effects[j]) && same_document(&effects[i], &effects[j]) &&
                !is_done_later(&effects[i])) {
                sim_fail("unit %zu changed a document twice by one command",
                         number_of(effects[i].command->unit));
            }
        }
    }
}

/* Between a transaction's change and its commit nobody else changes the document. */
static void check_isolated(const struct effect *effect)
{
    const struct model_unit *unit = effect->command->unit;
    uint64_t until = effect->taken_back != 0 ? effect->taken_back : unit->commit_sent;
    if (unit->kind != MODEL_TRANSACTION || unit->set_aside ||
        (unit->outcome == MODEL_ROLLED_BACK && effect->taken_back == 0) || effect->lost) {
        return;
    }
    for (size_t i = 0; i < effect_count; i++) {
        const struct effect *other = &effects[i];
        if (other->order > effect->order && other->order < until && other->command->unit != unit &&
            !is_strangers(other->command) && same_document(other, effect)) {
            sim_fail("unit %zu changed what unit %zu had changed and not yet committed",
                     number_of(other->command->unit), number_of(unit));
        }
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
                 number_of(unit));
        break;
    }
}

/*
 * Of a document that came and went within what was lost, nothing had to be done again: it is as if
 * all of that were there.
 */
static void forgive_no_change(void)
{
    for (size_t i = 0; i < effect_count; i++) {
        size_t last = effect_count;
        for (size_t j = i; j < effect_count && effects[i].lost && effects[i].taken_back == 0; j++) {
            if (effects[j].lost && effects[j].taken_back == 0 &&
                same_document(&effects[i], &effects[j]) &&
                same_bytes(&effects[i].before, &effects[j].after)) {
                last = j;
            }
        }
        for (size_t j = i; last < effect_count && j <= last; j++) {
            if (same_document(&effects[i], &effects[j])) {
                effects[j].lost = false;
            }
        }
    }
}

void model_check(void)
{
    forgive_no_change();
    check_journal();
    check_once();
    for (size_t i = 0; i < unit_count; i++) {
        check_unit(&units[i]);
    }
    for (size_t i = 0; i < effect_count; i++) {
        check_isolated(&effects[i]);
    }
}

void model_reset(void)
{
    for (size_t i = 0; i < effect_count; i++) {
        bytes_free(&effects[i].key);
        bytes_free(&effects[i].before);
        bytes_free(&effects[i].after);
    }
    for (size_t i = 0; i < command_count; i++) {
        bytes_free(&commands[i].bytes);
    }
    effect_count = 0;
    command_count = 0;
    unit_count = 0;
    order = 0;
    database_watch_with(NULL, NULL);
}
