#ifndef HOLDFAST_BASE_CONFIG_KEYS_H
#define HOLDFAST_BASE_CONFIG_KEYS_H

/*
 * The table of configuration keys, and what reads one value. For config*.c and their tests; the
 * rest of the program sees config.h only.
 *
 * A new key is a field in struct config and a row here; YAML key, options, help, range check and
 * default follow. Threads: one at a time per struct config.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "holdfast/error.h"
#include "holdfast/slice.h"

/* The texts first. */
enum config_type {
    CONFIG_TYPE_LISTEN,    /* char *: HOST:PORT, port 0 allowed */
    CONFIG_TYPE_CONNECT,   /* char *: HOST:PORT */
    CONFIG_TYPE_URI,       /* char *: mongodb://, one host; never shown: it may hold a password */
    CONFIG_TYPE_HTTP,      /* char *: http://HOST[:PORT][/PATH] */
    CONFIG_TYPE_PATH,      /* char *: a directory */
    CONFIG_TYPE_FILE,      /* char * */
    CONFIG_TYPE_HEX,       /* char *: an even number of hexadecimal digits */
    CONFIG_TYPE_ADDRESS,   /* char *: an IP address; only of a service */
    CONFIG_TYPE_ADDRESSES, /* char *: IP addresses, comma separated */
    CONFIG_TYPE_NAME,      /* char *: 1 to 64 of A-Z a-z 0-9 . _ -; only of a service */
    CONFIG_TYPE_TEXT,      /* char *: anything printable */
    CONFIG_TYPE_NUMBER,    /* uint64_t */
    CONFIG_TYPE_DURATION, /* uint64_t in milliseconds: 5000ms, 5s, 30m, 24h, 7d, 10y, or a number */
    CONFIG_TYPE_SIZE,     /* uint64_t in bytes: 512KiB, 16MiB, 64GiB, 1TiB, or a number */
    CONFIG_TYPE_CHOICE,   /* an enum whose values are the positions in `choices` */
};

struct config_key {
    const char *name;   /* "net.listen" */
    const char *option; /* its short option, or NULL */
    enum config_type type;
    size_t offset;              /* of the field in struct config */
    const char *standard;       /* the default, as one would write it; "" for none */
    const char *smallest;       /* NUMBER, DURATION, SIZE */
    const char *largest;        /* NUMBER, DURATION, SIZE */
    const char *const *choices; /* CHOICE: ended by NULL */
    bool required;
    bool live; /* may change while the proxy runs (SIGHUP); never a text */
    const char *help;
};

struct config_group {
    const char *name; /* what stands before the dot */
    const char *title;
};

extern const struct config_key config_keys[];
extern const size_t config_keys_count;
extern const struct config_group config_groups[];
extern const size_t config_groups_count;

/* NULL if there is none of that name. */
const struct config_key *config_key_find(const char *name);
bool config_group_exists(const char *name);

/*
 * Parses `text` and stores it in the key's field; a text that was there is released. On failure the
 * field is as it was. Errors: STATUS_INVALID with a sentence that begins with the key's name,
 * STATUS_MEMORY.
 */
MUST_CHECK enum status config_key_set(struct config *config, const struct config_key *key,
                                      const char *text, struct error *ret_error);

/*
 * Whether `text` is a value of a text's `type`; "" is one of any. The message begins with `name`.
 * Errors: STATUS_INVALID.
 */
MUST_CHECK enum status config_text_check(const char *name, enum config_type type, const char *text,
                                         struct error *ret_error);

/* The value of a NUMBER, DURATION, SIZE or CHOICE key as a number. */
uint64_t config_key_number(const struct config *config, const struct config_key *key);

/* The value of a text key; never NULL after config_set_defaults(). NULL for other types. */
const char *config_key_text(const struct config *config, const struct config_key *key);

/* Gives every key its default. `config` is zeroed or was freed. Errors: STATUS_MEMORY. */
MUST_CHECK enum status config_set_defaults(struct config *config, struct error *ret_error);

/*
 * Applies a YAML text. `name` stands in messages: "NAME:LINE: …" with lines from 1.
 * Errors: STATUS_INVALID, STATUS_MEMORY; what stood before the error has been applied.
 */
MUST_CHECK enum status config_yaml_apply(struct config *config, struct slice yaml, const char *name,
                                         struct error *ret_error);

/* Reads a file and applies it. Errors: as config_yaml_apply(); STATUS_INVALID if it cannot be read.
 */
MUST_CHECK enum status config_file_apply(struct config *config, const char *path,
                                         struct error *ret_error);

/*
 * Reads upstream.uriFile, admin.tokenFile and event.webhookSecretFile, or what the environment has
 * in their place, after all keys are set. Errors: STATUS_INVALID, STATUS_MEMORY.
 */
MUST_CHECK enum status config_secrets_read(struct config *config, struct error *ret_error);

/*
 * Required keys, keys that need each other, listeners that share an address.
 * Errors: STATUS_INVALID.
 */
MUST_CHECK enum status config_check(const struct config *config, struct error *ret_error);

#endif
