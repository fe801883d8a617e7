#ifndef HOLDFAST_UPSTREAM_UPDATE_RULES_H
#define HOLDFAST_UPSTREAM_UPDATE_RULES_H

/*
 * In which order a server puts the fields that an update adds. Servers differ, and an image is
 * compared byte for byte: so it is asked, not assumed.
 */

#include <stdbool.h>

#include "holdfast/error.h"
#include "upstream/upstream.h"

enum field_order {
    FIELD_ORDER_UNKNOWN,
    FIELD_ORDER_SORTED,   /* by name, as mongod does */
    FIELD_ORDER_AS_GIVEN, /* operator by operator, as they stand in the update */
};

struct update_rules {
    enum field_order update_fields; /* new fields of a document that is there */
    /* New fields of one that an upsert makes: behind its _id and the filter's equalities, which are
       sorted by name; else UNKNOWN. */
    enum field_order upsert_fields;
};

/* Asks the server, with two updates in the proxy's scratch collection. Errors: as
   upstream_evaluate(). */
MUST_CHECK enum status upstream_update_rules(struct upstream *upstream,
                                             struct update_rules *ret_rules,
                                             struct error *ret_error);

#endif
