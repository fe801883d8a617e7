/*
 * Values of configuration keys: from text into the fields of struct config.
 *
 * Invariant: a field changes only when the whole text was understood and is in its range.
 *
 * Threads: one at a time per struct config.
 */

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_keys.h"
#include "base/secret.h"

/* What fits a socket's address, with the prefix. */
#define LOCAL_SOCKET_BYTES_MAX 112u

struct unit_factor {
    const char *name;
    uint64_t factor;
};

static const struct unit_factor no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit_factor duration_units[] = {
    {"", 1},
    {"ms", 1},
    {"s", 1000},
    {"m", 60 * 1000},
    {"h", 60 * 60 * 1000},
    {"d", 24 * 60 * 60 * 1000},
    {"y", UINT64_C(365) * 24 * 60 * 60 * 1000},
    {NULL, 0},
};
static const struct unit_factor size_units[] = {
    {"", 1},
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {NULL, 0},
};

static const struct unit_factor *units_of(enum config_type type)
{
    switch (type) {
    case CONFIG_TYPE_DURATION:
        return duration_units;
    case CONFIG_TYPE_SIZE:
        return size_units;
    default:
        return no_units;
    }
}

/* Decimal digits and one unit; false for anything else and for what does not fit 64 bits. */
static bool parse_number(const char *text, const struct unit_factor *units, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number)) {
            return false;
        }
    }
    if (at == text) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, at) == 0) {
            return !__builtin_mul_overflow(number, units->factor, ret_number);
        }
    }
    return false;
}

static bool is_port(const char *text, bool zero_allowed)
{
    uint64_t port = 0;
    return strlen(text) <= 5 && parse_number(text, no_units, &port) && port <= 65535 &&
           (port > 0 || zero_allowed);
}

/* host:port, 1.2.3.4:port or [v6]:port */
static bool is_endpoint(const char *text, bool zero_allowed)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || !is_port(colon + 1, zero_allowed)) {
        return false;
    }
    size_t host_size = (size_t)(colon - text);
    if (host_size > 255) {
        return false;
    }
    bool bracketed = text[0] == '[';
    if (bracketed && (host_size < 4 || text[host_size - 1] != ']')) {
        return false;
    }
    for (size_t i = bracketed ? 1 : 0; i < host_size - (bracketed ? 1 : 0); i++) {
        bool in_name = isalnum((unsigned char)text[i]) || strchr("-._", text[i]) != NULL;
        bool in_address = isxdigit((unsigned char)text[i]) || strchr(":.%", text[i]) != NULL;
        if (bracketed ? !(in_address || in_name) : !in_name) {
            return false;
        }
    }
    return !bracketed || memchr(text, ':', host_size) != NULL;
}

static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

/* unix:/PATH, for drivers only. */
static bool is_local_socket(const char *name, enum config_type type, const char *text)
{
    static const char prefix[] = "unix:/";
    const char *point = strrchr(name, '.');
    bool for_drivers =
        strcmp(name, "net.listen") == 0 || strcmp(point == NULL ? name : point + 1, "mongo") == 0;
    return type == CONFIG_TYPE_LISTEN && for_drivers &&
           strncmp(text, prefix, sizeof prefix - 1) == 0 &&
           strlen(text) <= LOCAL_SOCKET_BYTES_MAX && is_printable(text);
}

/* The rest is looked at where it is used. */
static enum status check_uri(const char *name, const char *text, struct error *ret_error)
{
    static const char scheme[] = "mongodb://";
    static const char scheme_srv[] = "mongodb+srv://";
    bool srv = strncmp(text, scheme_srv, sizeof(scheme_srv) - 1) == 0;
    if (!srv && strncmp(text, scheme, sizeof(scheme) - 1) != 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s: must begin with mongodb:// or mongodb+srv://", name);
    }
    const char *hosts = text + (srv ? sizeof(scheme_srv) : sizeof(scheme)) - 1;
    size_t size = strcspn(hosts, "/?");
    const char *at = memrchr(hosts, '@', size);
    if (at != NULL) {
        size -= (size_t)(at + 1 - hosts);
        hosts = at + 1;
    }
    if (size == 0) {
        return error_set(ret_error, STATUS_INVALID, "%s: names no host", name);
    }
    return STATUS_OK;
}

