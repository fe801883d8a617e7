/*
 * Rolling units back against a real server: every kind of write, chains, strangers, bytes, unique
 * indexes, lost replies, and beginning again.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "recover/undo.h"
#include "server_fixture.h"

#define NS "test.undo"
#define WRITES_MAX 16

/* A unit that is made up in memory, as the rollback of a live unit makes it. */
struct unit {
    struct unit_history history;
    struct history_write writes[WRITES_MAX];
};

/* after: "?" is unknown. */
static void add_write(struct unit *unit, enum record_operation operation, const char *namespace,
                      const char *key, const char *before, const char *after, const char *command)
{
    struct history_write *write = &unit->writes[unit->history.write_count];
    write->operation = operation;
    write->namespace = namespace;
    write->key = key_of(key);
    write->before = history_image_here(image_of(before));
    if (strcmp(after, "?") != 0) {
        write->after = history_image_here(image_of(after));
    }
    if (command != NULL) {
        write->command = history_image_here(
            (struct image){.presence = IMAGE_PRESENT, .document = key_of(command)});
    }
    unit->history.writes = unit->writes;
    unit->history.write_count++;
    unit->history.unit = 1;
}

static enum undo_result undo(const struct unit *unit, bson_t *conflict)
{
    enum undo_result result = UNDO_CONFLICT;
    struct error error = {0};
    bson_init(conflict);
    if (undo_unit(upstream, &unit->history, &result, conflict, &error) != STATUS_OK) {
        fail_msg("%s: %s", status_name(error.status), error.message);
    }
    return result;
}

static void assert_undone(const struct unit *unit)
{
    bson_t conflict;
    if (undo(unit, &conflict) != UNDO_DONE) {
        fail_msg("conflict: %s", bson_as_relaxed_extended_json(&conflict, NULL));
    }
    bson_destroy(&conflict);
}

static const char *assert_conflict(const struct unit *unit)
{
    static char text[1024];
    bson_t conflict;
    const char *reason = NULL;
    assert_int_equal(undo(unit, &conflict), UNDO_CONFLICT);
    struct slice payload = slice_make(bson_get_data(&conflict), conflict.len);
    assert_int_equal(record_get_reason(payload, &reason, NULL), STATUS_OK);
    snprintf(text, sizeof(text), "%s", reason);
    bson_destroy(&conflict);
    return text;
}

static void put(const char *key, const char *json)
{
    stranger_writes(upstream, NS, key_of(key), json);
}

static void assert_at(const char *key, const char *json)
{
    struct image now = current(upstream, NS, key_of(key));
    struct image wanted = image_of(json);
    if (!image_equal(now, wanted)) {
        fail_msg("%s is not %s", key, json);
    }
    image_free(&now);
    image_free(&wanted);
}

static void every_kind_of_write_is_undone(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 1}", "{\"_id\": 1, \"new\": true}");
    put("{\"_id\": 2}", "{\"_id\": 2, \"a\": 2}");
    put("{\"_id\": 3}", "");
    add_write(&unit, RECORD_INSERT, NS, "{\"_id\": 1}", "", "{\"_id\": 1, \"new\": true}", NULL);
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}",
              "{\"_id\": 2, \"a\": 2}", NULL);
    add_write(&unit, RECORD_DELETE, NS, "{\"_id\": 3}", "{\"_id\": 3, \"old\": 1}", "", NULL);
    assert_undone(&unit);
    assert_at("{\"_id\": 1}", "");
    assert_at("{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}");
    assert_at("{\"_id\": 3}", "{\"_id\": 3, \"old\": 1}");
    assert_undone(&unit); /* again: nothing left to do */
    assert_at("{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}");
}

static void a_write_that_never_left_needs_nothing(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 1}", "");
    put("{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}");
    add_write(&unit, RECORD_INSERT, NS, "{\"_id\": 1}", "", "{\"_id\": 1}", NULL);
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}", "?",
              "{\"findAndModify\": \"undo\", \"query\": {\"_id\": 2}, \"update\": {\"$inc\": "
              "{\"a\": 1}}}");
    assert_undone(&unit);
    assert_at("{\"_id\": 1}", "");
    assert_at("{\"_id\": 2}", "{\"_id\": 2, \"a\": 1}");
}

