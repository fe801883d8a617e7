/*
 * `holdfast export` (cli.h): the journal as JSON lines.
 *
 *   {"type":"unit","unit":7,"state":"committed",...,"writes":2}
 *   {"type":"write","unit":7,"n":0,"op":"update","ns":"shop.orders","key":{...},"before":...}
 *   {"type":"write","unit":7,"n":1,...}
 *
 * or, with --records,
 *
 *   {"type":"record","lsn":31,"unit":7,"kind":"WRITE",...,"payload":{...}}
 *
 * Numbers and times of the journal's own are plain JSON; documents are canonical Extended JSON, so
 * that nothing of their types is lost.
 *
 * Invariants: no reader of the journal is open while something is printed, for a pager may pause
 * for hours; memory holds one unit's writes without their images, and one document's images.
 *
 * Threads: main only.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/moment.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "holdfast/clock.h"
#include "recover/history.h"

/* Records are copied out of a snapshot until they have so many bytes. */
#define SNAPSHOT_BYTES ((size_t)1 << 20)

struct export
{
    const struct cli_options *options;
    struct wal *wal;
    struct moment_range range;
    struct progress progress;
    uint64_t units_last; /* the highest unit at the start: for the progress only */
    uint64_t lsn_last;
    uint64_t lines;
    bool damaged;
};

/* ------------------------------------------------------------------ lines */

static void print_document(struct slice document)
{
    bson_t view;
    char *json = NULL;
    if (bson_init_static(&view, document.data, document.size) &&
        bson_validate(&view, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL)) {
        json = bson_as_canonical_extended_json(&view, NULL);
    }
    if (json == NULL) {
        json = output_json(document); /* its bytes, in hex */
    }
    fputs(json, stdout);
    bson_free(json);
}

/* Everything but documents, up to and without the closing brace. */
static void print_open(struct export *export, const bson_t *line)
{
    size_t size = 0;
    char *json = bson_as_relaxed_extended_json(line, &size);
    if (json != NULL) {
        while (size > 0 && (json[size - 1] == '}' || json[size - 1] == ' ')) {
            size--;
        }
        fwrite(json, 1, size, stdout);
    }
    bson_free(json);
    export->lines++;
}

static void put_time(bson_t *line, const char *name, uint64_t time_ms)
{
    char text[CLOCK_TEXT_BYTES];
    clock_text(time_ms, text);
    BSON_APPEND_UTF8(line, name, text);
}

/* A client's text; what is not UTF-8 could not be printed as JSON. */
static void put_text(bson_t *line, const char *name, const char *text)
{
    bool valid = bson_utf8_validate(text, strlen(text), false);
    BSON_APPEND_UTF8(line, name, valid ? text : "(not UTF-8)");
}

static void print_damage(struct export *export, const char *what, uint64_t number,
                         const struct error *error)
{
    bson_t line = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&line, "type", "damage");
    BSON_APPEND_INT64(&line, what, (int64_t)number);
    put_text(&line, "message", error->message);
    print_open(export, &line);
    fputs(" }\n", stdout);
    bson_destroy(&line);
    export->damaged = true;
}

/* ------------------------------------------------------------------ units */

static void print_unit(struct export *export, const struct unit_history *history,
                       const struct wal_unit *row)
{
    const struct record_begin *begin = &history->begin;
    const char *reason = NULL;
    bson_t line = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&line, "type", "unit");
    BSON_APPEND_INT64(&line, "unit", (int64_t)history->unit);
    BSON_APPEND_UTF8(&line, "state", wal_unit_state_name(history->state));
    BSON_APPEND_INT64(&line, "firstLsn", (int64_t)row->first_lsn);
    BSON_APPEND_INT64(&line, "lastLsn", (int64_t)history->last_lsn);
    put_time(&line, "began", history->begin_time_ms);
    put_time(&line, "last", history->last_time_ms);
    put_text(&line, "boundary", begin->boundary);
    put_text(&line, "user", begin->user);
    put_text(&line, "client", begin->client);
    put_text(&line, "appName", begin->application);
    if (begin->name != NULL) {
        put_text(&line, "name", begin->name);
    }
    if (history->last_payload.size > 0 && history->state != WAL_UNIT_COMMITTED &&
        record_get_reason(history->last_payload, &reason, NULL) == STATUS_OK) {
        put_text(&line, "reason", reason);
    }
    BSON_APPEND_INT64(&line, "writes", (int64_t)history->write_count);
    print_open(export, &line);
    fputs(" }\n", stdout);
    bson_destroy(&line);
}

static enum status print_place(const char *name, const struct unit_history *history,
                               const struct history_image *place, struct error *ret_error)
{
    struct image image = {0};
    enum status status = history_image_read(history, place, &image, ret_error);
    if (status == STATUS_OK && image.presence != IMAGE_UNKNOWN) {
        printf(", \"%s\" : ", name);
        if (image.presence == IMAGE_PRESENT) {
            print_document(image.document);
        } else {
            fputs("null", stdout);
        }
    }
    image_free(&image);
    return status;
}

