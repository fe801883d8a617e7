/* What must hold, whatever has happened; see model.h. */
#include "model_private.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "own.h"

struct model model;
static bool server_lost;

bool model_view(const struct bytes *bytes, bson_t *ret_view)
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

size_t model_number_of(const struct model_unit *unit)
{
    return (size_t)(unit - model.units);
}

/* ------------------------------------------------------------------ what clients ask and hear */

struct model_unit *model_unit_new(enum model_kind kind, const uint8_t session[16],
                                  int64_t transaction_number)
{
    assert(model.unit_count < MODEL_UNITS_MAX);
    struct model_unit *unit = &model.units[model.unit_count++];
    *unit = (struct model_unit){.kind = kind,
                                .transaction_number = transaction_number,
                                .commit_asked = UINT64_MAX,
                                .life = process_lives(),
                                .began_us = sim.now_us};
    if (session != NULL) {
        memcpy(unit->session, session, sizeof unit->session);
    }
    return unit;
}

uint64_t model_command_new(struct model_unit *unit, const bson_t *command)
{
    assert(model.command_count < MODEL_COMMANDS_MAX);
    struct model_command *at = &model.commands[model.command_count++];
    *at = (struct model_command){.unit = unit};
    keep(&at->bytes, command);
    char *json = bson_as_relaxed_extended_json(command, NULL);
    sim_note("unit %zu command %zu: %s", model_number_of(unit), model.command_count, json);
    bson_free(json);
    return model.command_count;
}

uint64_t model_tag_new(struct model_unit *unit, const bson_t *command)
{
    return sim.profile.deferred ? model_command_new(unit, command) : 0;
}

void model_is_late(uint64_t tag)
{
    if (tag > 0 && model.commands[tag - 1].unit->kind == MODEL_PLAIN) {
        sim_note("command %llu comes late", (unsigned long long)tag);
        model.commands[tag - 1].late = true;
    }
}

void model_replied(uint64_t tag, int64_t changed)
{
    struct model_command *command = &model.commands[tag - 1];
    command->replied = true;
    command->replied_at = model.order;
    command->breaks = sim.breaks;
    command->changed = changed;
    model_own_note(command);
}

bool model_put_off(bson_t *command)
{
    static const struct model_command *found[MODEL_COMMANDS_MAX];
    size_t count = 0;
    bson_t body;
    for (size_t i = 0; i < model.command_count; i++) {
        const struct model_command *at = &model.commands[i];
        if (at->replied && at->changed > 0 && at->unit->kind == MODEL_TRANSACTION &&
            at->unit->outcome == MODEL_UNKNOWN) {
            found[count++] = at;
        }
    }
    if (count > 0 && model_view(&found[random_below(count)]->bytes, &body)) {
        bson_concat(command, &body);
    }
    return count > 0;
}

void model_ended(struct model_unit *unit, enum model_outcome outcome)
{
    static const char *const names[] = {"unknown", "committed", "rolled back", "awry"};
    sim_note("unit %zu: %s", model_number_of(unit), names[outcome]);
    unit->outcome = outcome;
}

/* The proxy cannot know of it: written around it, or by a plain write that a former life of it had
   passed on and that arrived late. */
bool model_is_strangers(const struct model_command *command)
{
    return command->unit->kind == MODEL_STRANGER || command->late;
}

/* Whether the change is in the document, as far as it is for its unit. */
bool model_is_there(const struct model_effect *effect)
{
    return effect->taken_back == 0 && !effect->lost;
}

bool model_has_key(const struct model_effect *effect, const char *namespace, const bson_t *key)
{
    return strcmp(effect->namespace, namespace) == 0 && is(&effect->key, key);
}

bool model_strangers_wrote(void)
{
    for (size_t i = 0; i < model.command_count; i++) {
        if (model_is_strangers(&model.commands[i])) {
            return true;
        }
    }
    return false;
}

bool model_server_lost(void)
{
    return server_lost;
}

