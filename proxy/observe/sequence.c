/*
 * Sequences of shapes (sequence.h).
 *
 *     a b a b      the last two are what the two before them were: dropped,
 *     (a b)+       and the group of two that ends at b is marked
 *
 * Invariant: groups lie inside or beside each other, never across: a fold or a mark that would make
 * them cross is left out.
 */
#include "observe/sequence.h"

#include <stdio.h>
#include <string.h>

static size_t shapes_bytes(uint32_t count)
{
    return count * sizeof(void *);
}

/* No marked group ends inside the `size` steps that end at `last` but begins before them, and none
   that begins inside ends behind them. */
static bool is_closed(const struct sequence *sequence, uint32_t last, uint32_t size)
{
    uint32_t first = last + 1 - size;
    for (uint32_t at = 0; at < sequence->count; at++) {
        for (uint32_t group = 2; group <= SEQUENCE_GROUP_MAX; group++) {
            if ((sequence->marks[at] & 1u << (group - 1)) == 0) {
                continue;
            }
            uint32_t begin = at + 1 - group;
            bool ends_inside = at >= first && at <= last;
            bool begins_inside = begin >= first && begin <= last;
            bool contains = begin <= first && at >= last;
            if (ends_inside != begins_inside && !contains) {
                return false;
            }
        }
    }
    return true;
}

static bool fold(struct sequence *sequence, struct text_table *texts, uint32_t size)
{
    if (sequence->count < 2 * size) {
        return false;
    }
    uint32_t repeat = sequence->count - size;
    uint32_t group = repeat - size;
    if (memcmp(&sequence->shapes[group], &sequence->shapes[repeat], shapes_bytes(size)) != 0 ||
        !is_closed(sequence, repeat - 1, size) || !is_closed(sequence, sequence->count - 1, size)) {
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        sequence->marks[group + i] |= sequence->marks[repeat + i];
        sequence->marks[repeat + i] = 0;
        text_release(texts, sequence->shapes[repeat + i]);
        sequence->shapes[repeat + i] = NULL;
    }
    sequence->count = repeat;
    sequence->marks[repeat - 1] |= (uint8_t)(1u << (size - 1));
    return true;
}

void sequence_append(struct sequence *sequence, struct text_table *texts, const struct shape *shape,
                     uint64_t hash)
{
    struct slice text = slice_make(shape->text, shape->size);
    if (sequence->longer) {
        return;
    }
    if (sequence->count > 0 && text_is(sequence->shapes[sequence->count - 1], text, hash)) {
        sequence->marks[sequence->count - 1] |= 1u;
        return;
    }
    sequence->shapes[sequence->count] = text_keep_hashed(texts, text, hash);
    sequence->marks[sequence->count] = 0;
    sequence->count++;
    for (uint32_t size = 1; size <= SEQUENCE_GROUP_MAX; size++) {
        if (fold(sequence, texts, size)) {
            size = 0; /* what is left may fold once more */
        }
    }
    if (sequence->count > OBSERVE_SEQUENCE_MAX) {
        sequence->count--;
        text_release(texts, sequence->shapes[sequence->count]);
        sequence->shapes[sequence->count] = NULL;
        sequence->longer = true;
    }
}

uint64_t sequence_hash(const struct sequence *sequence, uint64_t seed)
{
    return text_hash(seed + sequence->longer, sequence->shapes, shapes_bytes(sequence->count));
}

bool sequence_equal(const struct sequence *left, const struct sequence *right)
{
    return left->count == right->count && left->longer == right->longer &&
           memcmp(left->shapes, right->shapes, shapes_bytes(left->count)) == 0;
}

void sequence_copy(const struct sequence *sequence, struct sequence *ret_copy)
{
    *ret_copy = *sequence;
    for (uint32_t i = 0; i < sequence->count; i++) {
        (void)text_hold(sequence->shapes[i]);
    }
}

void sequence_merge_marks(struct sequence *sequence, const struct sequence *equal)
{
    for (uint32_t at = 0; at < sequence->count; at++) {
        uint8_t news = (uint8_t)(equal->marks[at] & ~sequence->marks[at]);
        for (uint32_t size = 1; news != 0 && size <= SEQUENCE_GROUP_MAX; size++) {
            uint8_t bit = (uint8_t)(1u << (size - 1));
            if ((news & bit) != 0 && (size == 1 || is_closed(sequence, at, size))) {
                sequence->marks[at] |= bit;
            }
        }
    }
}

void sequence_release(struct sequence *sequence, struct text_table *texts)
{
    for (uint32_t i = 0; i < sequence->count; i++) {
        text_release(texts, sequence->shapes[i]);
    }
    *sequence = (struct sequence){.count = 0};
}

void sequence_step(const struct sequence *sequence, uint32_t at, char ret_text[SEQUENCE_STEP_BYTES])
{
    char opens[SEQUENCE_GROUP_MAX * SEQUENCE_GROUP_MAX + 1];
    char closes[3 * SEQUENCE_GROUP_MAX + 1];
    size_t open_count = 0;
    size_t close_count = 0;
    for (uint32_t size = 2; size <= SEQUENCE_GROUP_MAX; size++) {
        uint32_t end = at + size - 1;
        if (end < sequence->count && (sequence->marks[end] & 1u << (size - 1)) != 0) {
            opens[open_count++] = '(';
        }
        if ((sequence->marks[at] & 1u << (size - 1)) != 0) {
            closes[close_count++] = ')';
            closes[close_count++] = '+';
        }
    }
    opens[open_count] = '\0';
    closes[close_count] = '\0';
    (void)snprintf(ret_text, SEQUENCE_STEP_BYTES, "%s%s%s%s", opens,
                   text_string(sequence->shapes[at]), (sequence->marks[at] & 1u) != 0 ? " +" : "",
                   closes);
}
