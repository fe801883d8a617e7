/*
 * `holdfast migrate status`: the list of migrations, for people and programs.
 *
 * Threads: main only.
 */

#include "cli/migrate_status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/output.h"
#include "holdfast/clock.h"

static void put_index(bson_t *list, uint32_t *count, const bson_t *document)
{
    char index[16];
    const char *key = NULL;
    bson_uint32_to_string((*count)++, &key, index, sizeof(index));
    BSON_APPEND_DOCUMENT(list, key, document);
}

/* What a reader has to know of it, beside its state; "" if nothing. */
static const char *remark(const struct migrate_entry *entry)
{
    return entry->changed                              ? ", changed"
           : entry->row != NULL && entry->file == NULL ? ", file missing"
           : entry->out_of_order                       ? ", out of order"
                                                       : "";
}

static const char *state_of(const struct migrate_entry *entry)
{
    return entry->row == NULL || entry->row->state == ROW_UNDONE
               ? "pending"
               : row_state_name(entry->row->state);
}

static bool is_applied(const struct migrate_entry *entry)
{
    return entry->row != NULL && entry->row->state != ROW_UNDONE;
}

static bool needs_somebody(const struct migrate_entry *entry)
{
    return entry->pending || entry->changed || (is_applied(entry) && entry->file == NULL) ||
           (is_applied(entry) && entry->row->state != ROW_APPLIED);
}

/* A row of what was undone, whose file is gone: of no interest any more. */
static bool is_shown(const struct migrate_entry *entry)
{
    return entry->file != NULL || is_applied(entry);
}

static void print_undo(const struct migrate_entry *entry)
{
    if (!is_applied(entry)) {
        return;
    }
    if (entry->by_journal && entry->units_found > 0) {
        char oldest[CLOCK_TEXT_BYTES];
        clock_text(entry->oldest_ms, oldest);
        printf("journal, for wal.retention from %s on", oldest);
    } else if (entry->by_journal) {
        fputs("journal", stdout);
    } else if (entry->by_file) {
        printf("down section; not by the journal: %s", entry->cannot);
    } else {
        printf("no: %s", entry->cannot);
    }
}

static void print_entry(const struct migrate_entry *entry)
{
    char state[64];
    char when[CLOCK_TEXT_BYTES] = "";
    const char *name = entry->file != NULL ? entry->file->name : entry->row->name;
    (void)snprintf(state, sizeof(state), "%s%s", state_of(entry), remark(entry));
    if (is_applied(entry) && entry->row->finished_ms > 0) {
        clock_text((uint64_t)entry->row->finished_ms, when);
    }
    printf("%04" PRId64 "  %-24s %-12s ", entry->version, name, state);
    if (is_applied(entry)) {
        printf("%9" PRId64 "  %-24s  ", entry->row->documents, when);
    }
    print_undo(entry);
    fputc('\n', stdout);
    if (is_applied(entry) && entry->row->error != NULL) {
        fputs("      ", stdout);
        output_text(stdout, entry->row->error);
        fputc('\n', stdout);
    }
}

static void put_entry(bson_t *one, const struct migrate_entry *entry)
{
    BSON_APPEND_INT64(one, "version", entry->version);
    BSON_APPEND_UTF8(one, "name", entry->file != NULL ? entry->file->name : entry->row->name);
    BSON_APPEND_UTF8(one, "state", state_of(entry));
    BSON_APPEND_BOOL(one, "changed", entry->changed);
    BSON_APPEND_BOOL(one, "missing", entry->file == NULL);
    BSON_APPEND_BOOL(one, "outOfOrder", entry->out_of_order);
    if (is_applied(entry)) {
        const char *undo = entry->by_journal ? "journal" : entry->by_file ? "file" : "no";
        BSON_APPEND_INT64(one, "documents", entry->row->documents);
        BSON_APPEND_INT64(one, "units", entry->row->units);
        if (entry->units_found >= 0) {
            BSON_APPEND_INT64(one, "unitsInJournal", entry->units_found);
        }
        if (entry->units_found > 0) {
            char oldest[CLOCK_TEXT_BYTES];
            clock_text(entry->oldest_ms, oldest);
            BSON_APPEND_UTF8(one, "oldestUnit", oldest);
        }
        BSON_APPEND_UTF8(one, "undo", undo);
        if (entry->cannot != NULL) {
            BSON_APPEND_UTF8(one, "notByJournal", entry->cannot);
        }
        if (entry->row->error != NULL) {
            BSON_APPEND_UTF8(one, "error", entry->row->error);
        }
    }
}

static void print_status(const struct migrate *migrate, const struct migrate_entry *entries,
                         size_t count, const char *holder, size_t pending)
{
    printf("database %s, version %" PRId64 ", %zu pending\n", migrate_database(migrate),
           migrate_version(migrate), pending);
    if (holder[0] != '\0') {
        printf("%s is at work\n", holder);
    }
    if (count > 0) {
        printf("\n%-4s  %-24s %-12s %9s  %-24s  %s\n", "NO", "NAME", "STATE", "DOCUMENTS",
               "APPLIED", "UNDO");
    }
    for (size_t i = 0; i < count; i++) {
        if (is_shown(&entries[i])) {
            print_entry(&entries[i]);
        }
    }
}

static void print_status_json(const struct migrate *migrate, const struct migrate_entry *entries,
                              size_t count, const char *holder, size_t pending)
{
    bson_t document = BSON_INITIALIZER;
    bson_t list = BSON_INITIALIZER;
    uint32_t shown = 0;
    BSON_APPEND_UTF8(&document, "database", migrate_database(migrate));
    BSON_APPEND_INT64(&document, "version", migrate_version(migrate));
    BSON_APPEND_INT64(&document, "pending", (int64_t)pending);
    BSON_APPEND_UTF8(&document, "atWork", holder);
    for (size_t i = 0; i < count; i++) {
        if (is_shown(&entries[i])) {
            bson_t one = BSON_INITIALIZER;
            put_entry(&one, &entries[i]);
            put_index(&list, &shown, &one);
            bson_destroy(&one);
        }
    }
    BSON_APPEND_ARRAY(&document, "migrations", &list);
    output_bson_line(stdout, &document);
    bson_destroy(&list);
    bson_destroy(&document);
}

enum status migrate_status_run(const struct cli_options *options, struct migrate *migrate,
                               bool *ret_left, struct error *ret_error)
{
    struct migrate_entry *entries = NULL;
    size_t count = 0;
    size_t pending = 0;
    char holder[256] = "";
    enum status status = migrate_entries(migrate, &entries, &count, ret_error);
    if (status == STATUS_OK) {
        status = migrate_holder(migrate, holder, sizeof(holder), ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        pending += entries[i].pending ? 1 : 0;
        *ret_left = *ret_left || (is_shown(&entries[i]) && needs_somebody(&entries[i]));
    }
    if (options->json) {
        print_status_json(migrate, entries, count, holder, pending);
    } else {
        print_status(migrate, entries, count, holder, pending);
    }
    return STATUS_OK;
}
