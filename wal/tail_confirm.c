/*
 * Whether what looks like damage of the tail is damage (tail.h).
 *
 * Beside a living owner
 *
 *   The tail is read first, the snapshot of the tables is taken after it. A frame that is
 *   overwritten meanwhile is in the tables by then, durably, so nothing is missed between the two;
 *   and the frame at the beginning was only written when the tables had everything before it, so
 *   that one which begins behind the snapshot's end is damage in any case.
 *
 *   But one reading of the file is of no one moment. The owner may have begun anew behind our back:
 *   then we have old frames, or a torn one, and further back new frames with LSNs that the snapshot
 *   does not have, just as if what is between were damaged. So where newer frames lie behind the
 *   last one that counts, the file is read again, and then a newer snapshot taken. An owner writes
 *   a frame only when all frames before it are durable and whole. Therefore, what we saw is by then
 *   in the file in one piece with all before it, if he did not begin anew since we began to read
 *   again; or it is in the newer snapshot, if he did. If it is neither, it is damage, whether there
 *   is an owner or not: no lock has to be asked.
 *
 * The caller's thread.
 */

#include "wal/rows.h"
#include "wal/tail.h"

/* The highest LSN of the strays. */
static uint64_t stray_lsn(const struct tail_contents *contents)
{
    struct tail_window window = tail_window_of(contents->strays, 0);
    struct tail_place place = {0};
    uint64_t highest = 0;
    while (tail_window_next(&window, &place)) {
        highest = place.lsn > highest ? place.lsn : highest;
    }
    return highest;
}

/* The highest LSN that the tail, and a snapshot of the tables taken after it, have now. */
static enum status look_again(const char *directory, struct store *store,
                              const uint8_t journal_id[WAL_JOURNAL_ID_BYTES], uint64_t *ret_lsn,
                              struct error *ret_error)
{
    struct tail_view *view = NULL;
    struct store_transaction *transaction = NULL;
    uint64_t lsn = 0;
    uint64_t unit = 0;
    enum status status = tail_read(directory, journal_id, &view, ret_error);
    if (status == STATUS_OK) {
        status = store_begin(store, false, &transaction, ret_error);
    }
    if (status == STATUS_OK) {
        status = rows_highest(transaction, &lsn, &unit, ret_error);
        store_abort(transaction);
    }
    if (status == STATUS_OK) {
        struct tail_window window = tail_window_of(view, lsn);
        uint64_t last_lsn = tail_window_last_lsn(&window);
        *ret_lsn = tail_window_continues(&window) && last_lsn > lsn ? last_lsn : lsn;
    }
    tail_view_release(view);
    return status;
}

enum status tail_confirm(const char *directory, struct store *store,
                         const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                         struct tail_contents *contents, struct error *ret_error)
{
    uint64_t seen_since = 0;
    if (contents->stray == FORMAT_TAIL_BYTES) {
        return STATUS_OK;
    }
    enum status status = look_again(directory, store, journal_id, &seen_since, ret_error);
    if (status == STATUS_OK && seen_since >= stray_lsn(contents)) {
        contents->stray = FORMAT_TAIL_BYTES;
    }
    return status;
}
