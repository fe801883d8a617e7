/*
 * What each kind of rule expects of a group, as an aggregation expression (rules_private.h).
 *
 * Threads: any.
 */
#include <stdio.h>

#include "scrub/rules_private.h"

static void append_text(bson_t *array, const char *key, const char *source, const char *field)
{
    char text[96];
    (void)snprintf(text, sizeof(text), "$%s.%s", source, field);
    bson_append_utf8(array, key, -1, text, -1);
}

/* {OPERATOR: ["$source.n", 0]} as an item of a list. */
static void append_count_is(bson_t *list, uint32_t index, const char *operator, const char * source)
{
    char buffer[16];
    const char *key = NULL;
    bson_t comparison;
    bson_t operands;
    (void)bson_uint32_to_string(index, &key, buffer, sizeof(buffer));
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &comparison);
    BSON_APPEND_ARRAY_BEGIN(&comparison, operator, & operands);
    append_text(&operands, "0", source, "n");
    BSON_APPEND_INT32(&operands, "1", 0);
    bson_append_array_end(&comparison, &operands);
    bson_append_document_end(list, &comparison);
}

/* {OPERATOR: ["$a.FIELD", "$b.FIELD", ...]} over all sources, as an item of a list. */
static void append_over_all(bson_t *list, const char *key, const struct scrub_rule *rule,
                            const char *operator, const char * field)
{
    bson_t over;
    bson_t operands;
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &over);
    BSON_APPEND_ARRAY_BEGIN(&over, operator, & operands);
    for (uint32_t i = 0; i < rule->source_count; i++) {
        char buffer[16];
        const char *index = NULL;
        (void)bson_uint32_to_string(i, &index, buffer, sizeof(buffer));
        append_text(&operands, index, rule->sources[i].name, field);
    }
    bson_append_array_end(&over, &operands);
    bson_append_document_end(list, &over);
}

/* The smallest of all values is the largest: $min and $max pass by what is not there. */
static void append_same_value(bson_t *list, uint32_t index, const struct scrub_rule *rule)
{
    char buffer[16];
    const char *key = NULL;
    bson_t equal;
    bson_t sides;
    (void)bson_uint32_to_string(index, &key, buffer, sizeof(buffer));
    BSON_APPEND_DOCUMENT_BEGIN(list, key, &equal);
    BSON_APPEND_ARRAY_BEGIN(&equal, "$eq", &sides);
    append_over_all(&sides, "0", rule, "$min", "min");
    append_over_all(&sides, "1", rule, "$max", "max");
    bson_append_array_end(&equal, &sides);
    bson_append_document_end(list, &equal);
}

/* {e: {OPERATOR: [...]}}, made by list_begin(), appends to `items`, and list_end(). */
struct list {
    bson_t outer;
    bson_t items;
};

static void list_begin(bson_t *whole, const char *operator, struct list * list)
{
    BSON_APPEND_DOCUMENT_BEGIN(whole, "e", &list->outer);
    BSON_APPEND_ARRAY_BEGIN(&list->outer, operator, & list->items);
}

static void list_end(bson_t *whole, struct list *list)
{
    bson_append_array_end(&list->outer, &list->items);
    bson_append_document_end(whole, &list->outer);
}

void rules_expect_partners(struct scrub_rule *rule)
{
    struct list list;
    bool valued = false;
    rule->expect = bson_new();
    list_begin(rule->expect, "$and", &list);
    for (uint32_t i = 0; i < rule->source_count; i++) {
        append_count_is(&list.items, i, "$gt", rule->sources[i].name);
        valued = valued || rule->sources[i].value != NULL;
    }
    if (valued) {
        append_same_value(&list.items, (uint32_t)rule->source_count, rule);
    }
    list_end(rule->expect, &list);
}

void rules_expect_twin(struct scrub_rule *rule)
{
    struct list list;
    rule->expect = bson_new();
    list_begin(rule->expect, "$and", &list);
    append_same_value(&list.items, 0, rule);
    list_end(rule->expect, &list);
}

void rules_expect_reference(struct scrub_rule *rule)
{
    struct list list;
    rule->expect = bson_new();
    list_begin(rule->expect, "$or", &list);
    append_count_is(&list.items, 0, "$eq", rule->sources[0].name);
    append_count_is(&list.items, 1, "$gt", rule->sources[1].name);
    list_end(rule->expect, &list);
}

void rules_expect_counter(struct scrub_rule *rule, bool sums)
{
    const char *of = rule->sources[0].name;
    const char *other = rule->sources[1].name;
    struct list list;
    bson_t equal;
    bson_t sides;
    rule->expect = bson_new();
    list_begin(rule->expect, "$or", &list);
    append_count_is(&list.items, 0, "$eq", of);
    BSON_APPEND_DOCUMENT_BEGIN(&list.items, "1", &equal);
    bson_t both;
    BSON_APPEND_ARRAY_BEGIN(&equal, "$and", &both);
    static const char *const ends[] = {"min", "max"};
    for (uint32_t i = 0; i < 2; i++) {
        bson_t one;
        BSON_APPEND_DOCUMENT_BEGIN(&both, i == 0 ? "0" : "1", &one);
        BSON_APPEND_ARRAY_BEGIN(&one, "$eq", &sides);
        append_text(&sides, "0", of, ends[i]);
        append_text(&sides, "1", other, sums ? "sum" : "n");
        bson_append_array_end(&one, &sides);
        bson_append_document_end(&both, &one);
    }
    bson_append_array_end(&equal, &both);
    bson_append_document_end(&list.items, &equal);
    list_end(rule->expect, &list);
}

void rules_expect_unique(struct scrub_rule *rule)
{
    struct list list;
    rule->expect = bson_new();
    list_begin(rule->expect, "$lte", &list);
    append_text(&list.items, "0", rule->sources[0].name, "n");
    BSON_APPEND_INT32(&list.items, "1", 1);
    list_end(rule->expect, &list);
}

bson_t *rules_younger(const bson_t *since)
{
    bson_iter_t path;
    bson_t *sound = bson_new();
    bson_t outer;
    bson_t list;
    if (!bson_iter_init_find(&path, since, "e")) {
        return sound;
    }
    BSON_APPEND_DOCUMENT_BEGIN(sound, "e", &outer);
    BSON_APPEND_ARRAY_BEGIN(&outer, "$or", &list);
    for (uint32_t i = 0; i < 2; i++) {
        bson_t comparison;
        bson_t sides;
        bson_t convert;
        bson_t what;
        BSON_APPEND_DOCUMENT_BEGIN(&list, i == 0 ? "0" : "1", &comparison);
        BSON_APPEND_ARRAY_BEGIN(&comparison, i == 0 ? "$eq" : "$gte", &sides);
        BSON_APPEND_DOCUMENT_BEGIN(&sides, "0", &convert);
        BSON_APPEND_DOCUMENT_BEGIN(&convert, "$convert", &what);
        bson_append_iter(&what, "input", -1, &path);
        BSON_APPEND_UTF8(&what, "to", "date");
        BSON_APPEND_NULL(&what, "onError");
        BSON_APPEND_NULL(&what, "onNull");
        bson_append_document_end(&convert, &what);
        bson_append_document_end(&sides, &convert);
        if (i == 0) {
            BSON_APPEND_NULL(&sides, "1");
        } else {
            BSON_APPEND_UTF8(&sides, "1", "$$cutoff");
        }
        bson_append_array_end(&comparison, &sides);
        bson_append_document_end(&list, &comparison);
    }
    bson_append_array_end(&outer, &list);
    bson_append_document_end(sound, &outer);
    return sound;
}
