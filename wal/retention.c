/*
 * Retention: removes units that ended long enough ago, with their records and sessions.
 *
 * One call is many short transactions, each a task of the writer thread, so that appends go on in
 * between. A transaction removes whole units until it has done its share; a unit larger than that
 * is taken down its chain in several transactions:
 *
 *     .prune absent     unit row, session, BEGIN <- WRITE <- WRITE <- COMMIT
 *     .prune = W2                          BEGIN <- WRITE <- WRITE            row and session gone
 *     .prune = B                           BEGIN
 *     .prune absent
 *
 * The unit's row goes first, so nobody finds a unit that is partly gone; `.prune` says where to go
 * on, also after a crash. `.floor` remembers the highest LSN and unit removed, so that numbers are
 * never given out twice even when the journal becomes empty.
 *
 * The tasks run on the writer thread.
 */

#include "holdfast/clock.h"
#include "wal/internal.h"
#include "wal/rows.h"

/* Records and bytes that one transaction removes at most; about a millisecond's work. */
#define STEP_RECORDS_MAX 512u
#define STEP_BYTES_MAX ((uint64_t)8 << 20)
/* Units that one transaction looks at; those that stay cost no more than a look. */
#define STEP_UNITS_MAX 4096u

struct prune {
    const struct wal_prune_options *options;
    uint64_t after_unit; /* where the next step goes on */
    uint64_t units;      /* removed so far */
    bool done;
    /* of one step */
    uint64_t records;
    uint64_t bytes;
    uint64_t floor_lsn;
    uint64_t floor_unit;
};

static bool share_is_done(const struct prune *prune)
{
    return prune->records >= STEP_RECORDS_MAX || prune->bytes >= STEP_BYTES_MAX;
}

