#ifndef HOLDFAST_OBSERVE_SEQUENCE_H
#define HOLDFAST_OBSERVE_SEQUENCE_H

/*
 * The shapes of one call's writes in their order, with repeats folded as they come: of a shape
 * ("a +"), and of up to SEQUENCE_GROUP_MAX shapes in a row ("(a", "b)+"), as loops write them.
 *
 * Two sequences are the same if their shapes are: a loop that ran twice in one call and once in
 * another is one sequence. Marks say what was repeated in any of them.
 *
 * Thread: whoever owns the sequence.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "observe/observe.h"
#include "observe/shape.h"
#include "observe/text.h"

#define SEQUENCE_GROUP_MAX 4u
/* Room for a shape with all the brackets of groups that begin and end there. */
#define SEQUENCE_STEP_BYTES (SHAPE_BYTES_MAX + 64u)

struct sequence {
    struct text *shapes[OBSERVE_SEQUENCE_MAX + 1]; /* held; one more, to see whether it folds */
    uint8_t marks[OBSERVE_SEQUENCE_MAX + 1]; /* bit n: a repeated group of n + 1 shapes ends here */
    uint32_t count;
    bool longer; /* more came than is kept */
};

/* The next write, whose shape has this text and text_hash(). */
void sequence_append(struct sequence *sequence, struct text_table *texts, const struct shape *shape,
                     uint64_t hash);

uint64_t sequence_hash(const struct sequence *sequence, uint64_t seed);
bool sequence_equal(const struct sequence *left, const struct sequence *right);

/* *ret_copy holds the same shapes once more. */
void sequence_copy(const struct sequence *sequence, struct sequence *ret_copy);
/* What was repeated in an equal sequence. */
void sequence_merge_marks(struct sequence *sequence, const struct sequence *equal);
void sequence_release(struct sequence *sequence, struct text_table *texts);

/* The text of step `at` < count. */
void sequence_step(const struct sequence *sequence, uint32_t at,
                   char ret_text[SEQUENCE_STEP_BYTES]);

#endif
