/*
 * `holdfast units` (cli.h): one line, or one JSON object, per unit.
 *
 * Invariant: a reader of the journal is open only while a batch of units is put into memory, never
 * while something is printed: a paused pager must not keep the running daemon from reusing pages.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/locks.h"
#include "cli/output.h"
#include "holdfast/clock.h"
#include "recover/record.h"

#define BATCH_UNITS 256

struct listing {
    const struct cli_options *options;
    FILE *batch;
    uint64_t after; /* the last unit looked at */
    uint64_t printed;
    bool left; /* a conflict or an unreadable unit was among them */
};

/* A unit as far as its first and last records tell. Texts point into the reader's snapshot. */
struct row {
    struct wal_unit unit;
    struct record_begin begin;
    int64_t writes; /* -1: unknown */
    const char *reason;
    struct error damage; /* STATUS_OK if none */
};

/* Of a transaction of the server: the commands that wrote. -1: not known. */
static enum status count_commands(struct slice payload, int64_t *ret_writes,
                                  struct error *ret_error)
{
    struct record_committing committing;
    bson_iter_t at;
    enum status status = record_get_committing(payload, &committing, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    int64_t count = committing.left;
    if (count >= 0 && committing.commands.size > 0 &&
        bson_iter_init_from_data(&at, committing.commands.data, committing.commands.size)) {
        while (bson_iter_next(&at)) {
            count++;
        }
    }
    *ret_writes = count;
    return STATUS_OK;
}

/* Follows the chain back from its end to the last WRITE, which carries its number. */
static enum status count_writes(struct wal_reader *reader, const struct wal_unit *unit,
                                int64_t *ret_writes, struct error *ret_error)
{
    uint64_t lsn = unit->last_lsn;
    while (lsn != 0) {
        struct wal_record record;
        struct record_write write;
        enum status status = wal_read(reader, lsn, &record, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        if (record.kind == WAL_KIND_COMMITTING) {
            return count_commands(record.payload, ret_writes, ret_error);
        }
        if (record.kind == WAL_KIND_WRITE) {
            status = record_get_write(record.payload, &write, ret_error);
            if (status == STATUS_OK) {
                *ret_writes = (int64_t)write.number + 1;
            }
            return status;
        }
        if (record.previous_lsn >= lsn) {
            return error_set(ret_error, STATUS_CORRUPT, "record %" PRIu64 " follows itself", lsn);
        }
        lsn = record.previous_lsn;
    }
    *ret_writes = 0;
    return STATUS_OK;
}

static void row_read(struct wal_reader *reader, struct row *row)
{
    struct wal_record record;
    row->writes = -1;
    row->reason = "";
    row->begin =
        (struct record_begin){.boundary = "?", .user = "", .client = "", .application = ""};
    row->damage.status = STATUS_OK;
    enum status status = wal_read(reader, row->unit.first_lsn, &record, &row->damage);
    if (status == STATUS_OK) {
        status = record_get_begin(record.payload, &row->begin, &row->damage);
    }
    if (status == STATUS_OK) {
        status = count_writes(reader, &row->unit, &row->writes, &row->damage);
    }
    if (status == STATUS_OK &&
        (row->unit.state == WAL_UNIT_ABORTED || row->unit.state == WAL_UNIT_CONFLICT)) {
        status = wal_read(reader, row->unit.last_lsn, &record, &row->damage);
        if (status == STATUS_OK) {
            status = record_get_reason(record.payload, &row->reason, &row->damage);
        }
    }
    if (status != STATUS_OK) {
        row->damage.status = status;
    }
}

static void row_print_json(struct listing *listing, const struct row *row)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)row->unit.unit);
    BSON_APPEND_UTF8(&document, "state", wal_unit_state_name(row->unit.state));
    BSON_APPEND_UTF8(&document, "boundary", row->begin.boundary);
    BSON_APPEND_DATE_TIME(&document, "began", (int64_t)row->unit.begin_time_ms);
    BSON_APPEND_DATE_TIME(&document, "last", (int64_t)row->unit.last_time_ms);
    if (row->writes >= 0) {
        BSON_APPEND_INT64(&document, "writes", row->writes);
    }
    BSON_APPEND_UTF8(&document, "user", row->begin.user);
    BSON_APPEND_UTF8(&document, "client", row->begin.client);
    BSON_APPEND_UTF8(&document, "appName", row->begin.application);
    if (row->begin.name != NULL) {
        BSON_APPEND_UTF8(&document, "name", row->begin.name);
    }
    BSON_APPEND_UTF8(&document, "reason", row->reason);
    if (row->damage.status != STATUS_OK) {
        BSON_APPEND_UTF8(&document, "damage", row->damage.message);
    }
    char *json = output_json(slice_make(bson_get_data(&document), document.len));
    fprintf(listing->batch, "%s\n  %s", listing->printed == 0 ? "" : ",", json);
    bson_free(json);
    bson_destroy(&document);
}

