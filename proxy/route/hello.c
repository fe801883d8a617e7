/*
 * Rewriting hello. Taken out: everything that says which set or which server of it this is;
 * topologyVersion, because a client would then wait for the server's own changes of state instead
 * of the proxy's; compression, which the proxy does not speak; and what only a replica set has. Put
 * in for a mongos: msg: "isdbgrid". Everything else, logins begun in hello included, stays.
 */
#include "route/hello.h"

#include <string.h>

#include "wire/reply.h"

static bool is_removed(const char *name)
{
    static const char *const removed[] = {
        "msg",
        "setName",
        "setVersion",
        "hosts",
        "passives",
        "arbiters",
        "primary",
        "me",
        "electionId",
        "topologyVersion",
        "secondary",
        "arbiterOnly",
        "passive",
        "hidden",
        "tags",
        "lastWrite",
        "isreplicaset",
        "slaveDelay",
        "secondaryDelaySecs",
        "compression",
        "isImplicitDefaultMajorityWC",
        "logicalSessionTimeoutMinutes",
        "serviceId",
    };
    for (size_t i = 0; i < sizeof removed / sizeof removed[0]; i++) {
        if (strcmp(name, removed[i]) == 0) {
            return true;
        }
    }
    return false;
}

enum status hello_rewrite(struct slice reply, enum hello_persona persona, bson_t *rewritten)
{
    struct reply_view view;
    bson_iter_t at;
    if (reply_view_parse(reply, &view) != STATUS_OK ||
        !bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return STATUS_PROTOCOL;
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        bool kept_sessions =
            persona == HELLO_STANDALONE && strcmp(name, "logicalSessionTimeoutMinutes") == 0;
        if (view.ok && is_removed(name) && !kept_sessions) {
            continue;
        }
        if (view.ok && strcmp(name, "maxWireVersion") == 0) {
            int64_t version = bson_iter_as_int64(&at);
            version = version > HELLO_WIRE_VERSION_MAX ? HELLO_WIRE_VERSION_MAX : version;
            BSON_APPEND_INT32(rewritten, name, (int32_t)version);
            continue;
        }
        bson_append_iter(rewritten, NULL, 0, &at);
    }
    if (view.ok && persona == HELLO_MONGOS) {
        BSON_APPEND_UTF8(rewritten, "msg", "isdbgrid");
        BSON_APPEND_INT32(rewritten, "logicalSessionTimeoutMinutes", 30);
    }
    return STATUS_OK;
}
