/*
 * `holdfast salvage` (cli.h): a new journal out of what is intact in a damaged one, and a list of
 * what is not, with the documents that are known of it.
 *
 * Main thread.
 */

#include <inttypes.h>

#include "cli/output.h"
#include "holdfast/clock.h"
#include "recover/lease.h"
#include "recover/record.h"

struct listing {
    bool json;
    bson_t *units;    /* json: the array */
    bson_t unit;      /* json: the one that is being told */
    bson_t documents; /* json: its documents */
    bool in_unit;
    uint32_t units_told;
    uint32_t documents_told;
};

/* ------------------------------------------------------------------ lost units */

static void end_unit(struct listing *listing)
{
    if (listing->json && listing->in_unit) {
        bson_append_array_end(&listing->unit, &listing->documents);
        bson_append_document_end(listing->units, &listing->unit);
    }
    listing->in_unit = false;
}

static void on_lost_unit(void *context, const struct wal_unit *unit, const char *why)
{
    struct listing *listing = context;
    char began[CLOCK_TEXT_BYTES];
    end_unit(listing);
    listing->in_unit = true;
    listing->documents_told = 0;
    clock_text(unit->begin_time_ms, began);
    if (!listing->json) {
        printf("  unit %" PRIu64 ", of %s: %s\n", unit->unit, began, why);
        return;
    }
    char buffer[16];
    const char *index;
    bson_uint32_to_string(listing->units_told++, &index, buffer, sizeof(buffer));
    BSON_APPEND_DOCUMENT_BEGIN(listing->units, index, &listing->unit);
    BSON_APPEND_INT64(&listing->unit, "unit", (int64_t)unit->unit);
    BSON_APPEND_UTF8(&listing->unit, "began", began);
    BSON_APPEND_UTF8(&listing->unit, "reason", why);
    BSON_APPEND_ARRAY_BEGIN(&listing->unit, "documents", &listing->documents);
}

static void on_lost_record(void *context, const struct wal_record *record)
{
    struct listing *listing = context;
    struct record_write write;
    if (record->kind != WAL_KIND_WRITE || record->encrypted ||
        record_get_write(record->payload, &write, NULL) != STATUS_OK) {
        if (!listing->json && record->kind != WAL_KIND_BEGIN) {
            printf("    LSN %" PRIu64 ": %s\n", record->lsn, wal_kind_name(record->kind));
        }
        return;
    }
    if (!listing->json) {
        char *key = output_json(write.key);
        printf("    LSN %" PRIu64 ": %s in ", record->lsn, record_operation_name(write.operation));
        output_text(stdout, write.namespace);
        printf(" of %s\n", key);
        bson_free(key);
        return;
    }
    char buffer[16];
    const char *index;
    bson_t entry;
    bson_t key;
    bson_uint32_to_string(listing->documents_told++, &index, buffer, sizeof(buffer));
    BSON_APPEND_DOCUMENT_BEGIN(&listing->documents, index, &entry);
    BSON_APPEND_INT64(&entry, "lsn", (int64_t)record->lsn);
    BSON_APPEND_UTF8(&entry, "op", record_operation_name(write.operation));
    BSON_APPEND_UTF8(&entry, "ns", write.namespace);
    if (bson_init_static(&key, write.key.data, write.key.size)) {
        BSON_APPEND_DOCUMENT(&entry, "key", &key);
    }
    output_append_image(&entry, "before", write.before);
    output_append_image(&entry, "after", write.after);
    bson_append_document_end(&listing->documents, &entry);
}

/* ------------------------------------------------------------------ the summary */

static void print_text(const struct cli_options *options, const struct wal_salvage *done,
                       const char *journal)
{
    printf("%" PRIu64 " units and %" PRIu64 " records kept, %" PRIu64 " units lost",
           done->units_kept, done->records_kept, done->units_lost);
    if (done->sessions_lost > 0) {
        printf(", %" PRIu64 " sessions lost: their drivers' retries are not known any more",
               done->sessions_lost);
    }
    printf("\n");
    if (done->properties_lost > 0) {
        printf("%" PRIu64 " properties of the journal lost\n", done->properties_lost);
    }
    if (done->end_lost) {
        printf("The end is lost: a meta page or the tail is damaged, and what was changed last is "
               "perhaps\nmissing without a trace.\n");
    }
    printf("The new journal is in %s. Start with it, once, with\n"
           "  --set upstream.takeover=%s\n",
           options->target, journal);
}

static void print_json(bson_t *document, const struct cli_options *options,
                       const struct wal_salvage *done, const char *journal)
{
    BSON_APPEND_INT64(document, "damageCount", (int64_t)done->damage_count);
    BSON_APPEND_INT64(document, "unitsKept", (int64_t)done->units_kept);
    BSON_APPEND_INT64(document, "unitsLost", (int64_t)done->units_lost);
    BSON_APPEND_INT64(document, "recordsKept", (int64_t)done->records_kept);
    BSON_APPEND_INT64(document, "recordsLost", (int64_t)done->records_lost);
    BSON_APPEND_INT64(document, "sessionsLost", (int64_t)done->sessions_lost);
    BSON_APPEND_INT64(document, "propertiesLost", (int64_t)done->properties_lost);
    BSON_APPEND_BOOL(document, "endLost", done->end_lost);
    BSON_APPEND_UTF8(document, "journal", journal);
    BSON_APPEND_UTF8(document, "directory", options->target);
    output_bson_line(stdout, document);
}

enum cli_exit cli_salvage(const struct cli_options *options)
{
    struct error error = {0};
    struct wal_salvage done = {0};
    bson_t document = BSON_INITIALIZER;
    bson_t units;
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    struct listing listing = {.json = options->json, .units = &units};
    struct wal_salvage_options salvage = {
        .directory = options->wal,
        .target = options->target,
        .key_file = options->key_file,
        .lost_unit = on_lost_unit,
        .lost_record = on_lost_record,
        .context = &listing,
    };
    if (options->target == NULL) {
        (void)error_set(&error, STATUS_INVALID, "--to DIR is missing: where is the new journal?");
        bson_destroy(&document);
        return output_failure(&error);
    }
    BSON_APPEND_ARRAY_BEGIN(&document, "lost", &units);
    enum status status = wal_salvage_run(&salvage, &done, &error);
    end_unit(&listing);
    bson_append_array_end(&document, &units);
    if (status == STATUS_OK) {
        lease_journal_text(done.journal_id, journal);
        if (options->json) {
            print_json(&document, options, &done, journal);
        } else {
            print_text(options, &done, journal);
        }
    }
    bson_destroy(&document);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    bool all = done.units_lost == 0 && done.sessions_lost == 0 && done.properties_lost == 0 &&
               !done.end_lost;
    return all ? CLI_CLEAN : CLI_LEFT;
}
