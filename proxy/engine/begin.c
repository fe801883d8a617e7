/* What BEGIN says of a unit. Whoever has it checked out. */
#include "engine/begin.h"

#include "engine/native_unit_private.h"
#include "recover/record.h"

void begin_make(const struct unit *unit, bson_t *payload, struct wal_append *ret_append)
{
    struct record_begin begin = {
        .boundary = unit_boundary_name(unit->boundary),
        .user = unit->user,
        .name = unit->name,
        .session_id = slice_make(unit->session_id, unit->has_lsid ? UNIT_SESSION_ID_BYTES : 0),
        .transaction_number = unit->transaction_number,
        .client = unit->client,
        .application = unit->application,
    };
    const struct native_unit_state *native = unit->native;
    if (native != NULL) {
        begin.transaction_lsid = slice_make(bson_get_data(&native->lsid), native->lsid.len);
        begin.transaction = NATIVE_UNIT_NUMBER;
    }
    bson_reinit(payload);
    record_put_begin(payload, &begin);
    *ret_append = (struct wal_append){
        .kind = WAL_KIND_BEGIN,
        .unit = unit->id,
        .payload = slice_make(bson_get_data(payload), payload->len),
        .session_key = slice_make(unit->journal_key.bytes,
                                  unit->is_journaled_key ? sizeof unit->journal_key : 0),
        /* A request that was rolled back may come again: the newest unit of it is what counts. */
        .transaction_number = unit->is_request ? (int64_t)unit->id : unit->transaction_number,
    };
}
