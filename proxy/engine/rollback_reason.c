/* Why units are rolled back (rollback_reason.h). Constant data. */
#include "engine/rollback_reason.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *label;
    const char *sentence;
} reasons[] = {
#define X(name, label_, sentence_)                                                                 \
    [ROLLBACK_REASON_##name] = {.label = label_, .sentence = sentence_},
    ROLLBACK_REASON_LIST(X)
#undef X
};

enum rollback_reason rollback_reason_of(const char *sentence)
{
    enum rollback_reason reason = 0;
    while (reason < ROLLBACK_REASON_OTHER &&
           (sentence == NULL || strcmp(reasons[reason].sentence, sentence) != 0)) {
        reason++;
    }
    return reason;
}

const char *rollback_reason_label(enum rollback_reason reason)
{
    return reasons[reason].label;
}
