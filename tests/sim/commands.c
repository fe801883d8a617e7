/*
 * The commands of the simulated server. Each is carried out whole; what a statement does is one
 * change. Unknown forms fail the run.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "database.h"
#include "server.h"

#define DUPLICATE_KEY 11000

struct run {
    const struct command_context *context;
    char namespace[128];
    const char *unknown;
    bson_t *reply;
};

static int64_t now_ms(void)
{
    return (int64_t)(sim.now_us / 1000) + 1700000000000;
}

static bool view_of(const bson_iter_t *at, bson_t *ret_document)
{
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(at)) {
        bson_iter_document(at, &size, &data);
    } else if (BSON_ITER_HOLDS_ARRAY(at)) {
        bson_iter_array(at, &size, &data);
    }
    return data != NULL && bson_init_static(ret_document, data, size);
}

static bool find_document(const bson_t *in, const char *name, bson_t *ret_document)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, in, name) && view_of(&at, ret_document);
}

static bool flag(const bson_t *in, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, in, name) && bson_iter_as_bool(&at);
}

static int64_t number(const bson_t *in, const char *name)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, in, name) ? bson_iter_as_int64(&at) : 0;
}

static void fail(struct run *run, int code, const char *message)
{
    bson_reinit(run->reply);
    BSON_APPEND_INT32(run->reply, "ok", 0);
    BSON_APPEND_UTF8(run->reply, "errmsg", message);
    BSON_APPEND_INT32(run->reply, "code", code);
    BSON_APPEND_UTF8(run->reply, "codeName", "Simulated");
}

static void put_ok(struct run *run)
{
    BSON_APPEND_DOUBLE(run->reply, "ok", 1.0);
}

static const char *index_text(uint32_t index, char text[16])
{
    const char *name;
    (void)bson_uint32_to_string(index, &name, text, 16);
    return name;
}

static void put_duplicate(bson_t *errors, uint32_t count, int32_t index)
{
    char text[16];
    bson_t entry;
    BSON_APPEND_DOCUMENT_BEGIN(errors, index_text(count, text), &entry);
    BSON_APPEND_INT32(&entry, "index", index);
    BSON_APPEND_INT32(&entry, "code", DUPLICATE_KEY);
    BSON_APPEND_UTF8(&entry, "errmsg", "E11000 duplicate key error");
    bson_append_document_end(errors, &entry);
}

/* ------------------------------------------------------------------ finding */

/* The first document behind `from` that the filter selects; false: none. */
static bool next_match(struct run *run, const bson_t *filter, size_t *from, bson_t *ret_document)
{
    while (*from < database_count(run->namespace)) {
        database_get(run->namespace, (*from)++, ret_document);
        if (operators_match(ret_document, filter, &run->unknown)) {
            return true;
        }
    }
    return false;
}

static void run_find(struct run *run)
{
    bson_t none = BSON_INITIALIZER;
    bson_t filter;
    bson_t projection;
    bson_t cursor;
    bson_t batch;
    bson_t found;
    char text[16];
    size_t from = 0;
    uint32_t count = 0;
    const bson_t *command = run->context->command;
    const bson_t *wanted = find_document(command, "filter", &filter) ? &filter : &none;
    bool ids_only = find_document(command, "projection", &projection);
    int64_t limit = number(command, "limit");
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "cursor", &cursor);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &batch);
    while ((limit == 0 || count < limit) && next_match(run, wanted, &from, &found)) {
        bson_t id = BSON_INITIALIZER;
        bson_iter_t at;
        if (ids_only && operators_id(&found, &at)) {
            bson_append_iter(&id, "_id", 3, &at);
        }
        bson_append_document(&batch, index_text(count++, text), -1, ids_only ? &id : &found);
        bson_destroy(&id);
    }
    bson_append_array_end(&cursor, &batch);
    BSON_APPEND_INT64(&cursor, "id", 0);
    BSON_APPEND_UTF8(&cursor, "ns", run->namespace);
    bson_append_document_end(run->reply, &cursor);
    put_ok(run);
}

/* ------------------------------------------------------------------ writing */

static void put(struct run *run, const bson_t *document, const bson_t *after)
{
    bson_iter_t id;
    bool has_id = operators_id(document, &id);
    assert(has_id);
    (void)has_id;
    database_put(run->namespace, &id, after, run->context->tag);
}

