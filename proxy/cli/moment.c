/* Places in the journal (moment.h). */

#include "cli/moment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "holdfast/clock.h"
#include "recover/timeline.h"

static bool parse_ago(uint64_t number, const char *unit, uint64_t *ret_time_ms)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {{"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t now_ms = clock_wall_ms();
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) == 0 && number <= now_ms / units[i].factor) {
            *ret_time_ms = now_ms - number * units[i].factor;
            return true;
        }
    }
    return false;
}

/* "2026-01-02T03:04:05.678Z" */
static bool parse_time(const char *text, uint64_t *ret_time_ms)
{
    struct tm parts = {0};
    uint64_t fraction_ms = 0;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == NULL) {
        return false;
    }
    if (*rest == '.') {
        uint64_t place = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++) {
            fraction_ms += place * (uint64_t)(*rest - '0');
            place /= 10;
        }
    }
    time_t seconds = timegm(&parts);
    if (strcmp(rest, "Z") != 0 || seconds < 0) {
        return false;
    }
    *ret_time_ms = (uint64_t)seconds * 1000 + fraction_ms;
    return true;
}

enum status moment_parse(const char *option, const char *text, struct cli_moment *ret_moment,
                         struct error *ret_error)
{
    struct cli_moment moment = {.kind = CLI_MOMENT_TIME};
    char *rest = NULL;
    errno = 0;
    uint64_t number = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &rest, 10) : 0;
    bool valid = rest != NULL && errno == 0;
    if (valid && *rest == '\0') {
        moment = (struct cli_moment){.kind = CLI_MOMENT_LSN, .value = number};
    } else if (valid) {
        valid = parse_ago(number, rest, &moment.value) || parse_time(text, &moment.value);
    }
    if (!valid) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s %.50s: expected an LSN, a time in UTC such as 2026-01-02T03:04:05Z, "
                         "or how long ago, such as 2h",
                         option, text);
    }
    *ret_moment = moment;
    return STATUS_OK;
}

enum status moment_range_read(const struct cli_options *options, struct wal *wal,
                              struct moment_range *ret_range, struct error *ret_error)
{
    struct moment_range range = {.from_lsn = 0, .until_lsn = UINT64_MAX};
    enum status status = STATUS_OK;
    if (options->from.kind == CLI_MOMENT_LSN) {
        range.from_lsn = options->from.value;
    } else if (options->from.kind == CLI_MOMENT_TIME) {
        status = timeline_first_ended(wal, options->from.value, &range.from_lsn, ret_error);
    }
    if (options->until.kind == CLI_MOMENT_LSN) {
        range.until_lsn = options->until.value;
    } else if (options->until.kind == CLI_MOMENT_TIME && status == STATUS_OK) {
        /* The time itself is included. */
        status = timeline_first_ended(wal, options->until.value + 1, &range.until_lsn, ret_error);
        range.until_lsn -= range.until_lsn == UINT64_MAX ? 0 : 1;
    }
    if (status == STATUS_OK) {
        *ret_range = range;
    }
    return status;
}