bool model_names_collection(const struct model_command *command, const char *namespace)
{
    bson_t body;
    bson_iter_t at;
    return model_view(&command->bytes, &body) && bson_iter_init(&at, &body) &&
           bson_iter_next(&at) && BSON_ITER_HOLDS_UTF8(&at) &&
           strncmp(namespace, "shop.", 5) == 0 &&
           strcmp(bson_iter_utf8(&at, NULL), namespace + 5) == 0;
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

bool model_command_result(const struct model_command *command, const bson_t *key,
                          const bson_t *before, bson_t **ret_after)
{
    bson_t body;
    *ret_after = NULL;
    (void)model_view(&command->bytes, &body);
    if (bson_has_field(&body, "findAndModify")) {
        return statement_result(&body, "query", "update", key, before, ret_after);
    }
    return list_result(&body, "documents", key, before, ret_after) ||
           list_result(&body, "updates", key, before, ret_after) ||
           list_result(&body, "deletes", key, before, ret_after);
}

/* ------------------------------------------------------------------ what the server sees */

static struct model_effect *effect_new(const char *namespace, const bson_t *key)
{
    assert(model.effect_count < MODEL_EFFECTS_MAX);
    struct model_effect *effect = &model.effects[model.effect_count++];
    *effect = (struct model_effect){.order = ++model.order};
    (void)snprintf(effect->namespace, sizeof effect->namespace, "%s", namespace);
    keep(&effect->key, key);
    return effect;
}

static void give_up_lost(const char *namespace, const bson_t *key)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        if (model.effects[i].lost && model_has_key(&model.effects[i], namespace, key)) {
            model.effects[i].gone = true;
        }
    }
}

static void client_changed(const char *namespace, const bson_t *key, const bson_t *before,
                           const bson_t *after, struct model_command *command)
{
    if (!model_is_strangers(command)) {
        give_up_lost(namespace, key); /* nothing passes before all is there again that can be */
    }
    struct model_effect *effect = effect_new(namespace, key);
    bson_t *expected = NULL;
    effect->command = command;
    effect->since = command->replied ? command->replied_at : effect->order;
    keep(&effect->before, before);
    keep(&effect->after, after);
    sim_note("effect %llu: unit %zu changes %s %s", (unsigned long long)effect->order,
             model_number_of(command->unit), namespace, text_of(key));
    if (!model_command_result(command, key, before, &expected)) {
        sim_fail("%s %s was changed by a command that does not select it", namespace, text_of(key));
    } else if (!is(&effect->after, expected)) {
        sim_fail("%s %s was changed to what its command does not make of it", namespace,
                 text_of(key));
    }
    if (expected != NULL) {
        bson_destroy(expected);
    }
}

