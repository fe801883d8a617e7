/* Judging a browser's headers (access.h). No state. */
#include "admin/access.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES 256

/* The host of "host:port" or "[address]:port". False: it is none. */
static bool host_of(const char *text, char ret_name[NAME_BYTES])
{
    const char *begin = text[0] == '[' ? text + 1 : text;
    size_t size = strcspn(begin, text[0] == '[' ? "]" : ":");
    if (size == 0 || size >= NAME_BYTES || (text[0] == '[' && begin[size] != ']')) {
        return false;
    }
    memcpy(ret_name, begin, size);
    ret_name[size] = '\0';
    return true;
}

static bool is_known_host(const char *host)
{
    char name[NAME_BYTES];
    unsigned char address[sizeof(struct in6_addr)];
    if (!host_of(host, name)) {
        return false;
    }
    if (host[0] == '[') {
        return inet_pton(AF_INET6, name, address) == 1;
    }
    size_t size = strlen(name);
    static const char suffix[] = ".localhost";
    size_t suffix_size = sizeof suffix - 1;
    return inet_pton(AF_INET, name, address) == 1 || strcasecmp(name, "localhost") == 0 ||
           (size > suffix_size && strcasecmp(name + size - suffix_size, suffix) == 0);
}

/* "http://HOST" and "https://HOST", where HOST is the header's. */
static bool is_own_origin(const char *origin, const char *host)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; host != NULL && i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t size = strlen(schemes[i]);
        if (strncmp(origin, schemes[i], size) == 0 && strcasecmp(origin + size, host) == 0) {
            return true;
        }
    }
    return false;
}

enum admin_access admin_access_check(const char *host, const char *origin, const char *fetch_site)
{
    if (origin != NULL && !is_own_origin(origin, host)) {
        return ADMIN_ACCESS_STRANGE_ORIGIN;
    }
    if (fetch_site != NULL && strcmp(fetch_site, "same-origin") != 0 &&
        strcmp(fetch_site, "none") != 0) {
        return ADMIN_ACCESS_STRANGE_ORIGIN;
    }
    return host == NULL || is_known_host(host) ? ADMIN_ACCESS_FINE : ADMIN_ACCESS_STRANGE_HOST;
}
