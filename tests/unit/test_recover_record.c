/*
 * Payloads of records: what is written is read; what is damaged, cut off or of another schema is
 * STATUS_CORRUPT and nothing else. No server, no journal.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "recover/record.h"

static bson_t *doc(const char *json)
{
    bson_t *document = bson_new_from_json((const uint8_t *)json, -1, NULL);
    assert_non_null(document);
    return document;
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static struct image present(const bson_t *document)
{
    return (struct image){.presence = IMAGE_PRESENT, .document = slice_of(document)};
}

static const struct image absent = {.presence = IMAGE_ABSENT};

static void begin_comes_back_as_it_was(void **state)
{
    (void)state;
    static const uint8_t session[16] = {1, 2, 3};
    struct record_begin begin = {.boundary = "driver",
                                 .user = "admin.alice",
                                 .session_id = slice_make(session, sizeof(session)),
                                 .transaction_number = INT64_C(1) << 40,
                                 .client = "127.0.0.1:5",
                                 .application = "shop"};
    struct record_begin read = {0};
    bson_t payload = BSON_INITIALIZER;
    record_put_begin(&payload, &begin);
    assert_int_equal(record_get_begin(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_string_equal(read.boundary, "driver");
    assert_string_equal(read.user, "admin.alice");
    assert_string_equal(read.client, "127.0.0.1:5");
    assert_string_equal(read.application, "shop");
    assert_true(slice_equal(read.session_id, begin.session_id));
    assert_true(read.transaction_number == begin.transaction_number);
    bson_destroy(&payload);
}

static void begin_without_a_session(void **state)
{
    (void)state;
    struct record_begin begin = {.boundary = "single"};
    struct record_begin read = {0};
    bson_t payload = BSON_INITIALIZER;
    record_put_begin(&payload, &begin);
    assert_int_equal(record_get_begin(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_string_equal(read.user, "");
    assert_int_equal(read.session_id.size, 0);
    bson_destroy(&payload);
}

/* A program that knows of no `transaction` passes over it; one that does wants it whole. */
static void begin_of_a_transaction_of_the_server(void **state)
{
    (void)state;
    bson_t *lsid = doc("{\"id\": {\"$uuid\": \"00010203-0405-4607-8809-0a0b0c0d0e0f\"}}");
    struct record_begin begin = {
        .boundary = "http", .transaction_lsid = slice_of(lsid), .transaction = 1};
    struct record_begin read = {0};
    bson_t payload = BSON_INITIALIZER;
    record_put_begin(&payload, &begin);
    assert_int_equal(record_get_begin(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_int_equal(read.session_id.size, 0);
    assert_true(slice_equal(read.transaction_lsid, begin.transaction_lsid));
    assert_true(read.transaction == 1);
    bson_destroy(&payload);
    bson_destroy(lsid);
}

static void begin_of_a_transaction_half_told(void **state)
{
    (void)state;
    static const char *const transactions[] = {
        "1",
        "{}",
        "{\"lsid\": {}}",
        "{\"lsid\": {}, \"txnNumber\": 1.5}",
        "{\"txnNumber\": {\"$numberLong\": \"1\"}}",
    };
    for (size_t i = 0; i < sizeof transactions / sizeof transactions[0]; i++) {
        char text[200];
        struct record_begin read = {0};
        (void)snprintf(text, sizeof text,
                       "{\"boundary\": \"http\", \"user\": \"\", \"client\": \"\", "
                       "\"appName\": \"\", \"transaction\": %s}",
                       transactions[i]);
        bson_t *payload = doc(text);
        assert_int_equal(record_get_begin(slice_of(payload), &read, NULL), STATUS_CORRUPT);
        bson_destroy(payload);
    }
}

static void put_update(bson_t *payload)
{
    bson_t *key = doc("{\"_id\": 1}");
    bson_t *before = doc("{\"_id\": 1, \"a\": {\"$numberDouble\": \"1.0\"}, \"$x\": {\"y.z\": 1}}");
    bson_t *command = doc("{\"findAndModify\": \"c\", \"query\": {\"_id\": 1}}");
    bson_t *after = doc("{\"_id\": 0}");
    struct record_write write = {.number = 3,
                                 .operation = RECORD_UPDATE,
                                 .namespace = "db.c.d",
                                 .key = slice_of(key),
                                 .before = present(before),
                                 .command = slice_of(command),
                                 .connection = "127.0.0.1:6"};
    struct record_known known[] = {{.number = 0, .after = present(after)},
                                   {.number = 1, .after = absent},
                                   {.number = 2, .refused = true}};
    record_put_write(payload, &write, known, 3);
    bson_destroy(key);
    bson_destroy(before);
    bson_destroy(command);
    bson_destroy(after);
}

static void a_write_comes_back_byte_for_byte(void **state)
{
    (void)state;
    struct record_write read = {0};
    struct record_known known = {0};
    bson_t payload = BSON_INITIALIZER;
    bson_t *before = doc("{\"_id\": 1, \"a\": {\"$numberDouble\": \"1.0\"}, \"$x\": {\"y.z\": 1}}");
    put_update(&payload);
    assert_int_equal(record_get_write(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_int_equal(read.number, 3);
    assert_int_equal(read.operation, RECORD_UPDATE);
    assert_string_equal(read.namespace, "db.c.d");
    assert_true(image_equal(read.before, present(before)));
    assert_int_equal(read.after.presence, IMAGE_UNKNOWN);
    assert_true(read.command.size > 5);
    assert_string_equal(read.connection, "127.0.0.1:6");
    assert_int_equal(record_get_known(slice_of(&payload), 0, &known, NULL), STATUS_OK);
    assert_int_equal(known.number, 0);
    assert_int_equal(known.after.presence, IMAGE_PRESENT);
    assert_int_equal(record_get_known(slice_of(&payload), 1, &known, NULL), STATUS_OK);
    assert_int_equal(known.after.presence, IMAGE_ABSENT);
    assert_false(known.refused);
    assert_int_equal(record_get_known(slice_of(&payload), 2, &known, NULL), STATUS_OK);
    assert_true(known.refused);
    assert_int_equal(known.after.presence, IMAGE_UNKNOWN);
    assert_int_equal(record_get_known(slice_of(&payload), 3, &known, NULL), STATUS_NOT_FOUND);
    bson_destroy(before);
    bson_destroy(&payload);
}

/* A retryable command's answer is in its COMMIT; other commits keep none. */
static void a_commit_keeps_a_reply(void **state)
{
    (void)state;
    bson_t with = BSON_INITIALIZER;
    bson_t without = BSON_INITIALIZER;
    bson_t *reply = doc("{\"n\": 1, \"ok\": 1}");
    struct slice read = {0};
    record_put_commit(&with, NULL, 0, slice_of(reply));
    record_put_commit(&without, NULL, 0, (struct slice){0});
    assert_int_equal(record_get_reply(slice_of(&with), &read, NULL), STATUS_OK);
    assert_true(slice_equal(read, slice_of(reply)));
    assert_int_equal(record_get_reply(slice_of(&without), &read, NULL), STATUS_NOT_FOUND);
    bson_destroy(reply);
    bson_destroy(&with);
    bson_destroy(&without);
}

static void a_commit_to_be_asked_for_comes_back(void **state)
{
    (void)state;
    static const uint8_t process[12] = {7};
    bson_t *lsid = doc("{\"id\": 5, \"uid\": 6}");
    bson_t *token = doc("{\"shardId\": \"a\"}");
    bson_t *api = doc("{\"apiVersion\": \"1\"}");
    bson_t *commands = doc("{\"0\": {\"insert\": \"c\"}}");
    bson_t *reply = doc("{\"answer\": 1}");
    struct record_committing committing = {.lsid = slice_of(lsid),
                                           .transaction_number = 9,
                                           .recovery_token = slice_of(token),
                                           .api = slice_of(api),
                                           .process = process,
                                           .commands = slice_of(commands),
                                           .left = 3,
                                           .reply = slice_of(reply)};
    struct record_committing read = {0};
    bson_t payload = BSON_INITIALIZER;
    record_put_committing(&payload, &committing);
    assert_int_equal(record_get_committing(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_true(slice_equal(read.lsid, committing.lsid));
    assert_true(slice_equal(read.recovery_token, committing.recovery_token));
    assert_true(slice_equal(read.api, committing.api));
    assert_true(slice_equal(read.commands, committing.commands));
    assert_true(slice_equal(read.reply, committing.reply));
    assert_memory_equal(read.process, process, sizeof(process));
    assert_true(read.transaction_number == 9 && read.left == 3);
    bson_reinit(&payload);
    committing = (struct record_committing){.lsid = slice_of(lsid)};
    record_put_committing(&payload, &committing);
    assert_int_equal(record_get_committing(slice_of(&payload), &read, NULL), STATUS_OK);
    assert_true(read.process == NULL && read.recovery_token.size == 0 && read.left == 0);
    assert_int_equal(read.reply.size, 0);
    assert_int_equal(read.api.size, 0); /* as of a journal of an older program */
    bson_destroy(api);
    bson_reinit(&payload);
    assert_int_equal(record_get_committing(slice_of(&payload), &read, NULL), STATUS_CORRUPT);
    BSON_APPEND_DOCUMENT(&payload, "lsid", lsid);
    assert_int_equal(record_get_committing(slice_of(&payload), &read, NULL), STATUS_CORRUPT);
    bson_destroy(&payload);
    bson_destroy(lsid);
    bson_destroy(token);
    bson_destroy(commands);
    bson_destroy(reply);
}

static void a_conflict_comes_back_with_its_images(void **state)
{
    (void)state;
    bson_t *key = doc("{\"_id\": 1}");
    bson_t *found = doc("{\"_id\": 1, \"a\": 3}");
    struct record_conflict_document document = {.number = 4,
                                                .namespace = "db.c",
                                                .key = slice_of(key),
                                                .before = absent,
                                                .after = {.presence = IMAGE_UNKNOWN},
                                                .found = present(found)};
    struct record_conflict_document read = {0};
    const char *reason = NULL;
    bson_t payload = BSON_INITIALIZER;
    record_put_conflict(&payload, "because", &document, 1);
    assert_int_equal(record_get_reason(slice_of(&payload), &reason, NULL), STATUS_OK);
    assert_string_equal(reason, "because");
    assert_int_equal(record_get_conflict(slice_of(&payload), 0, &read, NULL), STATUS_OK);
    assert_int_equal(read.number, 4);
    assert_int_equal(read.before.presence, IMAGE_ABSENT);
    assert_int_equal(read.after.presence, IMAGE_UNKNOWN);
    assert_true(image_equal(read.found, present(found)));
    assert_int_equal(record_get_conflict(slice_of(&payload), 1, &read, NULL), STATUS_NOT_FOUND);
    bson_destroy(&payload);
    bson_destroy(key);
    bson_destroy(found);
}

/* What a full journal takes: short, whatever the reason, and still UTF-8. */
static void a_short_conflict_keeps_the_reason(void **state)
{
    char reason[3001] = "";
    (void)state;
    for (size_t size = 0; size < sizeof(reason) - 3; size += 2) {
        bson_t conflict = BSON_INITIALIZER;
        bson_t shortened = BSON_INITIALIZER;
        const char *kept = NULL;
        struct error error;
        record_put_conflict(&conflict, reason, NULL, 0);
        assert_int_equal(
            record_put_conflict_short(&shortened,
                                      slice_make(bson_get_data(&conflict), conflict.len), &error),
            STATUS_OK);
        assert_true(shortened.len <= WAL_SHORT_PAYLOAD_BYTES);
        assert_true(bson_validate(&shortened, BSON_VALIDATE_UTF8, NULL));
        assert_int_equal(
            record_get_reason(slice_make(bson_get_data(&shortened), shortened.len), &kept, &error),
            STATUS_OK);
        assert_memory_equal(kept, reason, size < 200 ? size : 200);
        assert_non_null(strstr(kept, "the journal is full"));
        bson_destroy(&conflict);
        bson_destroy(&shortened);
        memcpy(reason + size, size % 3 == 0 ? "ab" : "\xC3\xA9", 3);
    }
}

static void other_schemas_are_corrupt(void **state)
{
    static const char *const writes[] = {
        "{}",
        "{\"n\": -1}",
        "{\"n\": 0, \"op\": \"upsert\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": null, "
        "\"after\": {}, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"insert\", \"ns\": \"dc\", \"key\": {\"_id\": 1}, \"before\": null, "
        "\"after\": {}, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"insert\", \"ns\": \"d.c\", \"key\": {\"x\": 1}, \"before\": null, "
        "\"after\": {}, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"insert\", \"ns\": \"d.c\", \"key\": {\"_id\": 1, \"x\": 1}, "
        "\"before\": null, \"after\": {}, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"insert\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": {}, "
        "\"after\": {}, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"insert\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": null, "
        "\"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"delete\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": null, "
        "\"after\": null, \"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"update\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": {}, "
        "\"connection\": \"\"}",
        "{\"n\": 0, \"op\": \"delete\", \"ns\": \"d.c\", \"key\": {\"_id\": 1}, \"before\": [], "
        "\"after\": null, \"connection\": \"\"}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
        struct record_write read = {.number = 77};
        struct error error = {0};
        bson_t *payload = doc(writes[i]);
        assert_int_equal(record_get_write(slice_of(payload), &read, &error), STATUS_CORRUPT);
        assert_int_equal(read.number, 77);
        assert_true(error.message[0] != '\0');
        bson_destroy(payload);
    }
}

/* Reads everything that can be read of a payload. */
static void read_all(struct slice payload)
{
    struct record_begin begin;
    struct record_write write;
    struct record_known known;
    struct record_conflict_document document;
    struct error error;
    const char *reason;
    enum status status = record_get_begin(payload, &begin, &error);
    assert_true(status == STATUS_OK || status == STATUS_CORRUPT);
    status = record_get_write(payload, &write, &error);
    assert_true(status == STATUS_OK || status == STATUS_CORRUPT);
    status = record_get_reason(payload, &reason, &error);
    assert_true(status == STATUS_OK || status == STATUS_CORRUPT);
    for (size_t i = 0; i < 4; i++) {
        status = record_get_known(payload, i, &known, &error);
        assert_true(status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_NOT_FOUND);
        status = record_get_conflict(payload, i, &document, &error);
        assert_true(status == STATUS_OK || status == STATUS_CORRUPT || status == STATUS_NOT_FOUND);
    }
}

static void truncated_payloads_are_corrupt(void **state)
{
    (void)state;
    bson_t payload = BSON_INITIALIZER;
    put_update(&payload);
    for (uint32_t size = 0; size < payload.len; size++) {
        struct record_write read;
        uint8_t *copy = malloc(size + 1); /* exact, so that a sanitizer sees a read behind it */
        assert_non_null(copy);
        copy = realloc(copy, size == 0 ? 1 : size);
        memcpy(copy, bson_get_data(&payload), size);
        assert_int_equal(record_get_write(slice_make(copy, size), &read, NULL), STATUS_CORRUPT);
        if (size >= 5) {
            slice_store_u32le(copy, size); /* a length that agrees does not help */
            copy[size - 1] = 0;
            read_all(slice_make(copy, size));
        }
        free(copy);
    }
    bson_destroy(&payload);
}

static void mutated_payloads_never_crash(void **state)
{
    (void)state;
    bson_t payload = BSON_INITIALIZER;
    put_update(&payload);
    uint32_t random = 12345;
    uint8_t *copy = malloc(payload.len);
    assert_non_null(copy);
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bson_get_data(&payload), payload.len);
        for (int change = 0; change < 1 + round % 3; change++) {
            random = random * 1664525u + 1013904223u;
            copy[(random >> 8) % payload.len] = (uint8_t)(random >> 24);
        }
        read_all(slice_make(copy, payload.len));
    }
    free(copy);
    bson_destroy(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begin_comes_back_as_it_was),
        cmocka_unit_test(begin_without_a_session),
        cmocka_unit_test(begin_of_a_transaction_of_the_server),
        cmocka_unit_test(begin_of_a_transaction_half_told),
        cmocka_unit_test(a_write_comes_back_byte_for_byte),
        cmocka_unit_test(a_commit_keeps_a_reply),
        cmocka_unit_test(a_commit_to_be_asked_for_comes_back),
        cmocka_unit_test(a_conflict_comes_back_with_its_images),
        cmocka_unit_test(a_short_conflict_keeps_the_reason),
        cmocka_unit_test(other_schemas_are_corrupt),
        cmocka_unit_test(truncated_payloads_are_corrupt),
        cmocka_unit_test(mutated_payloads_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
