/* The commands the proxy knows. Pure. */
#include "route/command_table.h"

#include "boundary/comment.h"
#include "wire/bson_walk.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    enum command_class class;
} commands[] = {
    {"hello", COMMAND_HELLO},
    {"isMaster", COMMAND_HELLO},
    {"ismaster", COMMAND_HELLO},
    {"saslStart", COMMAND_LOGIN},
    {"saslContinue", COMMAND_LOGIN},
    {"logout", COMMAND_LOGIN},
    {"insert", COMMAND_WRITE},
    {"update", COMMAND_WRITE},
    {"delete", COMMAND_WRITE},
    {"findAndModify", COMMAND_WRITE},
    {"findandmodify", COMMAND_WRITE},
    {"bulkWrite", COMMAND_WRITE},
    {"create", COMMAND_NAMESPACE_WRITE},
    {"createIndexes", COMMAND_NAMESPACE_WRITE},
    {"drop", COMMAND_NAMESPACE_WRITE},
    {"dropIndexes", COMMAND_NAMESPACE_WRITE},
    {"deleteIndexes", COMMAND_NAMESPACE_WRITE},
    {"collMod", COMMAND_NAMESPACE_WRITE},
    {"convertToCapped", COMMAND_NAMESPACE_WRITE},
    {"dropDatabase", COMMAND_SERVER_WRITE},
    {"renameCollection", COMMAND_SERVER_WRITE},
    {"cloneCollectionAsCapped", COMMAND_SERVER_WRITE},
    {"mapReduce", COMMAND_SERVER_WRITE},
    {"mapreduce", COMMAND_SERVER_WRITE},
    {"applyOps", COMMAND_SERVER_WRITE},
    {"endSessions", COMMAND_END_SESSIONS},
    {"killSessions", COMMAND_END_SESSIONS},
    {"commitTransaction", COMMAND_TRANSACTION},
    {"abortTransaction", COMMAND_TRANSACTION},
};

/* Stages that write stand last in a pipeline, but a hostile one may put them anywhere. */
static enum command_class classify_aggregate(const struct command_view *view)
{
    bson_iter_t at;
    bson_iter_t stage;
    bson_iter_t inside;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size) ||
        !bson_iter_find(&at, "pipeline") || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &stage)) {
        return COMMAND_PASS;
    }
    while (bson_iter_next(&stage)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(&stage) || !bson_iter_recurse(&stage, &inside)) {
            continue;
        }
        while (bson_iter_next(&inside)) {
            const char *name = bson_iter_key(&inside);
            if (strcmp(name, "$out") == 0 || strcmp(name, "$merge") == 0) {
                return COMMAND_SERVER_WRITE;
            }
        }
    }
    return COMMAND_PASS;
}

enum command_class command_classify(const struct command_view *view)
{
    if (comment_is_command(view)) {
        return COMMAND_UNIT;
    }
    if (strcmp(view->name, "aggregate") == 0) {
        return classify_aggregate(view);
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (bson_name_is(view->name, commands[i].name)) {
            return commands[i].class;
        }
    }
    return COMMAND_PASS;
}
