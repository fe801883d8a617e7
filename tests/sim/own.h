#ifndef HOLDFAST_TESTS_SIM_OWN_H
#define HOLDFAST_TESTS_SIM_OWN_H

/*
 * What a transaction must see of the documents that it has written, by what it was told: the server
 * may not have that yet (unit.writes: deferred).
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

struct model_unit;

enum own_state {
    OWN_NONE, /* it has not written the document */
    OWN_PRESENT,
    OWN_ABSENT,
};

/* `document` NULL: it has removed it. */
void own_put(const struct model_unit *unit, const char *namespace, int32_t id,
             const bson_t *document);
/* *ret_document is a view, only with OWN_PRESENT. */
enum own_state own_find(const struct model_unit *unit, const char *namespace, int32_t id,
                        bson_t *ret_document);
void own_reset(void);

#endif
