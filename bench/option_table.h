#ifndef HOLDFAST_BENCH_OPTION_TABLE_H
#define HOLDFAST_BENCH_OPTION_TABLE_H

/* Every option of holdfast-bench: what options.c parses, and help.c prints. */

#include "bench/options.h"

enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_TEXTS,      /* repeatable */
    OPTION_NUMBER,     /* uint32_t */
    OPTION_NUMBERS,    /* bench_list of whole numbers */
    OPTION_RATES,      /* bench_list */
    OPTION_FRACTION,   /* double */
    OPTION_SECONDS,    /* uint64_t, nanoseconds */
    OPTION_MS,         /* the same, of milliseconds */
    OPTION_WORD,       /* what may stand in the first line of an HTTP request */
    OPTION_PATH,       /* the same, from / on */
    OPTION_PID,        /* into load.pids, repeatable */
    OPTION_BOUNDARIES, /* words of LOAD_BOUNDARY_LIST */
    OPTION_HELP,
    OPTION_VERSION,
};

struct option_row {
    const char *name;
    enum bench_command command; /* to which it belongs */
    enum option_kind kind;
    size_t offset; /* in struct bench_options */
    double least;  /* of numbers */
    double most;
    const char *value; /* what stands for it in the help; NULL: it takes none */
    const char *help;  /* lines, with \n between them */
};

extern const struct option_row option_table[];
extern const size_t option_count;

#endif