/* Its parts are looked at where it is used. */
static enum status check_http(const char *name, const char *text, struct error *ret_error)
{
    static const char scheme[] = "http://";
    size_t size = strlen(text);
    if (strncmp(text, scheme, sizeof scheme - 1) != 0 || size == sizeof scheme - 1) {
        return error_set(ret_error, STATUS_INVALID,
                         "%s: must be http://HOST:PORT/PATH (https:// is not built: put an agent "
                         "beside the proxy)",
                         name);
    }
    return STATUS_OK;
}

/* One address, or several between commas with blanks around them. */
static bool is_addresses(const char *text, bool one_only)
{
    const char *at = text;
    for (;;) {
        struct in6_addr ignored;
        char address[INET6_ADDRSTRLEN];
        at += one_only ? 0 : strspn(at, " ");
        size_t size = strcspn(at, one_only ? "" : ", ");
        if (size >= sizeof(address)) {
            return false;
        }
        memcpy(address, at, size);
        address[size] = '\0';
        if (inet_pton(AF_INET, address, &ignored) != 1 &&
            inet_pton(AF_INET6, address, &ignored) != 1) {
            return false;
        }
        at += size + strspn(at + size, " ");
        if (*at != ',') {
            return *at == '\0';
        }
        at++;
    }
}

static bool is_name(const char *text)
{
    size_t size = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return size <= 64 && text[size] == '\0';
}

static enum status check_word(const char *name, enum config_type type, const char *text,
                              struct error *ret_error)
{
    bool one_only = type == CONFIG_TYPE_ADDRESS;
    switch (type) {
    case CONFIG_TYPE_ADDRESS:
    case CONFIG_TYPE_ADDRESSES:
        if (!is_addresses(text, one_only)) {
            return error_set(ret_error, STATUS_INVALID, "%s: \"%.200s\" is not %s", name, text,
                             one_only ? "an IP address"
                                      : "a list of IP addresses such as 10.0.0.5, fd00::6");
        }
        return STATUS_OK;
    case CONFIG_TYPE_NAME:
        if (!is_name(text)) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s: \"%.200s\" is not 1 to 64 letters, digits, dots, underscores or "
                             "hyphens",
                             name, text);
        }
        return STATUS_OK;
    case CONFIG_TYPE_HTTP:
        return check_http(name, text, ret_error);
    case CONFIG_TYPE_TEXT:
        if (!is_printable(text)) {
            return error_set(ret_error, STATUS_INVALID, "%s: holds a control character", name);
        }
        return STATUS_OK;
    default:
        return STATUS_OK;
    }
}

enum status config_text_check(const char *name, enum config_type type, const char *text,
                              struct error *ret_error)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    if (text[0] == '\0') {
        return STATUS_OK; /* nothing set; config_check() asks for what is required */
    }
    switch (type) {
    case CONFIG_TYPE_URI:
        return check_uri(name, text, ret_error);
    case CONFIG_TYPE_LISTEN:
    case CONFIG_TYPE_CONNECT:
        if (!is_endpoint(text, type == CONFIG_TYPE_LISTEN) && !is_local_socket(name, type, text)) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s: \"%.200s\" is not HOST:PORT, for example 127.0.0.1:27018 or "
                             "[::1]:27018",
                             name, text);
        }
        return STATUS_OK;
    case CONFIG_TYPE_HEX:
        if (digits != strlen(text) || digits % 2 != 0 || digits > 128) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s: \"%.200s\" is not an id in hexadecimal digits", name, text);
        }
        return STATUS_OK;
    default:
        return check_word(name, type, text, ret_error);
    }
}

static bool is_text(enum config_type type)
{
    return type <= CONFIG_TYPE_TEXT;
}

static enum status set_text(struct config *config, const struct config_key *key, const char *text,
                            struct error *ret_error)
{
    enum status status = config_text_check(key->name, key->type, text, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "%s: out of memory", key->name);
    }
    char *old = NULL;
    memcpy(&old, (char *)config + key->offset, sizeof(old));
    free(old);
    memcpy((char *)config + key->offset, &copy, sizeof(copy));
    return STATUS_OK;
}

