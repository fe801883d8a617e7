/*
 * `holdfast show UNIT` (cli.h): everything the journal knows of one unit.
 *
 * Threads: main only. The journal's reader is closed before anything is printed; each image is
 * copied out of the journal when its turn comes.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/side_by_side.h"
#include "holdfast/clock.h"
#include "recover/history.h"

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
    if (begin->name != NULL) {
        BSON_APPEND_UTF8(document, "name", begin->name);
    }
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

static enum status append_place(bson_t *document, const char *name,
                                const struct unit_history *history,
                                const struct history_image *place, struct error *ret_error)
{
    struct image image = {0};
    enum status status = history_image_read(history, place, &image, ret_error);
    if (status == STATUS_OK) {
        output_append_image(document, name, image);
    }
    image_free(&image);
    return status;
}

static enum status append_write(bson_t *entry, const struct unit_history *history, size_t number,
                                struct error *ret_error)
{
    const struct history_write *write = &history->writes[number];
    BSON_APPEND_INT32(entry, "n", (int32_t)number);
    BSON_APPEND_UTF8(entry, "op", record_operation_name(write->operation));
    BSON_APPEND_UTF8(entry, "ns", write->namespace);
    append_slice(entry, "key", write->key);
    enum status status = append_place(entry, "before", history, &write->before, ret_error);
    if (status == STATUS_OK) {
        status = append_place(entry, "after", history, &write->after, ret_error);
    }
    if (status == STATUS_OK) {
        status = append_place(entry, "command", history, &write->command, ret_error);
    }
    if (write->refused) {
        BSON_APPEND_BOOL(entry, "refused", true);
    }
    BSON_APPEND_UTF8(entry, "connection", write->connection);
    return status;
}

static enum status append_writes(bson_t *document, const struct unit_history *history,
                                 struct error *ret_error)
{
    bson_t list;
    enum status status = STATUS_OK;
    BSON_APPEND_ARRAY_BEGIN(document, "writes", &list);
    for (size_t i = 0; i < history->write_count && status == STATUS_OK; i++) {
        char buffer[16];
        const char *index;
        bson_t entry;
        bson_uint32_to_string((uint32_t)i, &index, buffer, sizeof(buffer));
        BSON_APPEND_DOCUMENT_BEGIN(&list, index, &entry);
        status = append_write(&entry, history, i, ret_error);
        bson_append_document_end(&list, &entry);
    }
    bson_append_array_end(document, &list);
    return status;
}

/* The payload of an ABORT or CONFLICT is what an operator should see: as it is. */
static enum status print_json(const struct unit_history *history, struct error *ret_error)
{
    bson_t document = BSON_INITIALIZER;
    append_begin(&document, history);
    enum status status = append_writes(&document, history, ret_error);
    if (status == STATUS_OK) {
        if (history->committing.size > 0) {
            append_slice(&document, "committing", history->committing);
        }
        if (history->last_payload.size > 0) {
            append_slice(&document, "outcome", history->last_payload);
        }
        output_bson_line(stdout, &document);
    }
    bson_destroy(&document);
    return status;
}

static void print_labelled(const char *label, const char *text)
{
    printf("%-10s", label);
    output_text(stdout, text[0] == '\0' ? "-" : text);
    fputc('\n', stdout);
}

static enum status print_image(const char *label, const struct unit_history *history,
                               const struct history_image *place, struct error *ret_error)
{
    struct image image = {0};
    enum status status = history_image_read(history, place, &image, ret_error);
    if (status == STATUS_OK) {
        char *text = output_image(image);
        printf("    %-8s", label);
        output_text(stdout, text);
        fputc('\n', stdout);
        bson_free(text);
    }
    image_free(&image);
    return status;
}

static enum status print_writes(const struct unit_history *history, struct error *ret_error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < history->write_count && status == STATUS_OK && !ferror(stdout); i++) {
        const struct history_write *write = &history->writes[i];
        char *key = output_json(write->key);
        printf("\nwrite %zu  %s ", i, record_operation_name(write->operation));
        output_text(stdout, write->namespace);
        fputc(' ', stdout);
        output_text(stdout, key);
        fputc('\n', stdout);
        bson_free(key);
        if (write->refused) {
            printf("    this write was refused, or never sent: it touched nothing\n");
        }
        status = print_image("before", history, &write->before, ret_error);
        if (status == STATUS_OK) {
            status = print_image("after", history, &write->after, ret_error);
        }
        if (status == STATUS_OK && write->command.presence == IMAGE_PRESENT) {
            status = print_image("command", history, &write->command, ret_error);
        }
    }
    return status;
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

