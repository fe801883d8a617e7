/*
 * What a configuration takes from secret files or the environment, so that it stands on no command
 * line: the upstream's URI, which may hold a password, and the token of the admin port.
 *
 * Threads: one at a time per struct config.
 */

#include <stdlib.h>
#include <string.h>

#include "base/config_keys.h"
#include "base/secret.h"

#define URI_VARIABLE "HOLDFAST_UPSTREAM_URI"
#define TOKEN_VARIABLE "HOLDFAST_ADMIN_TOKEN"
/* A token shorter than this could be guessed by asking. */
#define TOKEN_BYTES_MIN 16u

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static enum status read_uri(struct config *config, struct error *ret_error)
{
    const struct config_key *key = config_key_find("upstream.uri");
    char *text = NULL;
    if (config->upstream_uri_file[0] == '\0') {
        return config->upstream_uri[0] != '\0'
                   ? STATUS_OK
                   : config_key_set(config, key, environment(URI_VARIABLE), ret_error);
    }
    if (config->upstream_uri[0] != '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "upstream.uri and upstream.uriFile are both given: take one out");
    }
    enum status status =
        secret_file_read("upstream.uriFile", config->upstream_uri_file, &text, ret_error);
    if (status == STATUS_OK) {
        status = config_key_set(config, key, text, ret_error);
        if (status != STATUS_OK) {
            (void)error_prefix(ret_error, "%.200s", config->upstream_uri_file);
        }
    }
    secret_free(text);
    return status;
}

/* What can stand in a header, RFC 9110's token68 and a little more. */
static bool is_token(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 0x7f) {
            return false;
        }
    }
    return strlen(text) >= TOKEN_BYTES_MIN;
}

static enum status read_token(struct config *config, struct error *ret_error)
{
    enum status status = STATUS_OK;
    char *text = NULL;
    if (config->admin_token_file[0] != '\0') {
        status = secret_file_read("admin.tokenFile", config->admin_token_file, &text, ret_error);
    } else if (environment(TOKEN_VARIABLE)[0] != '\0') {
        text = strdup(environment(TOKEN_VARIABLE));
        status = text == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory") : STATUS_OK;
    }
    if (status == STATUS_OK && text != NULL && !is_token(text)) {
        status = error_set(ret_error, STATUS_INVALID,
                           "%s: a token has at least %u characters, without blanks: "
                           "openssl rand -hex 32",
                           config->admin_token_file[0] != '\0' ? "admin.tokenFile" : TOKEN_VARIABLE,
                           TOKEN_BYTES_MIN);
    }
    if (status != STATUS_OK) {
        secret_free(text);
        return status;
    }
    secret_free(config->admin_token);
    config->admin_token = text;
    return STATUS_OK;
}

enum status config_secrets_read(struct config *config, struct error *ret_error)
{
    enum status status = read_uri(config, ret_error);
    return status == STATUS_OK ? read_token(config, ret_error) : status;
}
