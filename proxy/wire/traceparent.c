/*
 * The traceparent of W3C Trace Context, and where tracing libraries put it in a `comment`.
 *
 *   00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
 *   0  3                                36               53    offsets
 *
 * Pure; any thread.
 */
#include "wire/traceparent.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define TEXT_SIZE (TRACEPARENT_TEXT_BYTES - 1u)
#define TRACE_AT 3u
#define PARENT_AT 36u
#define PARENT_BYTES TRACEPARENT_PARENT_BYTES
#define FLAG_SAMPLED 1u
#define FLAGS_AT 53u

bool trace_id_is_none(const struct trace_id *id)
{
    static const struct trace_id none;
    return trace_id_equal(id, &none);
}

bool trace_id_equal(const struct trace_id *left, const struct trace_id *right)
{
    return memcmp(left->bytes, right->bytes, TRACE_ID_BYTES) == 0;
}

/* ------------------------------------------------------------------ the text */

/* A table: the text is random digits, of which no branch could be foretold. */
static int digit_value(uint8_t byte)
{
    static const uint8_t more_by_one[256] = {
        ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
        ['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
        ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    };
    return more_by_one[byte] - 1;
}

/* `count` bytes from hexadecimal at `at`. *ret_zero: all of them are 0. */
static bool parse_bytes(struct slice text, size_t at, size_t count, uint8_t *bytes, bool *ret_zero)
{
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++) {
        int high = digit_value(text.data[at + 2 * i]);
        int low = digit_value(text.data[at + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
        any |= bytes[i];
    }
    *ret_zero = any == 0;
    return true;
}

bool traceparent_parse(struct slice text, struct traceparent *ret_traceparent)
{
    struct traceparent found;
    uint8_t version;
    uint8_t flags;
    bool zero_version;
    bool zero_trace;
    bool zero_parent;
    bool zero_flags;
    if (text.size < TEXT_SIZE || text.data[TRACE_AT - 1] != '-' ||
        text.data[PARENT_AT - 1] != '-' || text.data[FLAGS_AT - 1] != '-') {
        return false;
    }
    if (!parse_bytes(text, 0, 1, &version, &zero_version) ||
        !parse_bytes(text, TRACE_AT, TRACE_ID_BYTES, found.trace.bytes, &zero_trace) ||
        !parse_bytes(text, PARENT_AT, PARENT_BYTES, found.parent, &zero_parent) ||
        !parse_bytes(text, FLAGS_AT, 1, &flags, &zero_flags)) {
        return false;
    }
    bool longer = text.size > TEXT_SIZE;
    if (version == 0xff || zero_trace || zero_parent ||
        (longer && (zero_version || text.data[TEXT_SIZE] != '-'))) {
        return false;
    }
    found.sampled = (flags & FLAG_SAMPLED) != 0;
    *ret_traceparent = found;
    return true;
}

static void write_bytes(char *text, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 0xf];
    }
}

void traceparent_write(const struct traceparent *traceparent, char ret_text[TRACEPARENT_TEXT_BYTES])
{
    memcpy(ret_text, "00-00000000000000000000000000000000-0000000000000000-00",
           TRACEPARENT_TEXT_BYTES);
    write_bytes(ret_text + TRACE_AT, traceparent->trace.bytes, TRACE_ID_BYTES);
    write_bytes(ret_text + PARENT_AT, traceparent->parent, PARENT_BYTES);
    ret_text[FLAGS_AT + 1] = traceparent->sampled ? '1' : '0';
}

void traceparent_make(struct trace_id *ret_id, char ret_text[TRACEPARENT_TEXT_BYTES])
{
    uint8_t random[TRACE_ID_BYTES + PARENT_BYTES];
    ssize_t got;
    do {
        got = getrandom(random, sizeof random, 0); /* up to 256 bytes come whole */
    } while (got < 0 && errno == EINTR);
    assert(got == (ssize_t)sizeof random);
    random[0] |= 1; /* all zeros would be none */
    random[TRACE_ID_BYTES] |= 1;
    struct traceparent made = {.sampled = false};
    memcpy(made.trace.bytes, random, TRACE_ID_BYTES);
    memcpy(made.parent, random + TRACE_ID_BYTES, PARENT_BYTES);
    traceparent_write(&made, ret_text);
    memcpy(ret_id->bytes, random, TRACE_ID_BYTES);
}

