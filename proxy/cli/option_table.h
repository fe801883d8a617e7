#ifndef HOLDFAST_CLI_OPTION_TABLE_H
#define HOLDFAST_CLI_OPTION_TABLE_H

/*
 * The options of `holdfast`, once: options.c takes command lines apart with it and prints help from
 * it, of which manual pages and completion are made.
 *
 * Threads: constant data.
 */

#include <stdbool.h>

#include "cli/cli.h"

enum option_letter {
    OPTION_WAL = 256,
    OPTION_UPSTREAM,
    OPTION_UPSTREAM_FILE,
    OPTION_JSON,
    OPTION_DRY_RUN,
    OPTION_STATE,
    OPTION_SET,
    OPTION_KEEP,
    OPTION_RESTORE,
    OPTION_APPLY,
    OPTION_YES,
    OPTION_LOCKS,
    OPTION_UNIT,
    OPTION_ONTO,
    OPTION_NAMESPACE,
    OPTION_FROM,
    OPTION_UNTIL,
    OPTION_BEFORE,
    OPTION_RECORDS,
    OPTION_PROGRESS,
    OPTION_COMPACT,
    OPTION_TO,
    OPTION_WAL_KEY_FILE,
    OPTION_ONCE,
    OPTION_INTERVAL,
    OPTION_RULES,
    OPTION_RULE,
    OPTION_PROXY,
    OPTION_FIX,
    OPTION_SETTLE,
    OPTION_PAUSE,
    OPTION_LIMIT,
    OPTION_WITHOUT_JOURNAL,
    OPTION_BACKUP,
    OPTION_PROXY_FILE,
    OPTION_DATABASE,
    OPTION_WAIT,
    OPTION_BATCH,
    OPTION_THROTTLE,
    OPTION_BY,
    OPTION_OUT_OF_ORDER,
};

struct cli_option {
    const char *name;     /* without the hyphens */
    const char *value;    /* what stands for its value in the help; NULL: it takes none */
    int letter;           /* of enum option_letter, or a character */
    const char *commands; /* whose it is, one space between names; NULL: of all */
    const char *help;     /* lines of at most 55 characters */
};

/* Ends with an entry whose name is NULL. */
extern const struct cli_option cli_option_table[];

bool cli_option_is_of(const struct cli_option *option, const struct cli_command *command);

#endif
