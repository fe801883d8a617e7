/*
 * What a configuration takes from secret files or the environment, so that it stands on no command
 * line: the upstream's URI, which may hold a password, the token of the admin port, and that of the
 * webhook.
 *
 * Threads: one at a time per struct config.
 */

#include <stdlib.h>
#include <string.h>

#include "base/config_keys.h"
#include "base/secret.h"

#define URI_VARIABLE "HOLDFAST_UPSTREAM_URI"
#define TOKEN_VARIABLE "HOLDFAST_ADMIN_TOKEN"
#define WEBHOOK_VARIABLE "HOLDFAST_WEBHOOK_SECRET"
/* A token shorter than this could be guessed by asking. */
#define TOKEN_BYTES_MIN 16u

/* What the file of `key` holds or, where none is named, the environment. NULL: neither. */
static enum status read_secret(const char *key, const char *file, const char *variable,
                               char **ret_text, struct error *ret_error)
{
    if (file[0] != '\0') {
        return secret_file_read(key, file, ret_text, ret_error);
    }
    const char *value = getenv(variable);
    char *text = value == NULL || value[0] == '\0' ? NULL : strdup(value);
    if (text == NULL && value != NULL && value[0] != '\0') {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    *ret_text = text;
    return STATUS_OK;
}

static enum status read_uri(struct config *config, struct error *ret_error)
{
    const char *file = config->upstream_uri_file;
    char *text = NULL;
    if (config->upstream_uri[0] != '\0') {
        return file[0] == '\0'
                   ? STATUS_OK
                   : error_set(ret_error, STATUS_INVALID,
                               "upstream.uri and upstream.uriFile are both given: take one out");
    }
    enum status status = read_secret("upstream.uriFile", file, URI_VARIABLE, &text, ret_error);
    if (status == STATUS_OK && text != NULL) {
        status = config_key_set(config, config_key_find("upstream.uri"), text, ret_error);
        if (status != STATUS_OK && file[0] != '\0') {
            (void)error_prefix(ret_error, "%.200s", file);
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
    const char *file = config->admin_token_file;
    char *text = NULL;
    enum status status = read_secret("admin.tokenFile", file, TOKEN_VARIABLE, &text, ret_error);
    if (status == STATUS_OK && text != NULL && !is_token(text)) {
        status = error_set(ret_error, STATUS_INVALID,
                           "%s: a token has at least %u characters, without blanks: "
                           "openssl rand -hex 32",
                           file[0] != '\0' ? "admin.tokenFile" : TOKEN_VARIABLE, TOKEN_BYTES_MIN);
    }
    if (status != STATUS_OK) {
        secret_free(text);
        return status;
    }
    secret_free(config->admin_token);
    config->admin_token = text;
    return STATUS_OK;
}

static enum status read_webhook_secret(struct config *config, struct error *ret_error)
{
    char *text = NULL;
    enum status status = read_secret("event.webhookSecretFile", config->event_webhook_secret_file,
                                     WEBHOOK_VARIABLE, &text, ret_error);
    if (status == STATUS_OK) {
        secret_free(config->event_webhook_secret);
        config->event_webhook_secret = text;
    }
    return status;
}

enum status config_secrets_read(struct config *config, struct error *ret_error)
{
    enum status status = read_uri(config, ret_error);
    if (status == STATUS_OK) {
        status = read_token(config, ret_error);
    }
    return status == STATUS_OK ? read_webhook_secret(config, ret_error) : status;
}
