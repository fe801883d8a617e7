/*
 * Three images as a table (side_by_side.h):
 *
 *       field     before          after           found
 *     ! balance   100             70              {"$numberDouble": "65.0"}
 *
 * Values are canonical Extended JSON, so that a number's type shows: a type alone can be the
 * conflict. Long values are cut off; `--json` has them whole.
 */

#include "cli/side_by_side.h"

#include <bson/bson.h>
#include <stdbool.h>
#include <string.h>

#include "cli/output.h"

#define COLUMNS 3
#define FIELD_WIDTH 16
#define VALUE_WIDTH 32
/* A document may have a million fields; a table of them helps nobody. */
#define FIELDS_MAX 500

struct table {
    bson_t views[COLUMNS];
    bool present[COLUMNS];
    struct image images[COLUMNS];
};

static bool find_field(const struct table *table, int column, const char *name, bson_iter_t *ret_at)
{
    return table->present[column] && bson_iter_init_find(ret_at, &table->views[column], name);
}

/* The field of one image as JSON; to be freed with bson_free(). */
static char *field_json(const struct table *table, int column, const char *name)
{
    bson_iter_t at;
    bson_t one = BSON_INITIALIZER;
    char *text = NULL;
    if (!find_field(table, column, name, &at)) {
        return bson_strdup("");
    }
    bson_append_iter(&one, "v", 1, &at);
    char *json = bson_as_canonical_extended_json(&one, NULL);
    bson_destroy(&one);
    if (json == NULL) {
        return bson_strdup("(not UTF-8)");
    }
    /* { "v" : VALUE } */
    size_t size = strlen(json);
    text = size > 10 ? bson_strndup(json + 8, size - 10) : bson_strdup(json);
    bson_free(json);
    return text;
}

static void print_cell(FILE *stream, const char *text, int width)
{
    char cell[VALUE_WIDTH * 4 + 4];
    int columns = 0;
    size_t used = 0;
    bool cut = false;
    for (const char *at = text; *at != '\0'; at++) {
        bool starts = ((unsigned char)*at & 0xc0) != 0x80; /* not inside a UTF-8 character */
        if (starts && columns == width - 1 && at[1] != '\0') {
            cut = true;
            break;
        }
        if (used + 1 >= sizeof(cell)) {
            break;
        }
        columns += starts ? 1 : 0;
        cell[used] = *at;
        used++;
    }
    cell[used] = '\0';
    output_text(stream, cell);
    if (cut) {
        fputs("…", stream);
        columns++;
    }
    fprintf(stream, "%*s", width - columns + 1, "");
}

static void print_row(FILE *stream, const struct table *table, const char *name)
{
    char *values[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        values[i] = field_json(table, i, name);
    }
    bool strange = strcmp(values[2], values[0]) != 0 && strcmp(values[2], values[1]) != 0;
    fprintf(stream, "  %c ", strange ? '!' : ' ');
    print_cell(stream, name, FIELD_WIDTH);
    for (int i = 0; i < COLUMNS; i++) {
        print_cell(stream, values[i], VALUE_WIDTH);
        bson_free(values[i]);
    }
    fputc('\n', stream);
}

static bool seen_before(const struct table *table, int column, const char *name)
{
    bson_iter_t at;
    for (int i = 0; i < column; i++) {
        if (find_field(table, i, name, &at)) {
            return true;
        }
    }
    return false;
}

static void print_heads(FILE *stream, const struct table *table)
{
    static const char *const names[COLUMNS] = {"before", "after", "found"};
    fputs("    ", stream);
    print_cell(stream, "field", FIELD_WIDTH);
    for (int i = 0; i < COLUMNS; i++) {
        char head[VALUE_WIDTH];
        const char *note = table->present[i]                           ? ""
                           : table->images[i].presence == IMAGE_ABSENT ? " (absent)"
                                                                       : " (unknown)";
        snprintf(head, sizeof(head), "%s%s", names[i], note);
        print_cell(stream, head, VALUE_WIDTH);
    }
    fputc('\n', stream);
}

void side_by_side_print(FILE *stream, struct image before, struct image after, struct image found)
{
    struct table table = {.images = {before, after, found}};
    int printed = 0;
    for (int i = 0; i < COLUMNS; i++) {
        struct image image = table.images[i];
        table.present[i] =
            image.presence == IMAGE_PRESENT &&
            bson_init_static(&table.views[i], image.document.data, image.document.size);
    }
    print_heads(stream, &table);
    for (int i = 0; i < COLUMNS; i++) {
        bson_iter_t at;
        if (!table.present[i] || !bson_iter_init(&at, &table.views[i])) {
            continue;
        }
        while (bson_iter_next(&at)) {
            if (seen_before(&table, i, bson_iter_key(&at))) {
                continue;
            }
            if (printed == FIELDS_MAX) {
                fputs("    ...\n", stream);
                return;
            }
            print_row(stream, &table, bson_iter_key(&at));
            printed++;
        }
    }
}
