/*
 * `holdfast verify` (cli.h): the journal's own check, and for units that are not ended the schema
 * of their records as well, because recovery will have to read them.
 */

#include <inttypes.h>

#include "cli/journal.h"
#include "cli/output.h"
#include "recover/history.h"

#define DAMAGE_MAX (sizeof(((struct wal_verification *)0)->damage) / sizeof(struct wal_damage))

static void add_damage(struct wal_verification *found, uint64_t lsn, uint64_t unit,
                       const char *message)
{
    if (found->damage_count < DAMAGE_MAX) {
        struct wal_damage *damage = &found->damage[found->damage_count];
        *damage = (struct wal_damage){.lsn = lsn, .unit = unit, .offset = WAL_NO_OFFSET};
        snprintf(damage->message, sizeof(damage->message), "%.250s", message);
    }
    found->damage_count++;
}

/* Only after the structure was found sound: a damaged page could kill this process. */
static enum status check_open_units(const struct cli_options *options,
                                    struct wal_verification *found, struct error *ret_error)
{
    struct wal *wal = NULL;
    struct wal_unit unit = {0};
    enum status status = journal_open_to_read(options, &wal, ret_error);
    while (status == STATUS_OK) {
        struct wal_reader *reader = NULL;
        struct unit_history *history = NULL;
        struct error error = {0};
        status = wal_reader_begin(wal, &reader, ret_error);
        if (status == STATUS_OK) {
            status = wal_read_open_next(reader, unit.unit, &unit, ret_error);
        }
        wal_reader_end(reader);
        if (status == STATUS_OK) {
            enum status loaded = unit_history_load(wal, unit.unit, &history, &error);
            unit_history_free(history);
            if (loaded == STATUS_CORRUPT) {
                add_damage(found, unit.last_lsn, unit.unit, error.message);
            } else if (loaded == STATUS_INVALID && options->key_file == NULL) {
                (void)fputs(
                    "The journal is encrypted: without --wal-key-file FILE the documents of "
                    "open units are not looked at.\n",
                    stderr);
                status = STATUS_NOT_FOUND;
            } else if (loaded != STATUS_OK && loaded != STATUS_NOT_FOUND) {
                /* NOT_FOUND: the daemon has ended and removed it since. */
                status = error_set(ret_error, loaded, "%s", error.message);
            }
        }
    }
    wal_close(wal, false);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static void print_json(const struct wal_verification *found)
{
    bson_t document = BSON_INITIALIZER;
    bson_t list;
    BSON_APPEND_INT64(&document, "records", (int64_t)found->records_checked);
    BSON_APPEND_INT64(&document, "units", (int64_t)found->units_checked);
    BSON_APPEND_INT64(&document, "damageCount", (int64_t)found->damage_count);
    BSON_APPEND_ARRAY_BEGIN(&document, "damage", &list);
    for (uint32_t i = 0; i < DAMAGE_MAX && i < found->damage_count; i++) {
        char buffer[16];
        const char *index;
        bson_t entry;
        bson_uint32_to_string(i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &entry);
        BSON_APPEND_INT64(&entry, "lsn", (int64_t)found->damage[i].lsn);
        BSON_APPEND_INT64(&entry, "unit", (int64_t)found->damage[i].unit);
        if (found->damage[i].offset != WAL_NO_OFFSET) {
            BSON_APPEND_INT64(&entry, "offset", (int64_t)found->damage[i].offset);
            if (found->page_bytes != 0) {
                BSON_APPEND_INT64(&entry, "page",
                                  (int64_t)(found->damage[i].offset / found->page_bytes));
            }
        }
        BSON_APPEND_UTF8(&entry, "message", found->damage[i].message);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(&document, &list);
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

/* "  LSN 7, unit 2, byte 28712 of data.mdb (page 7): " */
static void print_place(const struct wal_verification *found, const struct wal_damage *damage)
{
    if (damage->lsn == 0) {
        printf("  structure");
    } else {
        printf("  LSN %" PRIu64, damage->lsn);
    }
    if (damage->unit != 0) {
        printf(", unit %" PRIu64, damage->unit);
    }
    if (damage->offset != WAL_NO_OFFSET) {
        printf(", byte %" PRIu64 " of data.mdb", damage->offset);
        if (found->page_bytes != 0) {
            printf(" (page %" PRIu64 ")", damage->offset / found->page_bytes);
        }
    }
    printf(": ");
}

static void print_text(const struct wal_verification *found)
{
    printf("%" PRIu64 " records and %" PRIu64 " units checked: %s\n", found->records_checked,
           found->units_checked, found->damage_count == 0 ? "sound" : "DAMAGED");
    for (size_t i = 0; i < DAMAGE_MAX && i < found->damage_count; i++) {
        print_place(found, &found->damage[i]);
        output_text(stdout, found->damage[i].message);
        fputc('\n', stdout);
    }
    if (found->damage_count > DAMAGE_MAX) {
        printf("  and %" PRIu64 " more\n", found->damage_count - DAMAGE_MAX);
    }
}

enum cli_exit cli_verify(const struct cli_options *options)
{
    struct wal_verification found = {0};
    struct error error = {0};
    enum status status = wal_verify(options->wal, &found, &error);
    if (status == STATUS_OK && found.damage_count == 0) {
        status = check_open_units(options, &found, &error);
    }
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    if (options->json) {
        print_json(&found);
    } else {
        print_text(&found);
    }
    return found.damage_count > 0 ? CLI_LEFT : CLI_CLEAN;
}
