/* The query of a request (query.h). */
#include "admin/query.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_plain(char letter)
{
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') ||
           (letter >= 'A' && letter <= 'Z');
}

/* Where the value begins; NULL: it is not there. */
static const char *find(const char *query, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = query; at != NULL; at = strchr(at, '&')) {
        at += *at == '&' ? 1 : 0;
        if (strncmp(at, name, size) == 0 && at[size] == '=') {
            return at + size + 1;
        }
    }
    return NULL;
}

bool query_text(const char *query, const char *name, char *ret_text, size_t capacity)
{
    const char *value = find(query, name);
    size_t size = 0;
    while (value != NULL && is_plain(value[size])) {
        size++;
    }
    if (value == NULL || size >= capacity || (value[size] != '\0' && value[size] != '&')) {
        return false;
    }
    memcpy(ret_text, value, size);
    ret_text[size] = '\0';
    return true;
}

uint64_t query_number(const char *query, const char *name, uint64_t otherwise)
{
    char text[24];
    char *end = NULL;
    if (!query_text(query, name, text, sizeof text) || text[0] < '0' || text[0] > '9') {
        return otherwise;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : otherwise;
}
