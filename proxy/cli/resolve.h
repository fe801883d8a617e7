#ifndef HOLDFAST_CLI_RESOLVE_H
#define HOLDFAST_CLI_RESOLVE_H

/* What the two ways of `holdfast resolve` share: on a stopped proxy's journal (resolve.c), and by a
   living holdfastd (resolve_living.c). Main thread. */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/image.h"

/* ---- resolve.c */

/* Asks the operator; STATUS_INVALID: no. With --yes nobody is asked. */
MUST_CHECK enum status resolve_confirm(const struct cli_options *options, struct error *ret_error);

/* ---- resolve_living.c */

/* The whole command, if a holdfastd is alive on the journal. False: none is; nothing was done. */
bool resolve_by_living(const struct cli_options *options, enum cli_exit *ret_exit);

/* ---- resolve_show.c */

/* One document of the conflict. Nothing belongs to it. */
struct resolve_shown {
    const char *namespace;
    struct image key;
    struct image before;
    struct image after;
    struct image found;
    int64_t bytes;       /* of images that are too large to be shown; 0: all are there */
    const char *restore; /* what that would do to it: resolve_effect() */
    const char *apply;
};

void resolve_show_text(const struct cli_options *options, const struct resolve_shown *shown);

/* The same as the element `number` of an array. */
void resolve_show_json(bson_t *documents, uint32_t number, const struct resolve_shown *shown);

/* Nothing is to be carried out. */
bool resolve_looks_only(const struct cli_options *options);

/* Says how it ended; `documents` is the array for --json. Returns how the command does. */
enum cli_exit resolve_tell(const struct cli_options *options, const bson_t *documents,
                           int64_t changed, int64_t left);

#endif
