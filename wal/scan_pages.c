/*
 * Verification of the pages, without LMDB: where in the file a damage is (scan.h).
 *
 * The child's only thread.
 */

#include <stdio.h>

#include "wal/pages.h"
#include "wal/scan.h"

/* How much of each table the check before opening reads: 4 MiB, in pages of 4 KiB. */
#define PAGES_BEFORE_OPEN 1024u
#define SNAPSHOT_TRIES 100

static void on_page_damage(void *context, uint64_t offset, const char *message)
{
    struct wal_damage damage = {.offset = offset};
    snprintf(damage.message, sizeof(damage.message), "%.255s", message);
    scan_note_damage(context, &damage);
    ((struct scan *)context)->pages_damaged = true;
}

/* What is wrong with a row by itself. */
static enum status check_row(enum store_table table, struct slice key, struct slice value,
                             struct wal_damage *damage, struct error *ret_error)
{
    struct wal_record record;
    struct format_unit unit;
    struct format_session session;
    struct slice property;
    char name[FORMAT_PROPERTY_NAME_BYTES_MAX + 1] = "";
    uint64_t number = 0;
    bool numbered = table == STORE_RECORDS || table == STORE_UNITS || table == STORE_OPEN;
    enum status status = numbered ? format_key_get(key, &number, ret_error) : STATUS_OK;
    if (status != STATUS_OK) {
        return status;
    }
    switch (table) {
    case STORE_RECORDS:
        damage->lsn = number;
        return format_record_get(number, value, &record, ret_error);
    case STORE_UNITS:
        damage->unit = number;
        return format_unit_get(number, value, &unit, ret_error);
    case STORE_OPEN:
        damage->unit = number;
        return format_open_get(number, value, ret_error);
    case STORE_SESSIONS:
        return format_session_get(key, value, &session, ret_error);
    case STORE_PROPERTIES:
        if (key.size == 0 || key.size >= sizeof(name) || memchr(key.data, 0, key.size) != NULL) {
            return error_set(ret_error, STATUS_CORRUPT, "a property has an impossible name");
        }
        memcpy(name, key.data, key.size);
        return format_property_get(name, value, &property, ret_error);
    default:
        return STATUS_OK;
    }
}

static void on_row(void *context, enum store_table table, struct slice key, struct slice value,
                   uint64_t offset)
{
    struct scan *scan = context;
    struct wal_damage damage = {.offset = offset};
    struct error error;
    if (scan->everything && check_row(table, key, value, &damage, &error) != STATUS_OK) {
        snprintf(damage.message, sizeof(damage.message), "%.255s", error.message);
        scan_note_damage(scan, &damage);
    }
}

/*
 * Walks the pages of the snapshot that `transaction` holds fast, NULL: of the newest. While an
 * owner works on the file its meta pages change: STATUS_NOT_FOUND, take a newer snapshot.
 */
enum status scan_check_pages(struct scan *scan, struct store_transaction *transaction,
                             struct error *ret_error)
{
    struct pages *pages = NULL;
    struct pages_result result = {0};
    struct store_usage usage = {0};
    struct pages_visitor visitor = {
        .row = on_row,
        .damage = on_page_damage,
        .context = scan,
        .pages_max = scan->everything ? 0 : PAGES_BEFORE_OPEN,
        .large_values = scan->everything,
    };
    scan_now_doing(scan, "walking the pages");
    enum status status = STATUS_OK;
    if (transaction != NULL) {
        status = store_usage_get(transaction, &usage, ret_error);
    }
    if (status == STATUS_OK) {
        status = pages_open(scan->directory, &pages, ret_error);
    }
    if (status == STATUS_OK) {
        uint64_t before = scan->found.damage_count;
        status = pages_walk(pages, usage.commits, &visitor, &result, ret_error);
        if (status == STATUS_NOT_FOUND) {
            scan->found.damage_count = before; /* the meta pages were being written */
            scan->pages_damaged = false;
        }
        scan->found.page_bytes = pages_page_bytes(pages);
        scan->rows_checked = scan->everything && status == STATUS_OK && result.has_snapshot;
    }
    pages_close(pages);
    return status;
}

enum status scan_begin_and_check_pages(struct scan *scan, struct store *store,
                                       struct store_transaction **ret_transaction,
                                       struct error *ret_error)
{
    enum status status = STATUS_NOT_FOUND;
    for (int i = 0; i < SNAPSHOT_TRIES && status == STATUS_NOT_FOUND; i++) {
        struct store_transaction *transaction = NULL;
        status = store_begin(store, false, &transaction, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        status = scan_check_pages(scan, transaction, ret_error);
        if (status == STATUS_OK) {
            *ret_transaction = transaction;
        } else {
            store_abort(transaction);
        }
    }
    return status == STATUS_NOT_FOUND
               ? error_set(ret_error, STATUS_LIMIT,
                           "the journal is written to faster than it can be read: try again")
               : status;
}
