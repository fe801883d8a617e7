/* Looking through views; see resolve.h. Any thread. */
#include "read/resolve.h"

#include "engine/namespace_kind.h"

struct resolving {
    struct namespace_cache *cache;
    bool can_ask;
    struct read_command command;
    struct read_views views;
    const char *ask;
};

void read_views_release(struct read_views *views)
{
    for (size_t i = 0; i < views->count; i++) {
        (void)view_definition_release(views->held[i]);
    }
    *views = (struct read_views){0};
}

/* What `name` is; a view is held. */
static enum namespace_known look(struct resolving *resolving, const char *name)
{
    struct view_definition *view = NULL;
    enum namespace_known known =
        namespace_cache_find(resolving->cache, resolving->command.database, name, &view);
    if (known != NAMESPACE_KNOWN_VIEW) {
        return known;
    }
    if (resolving->views.count == READ_VIEWS_MAX) {
        (void)view_definition_release(view);
        return NAMESPACE_KNOWN_REFUSED;
    }
    resolving->views.held[resolving->views.count++] = view;
    return NAMESPACE_KNOWN_VIEW;
}

/* The collection behind `name`; what the views on the way read besides is added to `others`. NULL:
   it has to be asked for, or it is unsure. */
static const char *follow(struct resolving *resolving, const char *name)
{
    for (unsigned depth = 0; depth <= READ_VIEWS_DEEP_MAX; depth++) {
        const struct view_definition *view;
        switch (look(resolving, name)) {
        case NAMESPACE_KNOWN_COLLECTION:
            return name;
        case NAMESPACE_KNOWN_VIEW:
            view = resolving->views.held[resolving->views.count - 1];
            read_command_add_pipeline(&resolving->command, slice_make(bson_get_data(view->pipeline),
                                                                      view->pipeline->len));
            name = view->view_on;
            break;
        case NAMESPACE_KNOWN_NOTHING:
            if (resolving->can_ask) {
                resolving->ask = name;
            }
            resolving->command.is_unsure = true;
            return NULL;
        case NAMESPACE_KNOWN_REFUSED:
            resolving->command.is_unsure = true;
            return NULL;
        }
    }
    resolving->command.is_unsure = true;
    return NULL;
}

static bool is_internal(const struct read_command *command)
{
    return command->database == NULL || command->collection == NULL ||
           command->kind == READ_GET_MORE || namespace_is_internal_database(command->database);
}

static void resolve_all(struct resolving *resolving)
{
    struct read_command *command = &resolving->command;
    const char *base = follow(resolving, command->collection);
    if (base == NULL) {
        base = command->collection;
    }
    resolving->views.base = base;
    resolving->views.chain_count = resolving->views.count;
    command->is_view = resolving->views.count > 0;
    command->gates[0] = gate_of(command->database, base);
    command->gate_count = 1;
    /* The list grows meanwhile. */
    for (size_t i = 0; i < command->other_count && resolving->ask == NULL; i++) {
        const char *other = follow(resolving, command->others[i]);
        if (other != NULL) {
            read_command_add_gate(command, gate_of(command->database, other), NULL);
        }
    }
    if (command->reads_anything || command->is_unsure) {
        read_command_add_gate(command, GATE_SERVER, NULL);
    }
    if (command->is_view) {
        command->id = (struct slice){0}; /* whose _id that is only the view knows */
    }
}

bool read_resolve_plain(struct namespace_cache *cache, struct read_command *command)
{
    struct view_definition *view = NULL;
    if (command->other_count > 0 || command->reads_anything) {
        return false;
    }
    if (cache == NULL || is_internal(command)) {
        return true;
    }
    uint64_t generation = namespace_cache_generation(cache);
    if (namespace_cache_is_changing(cache) ||
        namespace_cache_find(cache, command->database, command->collection, &view) !=
            NAMESPACE_KNOWN_COLLECTION) {
        (void)view_definition_release(view);
        return false;
    }
    command->generation = generation;
    return true;
}

bool read_resolve(struct namespace_cache *cache, bool can_ask, struct read_command *command,
                  struct read_views *ret_views, const char **ret_ask)
{
    if (cache == NULL || is_internal(command)) {
        *ret_views = (struct read_views){.base = command->collection};
        command->generation = cache == NULL ? 0 : namespace_cache_generation(cache);
        return true;
    }
    struct resolving resolving = {.cache = cache, .can_ask = can_ask, .command = *command};
    resolving.command.generation = namespace_cache_generation(cache);
    if (namespace_cache_is_changing(cache)) {
        resolving.command.is_unsure = true;
        resolving.views.base = command->collection;
        read_command_add_gate(&resolving.command, GATE_SERVER, NULL);
    } else {
        resolve_all(&resolving);
    }
    if (resolving.ask != NULL) {
        *ret_ask = resolving.ask;
        /* A name of a view's: that must stay as long as the question. */
        *ret_views = resolving.views;
        return false;
    }
    *command = resolving.command;
    *ret_views = resolving.views;
    return true;
}
