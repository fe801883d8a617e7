/*
 * The cells of a suite: the product of what was asked for, as far as a load has to do with it; and
 * whether the options of a load fit each other.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/suite.h"

#define ACCOUNTS 100u
#define LARGE_READ_BYTES 1000000u
#define FLOOR_BYTES 1000u

/* ------------------------------------------------------------------ one load */

/* Each connection writes documents of its own, so that no connection waits for another. */
static enum status check_documents(const struct load_options *load, struct error *ret_error)
{
    uint32_t each = load->kind == LOAD_UNIT || load->kind == LOAD_CRASH_LOSS ? load->writes
                    : load->kind == LOAD_POINT_WRITE                         ? 1
                    : load->kind == LOAD_CHANGE_STREAM                       ? 1
                                                                             : 0;
    if (load->documents / load->connections < each && !load_is_http(load)) {
        return error_set(ret_error, STATUS_INVALID,
                         "--documents %u: %s needs %u for each of %u connections", load->documents,
                         load_name(load->kind), each, load->connections);
    }
    return STATUS_OK;
}

static enum status check_contended(const struct load_options *load, struct error *ret_error)
{
    uint32_t own = load->kind == LOAD_CONTENDED ? load->connections : 0;
    if (load->kind != LOAD_CONTENDED && load->kind != LOAD_ACCOUNTS) {
        return STATUS_OK;
    }
    if (load->plain > load->connections) {
        return error_set(ret_error, STATUS_INVALID, "--plain %u: more than the %u connections",
                         load->plain, load->connections);
    }
    if (load->kind == LOAD_ACCOUNTS && load->hot < 2) {
        return error_set(ret_error, STATUS_INVALID, "--hot %u: accounts needs 2", load->hot);
    }
    if ((uint64_t)load->hot + own > load->documents) {
        return error_set(ret_error, STATUS_INVALID,
                         "--documents %u: %s needs %u hot ones, and one for each of %u connections",
                         load->documents, load_name(load->kind), load->hot, own);
    }
    return STATUS_OK;
}

/* What is not said and differs by load. */
static void set_defaults(struct load_options *load)
{
    if (load->hot == 0) {
        load->hot = load->kind == LOAD_ACCOUNTS ? ACCOUNTS : 1;
    }
    if (load->bytes == 0) {
        load->bytes = load->kind == LOAD_FLOOR ? FLOOR_BYTES : LARGE_READ_BYTES;
    }
    if (load->kind != LOAD_CONTENDED) {
        load->plain = 0;
    }
}

static enum status check(const struct load_options *load, struct error *ret_error)
{
    enum status status = check_documents(load, ret_error);
    if (status == STATUS_OK) {
        status = check_contended(load, ret_error);
    }
    if (status == STATUS_OK && load->rate > 0 && !load_has_operations(load->kind)) {
        status = error_set(ret_error, STATUS_INVALID, "--rate: %s begins no operations",
                           load_name(load->kind));
    }
    return status;
}

enum status cells_single(const struct bench_options *options, struct load_options *ret,
                         struct error *ret_error)
{
    struct load_options load = options->load;
    load.kind = options->loads[0];
    load.connections = (uint32_t)options->connections.values[0];
    load.rate = options->rates.count == 0 ? 0 : options->rates.values[0];
    load.writes = (uint32_t)options->writes.values[0];
    load.boundary = options->boundaries[0];
    set_defaults(&load);
    enum status status = check(&load, ret_error);
    if (status == STATUS_OK) {
        *ret = load;
    }
    return status;
}

/* ------------------------------------------------------------------ all cells */

/* What tells a group apart: a picture has the variable on its axis. */
static void name_group(const struct suite *suite, struct cell *cell, const char *variant)
{
    const struct bench_options *options = suite->options;
    const struct load_options *load = &cell->load;
    char writes[64];
    char connections[32] = "";
    bool by_writes = options->connections.count == 1 && options->rates.count <= 1;
    snprintf(writes, sizeof writes, ", %s", load_boundary_name(load->boundary));
    if (load->kind == LOAD_RECOVERY && options->connections.count == 1) {
        variant = "";
    } else if ((load->kind == LOAD_UNIT || load->kind == LOAD_CRASH_LOSS) && by_writes) {
        variant = writes;
    }
    if (options->rates.count > 1 && options->connections.count > 1 && load->rate > 0) {
        snprintf(connections, sizeof connections, ", %u connection%s", load->connections,
                 load->connections == 1 ? "" : "s");
    }
    snprintf(cell->group, sizeof cell->group, "%s%s%s%s", load_name(load->kind), variant,
             load->rate > 0 ? ", open loop" : "", connections);
}

