/*
 * What a transaction must see of its own writes, and which of them it is that the server carries
 * out; see model.h.
 *
 * With unit.writes: deferred the answer of a write says what it will have done, and the write comes
 * later, with another command of the transaction. What is told is held against what the transaction
 * has written before and against the documents of the server, which nobody else may change, for
 * the transaction has them locked.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "model_private.h"
#include "own.h"

/* As of net unit.lifetime: an older one may be gone while its answer is on the way. */
#define LIFETIME_US 4500000u

/* What is known of the unit's documents is right: nobody but the proxy has touched them, and it
   is the one that the unit began with. */
static bool is_trusted(const struct model_unit *unit)
{
    bool intact = !model_strangers_wrote() && !model_server_lost() &&
                  process_lives() == unit->life && sim.now_us - unit->began_us < LIFETIME_US;
    for (size_t i = 0; i < model.effect_count && intact; i++) {
        intact = model.effects[i].command->unit != unit || model_is_there(&model.effects[i]);
    }
    return intact;
}

/* The newest of the command on this document; NULL: none. */
static const struct model_effect *effect_of(const struct model_command *command,
                                            const char *namespace, const bson_t *key)
{
    const struct model_effect *found = NULL;
    for (size_t i = 0; i < model.effect_count; i++) {
        const struct model_effect *at = &model.effects[i];
        found = at->command == command && model_has_key(at, namespace, key) ? at : found;
    }
    return found;
}

static bool makes(const struct model_command *command, const bson_t *key, const bson_t *before,
                  const bson_t *after)
{
    bson_t *made = NULL;
    bool same = model_command_result(command, key, before, &made) &&
                (made == NULL) == (after == NULL) && (made == NULL || bson_equal(made, after));
    bson_destroy(made);
    return same;
}

/* ------------------------------------------------------------------ its writes */

static bool has_path(const struct model_command *command, const char *path, bool *ret_value)
{
    bson_t body;
    bson_iter_t at;
    bson_iter_t found;
    bool has = model_view(&command->bytes, &body) && bson_iter_init(&at, &body) &&
               bson_iter_find_descendant(&at, path, &found);
    *ret_value = has && bson_iter_as_bool(&found);
    return has;
}

static bool inserts(const struct model_command *command)
{
    bool value = false;
    return has_path(command, "documents", &value) ||
           (has_path(command, "updates.0.upsert", &value) && value);
}

static bool names_ids(const struct model_command *command)
{
    bool value = false;
    return has_path(command, "documents", &value) || has_path(command, "updates.0.q._id", &value) ||
           has_path(command, "deletes.0.q._id", &value) || has_path(command, "query._id", &value);
}

/* Only what names its documents is put off. */
struct model_command *model_command_of(uint64_t tag, const char *namespace, const bson_t *key,
                                       const bson_t *before, const bson_t *after)
{
    struct model_command *sent = &model.commands[tag - 1];
    for (struct model_command *at = model.commands; sim.profile.deferred && at < sent; at++) {
        if (at->unit == sent->unit && at->unit->kind == MODEL_TRANSACTION && at->replied &&
            at->changed > 0 && names_ids(at) && effect_of(at, namespace, key) == NULL &&
            model_names_collection(at, namespace) && makes(at, key, before, after)) {
            return at;
        }
    }
    return sent;
}

/* True: the command has changed it, or will have. */
static bool note_document(const struct model_command *command, const char *namespace, int32_t id)
{
    bson_t key = BSON_INITIALIZER;
    bson_t before;
    bson_t *after = NULL;
    bson_iter_t at;
    bool changes = false;
    BSON_APPEND_INT32(&key, "_id", id);
    const struct model_effect *effect = effect_of(command, namespace, &key);
    enum own_state state = own_find(command->unit, namespace, id, &before);
    if (effect != NULL) {
        own_put(command->unit, namespace, id, model_view(&effect->after, &before) ? &before : NULL);
        bson_destroy(&key);
        return true;
    }
    if (state != OWN_NONE || names_ids(command)) {
        (void)operators_id(&key, &at);
        bool was =
            state == OWN_PRESENT || (state == OWN_NONE && database_find(namespace, &at, &before));
        changes = (was || inserts(command)) &&
                  model_command_result(command, &key, was ? &before : NULL, &after) &&
                  !(was && after != NULL && bson_equal(&before, after)) && (was || after != NULL);
    }
    if (changes) {
        own_put(command->unit, namespace, id, after);
    }
    bson_destroy(after);
    bson_destroy(&key);
    return changes;
}

void model_own_note(const struct model_command *command)
{
    char namespace[32];
    bson_t body;
    bson_iter_t at;
    int64_t count = 0;
    if (command->unit->kind != MODEL_TRANSACTION || !is_trusted(command->unit)) {
        return;
    }
    (void)model_view(&command->bytes, &body);
    (void)bson_iter_init(&at, &body);
    (void)bson_iter_next(&at);
    (void)snprintf(namespace, sizeof namespace, "shop.%s", bson_iter_utf8(&at, NULL));
    for (int32_t id = 0; id < MODEL_IDS; id++) {
        count += note_document(command, namespace, id) ? 1 : 0;
    }
    if (count != command->changed) {
        sim_fail("unit %zu was told that its command changes %lld documents; by what it has "
                 "written before it must be %lld",
                 model_number_of(command->unit), (long long)command->changed, (long long)count);
    }
}

/* ------------------------------------------------------------------ its reads */

static bool find_id(const bson_t *documents, int32_t wanted, bson_t *ret_document)
{
    bson_iter_t at;
    bson_iter_t id;
    bool found = false;
    (void)bson_iter_init(&at, documents);
    while (!found && bson_iter_next(&at)) {
        uint32_t size;
        const uint8_t *data;
        bson_iter_document(&at, &size, &data);
        (void)bson_init_static(ret_document, data, size);
        found = operators_id(ret_document, &id) && bson_iter_as_int64(&id) == wanted;
    }
    return found;
}

static void note_read(const struct model_unit *unit, const char *namespace, int32_t id)
{
    assert(model.read_count < MODEL_READS_MAX);
    struct model_read *read = &model.reads[model.read_count++];
    *read = (struct model_read){.unit = unit, .id = id, .at = model.order};
    (void)snprintf(read->namespace, sizeof read->namespace, "%s", namespace);
}

void model_read(const struct model_unit *unit, const char *namespace, const bson_t *filter,
                const bson_t *documents)
{
    bool trusted = is_trusted(unit);
    bson_iter_t wanted;
    const char *unknown = NULL;
    bool by_id = operators_id(filter, &wanted);
    for (int32_t id = 0; id < MODEL_IDS; id++) {
        bson_t own;
        bson_t found;
        bool seen = find_id(documents, id, &found);
        enum own_state state = own_find(unit, namespace, id, &own);
        bool selected = state == OWN_PRESENT && operators_match(&own, filter, &unknown);
        if (state == OWN_NONE) {
            if (seen || (by_id && bson_iter_as_int64(&wanted) == id)) {
                note_read(unit, namespace, id);
            }
        } else if (trusted && seen != selected) {
            sim_fail("unit %zu does not see what it wrote to %s %d", model_number_of(unit),
                     namespace, id);
        } else if (trusted && seen && !bson_equal(&own, &found)) {
            sim_fail("unit %zu sees another document than it wrote in %s %d", model_number_of(unit),
                     namespace, id);
        }
    }
}