static bool exists(struct run *run, const bson_t *document)
{
    bson_iter_t id;
    bson_t found;
    return operators_id(document, &id) && database_find(run->namespace, &id, &found);
}

static void run_insert(struct run *run)
{
    bson_iter_t documents;
    bson_iter_t at;
    bson_t errors = BSON_INITIALIZER;
    bson_t document;
    uint32_t error_count = 0;
    int32_t index = 0;
    int32_t n = 0;
    bool ordered =
        !bson_iter_init_find(&at, run->context->command, "ordered") || bson_iter_as_bool(&at);
    (void)bson_iter_init_find(&documents, run->context->command, "documents");
    (void)bson_iter_recurse(&documents, &at);
    for (; bson_iter_next(&at) && view_of(&at, &document); index++) {
        if (!exists(run, &document)) {
            put(run, &document, &document);
            n++;
            continue;
        }
        put_duplicate(&errors, error_count++, index);
        if (ordered) {
            break;
        }
    }
    BSON_APPEND_INT32(run->reply, "n", n);
    if (error_count > 0) {
        BSON_APPEND_ARRAY(run->reply, "writeErrors", &errors);
    }
    bson_destroy(&errors);
    put_ok(run);
}

/* An upsert that found nothing. False: there is one of this _id. */
static bool insert_upserted(struct run *run, const bson_t *filter, const bson_iter_t *update,
                            bson_t **ret_made)
{
    bson_t *made = operators_apply(NULL, filter, update, now_ms(), &run->unknown);
    if (made == NULL || exists(run, made)) {
        if (made != NULL) {
            bson_destroy(made);
        }
        return false;
    }
    put(run, made, made);
    *ret_made = made;
    return true;
}

struct counts {
    int32_t n;
    int32_t modified;
};

/* `with`: filter, update, multi, upsert of a statement. False: a duplicate key. */
static bool update_one(struct run *run, const bson_t *with, struct counts *counts, bson_t *upserted,
                       int32_t index)
{
    bson_t filter;
    bson_t found;
    bson_iter_t update;
    size_t from = 0;
    bool multi = flag(with, "multi");
    int32_t met = 0;
    (void)find_document(with, "q", &filter);
    (void)bson_iter_init_find(&update, with, "u");
    while ((multi || met == 0) && next_match(run, &filter, &from, &found)) {
        bson_t *after = operators_apply(&found, &filter, &update, now_ms(), &run->unknown);
        if (after == NULL) {
            return true;
        }
        met++;
        counts->modified += bson_equal(after, &found) ? 0 : 1;
        put(run, &found, after);
        bson_destroy(after);
    }
    counts->n += met;
    if (met == 0 && flag(with, "upsert")) {
        bson_t *made = NULL;
        bson_t entry;
        bson_iter_t id;
        char text[16];
        if (!insert_upserted(run, &filter, &update, &made)) {
            return false;
        }
        (void)operators_id(made, &id);
        BSON_APPEND_DOCUMENT_BEGIN(upserted, index_text(bson_count_keys(upserted), text), &entry);
        BSON_APPEND_INT32(&entry, "index", index);
        bson_append_iter(&entry, "_id", 3, &id);
        bson_append_document_end(upserted, &entry);
        bson_destroy(made);
        counts->n++;
    }
    return true;
}

static void run_update(struct run *run)
{
    bson_iter_t updates;
    bson_iter_t at;
    bson_t with;
    bson_t upserted = BSON_INITIALIZER;
    bson_t errors = BSON_INITIALIZER;
    struct counts counts = {0};
    int32_t index = 0;
    bool fine = true;
    (void)bson_iter_init_find(&updates, run->context->command, "updates");
    (void)bson_iter_recurse(&updates, &at);
    for (; fine && bson_iter_next(&at) && view_of(&at, &with); index++) {
        fine = update_one(run, &with, &counts, &upserted, index);
        if (!fine) {
            put_duplicate(&errors, 0, index);
        }
    }
    BSON_APPEND_INT32(run->reply, "n", counts.n);
    BSON_APPEND_INT32(run->reply, "nModified", counts.modified);
    if (!bson_empty(&upserted)) {
        BSON_APPEND_ARRAY(run->reply, "upserted", &upserted);
    }
    if (!fine) {
        BSON_APPEND_ARRAY(run->reply, "writeErrors", &errors);
    }
    bson_destroy(&upserted);
    bson_destroy(&errors);
    put_ok(run);
}

