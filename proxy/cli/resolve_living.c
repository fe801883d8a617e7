/*
 * `holdfast resolve` while holdfastd lives (resolve.h): it shows the documents and carries the
 * decision out (admin/decisions.h); we print and ask.
 *
 * What is carried out is what was shown: the daemon gave a digest of it, which goes back with the
 * decision.
 */
#include <bson/bson.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/control.h"
#include "cli/output.h"
#include "cli/resolve.h"
#include "cli/side_by_side.h"

#define SEEN_BYTES 65

struct showing {
    const struct cli_options *options;
    char seen[SEEN_BYTES];
    int64_t count; /* of the unit's documents */
    int64_t shown;
    bson_t documents; /* --json: an array of those shown */
};

/* ------------------------------------------------------------------ asking */

/* *ret_answer is to be given to answer_free(). */
static enum status ask(const struct cli_options *options, const char *method, const char *target,
                       struct answer *ret_answer, struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    struct answer answer;
    enum status status = control_request(options, method, target, &code, &body, ret_error);
    if (status == STATUS_OK) {
        status = answer_parse(body, &answer, ret_error);
    }
    free(body);
    if (status == STATUS_OK && code != 200) {
        const char *said = answer_text(&answer.root, "error");
        status = error_set(ret_error, STATUS_REFUSED, "%.500s",
                           said[0] == '\0' ? "holdfastd refuses it" : said);
        answer_free(&answer);
    } else if (status == STATUS_OK) {
        *ret_answer = answer;
    }
    return status;
}

/* ------------------------------------------------------------------ showing */

/* One of the images. *ret_bytes, not 0: it is there, and too large to be shown. */
static struct image image_of(const bson_iter_t *document, const char *name, int64_t *ret_bytes)
{
    bson_iter_t image;
    bson_iter_t at;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    *ret_bytes = 0;
    if (!answer_find(document, name, &image)) {
        return (struct image){.presence = IMAGE_UNKNOWN};
    }
    if (strcmp(answer_text(&image, "is"), "absent") == 0) {
        return (struct image){.presence = IMAGE_ABSENT};
    }
    if (answer_find(&image, "document", &at) && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        bson_iter_document(&at, &size, &data);
        return (struct image){.presence = IMAGE_PRESENT, .document = slice_make(data, size)};
    }
    *ret_bytes = answer_number(&image, "bytes");
    return (struct image){.presence = IMAGE_UNKNOWN};
}

struct images {
    struct image key;
    struct image before;
    struct image after;
    struct image found;
    int64_t bytes; /* of those too large to be shown */
};

static void take_images(const bson_iter_t *document, struct images *ret_images)
{
    struct {
        const char *name;
        struct image *image;
    } const parts[] = {
        {"key", &ret_images->key},
        {"before", &ret_images->before},
        {"after", &ret_images->after},
        {"found", &ret_images->found},
    };
    ret_images->bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int64_t bytes = 0;
        *parts[i].image = image_of(document, parts[i].name, &bytes);
        ret_images->bytes += bytes;
    }
}

static const char *effect(const bson_iter_t *document, const char *choice)
{
    static const char *const texts[][2] = {
        {"stays", "stays as it is"},
        {"replaced", "is replaced"},
        {"inserted", "is inserted"},
        {"removed", "is removed"},
    };
    const char *said = strcmp(choice, "keep") == 0 ? "stays" : answer_text(document, choice);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(said, texts[i][0]) == 0) {
            return texts[i][1];
        }
    }
    return "cannot be done: what the unit wrote is not known";
}

static void print_document(const struct showing *showing, const bson_iter_t *document)
{
    struct images images;
    take_images(document, &images);
    char *key = output_json(images.key.document);
    output_text(stdout, answer_text(document, "ns"));
    fputc(' ', stdout);
    output_text(stdout, key);
    bson_free(key);
    fputc('\n', stdout);
    if (images.bytes > 0) {
        printf("    %" PRId64 " bytes, too many to be shown here: holdfast show %" PRIu64
               " has them\n",
               images.bytes, showing->options->unit);
    } else {
        side_by_side_print(stdout, images.before, images.after, images.found);
    }
    const char *choice = showing->options->choice;
    if (choice == NULL) {
        printf("    --keep: stays as it is; --restore: %s; --apply: %s\n\n",
               effect(document, "restore"), effect(document, "apply"));
    } else {
        printf("    --%s: %s\n\n", choice, effect(document, choice));
    }
}

