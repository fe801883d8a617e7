#ifndef HOLDFAST_SCRUB_FIX_H
#define HOLDFAST_SCRUB_FIX_H

/*
 * What a rule's fix does about a finding: as commands to be shown, and done.
 *
 * It is done in a unit of its own, through the running holdfastd, at the isolation `serializable`:
 * the unit looks at the group once more, and goes on only if that is, byte for byte, what was
 * found. When it is done it looks a last time: a fix that does not make the group sound is rolled
 * back. What it has looked at nobody changes until it ends, what it has not found nobody adds. So
 * a service that wrote meanwhile is not overwritten, and its document is not orphaned again.
 *
 * Threads: the caller's; synchronous.
 */

#include <bson/bson.h>

#include "maintain/maintain.h"
#include "scrub/look.h"
#include "scrub/rules.h"

/* Documents of one finding; a fix of more is refused, for a unit is bounded. */
#define SCRUB_FIX_DOCUMENTS_MAX 1000

/* Takes a command of the fix; it may show it or send it. */
typedef enum status scrub_on_command(const char *database, const bson_t *command, void *context,
                                     struct error *ret_error);

/*
 * Hands over the commands of the rule's fix of this group, in their order, as its documents are
 * now. `run`: what marked documents name. Errors: those of the link and of `on_command`;
 * STATUS_LIMIT (more documents than SCRUB_FIX_DOCUMENTS_MAX).
 */
MUST_CHECK enum status scrub_fix_plan(const struct scrub_link *link, const struct scrub_rule *rule,
                                      const bson_t *group, const char *run,
                                      scrub_on_command *on_command, void *context,
                                      struct error *ret_error);

enum scrub_outcome {
    SCRUB_FIXED,
    SCRUB_GONE,    /* sound by now: nothing was done */
    SCRUB_CHANGED, /* still broken, but not as it was found: nothing was done */
    SCRUB_USELESS, /* the fix would leave the group broken: it was rolled back */
};

/* Fixes the group in one unit. Errors: those of maintain_run() and scrub_fix_plan(). */
MUST_CHECK enum status scrub_fix(struct maintain *maintain, const struct scrub_rule *rule,
                                 const bson_t *group, const char *run, int64_t now_ms,
                                 enum scrub_outcome *ret_outcome, struct error *ret_error);

#endif
