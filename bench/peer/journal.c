/* See journal.h. */
#include "bench/peer/journal.h"

#include <bson/bson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/peer/peer_private.h"

#define WAIT_MS 20000u
#define SETTLE_MS 50

static bool take_number(const bson_t *document, const char *name, double *ret_number)
{
    bson_iter_t at;
    if (!bson_iter_init_find(&at, document, name)) {
        return false;
    }
    *ret_number = (double)bson_iter_as_int64(&at);
    return true;
}

bool journal_look(const struct targets *targets, const struct target *target,
                  struct journal_state *ret_state)
{
    struct child_words words = {0};
    struct child child = {0};
    struct error error = {0};
    bson_error_t broken;
    char program[512];
    char log[TARGET_PATH_BYTES];
    char line[2048];
    if (target->kind != TARGET_HOLDFASTD ||
        !peer_holdfast_path(targets->options, "holdfast", program) ||
        !peer_path(log, target->directory, "status")) {
        return false;
    }
    (void)unlink(log);
    /* What was written is in the tables soon after the last of it (wal/commit.h). */
    (void)nanosleep(&(struct timespec){.tv_nsec = SETTLE_MS * 1000000L}, NULL);
    child_words_add(&words, "%s", program);
    child_words_add(&words, "status");
    child_words_add(&words, "--wal");
    child_words_add(&words, "%s/wal", target->directory);
    child_words_add(&words, "--json");
    bool told = child_start("holdfast", log, &words, &child, &error) == STATUS_OK &&
                child_wait_for(&child, "{", WAIT_MS, line, sizeof line);
    child_words_free(&words);
    child_end(&child, SIGTERM, WAIT_MS);
    bson_t *document = told ? bson_new_from_json((const uint8_t *)line, -1, &broken) : NULL;
    bool found = document != NULL && take_number(document, "usedBytes", &ret_state->bytes) &&
                 take_number(document, "commits", &ret_state->commits);
    if (document != NULL) {
        bson_destroy(document);
    }
    return found;
}
