/* What all pictures share, and those with a dot for each row: svg.h. */
#include "bench/report/svg.h"

#include <math.h>
#include <string.h>

#include "bench/report/reports.h"

#define WIDTH 760.0
#define TOP 44.0
#define ROW 26.0
#define BOTTOM 52.0
#define NAME_CHARACTER 6.6
#define NUMBERS_WIDTH 150.0
#define MARGIN 16.0

/* Okabe and Ito's colours, which most kinds of colour blindness tell apart; brighter on dark. */
const char svg_style[] =
    ":root{--paper:#fff;--ink:#1b1b1b;--soft:#5c5c5c;--grid:#d9d9d9;--c0:#0072b2;--c1:#d55e00;"
    "--c2:#007a58;--c3:#b0518c;--c4:#a87400;--c5:#2b8fc9;--c6:#444}"
    "@media (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#ececec;--soft:#a8a8a8;"
    "--grid:#3a3d42;--c0:#5cb4ee;--c1:#ff8f45;--c2:#35c79a;--c3:#e69ac6;--c4:#e8b23d;--c5:#8fd0f5;"
    "--c6:#cfcfcf}}"
    "@media print{:root{--paper:#fff;--ink:#000;--soft:#333;--grid:#bbb;--c0:#005b8e;--c1:#a84a00;"
    "--c2:#005c43;--c3:#8c3a6d;--c4:#7a5400;--c5:#1d6a96;--c6:#222}}"
    "svg.chart{background:var(--paper);font:13px system-ui,sans-serif;max-width:100%;height:auto}"
    ".chart text{fill:var(--ink)}.chart .soft{fill:var(--soft)}.chart .title{font-weight:600;"
    "font-size:15px}.chart .grid{stroke:var(--grid);stroke-width:1}.chart .axis{stroke:var(--soft);"
    "stroke-width:1}.chart .line{fill:none;stroke-linejoin:round}"
    ".chart .mark{stroke:var(--paper);stroke-width:1}.chart .whisker{stroke-width:1.5;fill:none}"
    ".chart .reference{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:2 3}"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:8 4}"
    ".s2{stroke:var(--c2);stroke-dasharray:2 3}.s3{stroke:var(--c3);stroke-dasharray:10 3 2 3}"
    ".s4{stroke:var(--c4);stroke-dasharray:14 5}.s5{stroke:var(--c5);stroke-dasharray:5 3}"
    ".s6{stroke:var(--c6);stroke-dasharray:1 2}.s7{stroke:var(--c0);stroke-dasharray:12 3 2 3 2 3}"
    ".s8{stroke:var(--c1);stroke-dasharray:3 6}.s9{stroke:var(--c2);stroke-dasharray:16 4 4 4}"
    ".s10{stroke:var(--c3);stroke-dasharray:4 2}.s11{stroke:var(--c4);stroke-dasharray:6 6}"
    ".w0{stroke:var(--c0)}.w1{stroke:var(--c1)}.w2{stroke:var(--c2)}.w3{stroke:var(--c3)}"
    ".w4{stroke:var(--c4)}.w5{stroke:var(--c5)}.w6{stroke:var(--c6)}.w7{stroke:var(--c0)}"
    ".w8{stroke:var(--c1)}.w9{stroke:var(--c2)}.w10{stroke:var(--c3)}.w11{stroke:var(--c4)}"
    ".f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}"
    ".f4{fill:var(--c4)}.f5{fill:var(--c5)}.f6{fill:var(--c6)}.f7{fill:var(--c0)}"
    ".f8{fill:var(--c1)}.f9{fill:var(--c2)}.f10{fill:var(--c3)}.f11{fill:var(--c4)}";

void svg_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default: /* control characters are not allowed in XML */
            putc((unsigned char)*text < ' ' ? ' ' : *text, file);
        }
    }
}

void svg_open(FILE *file, const char *title, double width, double height)
{
    fprintf(file,
            "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
            "viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\"><title>",
            width, height, width, height);
    svg_text(file, title);
    fprintf(file, "</title><text class=\"title\" x=\"%.0f\" y=\"22\">", MARGIN);
    svg_text(file, title);
    fputs("</text>", file);
}

/* Circle, square, triangle, diamond, triangle down, plus, in turns. */
void svg_mark(FILE *file, int style, double x, double y)
{
    static const char *const shapes[] = {
        "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z",
        "M-4.5,-4.5h9v9h-9z",
        "M0,-5.5l5.5,9.5h-11z",
        "M0,-6l6,6l-6,6l-6,-6z",
        "M0,5.5l5.5,-9.5h-11z",
        "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
    };
    fprintf(file, "<path class=\"mark f%d\" transform=\"translate(%.1f,%.1f)\" d=\"%s\"/>",
            style % SVG_STYLES, x, y, shapes[(size_t)style % (sizeof shapes / sizeof shapes[0])]);
}

