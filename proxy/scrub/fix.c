/*
 * Fixes (fix.h).
 *
 * Invariant: in the unit, the first command is the look, and it says which isolation the unit has.
 *
 * Threads: the caller's.
 */
#include "scrub/fix.h"

#include <stdio.h>
#include <string.h>

#include "scrub/pipeline.h"

struct plan {
    const struct scrub_link *link;
    const struct scrub_rule *rule;
    const bson_t *group;
    const char *run;
    scrub_on_command *on_command;
    void *context;
    struct scrub_values values;
    struct error *error;
};

/* ------------------------------------------------------------------ a group's documents */

struct ids {
    bson_t *list; /* an array */
    uint32_t count;
    bool more; /* than SCRUB_FIX_DOCUMENTS_MAX */
};

static bool last_is(const struct ids *ids, const bson_iter_t *id)
{
    char buffer[16];
    const char *index = NULL;
    bson_iter_t last;
    bson_t a = BSON_INITIALIZER;
    bson_t b = BSON_INITIALIZER;
    bool same = false;
    if (ids->count > 0) {
        (void)bson_uint32_to_string(ids->count - 1, &index, buffer, sizeof(buffer));
        same = bson_iter_init_find(&last, ids->list, index) && bson_append_iter(&a, "", 0, &last) &&
               bson_append_iter(&b, "", 0, id) && bson_equal(&a, &b);
    }
    bson_destroy(&a);
    bson_destroy(&b);
    return same;
}

static bool on_id(const bson_t *document, void *context)
{
    struct ids *ids = context;
    bson_iter_t id;
    char buffer[16];
    const char *index = NULL;
    /* In the order of _id, so that one that was unwound comes several times in a row. */
    if (!bson_iter_init_find(&id, document, "_id") || last_is(ids, &id)) {
        return true;
    }
    if (ids->count == SCRUB_FIX_DOCUMENTS_MAX) {
        ids->more = true;
        return false;
    }
    (void)bson_uint32_to_string(ids->count++, &index, buffer, sizeof(buffer));
    bson_append_iter(ids->list, index, -1, &id);
    return true;
}

/* The caller destroys ret_ids->list, also after an error. */
static enum status find_ids(const struct plan *plan, size_t source, struct ids *ret_ids)
{
    *ret_ids = (struct ids){.list = bson_new()};
    /* One that unwinds may have many rows of a document. */
    bool unwinds = !bson_empty(plan->rule->sources[source].unwind);
    int64_t limit = unwinds ? 100 * SCRUB_FIX_DOCUMENTS_MAX : SCRUB_FIX_DOCUMENTS_MAX + 1;
    bson_t *command =
        scrub_pipeline_documents(plan->rule, source, plan->group, limit, plan->link->now_ms);
    enum status status =
        scrub_documents(plan->link, plan->rule->database, command, on_id, ret_ids, plan->error);
    bson_destroy(command);
    if (status == STATUS_OK && ret_ids->more) {
        status = error_set(plan->error, STATUS_LIMIT,
                           "rule %.100s: more than %d documents belong to one finding: put them "
                           "right by hand",
                           plan->rule->name, SCRUB_FIX_DOCUMENTS_MAX);
    }
    return status;
}

/* ------------------------------------------------------------------ commands */

static enum status plan_send(const struct plan *plan, bson_t *command)
{
    enum status status =
        plan->on_command(plan->rule->database, command, plan->context, plan->error);
    bson_destroy(command);
    return status;
}

/* {VERB: collection, STATEMENTS: [{q: {_id}, ...}]} over the ids from `first` up to `end`. */
static enum status send_statements(const struct plan *plan, size_t source, const struct ids *ids,
                                   uint32_t first, uint32_t end, const bson_t *update,
                                   bool pipeline)
{
    if (first >= end) {
        return STATUS_OK;
    }
    bson_t *command = bson_new();
    bson_t statements;
    BSON_APPEND_UTF8(command, update == NULL ? "delete" : "update",
                     plan->rule->sources[source].collection);
    BSON_APPEND_ARRAY_BEGIN(command, update == NULL ? "deletes" : "updates", &statements);
    for (uint32_t i = first; i < end; i++) {
        char buffers[2][16];
        const char *from = NULL;
        const char *to = NULL;
        bson_iter_t id;
        bson_t statement;
        bson_t query;
        (void)bson_uint32_to_string(i, &from, buffers[0], sizeof(buffers[0]));
        (void)bson_uint32_to_string(i - first, &to, buffers[1], sizeof(buffers[1]));
        if (!bson_iter_init_find(&id, ids->list, from)) {
            continue;
        }
        BSON_APPEND_DOCUMENT_BEGIN(&statements, to, &statement);
        BSON_APPEND_DOCUMENT_BEGIN(&statement, "q", &query);
        bson_append_iter(&query, "_id", 3, &id);
        bson_append_document_end(&statement, &query);
        if (update == NULL) {
            BSON_APPEND_INT32(&statement, "limit", 1);
        } else if (pipeline) {
            BSON_APPEND_ARRAY(&statement, "u", update);
        } else {
            BSON_APPEND_DOCUMENT(&statement, "u", update);
        }
        bson_append_document_end(&statements, &statement);
    }
    bson_append_array_end(command, &statements);
    return plan_send(plan, command);
}