/* A transaction of the server: what it is asked for by, and its commands. */
static void print_committing(const struct unit_history *history)
{
    struct record_committing committing;
    bson_iter_t at;
    if (history->committing.size == 0 ||
        record_get_committing(history->committing, &committing, NULL) != STATUS_OK) {
        return;
    }
    char *lsid = output_json(committing.lsid);
    print_labelled("lsid", lsid);
    bson_free(lsid);
    printf("%-10s%" PRId64 "\n", "txnNumber", committing.transaction_number);
    if (committing.commands.size > 0 &&
        bson_iter_init_from_data(&at, committing.commands.data, committing.commands.size)) {
        while (bson_iter_next(&at) && BSON_ITER_HOLDS_DOCUMENT(&at)) {
            uint32_t size = 0;
            const uint8_t *data = NULL;
            bson_iter_document(&at, &size, &data);
            char *command = output_json(slice_make(data, size));
            fputs("\ncommand   ", stdout);
            output_text(stdout, command);
            fputc('\n', stdout);
            bson_free(command);
        }
    }
    if (committing.left > 0) {
        printf("\n%d more commands, for which unit.auditBytes had no room\n", committing.left);
    } else if (committing.left < 0) {
        printf("\nits commands are not known: it began by way of another proxy, or before a "
               "restart of this one\n");
    }
}

static enum status print_text(const struct unit_history *history, struct error *ret_error)
{
    char began[CLOCK_TEXT_BYTES];
    char last[CLOCK_TEXT_BYTES];
    const char *reason = "";
    clock_text(history->begin_time_ms, began);
    clock_text(history->last_time_ms, last);
    printf("%-10s%" PRIu64 "\n", "unit", history->unit);
    print_labelled("state", wal_unit_state_name(history->state));
    print_labelled("boundary", history->begin.boundary);
    print_labelled("began", began);
    print_labelled("last", last);
    print_labelled("user", history->begin.user);
    print_labelled("client", history->begin.client);
    print_labelled("appName", history->begin.application);
    if (history->begin.name != NULL) {
        print_labelled("name", history->begin.name);
    }
    if (history->last_payload.size > 0 &&
        record_get_reason(history->last_payload, &reason, NULL) == STATUS_OK) {
        print_labelled("reason", reason);
    }
    print_committing(history);
    enum status status = print_writes(history, ret_error);
    if (status == STATUS_OK && history->state == WAL_UNIT_CONFLICT) {
        print_conflict(history);
    }
    return status;
}

/* A unit that cannot be read whole: the records that can be found, and what is wrong. */
static void print_damaged(struct wal *wal, uint64_t unit_number)
{
    struct wal_reader *reader = NULL;
    struct wal_unit unit;
    struct wal_record record;
    char time[CLOCK_TEXT_BYTES];
    if (wal_reader_begin(wal, &reader, NULL) != STATUS_OK) {
        return;
    }
    if (wal_read_unit(reader, unit_number, &unit, NULL) == STATUS_OK) {
        uint64_t lsn = unit.last_lsn;
        while (lsn != 0 && wal_read(reader, lsn, &record, NULL) == STATUS_OK) {
            const char *kind = wal_kind_name(record.kind);
            clock_text(record.time_ms, time);
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
    struct error error = {0};
    enum cli_exit code = CLI_CLEAN;
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    enum status status = unit_history_load(wal, options->unit, &history, &error);
    if (status == STATUS_OK) {
        code = history->state == WAL_UNIT_CONFLICT ? CLI_LEFT : CLI_CLEAN;
        status = options->json ? print_json(history, &error) : print_text(history, &error);
    }
    if (status != STATUS_OK) {
        code = output_failure(&error);
    }
    if (status == STATUS_CORRUPT) {
        print_damaged(wal, options->unit);
        code = CLI_LEFT;
    }
    unit_history_free(history);
    wal_close(wal, false);
    return code;
}
