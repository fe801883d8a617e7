/* The documents that transactions have written, as they must see them; see own.h. */
#include "own.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define OWN_MAX 2048

struct own {
    const struct model_unit *unit;
    char namespace[32];
    int32_t id;
    struct bytes document; /* size 0: removed */
};

static struct own all[OWN_MAX];
static size_t count;

static struct own *find(const struct model_unit *unit, const char *namespace, int32_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (all[i].unit == unit && all[i].id == id && strcmp(all[i].namespace, namespace) == 0) {
            return &all[i];
        }
    }
    return NULL;
}

void own_put(const struct model_unit *unit, const char *namespace, int32_t id,
             const bson_t *document)
{
    struct bytes copy = {0}; /* it may be a view of the old one */
    struct own *own = find(unit, namespace, id);
    if (document != NULL) {
        bytes_append(&copy, bson_get_data(document), document->len);
    }
    if (own == NULL) {
        assert(count < OWN_MAX);
        own = &all[count++];
        *own = (struct own){.unit = unit, .id = id};
        (void)snprintf(own->namespace, sizeof own->namespace, "%s", namespace);
    }
    bytes_free(&own->document);
    own->document = copy;
}

enum own_state own_find(const struct model_unit *unit, const char *namespace, int32_t id,
                        bson_t *ret_document)
{
    const struct own *own = find(unit, namespace, id);
    if (own == NULL) {
        return OWN_NONE;
    }
    return own->document.size > 0 &&
                   bson_init_static(ret_document, own->document.data, own->document.size)
               ? OWN_PRESENT
               : OWN_ABSENT;
}

void own_reset(void)
{
    for (size_t i = 0; i < count; i++) {
        bytes_free(&all[i].document);
    }
    count = 0;
}
