/*
 * `holdfast show UNIT` (cli.h): everything the journal knows of one unit.
 *
 * Threads: main only. The unit is copied out of the journal before anything is printed.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/side_by_side.h"
#include "recover/record.h"

static void append_begin(bson_t *document, const struct unit_history *history)
{
    const struct record_begin *begin = &history->begin;
    BSON_APPEND_INT64(document, "unit", (int64_t)history->unit);
    BSON_APPEND_UTF8(document, "state", wal_unit_state_name(history->state));
    BSON_APPEND_UTF8(document, "boundary", begin->boundary);
    BSON_APPEND_DATE_TIME(document, "began", (int64_t)history->begin_time_ms);
    BSON_APPEND_DATE_TIME(document, "last", (int64_t)history->last_time_ms);
    BSON_APPEND_UTF8(document, "user", begin->user);
    BSON_APPEND_UTF8(document, "client", begin->client);
    BSON_APPEND_UTF8(document, "appName", begin->application);
    if (begin->session_id.size > 0) {
        BSON_APPEND_BINARY(document, "lsid", BSON_SUBTYPE_UUID, begin->session_id.data,
                           (uint32_t)begin->session_id.size);
        BSON_APPEND_INT64(document, "txnNumber", begin->transaction_number);
    }
}

static void append_slice(bson_t *document, const char *name, struct slice value)
{
    output_append_image(document, name,
                        (struct image){.presence = IMAGE_PRESENT, .document = value});
}

static void append_writes(bson_t *document, const struct unit_history *history)
{
    bson_t list;
    BSON_APPEND_ARRAY_BEGIN(document, "writes", &list);
    for (size_t i = 0; i < history->write_count; i++) {
        const struct record_write *write = &history->writes[i];
        char buffer[16];
        const char *index;
        bson_t entry;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &entry);
        BSON_APPEND_INT32(&entry, "n", write->number);
        BSON_APPEND_UTF8(&entry, "op", record_operation_name(write->operation));
        BSON_APPEND_UTF8(&entry, "ns", write->namespace);
        append_slice(&entry, "key", write->key);
        output_append_image(&entry, "before", write->before);
        output_append_image(&entry, "after", write->after);
        if (write->command.size > 0) {
            append_slice(&entry, "command", write->command);
        }
        if (write->refused) {
            BSON_APPEND_BOOL(&entry, "refused", true);
        }
        BSON_APPEND_UTF8(&entry, "connection", write->connection);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(document, &list);
}

/* The payload of an ABORT or CONFLICT is what an operator should see: as it is. */
static void print_json(const struct unit_history *history)
{
    bson_t document = BSON_INITIALIZER;
    append_begin(&document, history);
    append_writes(&document, history);
    if (history->last_payload.size > 0) {
        append_slice(&document, "outcome", history->last_payload);
    }
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

static void print_labelled(const char *label, const char *text)
{
    printf("%-10s", label);
    output_text(stdout, text[0] == '\0' ? "-" : text);
    fputc('\n', stdout);
}

static void print_image(const char *label, struct image image)
{
    char *text = output_image(image);
    printf("    %-8s", label);
    output_text(stdout, text);
    fputc('\n', stdout);
    bson_free(text);
}

static void print_writes(const struct unit_history *history)
{
    for (size_t i = 0; i < history->write_count && !ferror(stdout); i++) {
        const struct record_write *write = &history->writes[i];
        char *key = output_json(write->key);
        printf("\nwrite %" PRId32 "  %s ", write->number, record_operation_name(write->operation));
        output_text(stdout, write->namespace);
        fputc(' ', stdout);
        output_text(stdout, key);
        fputc('\n', stdout);
        bson_free(key);
        if (write->refused) {
            printf("    the server refused this write: it touched nothing\n");
        }
        print_image("before", write->before);
        print_image("after", write->after);
        if (write->command.size > 0) {
            print_image("command",
                        (struct image){.presence = IMAGE_PRESENT, .document = write->command});
        }
    }
}

static void print_conflict(const struct unit_history *history)
{
    struct record_conflict_document document;
    for (size_t i = 0; record_get_conflict(history->last_payload, i, &document, NULL) == STATUS_OK;
         i++) {
        char *key = output_json(document.key);
        fputs("\nconflict  ", stdout);
        output_text(stdout, document.namespace);
        fputc(' ', stdout);
        output_text(stdout, key);
        fputc('\n', stdout);
        bson_free(key);
        side_by_side_print(stdout, document.before, document.after, document.found);
    }
}

static void print_text(const struct unit_history *history)
{
    char began[OUTPUT_TIME_BYTES];
    char last[OUTPUT_TIME_BYTES];
    const char *reason = "";
    output_time(history->begin_time_ms, began);
    output_time(history->last_time_ms, last);
    printf("%-10s%" PRIu64 "\n", "unit", history->unit);
    print_labelled("state", wal_unit_state_name(history->state));
    print_labelled("boundary", history->begin.boundary);
    print_labelled("began", began);
    print_labelled("last", last);
    print_labelled("user", history->begin.user);
    print_labelled("client", history->begin.client);
    print_labelled("appName", history->begin.application);
    if (history->last_payload.size > 0 &&
        record_get_reason(history->last_payload, &reason, NULL) == STATUS_OK) {
        print_labelled("reason", reason);
    }
    print_writes(history);
    if (history->state == WAL_UNIT_CONFLICT) {
        print_conflict(history);
    }
}

/* A unit that cannot be read whole: the records that can be found, and what is wrong. */
static void print_damaged(struct wal *wal, uint64_t unit_number)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit;
    struct wal_record record;
    char time[OUTPUT_TIME_BYTES];
    if (wal_reader_begin(wal, &reader, NULL) != STATUS_OK) {
        return;
    }
    if (wal_read_unit(reader, unit_number, &unit, NULL) == STATUS_OK) {
        uint64_t lsn = unit.last_lsn;
        while (lsn != 0 && wal_read(reader, lsn, &record, NULL) == STATUS_OK) {
            const char *kind = wal_kind_name(record.kind);
            output_time(record.time_ms, time);
            fprintf(stderr, "  LSN %" PRIu64 "  %s  %s  %zu bytes\n", lsn,
                    kind == NULL ? "?" : kind, time, record.payload.size);
            lsn = record.previous_lsn < lsn ? record.previous_lsn : 0;
        }
    }
    wal_reader_end(reader);
}

enum cli_exit cli_show(const struct cli_options *options)
{
    struct unit_history *history = NULL;
    struct wal_reader *reader = NULL;
    struct error error = {0};
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    enum status status = wal_reader_begin(wal, &reader, &error);
    if (status == STATUS_OK) {
        status = unit_history_load(reader, options->unit, &history, &error);
    }
    reader = wal_reader_end(reader);
    if (status == STATUS_CORRUPT) {
        output_failure(&error);
        print_damaged(wal, options->unit);
        wal_close(wal, false);
        return CLI_LEFT;
    }
    wal_close(wal, false);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    enum cli_exit code = history->state == WAL_UNIT_CONFLICT ? CLI_LEFT : CLI_CLEAN;
    if (options->json) {
        print_json(history);
    } else {
        print_text(history);
    }
    unit_history_free(history);
    return code;
}
