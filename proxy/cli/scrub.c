/*
 * `holdfast scrub` (cli.h): finds what breaks the rules of a file, shows what would put it right,
 * and does it through the running holdfastd.
 *
 *     look at all rules, report
 *     --fix: for each rule with findings and a fix: ask; look again, fix each finding in a unit
 *     again, as long as that fixed something: what was deleted may be referred to
 *
 * Threads: main only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "cli/output.h"
#include "cli/scrub_private.h"
#include "cli/scrub_undo.h"
#include "holdfast/clock.h"
#include "scrub/undo.h"
#include "upstream/upstream.h"

#define ANSWER_MS 600000 /* a scan of a large collection */
#define PATIENCE_MS 60000
#define LOCK_TIMEOUT 24
#define SNAPSHOT_UNAVAILABLE 246

/* The proxy has a look wait for units that have written; one that they keep waiting begins anew. */
static bool is_passing(const bson_t *command, int32_t code)
{
    bson_iter_t first;
    return (code == LOCK_TIMEOUT || code == SNAPSHOT_UNAVAILABLE) &&
           bson_iter_init(&first, command) && bson_iter_next(&first) &&
           strcmp(bson_iter_key(&first), "aggregate") == 0;
}

/* A link's command. */
static enum status upstream_send(void *context, const char *database, const bson_t *command,
                                 bson_t *ret_reply, struct error *ret_error)
{
    const struct scrub *scrub = context;
    uint64_t since_ms = clock_monotonic_ms();
    for (;;) {
        int32_t code = 0;
        enum status status =
            upstream_command(scrub->upstream, database, command, ret_reply, &code, ret_error);
        if (status != STATUS_REFUSED || !is_passing(command, code) ||
            clock_monotonic_ms() - since_ms > PATIENCE_MS) {
            return status;
        }
    }
}

/* ------------------------------------------------------------------ opening */

static enum status check_options(const struct cli_options *options, struct error *ret_error)
{
    if (options->rules == NULL) {
        return error_set(ret_error, STATUS_INVALID, "by which rules? --rules FILE");
    }
    if (options->proxy == NULL && options->upstream == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "where? --proxy URI, a running holdfastd as services have it, or "
                         "--upstream URI, the server itself");
    }
    if (options->fix && options->proxy == NULL) {
        return error_set(ret_error, STATUS_INVALID,
                         "--fix works through a running holdfastd, so that it can be undone: "
                         "--proxy URI");
    }
    return STATUS_OK;
}

static enum status check_rule(const struct scrub *scrub, struct error *ret_error)
{
    const char *name = scrub->options->rule;
    for (size_t i = 0; name != NULL && i < scrub->rules.count; i++) {
        if (strcmp(scrub->rules.list[i].name, name) == 0) {
            return STATUS_OK;
        }
    }
    return name == NULL ? STATUS_OK
                        : error_set(ret_error, STATUS_INVALID, "--rule %.100s: no such rule", name);
}

/* The run's name is in the units' appName. */
static enum status open_proxy(struct scrub *scrub, struct error *ret_error)
{
    uint64_t random = 0;
    char application[64];
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        return error_set(ret_error, STATUS_IO, "no random number");
    }
    (void)snprintf(scrub->run, sizeof(scrub->run), "%016" PRIx64, random);
    if (!scrub->options->fix) {
        return STATUS_OK;
    }
    (void)snprintf(application, sizeof(application), SCRUB_APPLICATION "%s", scrub->run);
    struct maintain_options options = {
        .uri = scrub->options->proxy, .application = application, .patience_ms = PATIENCE_MS};
    return maintain_open(&options, &scrub->maintain, ret_error);
}

static enum status scrub_open(struct scrub *scrub, struct error *ret_error)
{
    const struct cli_options *options = scrub->options;
    const char *uri = options->upstream == NULL ? options->proxy : options->upstream;
    struct upstream_description description;
    enum status status = check_options(options, ret_error);
    if (status == STATUS_OK) {
        status = scrub_rules_read(options->rules, &scrub->rules, ret_error);
    }
    if (status == STATUS_OK) {
        status = check_rule(scrub, ret_error);
    }
    if (status == STATUS_OK) {
        status = upstream_open_answering(uri, options->connect_ms, ANSWER_MS, &scrub->upstream,
                                         ret_error);
    }
    if (status == STATUS_OK) {
        status = upstream_describe(scrub->upstream, &description, ret_error);
    }
    if (status == STATUS_OK) {
        scrub->link = (struct scrub_link){
            .command = upstream_send, .context = scrub, .now_ms = description.local_time_ms};
        status = open_proxy(scrub, ret_error);
    }
    return status;
}

static void scrub_close(struct scrub *scrub)
{
    scrub->maintain = maintain_close(scrub->maintain);
    scrub->upstream = upstream_close(scrub->upstream);
    scrub_rules_free(&scrub->rules);
}

enum cli_exit cli_scrub(const struct cli_options *options)
{
    struct scrub scrub = {.options = options};
    struct scrub_counts totals = {0};
    struct error error = {0};
    if (options->undo != NULL || options->runs) {
        return scrub_undo_run(options);
    }
    enum status status = scrub_open(&scrub, &error);
    if (status == STATUS_OK) {
        status = scrub_report_all(&scrub, &totals, &error);
        if (status == STATUS_OK && options->fix && totals.found > 0) {
            status = scrub_fix_all(&scrub, &totals, &error);
        }
        if (options->json) {
            printf("\n], \"found\": %" PRIu64 ", \"moving\": %" PRIu64 ", \"run\": \"%s\"}\n",
                   totals.found, totals.moving, scrub.run);
        }
    }
    scrub_close(&scrub);
    if (status != STATUS_OK) {
        return output_failure(&error);
    }
    return totals.found > 0 ? CLI_LEFT : CLI_CLEAN;
}
