/*
 * Taking a configuration over while the proxy runs.
 *
 * Invariant: a key that is not live keeps its running value, so that a later comparison names it
 * again and nothing that was made from it is left pointing to freed text.
 *
 * Threads: the one that owns `running`. Others get the values from whoever uses config.h here, as
 * atomics.
 */

#include <assert.h>
#include <string.h>

#include "base/config_keys.h"
#include "base/config_services.h"

static size_t value_size(enum config_type type)
{
    return type == CONFIG_TYPE_CHOICE ? sizeof(unsigned) : sizeof(uint64_t);
}

static bool differs(const struct config *running, const struct config *next,
                    const struct config_key *key)
{
    const char *text = config_key_text(running, key);
    if (text != NULL) {
        return strcmp(text, config_key_text(next, key)) != 0;
    }
    return config_key_number(running, key) != config_key_number(next, key);
}

void config_take_over(struct config *running, const struct config *next,
                      void (*changed)(void *context, const char *key, bool live), void *context)
{
    for (size_t i = 0; i < config_keys_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (!differs(running, next, key)) {
            continue;
        }
        if (key->live) {
            assert(config_key_text(running, key) == NULL);
            memcpy((char *)running + key->offset, (const char *)next + key->offset,
                   value_size(key->type));
        }
        changed(context, key->name, key->live);
    }
    if (!config_services_equal(running, next)) {
        changed(context, "services", false);
    }
}
