/* Asks the living holdfastd of its process (living.h), by the page /status. Main thread. */
#include "cli/living.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/answer.h"
#include "cli/control.h"

static void take_text(const bson_t *from, const char *key, char *text, size_t size)
{
    bson_iter_t at;
    bool there = bson_iter_init_find(&at, from, key) && BSON_ITER_HOLDS_UTF8(&at);
    (void)snprintf(text, size, "%s", there ? bson_iter_utf8(&at, NULL) : "");
}

static int64_t take_number(const bson_t *from, const char *key)
{
    bson_iter_t at;
    return bson_iter_init_find(&at, from, key) ? bson_iter_as_int64(&at) : 0;
}

enum status living_look(const struct cli_options *options, struct living *ret_living,
                        struct error *ret_error)
{
    char *body = NULL;
    int code = 0;
    struct answer answer;
    bson_iter_t at;
    bson_t proxy;
    const uint8_t *data = NULL;
    uint32_t size = 0;
    enum status status =
        control_request(options, "GET", "/status?units=0", &code, &body, ret_error);
    if (status == STATUS_OK) {
        status = answer_parse(body, &answer, ret_error);
    }
    free(body);
    if (status != STATUS_OK) {
        return status;
    }
    if (answer_find(&answer.root, "proxy", &at) && BSON_ITER_HOLDS_DOCUMENT(&at)) {
        bson_iter_document(&at, &size, &data);
    }
    if (data != NULL && bson_init_static(&proxy, data, size)) {
        *ret_living = (struct living){
            .pid = take_number(&proxy, "pid"),
            .generation = take_number(&proxy, "generation"),
            .upgrades_failed = take_number(&proxy, "upgradesFailed"),
        };
        take_text(&proxy, "version", ret_living->version, sizeof ret_living->version);
        take_text(&proxy, "phase", ret_living->phase, sizeof ret_living->phase);
        take_text(&proxy, "upgrade", ret_living->upgrade, sizeof ret_living->upgrade);
        take_text(&proxy, "upgradeFailure", ret_living->upgrade_failure,
                  sizeof ret_living->upgrade_failure);
    } else {
        status = error_set(ret_error, STATUS_PROTOCOL, "holdfastd's answer lacks a field");
    }
    answer_free(&answer);
    return status;
}