static void fill_chain(struct unit *unit)
{
    add_write(unit, RECORD_INSERT, NS, "{\"_id\": 10}", "", "{\"_id\": 10, \"a\": 1}", NULL);
    add_write(unit, RECORD_UPDATE, NS, "{\"_id\": 10}", "{\"_id\": 10, \"a\": 1}", "?",
              "{\"findAndModify\": \"undo\", \"query\": {\"_id\": 10}, \"update\": {\"$inc\": "
              "{\"a\": 1}}}");
    add_write(unit, RECORD_UPDATE, NS, "{\"_id\": 10}", "{\"_id\": 10, \"a\": 2}",
              "{\"_id\": 10, \"a\": 3}", NULL);
    add_write(unit, RECORD_DELETE, NS, "{\"_id\": 10}", "{\"_id\": 10, \"a\": 3}", "", NULL);
    add_write(unit, RECORD_INSERT, NS, "{\"_id\": 10}", "", "{\"_id\": 10, \"b\": 1}", NULL);
}

/* Wherever the chain was cut off, the document goes back to where it was before the unit. */
static void a_chain_is_undone_from_every_place(void **state)
{
    static const char *const places[] = {"", "{\"_id\": 10, \"a\": 1}", "{\"_id\": 10, \"a\": 2}",
                                         "{\"_id\": 10, \"a\": 3}", "{\"_id\": 10, \"b\": 1}"};
    (void)state;
    need_server();
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct unit unit = {0};
        fill_chain(&unit);
        put("{\"_id\": 10}", places[i]);
        assert_undone(&unit);
        assert_at("{\"_id\": 10}", "");
    }
}

/* The server knows what the journal does not: what the command made of the before-image. */
static void a_lost_reply_is_evaluated(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 20}", "{\"_id\": 20, \"a\": 6, \"l\": [1, 2]}");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 20}", "{\"_id\": 20, \"a\": 1, \"l\": [1]}", "?",
              "{\"findAndModify\": \"undo\", \"query\": {\"_id\": 20}, \"new\": true, \"update\": "
              "{\"$inc\": {\"a\": 5}, \"$push\": {\"l\": 2}}}");
    assert_undone(&unit);
    assert_at("{\"_id\": 20}", "{\"_id\": 20, \"a\": 1, \"l\": [1]}");
}

static void a_lost_upsert_is_evaluated(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 21}", "{\"_id\": 21, \"a\": 5}");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 21}", "", "?",
              "{\"findAndModify\": \"undo\", \"query\": {\"_id\": 21}, \"new\": true, \"upsert\": "
              "true, \"update\": {\"$set\": {\"a\": 5}}}");
    assert_undone(&unit);
    assert_at("{\"_id\": 21}", "");
}

static void a_strangers_change_is_a_conflict_and_nothing_is_written(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 30}", "{\"_id\": 30, \"a\": 2}");
    put("{\"_id\": 31}", "{\"_id\": 31, \"theirs\": 1}");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 31}", "{\"_id\": 31, \"a\": 1}",
              "{\"_id\": 31, \"a\": 2}", NULL);
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 30}", "{\"_id\": 30, \"a\": 1}",
              "{\"_id\": 30, \"a\": 2}", NULL);
    assert_non_null(strstr(assert_conflict(&unit), "somebody else"));
    assert_at("{\"_id\": 30}", "{\"_id\": 30, \"a\": 2}"); /* its own write stays as well */
    assert_at("{\"_id\": 31}", "{\"_id\": 31, \"theirs\": 1}");
}

