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

static struct resolve_shown document_of(const bson_iter_t *document)
{
    struct resolve_shown shown = {
        .namespace = answer_text(document, "ns"),
        .restore = answer_text(document, "restore"),
        .apply = answer_text(document, "apply"),
    };
    struct {
        const char *name;
        struct image *image;
    } const parts[] = {
        {"key", &shown.key},
        {"before", &shown.before},
        {"after", &shown.after},
        {"found", &shown.found},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int64_t bytes = 0;
        *parts[i].image = image_of(document, parts[i].name, &bytes);
        shown.bytes += bytes;
    }
    return shown;
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
            const struct resolve_shown shown = document_of(&documents);
            if (showing->options->json) {
                resolve_show_json(&showing->documents, (uint32_t)showing->shown, &shown);
            } else {
                resolve_show_text(showing->options, &shown);
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

static enum cli_exit resolve(struct showing *showing, struct error *error)
{
    const struct cli_options *options = showing->options;
    int64_t changed = 0;
    int64_t left = 1;
    enum status status = STATUS_OK;
    if (!resolve_looks_only(options)) {
        status = resolve_confirm(options, error);
        if (status == STATUS_OK) {
            status = decide(showing, &changed, &left, error);
        }
    }
    return status == STATUS_OK ? resolve_tell(options, &showing->documents, changed, left)
                               : output_failure(error);
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
