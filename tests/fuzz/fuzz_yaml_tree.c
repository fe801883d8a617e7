/* Reaches: yaml_tree_parse, yaml_tree_line, yaml_tree_free. */

#include "fuzz/fuzz.h"

#include "base/yaml_tree.h"

static const char scalars[] = "a: 1\nb: '1'\nc: -1.5e3\nd: true\ne: ~\nf: [.inf, -.inf, .nan]\n"
                              "g: 3000000000\nh: !!str 5\ni: |\n  text\n";
static const char nested[] = "rules:\n  - {name: x, where: {a: {$gt: 5}}}\n  - name: y\n"
                             "    at: {$date: '2026-01-02T00:00:00Z'}\n"
                             "    id: {$oid: 0123456789abcdef01234567}\n";
static const char aliases[] = "a: &a [x, {y: z}]\nb: &b {c: *a, d: *a}\ne: [*b, *b]\n";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {scalars, sizeof(scalars) - 1},
    {nested, sizeof(nested) - 1},
    {aliases, sizeof(aliases) - 1},
    {NULL, 0},
};

bool fuzz_one(struct slice input)
{
    struct yaml_tree *tree = NULL;
    struct error error = {0};
    if (yaml_tree_parse(input, "f", &tree, &error) != STATUS_OK) {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && strncmp(error.message, "f:", 2) == 0);
        return false;
    }
    const bson_t *document = yaml_tree_document(tree);
    bson_iter_t at;
    FUZZ_REQUIRE(document->len <= YAML_TREE_BYTES_MAX + 5);
    FUZZ_REQUIRE(bson_validate(document, BSON_VALIDATE_NONE, NULL));
    FUZZ_REQUIRE(bson_iter_init(&at, document));
    while (bson_iter_next(&at)) {
        FUZZ_REQUIRE(yaml_tree_line(tree, bson_iter_key(&at)) >= 1);
    }
    yaml_tree_free(tree);
    return true;
}
