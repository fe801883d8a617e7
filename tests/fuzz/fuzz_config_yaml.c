/*
 * Reaches: config_yaml_apply, config_services_read, config_key_set, config_check,
 * config_services_complete, config_free.
 */

#include "fuzz/fuzz.h"

#include "base/config_keys.h"

static const char whole[] = "net:\n  listen: 127.0.0.1:0\n  threads: 2\n"
                            "upstream:\n  uri: mongodb://u:p@h:1/?a=b\n"
                            "wal: {directory: /j, quota: 64GiB, retention: 24h}\n"
                            "unit.engine: \"native\"\nunit.lifetime: 60s\n";
static const char aliases[] = "net: &n\n  threads: &t 3\nunit: {maxOpen: *t}\n";
static const char services[] = "services:\n"
                               "  - name: a\n    listen: h:1\n    service: h:2\n"
                               "    inside: h:3\n    peers: 10.0.0.5, fd00::1\n    mongo: h:4\n"
                               "  - {name: b, listen: h:5, service: h:2, appName: b, domain: d}\n"
                               "  - {name: c, listen: h:0, service: h:2, address: fd00::2}\n"
                               "http: {listen: h:6, service: h:7}\n";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {whole, sizeof(whole) - 1},
    {aliases, sizeof(aliases) - 1},
    {services, sizeof(services) - 1},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct config config;
    struct error error = {0};
    bool accepted = false;
    FUZZ_REQUIRE(config_set_defaults(&config, &error) == STATUS_OK);
    if (config_yaml_apply(&config, input, "f", &error) == STATUS_OK) {
        accepted = true;
        FUZZ_REQUIRE(config_check(&config, &error) != STATUS_MEMORY);
        FUZZ_REQUIRE(config.net_threads <= 256 && config.unit_count_max >= 1);
        struct config_service *list = NULL;
        size_t count = 0;
        FUZZ_REQUIRE(config.services_count <= CONFIG_SERVICES_MAX);
        FUZZ_REQUIRE(config_services_complete(&config, &list, &count, &error) == STATUS_OK);
        for (size_t i = 0; i < count; i++) {
            FUZZ_REQUIRE(list[i].name[0] != '\0' && list[i].domain[0] != '\0' &&
                         list[i].mongo != NULL && list[i].application != NULL);
        }
        config_services_free(list, count);
    } else {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && strncmp(error.message, "f:", 2) == 0);
    }
    config_free(&config);
    return accepted;
}