/* Reads what it prints as it prints: if the unit is pruned meanwhile the line ends early. */
static enum status print_write(struct export *export, const struct unit_history *history,
                               size_t number, struct error *ret_error)
{
    const struct history_write *write = &history->writes[number];
    bson_t line = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&line, "type", "write");
    BSON_APPEND_INT64(&line, "unit", (int64_t)history->unit);
    BSON_APPEND_INT64(&line, "n", (int64_t)number);
    BSON_APPEND_INT64(&line, "lsn", (int64_t)write->lsn);
    BSON_APPEND_UTF8(&line, "op", record_operation_name(write->operation));
    put_text(&line, "ns", write->namespace);
    if (write->refused) {
        BSON_APPEND_BOOL(&line, "refused", true); /* or never sent: it touched nothing */
    }
    print_open(export, &line);
    bson_destroy(&line);
    fputs(", \"key\" : ", stdout);
    print_document(write->key);
    enum status status = print_place("before", history, &write->before, ret_error);
    if (status == STATUS_OK) {
        status = print_place("after", history, &write->after, ret_error);
    }
    if (status == STATUS_OK) {
        status = print_place("command", history, &write->command, ret_error);
    }
    fputs(" }\n", stdout);
    return status;
}

/* What a transaction of the server is asked for by, and its commands. */
static void print_committing(struct export *export, const struct unit_history *history)
{
    bson_t line = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&line, "type", "committing");
    BSON_APPEND_INT64(&line, "unit", (int64_t)history->unit);
    print_open(export, &line);
    bson_destroy(&line);
    fputs(", \"committing\" : ", stdout);
    print_document(history->committing);
    fputs(" }\n", stdout);
}

static bool namespace_wanted(const struct export *export, const char *namespace)
{
    return export->options->namespace == NULL || strcmp(export->options->namespace, namespace) == 0;
}

static bool unit_wanted(const struct export *export, const struct unit_history *history)
{
    bool wanted = export->options->namespace == NULL;
    for (size_t i = 0; i < history->write_count && !wanted; i++) {
        wanted = namespace_wanted(export, history->writes[i].namespace);
    }
    return wanted;
}

/* What retention has removed since is no damage. */
static bool is_gone(const struct export *export, uint64_t unit)
{
    struct wal_reader *reader = NULL;
    struct wal_unit row;
    enum status status = wal_reader_begin(export->wal, &reader, NULL);
    if (status == STATUS_OK) {
        status = wal_read_unit(reader, unit, &row, NULL);
    }
    wal_reader_end(reader);
    return status == STATUS_NOT_FOUND;
}

static enum status export_unit(struct export *export, const struct wal_unit *row,
                               struct error *ret_error)
{
    struct unit_history *history = NULL;
    struct error error = {0};
    enum status status = unit_history_load(export->wal, row->unit, &history, &error);
    if (status == STATUS_OK && unit_wanted(export, history)) {
        print_unit(export, history, row);
        if (history->committing.size > 0) {
            print_committing(export, history);
        }
        for (size_t i = 0; i < history->write_count && status == STATUS_OK && !ferror(stdout);
             i++) {
            if (namespace_wanted(export, history->writes[i].namespace)) {
                status = print_write(export, history, i, &error);
            }
        }
    }
    unit_history_free(history);
    if (status == STATUS_NOT_FOUND || (status == STATUS_CORRUPT && is_gone(export, row->unit))) {
        return STATUS_OK;
    }
    if (status == STATUS_CORRUPT) {
        print_damage(export, "unit", row->unit, &error);
        return STATUS_OK;
    }
    return status == STATUS_OK ? status : error_set(ret_error, status, "%s", error.message);
}

/* The next unit behind *unit, in a snapshot of its own. */
static enum status next_unit(const struct export *export, struct wal_unit *unit,
                             struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = wal_reader_begin(export->wal, &reader, ret_error);
    if (status == STATUS_OK && export->options->unit != 0) {
        status = unit->unit != 0 ? STATUS_NOT_FOUND
                                 : wal_read_unit(reader, export->options->unit, unit, ret_error);
    } else if (status == STATUS_OK) {
        status = wal_read_unit_next(reader, unit->unit, unit, ret_error);
    }
    wal_reader_end(reader);
    return status;
}

