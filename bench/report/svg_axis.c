/* Scales and ticks of pictures: svg.h. */
#include <math.h>
#include <string.h>

#include "bench/report/reports.h"
#include "bench/report/svg.h"

#define TICKS_WANTED 6

/* Of a percentile: how many nines it has. */
static double nines(double percent)
{
    return -log10(fmax(1e-9, 1 - percent / 100));
}

static double scaled(enum svg_scale scale, double value)
{
    switch (scale) {
    case SVG_LOG:
        return log10(fmax(value, 1e-12));
    case SVG_NINES:
        return nines(value);
    case SVG_LINEAR:
    case SVG_CATEGORIES:
        break;
    }
    return value;
}

double svg_axis_at(const struct svg_axis *axis, double value)
{
    double least = scaled(axis->scale, axis->least);
    double most = scaled(axis->scale, axis->most);
    double part = most > least ? (scaled(axis->scale, value) - least) / (most - least) : 0.5;
    return axis->from + part * (axis->to - axis->from);
}

/* 1, 2 or 5 times a power of ten, so that `range` has some six of them. */
static double round_step(double range)
{
    double step = pow(10, floor(log10(range / TICKS_WANTED)));
    double steps = range / step / TICKS_WANTED;
    return steps > 5 ? 10 * step : steps > 2 ? 5 * step : steps > 1 ? 2 * step : step;
}

static void linear_ticks(struct svg_axis *axis, double most)
{
    double step = round_step(most > 0 ? most : 1);
    axis->least = 0;
    axis->most = ceil((most > 0 ? most : 1) / step - 1e-9) * step;
    axis->digits = step < 1 ? (int)ceil(-log10(step)) : 0;
    for (int i = 0; i < SVG_TICKS_MAX && i * step <= axis->most * (1 + 1e-9); i++) {
        axis->ticks[axis->tick_count++] = i * step;
    }
}

/* Powers of ten, and 2 and 5 times them where there is room. */
static void log_ticks(struct svg_axis *axis, double least, double most)
{
    static const double fine[] = {1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8};
    static const double middle[] = {1, 2, 5};
    double decades = log10(most / least);
    bool is_fine = decades < 1;
    const double *steps = is_fine ? fine : middle;
    size_t step_count = is_fine       ? sizeof fine / sizeof fine[0]
                        : decades < 4 ? sizeof middle / sizeof middle[0]
                                      : 1;
    double first = NAN;
    double last = NAN;
    for (int power = (int)floor(log10(least)) - 1; power <= (int)ceil(log10(most)); power++) {
        for (size_t i = 0; i < step_count; i++) {
            double value = steps[i] * pow(10, power);
            if (value <= least * (1 + 1e-9)) {
                first = value;
            }
            if (value >= most * (1 - 1e-9) && isnan(last)) {
                last = value;
            }
        }
    }
    axis->least = isnan(first) ? least : first;
    axis->most = isnan(last) ? most : last;
    for (int power = (int)floor(log10(least)) - 1; power <= (int)ceil(log10(most)); power++) {
        for (size_t i = 0; i < step_count && axis->tick_count < SVG_TICKS_MAX; i++) {
            double value = steps[i] * pow(10, power);
            if (value >= axis->least * (1 - 1e-9) && value <= axis->most * (1 + 1e-9)) {
                axis->ticks[axis->tick_count++] = value;
            }
        }
    }
}

static void nines_ticks(struct svg_axis *axis, double most)
{
    axis->least = 0;
    axis->most = most;
    for (int i = 0; i < 7; i++) {
        double value = 100 * (1 - pow(10, -i));
        if (value <= most + 1e-9) {
            axis->ticks[axis->tick_count++] = value;
        }
        if (i == 0) {
            axis->ticks[axis->tick_count++] = 50;
        }
    }
}

struct svg_axis svg_axis_make(enum svg_scale scale, double least, double most, double from,
                              double to)
{
    struct svg_axis axis = {.scale = scale, .least = least, .most = most, .from = from, .to = to};
    switch (scale) {
    case SVG_LINEAR:
        linear_ticks(&axis, most);
        break;
    case SVG_LOG:
        log_ticks(&axis, least, most > least ? most : least * 1.1);
        break;
    case SVG_NINES:
        nines_ticks(&axis, most);
        break;
    case SVG_CATEGORIES:
        axis.least = -0.5;
        axis.most = most + 0.5;
        break;
    }
    return axis;
}

void svg_axis_label(const struct svg_axis *axis, double value, char *text, size_t size)
{
    char number[REPORT_NUMBER_BYTES];
    if (axis->scale == SVG_NINES || axis->scale == SVG_LOG) {
        snprintf(number, sizeof number, "%.7g", value);
        if (strchr(number, '.') == NULL && strchr(number, 'e') == NULL) {
            report_number(value, 0, number);
        }
    } else {
        report_number(value, axis->digits, number);
    }
    snprintf(text, size, "%s", number);
}
