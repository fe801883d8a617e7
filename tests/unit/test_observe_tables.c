/* Routes and what they learn; the space-saving method beside a naive oracle; sequences and their
 * folds; texts that are kept once. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "observe/route.h"
#include "observe/sequence.h"
#include "observe/text.h"
#include "observe/top_k.h"
#include "wire_bytes.h"

/* ------------------------------------------------------------------ routes */

static char route[ROUTE_BYTES_MAX + 1];

static const char *route_of(struct route_table *table, const char *method, const char *target)
{
    size_t size = route_make(table, "orchestrator", method, target, route);
    assert_int_equal(size, strlen(route));
    assert_true(size <= ROUTE_BYTES_MAX);
    return route;
}

static void test_route_of_one_request(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        const char *target;
        const char *route;
    } examples[] = {
        {"GET", "/", "GET /"},
        {"GET", "", "GET /"},
        {"GET", "/?a=/b", "GET /"},
        {"POST", "/v2/projects/p1/composite-apps?x=1#y", "POST /v2/projects/p1/composite-apps"},
        {"PUT", "//v2///apps/", "PUT /v2/apps"},
        {"GET", "/users/12345/mail", "GET /users/{}/mail"},
        {"GET", "/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "GET /users/{}"},
        {"GET", "/blobs/0123456789abcdef0123", "GET /blobs/{}"},
        {"GET", "/users/a%20b/x", "GET /users/{}/x"},
        {"GET", "/users/me@example.org", "GET /users/{}"},
        {"GET", "/a\"b\n/\xc3\xa9", "GET /{}/{}"},
        {"GET", "http://host:80/v2/apps?x", "GET /v2/apps"},
        {"GET", "http://host", "GET /"},
        {"OPTIONS", "*", "OPTIONS /*"},
        {"BREW", "/pot", "OTHER /pot"},
        {"POST", "/grpc.package.Service/Method", "POST /grpc.package.Service/Method"},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        struct route_table *table = route_table_new();
        assert_string_equal(route_of(table, examples[i].method, examples[i].target),
                            examples[i].route);
        assert_null(route_table_free(table));
    }
}

static void test_route_learns(void **state)
{
    (void)state;
    struct route_table *table = route_table_new();
    char target[64];
    for (char at = 0; at < 32; at++) {
        snprintf(target, sizeof target, "/v2/projects/%c%c/apps", 'a' + at % 26, 'a' + at / 26);
        snprintf(route, sizeof route, "%s", route_of(table, "POST", target));
        assert_string_equal(route + 5, target);
    }
    assert_string_equal(route_of(table, "POST", "/v2/projects/one-more/apps"),
                        "POST /v2/projects/{}/apps");
    assert_string_equal(route_of(table, "POST", "/v2/projects/aa/apps"),
                        "POST /v2/projects/{}/apps");
    assert_string_equal(route_of(table, "POST", "/v2/other/aa/apps"), "POST /v2/other/aa/apps");
    assert_string_equal(route_of(table, "GET", "/v2/projects/aa/apps"), "GET /v2/projects/aa/apps");
    assert_int_equal(route_make(table, "another", "POST", "/v2/projects/aa/apps", route), 25);
    assert_string_equal(route, "POST /v2/projects/aa/apps");
    route_table_free(table);
}

/* Each project has a few apps of its own: together they are many. */
static void test_route_learns_behind_what_it_has_learned(void **state)
{
    (void)state;
    struct route_table *table = route_table_new();
    char target[64];
    for (int project = 0; project < 40; project++) {
        for (int app = 0; app < 3; app++) {
            snprintf(target, sizeof target, "/projects/p%d/apps/a%d-%d/logs", project, project,
                     app);
            (void)route_of(table, "GET", target);
        }
    }
    assert_string_equal(route, "GET /projects/{}/apps/{}/logs");
    assert_string_equal(route_of(table, "GET", "/projects/new/apps/new/logs"),
                        "GET /projects/{}/apps/{}/logs");
    route_table_free(table);
}

/* Whatever the lengths of its parts, a route ends where its memory does. */
static void test_long_routes_fit(void **state)
{
    (void)state;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    for (int first = 1; first <= 50; first++) {
        for (int last = 1; last <= 50; last++) {
            struct {
                char text[ROUTE_BYTES_MAX + 1];
                char guard[64];
            } room;
            struct route_table *table = route_table_new();
            char target[512] = "";
            size_t size = 0;
            memset(room.guard, '#', sizeof room.guard);
            for (int i = 0; i < 6; i++) {
                int length = i % 2 == 0 ? first : last;
                size +=
                    (size_t)snprintf(target + size, sizeof target - size, "/%.*s", length, letters);
            }
            assert_true(route_make(table, "svc", "GET", target, room.text) <= ROUTE_BYTES_MAX);
            for (size_t i = 0; i < sizeof room.guard; i++) {
                assert_int_equal(room.guard[i], '#');
            }
            route_table_free(table);
        }
    }
}