/* ------------------------------------------------------------------ dots */

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    }
    return count;
}

struct dots_frame {
    struct svg_axis axis;
    double left;
    double right;
    double bottom;
    size_t rows; /* that are drawn */
};

static struct dots_frame frame_make(const struct svg_dots *dots)
{
    struct dots_frame frame = {.right = WIDTH - NUMBERS_WIDTH};
    double least = isnan(dots->reference) ? INFINITY : dots->reference;
    double most = isnan(dots->reference) ? -INFINITY : dots->reference;
    size_t longest = 0;
    for (size_t i = 0; i < dots->row_count; i++) {
        const struct svg_row *row = &dots->rows[i];
        if (isfinite(row->middle)) {
            frame.rows++;
            least = fmin(least, fmin(row->low, row->middle));
            most = fmax(most, fmax(row->high, row->middle));
            size_t size = characters(row->name);
            longest = size > longest ? size : longest;
        }
    }
    frame.left = MARGIN + fmin(330, (double)longest * NAME_CHARACTER + 14);
    frame.bottom = TOP + ROW * (double)frame.rows;
    frame.axis = svg_axis_make(dots->scale, least, most, frame.left + 8, frame.right - 8);
    return frame;
}

static void draw_ticks(FILE *file, const struct dots_frame *frame, const char *x_title)
{
    double last = -INFINITY;
    for (size_t i = 0; i < frame->axis.tick_count; i++) {
        char label[REPORT_NUMBER_BYTES];
        double x = svg_axis_at(&frame->axis, frame->axis.ticks[i]);
        fprintf(file, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x,
                x, TOP - 6, frame->bottom);
        svg_axis_label(&frame->axis, frame->axis.ticks[i], label, sizeof label);
        double half = (double)strlen(label) * NAME_CHARACTER / 2;
        if (x - half > last + 6) {
            fprintf(file,
                    "<text class=\"soft\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%s</text>",
                    x, frame->bottom + 18, label);
            last = x + half;
        }
    }
    fprintf(file, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
            frame->left, frame->right, frame->bottom, frame->bottom);
    fprintf(file, "<text text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">",
            (frame->left + frame->right) / 2, frame->bottom + 40);
    svg_text(file, x_title);
    fputs("</text>", file);
}

static void draw_row(FILE *file, const struct svg_dots *dots, const struct dots_frame *frame,
                     const struct svg_row *row, double y)
{
    char middle[REPORT_NUMBER_BYTES];
    char low[REPORT_NUMBER_BYTES];
    char high[REPORT_NUMBER_BYTES];
    double x = svg_axis_at(&frame->axis, row->middle);
    fprintf(file, "<text x=\"%.0f\" y=\"%.1f\">", MARGIN, y + 4.5);
    svg_text(file, row->name);
    fputs("</text>", file);
    if (isfinite(row->low) && row->high > row->low) {
        double from = svg_axis_at(&frame->axis, row->low);
        double to = svg_axis_at(&frame->axis, row->high);
        fprintf(file, "<path class=\"whisker w%d\" d=\"M%.1f,%.1fH%.1fM%.1f,%.1fv8M%.1f,%.1fv8\"/>",
                row->style % SVG_STYLES, from, y, to, from, y - 4, to, y - 4);
    }
    svg_mark(file, row->style, x, y);
    report_number(row->middle, dots->digits, middle);
    report_number(row->low, dots->digits, low);
    report_number(row->high, dots->digits, high);
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\">%s", frame->right + 10, y + 4.5, middle);
    if (isfinite(row->low) && row->high > row->low) {
        fprintf(file, "<tspan class=\"soft\"> (%s to %s)</tspan>", low, high);
    }
    fputs("</text>", file);
}

void svg_dots(FILE *file, const struct svg_dots *dots)
{
    struct dots_frame frame = frame_make(dots);
    if (frame.rows == 0) {
        return;
    }
    svg_open(file, dots->title, WIDTH, frame.bottom + BOTTOM);
    draw_ticks(file, &frame, dots->x_title);
    if (isfinite(dots->reference)) {
        double x = svg_axis_at(&frame.axis, dots->reference);
        fprintf(file, "<line class=\"reference\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                x, x, TOP - 6, frame.bottom);
    }
    double y = TOP + ROW / 2;
    for (size_t i = 0; i < dots->row_count; i++) {
        if (isfinite(dots->rows[i].middle)) {
            draw_row(file, dots, &frame, &dots->rows[i], y);
            y += ROW;
        }
    }
    fputs("</svg>", file);
}
