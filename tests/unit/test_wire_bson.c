/*
 * The BSON walker and the full check: every type, every truncation, nesting to the limit and one
 * beyond, what libbson's own iterator lets pass, random changes.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "holdfast/limits.h"
#include "wire/bson_check.h"
#include "wire/bson_walk.h"
#include "wire_bytes.h"

static bson_t *every_type(void)
{
    bson_oid_t oid;
    bson_decimal128_t decimal = {1, 2};
    uint8_t bytes[16] = {0};
    bson_t *scope = BCON_NEW("x", BCON_INT32(1));
    bson_t *document =
        BCON_NEW("double", BCON_DOUBLE(1.5), "text", BCON_UTF8("two"), "document", "{", "a", "{",
                 "}", "}", "array", "[", BCON_INT32(1), "{", "}", "]");
    bson_oid_init_from_string(&oid, "0123456789abcdef01234567");
    assert_true(BSON_APPEND_BINARY(document, "uuid", BSON_SUBTYPE_UUID, bytes, 16));
    assert_true(BSON_APPEND_BINARY(document, "old", BSON_SUBTYPE_BINARY_DEPRECATED, bytes, 3));
    assert_true(BSON_APPEND_UNDEFINED(document, "undefined"));
    assert_true(BSON_APPEND_OID(document, "oid", &oid));
    assert_true(BSON_APPEND_BOOL(document, "bool", true));
    assert_true(BSON_APPEND_DATE_TIME(document, "date", -1));
    assert_true(BSON_APPEND_NULL(document, "null"));
    assert_true(BSON_APPEND_REGEX(document, "regex", "^a", "i"));
    assert_true(BSON_APPEND_DBPOINTER(document, "pointer", "db.c", &oid));
    assert_true(BSON_APPEND_CODE(document, "code", "f()"));
    assert_true(BSON_APPEND_SYMBOL(document, "symbol", "s"));
    assert_true(BSON_APPEND_CODE_WITH_SCOPE(document, "scoped", "g()", scope));
    assert_true(BSON_APPEND_INT32(document, "int32", -7));
    assert_true(BSON_APPEND_TIMESTAMP(document, "timestamp", 0, 0));
    assert_true(BSON_APPEND_INT64(document, "int64", INT64_MIN));
    assert_true(BSON_APPEND_DECIMAL128(document, "decimal", &decimal));
    assert_true(BSON_APPEND_MINKEY(document, "min"));
    assert_true(BSON_APPEND_MAXKEY(document, "max"));
    bson_destroy(scope);
    return document;
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static void test_every_type_is_walked(void **state)
{
    (void)state;
    bson_t *document = every_type();
    bson_iter_t iter;
    struct slice fields;
    struct bson_element element;
    struct slice scope;
    int count = 0;
    assert_int_equal(bson_check(slice_of(document), NULL), STATUS_OK);
    assert_true(bson_fields_open(slice_of(document), &fields));
    assert_true(bson_iter_init(&iter, document));
    while (bson_element_next(&fields, &element)) { /* libbson is the oracle for sound documents */
        assert_true(bson_iter_next(&iter));
        assert_string_equal(element.name, bson_iter_key(&iter));
        assert_int_equal(element.type, bson_iter_type(&iter));
        assert_int_equal(bson_element_scope(&element, &scope),
                         element.type == BSON_TYPE_CODEWSCOPE);
        count++;
    }
    assert_false(bson_iter_next(&iter));
    assert_int_equal(fields.size, 0);
    assert_int_equal(count, 22);
    bson_destroy(document);
}

static void test_every_truncation_is_refused(void **state)
{
    (void)state;
    bson_t *document = every_type();
    for (uint32_t size = 0; size < document->len; size++) {
        struct slice copy = exact_copy(bson_get_data(document), size);
        assert_int_equal(bson_check(copy, NULL), STATUS_INVALID);
        exact_free(copy);
        uint8_t agreeing[1024];
        memcpy(agreeing, bson_get_data(document), size);
        if (size >= 5) { /* once more, with a length and an end that agree */
            slice_store_u32le(agreeing, size);
            agreeing[size - 1] = 0;
        }
        copy = exact_copy(agreeing, size);
        struct bson_element element;
        struct slice fields;
        bool whole = false;
        if (bson_fields_open(copy, &fields)) {
            while (bson_element_next(&fields, &element)) {
                assert_true(element.raw.data + element.raw.size <= copy.data + size - 1);
            }
            whole = fields.size == 0;
        }
        assert_true(whole || bson_check(copy, NULL) == STATUS_INVALID);
        exact_free(copy);
    }
    bson_destroy(document);
}

