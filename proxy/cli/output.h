#ifndef HOLDFAST_CLI_OUTPUT_H
#define HOLDFAST_CLI_OUTPUT_H

/* How the commands print: texts of strangers, documents. Main thread only. */

#include <bson/bson.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"
#include "holdfast/error.h"
#include "holdfast/image.h"
#include "holdfast/wal.h"

/*
 * Prints a text that a client chose: control characters, with which it could move the terminal's
 * cursor, become question marks.
 */
void output_text(FILE *stream, const char *text);

/* The document as relaxed Extended JSON, to be freed with bson_free(); never NULL. */
char *output_json(struct slice document);
void output_bson_line(FILE *stream, const bson_t *document);

/* "absent", "unknown" or the document as JSON, to be freed with bson_free(). Never NULL. */
char *output_image(struct image image);

/* Appends the image under `name`: the document, null if absent, nothing if unknown. */
void output_append_image(bson_t *document, const char *name, struct image image);

/* Prints the error and returns CLI_FAILED. */
enum cli_exit output_failure(const struct error *error);

/* Opens the journal read-only; prints why not. NULL then. */
struct wal *output_open_journal(const struct cli_options *options);

#endif