static enum status do_delete(const struct plan *plan, const struct scrub_fix *fix)
{
    struct ids ids;
    enum status status = find_ids(plan, fix->source, &ids);
    if (status == STATUS_OK) {
        bool keep = fix->keep != SCRUB_KEEP_NONE && ids.count > 0;
        uint32_t first = keep && fix->keep == SCRUB_KEEP_OLDEST ? 1 : 0;
        uint32_t end = keep && fix->keep == SCRUB_KEEP_NEWEST ? ids.count - 1 : ids.count;
        status = send_statements(plan, fix->source, &ids, first, end, NULL, false);
    }
    bson_destroy(ids.list);
    return status;
}

/* Takes the update. */
static enum status do_update_by(const struct plan *plan, size_t source, bson_t *update,
                                bool pipeline)
{
    struct ids ids;
    enum status status = find_ids(plan, source, &ids);
    if (status == STATUS_OK) {
        status = send_statements(plan, source, &ids, 0, ids.count, update, pipeline);
    }
    bson_destroy(ids.list);
    bson_destroy(update);
    return status;
}

/* By a pipeline, whose expressions the server evaluates on each document. */
static enum status do_set(const struct plan *plan, const struct scrub_fix *fix)
{
    bson_t *fields = scrub_substitute(fix->body, &plan->values, true);
    bson_t *pipeline = BCON_NEW("0", "{", "$set", BCON_DOCUMENT(fields), "}");
    bson_destroy(fields);
    return do_update_by(plan, fix->source, pipeline, true);
}

static enum status do_update(const struct plan *plan, const struct scrub_fix *fix)
{
    return do_update_by(plan, fix->source, scrub_substitute(fix->body, &plan->values, false),
                        false);
}

static enum status do_mark(const struct plan *plan, const struct scrub_fix *fix)
{
    bson_t *update =
        BCON_NEW("$set", "{", SCRUB_MARK_FIELD, "{", "rule", BCON_UTF8(plan->rule->name), "run",
                 BCON_UTF8(plan->run), "at", BCON_DATE_TIME(plan->link->now_ms), "}", "}");
    return do_update_by(plan, fix->source, update, false);
}

/* Takes the document. */
static enum status send_insert(const struct plan *plan, const struct scrub_fix *fix,
                               bson_t *document)
{
    bson_t *command = BCON_NEW("insert", BCON_UTF8(plan->rule->sources[fix->into].collection),
                               "documents", "[", BCON_DOCUMENT(document), "]");
    bson_destroy(document);
    return plan_send(plan, command);
}

static bool on_made(const bson_t *document, void *context)
{
    bson_t **made = context;
    *made = bson_copy(document);
    return false;
}

/* What the server makes of the template and one document. */
static enum status insert_from(const struct plan *plan, const struct scrub_fix *fix,
                               const bson_iter_t *id)
{
    bson_t *template = scrub_substitute(fix->body, &plan->values, true);
    bson_t *command = bson_new();
    bson_t pipeline;
    bson_t stage;
    bson_t inner;
    bson_t *made = NULL;
    BSON_APPEND_UTF8(command, "aggregate", plan->rule->sources[fix->source].collection);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &inner);
    bson_append_iter(&inner, "_id", 3, id);
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(&pipeline, &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$replaceRoot", &inner);
    BSON_APPEND_DOCUMENT(&inner, "newRoot", template);
    bson_append_document_end(&stage, &inner);
    bson_append_document_end(&pipeline, &stage);
    bson_append_array_end(command, &pipeline);
    BSON_APPEND_DOCUMENT_BEGIN(command, "cursor", &inner);
    bson_append_document_end(command, &inner);
    bson_destroy(template);
    enum status status =
        scrub_documents(plan->link, plan->rule->database, command, on_made, &made, plan->error);
    bson_destroy(command);
    if (status == STATUS_OK && made != NULL) {
        return send_insert(plan, fix, made);
    }
    bson_destroy(made);
    return status;
}

static bool is_there(const struct plan *plan, size_t source)
{
    bson_iter_t at;
    bson_iter_t found;
    char path[96];
    (void)snprintf(path, sizeof(path), "%s.n", plan->rule->sources[source].name);
    return bson_iter_init(&at, plan->group) && bson_iter_find_descendant(&at, path, &found) &&
           bson_iter_as_int64(&found) > 0;
}