/* More than can be remembered: bounded, and it goes on telling. */
static void test_route_table_is_bounded(void **state)
{
    (void)state;
    struct route_table *table = route_table_new();
    char target[512];
    uint32_t random = 5;
    for (int i = 0; i < 60000; i++) {
        int size = 0;
        for (unsigned int depth = random_next(&random) % 30; depth > 0; depth--) {
            size += snprintf(target + size, sizeof target - (size_t)size, "/%c%c",
                             'a' + (char)(random_next(&random) % 20),
                             'a' + (char)(random_next(&random) % 2));
        }
        target[size] = '\0';
        (void)route_of(table, "GET", target);
    }
    for (int i = 0; i < 20000; i++) { /* services are configured, but even so */
        char service[16];
        snprintf(service, sizeof service, "s%d", i);
        (void)route_make(table, service, "GET", "/a/b", route);
    }
    assert_string_equal(route, "GET /…");
    char longest[3000];
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 60; i < sizeof longest - 1; i += 60) {
        longest[i] = '/';
    }
    route_table_free(table);
    table = route_table_new();
    (void)route_of(table, "GET", longest);
    assert_string_equal(route + strlen(route) - 4, "/…");
    route_table_free(table);
}

/* ------------------------------------------------------------------ top k */

struct counted {
    struct top_k_item item;
    uint64_t key;
};

static bool same_key(const struct top_k_item *item, const void *key)
{
    return ((const struct counted *)(const void *)item)->key == *(const uint64_t *)key;
}

static void top_count(struct top_k *top, uint64_t key)
{
    /* few hashes, so that chains are long and collide */
    uint64_t hash = (key % 97) << 8;
    struct top_k_item *item = top_k_find(top, hash, same_key, &key);
    bool taken_over = false;
    if (item != NULL) {
        top_k_count(top, item);
        return;
    }
    item = top_k_place(top, hash, &taken_over);
    ((struct counted *)(void *)item)->key = key;
}

enum { KEYS = 4000, CAPACITY = 64 };

static void check_against_oracle(const struct top_k *top, const uint64_t *oracle, uint64_t total)
{
    uint64_t sum = 0;
    bool there[KEYS] = {false};
    for (size_t at = 0; at < top->used; at++) {
        const struct counted *counted = (const struct counted *)(void *)top_k_at(top, at);
        assert_false(there[counted->key]);
        there[counted->key] = true;
        assert_true(counted->item.count >= oracle[counted->key]);
        assert_true(counted->item.count - counted->item.error <= oracle[counted->key]);
        assert_true(counted->item.error <= total / CAPACITY);
        sum += counted->item.count;
    }
    assert_int_equal(sum, total);
    for (size_t key = 0; key < KEYS; key++) {
        assert_true(there[key] || oracle[key] <= total / CAPACITY);
    }
}

static void test_top_k_keeps_its_promise(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        static uint64_t oracle[KEYS];
        struct top_k top;
        uint32_t random = seed;
        memset(oracle, 0, sizeof oracle);
        assert_true(top_k_init(&top, CAPACITY, sizeof(struct counted)));
        for (uint64_t total = 1; total <= 20000; total++) {
            /* skewed: small keys are frequent; some seeds even */
            uint64_t key = random_next(&random) % KEYS;
            for (uint32_t again = seed % 5; again > 0; again--) {
                uint64_t other = random_next(&random) % KEYS;
                key = other * key / KEYS;
            }
            oracle[key]++;
            top_count(&top, key);
            if (total % 2500 == 0 || total == CAPACITY) {
                check_against_oracle(&top, oracle, total);
            }
        }
        top_k_destroy(&top);
        top_k_destroy(&top); /* harmless */
    }
}

/* ------------------------------------------------------------------ sequences */

static struct text_table *texts;

static void append(struct sequence *sequence, const char *text)
{
    struct shape shape = {.size = strlen(text)};
    memcpy(shape.text, text, shape.size + 1);
    /* the hash of the tests' table, whose seed is 0 */
    sequence_append(sequence, texts, &shape, text_hash(0, text, shape.size));
}

static void assert_folds(const char *writes, const char *expected)
{
    struct sequence sequence = {.count = 0};
    char told[4096] = "";
    char step[SEQUENCE_STEP_BYTES];
    for (const char *at = writes; *at != '\0'; at++) {
        append(&sequence, (const char[]){*at, '\0'});
    }
    for (uint32_t i = 0; i < sequence.count; i++) {
        sequence_step(&sequence, i, step);
        snprintf(told + strlen(told), sizeof told - strlen(told), "%s%s", i > 0 ? " " : "", step);
    }
    assert_string_equal(told, expected);
    sequence_release(&sequence, texts);
}

static void test_sequences_fold(void **state)
{
    (void)state;
    assert_folds("", "");
    assert_folds("ab", "a b");
    assert_folds("aaa", "a +");
    assert_folds("abab", "(a b)+");
    assert_folds("ababababababababababababababababababababababababababababab", "(a b)+");
    assert_folds("ababa", "(a b)+ a");
    assert_folds("xabcabcy", "x (a b c)+ y");
    assert_folds("aabaab", "(a + b)+");
    assert_folds("abaab", "(a + b)+"); /* marks are what was repeated at least once */
    assert_folds("abcdabcd", "(a b c d)+");
    assert_folds("abcdeabcde", "a b c d e a b c d e"); /* longer groups are told as they are */
    assert_folds("ababcdbcd", "(a b)+ c d b c d");     /* groups never cross */
    assert_folds("xababxab", "(x (a b)+)+");
}

