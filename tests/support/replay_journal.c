/*
 * Makes a journal to be replayed. Not a test: for bench/compare_replay.
 *
 *     replay_journal DIRECTORY UNITS inserts|updates DOCUMENTS
 *
 * Each unit writes one document of about 200 bytes, { _id: i, n: Int32, v: "xxx..." }, in the
 * collection replay.documents: unit i inserts document i with n 0, or adds 1 to `n` of document
 * i modulo DOCUMENTS.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast/wal.h"
#include "recover/record.h"

enum { FILLING_BYTES = 160, GROUP_UNITS = 256, RECORDS = 3 };

struct unit {
    bson_t write;
    struct wal_append records[RECORDS];
};

static void check(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fprintf(stderr, "replay_journal: %s\n", error->message);
        exit(1);
    }
}

static struct slice slice_of(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

static void put_document(bson_t *document, int64_t id, int32_t n)
{
    static char filling[FILLING_BYTES];
    memset(filling, 'x', sizeof filling - 1);
    bson_init(document);
    BSON_APPEND_INT64(document, "_id", id);
    BSON_APPEND_INT32(document, "n", n);
    BSON_APPEND_UTF8(document, "v", filling);
}

static void put_write(bson_t *payload, uint64_t number, uint64_t documents)
{
    bool inserts = documents == 0;
    int64_t id = (int64_t)(inserts ? number : number % documents);
    int32_t n = inserts ? -1 : (int32_t)(number / documents);
    bson_t key = BSON_INITIALIZER;
    bson_t before;
    bson_t after;
    BSON_APPEND_INT64(&key, "_id", id);
    put_document(&before, id, n);
    put_document(&after, id, n + 1);
    struct record_write write = {
        .operation = inserts ? RECORD_INSERT : RECORD_UPDATE,
        .namespace = "replay.documents",
        .key = slice_of(&key),
        .before = {.presence = inserts ? IMAGE_ABSENT : IMAGE_PRESENT,
                   .document = slice_of(&before)},
        .after = {.presence = IMAGE_PRESENT, .document = slice_of(&after)},
        .connection = "10.0.0.1:6",
    };
    bson_init(payload);
    record_put_write(payload, &write, NULL, 0);
    bson_destroy(&key);
    bson_destroy(&before);
    bson_destroy(&after);
}

static void make(struct wal *wal, uint64_t units, uint64_t documents)
{
    static struct unit group[GROUP_UNITS];
    struct record_begin from = {
        .boundary = "driver", .user = "admin.alice", .client = "10.0.0.1:5", .application = "shop"};
    bson_t begin = BSON_INITIALIZER;
    bson_t commit = BSON_INITIALIZER;
    record_put_begin(&begin, &from);
    record_put_commit(&commit, NULL, 0, (struct slice){0});
    for (uint64_t done = 0; done < units;) {
        struct error error = {0};
        int count = 0;
        for (; count < GROUP_UNITS && done < units; count++, done++) {
            struct unit *unit = &group[count];
            uint64_t number = wal_unit_next(wal);
            put_write(&unit->write, done, documents);
            unit->records[2] = (struct wal_append){
                .kind = WAL_KIND_COMMIT, .unit = number, .payload = slice_of(&commit)};
            unit->records[1] = (struct wal_append){.kind = WAL_KIND_WRITE,
                                                   .unit = number,
                                                   .payload = slice_of(&unit->write),
                                                   .next = &unit->records[2]};
            unit->records[0] = (struct wal_append){.kind = WAL_KIND_BEGIN,
                                                   .unit = number,
                                                   .payload = slice_of(&begin),
                                                   .next = &unit->records[1]};
            if (count > 0) {
                group[count - 1].records[2].next = &unit->records[0];
            }
        }
        check(wal_append_wait(wal, &group[0].records[0], &error), &error);
        for (int i = 0; i < count; i++) {
            bson_destroy(&group[i].write);
        }
    }
    bson_destroy(&begin);
    bson_destroy(&commit);
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fputs("usage: replay_journal DIRECTORY UNITS inserts|updates DOCUMENTS\n", stderr);
        return 2;
    }
    struct wal *wal = NULL;
    struct error error = {0};
    struct wal_options options = {.directory = arguments[1],
                                  .quota_bytes = UINT64_C(64) << 30,
                                  .durability = WAL_DURABILITY_PROCESS,
                                  .owner = "replay_journal"};
    check(wal_open(&options, &wal, &error), &error);
    make(wal, strtoull(arguments[2], NULL, 10),
         strcmp(arguments[3], "inserts") == 0 ? 0 : strtoull(arguments[4], NULL, 10));
    wal_close(wal, true);
    return 0;
}
