/* Looking up how a transaction number ended. The connection's worker. */
#include "boundary/outcome.h"

#include "holdfast/log.h"
#include "recover/record.h"

enum status outcome_read_last(struct wal_reader *reader, uint64_t unit,
                              struct wal_record *ret_record, struct error *ret_error)
{
    struct wal_unit row;
    enum status status = wal_read_unit(reader, unit, &row, ret_error);
    return status == STATUS_OK ? wal_read(reader, row.last_lsn, ret_record, ret_error) : status;
}

enum status outcome_read_kept(struct wal_reader *reader, uint64_t unit, bool *ret_kept,
                              struct error *ret_error)
{
    struct wal_record record;
    enum status status = outcome_read_last(reader, unit, &record, ret_error);
    if (status == STATUS_OK) {
        *ret_kept = record_is_kept(record.payload);
    }
    return status;
}

static enum status read_reply(struct wal_reader *reader, uint64_t unit, bson_t *reply,
                              struct error *error)
{
    struct wal_record record;
    struct slice kept;
    bson_t view;
    enum status status = outcome_read_last(reader, unit, &record, error);
    if (status == STATUS_OK && reply != NULL && record.kind == WAL_KIND_COMMIT &&
        record_get_reply(record.payload, &kept, NULL) == STATUS_OK &&
        bson_init_static(&view, kept.data, kept.size)) {
        bson_concat(reply, &view);
    }
    return status;
}

static enum outcome judge_aborted(struct wal_reader *reader, uint64_t unit, struct error *error)
{
    bool kept = false;
    if (outcome_read_kept(reader, unit, &kept, error) != STATUS_OK) {
        return OUTCOME_UNREADABLE;
    }
    return kept ? OUTCOME_CONFLICT : OUTCOME_ROLLED_BACK;
}

static enum outcome judge(struct wal_reader *reader, const struct wal_session *session,
                          int64_t number, bson_t *reply, struct error *error)
{
    if (session->transaction_number > number) {
        return OUTCOME_TOO_OLD;
    }
    if (session->transaction_number < number) {
        return OUTCOME_NONE;
    }
    switch (session->unit_state) {
    case WAL_UNIT_COMMITTED:
        return read_reply(reader, session->unit, reply, error) == STATUS_OK ? OUTCOME_COMMITTED
                                                                            : OUTCOME_UNREADABLE;
    case WAL_UNIT_CONFLICT:
        return OUTCOME_CONFLICT;
    case WAL_UNIT_ABORTED:
        return judge_aborted(reader, session->unit, error);
    case WAL_UNIT_COMMITTING:
        return OUTCOME_CONFLICT; /* nobody knows yet */
    case WAL_UNIT_OPEN:
        break;
    }
    return OUTCOME_ROLLED_BACK;
}

static enum outcome find(struct wal *wal, const struct unit_session_key *key, int64_t number,
                         bson_t *reply, struct error *error)
{
    struct wal_reader *reader = NULL;
    struct wal_session session = {0};
    enum outcome outcome = OUTCOME_UNREADABLE;
    enum status status = wal_reader_begin(wal, &reader, error);
    if (status == STATUS_OK) {
        status =
            wal_read_session(reader, slice_make(key->bytes, sizeof key->bytes), &session, error);
    }
    if (status == STATUS_OK) {
        outcome = judge(reader, &session, number, reply, error);
    } else if (status == STATUS_NOT_FOUND) {
        outcome = OUTCOME_NONE;
    }
    wal_reader_end(reader);
    return outcome;
}

enum outcome outcome_find_key(struct wal *wal, const struct unit_session_key *key, int64_t number,
                              bson_t *reply)
{
    struct error error = {0};
    enum outcome outcome = find(wal, key, number, reply, &error);
    if (outcome == OUTCOME_UNREADABLE) {
        LOG(LOG_ERROR, "journal", "The outcome of a unit cannot be read",
            LOG_TEXT("reason", error.message));
    }
    return outcome;
}

enum outcome outcome_find(const struct boundary_request *request, bson_t *reply)
{
    struct unit_session_key key;
    struct error error = {0};
    unit_session_key_make(request->user, request->view.session_id, &key);
    enum outcome outcome =
        find(request->engine->wal, &key, request->view.transaction_number, reply, &error);
    if (outcome == OUTCOME_UNREADABLE) {
        LOG(LOG_ERROR, "journal", "The outcome of a transaction number cannot be read",
            LOG_HEX("session", request->view.session_id.data, request->view.session_id.size),
            LOG_TEXT("user", request->user), LOG_TEXT("client", request->client),
            LOG_TEXT("appName", request->application), LOG_TEXT("reason", error.message));
    }
    return outcome;
}
