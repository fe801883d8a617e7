#ifndef HOLDFAST_SCRUB_RULES_PRIVATE_H
#define HOLDFAST_SCRUB_RULES_PRIVATE_H

/* What the readers of a rules file share. */

#include "base/yaml_tree.h"
#include "scrub/rules.h"

#define PATH_BYTES 256

/* A place in the file: the value, and the way to it for messages. */
struct place {
    const struct yaml_tree *tree;
    struct error *error;
    char path[PATH_BYTES];
    bson_iter_t at;
};

/* "FILE:LINE: what". */
enum status place_refuse(const struct place *place, const char *format, ...) PRINTF_LIKE(2, 3);

/* A field of the mapping, or an item of the list, at `place`. False: there is none. */
bool place_find(const struct place *place, const char *name, struct place *ret_found);
size_t place_count(const struct place *place);

/* Refuses a value that is no mapping, and keys that `names` (ends with NULL) does not have. */
MUST_CHECK enum status place_check_keys(const struct place *place, const char *const *names);

/* A text that is not empty. */
MUST_CHECK enum status place_text(const struct place *place, const char **ret_text);
/* A mapping as a document of its own; the caller destroys it. */
MUST_CHECK enum status place_document(const struct place *place, bson_t **ret_document);
/* {e: value}: any expression as it is. */
bson_t *place_expression(const struct place *place);
/* The same, and a plain text is a path. */
MUST_CHECK enum status place_path_or_expression(const struct place *place, bson_t **ret_expression);

/*
 * Reads a source: "collection.path", or a mapping. `also`: further keys of the mapping that the
 * caller reads itself (NULL: none). Its name is `name` unless the mapping says otherwise; NULL: the
 * collection's.
 */
MUST_CHECK enum status rules_source_read(const struct place *place, const char *name,
                                         const char *also, bool needs_key,
                                         struct scrub_source *ret_source);
void rules_source_free(struct scrub_source *source);

/* Make rule->expect of the rule's kind and sources. (rules_expect.c) */
void rules_expect_reference(struct scrub_rule *rule);
void rules_expect_partners(struct scrub_rule *rule);
void rules_expect_twin(struct scrub_rule *rule);
void rules_expect_counter(struct scrub_rule *rule, bool sums);
void rules_expect_unique(struct scrub_rule *rule);

/* True of documents that have no time at `since`, or a younger one than $$cutoff; texts and
   ObjectIds are times, too. */
bson_t *rules_younger(const bson_t *since);

/* Reads `fix:`. */
MUST_CHECK enum status rules_fix_read(const struct place *place, struct scrub_rule *rule);
void rules_fix_free(struct scrub_fix *fix);

#endif
