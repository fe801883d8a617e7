/*
 * What the keys of a configuration need of each other, after all of them were read.
 *
 * Threads: one at a time per struct config.
 */

#include "base/config_keys.h"

enum status config_check(const struct config *config, struct error *ret_error)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *text = config_key_text(config, key);
        if (key->required && (text == NULL || text[0] == '\0')) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s is missing: give --%s, or the key %s in the file of --config",
                             key->name, key->option, key->name);
        }
    }
    if ((config->http_listen[0] == '\0') != (config->http_service[0] == '\0')) {
        return error_set(ret_error, STATUS_INVALID,
                         "http.listen and http.service need each other: %s is missing",
                         config->http_listen[0] == '\0' ? "http.listen" : "http.service");
    }
    return STATUS_OK;
}