static void append_document(struct showing *showing, const bson_iter_t *document)
{
    struct images images;
    bson_t entry;
    char buffer[16];
    const char *index = NULL;
    take_images(document, &images);
    bson_uint32_to_string((uint32_t)showing->shown, &index, buffer, sizeof buffer);
    BSON_APPEND_DOCUMENT_BEGIN(&showing->documents, index, &entry);
    BSON_APPEND_UTF8(&entry, "ns", answer_text(document, "ns"));
    output_append_image(&entry, "key", images.key);
    output_append_image(&entry, "before", images.before);
    output_append_image(&entry, "after", images.after);
    output_append_image(&entry, "found", images.found);
    bson_append_document_end(&showing->documents, &entry);
}

/* The next of the unit's documents. */
static enum status show_some(struct showing *showing, struct error *ret_error)
{
    char target[96];
    struct answer answer;
    bson_iter_t documents;
    (void)snprintf(target, sizeof target, "/conflict?unit=%" PRIu64 "&from=%" PRId64,
                   showing->options->unit, showing->shown);
    enum status status = ask(showing->options, "GET", target, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    const char *seen = answer_text(&answer.root, "seen");
    if (showing->seen[0] != '\0' && strcmp(showing->seen, seen) != 0) {
        status = error_set(ret_error, STATUS_CONFLICT,
                           "a document has changed while it was shown: look again");
    }
    (void)snprintf(showing->seen, sizeof showing->seen, "%s", seen);
    showing->count = answer_number(&answer.root, "documentCount");
    int64_t before = showing->shown;
    if (status == STATUS_OK && answer_list(&answer.root, "documents", &documents)) {
        while (bson_iter_next(&documents)) {
            if (showing->options->json) {
                append_document(showing, &documents);
            } else {
                print_document(showing, &documents);
            }
            showing->shown++;
        }
    }
    if (status == STATUS_OK && showing->shown == before && showing->shown < showing->count) {
        status = error_set(ret_error, STATUS_PROTOCOL, "holdfastd does not show all documents");
    }
    answer_free(&answer);
    return status;
}

static enum status show(struct showing *showing, struct error *ret_error)
{
    enum status status = STATUS_OK;
    do {
        status = show_some(showing, ret_error);
    } while (status == STATUS_OK && showing->shown < showing->count);
    fflush(stdout);
    return status;
}

/* ------------------------------------------------------------------ deciding */

static enum status decide(const struct showing *showing, int64_t *ret_changed, int64_t *ret_left,
                          struct error *ret_error)
{
    char target[160];
    struct answer answer;
    (void)snprintf(target, sizeof target, "/resolve?unit=%" PRIu64 "&choices=%c&seen=%s",
                   showing->options->unit, showing->options->choice[0], showing->seen);
    enum status status = ask(showing->options, "POST", target, &answer, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    *ret_changed = answer_number(&answer.root, "changed");
    *ret_left = answer_number(&answer.root, "conflictsLeft");
    answer_free(&answer);
    return STATUS_OK;
}

static void print_json(const struct showing *showing, bool resolved, int64_t changed)
{
    bson_t document = BSON_INITIALIZER;
    BSON_APPEND_INT64(&document, "unit", (int64_t)showing->options->unit);
    BSON_APPEND_ARRAY(&document, "documents", &showing->documents);
    if (showing->options->choice != NULL) {
        BSON_APPEND_UTF8(&document, "choice", showing->options->choice);
    }
    BSON_APPEND_BOOL(&document, "resolved", resolved);
    BSON_APPEND_INT64(&document, "changed", changed);
    output_bson_line(stdout, &document);
    bson_destroy(&document);
}

static enum cli_exit resolve(struct showing *showing, struct error *error)
{
    const struct cli_options *options = showing->options;
    bool look_only = options->choice == NULL || options->dry_run;
    int64_t changed = 0;
    int64_t left = 1;
    enum status status = STATUS_OK;
    if (!look_only) {
        status = resolve_confirm(options, error);
        if (status == STATUS_OK) {
            status = decide(showing, &changed, &left, error);
        }
    }
    if (status != STATUS_OK) {
        return output_failure(error);
    }
    if (options->json) {
        print_json(showing, !look_only, changed);
    } else if (!look_only) {
        printf("unit %" PRIu64 " is resolved: %" PRId64 " documents changed; %" PRId64
               " conflicts left in the journal\n",
               options->unit, changed, left);
    }
    return left > 0 ? CLI_LEFT : CLI_CLEAN;
}

bool resolve_by_living(const struct cli_options *options, enum cli_exit *ret_exit)
{
    struct error error = {0};
    struct showing showing = {.options = options};
    bson_init(&showing.documents);
    enum status status = show(&showing, &error);
    bool living = status != STATUS_NOT_FOUND;
    if (living) {
        *ret_exit = status == STATUS_OK ? resolve(&showing, &error) : output_failure(&error);
    }
    bson_destroy(&showing.documents);
    return living;
}
