/* See load.h. */
#include "bench/load/load.h"

static const struct {
    const char *name;
    const char *help;
} loads[] = {
#define X(name, text, help) [LOAD_##name] = {text, help},
    LOAD_LIST(X)
#undef X
};

static const char *const boundaries[] = {
#define X(name, text, help) [LOAD_BOUNDARY_##name] = text,
    LOAD_BOUNDARY_LIST(X)
#undef X
};

const char *load_name(enum load_kind kind)
{
    return loads[kind].name;
}

const char *load_help(enum load_kind kind)
{
    return loads[kind].help;
}

const char *load_boundary_name(enum load_boundary boundary)
{
    return boundaries[boundary];
}

bool load_is_http(const struct load_options *options)
{
    return options->kind == LOAD_CALLS ||
           (options->kind == LOAD_UNIT && options->boundary == LOAD_BOUNDARY_HTTP);
}

bool load_is_run(enum load_kind kind)
{
    return kind != LOAD_FLOOR && kind != LOAD_RECOVERY && kind != LOAD_CRASH_LOSS;
}

bool load_has_operations(enum load_kind kind)
{
    return load_is_run(kind) && kind != LOAD_IDLE;
}