/* ------------------------------------------------------------------ comments */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct slice skip_spaces(struct slice text)
{
    struct slice dropped;
    while (text.size > 0 && is_space(text.data[0]) && slice_take(&text, 1, &dropped)) {
    }
    return text;
}

static bool ends_value(uint8_t byte, uint8_t quote)
{
    if (quote != 0) {
        return byte == quote;
    }
    return byte == ',' || byte == ';' || byte == '*' || is_space(byte);
}

static int hex_value(uint8_t byte)
{
    return digit_value(byte >= 'A' && byte <= 'F' ? (uint8_t)(byte | 0x20) : byte);
}

/* The value at the front of `text`, decoded; of one that is too long, its beginning. */
static struct slice take_value(struct slice text, uint8_t *memory, size_t size)
{
    size_t used = 0;
    struct slice byte;
    uint8_t quote = 0;
    if (text.size > 0 && (text.data[0] == '\'' || text.data[0] == '"')) {
        quote = text.data[0];
        (void)!slice_take(&text, 1, &byte);
    }
    while (used < size && text.size > 0 && !ends_value(text.data[0], quote)) {
        uint8_t value = text.data[0];
        size_t taken = 1;
        if (value == '%' && text.size >= 3 && hex_value(text.data[1]) >= 0 &&
            hex_value(text.data[2]) >= 0) {
            value = (uint8_t)(hex_value(text.data[1]) << 4 | hex_value(text.data[2]));
            taken = 3;
        }
        memory[used++] = value;
        (void)!slice_take(&text, taken, &byte);
    }
    return slice_make(memory, used);
}

/* Among key='value' pairs: the first traceparent that is no part of another key. */
static bool find_pair(struct slice text, struct traceparent *ret_found)
{
    static const char key[] = "traceparent";
    const size_t key_size = sizeof key - 1;
    struct slice whole = text;
    struct slice skipped;
    const uint8_t *found;
    while ((found = memmem(text.data, text.size, key, key_size)) != NULL) {
        size_t offset = (size_t)(found - whole.data);
        uint8_t before = offset == 0 ? ' ' : whole.data[offset - 1];
        bool begins = is_space(before) || before == ',' || before == ';' || before == '*';
        if (!slice_take(&text, (size_t)(found - text.data) + key_size, &skipped)) {
            return false;
        }
        struct slice rest = skip_spaces(text);
        if (begins && rest.size > 0 && rest.data[0] == '=' && slice_take(&rest, 1, &skipped)) {
            /* One byte more than a version 00 has shows whether it goes on. */
            uint8_t memory[TEXT_SIZE + 1];
            return traceparent_parse(take_value(skip_spaces(rest), memory, sizeof memory),
                                     ret_found);
        }
    }
    return false;
}

static bool find_in_text(struct slice text, struct traceparent *ret_found)
{
    return traceparent_parse(text, ret_found) || (text.size > 0 && find_pair(text, ret_found));
}

static struct slice text_of(const bson_iter_t *value)
{
    uint32_t size = 0;
    const char *text = bson_iter_utf8(value, &size);
    return slice_make(text, size);
}

bool traceparent_in_comment(const bson_iter_t *comment, struct traceparent *ret_traceparent)
{
    bson_iter_t field;
    if (BSON_ITER_HOLDS_UTF8(comment)) {
        return find_in_text(text_of(comment), ret_traceparent);
    }
    return BSON_ITER_HOLDS_DOCUMENT(comment) && bson_iter_recurse(comment, &field) &&
           bson_iter_find(&field, "traceparent") && BSON_ITER_HOLDS_UTF8(&field) &&
           traceparent_parse(text_of(&field), ret_traceparent);
}