static void test_numbers_and_texts(void **state)
{
    (void)state;
    struct bson_element element;
    int64_t number = 99;
    bson_t *document =
        BCON_NEW("a", BCON_DOUBLE(1e300), "b", BCON_DOUBLE(-0.0), "c", BCON_DOUBLE(0.5), "d",
                 BCON_INT64(INT64_MIN), "e", BCON_DOUBLE(-9223372036854775808.0), "f",
                 BCON_DOUBLE(9223372036854775808.0), "g", BCON_UTF8("t"));
    assert_true(bson_append_utf8(document, "h", 1, "t\0u", 3));
    static const struct {
        const char *name;
        bool whole;
        int64_t number;
    } cases[] = {{"a", false, 0},        {"b", true, 0},  {"c", false, 0}, {"d", true, INT64_MIN},
                 {"e", true, INT64_MIN}, {"f", false, 0}, {"g", false, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(bson_element_find(slice_of(document), cases[i].name, &element));
        assert_int_equal(bson_element_integer(&element, &number), cases[i].whole);
        if (cases[i].whole) {
            assert_true(number == cases[i].number);
        }
    }
    assert_string_equal(bson_element_text(&element), "t");
    assert_true(bson_element_find(slice_of(document), "h", &element));
    assert_null(bson_element_text(&element)); /* a NUL inside */
    assert_true(bson_element_find(slice_of(document), "d", &element));
    assert_null(bson_element_text(&element));
    assert_false(bson_element_find(slice_of(document), "i", &element));
    bson_destroy(document);
}

static void test_document_find(void **state)
{
    (void)state;
    bson_t *document =
        BCON_NEW("a", "{", "b", BCON_INT32(1), "}", "c", "[", BCON_INT32(1), "]", "d", "{", "}");
    struct slice found = bson_document_find(slice_of(document), "a");
    bson_t view;
    assert_true(bson_init_static(&view, found.data, found.size));
    assert_true(bson_has_field(&view, "b"));
    assert_int_equal(bson_document_find(slice_of(document), "d").size, 5);
    assert_int_equal(bson_document_find(slice_of(document), "c").size, 0); /* an array */
    assert_int_equal(bson_document_find(slice_of(document), "b").size, 0); /* not at the top */
    assert_int_equal(bson_document_find((struct slice){0}, "a").size, 0);
    bson_destroy(document);
}

/* { a: { a: … {} } } with `depth` documents in all. */
static struct slice nested(int depth)
{
    size_t size = 5 + (size_t)(depth - 1) * 8;
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    for (int level = 0; level < depth; level++) {
        uint8_t *at = bytes + (size_t)level * 7;
        slice_store_u32le(at, (uint32_t)(size - (size_t)level * 8));
        if (level < depth - 1) {
            at[4] = BSON_TYPE_DOCUMENT;
            at[5] = 'a';
        }
    }
    return slice_make(bytes, size);
}

static void test_nesting_up_to_the_limit(void **state)
{
    (void)state;
    struct error error;
    static const struct {
        int depth;
        enum status status;
    } cases[] = {{1, STATUS_OK},
                 {LIMIT_BSON_DEPTH, STATUS_OK},
                 {LIMIT_BSON_DEPTH + 1, STATUS_INVALID},
                 {2000000, STATUS_INVALID}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice document = nested(cases[i].depth);
        assert_int_equal(bson_check(document, &error), cases[i].status);
        exact_free(document);
    }
    assert_non_null(strstr(error.message, "nested more than"));
}

static void test_scopes_count_as_levels(void **state)
{
    (void)state;
    bson_t *inner = bson_new();
    for (int level = 1; level < LIMIT_BSON_DEPTH + 1; level++) {
        assert_int_equal(bson_check(slice_of(inner), NULL), STATUS_OK);
        bson_t *outer = bson_new();
        assert_true(BSON_APPEND_CODE_WITH_SCOPE(outer, "f", "", inner));
        if (inner->len <= 5) { /* libbson writes plain code for an empty scope */
            bson_reinit(outer);
            assert_true(BSON_APPEND_DOCUMENT(outer, "f", inner));
        }
        bson_destroy(inner);
        inner = outer;
    }
    assert_int_equal(bson_check(slice_of(inner), NULL), STATUS_INVALID);
    bson_destroy(inner);
}

/* Each is one document whose length and last byte are right; one thing inside is wrong. */
static void test_broken_values_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[40];
        uint8_t size;
    } cases[] = {
        {"sub-document of length 0", {13, 0, 0, 0, 3, 'a', 0, 0, 0, 0, 0, 0, 0}, 13},
        {"sub-document of length 4", {12, 0, 0, 0, 3, 'a', 0, 4, 0, 0, 0, 0}, 12},
        {"sub-document ends in 1", {13, 0, 0, 0, 3, 'a', 0, 5, 0, 0, 0, 1, 0}, 13},
        {"sub-document takes the end", {12, 0, 0, 0, 3, 'a', 0, 5, 0, 0, 0, 0}, 12},
        {"string of length 0", {13, 0, 0, 0, 2, 'a', 0, 0, 0, 0, 0, 0, 0}, 13},
        {"string without NUL", {13, 0, 0, 0, 2, 'a', 0, 1, 0, 0, 0, 'x', 0}, 13},
        {"string takes the end", {12, 0, 0, 0, 2, 'a', 0, 1, 0, 0, 0, 0}, 12},
        {"bool 2", {9, 0, 0, 0, 8, 'a', 0, 2, 0}, 9},
        {"bool missing", {8, 0, 0, 0, 8, 'a', 0, 0}, 8},
        {"type 0", {8, 0, 0, 0, 0, 'a', 0, 0}, 8},
        {"type 0x14", {8, 0, 0, 0, 0x14, 'a', 0, 0}, 8},
        {"name takes the end", {7, 0, 0, 0, 10, 'a', 0}, 7},
        {"regex takes the end", {9, 0, 0, 0, 11, 'a', 0, 0, 0}, 9},
        {"binary too long", {14, 0, 0, 0, 5, 'a', 0, 2, 0, 0, 0, 0, 1, 0}, 14},
        {"old binary lies", {17, 0, 0, 0, 5, 'a', 0, 4, 0, 0, 0, 2, 1, 0, 0, 0, 0}, 17},
        {"pointer past the end", {13, 0, 0, 0, 12, 'a', 0, 2, 0, 0, 0, 0, 0}, 13},
        {"scope's length lies",
         {23, 0, 0, 0, 15, 'a', 0, 15, 0, 0, 0, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0},
         23},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice copy = exact_copy(cases[i].bytes, cases[i].size);
        struct slice fields;
        struct error error = {0};
        assert_true(bson_fields_open(copy, &fields));
        if (bson_check(copy, &error) != STATUS_INVALID) {
            fail_msg("accepted: %s", cases[i].what);
        }
        assert_non_null(strstr(error.message, "byte 4"));
        exact_free(copy);
    }
}