static void name_cell(const struct suite *suite, struct cell *cell)
{
    const struct load_options *load = &cell->load;
    char variant[64] = "";
    char rate[32] = "";
    if (load->kind == LOAD_UNIT || load->kind == LOAD_CRASH_LOSS) {
        snprintf(variant, sizeof variant, " of %u writes, %s", load->writes,
                 load_boundary_name(load->boundary));
    } else if (load->kind == LOAD_LARGE_READ || load->kind == LOAD_FLOOR) {
        snprintf(variant, sizeof variant, " of %.10g %s",
                 load->bytes >= 1000000 ? load->bytes / 1e6 : load->bytes / 1e3,
                 load->bytes >= 1000000 ? "MB" : "KB");
    } else if (load->kind == LOAD_RECOVERY) {
        snprintf(variant, sizeof variant, " of %u units", cell->units);
    }
    if (load->rate > 0) {
        snprintf(rate, sizeof rate, ", %.10g a second", load->rate);
    }
    name_group(suite, cell, variant);
    snprintf(cell->title, sizeof cell->title, "%s%s, %u connection%s%s", load_name(load->kind),
             variant, load->connections, load->connections == 1 ? "" : "s", rate);
}

static enum status make_series(const struct suite *suite, const struct targets *targets,
                               struct cell *cell, struct error *ret_error)
{
    bool is_floor = cell->load.kind == LOAD_FLOOR;
    static const char *const floors[] = {"fdatasync for each", "fdatasync for all"};
    cell->series_count = is_floor ? 2 : targets->count;
    cell->series = calloc(cell->series_count + 1, sizeof *cell->series);
    for (size_t i = 0; cell->series != NULL && i < cell->series_count; i++) {
        struct series *series = &cell->series[i];
        snprintf(series->target, sizeof series->target, "%s",
                 is_floor ? floors[i] : targets->targets[i].name);
        series->outcomes = calloc(suite->options->rounds, sizeof *series->outcomes);
        series->latency = calloc(1, sizeof *series->latency);
        if (series->outcomes == NULL || series->latency == NULL) {
            return error_set(ret_error, STATUS_MEMORY, "out of memory for results");
        }
        for (uint32_t round = 0; round < suite->options->rounds; round++) {
            for (int metric = 0; metric < METRIC_COUNT; metric++) {
                series->outcomes[round].values[metric] = NAN;
            }
        }
    }
    return cell->series == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory for results")
                                : STATUS_OK;
}

static enum status add_cell(struct suite *suite, const struct targets *targets,
                            const struct load_options *load, uint32_t units,
                            struct error *ret_error)
{
    struct cell *more = realloc(suite->cells, (suite->cell_count + 1) * sizeof *suite->cells);
    if (more == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory for results");
    }
    suite->cells = more;
    struct cell *cell = &more[suite->cell_count++];
    *cell = (struct cell){.load = *load, .units = units};
    set_defaults(&cell->load);
    name_cell(suite, cell);
    enum status status = check(&cell->load, ret_error);
    return status == STATUS_OK ? make_series(suite, targets, cell, ret_error) : status;
}

/* The variables of a load, one of each. */
struct variables {
    const struct bench_list *units; /* one that is not of this load has one value */
    const struct bench_list *writes;
    const struct bench_list *rates;
    const struct bench_list *connections;
    size_t boundaries;
    bool is_unit;
};

static enum status add_cells(struct suite *suite, const struct targets *targets,
                             const struct variables *of, struct load_options load, size_t number,
                             struct error *ret_error)
{
    const struct bench_options *options = suite->options;
    size_t rate = number % of->rates->count; /* what is on a picture's axis varies first */
    number /= of->rates->count;
    size_t connection = number % of->connections->count;
    number /= of->connections->count;
    size_t writes = number % of->writes->count;
    number /= of->writes->count;
    size_t units = number % of->units->count;
    size_t boundary = number / of->units->count;
    load.boundary = of->is_unit ? options->boundaries[boundary] : LOAD_BOUNDARY_DRIVER;
    load.connections = (uint32_t)of->connections->values[connection];
    load.rate = of->rates->values[rate];
    load.writes = (uint32_t)of->writes->values[writes];
    return add_cell(suite, targets, &load, (uint32_t)of->units->values[units], ret_error);
}

enum status cells_make(const struct bench_options *options, const struct targets *targets,
                       struct suite *suite, struct error *ret_error)
{
    static const struct bench_list none = {{0}, 1};
    static const struct bench_list three = {{3}, 1};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < options->load_count && status == STATUS_OK; i++) {
        struct load_options load = options->load;
        load.kind = options->loads[i];
        bool is_unit = load.kind == LOAD_UNIT || load.kind == LOAD_CRASH_LOSS;
        bool paced = options->rates.count > 0 && load_has_operations(load.kind);
        struct variables of = {
            .units = load.kind == LOAD_RECOVERY ? &options->units : &none,
            .writes = is_unit || load.kind == LOAD_RECOVERY ? &options->writes : &three,
            .rates = paced ? &options->rates : &none,
            .connections = &options->connections,
            .boundaries = is_unit ? options->boundary_count : 1,
            .is_unit = is_unit,
        };
        size_t count = of.units->count * of.writes->count * of.rates->count *
                       of.connections->count * of.boundaries;
        for (size_t number = 0; number < count && status == STATUS_OK; number++) {
            status = add_cells(suite, targets, &of, load, number, ret_error);
        }
    }
    return status;
}
