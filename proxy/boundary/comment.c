/* The grammar of comment.h. The bytes are a client's: every length is checked. Pure. */
#include "boundary/comment.h"

#include <string.h>

static const char text_prefix[] = "holdfast:";

static enum status take_unit(struct comment *comment, const char *text, size_t size,
                             struct error *ret_error)
{
    if (size == 0 || size > COMMENT_UNIT_BYTES_MAX || !bson_utf8_validate(text, size, false)) {
        return error_set(ret_error, STATUS_INVALID,
                         "comment: unit wants a text of 1 to %d bytes of UTF-8 without NUL",
                         COMMENT_UNIT_BYTES_MAX);
    }
    memcpy(comment->unit, text, size);
    comment->unit[size] = '\0';
    return STATUS_OK;
}

static enum status take_timeout(struct comment *comment, int64_t timeout_ms,
                                struct error *ret_error)
{
    if (timeout_ms < 1) {
        return error_set(ret_error, STATUS_INVALID,
                         "comment: timeoutMS wants a whole number of milliseconds from 1");
    }
    comment->timeout_ms = timeout_ms;
    return STATUS_OK;
}

static enum status take_isolation(struct comment *comment, const char *text, size_t size,
                                  struct error *ret_error)
{
    static const char *const names[] = {
        [COMMENT_ISOLATION_SNAPSHOT] = "snapshot",
        [COMMENT_ISOLATION_SERIALIZABLE] = "serializable",
    };
    for (unsigned i = COMMENT_ISOLATION_SNAPSHOT; i <= COMMENT_ISOLATION_SERIALIZABLE; i++) {
        if (size == strlen(names[i]) && memcmp(text, names[i], size) == 0) {
            comment->isolation = (enum comment_isolation)i;
            return STATUS_OK;
        }
    }
    return error_set(ret_error, STATUS_INVALID,
                     "comment: isolation wants snapshot or serializable");
}

/* ------------------------------------------------------------------ the text form */

static bool is_separator(char byte)
{
    return byte == ' ' || byte == '\t' || byte == ';';
}

/* `word` is `name`=..., and what stands behind the sign is returned; else NULL. */
static const char *value_of(const char *word, size_t size, const char *name, size_t *ret_size)
{
    size_t length = strlen(name);
    if (size <= length || memcmp(word, name, length) != 0 || word[length] != '=') {
        return NULL;
    }
    *ret_size = size - length - 1;
    return word + length + 1;
}

static enum status take_number(struct comment *comment, const char *text, size_t size,
                               struct error *ret_error)
{
    int64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || value > INT32_MAX) {
            return take_timeout(comment, 0, ret_error);
        }
        value = value * 10 + (text[i] - '0');
    }
    return take_timeout(comment, value, ret_error);
}

static enum status take_word(struct comment *comment, const char *word, size_t size,
                             struct error *ret_error)
{
    size_t value_size = 0;
    const char *value = value_of(word, size, "unit", &value_size);
    if (value != NULL) {
        return take_unit(comment, value, value_size, ret_error);
    }
    value = value_of(word, size, "timeoutMS", &value_size);
    if (value != NULL) {
        return take_number(comment, value, value_size, ret_error);
    }
    value = value_of(word, size, "isolation", &value_size);
    if (value != NULL) {
        return take_isolation(comment, value, value_size, ret_error);
    }
    if (size == 5 && memcmp(word, "begin", size) == 0) {
        comment->begin = true;
        return STATUS_OK;
    }
    if (size == 4 && memcmp(word, "last", size) == 0) {
        comment->last = true;
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_INVALID,
                     "comment: after \"holdfast:\" come unit=NAME, begin, last, timeoutMS=N, "
                     "isolation=LEVEL, separated by blanks");
}

static enum status parse_words(struct slice text, struct comment *comment, struct error *ret_error)
{
    const char *at = (const char *)text.data + strlen(text_prefix);
    const char *end = (const char *)text.data + text.size;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && at < end) {
        const char *word = at;
        while (at < end && !is_separator(*at)) {
            at++;
        }
        if (at > word) {
            status = take_word(comment, word, (size_t)(at - word), ret_error);
        }
        at += at < end;
    }
    return status;
}

static enum status parse_text(struct slice text, struct comment *comment, struct error *ret_error)
{
    enum status status = parse_words(text, comment, ret_error);
    if (status == STATUS_OK && comment->unit[0] == '\0') {
        status =
            error_set(ret_error, STATUS_INVALID, "comment: after \"holdfast:\" comes unit=NAME");
    }
    return status;
}

/* ------------------------------------------------------------------ the document form */

static enum status take_flag(const bson_iter_t *at, bool *flag, struct error *ret_error)
{
    if (!BSON_ITER_HOLDS_BOOL(at)) {
        return error_set(ret_error, STATUS_INVALID, "comment: %s wants true or false",
                         bson_iter_key(at));
    }
    *flag = bson_iter_bool(at);
    return STATUS_OK;
}

static enum status take_unit_value(const bson_iter_t *at, struct comment *comment,
                                   struct error *ret_error)
{
    uint32_t size = 0;
    const char *text = BSON_ITER_HOLDS_UTF8(at) ? bson_iter_utf8(at, &size) : NULL;
    return take_unit(comment, text == NULL ? "" : text, text == NULL ? 0 : size, ret_error);
}

