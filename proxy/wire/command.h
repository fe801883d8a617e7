#ifndef HOLDFAST_WIRE_COMMAND_H
#define HOLDFAST_WIRE_COMMAND_H

/*
 * What the proxy must know of a command to route it, read in one pass over its top-level fields.
 *
 * The body is hostile: every length is checked, nothing is allocated, nothing recurses, a control
 * field that appears twice is refused (two readers might pick different ones). Only the top level
 * and the two fields' sub-documents that are named here are looked into; before a body is stored or
 * rewritten, bson_check() looks at the rest.
 *
 * All pointers of a view look into the body and are NUL-terminated there. Any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

struct command_view {
    struct slice body;
    const char *name;        /* the first field's name, never empty */
    bson_type_t first_type;  /* of the first field's value */
    const char *collection;  /* the first value if a non-empty string without NUL, else NULL */
    const char *database;    /* $db: 1 to 63 bytes without '.' and NUL; NULL if missing */
    struct slice session_id; /* 16 bytes: lsid.id if it is a UUID, else size 0 */
    bool has_session;        /* lsid is there */
    bool has_transaction_number;
    int64_t transaction_number; /* txnNumber, never negative */
    bool has_autocommit;
    bool autocommit;
    bool has_start_transaction;
    bool start_transaction;
    bool has_write_concern;
    bool write_concern_unacknowledged; /* writeConcern.w is the number 0 */
    bool has_read_concern;
    const char *read_concern_level; /* readConcern.level, or NULL */
    bool has_comment;
    uint32_t comment_offset;      /* of its element in the body */
    int64_t max_time_ms;          /* maxTimeMS, 0: none */
    struct slice read_preference; /* $readPreference, if it is a document; else size 0 */
};

/*
 * Errors: STATUS_INVALID, with a sentence fit for the client: no BSON document, no field at all, a
 * control field twice or of a type it cannot have.
 */
MUST_CHECK enum status command_view_parse(struct slice body, struct command_view *ret_view,
                                          struct error *ret_error);

/*
 * Copies the body without those top-level fields that `names` (ended by NULL) lists. What is copied
 * is copied byte for byte. On success the caller destroys *ret_copy with bson_destroy(); on failure
 * (STATUS_INVALID: the top level is no BSON) it is untouched.
 */
MUST_CHECK enum status command_copy_without(bson_t *ret_copy, struct slice body,
                                            const char *const *names);

/*
 * Appends the parameters of the Stable API that the body has: each command of a transaction, its
 * end too, has to have those of the first. One that no server takes (another type, an apiVersion of
 * more than COMMAND_API_VERSION_BYTES) is left out: the server has refused that command.
 */
#define COMMAND_API_VERSION_BYTES 16u
void command_put_api(bson_t *command, struct slice body);

#endif
