/*
 * Pictures with lines: svg.h.
 *
 *     title
 *     y title (turned) | y ticks | plot
 *                                | x ticks
 *                                | x title
 *     legend: line and mark of each series, as many beside each other as fit
 */
#include <math.h>
#include <string.h>

#include "bench/report/reports.h"
#include "bench/report/svg.h"

#define WIDTH 760.0
#define LEFT 84.0
#define RIGHT 744.0
#define TOP 40.0
#define PLOT_BOTTOM 330.0
#define LEGEND_TOP 388.0
#define LEGEND_ROW 22.0
#define CHARACTER 7.0
#define SAMPLE 44.0
#define LEFT_OF_LEGEND 16.0
#define DODGE 9.0 /* between series at one category */
#define MARKS_ON_A_CURVE 5u

struct frame {
    struct svg_axis x;
    struct svg_axis y;
};

static bool is_drawn(const struct svg_chart *chart, const struct svg_point *point)
{
    return isfinite(point->x) && isfinite(point->y) && (chart->y_scale != SVG_LOG || point->y > 0);
}

static bool find_bounds(const struct svg_chart *chart, double bounds[4])
{
    bool found = false;
    bounds[0] = bounds[2] = INFINITY;
    bounds[1] = bounds[3] = -INFINITY;
    for (size_t i = 0; i < chart->series_count; i++) {
        for (size_t j = 0; j < chart->series[i].count; j++) {
            const struct svg_point *point = &chart->series[i].points[j];
            if (!is_drawn(chart, point)) {
                continue;
            }
            double low = isfinite(point->low) && point->low > 0 ? point->low : point->y;
            double high = isfinite(point->high) ? point->high : point->y;
            bounds[0] = fmin(bounds[0], point->x);
            bounds[1] = fmax(bounds[1], point->x);
            bounds[2] = fmin(bounds[2], low);
            bounds[3] = fmax(bounds[3], high);
            found = true;
        }
    }
    return found;
}

/* ------------------------------------------------------------------ axes */

static void draw_y_axis(FILE *file, const struct svg_chart *chart, const struct svg_axis *axis)
{
    for (size_t i = 0; i < axis->tick_count; i++) {
        char label[REPORT_NUMBER_BYTES];
        double y = svg_axis_at(axis, axis->ticks[i]);
        svg_axis_label(axis, axis->ticks[i], label, sizeof label);
        fprintf(file,
                "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                "<text class=\"soft\" text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%s</text>",
                LEFT, RIGHT, y, y, LEFT - 8, y + 4.5, label);
    }
    fprintf(file, "<text text-anchor=\"middle\" transform=\"translate(16,%.0f) rotate(-90)\">",
            (TOP + PLOT_BOTTOM) / 2);
    svg_text(file, chart->y_title);
    fputs("</text>", file);
}

static void draw_x_tick(FILE *file, double x, const char *label)
{
    fprintf(file,
            "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.0f\" y2=\"%.0f\"/>"
            "<text class=\"soft\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.0f\">",
            x, x, PLOT_BOTTOM, PLOT_BOTTOM + 5, x, PLOT_BOTTOM + 20);
    svg_text(file, label);
    fputs("</text>", file);
}

static void draw_x_axis(FILE *file, const struct svg_chart *chart, const struct svg_axis *axis)
{
    double last = -INFINITY;
    fprintf(file, "<line class=\"axis\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.0f\" y2=\"%.0f\"/>", LEFT,
            RIGHT, PLOT_BOTTOM, PLOT_BOTTOM);
    for (size_t i = 0; i < chart->x_label_count && chart->x_scale == SVG_CATEGORIES; i++) {
        draw_x_tick(file, svg_axis_at(axis, (double)i), chart->x_labels[i]);
    }
    for (size_t i = 0; i < axis->tick_count; i++) {
        char label[REPORT_NUMBER_BYTES];
        double x = svg_axis_at(axis, axis->ticks[i]);
        svg_axis_label(axis, axis->ticks[i], label, sizeof label);
        double half = (double)strlen(label) * CHARACTER / 2;
        if (x - half > last + 4) {
            draw_x_tick(file, x, label);
            last = x + half;
        }
    }
    fprintf(file, "<text text-anchor=\"middle\" x=\"%.0f\" y=\"%.0f\">", (LEFT + RIGHT) / 2,
            PLOT_BOTTOM + 42);
    svg_text(file, chart->x_title);
    fputs("</text>", file);
}

/* ------------------------------------------------------------------ series */

/* Series at one category stand beside each other. */
static double x_of(const struct svg_chart *chart, const struct frame *frame, size_t number,
                   const struct svg_point *point)
{
    double x = svg_axis_at(&frame->x, point->x);
    if (chart->x_scale != SVG_CATEGORIES) {
        return x;
    }
    double room = (RIGHT - LEFT) / (double)chart->x_label_count * 0.7;
    double step = fmin(DODGE, room / (double)chart->series_count);
    return x + ((double)number - (double)(chart->series_count - 1) / 2) * step;
}

