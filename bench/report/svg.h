#ifndef HOLDFAST_BENCH_SVG_H
#define HOLDFAST_BENCH_SVG_H

/*
 * Pictures as SVG that stand on their own: no script, no font, nothing from a network. Colours
 * follow the reader's light or dark scheme, and are dark on white in print. Each series has a
 * colour, a pattern of dashes and a mark of its own, so that it is told apart without colours too;
 * and each line is thinner than those drawn before it, so that one that lies under another is seen
 * on both sides of it.
 *
 * Any thread, one at a time per file. Texts are escaped here.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define SVG_STYLES 12 /* a style beyond begins again */

enum svg_scale {
    SVG_LINEAR,     /* from 0 */
    SVG_LOG,        /* of what is above 0 */
    SVG_NINES,      /* percent below 100: 0, 90, 99, 99.9 … stand apart alike */
    SVG_CATEGORIES, /* x is 0, 1, 2 …, with names */
};

struct svg_point {
    double x;
    double y;
    double low; /* of an interval; NaN: none */
    double high;
};

struct svg_series {
    const char *name;
    int style;
    const struct svg_point
        *points; /* by rising x; those with a y that is not finite are left out */
    size_t count;
};

struct svg_chart {
    const char *title;
    const char *x_title; /* with its unit, as "rate, operations/s" */
    const char *y_title;
    enum svg_scale x_scale;
    enum svg_scale y_scale;      /* SVG_LINEAR or SVG_LOG */
    const char *const *x_labels; /* SVG_CATEGORIES: as many as there are */
    size_t x_label_count;
    bool marks; /* at points; else some on the line */
    const struct svg_series *series;
    size_t series_count;
};

/* A picture with lines. Draws nothing that it cannot: a chart without points says so. */
void svg_lines(FILE *file, const struct svg_chart *chart);

struct svg_row {
    const char *name;
    int style;
    double middle; /* NaN: the row is left out */
    double low;
    double high;
};

struct svg_dots {
    const char *title;
    const char *x_title;
    enum svg_scale scale; /* SVG_LINEAR or SVG_LOG */
    double reference;     /* where a line stands: 1 for ratios; NaN: none */
    int digits;           /* of the numbers beside the dots */
    const struct svg_row *rows;
    size_t row_count;
};

/* A row with a dot and its interval for each. */
void svg_dots(FILE *file, const struct svg_dots *dots);

/* What all of them need: in each picture's own file, and once in a page. */
extern const char svg_style[];

/* Text between tags or in an attribute. */
void svg_text(FILE *file, const char *text);

/* ------------------------------------------------------------------ parts */

#define SVG_TICKS_MAX 24
struct svg_axis {
    enum svg_scale scale;
    double least; /* what stands at the two ends */
    double most;
    double from; /* where these are in the picture */
    double to;
    double ticks[SVG_TICKS_MAX];
    size_t tick_count;
    int digits; /* of their labels */
};

/* An axis that holds least to most, widened to round numbers. */
struct svg_axis svg_axis_make(enum svg_scale scale, double least, double most, double from,
                              double to);
double svg_axis_at(const struct svg_axis *axis, double value);
/* The text of a tick. */
void svg_axis_label(const struct svg_axis *axis, double value, char *text, size_t size);
/* The mark of a style, around a point. */
void svg_mark(FILE *file, int style, double x, double y);
void svg_open(FILE *file, const char *title, double width, double height);

#endif