bool model_same_bytes(const struct bytes *a, const struct bytes *b)
{
    return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

bool model_same_document(const struct model_effect *a, const struct model_effect *b)
{
    return strcmp(a->namespace, b->namespace) == 0 && a->key.size == b->key.size &&
           memcmp(a->key.data, b->key.data, a->key.size) == 0;
}

/* It was journaled, perhaps, and perhaps not sent: nobody was told of it, or it was put off and
   something broke since; else the proxy knows what it has not sent. */
static bool may_be_unsent(const struct model_command *command, const char *namespace,
                          const bson_t *key)
{
    bool put_off = sim.breaks > command->breaks && sim.profile.deferred &&
                   command->unit->kind == MODEL_TRANSACTION;
    for (size_t i = 0; i < model.effect_count && put_off; i++) {
        put_off = model.effects[i].command != command ||
                  !model_has_key(&model.effects[i], namespace, key);
    }
    return put_off || !command->replied;
}

/*
 * Whether a write that was journaled and perhaps never sent would have made of the document what is
 * there: from what was before, or what is behind, the oldest change that is taken back.
 */
static bool is_in_journal_only(const struct model_effect *from, const struct model_effect *last,
                               const bson_t *key)
{
    const struct bytes *sources[] = {&from->before, &from->after};
    bool found = false;
    for (size_t i = 0; i < 2 * model.command_count && !found; i++) {
        const struct model_command *command = &model.commands[i / 2];
        bson_t before;
        bson_t *after = NULL;
        bool was = model_view(sources[i % 2], &before);
        if (!model_is_strangers(command) && may_be_unsent(command, last->namespace, key) &&
            model_command_result(command, key, was ? &before : NULL, &after)) {
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
static bool is_undone_again(const struct model_effect *from, const struct model_effect *last,
                            const char *namespace, const bson_t *key)
{
    bool again = false;
    for (const struct model_effect *at = model.effects;
         model_is_strangers(from->command) && at < from; at++) {
        again = again || (at->taken_back != 0 && !model_is_strangers(at->command) &&
                          model_has_key(at, namespace, key) &&
                          model_same_bytes(&at->before, &from->before) &&
                          model_same_bytes(&at->after, &last->after));
    }
    return again;
}

/*
 * Strangers have changed the document since, and brought it back to something that the unit knows:
 * nobody can see that they were there.
 */
static bool is_unseen(const struct model_effect *from, const char *namespace, const bson_t *key)
{
    const struct model_effect *last = from;
    bool unseen = false;
    for (const struct model_effect *at = from; at < model.effects + model.effect_count; at++) {
        last = model_is_there(at) && model_has_key(at, namespace, key) ? at : last;
    }
    for (const struct model_effect *at = from; at < model.effects + model.effect_count; at++) {
        bool own = model_is_there(at) && at->command->unit == from->command->unit &&
                   model_has_key(at, namespace, key);
        unseen = unseen || (own && (model_same_bytes(&at->before, &last->after) ||
                                    model_same_bytes(&at->after, &last->after)));
    }
    return unseen || is_in_journal_only(from, last, key) ||
           is_undone_again(from, last, namespace, key);
}

/* Takes back the effect and all on this document that followed it. */
static void take_back(struct model_effect *from, const char *namespace, const bson_t *key)
{
    bool unseen = is_unseen(from, namespace, key);
    for (struct model_effect *at = from; at < model.effects + model.effect_count; at++) {
        if (!model_is_there(at) || !model_has_key(at, namespace, key)) {
            continue;
        }
        at->taken_back = model.order;
        sim_note("effect %llu is taken back", (unsigned long long)at->order);
        if (model_is_strangers(at->command) && !unseen) {
            sim_fail("newer data of a stranger in %s %s was overwritten", namespace, text_of(key));
        } else if (!model_is_strangers(at->command) && at->command->unit != from->command->unit) {
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
static struct model_effect *find_lost(const char *namespace, const bson_t *key, const bson_t *after)
{
    bool newer = false;
    for (size_t i = model.effect_count; i > 0; i--) {
        struct model_effect *at = &model.effects[i - 1];
        if (!model_has_key(at, namespace, key) || at->taken_back != 0) {
            continue;
        }
        if (at->lost && !at->gone && is(&at->after, after) && !(newer && after == NULL)) {
            return at;
        }
        newer = newer || !at->lost;
    }
    return NULL;
}

static void do_again(const struct model_effect *last, const char *namespace, const bson_t *key)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        struct model_effect *at = &model.effects[i];
        if (at->taken_back != 0 || !model_has_key(at, namespace, key)) {
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
    struct model_effect *lost = find_lost(namespace, key, after);
    model.order++;
    if (lost != NULL) {
        do_again(lost, namespace, key);
        return;
    }
    for (size_t i = model.effect_count; i > 0; i--) {
        struct model_effect *at = &model.effects[i - 1];
        if (model_is_there(at) && model_has_key(at, namespace, key) && is(&at->before, after)) {
            take_back(at, namespace, key);
            return;
        }
    }
    sim_fail("the proxy wrote something of its own to %s %s", namespace, text_of(key));
}

/* The server has crashed: its newest change of the document is gone. */
static void on_lost(const char *namespace, const bson_t *key)
{
    server_lost = true;
    for (size_t i = model.effect_count; i > 0; i--) {
        struct model_effect *at = &model.effects[i - 1];
        if (model_is_there(at) && model_has_key(at, namespace, key)) {
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
        client_changed(namespace, key, before, after,
                       model_command_of(tag, namespace, key, before, after));
    } else {
        proxy_changed(namespace, key, after);
    }
}

void model_begin_run(void)
{
    database_watch_with(on_change, on_lost);
}

void model_reset(void)
{
    for (size_t i = 0; i < model.effect_count; i++) {
        bytes_free(&model.effects[i].key);
        bytes_free(&model.effects[i].before);
        bytes_free(&model.effects[i].after);
    }
    for (size_t i = 0; i < model.command_count; i++) {
        bytes_free(&model.commands[i].bytes);
    }
    model.effect_count = 0;
    model.command_count = 0;
    model.unit_count = 0;
    server_lost = false;
    model.read_count = 0;
    model.order = 0;
    own_reset();
    database_watch_with(NULL, NULL);
}
