/* What a unit has put off (deferred.h): one operation for each namespace and kind of write. */
#include "engine/deferred.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/equality.h"
#include "engine/write_steps.h"
#include "holdfast/limits.h"
#include "wire/bson_check.h"
#include "wire/bson_walk.h"

/* What an operation takes beside its documents, and a document beside its images. */
#define OPERATION_BYTES sizeof(struct write_operation)
#define DOCUMENT_BYTES 256u
/* A server takes a hundred. */
#define DEPTH_MAX 20

struct deferred {
    struct engine *engine;
    struct write_operation *first;
    size_t count;   /* of documents */
    uint64_t bytes; /* as counted in the unit's */
    uint64_t taken; /* as counted in the engine's */
};

/* ------------------------------------------------------------------ memory */

void deferred_free_operation(struct write_operation *operation)
{
    write_documents_clear(operation);
    free(operation->documents);
    statement_list_free(&operation->list);
    free(operation->namespace);
    bson_free((char *)(uintptr_t)operation->target.database);
    bson_free((char *)(uintptr_t)operation->target.collection);
    free(operation);
}

static void forget(void *memory)
{
    struct deferred *deferred = memory;
    while (deferred->first != NULL) {
        struct write_operation *operation = deferred->first;
        deferred->first = operation->next_deferred;
        deferred_free_operation(operation);
    }
    (void)atomic_fetch_sub(&deferred->engine->deferred_bytes, deferred->taken);
    free(deferred);
}

struct write_operation *deferred_release(struct unit *unit)
{
    struct deferred *deferred = unit->deferred;
    struct write_operation *first = deferred->first;
    deferred->first = NULL;
    unit->bytes -= deferred->bytes; /* those of their records come in their place */
    unit->deferred = NULL;
    forget(deferred);
    return first;
}

static struct deferred *deferred_of(struct write_operation *operation)
{
    struct unit *unit = operation->unit;
    if (unit->deferred == NULL) {
        struct deferred *deferred = calloc(1, sizeof *deferred);
        if (deferred == NULL) {
            return NULL;
        }
        deferred->engine = operation->engine;
        unit->deferred = deferred;
        unit->deferred_free = forget;
    }
    return unit->deferred;
}

static struct write_operation *new_operation(const struct write_operation *of)
{
    static const enum statement_reply replies[] = {
        [STATEMENT_INSERT] = STATEMENT_REPLY_INSERT,
        [STATEMENT_UPDATE] = STATEMENT_REPLY_UPDATE,
        [STATEMENT_DELETE] = STATEMENT_REPLY_DELETE,
    };
    struct write_operation *operation =
        memory_new_aligned(1, sizeof *operation, _Alignof(struct write_operation));
    struct statement *statement = calloc(1, sizeof *statement);
    char *namespace = strdup(of->namespace);
    if (operation == NULL || statement == NULL || namespace == NULL) {
        free(operation);
        free(statement);
        free(namespace);
        return NULL;
    }
    statement->kind = write_statement(of)->kind;
    *operation = (struct write_operation){
        .namespace = namespace,
        .gate = of->gate,
        .target = {.database = bson_strdup(of->target.database),
                   .collection = bson_strdup(of->target.collection)},
        .list = {.reply = replies[statement->kind],
                 .statements = statement,
                 .count = 1,
                 .ordered = true},
        .count = 1,
        /* Of several that were sent together nobody could tell which a stranger has removed. */
        .one_at_a_time = statement->kind == STATEMENT_DELETE,
    };
    return operation;
}

