/*
 * Reaches: record_get_begin, record_get_write, record_get_known, record_get_reply,
 * record_get_reason, record_is_kept, record_get_conflict: what a damaged journal may hold.
 */

#include "fuzz/fuzz.h"

#include <string.h>

#include "recover/record.h"

/* The payloads of BEGIN, WRITE, COMMIT, ABORT and CONFLICT. */
static const uint8_t begin[] = {
    'r', 0,   0,   0,   2,   'b', 'o', 'u', 'n', 'd', 'a', 'r', 'y', 0,   7,   0,   0,   0,   'd',
    'r', 'i', 'v', 'e', 'r', 0,   2,   'u', 's', 'e', 'r', 0,   4,   0,   0,   0,   'a', 46,  'b',
    0,   5,   'l', 's', 'i', 'd', 0,   16,  0,   0,   0,   4,   0,   0,   0,   0,   0,   0,   0,
    0,   0,   0,   0,   0,   0,   0,   0,   0,   18,  't', 'x', 'n', 'N', 'u', 'm', 'b', 'e', 'r',
    0,   3,   0,   0,   0,   0,   0,   0,   0,   2,   'c', 'l', 'i', 'e', 'n', 't', 0,   2,   0,
    0,   0,   'c', 0,   2,   'a', 'p', 'p', 'N', 'a', 'm', 'e', 0,   1,   0,   0,   0,   0,   0};
static const uint8_t written[] = {
    192, 0,   0,   0,   16,  'n', 0,   1,   0,   0,   0,   2,   'o', 'p', 0,   7,   0,   0,
    0,   'u', 'p', 'd', 'a', 't', 'e', 0,   2,   'n', 's', 0,   4,   0,   0,   0,   'd', 46,
    'c', 0,   3,   'k', 'e', 'y', 0,   14,  0,   0,   0,   16,  95,  'i', 'd', 0,   1,   0,
    0,   0,   0,   3,   'b', 'e', 'f', 'o', 'r', 'e', 0,   14,  0,   0,   0,   16,  95,  'i',
    'd', 0,   1,   0,   0,   0,   0,   3,   'c', 'o', 'm', 'm', 'a', 'n', 'd', 0,   26,  0,
    0,   0,   2,   'f', 'i', 'n', 'd', 'A', 'n', 'd', 'M', 'o', 'd', 'i', 'f', 'y', 0,   2,
    0,   0,   0,   'c', 0,   0,   2,   'c', 'o', 'n', 'n', 'e', 'c', 't', 'i', 'o', 'n', 0,
    2,   0,   0,   0,   'x', 0,   4,   'k', 'n', 'o', 'w', 'n', 0,   '4', 0,   0,   0,   3,
    '0', 0,   19,  0,   0,   0,   16,  'n', 0,   0,   0,   0,   0,   10,  'a', 'f', 't', 'e',
    'r', 0,   0,   3,   '1', 0,   22,  0,   0,   0,   16,  'n', 0,   0,   0,   0,   0,   8,
    'r', 'e', 'f', 'u', 's', 'e', 'd', 0,   1,   0,   0,   0};
static const uint8_t commit[] = {
    'H', 0,   0,   0,   4,  'k', 'n', 'o', 'w', 'n', 0,   41, 0,   0,   0,   3,   '0', 0,
    33,  0,   0,   0,   16, 'n', 0,   0,   0,   0,   0,   3,  'a', 'f', 't', 'e', 'r', 0,
    14,  0,   0,   0,   16, 95,  'i', 'd', 0,   1,   0,   0,  0,   0,   0,   0,   3,   'r',
    'e', 'p', 'l', 'y', 0,  12,  0,   0,   0,   16,  'n', 0,  1,   0,   0,   0,   0,   0};
static const uint8_t aborted[] = {28, 0, 0,   0,   2,   'r', 'e', 'a', 's', 'o', 'n', 0, 4, 0,
                                  0,  0, 'w', 'h', 'y', 0,   8,   'k', 'e', 'p', 't', 0, 1, 0};
