/* The answers of a living holdfastd (answer.h). */
#include "cli/answer.h"

#include "cli/output.h"

enum status answer_parse(const char *body, struct answer *ret_answer, struct error *ret_error)
{
    bson_error_t why;
    bson_t *document = bson_new_from_json((const uint8_t *)body, -1, &why);
    if (document == NULL) {
        return error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer is not JSON: %s",
                         why.message);
    }
    bson_t *holder = bson_new();
    bson_iter_t root;
    bool held = BSON_APPEND_DOCUMENT(holder, "answer", document) &&
                bson_iter_init_find(&root, holder, "answer");
    bson_destroy(document);
    if (!held) {
        bson_destroy(holder);
        return error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer is too long");
    }
    *ret_answer = (struct answer){.holder = holder, .root = root};
    return STATUS_OK;
}

void answer_free(struct answer *answer)
{
    bson_destroy(answer->holder);
    answer->holder = NULL;
}

bool answer_find(const bson_iter_t *document, const char *path, bson_iter_t *ret_found)
{
    bson_iter_t at;
    return bson_iter_recurse(document, &at) && bson_iter_find_descendant(&at, path, ret_found);
}

int64_t answer_number(const bson_iter_t *document, const char *path)
{
    bson_iter_t found;
    return answer_find(document, path, &found) ? bson_iter_as_int64(&found) : 0;
}

const char *answer_text(const bson_iter_t *document, const char *path)
{
    bson_iter_t found;
    return answer_find(document, path, &found) && BSON_ITER_HOLDS_UTF8(&found)
               ? bson_iter_utf8(&found, NULL)
               : "";
}

const char *answer_word(const bson_iter_t *document, const char *path)
{
    const char *text = answer_text(document, path);
    return text[0] == '\0' ? "-" : text;
}

void answer_print(const bson_iter_t *document)
{
    bson_t view;
    uint32_t size = 0;
    const uint8_t *data = NULL;
    bson_iter_document(document, &size, &data);
    if (bson_init_static(&view, data, size)) {
        output_bson_line(stdout, &view);
    }
}

bool answer_list(const bson_iter_t *document, const char *path, bson_iter_t *ret_list)
{
    bson_iter_t found;
    return answer_find(document, path, &found) && bson_iter_recurse(&found, ret_list);
}
