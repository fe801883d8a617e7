/* Nodes of YAML files (yaml_node.h). Threads: any. */
#include "base/yaml_node.h"

#include <string.h>

unsigned long yaml_line(const yaml_node_t *node)
{
    return (unsigned long)node->start_mark.line + 1;
}

const char *yaml_text(const yaml_node_t *node)
{
    if (node == NULL || node->type != YAML_SCALAR_NODE ||
        memchr(node->data.scalar.value, 0, node->data.scalar.length) != NULL) {
        return NULL;
    }
    return (const char *)node->data.scalar.value;
}

bool yaml_key_is_repeated(yaml_document_t *document, const yaml_node_t *mapping,
                          const yaml_node_pair_t *pair)
{
    const char *text = yaml_text(yaml_document_get_node(document, pair->key));
    const yaml_node_pair_t *each = mapping->data.mapping.pairs.start;
    for (; text != NULL && each < pair; each++) {
        const char *other = yaml_text(yaml_document_get_node(document, each->key));
        if (other != NULL && strcmp(other, text) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ plain scalars */

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* [-+] digits */
static bool is_whole(const char *text)
{
    text += text[0] == '-' || text[0] == '+' ? 1 : 0;
    size_t count = digits(text);
    return count > 0 && text[count] == '\0';
}

/* [-+] (digits [. digits] | . digits) [e [-+] digits] */
static bool is_number(const char *text)
{
    text += text[0] == '-' || text[0] == '+' ? 1 : 0;
    size_t before = digits(text);
    text += before;
    size_t after = 0;
    if (text[0] == '.') {
        after = digits(text + 1);
        text += 1 + after;
    }
    if (before + after == 0) {
        return false;
    }
    if (text[0] == 'e' || text[0] == 'E') {
        text += text[1] == '-' || text[1] == '+' ? 2 : 1;
        size_t power = digits(text);
        return power > 0 && text[power] == '\0';
    }
    return text[0] == '\0';
}

enum yaml_plain yaml_plain_judge(const char *text)
{
    static const struct {
        const char *text;
        enum yaml_plain is;
    } words[] = {
        {"", YAML_PLAIN_NULL},
        {"~", YAML_PLAIN_NULL},
        {"null", YAML_PLAIN_NULL},
        {"Null", YAML_PLAIN_NULL},
        {"NULL", YAML_PLAIN_NULL},
        {"true", YAML_PLAIN_TRUE},
        {"True", YAML_PLAIN_TRUE},
        {"TRUE", YAML_PLAIN_TRUE},
        {"false", YAML_PLAIN_FALSE},
        {"False", YAML_PLAIN_FALSE},
        {"FALSE", YAML_PLAIN_FALSE},
        {".inf", YAML_PLAIN_INFINITE},
        {".Inf", YAML_PLAIN_INFINITE},
        {".INF", YAML_PLAIN_INFINITE},
        {"+.inf", YAML_PLAIN_INFINITE},
        {"-.inf", YAML_PLAIN_MINUS_INFINITE},
        {"-.Inf", YAML_PLAIN_MINUS_INFINITE},
        {"-.INF", YAML_PLAIN_MINUS_INFINITE},
        {".nan", YAML_PLAIN_NAN},
        {".NaN", YAML_PLAIN_NAN},
        {".NAN", YAML_PLAIN_NAN},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i].text) == 0) {
            return words[i].is;
        }
    }
    return is_whole(text)    ? YAML_PLAIN_WHOLE
           : is_number(text) ? YAML_PLAIN_NUMBER
                             : YAML_PLAIN_TEXT;
}