static void test_sequences_are_bounded(void **state)
{
    (void)state;
    struct sequence sequence = {.count = 0};
    struct sequence same = {.count = 0};
    size_t kept = 0;
    uint64_t refused = 0;
    for (int i = 0; i < 100; i++) {
        char text[8];
        snprintf(text, sizeof text, "s%d", i);
        append(&sequence, text);
        if (i == OBSERVE_SEQUENCE_MAX - 1) {
            sequence_copy(&sequence, &same);
            assert_true(sequence_equal(&sequence, &same));
        }
    }
    assert_int_equal(sequence.count, OBSERVE_SEQUENCE_MAX);
    assert_true(sequence.longer);
    assert_false(sequence_equal(&sequence, &same)); /* one of them went on */
    assert_int_not_equal(sequence_hash(&sequence, 1), sequence_hash(&same, 1));
    sequence_release(&sequence, texts);
    sequence_release(&same, texts);
    text_table_figures(texts, &kept, &refused);
    assert_int_equal(kept, 0);
    assert_int_equal(refused, 0);
}

/* Any writes: what is told is balanced, and repeating it gives the distinct shapes in order. */
static void test_sequences_of_random_writes(void **state)
{
    (void)state;
    uint32_t random = 17;
    size_t kept = 0;
    uint64_t refused = 0;
    struct sequence others = {.count = 0};
    for (int round = 0; round < 20000; round++) {
        struct sequence sequence = {.count = 0};
        int open = 0;
        for (uint32_t i = random_next(&random) % 60; i > 0; i--) {
            append(&sequence, (const char[]){(char)('a' + random_next(&random) % 3), '\0'});
        }
        if (sequence_equal(&sequence, &others)) {
            sequence_merge_marks(&sequence, &others);
        }
        for (uint32_t i = 0; i < sequence.count; i++) {
            char step[SEQUENCE_STEP_BYTES];
            sequence_step(&sequence, i, step);
            for (const char *at = step; *at != '\0'; at++) {
                open += (*at == '(') - (*at == ')');
                assert_true(open >= 0);
            }
        }
        assert_int_equal(open, 0);
        sequence_release(&others, texts);
        others = sequence;
    }
    sequence_release(&others, texts);
    text_table_figures(texts, &kept, &refused);
    assert_int_equal(kept, 0);
}

/* ------------------------------------------------------------------ texts */

static void test_texts_are_kept_once(void **state)
{
    (void)state;
    struct text *first = text_keep(texts, slice_text("one"));
    struct text *again = text_keep(texts, slice_text("one"));
    struct text *empty = text_keep(texts, (struct slice){0});
    assert_ptr_equal(first, again);
    assert_ptr_equal(text_hold(first), first);
    assert_string_equal(text_string(first), "one");
    assert_string_equal(text_string(empty), "");
    for (int i = 0; i < 3; i++) {
        text_release(texts, first);
    }
    text_release(texts, empty);
    text_release(texts, NULL);
    size_t kept = 1;
    uint64_t refused = 0;
    text_table_figures(texts, &kept, &refused);
    assert_int_equal(kept, 0);
}

static void test_too_many_texts(void **state)
{
    (void)state;
    enum { MANY = TEXTS_MAX + 5000 };
    static struct text *held[MANY];
    size_t kept = 0;
    uint64_t refused = 0;
    for (int i = 0; i < MANY; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        held[i] = text_keep(texts, slice_text(text));
    }
    text_table_figures(texts, &kept, &refused);
    assert_true(kept <= TEXTS_MAX && kept > TEXTS_MAX / 10 * 9);
    assert_int_equal(kept + refused, MANY);
    assert_string_equal(text_string(held[MANY - 1]), "(others)");
    for (int i = 0; i < MANY; i++) {
        text_release(texts, held[i]);
    }
    text_table_figures(texts, &kept, &refused);
    assert_int_equal(kept, 0);
}

static int setup(void **state)
{
    (void)state;
    texts = text_table_new(0);
    return texts == NULL;
}

static int teardown(void **state)
{
    (void)state;
    texts = text_table_free(texts);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route_of_one_request),
        cmocka_unit_test(test_route_learns),
        cmocka_unit_test(test_route_learns_behind_what_it_has_learned),
        cmocka_unit_test(test_long_routes_fit),
        cmocka_unit_test(test_route_table_is_bounded),
        cmocka_unit_test(test_top_k_keeps_its_promise),
        cmocka_unit_test(test_sequences_fold),
        cmocka_unit_test(test_sequences_are_bounded),
        cmocka_unit_test(test_sequences_of_random_writes),
        cmocka_unit_test(test_texts_are_kept_once),
        cmocka_unit_test(test_too_many_texts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