static enum status take_timeout_value(const bson_iter_t *at, struct comment *comment,
                                      struct error *ret_error)
{
    return take_timeout(comment, BSON_ITER_HOLDS_NUMBER(at) ? bson_iter_as_int64(at) : 0,
                        ret_error);
}

static enum status take_isolation_value(const bson_iter_t *at, struct comment *comment,
                                        struct error *ret_error)
{
    uint32_t size = 0;
    const char *text = BSON_ITER_HOLDS_UTF8(at) ? bson_iter_utf8(at, &size) : "";
    return take_isolation(comment, text, size, ret_error);
}

static enum status parse_document(bson_iter_t *at, struct comment *comment, struct error *ret_error)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        if (strcmp(name, "unit") == 0) {
            status = take_unit_value(at, comment, ret_error);
        } else if (strcmp(name, "begin") == 0) {
            status = take_flag(at, &comment->begin, ret_error);
        } else if (strcmp(name, "last") == 0) {
            status = take_flag(at, &comment->last, ret_error);
        } else if (strcmp(name, "timeoutMS") == 0) {
            status = take_timeout_value(at, comment, ret_error);
        } else if (strcmp(name, "isolation") == 0) {
            status = take_isolation_value(at, comment, ret_error);
        }
    }
    return status;
}

static bool has_text_prefix(const char *text, size_t size)
{
    size_t prefix = strlen(text_prefix);
    return size >= prefix && memcmp(text, text_prefix, prefix) == 0;
}

static enum status parse_comment(const bson_iter_t *value, struct comment *comment,
                                 struct error *ret_error)
{
    bson_iter_t inside;
    bson_iter_t unit;
    if (BSON_ITER_HOLDS_UTF8(value)) {
        uint32_t size = 0;
        const char *text = bson_iter_utf8(value, &size);
        return has_text_prefix(text, size) ? parse_text(slice_make(text, size), comment, ret_error)
                                           : STATUS_NOT_FOUND;
    }
    if (!BSON_ITER_HOLDS_DOCUMENT(value) || !bson_iter_recurse(value, &inside) ||
        !bson_iter_recurse(value, &unit) || !bson_iter_find(&unit, "unit")) {
        return STATUS_NOT_FOUND; /* somebody else's: its other fields may have any type */
    }
    return parse_document(&inside, comment, ret_error);
}

/* ------------------------------------------------------------------ commands */

bool comment_is_command(const struct command_view *view)
{
    return view->database != NULL && strcmp(view->database, "admin") == 0 &&
           (strcmp(view->name, "beginUnit") == 0 || strcmp(view->name, "commitUnit") == 0 ||
            strcmp(view->name, "abortUnit") == 0);
}

static enum status parse_command(bson_iter_t *at, struct comment *comment, struct error *ret_error)
{
    enum status status = take_unit_value(at, comment, ret_error);
    while (status == STATUS_OK && bson_iter_next(at)) {
        if (strcmp(bson_iter_key(at), "timeoutMS") == 0) {
            status = take_timeout_value(at, comment, ret_error);
        } else if (strcmp(bson_iter_key(at), "isolation") == 0) {
            status = take_isolation_value(at, comment, ret_error);
        }
    }
    return status;
}

enum status comment_parse(const struct command_view *view, struct comment *ret_comment,
                          struct error *ret_error)
{
    struct comment comment = {0};
    bson_iter_t at;
    enum status status = STATUS_NOT_FOUND;
    if (!bson_iter_init_from_data(&at, view->body.data, view->body.size)) {
        return STATUS_NOT_FOUND;
    }
    if (comment_is_command(view)) {
        comment.begin = strcmp(view->name, "beginUnit") == 0;
        status = bson_iter_next(&at) ? parse_command(&at, &comment, ret_error) : STATUS_NOT_FOUND;
    } else if (view->has_comment && bson_iter_find(&at, "comment")) {
        status = parse_comment(&at, &comment, ret_error);
    }
    if (status == STATUS_OK) {
        *ret_comment = comment;
    }
    return status;
}

enum status comment_isolation_parse(const struct command_view *view,
                                    enum comment_isolation *ret_isolation, struct error *ret_error)
{
    struct comment comment = {0};
    bson_iter_t at;
    bson_iter_t inside;
    enum status status = STATUS_OK;
    if (view->has_comment && bson_iter_init_from_data(&at, view->body.data, view->body.size) &&
        bson_iter_find(&at, "comment")) {
        uint32_t size = 0;
        const char *text = BSON_ITER_HOLDS_UTF8(&at) ? bson_iter_utf8(&at, &size) : NULL;
        if (text != NULL && has_text_prefix(text, size)) {
            status = parse_words(slice_make(text, size), &comment, ret_error);
        } else if (BSON_ITER_HOLDS_DOCUMENT(&at) && bson_iter_recurse(&at, &inside) &&
                   bson_iter_find(&inside, "isolation")) {
            status = take_isolation_value(&inside, &comment, ret_error);
        }
    }
    if (status == STATUS_OK) {
        *ret_isolation = comment.isolation;
    }
    return status;
}
