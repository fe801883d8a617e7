/*
 * `holdfast rollback UNIT` (cli.h): has the living holdfastd roll one open unit back, and waits
 * until the journal says how that ended. A unit whose command is at work may also commit; and it
 * may not be in the journal yet, so that holdfastd is asked until it is rolled back or has ended.
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

/* *ret_state of a unit that is not in the journal: ABORTED, for it has written nothing. */
static enum status read_state(struct wal *wal, uint64_t unit, bool *ret_found,
                              enum wal_unit_state *ret_state, struct error *ret_error)
{
    struct wal_reader *reader = NULL;
    struct wal_unit row;
    enum status status = wal_reader_begin(wal, &reader, ret_error);
    if (status == STATUS_OK) {
        status = wal_read_unit(reader, unit, &row, ret_error);
    }
    wal_reader_end(reader);
    *ret_found = status == STATUS_OK;
    *ret_state = status == STATUS_OK ? row.state : WAL_UNIT_ABORTED;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* *ret_at_work: a command of it is. STATUS_NOT_FOUND: no such unit is open. */
static enum status ask(const struct cli_options *options, bool *ret_at_work,
                       struct error *ret_error)
{
    char target[64];
    char *body = NULL;
    int code = 0;
    (void)snprintf(target, sizeof target, "/rollback?unit=%" PRIu64, options->unit);
    enum status status = control_request(options, "POST", target, &code, &body, ret_error);
    if (status == STATUS_OK && code != 200 && code != 202) {
        body[strcspn(body, "\n")] = '\0';
        status =
            error_set(ret_error, code == 404 ? STATUS_NOT_FOUND : STATUS_REFUSED, "%.500s", body);
    }
    free(body);
    *ret_at_work = status == STATUS_OK && code == 202;
    return status;
}

/* Asks once more for one that is not in the journal. That it is not open any more is fine now. */
static enum status ask_again(const struct cli_options *options, bool *ret_at_work,
                             struct error *ret_error)
{
    enum status status = ask(options, ret_at_work, ret_error);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status wait_for_end(const struct cli_options *options, struct wal *wal, bool at_work,
                                enum wal_unit_state *ret_state, struct error *ret_error)
{
    uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    for (;;) {
        bool found = false;
        enum status status = read_state(wal, options->unit, &found, ret_state, ret_error);
        if (status != STATUS_OK || (found ? *ret_state != WAL_UNIT_OPEN : !at_work)) {
            return status;
        }
        if (clock_monotonic_ms() > until_ms) {
            return error_set(ret_error, STATUS_UNREACHABLE,
                             "unit %" PRIu64 " is still open after %u s: %s", options->unit,
                             PATIENCE_MS / 1000,
                             at_work ? "its command is still at work" : "does the server answer?");
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        if (!found) {
            status = ask_again(options, &at_work, ret_error);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
}

enum cli_exit cli_rollback(const struct cli_options *options)
{
    struct error error = {0};
    enum wal_unit_state state = WAL_UNIT_OPEN;
    struct wal *wal = output_open_journal(options);
    if (wal == NULL) {
        return CLI_FAILED;
    }
    bool at_work = false;
    enum status status = ask(options, &at_work, &error);
    if (status == STATUS_OK) {
        status = wait_for_end(options, wal, at_work, &state, &error);
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
    return state == WAL_UNIT_ABORTED ? CLI_CLEAN : CLI_LEFT;
}