static enum status set_choice(struct config *config, const struct config_key *key, const char *text,
                              struct error *ret_error)
{
    _Static_assert(sizeof(enum config_engine) == sizeof(unsigned) &&
                       sizeof(enum wal_durability) == sizeof(unsigned) &&
                       sizeof(enum log_level) == sizeof(unsigned) &&
                       sizeof(enum config_boundary) == sizeof(unsigned) &&
                       sizeof(enum config_standby) == sizeof(unsigned) &&
                       sizeof(enum config_correlation) == sizeof(unsigned) &&
                       sizeof(enum config_reads) == sizeof(unsigned),
                   "the enums of struct config are written as unsigned");
    char known[128] = "";
    for (unsigned i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(key->choices[i], text) == 0) {
            memcpy((char *)config + key->offset, &i, sizeof(i));
            return STATUS_OK;
        }
        size_t used = strlen(known);
        (void)snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ",
                       key->choices[i]);
    }
    return error_set(ret_error, STATUS_INVALID, "%s: \"%.200s\" is not one of %s", key->name, text,
                     known);
}

static enum status set_number(struct config *config, const struct config_key *key, const char *text,
                              struct error *ret_error)
{
    const struct unit_factor *units = units_of(key->type);
    uint64_t number = 0;
    uint64_t smallest = 0;
    uint64_t largest = UINT64_MAX;
    if (!parse_number(text, units, &number)) {
        const char *wanted =
            key->type == CONFIG_TYPE_DURATION ? "a duration such as 500ms, 5s, 30m, 24h, 7d or 10y"
            : key->type == CONFIG_TYPE_SIZE   ? "a size such as 65536, 16MiB, 64GiB or 1TiB"
                                              : "a whole number";
        return error_set(ret_error, STATUS_INVALID, "%s: \"%.200s\" is not %s", key->name, text,
                         wanted);
    }
    if (!parse_number(key->smallest, units, &smallest) ||
        !parse_number(key->largest, units, &largest) || number < smallest || number > largest) {
        return error_set(ret_error, STATUS_INVALID, "%s: %.200s is outside %s to %s", key->name,
                         text, key->smallest, key->largest);
    }
    memcpy((char *)config + key->offset, &number, sizeof(number));
    return STATUS_OK;
}

enum status config_key_set(struct config *config, const struct config_key *key, const char *text,
                           struct error *ret_error)
{
    if (is_text(key->type)) {
        return set_text(config, key, text, ret_error);
    }
    if (key->type == CONFIG_TYPE_CHOICE) {
        return set_choice(config, key, text, ret_error);
    }
    return set_number(config, key, text, ret_error);
}

uint64_t config_key_number(const struct config *config, const struct config_key *key)
{
    uint64_t number = 0;
    unsigned choice = 0;
    if (is_text(key->type)) {
        return 0;
    }
    if (key->type == CONFIG_TYPE_CHOICE) {
        memcpy(&choice, (const char *)config + key->offset, sizeof(choice));
        return choice;
    }
    memcpy(&number, (const char *)config + key->offset, sizeof(number));
    return number;
}

const char *config_key_text(const struct config *config, const struct config_key *key)
{
    char *text = NULL;
    if (is_text(key->type)) {
        memcpy(&text, (const char *)config + key->offset, sizeof(text));
    }
    return text;
}

enum status config_set_defaults(struct config *config, struct error *ret_error)
{
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < config_keys_count; i++) {
        enum status status =
            config_key_set(config, &config_keys[i], config_keys[i].standard, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

void config_free(struct config *config)
{
    if (config == NULL) {
        return;
    }
    for (size_t i = 0; i < config_keys_count; i++) {
        if (is_text(config_keys[i].type)) {
            char *text = NULL;
            memcpy(&text, (char *)config + config_keys[i].offset, sizeof(text));
            free(text);
        }
    }
    secret_free(config->admin_token);
    secret_free(config->event_webhook_secret);
    config_services_free(config->services, config->services_count);
    memset(config, 0, sizeof(*config));
}
