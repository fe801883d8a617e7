#ifndef HOLDFAST_SCRUB_PIPELINE_H
#define HOLDFAST_SCRUB_PIPELINE_H

/*
 * The aggregations by which a server looks for what breaks a rule. They need stages of MongoDB 4.4
 * only, and no helper collection.
 *
 *     a source:  $match where, $unwind, $project {k, s: which source, v: value, t: summand}
 *     a rule:    the first source, $unionWith the others, $group by k, $match what is not expected
 *
 * Threads: any.
 */

#include <bson/bson.h>
#include <stdint.h>

#include "scrub/rules.h"

/*
 * The command that finds the broken groups of the rule: documents {_id: the key, SOURCE: {n, min,
 * max, sum}, ...}. `keys` (an array; NULL: all): only groups with one of these keys, and perhaps
 * others. now_ms: the server's clock. The caller destroys the result.
 */
bson_t *scrub_pipeline_groups(const struct scrub_rule *rule, const bson_t *keys, int64_t now_ms);

/*
 * The command that finds the documents behind one group of a source: {_id} each, in its order,
 * at most `limit`, some of them repeated if the source unwinds. `group`: as scrub_pipeline_groups()
 * found it.
 */
bson_t *scrub_pipeline_documents(const struct scrub_rule *rule, size_t source, const bson_t *group,
                                 int64_t limit, int64_t now_ms);

/* What the templates of a fix may refer to. */
struct scrub_values {
    const bson_t *group;
    const char *rule;
    int64_t now_ms;
    int64_t cutoff_ms;
};

/*
 * A copy of `template` with values in place of the texts $$key, $$key.0, $$found.SOURCE.n (min,
 * max, sum), $$now, $$rule and $$cutoff. `literal`: within expressions, so that no value is taken
 * for one. What does not exist becomes null. The caller destroys the result.
 */
bson_t *scrub_substitute(const bson_t *template, const struct scrub_values *values, bool literal);

#endif
