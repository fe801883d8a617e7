/*
 * `holdfast upgrade` (cli.h): has another process of the program take the place of the living
 * holdfastd, and waits for the outcome.
 *
 * The outcome is told by two numbers of /status: on success somebody with a higher generation
 * answers, on failure more upgrades have failed. Between the two processes nobody answers for a
 * moment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/control.h"
#include "cli/living.h"
#include "cli/output.h"
#include "holdfast/clock.h"

#define LOOK_MS 100
/* Without an answer for so long there is no holdfastd any more. */
#define SILENCE_MS_MAX 60000u

static enum status ask(const struct cli_options *options, struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    enum status status = control_request(options, "POST", "/upgrade", &code, &body, ret_error);
    if (status == STATUS_OK && code != 202) {
        body[strcspn(body, "\n")] = '\0';
        status = error_set(ret_error, STATUS_REFUSED, "%.500s", body);
    }
    free(body);
    return status;
}

/* Until it is decided. */
static enum status wait_for_outcome(const struct cli_options *options, const struct living *before,
                                    struct living *ret_after, struct error *ret_error)
{
    uint64_t heard_ms = clock_monotonic_ms();
    for (;;) {
        struct error error = {0};
        struct living now;
        enum status status = living_look(options, &now, &error);
        if (status == STATUS_OK) {
            heard_ms = clock_monotonic_ms();
            bool serves = strcmp(now.phase, "serving") == 0;
            if (serves && (now.generation > before->generation ||
                           now.upgrades_failed > before->upgrades_failed)) {
                *ret_after = now;
                return STATUS_OK;
            }
        } else if (clock_monotonic_ms() - heard_ms > SILENCE_MS_MAX) {
            return error_set(ret_error, status, "%s", error.message);
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
}

static void tell(const struct cli_options *options, const struct living *after, bool done)
{
    if (options->json) {
        bson_t document = BSON_INITIALIZER;
        BSON_APPEND_BOOL(&document, "upgraded", done);
        BSON_APPEND_UTF8(&document, "version", after->version);
        BSON_APPEND_INT64(&document, "pid", after->pid);
        BSON_APPEND_INT64(&document, "generation", after->generation);
        if (!done) {
            BSON_APPEND_UTF8(&document, "failure", after->upgrade_failure);
        }
        char *text = bson_as_relaxed_extended_json(&document, NULL);
        printf("%s\n", text == NULL ? "{}" : text);
        bson_free(text);
        bson_destroy(&document);
    } else if (done) {
        printf("upgraded: holdfastd %s, process %lld, serves\n", after->version,
               (long long)after->pid);
    } else {
        printf("not upgraded: %s\nholdfastd %s, process %lld, goes on serving\n",
               after->upgrade_failure, after->version, (long long)after->pid);
    }
}

enum cli_exit cli_upgrade(const struct cli_options *options)
{
    struct error error = {0};
    struct living before;
    struct living after;
    enum status status = living_look(options, &before, &error);
    if (status == STATUS_OK) {
        status = ask(options, &error);
    }
    if (status == STATUS_OK) {
        status = wait_for_outcome(options, &before, &after, &error);
    }
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    bool done = after.upgrades_failed == before.upgrades_failed;
    tell(options, &after, done);
    return done ? CLI_CLEAN : CLI_LEFT;
}