/* Equal in value, not in bytes: 1 against 1.0, and fields in another order. */
static void bytes_decide_not_values(void **state)
{
    static const char *const theirs[] = {
        "{\"_id\": 32, \"a\": {\"$numberDouble\": \"2.0\"}, \"b\": 1}",
        "{\"_id\": 32, \"b\": 1, \"a\": 2}",
        "{\"_id\": 32, \"a\": {\"$numberLong\": \"2\"}, \"b\": 1}",
    };
    (void)state;
    need_server();
    for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++) {
        struct unit unit = {0};
        put("{\"_id\": 32}", theirs[i]);
        add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 32}", "{\"_id\": 32, \"a\": 1, \"b\": 1}",
                  "{\"_id\": 32, \"a\": 2, \"b\": 1}", NULL);
        assert_conflict(&unit);
        assert_at("{\"_id\": 32}", theirs[i]);
    }
}

static void a_document_that_is_gone_is_a_conflict(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 33}", "");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 33}", "{\"_id\": 33, \"a\": 1}",
              "{\"_id\": 33, \"a\": 2}", NULL);
    assert_non_null(strstr(assert_conflict(&unit), "gone"));
    assert_at("{\"_id\": 33}", "");
}

/* A stranger got in between two writes of the unit: going back before it would lose theirs. */
static void a_broken_chain_is_a_conflict(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 34}", "{\"_id\": 34, \"a\": 9, \"c\": 1}");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 34}", "{\"_id\": 34, \"a\": 1}",
              "{\"_id\": 34, \"a\": 2}", NULL);
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 34}", "{\"_id\": 34, \"a\": 9}",
              "{\"_id\": 34, \"a\": 9, \"c\": 1}", NULL);
    assert_non_null(strstr(assert_conflict(&unit), "between"));
    assert_at("{\"_id\": 34}", "{\"_id\": 34, \"a\": 9, \"c\": 1}");
}

static void odd_documents_come_back_byte_for_byte(void **state)
{
    static const char *const befores[] = {
        "{\"_id\": 35, \"ts\": {\"$timestamp\": {\"t\": 0, \"i\": 0}}}",
        "{\"_id\": 35, \"x.y\": {\"$gt\": 1}, \"v\": \"$$ROOT\"}",
    };
    (void)state;
    need_server();
    for (size_t i = 0; i < sizeof(befores) / sizeof(befores[0]); i++) {
        struct unit updated = {0};
        struct unit deleted = {0};
        put("{\"_id\": 35}", "{\"_id\": 35, \"a\": 1}");
        add_write(&updated, RECORD_UPDATE, NS, "{\"_id\": 35}", befores[i],
                  "{\"_id\": 35, \"a\": 1}", NULL);
        assert_undone(&updated);
        assert_at("{\"_id\": 35}", befores[i]);
        put("{\"_id\": 35}", "");
        add_write(&deleted, RECORD_DELETE, NS, "{\"_id\": 35}", befores[i], "", NULL);
        assert_undone(&deleted);
        assert_at("{\"_id\": 35}", befores[i]);
    }
}

/* Two documents swap a unique value by way of a third: only the reversed order passes the index. */
static void unique_values_go_back_in_order(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    run_json(upstream, "test",
             "{\"createIndexes\": \"swapped\", \"indexes\": [{\"key\": {\"u\": 1}, \"name\": "
             "\"u\", \"unique\": true}]}");
    run_json(upstream, "test",
             "{\"insert\": \"swapped\", \"documents\": [{\"_id\": 1, \"u\": 2}, {\"_id\": 2, "
             "\"u\": 1}]}");
    add_write(&unit, RECORD_UPDATE, "test.swapped", "{\"_id\": 1}", "{\"_id\": 1, \"u\": 1}",
              "{\"_id\": 1, \"u\": 0}", NULL);
    add_write(&unit, RECORD_UPDATE, "test.swapped", "{\"_id\": 2}", "{\"_id\": 2, \"u\": 2}",
              "{\"_id\": 2, \"u\": 1}", NULL);
    add_write(&unit, RECORD_UPDATE, "test.swapped", "{\"_id\": 1}", "{\"_id\": 1, \"u\": 0}",
              "{\"_id\": 1, \"u\": 2}", NULL);
    assert_undone(&unit);
    struct image one = current(upstream, "test.swapped", key_of("{\"_id\": 1}"));
    struct image two = current(upstream, "test.swapped", key_of("{\"_id\": 2}"));
    assert_true(image_equal(one, image_of("{\"_id\": 1, \"u\": 1}")));
    assert_true(image_equal(two, image_of("{\"_id\": 2, \"u\": 2}")));
    image_free(&one);
    image_free(&two);
}

