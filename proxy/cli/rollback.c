/*
 * `holdfast rollback UNIT` (cli.h): has the living holdfastd roll one open unit back, and waits
 * until the journal says how that ended.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/control.h"
#include "cli/output.h"
#include "holdfast/clock.h"

/* Longer than a lock is waited for by default: a unit at work is rolled back behind its command. */
#define PATIENCE_MS 30000u
#define LOOK_MS 20

/* A unit that has written nothing is not in the journal: it is as if rolled back. */
static enum status read_state(struct wal *wal, uint64_t unit, enum wal_unit_state *ret_state,
                              struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct wal_unit row;
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    if (status == STATUS_OK) {
        status = wal_read_unit(reader, unit, &row, ret_error);
    }
    wal_reader_end(reader);
    *ret_state = status == STATUS_OK ? row.state : WAL_UNIT_ABORTED;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status wait_for_end(struct wal *wal, uint64_t unit, enum wal_unit_state *ret_state,
                                struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    for (;;) {
        enum status status = read_state(wal, unit, ret_state, ret_error);
        if (status != STATUS_OK || *ret_state != WAL_UNIT_OPEN) {
            return status;
        }
        if (clock_monotonic_ms() > until_ms) {
            return error_set(ret_error, STATUS_UNREACHABLE,
                             "unit %" PRIu64 " is still open after %u s: does the server answer?",
                             unit, PATIENCE_MS / 1000);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
}

static enum status ask(const struct cli_options *options, struct error *ret_error)
{
    char target[64];
    char *body = NULL;
    int code = 0;
    (void)snprintf(target, sizeof target, "/rollback?unit=%" PRIu64, options->unit);
    enum status status = control_request(options, "POST", target, &code, &body, ret_error);
    if (status == STATUS_OK && code != 200) {
        body[strcspn(body, "\n")] = '\0';
        status = error_set(ret_error, STATUS_REFUSED, "%.500s", body);
    }
    free(body);
    return status;
}

enum cli_exit cli_rollback(const struct cli_options *options)
{
    struct error error = {0};
    enum wal_unit_state state = WAL_UNIT_OPEN;
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    enum status status = ask(options, &error);
    if (status == STATUS_OK) {
        status = wait_for_end(wal, options->unit, &state, &error);
    }
    wal_close(wal, false);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    if (options->json) {
        printf("{\"unit\": %" PRIu64 ", \"state\": \"%s\"}\n", options->unit,
               wal_unit_state_name(state));
    } else {
        printf("unit %" PRIu64 " is %s\n", options->unit, wal_unit_state_name(state));
    }
    return state == WAL_UNIT_CONFLICT ? CLI_LEFT : CLI_CLEAN;
}