static enum status do_insert(const struct plan *plan, const struct scrub_fix *fix)
{
    if (is_there(plan, fix->into)) {
        return STATUS_OK;
    }
    if (!fix->from_document) {
        return send_insert(plan, fix, scrub_substitute(fix->body, &plan->values, false));
    }
    struct ids ids;
    bson_iter_t each;
    enum status status = find_ids(plan, fix->source, &ids);
    bool any = status == STATUS_OK && bson_iter_init(&each, ids.list);
    while (any && status == STATUS_OK && bson_iter_next(&each)) {
        status = insert_from(plan, fix, &each);
    }
    bson_destroy(ids.list);
    return status;
}

static enum status (*const actions[])(const struct plan *plan, const struct scrub_fix *fix) = {
    [SCRUB_DELETE] = do_delete, [SCRUB_SET] = do_set,   [SCRUB_UPDATE] = do_update,
    [SCRUB_INSERT] = do_insert, [SCRUB_MARK] = do_mark,
};

enum status scrub_fix_plan(const struct scrub_link *link, const struct scrub_rule *rule,
                           const bson_t *group, const char *run, scrub_on_command *on_command,
                           void *context, struct error *ret_error)
{
    struct plan plan = {
        .link = link,
        .rule = rule,
        .group = group,
        .run = run,
        .on_command = on_command,
        .context = context,
        .values = {.group = group, .rule = rule->name, .now_ms = link->now_ms},
        .error = ret_error,
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < rule->fix_count; i++) {
        const struct scrub_fix *fix = &rule->fixes[i];
        if (!fix->conditional || !is_there(&plan, fix->without)) {
            status = actions[fix->action](&plan, fix);
        }
    }
    return status;
}

/* ------------------------------------------------------------------ in a unit */

struct unit_fix {
    const struct scrub_rule *rule;
    const bson_t *group;
    const char *run;
    int64_t now_ms;
    struct maintain_unit *unit;
    bool begun;
    enum scrub_outcome outcome;
};

/* A link's command. */
static enum status unit_command(void *context, const char *database, const bson_t *command,
                                bson_t *ret_reply, struct error *ret_error)
{
    struct unit_fix *fix = context;
    if (fix->begun) {
        return maintain_unit_command(fix->unit, database, command, ret_reply, ret_error);
    }
    fix->begun = true;
    bson_t *first = bson_copy(command);
    BCON_APPEND(first, "comment", "{", "isolation", BCON_UTF8("serializable"), "}");
    enum status status = maintain_unit_command(fix->unit, database, first, ret_reply, ret_error);
    bson_destroy(first);
    return status;
}

static enum status unit_write(const char *database, const bson_t *command, void *context,
                              struct error *ret_error)
{
    bson_t reply;
    enum status status = unit_command(context, database, command, &reply, ret_error);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    return status;
}

/* What the fix has made of the group; a failure rolls the unit back. */
static enum status check_cured(struct unit_fix *fix, const struct scrub_link *link,
                               struct error *ret_error)
{
    bson_t *now = NULL;
    enum status status = scrub_look_at(link, fix->rule, fix->group, &now, ret_error);
    if (status == STATUS_OK && now != NULL) {
        fix->outcome = SCRUB_USELESS;
        status = error_set(ret_error, STATUS_CONFLICT, "the fix leaves the finding as it is");
    }
    bson_destroy(now);
    return status;
}

static enum status unit_body(struct maintain_unit *unit, unsigned attempt, void *context,
                             struct error *ret_error)
{
    struct unit_fix *fix = context;
    struct scrub_link link = {.command = unit_command, .context = fix, .now_ms = fix->now_ms};
    bson_t *now = NULL;
    (void)attempt;
    fix->unit = unit;
    fix->begun = false;
    enum status status = scrub_look_at(&link, fix->rule, fix->group, &now, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (now == NULL) {
        fix->outcome = SCRUB_GONE;
    } else if (!bson_equal(now, fix->group)) {
        fix->outcome = SCRUB_CHANGED;
    } else {
        fix->outcome = SCRUB_FIXED;
        status = scrub_fix_plan(&link, fix->rule, fix->group, fix->run, unit_write, fix, ret_error);
        status = status == STATUS_OK ? check_cured(fix, &link, ret_error) : status;
    }
    bson_destroy(now);
    return status;
}

enum status scrub_fix(struct maintain *maintain, const struct scrub_rule *rule, const bson_t *group,
                      const char *run, int64_t now_ms, enum scrub_outcome *ret_outcome,
                      struct error *ret_error)
{
    struct unit_fix fix = {.rule = rule, .group = group, .run = run, .now_ms = now_ms};
    enum status status = maintain_run(maintain, unit_body, &fix, NULL, ret_error);
    if (status == STATUS_CONFLICT && fix.outcome == SCRUB_USELESS) {
        status = STATUS_OK;
    }
    if (status == STATUS_OK) {
        *ret_outcome = fix.outcome;
    }
    return status;
}
