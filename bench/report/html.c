/*
 * A suite as one page: pictures and tables, with nothing from a network, readable on paper.
 *
 *     head, what was measured and how | contents
 *     for each group: pictures over its variable; for each of its cells: pictures, tables
 */
#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/report/html_parts.h"
#include "bench/report/svg.h"

static const char page_style[] =
    "body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;"
    "max-width:1000px;margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.3rem;"
    "margin-top:2.5rem;border-bottom:1px solid var(--grid)}h3{font-size:1.05rem;margin-top:2rem}"
    "figure{margin:1rem 0}.wide{overflow-x:auto}table{border-collapse:collapse;margin:.8rem 0;"
    "font-size:.85rem}th,td{padding:.25rem .6rem;border-bottom:1px solid var(--grid);"
    "text-align:right;white-space:nowrap;vertical-align:baseline}th{font-weight:600}"
    "tbody th,thead th:first-child{text-align:left}small{color:var(--soft);font-weight:400}"
    ".about{color:var(--soft)}.error{color:var(--c1);font-weight:600}a{color:var(--c0)}"
    "@media print{body{max-width:none;margin:0;font-size:10pt}nav{display:none}"
    "figure,tr{break-inside:avoid}h2,h3{break-after:avoid}.wide{overflow:visible}"
    "table{font-size:6.5pt}th,td{white-space:normal;padding:1pt 3pt}"
    "svg.chart{width:100%;max-height:11cm}}";

static void print_head(FILE *page)
{
    fprintf(page,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
            "<meta name=\"viewport\" content=\"width=device-width\">"
            "<meta name=\"color-scheme\" content=\"light dark\">"
            "<title>holdfast-bench</title>\n<style>%s%s</style></head><body>\n",
            svg_style, page_style);
}

static void print_load_average(FILE *page, double average)
{
    if (isfinite(average)) {
        fprintf(page, "%.1f", average);
    } else {
        fputs("unknown", page);
    }
}

static void print_about(FILE *page, const struct suite *suite)
{
    const struct bench_options *options = suite->options;
    struct utsname system = {0};
    (void)uname(&system);
    fprintf(page,
            "<h1>holdfast-bench %s</h1>\n<p class=\"about\">%s, %ld processors, %s %s. %u round%s "
            "of %.10g s, each after %.10g s that were not measured. Load average ",
            HOLDFAST_VERSION, suite->date, sysconf(_SC_NPROCESSORS_ONLN), system.sysname,
            system.release, suite->rounds, suite->rounds == 1 ? "" : "s",
            (double)options->load.seconds_ns / 1e9, (double)options->load.warmup_ns / 1e9);
    print_load_average(page, suite->load_before[0]);
    fputs(" before, ", page);
    print_load_average(page, suite->load_after[0]);
    fputs(
        " after: the load driver's own is part of it.</p>\n"
        "<p class=\"about\">Targets are measured in turns, each round beginning with another "
        "one. A figure is the median of the rounds, and what stands beside it the interval of the "
        "sign test (order statistics)",
        page);
    fputs(suite->rounds >= 6 ? ", which holds the true one with a confidence of 95 % at least. "
                             : "; it is less sure than 95 %, for that needs 6 rounds. ",
          page);
    fputs("A ratio is of two targets in one round. In an open loop latencies count from when "
          "operations were meant to begin. Percentiles are of all rounds together, and up to 1 % "
          "too high.</p>\n",
          page);
}

static size_t group_end(const struct suite *suite, size_t first)
{
    size_t end = first + 1;
    while (end < suite->cell_count &&
           strcmp(suite->cells[end].group, suite->cells[first].group) == 0) {
        end++;
    }
    return end;
}

static void print_contents(FILE *page, const struct suite *suite)
{
    size_t number = 0;
    fputs("<nav><ul>", page);
    for (size_t first = 0; first < suite->cell_count; first = group_end(suite, first)) {
        fprintf(page, "<li><a href=\"#g%zu\">", ++number);
        svg_text(page, suite->cells[first].group);
        fputs("</a></li>", page);
    }
    fputs("</ul></nav>\n", page);
}

static void print_group(struct html_pictures *pictures, const struct html_group *group)
{
    const struct suite *suite = group->suite;
    FILE *page = pictures->page;
    pictures->group = group->number;
    pictures->picture = 0;
    fprintf(page, "<section><h2 id=\"g%zu\">", group->number);
    svg_text(page, suite->cells[group->first].group);
    fputs("</h2>\n", page);
    html_charts_group(pictures, group);
    for (size_t i = group->first; i < group->end; i++) {
        fputs("<h3>", page);
        svg_text(page, suite->cells[i].title);
        fputs("</h3>\n", page);
        html_charts_cell(pictures, suite, &suite->cells[i]);
        html_tables_cell(page, suite, &suite->cells[i]);
    }
    fputs("</section>\n", page);
}

enum status report_html(const struct suite *suite, const char *folder, FILE *file,
                        struct error *ret_error)
{
    struct html_pictures pictures = {.page = file, .folder = folder, .error = ret_error};
    struct html_group group = {.suite = suite};
    print_head(file);
    print_about(file, suite);
    print_contents(file, suite);
    for (size_t first = 0; first < suite->cell_count; first = group.end) {
        group.first = first;
        group.end = group_end(suite, first);
        group.number++;
        print_group(&pictures, &group);
    }
    fputs("</body></html>\n", file);
    return pictures.status;
}
