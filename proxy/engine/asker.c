/* A cache's connection to the server (asker.h). The thread that asks. */
#include "engine/asker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool asker_init(struct asker *asker, const char *uri, uint64_t connect_ms)
{
    *asker = (struct asker){.uri = strdup(uri), .connect_ms = connect_ms};
    return asker->uri != NULL;
}

void asker_close(struct asker *asker)
{
    asker->upstream = upstream_close(asker->upstream);
}

void asker_free(struct asker *asker)
{
    assert(asker->upstream == NULL);
    free(asker->uri);
    asker->uri = NULL;
}

enum status asker_command(struct asker *asker, const char *database, const bson_t *command,
                          bson_t *ret_reply, int32_t *ret_code, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (asker->upstream == NULL) {
        status = upstream_open(asker->uri, asker->connect_ms, &asker->upstream, ret_error);
    }
    if (status == STATUS_OK) {
        status =
            upstream_command(asker->upstream, database, command, ret_reply, ret_code, ret_error);
    }
    if (status == STATUS_UNREACHABLE && asker->upstream != NULL) {
        /* Once more: the connection may have been an old one to a server that was restarted. */
        status =
            upstream_command(asker->upstream, database, command, ret_reply, ret_code, ret_error);
    }
    return status;
}

enum status asker_list_collection(struct asker *asker, const char *database, const char *collection,
                                  bson_t *ret_reply, struct error *ret_error)
{
    bson_t command = BSON_INITIALIZER;
    bson_t filter;
    BSON_APPEND_INT32(&command, "listCollections", 1);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    BSON_APPEND_UTF8(&filter, "name", collection);
    bson_append_document_end(&command, &filter);
    enum status status = asker_command(asker, database, &command, ret_reply, NULL, ret_error);
    bson_destroy(&command);
    return status;
}
