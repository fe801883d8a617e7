/*
 * Printing helpers of `holdfast` (output.h).
 *
 * Invariant: what a client or a document says never reaches the terminal as control characters.
 */

#include "cli/output.h"

#include <stdlib.h>
#include <string.h>

#include "cli/journal.h"

void output_text(FILE *stream, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        bool control = *at < 0x20 || *at == 0x7f;
        /* U+0080 to U+009F in UTF-8: some terminals obey them, too */
        if (*at == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f) {
            control = true;
            at++;
        }
        fputc(control ? '?' : *at, stream);
    }
}

/* Extended JSON cannot hold text that is not UTF-8; such a document is shown by its bytes. */
static char *as_bytes(struct slice document)
{
    static const char head[] = "{\"unprintableBson\":\"";
    char *text = bson_malloc(sizeof(head) + 2 * document.size + 3);
    size_t used = sizeof(head) - 1;
    memcpy(text, head, used);
    for (size_t i = 0; i < document.size; i++) {
        snprintf(text + used, 3, "%02x", document.data[i]);
        used += 2;
    }
    memcpy(text + used, "\"}", 3);
    return text;
}

char *output_json(struct slice document)
{
    bson_t view;
    char *json = NULL;
    if (bson_init_static(&view, document.data, document.size) &&
        bson_validate(&view, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL)) {
        json = bson_as_relaxed_extended_json(&view, NULL);
    }
    return json == NULL ? as_bytes(document) : json;
}

void output_bson_line(FILE *stream, const bson_t *document)
{
    char *json = output_json(slice_make(bson_get_data(document), document->len));
    fputs(json, stream);
    fputc('\n', stream);
    bson_free(json);
}

char *output_image(struct image image)
{
    if (image.presence == IMAGE_PRESENT) {
        return output_json(image.document);
    }
    return bson_strdup(image.presence == IMAGE_ABSENT ? "absent" : "unknown");
}

void output_append_image(bson_t *document, const char *name, struct image image)
{
    bson_t view;
    if (image.presence == IMAGE_ABSENT) {
        BSON_APPEND_NULL(document, name);
    } else if (image.presence == IMAGE_PRESENT &&
               bson_init_static(&view, image.document.data, image.document.size)) {
        BSON_APPEND_DOCUMENT(document, name, &view);
    }
}

enum cli_exit output_failure(const struct error *error)
{
    fputs("holdfast: ", stderr);
    output_text(stderr, error->message);
    fputc('\n', stderr);
    return CLI_FAILED;
}

struct wal *output_open_journal(const struct cli_options *options)
{
    struct wal *wal = NULL;
    struct error error = {0};
    if (journal_open_to_read(options, &wal, &error) != STATUS_OK) {
        output_failure(&error);
        return NULL;
    }
    return wal;
}
