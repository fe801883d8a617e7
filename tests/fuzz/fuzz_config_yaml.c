/* Reaches: config_yaml_apply, config_key_set, config_check, config_free. */

#include "fuzz/fuzz.h"

#include "base/config_keys.h"

static const char whole[] = "net:\n  listen: 127.0.0.1:0\n  threads: 2\n"
                            "upstream:\n  uri: mongodb://u:p@h:1/?a=b\n"
                            "wal: {directory: /j, quota: 64GiB, retention: 24h}\n"
                            "unit.engine: \"native\"\nunit.lifetime: 60s\n";
static const char aliases[] = "net: &n\n  threads: &t 3\nunit: {maxOpen: *t}\n";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {whole, sizeof(whole) - 1},
    {aliases, sizeof(aliases) - 1},
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
    } else {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && strncmp(error.message, "f:", 2) == 0);
    }
    config_free(&config);
    return accepted;
}