static bool reserve(struct write_operation *operation, size_t count)
{
    size_t capacity = operation->document_count + count;
    if (capacity > operation->document_capacity) {
        struct write_document *grown = realloc(operation->documents, capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        operation->documents = grown;
        operation->document_capacity = capacity;
    }
    return true;
}

/* The one of this namespace and kind, with room for `count` more. NULL: out of memory. */
static struct write_operation *operation_for(struct deferred *deferred,
                                             const struct write_operation *of, size_t count)
{
    struct write_operation **at = &deferred->first;
    while (*at != NULL && (strcmp((*at)->namespace, of->namespace) != 0 ||
                           write_statement(*at)->kind != write_statement(of)->kind)) {
        at = &(*at)->next_deferred;
    }
    if (*at != NULL) {
        return reserve(*at, count) ? *at : NULL;
    }
    struct write_operation *made = new_operation(of);
    if (made != NULL && !reserve(made, count)) {
        deferred_free_operation(made);
        made = NULL;
    }
    *at = made; /* none without documents stays */
    return made;
}

/* ------------------------------------------------------------------ what may be put off */

/* Which documents it writes its _ids tell, without a search. */
static bool is_named(const struct write_operation *operation)
{
    const struct statement *statement = write_statement(operation);
    return statement->kind == STATEMENT_INSERT ||
           (operation->key_in_filter && !operation->key_is_text && statement->collation.size == 0);
}

/* Names that a server has its own mind about. */
static bool has_plain_names(bson_iter_t *fields, int depth)
{
    bson_iter_t inner;
    while (bson_iter_next(fields)) {
        if (bson_iter_key(fields)[0] == '$') {
            return false;
        }
        bool nested = BSON_ITER_HOLDS_DOCUMENT(fields) || BSON_ITER_HOLDS_ARRAY(fields);
        if (nested && (depth == 0 || !bson_iter_recurse(fields, &inner) ||
                       !has_plain_names(&inner, depth - 1))) {
            return false;
        }
    }
    return true;
}

static bool is_plain_id(const bson_iter_t *id)
{
    return !BSON_ITER_HOLDS_ARRAY(id) && !BSON_ITER_HOLDS_REGEX(id) &&
           !BSON_ITER_HOLDS_UNDEFINED(id);
}

/* Its _id stands first. */
static bool has_one_id(const bson_t *document)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, document, "_id") && is_plain_id(&at) &&
           !bson_iter_find(&at, "_id");
}

static bool is_plain_document(const bson_t *document)
{
    bson_iter_t at;
    return has_one_id(document) && bson_iter_init(&at, document) && has_plain_names(&at, DEPTH_MAX);
}

/* The command itself: its answer can be told without the server's. */
static bool may_put_off(const struct write_operation *operation)
{
    const struct statement_list *list = &operation->list;
    bool asks_server =
        list->reply == STATEMENT_REPLY_FIND_AND_MODIFY && list->fields.size > 0 && list->return_new;
    return operation->engine->defer_writes && operation->errors == WRITE_ERRORS_ABORT &&
           operation->unit->boundary == UNIT_BOUNDARY_DRIVER && is_named(operation) &&
           !asks_server && !operation->multi && !operation->collated && !operation->refusable &&
           !operation->has_unique_keys && !list->bypass_validation;
}

static bool may_put_off_document(const struct write_operation *operation,
                                 const struct write_document *document)
{
    if (document->after != NULL && unique_indexes_may_refuse(operation->unique, document->after)) {
        return false;
    }
    switch (write_statement(operation)->kind) {
    case STATEMENT_INSERT:
        return document->fate == WRITE_PENDING && is_plain_document(document->after);
    case STATEMENT_UPDATE:
        return document->fate == WRITE_UNCHANGED ||
               (document->fate == WRITE_PENDING && document->after != NULL &&
                document->before.presence == IMAGE_PRESENT);
    case STATEMENT_DELETE:
        return document->fate == WRITE_PENDING;
    }
    return false;
}

static uint64_t bytes_of(const struct write_document *document)
{
    return DOCUMENT_BYTES + document->key.size + document->before.document.size +
           (document->after == NULL ? 0 : document->after->len);
}

/* Of the batch; 0: it is not to be put off. */
static size_t count_pending(const struct write_operation *operation, uint64_t *ret_bytes)
{
    size_t count = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < operation->document_count; i++) {
        const struct write_document *document = &operation->documents[i];
        if (!may_put_off_document(operation, document)) {
            return 0;
        }
        if (document->fate == WRITE_PENDING) {
            *ret_bytes += bytes_of(document);
            count++;
        }
    }
    return count;
}

static bool has_room(const struct write_operation *operation, size_t count, uint64_t bytes)
{
    const struct engine *engine = operation->engine;
    const struct unit *unit = operation->unit;
    const struct deferred *deferred = unit->deferred;
    uint64_t kept = deferred == NULL ? 0 : deferred->bytes;
    return deferred_count(unit) + count <= DEFERRED_UNIT_COUNT_MAX &&
           kept + bytes <= DEFERRED_UNIT_BYTES_MAX &&
           unit->write_count + deferred_count(unit) + count <= engine->unit_writes_max &&
           unit->bytes + bytes <= engine->unit_bytes_max &&
           engine->deferred_bytes + bytes + OPERATION_BYTES <= LIMIT_DEFERRED_BYTES_MAX;
}

