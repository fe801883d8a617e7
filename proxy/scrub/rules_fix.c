/*
 * What a rule's fix does (rules_private.h).
 *
 *     fix: {delete: SOURCE}                     or a list of such, done in their order
 *     {delete: SOURCE, keep: oldest}            by _id; newest
 *     {set: {FIELD: EXPRESSION}, of: SOURCE}
 *     {update: {$OPERATOR: ...}, of: SOURCE}
 *     {insert: {FIELD: ...}, into: SOURCE, from: SOURCE}
 *     {mark: SOURCE}
 *
 * Each may have `without: SOURCE`: done only where the group has nothing of that. Where a rule has
 * one source only, `of` may be left out.
 */
#include <stdio.h>
#include <string.h>

#include "scrub/rules_private.h"

void rules_fix_free(struct scrub_fix *fix)
{
    bson_destroy(fix->body);
    *fix = (struct scrub_fix){0};
}

static enum status find_source(const struct place *place, const struct scrub_rule *rule,
                               size_t *ret_source)
{
    const char *name = NULL;
    enum status status = place_text(place, &name);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < rule->source_count; i++) {
        if (strcmp(rule->sources[i].name, name) == 0) {
            *ret_source = i;
            return STATUS_OK;
        }
    }
    return place_refuse(place, "this rule has no source %.60s", name);
}

/* The source that the key `name` names; of a rule with one source, that one. */
static enum status named_source(const struct place *place, const char *name,
                                const struct scrub_rule *rule, size_t *ret_source)
{
    struct place found;
    if (place_find(place, name, &found)) {
        return find_source(&found, rule, ret_source);
    }
    if (rule->source_count == 1) {
        *ret_source = 0;
        return STATUS_OK;
    }
    return place_refuse(place, "%s: is missing: which source's documents?", name);
}

static enum status read_delete(const struct place *place, const struct scrub_rule *rule,
                               struct scrub_fix *fix)
{
    struct place found;
    const char *which = NULL;
    enum status status =
        place_check_keys(place, (const char *const[]){"delete", "keep", "without", NULL});
    if (status == STATUS_OK) {
        status = named_source(place, "delete", rule, &fix->source);
    }
    if (status != STATUS_OK || !place_find(place, "keep", &found)) {
        return status;
    }
    status = place_text(&found, &which);
    if (status == STATUS_OK && strcmp(which, "oldest") == 0) {
        fix->keep = SCRUB_KEEP_OLDEST;
    } else if (status == STATUS_OK && strcmp(which, "newest") == 0) {
        fix->keep = SCRUB_KEEP_NEWEST;
    } else if (status == STATUS_OK) {
        status = place_refuse(&found, "keep: wants oldest or newest, by _id");
    }
    return status;
}

static enum status read_change(const struct place *place, const char *name,
                               const struct scrub_rule *rule, struct scrub_fix *fix)
{
    struct place body;
    enum status status =
        place_check_keys(place, (const char *const[]){name, "of", "without", NULL});
    if (status == STATUS_OK && place_find(place, name, &body)) {
        status = place_document(&body, &fix->body);
    }
    return status == STATUS_OK ? named_source(place, "of", rule, &fix->source) : status;
}

static enum status read_update(const struct place *place, const struct scrub_rule *rule,
                               struct scrub_fix *fix)
{
    enum status status = read_change(place, "update", rule, fix);
    bson_iter_t at;
    if (status != STATUS_OK) {
        return status;
    }
    bool operators = bson_iter_init(&at, fix->body) && bson_iter_next(&at);
    do {
        operators = operators && bson_iter_key(&at)[0] == '$';
    } while (operators && bson_iter_next(&at));
    return operators ? STATUS_OK : place_refuse(place, "update: wants operators, as $set or $pop");
}

static enum status read_set(const struct place *place, const struct scrub_rule *rule,
                            struct scrub_fix *fix)
{
    enum status status = read_change(place, "set", rule, fix);
    if (status == STATUS_OK && bson_empty(fix->body)) {
        status = place_refuse(place, "set: wants fields");
    }
    return status;
}

static enum status read_insert(const struct place *place, const struct scrub_rule *rule,
                               struct scrub_fix *fix)
{
    struct place found;
    enum status status =
        place_check_keys(place, (const char *const[]){"insert", "into", "from", "without", NULL});
    if (status == STATUS_OK && place_find(place, "insert", &found)) {
        status = place_document(&found, &fix->body);
    }
    if (status == STATUS_OK) {
        status = place_find(place, "into", &found)
                     ? find_source(&found, rule, &fix->into)
                     : place_refuse(place, "into: is missing: which source lacks it?");
    }
    fix->from_document = place_find(place, "from", &found);
    return status == STATUS_OK && fix->from_document ? find_source(&found, rule, &fix->source)
                                                     : status;
}

static enum status read_mark(const struct place *place, const struct scrub_rule *rule,
                             struct scrub_fix *fix)
{
    enum status status = place_check_keys(place, (const char *const[]){"mark", "without", NULL});
    return status == STATUS_OK ? named_source(place, "mark", rule, &fix->source) : status;
}

static const struct {
    const char *name;
    enum status (*read)(const struct place *place, const struct scrub_rule *rule,
                        struct scrub_fix *fix);
} readers[] = {
    [SCRUB_DELETE] = {"delete", read_delete}, [SCRUB_SET] = {"set", read_set},
    [SCRUB_UPDATE] = {"update", read_update}, [SCRUB_INSERT] = {"insert", read_insert},
    [SCRUB_MARK] = {"mark", read_mark},
};

static enum status read_one(const struct place *place, struct scrub_rule *rule)
{
    struct place found;
    if (rule->fix_count == SCRUB_FIXES_MAX) {
        return place_refuse(place, "a fix has at most %d steps", SCRUB_FIXES_MAX);
    }
    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        if (place_find(place, readers[i].name, &found)) {
            struct scrub_fix *fix = &rule->fixes[rule->fix_count++];
            *fix = (struct scrub_fix){.action = (enum scrub_action)i};
            fix->conditional = place_find(place, "without", &found);
            enum status status =
                fix->conditional ? find_source(&found, rule, &fix->without) : STATUS_OK;
            return status == STATUS_OK ? readers[i].read(place, rule, fix) : status;
        }
    }
    return place_refuse(place, "expected one of delete, set, update, insert, mark");
}

enum status rules_fix_read(const struct place *place, struct scrub_rule *rule)
{
    struct place item;
    if (!BSON_ITER_HOLDS_ARRAY(&place->at)) {
        return read_one(place, rule);
    }
    for (size_t i = 0; i < place_count(place); i++) {
        char index[24];
        (void)snprintf(index, sizeof(index), "%zu", i);
        enum status status = place_find(place, index, &item) ? read_one(&item, rule) : STATUS_OK;
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}
