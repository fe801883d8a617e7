/*
 * Rewriting hello. Taken out: everything that says which set or which server of it this is;
 * topologyVersion, because a client would then wait for the server's own changes of state instead
 * of the proxy's; compression, which the proxy does not speak; and what only a replica set has. Put
 * in: msg: "isdbgrid". Everything else, logins begun in hello included, stays.
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

enum status hello_rewrite(struct slice reply, bson_t *persona)
{
    struct reply_view view;
    bson_iter_t at;
    if (reply_view_parse(reply, &view) != STATUS_OK ||
        !bson_iter_init_from_data(&at, reply.data, reply.size)) {
        return STATUS_PROTOCOL;
    }
    while (bson_iter_next(&at)) {
        const char *name = bson_iter_key(&at);
        if (view.ok && is_removed(name)) {
            continue;
        }
        if (view.ok && strcmp(name, "maxWireVersion") == 0) {
            int64_t version = bson_iter_as_int64(&at);
            version = version > HELLO_WIRE_VERSION_MAX ? HELLO_WIRE_VERSION_MAX : version;
            BSON_APPEND_INT32(persona, name, (int32_t)version);
            continue;
        }
        bson_append_iter(persona, NULL, 0, &at);
    }
    if (view.ok) {
        BSON_APPEND_UTF8(persona, "msg", "isdbgrid");
        BSON_APPEND_INT32(persona, "logicalSessionTimeoutMinutes", 30);
    }
    return STATUS_OK;
}