static void row_print_text(struct listing *listing, const struct row *row)
{
    char began[CLOCK_TEXT_BYTES];
    char writes[24] = "?";
    clock_text(row->unit.begin_time_ms, began);
    if (row->writes >= 0) {
        snprintf(writes, sizeof(writes), "%" PRId64, row->writes);
    }
    fprintf(listing->batch, "%8" PRIu64 "  %-9s  %-9s  %-24s  %6s  ", row->unit.unit,
            wal_unit_state_name(row->unit.state), row->begin.boundary, began, writes);
    output_text(listing->batch, row->begin.user[0] == '\0' ? "-" : row->begin.user);
    fputs("  ", listing->batch);
    output_text(listing->batch, row->begin.client[0] == '\0' ? "-" : row->begin.client);
    fputs("  ", listing->batch);
    output_text(listing->batch,
                row->damage.status == STATUS_OK ? row->reason : row->damage.message);
    fputc('\n', listing->batch);
}

static void row_print(struct listing *listing, const struct row *row)
{
    if (listing->options->json) {
        row_print_json(listing, row);
    } else {
        row_print_text(listing, row);
    }
    listing->printed++;
    if (row->unit.state == WAL_UNIT_CONFLICT || row->damage.status != STATUS_OK) {
        listing->left = true;
    }
}

static bool state_wanted(const struct listing *listing, enum wal_unit_state state)
{
    const char *wanted = listing->options->state;
    return wanted == NULL || strcmp(wanted, "all") == 0 ||
           strcmp(wanted, wal_unit_state_name(state)) == 0;
}

/* Only what is not ended: then the journal's short index of those will do. */
static bool only_open(const struct listing *listing)
{
    const char *wanted = listing->options->state;
    return wanted != NULL && (strcmp(wanted, "open") == 0 || strcmp(wanted, "conflict") == 0 ||
                              strcmp(wanted, "committing") == 0);
}

/* Puts a batch into memory. STATUS_NOT_FOUND: that was the last. */
static enum status batch_fill(struct listing *listing, struct wal *wal, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    for (int i = 0; i < BATCH_UNITS && status == STATUS_OK; i++) {
        struct row row = {0};
        status = only_open(listing)
                     ? wal_read_open_next(reader, listing->after, &row.unit, ret_error)
                     : wal_read_unit_next(reader, listing->after, &row.unit, ret_error);
        if (status == STATUS_OK) {
            listing->after = row.unit.unit;
            if (state_wanted(listing, row.unit.state)) {
                row_read(reader, &row);
                row_print(listing, &row);
            }
        }
    }
    wal_reader_end(reader);
    return status;
}

static enum status batch_run(struct listing *listing, struct wal *wal, struct error *ret_error)
{
    char *text = NULL;
    size_t size = 0;
    listing->batch = open_memstream(&text, &size);
    if (listing->batch == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = batch_fill(listing, wal, ret_error);
    if (fclose(listing->batch) != 0) {
        free(text);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    fwrite(text, 1, size, stdout);
    free(text);
    return status;
}

enum cli_exit cli_units(const struct cli_options *options)
{
    struct listing listing = {.options = options};
    struct error error = {0};
    enum status status = STATUS_OK;
    if (options->locks) {
        return locks_print(options);
    }
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    if (options->json) {
        fputs("{\"units\": [", stdout);
    } else {
        printf("%8s  %-9s  %-9s  %-24s  %6s  %s\n", "UNIT", "STATE", "BOUNDARY", "BEGAN", "WRITES",
               "USER  CLIENT  REASON");
    }
    while (status == STATUS_OK && !ferror(stdout)) {
        status = batch_run(&listing, wal, &error);
    }
    wal_close(wal, false);
    if (options->json) {
        fputs("\n]}\n", stdout);
    }
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        return output_failure(&error);
    }
    return listing.left ? CLI_LEFT : CLI_CLEAN;
}