static void run_delete(struct run *run)
{
    bson_iter_t deletes;
    bson_iter_t at;
    bson_t with;
    int32_t n = 0;
    (void)bson_iter_init_find(&deletes, run->context->command, "deletes");
    (void)bson_iter_recurse(&deletes, &at);
    while (bson_iter_next(&at) && view_of(&at, &with)) {
        bson_t filter;
        bson_t found;
        int64_t limit = number(&with, "limit");
        int32_t met = 0;
        size_t from = 0;
        (void)find_document(&with, "q", &filter);
        while ((limit == 0 || met < limit) && next_match(run, &filter, &from, &found)) {
            put(run, &found, NULL);
            from--; /* another one stands in its place */
            met++;
        }
        n += met;
    }
    BSON_APPEND_INT32(run->reply, "n", n);
    put_ok(run);
}

static void put_modified(struct run *run, const bson_t *value, bool existing, int32_t n)
{
    bson_t last;
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "lastErrorObject", &last);
    BSON_APPEND_INT32(&last, "n", n);
    BSON_APPEND_BOOL(&last, "updatedExisting", existing);
    bson_append_document_end(run->reply, &last);
    if (value != NULL) {
        BSON_APPEND_DOCUMENT(run->reply, "value", value);
    } else {
        BSON_APPEND_NULL(run->reply, "value");
    }
    put_ok(run);
}

static void run_find_and_modify(struct run *run)
{
    const bson_t *command = run->context->command;
    bson_t query;
    bson_t found;
    bson_iter_t update;
    size_t from = 0;
    bool is_new = flag(command, "new");
    (void)find_document(command, "query", &query);
    if (next_match(run, &query, &from, &found)) {
        bson_t *before = bson_copy(&found);
        bson_t *after = NULL;
        if (!flag(command, "remove")) {
            (void)bson_iter_init_find(&update, command, "update");
            after = operators_apply(before, &query, &update, now_ms(), &run->unknown);
        }
        put(run, before, after);
        put_modified(run, is_new ? after : before, after != NULL, 1);
        bson_destroy(before);
        if (after != NULL) {
            bson_destroy(after);
        }
    } else if (flag(command, "upsert")) {
        bson_t *made = NULL;
        (void)bson_iter_init_find(&update, command, "update");
        if (insert_upserted(run, &query, &update, &made)) {
            put_modified(run, is_new ? made : NULL, false, 1);
            bson_destroy(made);
        } else {
            fail(run, DUPLICATE_KEY, "E11000 duplicate key error");
        }
    } else {
        put_modified(run, NULL, false, 0);
    }
}

/* ------------------------------------------------------------------ everything else */

static void run_hello(struct run *run)
{
    bson_t version;
    bson_oid_t process;
    bson_oid_init_from_data(&process, server_process_id());
    BSON_APPEND_BOOL(run->reply, "ismaster", true);
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "topologyVersion", &version);
    BSON_APPEND_OID(&version, "processId", &process);
    BSON_APPEND_INT64(&version, "counter", 0);
    bson_append_document_end(run->reply, &version);
    BSON_APPEND_INT32(run->reply, "maxBsonObjectSize", 16777216);
    BSON_APPEND_INT32(run->reply, "maxMessageSizeBytes", 48000000);
    BSON_APPEND_INT32(run->reply, "maxWriteBatchSize", 100000);
    BSON_APPEND_DATE_TIME(run->reply, "localTime", now_ms());
    BSON_APPEND_INT32(run->reply, "minWireVersion", 0);
    BSON_APPEND_INT32(run->reply, "maxWireVersion", 17);
    put_ok(run);
}

static bool address_in(const bson_t *group, const char *path, const char *address)
{
    bson_iter_t at;
    bson_iter_t list;
    bson_iter_t entry;
    bool found = false;
    (void)bson_iter_init(&at, group);
    if (!bson_iter_find_descendant(&at, path, &list) || !bson_iter_recurse(&list, &entry)) {
        return false;
    }
    while (bson_iter_next(&entry)) {
        found = found || strcmp(bson_iter_utf8(&entry, NULL), address) == 0;
    }
    return found;
}

