/* A suite as CSV (RFC 4180), for spreadsheets: a line for each run, a column for each metric. */
#include <math.h>

#include "bench/report/reports.h"

static void print_text(FILE *file, const char *text)
{
    putc('"', file);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"') {
            putc('"', file);
        }
        putc(*at, file);
    }
    putc('"', file);
}

static void print_run(FILE *file, const struct cell *cell, const struct series *series,
                      uint32_t round)
{
    const struct load_options *load = &cell->load;
    bool is_unit = load->kind == LOAD_UNIT || load->kind == LOAD_CRASH_LOSS;
    print_text(file, load_name(load->kind));
    fprintf(file, ",%s,", is_unit ? load_boundary_name(load->boundary) : "");
    if (is_unit) {
        fprintf(file, "%u", load->writes);
    }
    fprintf(file, ",%u,", load->connections);
    if (load->rate > 0) {
        fprintf(file, "%.10g", load->rate);
    }
    putc(',', file);
    if (load->kind == LOAD_RECOVERY) {
        fprintf(file, "%u", cell->units);
    }
    putc(',', file);
    print_text(file, series->target);
    fprintf(file, ",%u", round + 1);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        double value = series->outcomes[round].values[metric];
        putc(',', file);
        if (isfinite(value)) {
            fprintf(file, "%.10g", value);
        }
    }
    fputs("\r\n", file);
}

void report_csv(const struct suite *suite, FILE *file)
{
    fputs("load,boundary,writes,connections,rate,units,target,round", file);
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        fprintf(file, ",%s", metric_about[metric].key);
    }
    fputs("\r\n", file);
    for (size_t i = 0; i < suite->cell_count; i++) {
        const struct cell *cell = &suite->cells[i];
        for (size_t number = 0; number < cell->series_count; number++) {
            for (uint32_t round = 0; round < suite->rounds; round++) {
                print_run(file, cell, &cell->series[number], round);
            }
        }
    }
}
