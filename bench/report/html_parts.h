#ifndef HOLDFAST_BENCH_HTML_PARTS_H
#define HOLDFAST_BENCH_HTML_PARTS_H

/* Parts of the page: html.c. */

#include "bench/report/reports.h"

/* Cells first to end - 1 are of one group. */
struct html_group {
    const struct suite *suite;
    size_t first;
    size_t end;
    size_t number; /* of the group, from 1 */
};

/* Where pictures go: into the page, and each into a file of its own. */
struct html_pictures {
    FILE *page;
    const char *folder;
    size_t group; /* numbers of the next picture, for its file's name */
    size_t picture;
    enum status status;
    struct error *error;
};

/* html_charts.c: what there is to see of a group, and of each of its cells. */
void html_charts_group(struct html_pictures *pictures, const struct html_group *group);
void html_charts_cell(struct html_pictures *pictures, const struct suite *suite,
                      const struct cell *cell);

/* html_tables.c */
void html_tables_cell(FILE *page, const struct suite *suite, const struct cell *cell);

#endif
