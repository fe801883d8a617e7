#ifndef HOLDFAST_CLI_SCRUB_PRIVATE_H
#define HOLDFAST_CLI_SCRUB_PRIVATE_H

/* What the files of `holdfast scrub` share. Main thread. */

#include "cli/cli.h"
#include "maintain/maintain.h"
#include "scrub/look.h"
#include "scrub/rules.h"
#include "scrub/undo.h"
#include "upstream/upstream.h"

struct scrub {
    const struct cli_options *options;
    struct scrub_rules rules;
    struct upstream *upstream;
    struct maintain *maintain; /* NULL but with --fix */
    struct scrub_link link;
    char run[SCRUB_RUN_BYTES];
    uint64_t printed; /* elements of the JSON list that is being written */
};

/* Whether --rule leaves it in. */
bool scrub_is_wanted(const struct scrub *scrub, const struct scrub_rule *rule);

/* Looks at all rules and prints what was found. (scrub_report.c) */
MUST_CHECK enum status scrub_report_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                                        struct error *ret_error);

/* Fixes what was found, and counts what is left. (scrub_repair.c) */
MUST_CHECK enum status scrub_fix_all(struct scrub *scrub, struct scrub_counts *ret_totals,
                                     struct error *ret_error);

#endif
