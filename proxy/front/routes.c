/*
 * Which requests are calls; see routes.h. A handful of rules, looked through in order.
 *
 * Invariant: every pattern begins with "/" or is "*", and every method is a token or "*".
 */
#include "front/routes.h"

#include <stdlib.h>

#include "front/head.h"

struct rule {
    bool is_call;
    struct slice method;
    struct slice path;
};

struct routes {
    char *text; /* what the rules' slices point into */
    size_t count;
    struct rule rules[];
};

/* ------------------------------------------------------------------ parsing */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static bool is_separator(uint8_t byte)
{
    return byte == ',' || byte == '\n';
}

static struct slice drop_spaces(struct slice text)
{
    struct slice dropped;
    while (text.size > 0 && is_space(text.data[0])) {
        (void)!slice_take(&text, 1, &dropped);
    }
    while (text.size > 0 && is_space(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

/* Cuts the bytes up to the first for which `ends` holds off the front. */
static struct slice take_while_not(struct slice *rest, bool (*ends)(uint8_t))
{
    struct slice part = {0};
    size_t size = 0;
    while (size < rest->size && !ends(rest->data[size])) {
        size++;
    }
    (void)!slice_take(rest, size, &part);
    return part;
}

static const char *parse_rule(struct slice text, struct rule *ret_rule)
{
    struct slice dropped;
    ret_rule->is_call = text.data[0] != '!';
    if (!ret_rule->is_call) {
        (void)!slice_take(&text, 1, &dropped);
        text = drop_spaces(text);
    }
    ret_rule->method = take_while_not(&text, is_space);
    ret_rule->path = drop_spaces(text);
    struct slice method = ret_rule->method;
    for (size_t i = 0; i < method.size; i++) {
        bool upper = (method.data[i] >= 'A' && method.data[i] <= 'Z') || method.data[i] == '-';
        if (!upper && !(method.size == 1 && method.data[i] == '*')) {
            return "a method is written in capitals, or is * for any";
        }
    }
    if (method.size == 0 || ret_rule->path.size == 0) {
        return "a rule is a method, a space and a path";
    }
    if (ret_rule->path.data[0] != '/' &&
        !(ret_rule->path.size == 1 && ret_rule->path.data[0] == '*')) {
        return "a path begins with / (or is * alone)";
    }
    for (size_t i = 0; i < ret_rule->path.size; i++) {
        uint8_t byte = ret_rule->path.data[i];
        if (byte <= ' ' || byte == '?' || byte == '#' || byte == 0x7f) {
            return "a path has no space, no query and no fragment";
        }
    }
    return NULL;
}

static size_t count_separators(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += is_separator((uint8_t)*text);
    }
    return count;
}

enum status routes_parse(const char *text, struct routes **ret_routes, struct error *ret_error)
{
    size_t most = count_separators(text) + 1;
    struct routes *routes = calloc(1, sizeof *routes + most * sizeof(struct rule));
    char *copy = strdup(text);
    if (routes == NULL || copy == NULL) {
        free(routes);
        free(copy);
        return error_set(ret_error, STATUS_MEMORY, "out of memory for the routes");
    }
    routes->text = copy;
    struct slice rest = slice_text(copy);
    struct slice dropped;
    do {
        struct slice rule = drop_spaces(take_while_not(&rest, is_separator));
        const char *wrong =
            rule.size == 0 ? NULL : parse_rule(rule, &routes->rules[routes->count++]);
        if (wrong != NULL) {
            enum status status = error_set(ret_error, STATUS_INVALID, "route \"%.*s\": %s",
                                           (int)rule.size, (const char *)rule.data, wrong);
            routes_free(routes);
            return status;
        }
    } while (slice_take(&rest, 1, &dropped));
    *ret_routes = routes;
    return STATUS_OK;
}

struct routes *routes_free(struct routes *routes)
{
    if (routes != NULL) {
        free(routes->text);
        free(routes);
    }
    return NULL;
}

/* ------------------------------------------------------------------ matching */

static int digit_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool is_unreserved(int byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte > 0 && strchr("-._~", byte) != NULL);
}

/* The next character of a path: an encoded one decoded where encoding changes nothing. */
static uint8_t take_character(struct slice *path)
{
    struct slice front;
    if (path->size >= 3 && path->data[0] == '%') {
        int high = digit_value(path->data[1]);
        int low = digit_value(path->data[2]);
        if (high >= 0 && low >= 0 && is_unreserved(high << 4 | low)) {
            (void)!slice_take(path, 3, &front);
            return (uint8_t)(high << 4 | low);
        }
    }
    uint8_t byte = path->data[0];
    (void)!slice_take(path, 1, &front);
    return byte;
}

static bool is_path_end(uint8_t byte)
{
    return byte == '?' || byte == '#';
}

static bool is_slash(uint8_t byte)
{
    return byte == '/';
}

/* Of "/path?query" and of "http://host/path?query". */
static struct slice path_of(struct slice target)
{
    struct slice authority;
    struct slice path = target;
    bool split = head_split_target(target, &authority, &path);
    path = take_while_not(&path, is_path_end);
    return split && path.size == 0 ? slice_text("/") : path;
}

/* A * stands for a segment where it is a whole one, for everything at the end. */
static bool path_matches(struct slice pattern, struct slice path)
{
    uint8_t before = '\0';
    struct slice dropped;
    while (pattern.size > 0) {
        bool star = pattern.data[0] == '*';
        if (star && pattern.size == 1) {
            return true;
        }
        if (star && before == '/' && pattern.data[1] == '/') {
            (void)!slice_take(&pattern, 1, &dropped);
            if (take_while_not(&path, is_slash).size == 0) {
                return false;
            }
            before = '*';
            continue;
        }
        before = take_character(&pattern);
        if (path.size == 0 || take_character(&path) != before) {
            return false;
        }
    }
    return path.size == 0;
}

static bool changes_by_default(struct slice method)
{
    return slice_equal(method, slice_text("POST")) || slice_equal(method, slice_text("PUT")) ||
           slice_equal(method, slice_text("PATCH")) || slice_equal(method, slice_text("DELETE"));
}

bool routes_is_call(const struct routes *routes, struct slice method, struct slice target)
{
    struct slice path = path_of(target);
    for (size_t i = 0; i < routes->count; i++) {
        const struct rule *rule = &routes->rules[i];
        bool any = rule->method.size == 1 && rule->method.data[0] == '*';
        if ((any || slice_equal(rule->method, method)) && path_matches(rule->path, path)) {
            return rule->is_call;
        }
    }
    return changes_by_default(method);
}