static bool find_in(const bson_t *command, const char *path, bson_iter_t *ret_found)
{
    bson_iter_t at;
    return bson_iter_init(&at, command) && bson_iter_find_descendant(&at, path, ret_found);
}

/* The images as literals, filtered: the form of engine/write_hidden.c. */
static void run_select_images(struct run *run)
{
    const bson_t *command = run->context->command;
    bson_t none = BSON_INITIALIZER;
    bson_t filter;
    bson_t cursor;
    bson_t batch;
    bson_t image;
    bson_iter_t lists;
    bson_iter_t list;
    bson_iter_t at;
    char text[16];
    uint32_t count = 0;
    const bson_t *wanted =
        find_in(command, "pipeline.6.$match", &at) && view_of(&at, &filter) ? &filter : &none;
    bool one =
        find_in(command, "pipeline.7.$limit", &at) || find_in(command, "pipeline.6.$limit", &at);
    (void)find_in(command, "pipeline.2.$project.images.$literal", &at);
    (void)bson_iter_recurse(&at, &lists);
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "cursor", &cursor);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &batch);
    while (bson_iter_next(&lists) && bson_iter_recurse(&lists, &list)) {
        while (bson_iter_next(&list) && view_of(&list, &image)) {
            bson_t id = BSON_INITIALIZER;
            if (!(one && count > 0) && operators_match(&image, wanted, &run->unknown) &&
                operators_id(&image, &at)) {
                bson_append_iter(&id, "_id", 3, &at);
                bson_append_document(&batch, index_text(count++, text), -1, &id);
            }
            bson_destroy(&id);
        }
    }
    bson_append_array_end(&cursor, &batch);
    BSON_APPEND_INT64(&cursor, "id", 0);
    bson_append_document_end(run->reply, &cursor);
    put_ok(run);
}

/* Of a server that shows its connections, how many are those asked for: recover/fence.c's form. */
static void run_aggregate(struct run *run)
{
    bson_iter_t at;
    bson_iter_t found;
    bson_t group;
    bson_t cursor;
    bson_t batch;
    bson_t counts;
    char address[32];
    bool active = false;
    int32_t all = 0;
    int32_t present = 0;
    int32_t working = 0;
    bool known = bson_iter_init(&at, run->context->command) &&
                 bson_iter_find_descendant(&at, "pipeline.0.$currentOp", &found) &&
                 bson_iter_init(&at, run->context->command) &&
                 bson_iter_find_descendant(&at, "pipeline.2.$group", &found) &&
                 view_of(&found, &group);
    if (find_in(run->context->command, "pipeline.2.$project.images.$literal", &found)) {
        run_select_images(run);
        return;
    }
    if (!known) {
        run->unknown = "an aggregation";
        return;
    }
    if (!sim.profile.shows_connections) {
        fail(run, 59, "no such stage");
        return;
    }
    for (size_t i = 0; server_connection(i, address, &active); i++) {
        bool asked = address_in(&group, "present.$sum.$cond.0.$and.0.$in.1", address);
        all++;
        present += asked ? 1 : 0;
        working += asked && active ? 1 : 0;
    }
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "cursor", &cursor);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &batch);
    BSON_APPEND_DOCUMENT_BEGIN(&batch, "0", &counts);
    BSON_APPEND_NULL(&counts, "_id");
    BSON_APPEND_INT32(&counts, "all", all);
    BSON_APPEND_INT32(&counts, "present", present);
    BSON_APPEND_INT32(&counts, "active", working);
    bson_append_document_end(&batch, &counts);
    bson_append_array_end(&cursor, &batch);
    BSON_APPEND_INT64(&cursor, "id", 0);
    bson_append_document_end(run->reply, &cursor);
    put_ok(run);
}

static void run_server_status(struct run *run)
{
    char address[32];
    bool active;
    bson_t connections;
    int32_t count = 0;
    if (!sim.profile.shows_connections) {
        fail(run, 13, "not authorized");
        return;
    }
    while (server_connection((size_t)count, address, &active)) {
        count++;
    }
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "connections", &connections);
    BSON_APPEND_INT32(&connections, "current", count);
    bson_append_document_end(run->reply, &connections);
    put_ok(run);
}