static enum status export_units(struct export *export, struct error *ret_error)
{
    struct wal_unit unit = {0};
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !ferror(stdout)) {
        status = next_unit(export, &unit, ret_error);
        if (status == STATUS_OK && unit.last_lsn >= export->range.from_lsn &&
            unit.last_lsn <= export->range.until_lsn) {
            status = export_unit(export, &unit, ret_error);
        }
        if (progress_due(&export->progress)) {
            progress_print(&export->progress, "unit %" PRIu64 " of %" PRIu64 ", %" PRIu64 " lines",
                           unit.unit, export->units_last, export->lines);
        }
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* ------------------------------------------------------------------ records */

static bool record_wanted(const struct export *export, const struct wal_record *record)
{
    struct record_write write;
    if (export->options->unit != 0 && record->unit != export->options->unit) {
        return false;
    }
    return export->options->namespace == NULL ||
           (record->kind == WAL_KIND_WRITE &&
            record_get_write(record->payload, &write, NULL) == STATUS_OK &&
            namespace_wanted(export, write.namespace));
}

static void print_record(struct export *export, const struct wal_record *record)
{
    bson_t line = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&line, "type", "record");
    BSON_APPEND_INT64(&line, "lsn", (int64_t)record->lsn);
    BSON_APPEND_INT64(&line, "unit", (int64_t)record->unit);
    BSON_APPEND_INT64(&line, "previousLsn", (int64_t)record->previous_lsn);
    BSON_APPEND_UTF8(&line, "kind", wal_kind_name(record->kind));
    put_time(&line, "time", record->time_ms);
    print_open(export, &line);
    bson_destroy(&line);
    fputs(", \"payload\" : ", stdout);
    print_document(record->payload);
    fputs(" }\n", stdout);
}

/* Records copied out of one snapshot, to be printed when it is closed. */
struct copies {
    struct wal_record *records;
    size_t count;
    size_t capacity;
    size_t bytes;
};

static bool copy_record(struct copies *copies, const struct wal_record *record)
{
    if (copies->count == copies->capacity) {
        size_t capacity = copies->capacity == 0 ? 64 : copies->capacity * 2;
        struct wal_record *more = reallocarray(copies->records, capacity, sizeof(*more));
        if (more == NULL) {
            return false;
        }
        copies->records = more;
        copies->capacity = capacity;
    }
    uint8_t *payload = malloc(record->payload.size + 1);
    if (payload == NULL) {
        return false;
    }
    if (record->payload.size > 0) {
        memcpy(payload, record->payload.data, record->payload.size);
    }
    copies->records[copies->count] = *record;
    copies->records[copies->count++].payload = slice_make(payload, record->payload.size);
    copies->bytes += record->payload.size + sizeof(*record);
    return true;
}

static void print_copies(struct export *export, struct copies *copies)
{
    for (size_t i = 0; i < copies->count; i++) {
        if (record_wanted(export, &copies->records[i])) {
            print_record(export, &copies->records[i]);
        }
        free((void *)(uintptr_t)copies->records[i].payload.data);
    }
    copies->count = 0;
    copies->bytes = 0;
}

/* Copies records behind *lsn until there are enough, and moves *lsn there. */
static enum status copy_records(const struct export *export, struct copies *copies, uint64_t *lsn,
                                struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    enum status status = wal_reader_begin(export->wal, &reader, ret_error);
    while (status == STATUS_OK && copies->bytes < SNAPSHOT_BYTES) {
        struct wal_record record;
        status = wal_read_next(reader, *lsn, &record, ret_error);
        if (status == STATUS_OK && record.lsn > export->range.until_lsn) {
            status = STATUS_NOT_FOUND;
        }
        if (status == STATUS_OK) {
            *lsn = record.lsn;
            status = copy_record(copies, &record)
                         ? STATUS_OK
                         : error_set(ret_error, STATUS_MEMORY, "out of memory");
        }
    }
    wal_reader_end(reader);
    return status;
}

static enum status export_records(struct export *export, struct error *ret_error)
{
    struct copies copies = {0};
    uint64_t lsn = export->range.from_lsn > 0 ? export->range.from_lsn - 1 : 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !ferror(stdout)) {
        status = copy_records(export, &copies, &lsn, ret_error);
        print_copies(export, &copies);
        if (progress_due(&export->progress)) {
            progress_print(&export->progress, "LSN %" PRIu64 " of %" PRIu64 ", %" PRIu64 " lines",
                           lsn, export->lsn_last, export->lines);
        }
    }
    free(copies.records);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* ------------------------------------------------------------------ the command */

static enum status run(struct export *export, struct error *ret_error)
{
    struct wal_statistics figures;
    enum status status = wal_statistics_get(export->wal, &figures, ret_error);
    if (status == STATUS_OK) {
        status = moment_range_read(export->options, export->wal, &export->range, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    export->lsn_last = figures.last_lsn;
    export->units_last = figures.last_unit;
    progress_begin(&export->progress, export->options);
    status = export->options->records ? export_records(export, ret_error)
                                      : export_units(export, ret_error);
    progress_end(&export->progress);
    return status;
}

enum cli_exit cli_export(const struct cli_options *options)
{
    struct export export = {.options = options};
    struct error error = {0};
    export.wal = output_open_journal(options);
    if (export.wal == NULL) {
        return CLI_FAILED;
    }
    enum status status = run(&export, &error);
    wal_close(export.wal, false);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return export.damaged ? CLI_LEFT : CLI_CLEAN;
}