/* A stranger has taken the unique value that the unit freed. */
static void a_taken_unique_value_is_a_conflict(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    run_json(upstream, "test",
             "{\"createIndexes\": \"taken\", \"indexes\": [{\"key\": {\"u\": 1}, \"name\": \"u\", "
             "\"unique\": true}]}");
    run_json(upstream, "test",
             "{\"insert\": \"taken\", \"documents\": [{\"_id\": 1, \"u\": 2}, {\"_id\": 9, "
             "\"u\": 1}]}");
    add_write(&unit, RECORD_UPDATE, "test.taken", "{\"_id\": 1}", "{\"_id\": 1, \"u\": 1}",
              "{\"_id\": 1, \"u\": 2}", NULL);
    assert_non_null(strstr(assert_conflict(&unit), "could not be restored"));
}

/* 5 deleted, 5.0 inserted: the server sees one document, and so must the rollback. */
static void one_id_of_two_number_types_is_one_document(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    put("{\"_id\": 40}", "");
    put("{\"_id\": 40}", "{\"_id\": {\"$numberDouble\": \"40.0\"}, \"a\": 2}");
    add_write(&unit, RECORD_DELETE, NS, "{\"_id\": 40}", "{\"_id\": 40, \"a\": 1}", "", NULL);
    add_write(&unit, RECORD_INSERT, NS, "{\"_id\": {\"$numberDouble\": \"40.0\"}}", "",
              "{\"_id\": {\"$numberDouble\": \"40.0\"}, \"a\": 2}", NULL);
    assert_undone(&unit);
    assert_at("{\"_id\": 40}", "{\"_id\": 40, \"a\": 1}");
}

static void looking_changes_nothing(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    struct undo_summary summary = {0};
    enum undo_result result = UNDO_CONFLICT;
    bson_t conflict = BSON_INITIALIZER;
    put("{\"_id\": 50}", "{\"_id\": 50, \"a\": 2}");
    add_write(&unit, RECORD_UPDATE, NS, "{\"_id\": 50}", "{\"_id\": 50, \"a\": 1}",
              "{\"_id\": 50, \"a\": 2}", NULL);
    assert_int_equal(undo_check(upstream, &unit.history, &result, &conflict, &summary, NULL),
                     STATUS_OK);
    assert_int_equal(result, UNDO_DONE);
    assert_int_equal(summary.documents, 1);
    assert_int_equal(summary.restorable, 1);
    assert_at("{\"_id\": 50}", "{\"_id\": 50, \"a\": 2}");
}

static void a_unit_without_writes_is_undone(void **state)
{
    (void)state;
    need_server();
    struct unit unit = {0};
    unit.history.writes = unit.writes;
    assert_undone(&unit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_write_is_undone),
        cmocka_unit_test(a_write_that_never_left_needs_nothing),
        cmocka_unit_test(a_chain_is_undone_from_every_place),
        cmocka_unit_test(a_lost_reply_is_evaluated),
        cmocka_unit_test(a_lost_upsert_is_evaluated),
        cmocka_unit_test(a_strangers_change_is_a_conflict_and_nothing_is_written),
        cmocka_unit_test(bytes_decide_not_values),
        cmocka_unit_test(a_document_that_is_gone_is_a_conflict),
        cmocka_unit_test(a_broken_chain_is_a_conflict),
        cmocka_unit_test(odd_documents_come_back_byte_for_byte),
        cmocka_unit_test(unique_values_go_back_in_order),
        cmocka_unit_test(a_taken_unique_value_is_a_conflict),
        cmocka_unit_test(one_id_of_two_number_types_is_one_document),
        cmocka_unit_test(looking_changes_nothing),
        cmocka_unit_test(a_unit_without_writes_is_undone),
    };
    return cmocka_run_group_tests(tests, server_fixture_start, server_fixture_stop);
}