static const uint8_t conflict[] = {
    'w', 0,   0,   0,  2,   'r', 'e', 'a', 's', 'o', 'n', 0,   4,   0,   0,   0,   'w',
    'h', 'y', 0,   4,  'd', 'o', 'c', 'u', 'm', 'e', 'n', 't', 's', 0,   'W', 0,   0,
    0,   3,   '0', 0,  'O', 0,   0,   0,   16,  'n', 0,   0,   0,   0,   0,   2,   'n',
    's', 0,   4,   0,  0,   0,   'd', 46,  'c', 0,   3,   'k', 'e', 'y', 0,   14,  0,
    0,   0,   16,  95, 'i', 'd', 0,   1,   0,   0,   0,   0,   10,  'b', 'e', 'f', 'o',
    'r', 'e', 0,   3,  'a', 'f', 't', 'e', 'r', 0,   14,  0,   0,   0,   16,  95,  'i',
    'd', 0,   1,   0,  0,   0,   0,   10,  'f', 'o', 'u', 'n', 'd', 0,   0,   0,   0};

const bool fuzz_size_comes_first = true;

const struct fuzz_seed fuzz_seeds[] = {
    {begin, sizeof(begin)},     {written, sizeof(written)},   {commit, sizeof(commit)},
    {aborted, sizeof(aborted)}, {conflict, sizeof(conflict)}, {NULL, 0},
};

static bool check(enum status status, const struct error *error)
{
    FUZZ_REQUIRE(status == STATUS_OK || status == STATUS_NOT_FOUND ||
                 (status == STATUS_CORRUPT && error->message[0] != '\0'));
    return status == STATUS_OK;
}

static void require_text_inside(struct slice input, const char *text)
{
    FUZZ_REQUIRE(text != NULL);
    FUZZ_REQUIRE(text[0] == '\0' || fuzz_inside(input, slice_make(text, strlen(text) + 1)));
}

static bool try_begin(struct slice input)
{
    struct record_begin record;
    struct error error = {0};
    if (!check(record_get_begin(input, &record, &error), &error)) {
        return false;
    }
    require_text_inside(input, record.boundary);
    require_text_inside(input, record.user);
    FUZZ_REQUIRE(fuzz_inside(input, record.session_id));
    return true;
}

static bool try_write(struct slice input)
{
    struct record_write record;
    struct error error = {0};
    if (!check(record_get_write(input, &record, &error), &error)) {
        return false;
    }
    require_text_inside(input, record.namespace);
    FUZZ_REQUIRE(fuzz_inside(input, record.key) && fuzz_inside(input, record.before.document));
    FUZZ_REQUIRE(fuzz_inside(input, record.after.document) && fuzz_inside(input, record.command));
    FUZZ_REQUIRE(record.before.presence != IMAGE_UNKNOWN && record.number >= 0);
    return true;
}

static bool try_lists(struct slice input)
{
    struct record_known known;
    struct record_conflict_document document;
    struct slice reply;
    const char *reason;
    struct error error = {0};
    size_t count = 0;
    while (check(record_get_known(input, count, &known, &error), &error)) {
        FUZZ_REQUIRE(fuzz_inside(input, known.after.document) && known.number >= 0);
        count++;
    }
    for (size_t i = 0; check(record_get_conflict(input, i, &document, &error), &error); i++) {
        require_text_inside(input, document.namespace);
        FUZZ_REQUIRE(fuzz_inside(input, document.found.document));
        count++;
    }
    if (check(record_get_reply(input, &reply, &error), &error)) {
        FUZZ_REQUIRE(fuzz_inside(input, reply));
        count++;
    }
    if (check(record_get_reason(input, &reason, &error), &error)) {
        require_text_inside(input, reason);
        count++;
    }
    (void)record_is_kept(input);
    return count > 0;
}

bool fuzz_one(struct slice input)
{
    bool accepted = try_begin(input);
    accepted = try_write(input) || accepted;
    return try_lists(input) || accepted;
}
