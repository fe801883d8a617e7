/*
 * `holdfast drain` (cli.h): has the living holdfastd take nothing new, and waits until nothing is
 * left to end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/output.h"

#define LOOK_MS 100

/* What /readyz says. */
struct drained {
    int64_t units;
    int64_t calls;
    bool safe;
};

static enum status ask(const struct cli_options *options, struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "POST", "/drain", &code, &body, ret_error);
    if (status == STATUS_OK && code != 202) {
        body[strcspn(body, "\n")] = '\0';
        status = error_set(ret_error, STATUS_REFUSED, "%.500s", body);
    }
    free(body);
    return status;
}

static enum status look(const struct cli_options *options, struct drained *ret_drained,
                        struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    struct answer answer;
    bson_iter_t units;
    bson_iter_t calls;
    bson_iter_t safe;
    enum status status = control_request(options, "GET", "/readyz", &code, &body, ret_error);
    if (status == STATUS_OK) {
        status = answer_parse(body, &answer, ret_error);
    }
    free(body);
    if (status != STATUS_OK) {
        return status;
    }
    if (answer_find(&answer.root, "unitsOpen", &units) &&
        answer_find(&answer.root, "callsOpen", &calls) &&
        answer_find(&answer.root, "safeToRemove", &safe)) {
        *ret_drained = (struct drained){.units = bson_iter_as_int64(&units),
                                        .calls = bson_iter_as_int64(&calls),
                                        .safe = bson_iter_as_bool(&safe)};
    } else {
        status = error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer lacks a field");
    }
    answer_free(&answer);
    return status;
}

static void tell(const struct cli_options *options, const struct drained *drained)
{
    if (options->json) {
        printf("{\"unitsOpen\": %lld, \"callsOpen\": %lld, \"safeToRemove\": %s}\n",
               (long long)drained->units, (long long)drained->calls,
               drained->safe ? "true" : "false");
    } else if (drained->safe) {
        printf("drained: nothing is open, holdfastd may be ended\n");
    } else {
        printf("draining: %lld units and %lld calls are open\n", (long long)drained->units,
               (long long)drained->calls);
    }
    (void)fflush(stdout);
}

enum cli_exit cli_drain(const struct cli_options *options)
{
    struct error error = {0};
    struct drained drained = {.safe = false};
    struct drained told = {.units = -1};
    enum status status = ask(options, &error);
    while (status == STATUS_OK && !drained.safe) {
        status = look(options, &drained, &error);
        bool news = drained.safe || drained.units != told.units || drained.calls != told.calls;
        if (status == STATUS_OK && news && (drained.safe || !options->json)) {
            tell(options, &drained);
            told = drained;
        }
        if (status == STATUS_OK && !drained.safe) {
            (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
        }
    }
    return status == STATUS_OK ? CLI_CLEAN : output_failure(&error);
}
