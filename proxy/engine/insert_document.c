/* Documents to insert. Any thread. */
#include "engine/insert_document.h"

#include <stdatomic.h>
#include <string.h>

#include "holdfast/clock.h"

static atomic_uint timestamp_increment;

static void put_field(bson_t *into, const bson_iter_t *at)
{
    uint32_t seconds = 1;
    uint32_t increment = 1;
    if (BSON_ITER_HOLDS_TIMESTAMP(at)) {
        bson_iter_timestamp(at, &seconds, &increment);
    }
    if (seconds == 0 && increment == 0) {
        seconds = (uint32_t)(clock_wall_ms() / 1000);
        increment = 1 + atomic_fetch_add(&timestamp_increment, 1);
        bson_append_timestamp(into, bson_iter_key(at), -1, seconds, increment);
        return;
    }
    bson_append_iter(into, NULL, 0, at);
}

bson_t *insert_document_make(struct slice document, bson_t *key)
{
    bson_t *made = bson_sized_new(document.size + 32);
    bson_iter_t id;
    bson_iter_t at;
    if (bson_iter_init_from_data(&id, document.data, document.size) && bson_iter_find(&id, "_id")) {
        bson_append_iter(made, NULL, 0, &id);
    } else {
        bson_oid_t generated;
        bson_oid_init(&generated, NULL);
        BSON_APPEND_OID(made, "_id", &generated);
    }
    if (bson_iter_init_find(&id, made, "_id")) {
        bson_append_iter(key, NULL, 0, &id);
    }
    bool id_seen = false;
    (void)bson_iter_init_from_data(&at, document.data, document.size);
    while (bson_iter_next(&at)) {
        if (!id_seen && strcmp(bson_iter_key(&at), "_id") == 0) {
            id_seen = true; /* a second one is the server's to refuse */
            continue;
        }
        put_field(made, &at);
    }
    return made;
}