static void run_list(struct run *run, const char *name)
{
    bson_t cursor;
    bson_t batch;
    bson_t entry;
    char text[16];
    uint32_t count = 0;
    size_t prefix = strlen(run->context->database);
    BSON_APPEND_DOCUMENT_BEGIN(run->reply, "cursor", &cursor);
    BSON_APPEND_INT64(&cursor, "id", 0);
    BSON_APPEND_ARRAY_BEGIN(&cursor, "firstBatch", &batch);
    if (strcmp(name, "listIndexes") == 0) {
        bson_t key;
        BSON_APPEND_DOCUMENT_BEGIN(&batch, "0", &entry);
        BSON_APPEND_DOCUMENT_BEGIN(&entry, "key", &key);
        BSON_APPEND_INT32(&key, "_id", 1);
        bson_append_document_end(&entry, &key);
        BSON_APPEND_UTF8(&entry, "name", "_id_");
        bson_append_document_end(&batch, &entry);
    } else {
        const char *namespace;
        for (size_t i = 0; (namespace = database_namespace(i)) != NULL; i++) {
            if (strncmp(namespace, run->context->database, prefix) == 0 &&
                namespace[prefix] == '.') {
                const char *index = index_text(count++, text);
                BSON_APPEND_DOCUMENT_BEGIN(&batch, index, &entry);
                BSON_APPEND_UTF8(&entry, "name", namespace + prefix + 1);
                bson_append_document_end(&batch, &entry);
            }
        }
    }
    bson_append_array_end(&cursor, &batch);
    bson_append_document_end(run->reply, &cursor);
    put_ok(run);
}

static void run_drop(struct run *run)
{
    if (database_count(run->namespace) == 0) {
        fail(run, 26, "ns not found");
        return;
    }
    database_drop(run->namespace);
    put_ok(run);
}

static void run_who(struct run *run)
{
    BSON_APPEND_UTF8(run->reply, "you", run->context->client);
    put_ok(run);
}

static void run_ok(struct run *run)
{
    put_ok(run);
}

static const struct {
    const char *name;
    void (*run)(struct run *run);
} commands[] = {
    {"find", run_find},
    {"insert", run_insert},
    {"update", run_update},
    {"delete", run_delete},
    {"findAndModify", run_find_and_modify},
    {"aggregate", run_aggregate},
    {"hello", run_hello},
    {"isMaster", run_hello},
    {"ping", run_ok},
    {"endSessions", run_ok},
    {"drop", run_drop},
    {"whatsmyuri", run_who},
    {"serverStatus", run_server_status},
};

void commands_run(const struct command_context *context, bson_t *reply)
{
    struct run run = {.context = context, .reply = reply};
    bson_iter_t at;
    bool found = false;
    (void)bson_iter_init(&at, context->command);
    (void)bson_iter_next(&at);
    const char *name = bson_iter_key(&at);
    if (BSON_ITER_HOLDS_UTF8(&at)) {
        (void)snprintf(run.namespace, sizeof run.namespace, "%s.%s", context->database,
                       bson_iter_utf8(&at, NULL));
    }
    if (strcmp(name, "listIndexes") == 0 || strcmp(name, "listCollections") == 0) {
        run_list(&run, name);
        found = true;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0] && !found; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            commands[i].run(&run);
            found = true;
        }
    }
    bson_iter_t concern;
    if (bson_iter_init(&at, context->command) &&
        bson_iter_find_descendant(&at, "writeConcern.j", &concern) && bson_iter_as_bool(&concern)) {
        database_sync();
    }
    if (!found || run.unknown != NULL) {
        char *text = bson_as_relaxed_extended_json(context->command, NULL);
        sim_fail("the simulated server does not understand %s: %s", found ? run.unknown : name,
                 text);
        bson_free(text);
        fail(&run, 59, "not simulated");
    }
    if (sim.verbose) {
        char *text = bson_as_relaxed_extended_json(context->command, NULL);
        char *answer = bson_as_relaxed_extended_json(reply, NULL);
        sim_show("server <- %s [%llu]: %.700s -> %.300s", context->client,
                 (unsigned long long)context->tag, text, answer);
        bson_free(text);
        bson_free(answer);
    }
}
