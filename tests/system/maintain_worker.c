/*
 * A client of test_maintain.py: units through the running proxy, as holdfast's own commands make
 * them.
 *
 *   maintain_worker URI COLLECTION COUNT
 *
 * Runs COUNT units, each of which adds 1 to {_id: "counter"} and inserts its number, and prints
 * "ack N ATTEMPTS" after each; then a unit that fails after its first write. Exit code 0: none was
 * lost.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "maintain/maintain.h"

#define PATIENCE_MS 60000

struct work {
    const char *collection;
    int64_t number;
    bool fail;
};

static enum status run(struct maintain_unit *unit, bson_t *command, struct error *ret_error)
{
    bson_t reply;
    enum status status = maintain_unit_command(unit, "test", command, &reply, ret_error);
    if (status == STATUS_OK) {
        bson_destroy(&reply);
    }
    bson_destroy(command);
    return status;
}

static enum status count_and_note(struct maintain_unit *unit, unsigned attempt, void *context,
                                  struct error *ret_error)
{
    const struct work *work = context;
    (void)attempt;
    enum status status = run(unit,
                             BCON_NEW("update", BCON_UTF8(work->collection), "updates", "[", "{",
                                      "q", "{", "_id", "counter", "}", "u", "{", "$inc", "{", "n",
                                      BCON_INT64(1), "}", "}", "upsert", BCON_BOOL(true), "}", "]"),
                             ret_error);
    if (status == STATUS_OK && work->fail) {
        return error_set(ret_error, STATUS_INVALID, "as asked for");
    }
    if (status == STATUS_OK) {
        status = run(unit,
                     BCON_NEW("insert", BCON_UTF8(work->collection), "documents", "[", "{", "_id",
                              BCON_INT64(work->number), "}", "]"),
                     ret_error);
    }
    return status;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 4) {
        fprintf(stderr, "usage: %s URI COLLECTION COUNT\n", arguments[0]);
        return 2;
    }
    errno = 0;
    int64_t count = strtoll(arguments[3], NULL, 10);
    struct maintain_options options = {
        .uri = arguments[1], .application = "maintain_worker", .patience_ms = PATIENCE_MS};
    struct maintain *maintain = NULL;
    struct error error = {0};
    enum status status = maintain_open(&options, &maintain, &error);
    struct work work = {.collection = arguments[2]};
    for (; status == STATUS_OK && work.number < count; work.number++) {
        struct maintain_result result;
        status = maintain_run(maintain, count_and_note, &work, &result, &error);
        if (status == STATUS_OK) {
            printf("ack %lld %u\n", (long long)work.number, result.attempts);
            fflush(stdout);
        }
    }
    if (status == STATUS_OK) {
        work.fail = true;
        status = maintain_run(maintain, count_and_note, &work, NULL, &error) == STATUS_INVALID
                     ? STATUS_OK
                     : error_set(&error, STATUS_CORRUPT, "the body's error was not handed on");
    }
    if (status != STATUS_OK) {
        printf("failed: %s\n", error.message);
    }
    maintain_close(maintain);
    return status == STATUS_OK ? 0 : 1;
}
