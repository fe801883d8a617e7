/*
 * Reaches: scrub_rules_parse, scrub_pipeline_groups, scrub_pipeline_documents, scrub_substitute,
 * scrub_rules_free.
 */

#include "fuzz/fuzz.h"

#include "scrub/pipeline.h"

static const char kinds[] =
    "database: d\nrules:\n"
    "  - {name: a, reference: {from: o.c, to: c}, fix: {delete: from}}\n"
    "  - {name: b, partners: [{in: u, value: v}, {in: p, key: u}], fix: {delete: p, without: u}}\n"
    "  - name: c\n    counter: {of: {in: c, value: n}, sums: {in: o, key: [c, d], sum: t}}\n"
    "    fix: {set: {n: $$found.sums.sum}, of: of}\n"
    "  - {name: d, unique: u.e, fix: {delete: documents, keep: oldest}}\n";
static const char others[] =
    "rules:\n"
    "  - {name: a, database: d, twin: [{in: o, value: s}, {in: p, key: o, value: s}]}\n"
    "  - name: b\n    database: d\n    stuck: {in: o, where: {s: p}, since: t, longer: 15m}\n"
    "    fix: [{mark: documents}, {update: {$set: {k: $$key}}}]\n"
    "  - {name: c, database: d, expect: {in: o, that: {$gte: [$t, 0]}}}\n"
    "  - name: e\n    database: d\n    group:\n"
    "      sources: {x: {in: p, unwind: [l, l.m], key: l.m.k}, y: {in: q}}\n"
    "      that: {$eq: [$x.n, $y.n]}\n"
    "    fix: {insert: {k: $$key.0, at: $$now}, into: y, from: x}\n";

const bool fuzz_size_comes_first = false;

const struct fuzz_seed fuzz_seeds[] = {
    {kinds, sizeof(kinds) - 1},
    {others, sizeof(others) - 1},
    {NULL, 0},
};

static void check_command(bson_t *command)
{
    FUZZ_REQUIRE(bson_validate(command, BSON_VALIDATE_NONE, NULL));
    bson_destroy(command);
}

bool fuzz_one(struct slice input)
{
    struct scrub_rules rules = {0};
    struct error error = {0};
    if (scrub_rules_parse(input, "f", &rules, &error) != STATUS_OK) {
        FUZZ_REQUIRE(error.status == STATUS_INVALID && strncmp(error.message, "f:", 2) == 0);
        return false;
    }
    bson_t *group = BCON_NEW("_id", "[", BCON_INT32(1), BCON_NULL, "]");
    bson_t *keys = BCON_NEW("0", BCON_INT32(1), "1", "[", BCON_UTF8("x"), "]");
    struct scrub_values values = {.group = group, .rule = "r"};
    for (size_t i = 0; i < rules.count; i++) {
        const struct scrub_rule *rule = &rules.list[i];
        FUZZ_REQUIRE(rule->source_count >= 1 && rule->source_count <= SCRUB_SOURCES_MAX);
        FUZZ_REQUIRE(rule->by_document == (rule->expect == NULL));
        check_command(scrub_pipeline_groups(rule, NULL, 0));
        check_command(scrub_pipeline_groups(rule, keys, 0));
        for (size_t source = 0; source < rule->source_count; source++) {
            FUZZ_REQUIRE(rule->sources[source].key != NULL);
            check_command(scrub_pipeline_documents(rule, source, group, 1, 0));
        }
        for (size_t fix = 0; fix < rule->fix_count; fix++) {
            FUZZ_REQUIRE(rule->fixes[fix].source < rule->source_count);
            FUZZ_REQUIRE(rule->fixes[fix].into < rule->source_count);
            if (rule->fixes[fix].body != NULL) {
                check_command(scrub_substitute(rule->fixes[fix].body, &values, true));
            }
        }
    }
    bson_destroy(keys);
    bson_destroy(group);
    scrub_rules_free(&rules);
    return true;
}
