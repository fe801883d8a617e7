#ifndef HOLDFAST_CLI_ANSWER_H
#define HOLDFAST_CLI_ANSWER_H

/*
 * Reading what a living holdfastd answered to control_request(): JSON, of which an older or a newer
 * holdfastd may leave something out. Main thread.
 */

#include <bson/bson.h>
#include <stdbool.h>
#include <stdint.h>

#include "holdfast/error.h"

struct answer {
    bson_t *holder;   /* {"answer": the document} */
    bson_iter_t root; /* at the document, as the functions below take it */
};

/* Takes the text apart. STATUS_PROTOCOL: it is not JSON. To be given to answer_free(). */
MUST_CHECK enum status answer_parse(const char *body, struct answer *ret_answer,
                                    struct error *ret_error);
void answer_free(struct answer *answer);

/*
 * A field of the document that `document` is at: its name, or with points the way to it. A number
 * that is not there is 0, a text "".
 */
bool answer_find(const bson_iter_t *document, const char *path, bson_iter_t *ret_found);
int64_t answer_number(const bson_iter_t *document, const char *path);
const char *answer_text(const bson_iter_t *document, const char *path);

/* The same, and "-" for a text that is not there or empty. */
const char *answer_word(const bson_iter_t *document, const char *path);

/* The document as a line of JSON on standard output. */
void answer_print(const bson_iter_t *document);

/* The elements of a list: *ret_list is before the first one. False: there is no such list. */
bool answer_list(const bson_iter_t *document, const char *path, bson_iter_t *ret_list);

#endif
