/*
 * Aborting what a killed proxy left open at the server (native_left.h).
 *
 * Invariant: a unit in any state but OPEN is not touched here.
 *
 * Threads: the struct upstream's.
 */
#include "recover/native_left.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "upstream/transaction.h"

#define CODE_UNAUTHORIZED 13
#define PLACE_BYTES (sizeof(struct wal_place) + 2)

/* Empty: the file system does not tell. */
static void place_text(const struct wal *wal, char ret_text[PLACE_BYTES])
{
    const struct wal_place *place = wal_place(wal);
    ret_text[0] = '\0';
    if (place->file[0] != '\0' && place->host[0] != '\0') {
        (void)snprintf(ret_text, PLACE_BYTES, "%s\n%s", place->file, place->host);
    }
}

enum status native_left_begin(struct wal *wal, struct upstream *upstream,
                              struct native_left *ret_left, struct error *ret_error)
{
    char here[PLACE_BYTES];
    char last[PLACE_BYTES] = "";
    size_t size = 0;
    place_text(wal, here);
    enum status status =
        wal_property_get(wal, NATIVE_PROPERTY_PLACE, last, sizeof last - 1, &size, ret_error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return status;
    }
    *ret_left = (struct native_left){
        .upstream = upstream,
        .here = status == STATUS_OK && here[0] != '\0' && strcmp(here, last) == 0,
    };
    return STATUS_OK;
}

const char *native_left_abort(struct native_left *left, const struct unit_history *history)
{
    const struct record_begin *begin = &history->begin;
    const struct upstream_transaction transaction = {
        .lsid = begin->transaction_lsid,
        .number = begin->transaction,
        .user = begin->user,
    };
    int32_t code = 0;
    assert(history->state == WAL_UNIT_OPEN);
    if (begin->transaction_lsid.size == 0) {
        return NULL; /* of an older program's, or none was begun */
    }
    if (!left->here) {
        return "the journal is a copy or has moved, so its owner may be alive";
    }
    if (strstr(begin->user, "(unknown mechanism)") != NULL) {
        return "the session of a user of this mechanism cannot be named";
    }
    if (left->unreachable ||
        upstream_abort(left->upstream, &transaction, &code, NULL) != STATUS_OK) {
        left->unreachable = true;
        return "the server could not be told";
    }
    if (code == CODE_UNAUTHORIZED) {
        return "the proxy's own user may not name the session of another user (privilege "
               "impersonate on the cluster)";
    }
    return code == 0 ? NULL : "the server refuses to abort it";
}

enum status native_left_end(struct wal *wal, const struct native_left *left,
                            struct error *ret_error)
{
    char here[PLACE_BYTES];
    place_text(wal, here);
    return left->here || here[0] == '\0'
               ? STATUS_OK
               : wal_property_set(wal, NATIVE_PROPERTY_PLACE, slice_text(here), ret_error);
}
