/*
 * How `holdfast resolve` shows a conflict and says how it ended (resolve.h), whoever looked.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/output.h"
#include "cli/resolve.h"
#include "cli/side_by_side.h"

static const char *effect_text(const char *effect)
{
    static const char *const texts[][2] = {
        {"stays", "stays as it is"},
        {"replaced", "is replaced"},
        {"inserted", "is inserted"},
        {"removed", "is removed"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(effect, texts[i][0]) == 0) {
            return texts[i][1];
        }
    }
    return "cannot be done: what the unit wrote is not known";
}

static void print_effects(const struct cli_options *options, const struct resolve_shown *shown)
{
    if (options->choice == NULL) {
        printf("    --keep: stays as it is; --restore: %s; --apply: %s\n\n",
               effect_text(shown->restore), effect_text(shown->apply));
        return;
    }
    const char *effect = strcmp(options->choice, "keep") == 0      ? "stays"
                         : strcmp(options->choice, "restore") == 0 ? shown->restore
                                                                   : shown->apply;
    printf("    --%s: %s\n\n", options->choice, effect_text(effect));
}

void resolve_show_text(const struct cli_options *options, const struct resolve_shown *shown)
{
    char *key = output_json(shown->key.document);
    output_text(stdout, shown->namespace);
    fputc(' ', stdout);
    output_text(stdout, key);
    bson_free(key);
    fputc('\n', stdout);
    if (shown->bytes > 0) {
        printf("    %" PRId64 " bytes, too many to be shown here: holdfast show %" PRIu64
               " has them\n",
               shown->bytes, options->unit);
    } else {
        side_by_side_print(stdout, shown->before, shown->after, shown->found);
    }
    print_effects(options, shown);
}

void resolve_show_json(bson_t *documents, uint32_t number, const struct resolve_shown *shown)
{
    bson_t entry;
    char buffer[16];
    const char *index = NULL;
    bson_uint32_to_string(number, &index, buffer, sizeof buffer);
    BSON_APPEND_DOCUMENT_BEGIN(documents, index, &entry);
    BSON_APPEND_UTF8(&entry, "ns", shown->namespace);
    output_append_image(&entry, "key", shown->key);
    output_append_image(&entry, "before", shown->before);
    output_append_image(&entry, "after", shown->after);
    output_append_image(&entry, "found", shown->found);
    bson_append_document_end(documents, &entry);
}

static void print_json(const struct cli_options *options, const bson_t *documents, bool resolved,
                       int64_t changed)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)options->unit);
    BSON_APPEND_ARRAY(&document, "documents", documents);
    if (options->choice != NULL) {
        BSON_APPEND_UTF8(&document, "choice", options->choice);
    }
    BSON_APPEND_BOOL(&document, "resolved", resolved);
    BSON_APPEND_INT64(&document, "changed", changed);
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

bool resolve_looks_only(const struct cli_options *options)
{
    return options->choice == NULL || options->dry_run;
}

enum cli_exit resolve_tell(const struct cli_options *options, const bson_t *documents,
                           int64_t changed, int64_t left)
{
    bool resolved = !resolve_looks_only(options);
    if (options->json) {
        print_json(options, documents, resolved, changed);
    } else if (resolved) {
        printf("unit %" PRIu64 " is resolved: %" PRId64 " documents changed; %" PRId64
               " conflicts left in the journal\n",
               options->unit, changed, left);
    }
    return left > 0 ? CLI_LEFT : CLI_CLEAN;
}