/* Invalid UTF-8 is stored by servers and must survive as an image. */
static void test_text_that_is_not_utf8_is_kept(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {14, 0, 0, 0, 2, 'a', 0, 2, 0, 0, 0, 0xff, 0, 0};
    assert_int_equal(bson_check(slice_make(bytes, sizeof(bytes)), NULL), STATUS_OK);
}

/* What the check accepts, libbson accepts; it is the stricter of the two. */
static void test_random_changes(void **state)
{
    (void)state;
    bson_t *document = every_type();
    uint32_t random = 31337;
    int accepted = 0;
    for (int round = 0; round < 60000; round++) {
        struct slice copy = exact_copy(bson_get_data(document), document->len);
        uint8_t *bytes = malloc(document->len);
        assert_non_null(bytes);
        memcpy(bytes, copy.data, copy.size);
        bytes_mutate(bytes + 4, document->len - 5, &random);
        if (bson_check(slice_make(bytes, document->len), NULL) == STATUS_OK) {
            bson_t view;
            bson_iter_t iter;
            accepted++;
            assert_true(bson_init_static(&view, bytes, document->len));
            assert_true(bson_iter_init(&iter, &view));
            while (bson_iter_next(&iter)) {
            }
            assert_int_equal(iter.err_off, 0);
        }
        free(bytes);
        exact_free(copy);
    }
    assert_true(accepted > 100);
    bson_destroy(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_is_walked),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_numbers_and_texts),
        cmocka_unit_test(test_document_find),
        cmocka_unit_test(test_nesting_up_to_the_limit),
        cmocka_unit_test(test_scopes_count_as_levels),
        cmocka_unit_test(test_broken_values_are_refused),
        cmocka_unit_test(test_text_that_is_not_utf8_is_kept),
        cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
