/* Reaches: migration_parse, file_steps_read, yaml_value, step_list_free. */

#include "fuzz/fuzz.h"

#include <string.h>

#include "migrate/file.h"

static const char yaml[] =
    "description: d\n"
    "up:\n"
    "  - update:\n      collection: c\n      filter: {a: {$gt: 1.5}}\n"
    "      update: [{$set: {b: &x [1, \"t\", ~]}}, {$set: {c: *x}}]\n"
    "  - setDefault: {collection: c, fields: {a: 1, b: {$oid: "
    "0123456789abcdef01234567}}}\n"
    "  - renameField: {collection: c, from: a, to: b, overwrite: true}\n"
    "  - removeField: {collection: c, fields: [a, b]}\n"
    "  - createIndex: {collection: c, keys: {a: 1}, options: {sparse: true}}\n"
    "down: []\n";
static const char json[] =
    "{\"up\": [{\"insert\": {\"collection\": \"c\", \"documents\": [{\"_id\": 1, \"d\": "
    "{\"$date\": "
    "\"2026-01-02T00:00:00Z\"}}]}}, {\"delete\": {\"collection\": \"c\", \"filter\": {}}},"
    "{\"dropCollection\": {\"collection\": \"c\", \"keep\": false}},"
    "{\"setValidator\": {\"collection\": \"c\", \"validator\": {}, \"level\": \"off\"}}]}";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {yaml, sizeof(yaml) - 1},
    {json, sizeof(json) - 1},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct migration_file file;
    struct error error = {0};
    if (migration_parse(input, "f", &file, &error) != STATUS_OK) {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && strncmp(error.message, "f:", 2) == 0);
        return false;
    }
    FUZZ_REQUIRE(file.up.count > 0 && strlen(file.checksum) == 64);
    for (size_t i = 0; i < file.up.count; i++) {
        const struct step *step = &file.up.steps[i];
        FUZZ_REQUIRE(step->collection[0] != '\0' && step->line > 0);
        FUZZ_REQUIRE(step->kind != STEP_UPDATE || (step->filter != NULL && step->update != NULL));
        FUZZ_REQUIRE(step->kind != STEP_DELETE || step->filter != NULL);
        FUZZ_REQUIRE(step->kind != STEP_INSERT || !bson_empty(step->documents));
    }
    migration_file_free(&file);
    return true;
}