/* ------------------------------------------------------------------ putting off */

static void move(struct write_operation *from, struct write_operation *to)
{
    while (from->document_at < from->document_count) {
        struct write_document *document = &from->documents[from->document_at];
        bool pending = document->fate == WRITE_PENDING;
        write_count_next(from);
        if (pending) {
            to->documents[to->document_count] = *document;
            to->documents[to->document_count++].fate = WRITE_PENDING;
            *document = (struct write_document){.fate = WRITE_ENDED};
        }
    }
}

bool deferred_take(struct write_operation *operation)
{
    uint64_t bytes;
    size_t count = may_put_off(operation) ? count_pending(operation, &bytes) : 0;
    if (count == 0 || !has_room(operation, count, bytes)) {
        return false;
    }
    struct deferred *deferred = deferred_of(operation);
    struct write_operation *to =
        deferred == NULL ? NULL : operation_for(deferred, operation, count);
    if (to == NULL) {
        return false; /* it is carried out at once */
    }
    uint64_t taken = bytes + (to->document_count == 0 ? OPERATION_BYTES : 0);
    move(operation, to);
    deferred->count += count;
    deferred->bytes += bytes;
    deferred->taken += taken;
    operation->unit->bytes += bytes;
    (void)atomic_fetch_add(&operation->engine->deferred_bytes, taken);
    (void)atomic_fetch_add_explicit(&operation->engine->counters.deferred, count,
                                    memory_order_relaxed);
    return true;
}

size_t deferred_count(const struct unit *unit)
{
    const struct deferred *deferred = unit->deferred;
    return deferred == NULL ? 0 : deferred->count;
}

/* ------------------------------------------------------------------ meeting it */

static bool holds(const struct deferred *deferred, const struct lock_name *name)
{
    for (const struct write_operation *at = deferred->first; at != NULL; at = at->next_deferred) {
        for (size_t i = 0; i < at->document_count; i++) {
            if (memcmp(&at->documents[i].name, name, sizeof *name) == 0) {
                return true;
            }
        }
    }
    return false;
}

bool deferred_concerns(const struct write_operation *operation)
{
    const struct deferred *deferred = operation->unit->deferred;
    if (deferred_count(operation->unit) == 0) {
        return false;
    }
    bool meets = !is_named(operation) || operation->multi;
    for (size_t i = 0; i < operation->name_count && !meets; i++) {
        meets = holds(deferred, &operation->names[i]);
    }
    return meets;
}

static bool is_of_namespace(const struct deferred *deferred, const char *namespace)
{
    bool found = false;
    for (const struct write_operation *at = deferred->first; at != NULL && !found;
         at = at->next_deferred) {
        found = strcmp(at->namespace, namespace) == 0;
    }
    return found;
}

/* A find of one _id that is not among them. */
static bool finds_another(const struct deferred *deferred, const struct command_view *view,
                          const char *namespace)
{
    struct bson_element collation;
    struct slice filter = bson_document_find(view->body, "filter");
    bool another = false;
    if (strcmp(view->name, "find") != 0 || bson_check(filter, NULL) != STATUS_OK ||
        bson_element_find(view->body, "collation", &collation)) {
        return false;
    }
    bson_t key = BSON_INITIALIZER;
    struct lock_name name;
    if (equality_names_one(filter, &key)) {
        lock_name_of(namespace, write_slice(&key), &name);
        another = !holds(deferred, &name);
    }
    bson_destroy(&key);
    return another;
}

bool deferred_may_show(const struct unit *unit, const struct command_view *view)
{
    const struct deferred *deferred = unit->deferred;
    if (deferred_count(unit) == 0 || strcmp(view->name, "killCursors") == 0) {
        return false;
    }
    if (view->database == NULL || view->collection == NULL) {
        return true;
    }
    /* Another name may be a view of what is put off; of these it is known that they are none. */
    char *namespace = bson_strdup_printf("%s.%s", view->database, view->collection);
    bool shows = !is_of_namespace(deferred, namespace) || !finds_another(deferred, view, namespace);
    bson_free(namespace);
    return shows;
}