/* Removes records from `lsn` down its chain; *ret_lsn: what is left of it, 0 for nothing. */
static enum status remove_chain(struct store_transaction *transaction, struct prune *prune,
                                uint64_t lsn, uint64_t *ret_lsn, struct error *ret_error)
{
    while (lsn != 0 && !share_is_done(prune)) {
        struct wal_record record;
        uint8_t key[FORMAT_KEY_BYTES];
        enum status status = rows_record(transaction, lsn, &record, ret_error);
        if (status != STATUS_OK) {
            return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;
        }
        prune->records++;
        prune->bytes += record.payload.size;
        format_key_put(key, lsn);
        status = store_delete(transaction, STORE_RECORDS, slice_make(key, sizeof(key)), ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        lsn = record.previous_lsn;
    }
    *ret_lsn = lsn;
    return STATUS_OK;
}

/* The session leaves with the unit that it names; a newer transaction of it keeps it. */
static enum status remove_session(struct store_transaction *transaction,
                                  const struct format_unit *row, struct error *ret_error)
{
    struct format_session session;
    struct slice key = slice_make(row->session_key, row->session_key_size);
    if (key.size == 0) {
        return STATUS_OK;
    }
    enum status status = rows_session(transaction, key, &session, ret_error);
    if (status == STATUS_NOT_FOUND || (status == STATUS_OK && session.unit != row->unit.unit)) {
        return STATUS_OK;
    }
    return status != STATUS_OK ? status : store_delete(transaction, STORE_SESSIONS, key, ret_error);
}

static enum status remove_unit(struct store_transaction *transaction, struct prune *prune,
                               const struct format_unit *row, struct error *ret_error)
{
    uint8_t key[FORMAT_KEY_BYTES];
    uint64_t rest = 0;
    format_key_put(key, row->unit.unit);
    enum status status = remove_session(transaction, row, ret_error);
    if (status == STATUS_OK) {
        status = store_delete(transaction, STORE_UNITS, slice_make(key, sizeof(key)), ret_error);
    }
    if (status == STATUS_OK) {
        status = remove_chain(transaction, prune, row->unit.last_lsn, &rest, ret_error);
    }
    if (status == STATUS_OK && rest != 0) {
        status = rows_pair_put(transaction, FORMAT_PROPERTY_PRUNE, row->unit.unit, rest, ret_error);
    }
    if (status == STATUS_OK) {
        prune->units++;
        prune->floor_lsn =
            row->unit.last_lsn > prune->floor_lsn ? row->unit.last_lsn : prune->floor_lsn;
        prune->floor_unit = row->unit.unit > prune->floor_unit ? row->unit.unit : prune->floor_unit;
    }
    return status;
}

/* Goes on with a unit that an earlier step, or an earlier process, began to remove. */
static enum status remove_rest(struct store_transaction *transaction, struct prune *prune,
                               struct error *ret_error)
{
    uint64_t unit = 0;
    uint64_t lsn = 0;
    enum status status = rows_pair(transaction, FORMAT_PROPERTY_PRUNE, &unit, &lsn, ret_error);
    if (status != STATUS_OK || lsn == 0) {
        return status;
    }
    status = remove_chain(transaction, prune, lsn, &lsn, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    return lsn == 0 ? rows_property_delete(transaction, FORMAT_PROPERTY_PRUNE, ret_error)
                    : rows_pair_put(transaction, FORMAT_PROPERTY_PRUNE, unit, lsn, ret_error);
}

enum verdict {
    STAYS,
    GOES,
    ALL_STAY, /* this one and all that come after it */
};

static enum verdict judge(const struct wal_prune_options *options, const struct format_unit *row,
                          uint64_t now_ms)
{
    const struct wal_unit *unit = &row->unit;
    /* Numbers grow with time, so no later unit ended earlier than this one began. A unit from the
       future was begun under a clock that was wrong: it proves nothing. */
    if (unit->begin_time_ms >= options->ended_before_ms && unit->begin_time_ms <= now_ms) {
        return ALL_STAY;
    }
    bool goes = !format_unit_is_open(unit->state) &&
                unit->last_time_ms < options->ended_before_ms &&
                unit->last_lsn <= options->settled_lsn;
    size_t prefix = options->kept_prefix.size;
    bool kept = prefix > 0 && row->session_key_size >= prefix &&
                memcmp(row->session_key, options->kept_prefix.data, prefix) == 0 &&
                unit->last_time_ms >= options->kept_ended_before_ms;
    return goes && !kept ? GOES : STAYS;
}

/* What is to become of the next unit, if there was one. ALL_STAY: prune->done says so. */
static enum status judge_next(struct prune *prune, enum status found, uint64_t now_ms,
                              const struct format_unit *row, enum verdict *ret_verdict)
{
    *ret_verdict = found == STATUS_OK ? judge(prune->options, row, now_ms) : ALL_STAY;
    if (found != STATUS_OK && found != STATUS_NOT_FOUND) {
        return found;
    }
    prune->done = *ret_verdict == ALL_STAY;
    if (!prune->done) {
        prune->after_unit = row->unit.unit;
    }
    return STATUS_OK;
}

static enum status remove_units(struct store_transaction *transaction, struct prune *prune,
                                struct error *ret_error)
{
    uint64_t now_ms = clock_wall_ms();
    enum status status = STATUS_OK;
    for (unsigned seen = 0; seen < STEP_UNITS_MAX && !share_is_done(prune); seen++) {
        struct format_unit row;
        enum verdict verdict;
        status = rows_unit_next(transaction, prune->after_unit, &row, ret_error);
        status = judge_next(prune, status, now_ms, &row, &verdict);
        if (status == STATUS_OK && verdict == GOES) {
            status = remove_unit(transaction, prune, &row, ret_error);
        }
        if (status != STATUS_OK || verdict == ALL_STAY) {
            break;
        }
    }
    return status;
}

static enum status prune_step(struct wal *wal, struct store_transaction *transaction, void *context,
                              struct error *ret_error)
{
    struct prune *prune = context;
    uint64_t floor_lsn = 0;
    uint64_t floor_unit = 0;
    (void)wal;
    prune->records = 0;
    prune->bytes = 0;
    enum status status =
        rows_pair(transaction, FORMAT_PROPERTY_FLOOR, &floor_lsn, &floor_unit, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    prune->floor_lsn = floor_lsn;
    prune->floor_unit = floor_unit;
    status = remove_rest(transaction, prune, ret_error);
    if (status == STATUS_OK) {
        status = remove_units(transaction, prune, ret_error);
    }
    if (status == STATUS_OK && (prune->floor_lsn != floor_lsn || prune->floor_unit != floor_unit)) {
        status = rows_pair_put(transaction, FORMAT_PROPERTY_FLOOR, prune->floor_lsn,
                               prune->floor_unit, ret_error);
    }
    return status;
}

enum status wal_prune(struct wal *wal, const struct wal_prune_options *options, uint64_t *ret_units,
                      struct error *ret_error)
{
    struct prune prune = {.options = options};
    struct writer_task task = {.run = prune_step, .context = &prune};
    enum status status = STATUS_OK;
    if (wal->writer == NULL) {
        return error_set(ret_error, STATUS_INVALID, "the journal was opened to read only");
    }
    while (status == STATUS_OK && !prune.done) {
        status = writer_run(wal->writer, &task, ret_error);
        if (status == STATUS_OK && !prune.done && options->go_on != NULL &&
            !options->go_on(options->context)) {
            break;
        }
    }
    if (ret_units != NULL) {
        *ret_units = prune.units;
    }
    return status;
}

/* One snapshot's share of the count. */
static enum status count_units(struct wal_reader *reader, struct prune *prune, uint64_t limit,
                               struct error *ret_error)
{
    uint64_t now_ms = clock_wall_ms();
    enum status status = STATUS_OK;
    for (unsigned seen = 0; seen < STEP_UNITS_MAX && prune->units < limit; seen++) {
        struct format_unit row;
        enum verdict verdict;
        status = reader_unit_next(reader, prune->after_unit, &row, ret_error);
        status = judge_next(prune, status, now_ms, &row, &verdict);
        if (status != STATUS_OK || verdict == ALL_STAY) {
            break;
        }
        prune->units += verdict == GOES ? 1 : 0;
    }
    return status;
}

enum status wal_prune_count(struct wal *wal, const struct wal_prune_options *options,
                            uint64_t limit, uint64_t *ret_units, struct error *ret_error)
{
    struct prune prune = {.options = options};
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !prune.done && prune.units < limit) {
        struct wal_reader *reader = NULL;
        status = wal_reader_begin(wal, &reader, ret_error);
        if (status == STATUS_OK) {
            status = count_units(reader, &prune, limit, ret_error);
        }
        wal_reader_end(reader);
    }
    if (status == STATUS_OK) {
        *ret_units = prune.units;
    }
    return status;
}