static double width_of(const struct svg_chart *chart, size_t number)
{
    double later = (double)(chart->series_count - 1 - number);
    return 1.8 + fmin(later, 5) * 0.9;
}

static void draw_line(FILE *file, const struct svg_chart *chart, const struct frame *frame,
                      size_t number)
{
    const struct svg_series *series = &chart->series[number];
    char command = 'M';
    fprintf(file, "<path class=\"line s%d\" stroke-width=\"%.1f\" d=\"", series->style % SVG_STYLES,
            width_of(chart, number));
    for (size_t i = 0; i < series->count; i++) {
        const struct svg_point *point = &series->points[i];
        if (is_drawn(chart, point)) {
            fprintf(file, "%c%.1f,%.1f", command, x_of(chart, frame, number, point),
                    svg_axis_at(&frame->y, point->y));
            command = 'L';
        }
    }
    fputs("\"/>", file);
}

/* On a curve only some, each series at points of its own, so that they do not cover each other. */
static bool is_marked(const struct svg_chart *chart, size_t number, size_t point)
{
    const struct svg_series *series = &chart->series[number];
    size_t every = series->count / MARKS_ON_A_CURVE;
    if (chart->marks || every == 0) {
        return true;
    }
    return point % every == (number * every / chart->series_count + every / 2) % every;
}

static void draw_points(FILE *file, const struct svg_chart *chart, const struct frame *frame,
                        size_t number)
{
    const struct svg_series *series = &chart->series[number];
    for (size_t i = 0; i < series->count; i++) {
        const struct svg_point *point = &series->points[i];
        if (!is_drawn(chart, point)) {
            continue;
        }
        double x = x_of(chart, frame, number, point);
        if (isfinite(point->low) && point->high > point->low) {
            double low = chart->y_scale == SVG_LOG ? fmax(point->low, frame->y.least) : point->low;
            double from = svg_axis_at(&frame->y, low);
            double to = svg_axis_at(&frame->y, point->high);
            fprintf(file,
                    "<path class=\"whisker w%d\" d=\"M%.1f,%.1fV%.1fM%.1f,%.1fh6M%.1f,%.1fh6\"/>",
                    series->style % SVG_STYLES, x, from, to, x - 3, from, x - 3, to);
        }
        if (is_marked(chart, number, i)) {
            svg_mark(file, series->style, x, svg_axis_at(&frame->y, point->y));
        }
    }
}

/* ------------------------------------------------------------------ legend */

static double entry_width(const char *name)
{
    size_t count = 0;
    for (; *name != '\0'; name++) {
        count += ((unsigned char)*name & 0xc0) != 0x80 ? 1 : 0;
    }
    return SAMPLE + (double)count * CHARACTER + 24;
}

/* Returns the height; draws if there is a file. */
static double legend(FILE *file, const struct svg_chart *chart)
{
    double x = LEFT_OF_LEGEND;
    double y = LEGEND_TOP + LEGEND_ROW / 2;
    for (size_t i = 0; i < chart->series_count; i++) {
        const struct svg_series *series = &chart->series[i];
        double width = entry_width(series->name);
        if (x > LEFT_OF_LEGEND && x + width > WIDTH) {
            x = LEFT_OF_LEGEND;
            y += LEGEND_ROW;
        }
        if (file != NULL) {
            fprintf(file, "<path class=\"line s%d\" stroke-width=\"%.1f\" d=\"M%.1f,%.1fh%.0f\"/>",
                    series->style % SVG_STYLES, width_of(chart, i), x, y, SAMPLE - 8);
            svg_mark(file, series->style, x + (SAMPLE - 8) / 2, y);
            fprintf(file, "<text x=\"%.1f\" y=\"%.1f\">", x + SAMPLE, y + 4.5);
            svg_text(file, series->name);
            fputs("</text>", file);
        }
        x += width;
    }
    return y + LEGEND_ROW / 2 + 8;
}

void svg_lines(FILE *file, const struct svg_chart *chart)
{
    double bounds[4];
    if (!find_bounds(chart, bounds)) {
        svg_open(file, chart->title, WIDTH, 60);
        fputs("<text class=\"soft\" x=\"16\" y=\"46\">Nothing was measured.</text></svg>", file);
        return;
    }
    if (chart->x_scale == SVG_CATEGORIES) {
        bounds[1] = (double)chart->x_label_count - 1;
    }
    struct frame frame = {
        svg_axis_make(chart->x_scale, bounds[0], bounds[1], LEFT + 6, RIGHT - 6),
        svg_axis_make(chart->y_scale, bounds[2], bounds[3], PLOT_BOTTOM, TOP),
    };
    svg_open(file, chart->title, WIDTH, legend(NULL, chart));
    draw_y_axis(file, chart, &frame.y);
    draw_x_axis(file, chart, &frame.x);
    for (size_t i = 0; i < chart->series_count; i++) {
        draw_line(file, chart, &frame, i);
    }
    for (size_t i = 0; i < chart->series_count; i++) {
        draw_points(file, chart, &frame, i);
    }
    (void)legend(file, chart);
    fputs("</svg>", file);
}
