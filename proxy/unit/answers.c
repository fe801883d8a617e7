/* The last answer of each session in a unit; see answers.h. */
#include "unit/answers.h"

#include <stdlib.h>
#include <string.h>

struct answer {
    uint8_t session_id[ANSWER_SESSION_BYTES];
    int64_t number;
    uint8_t *reply; /* NULL: too large */
    size_t size;
};

static struct answer *find(const struct answers *answers, struct slice session_id)
{
    for (size_t i = 0; i < answers->count; i++) {
        if (memcmp(answers->list[i].session_id, session_id.data, ANSWER_SESSION_BYTES) == 0) {
            return &answers->list[i];
        }
    }
    return NULL;
}

enum answer_found answers_find(const struct answers *answers, struct slice session_id,
                               int64_t number, struct slice *ret_reply)
{
    const struct answer *answer = find(answers, session_id);
    if (answer == NULL || answer->number < number) {
        return ANSWER_NEW;
    }
    if (answer->number > number || answer->reply == NULL) {
        return ANSWER_KNOWN;
    }
    *ret_reply = slice_make(answer->reply, answer->size);
    return ANSWER_KEPT;
}

static struct answer *add(struct answers *answers, struct slice session_id)
{
    struct answer *list = realloc(answers->list, (answers->count + 1) * sizeof *list);
    if (list == NULL) {
        return NULL;
    }
    answers->list = list;
    struct answer *answer = &list[answers->count++];
    *answer = (struct answer){0};
    memcpy(answer->session_id, session_id.data, ANSWER_SESSION_BYTES);
    return answer;
}

enum status answers_keep(struct answers *answers, struct slice session_id, int64_t number,
                         struct slice reply)
{
    struct answer *answer = find(answers, session_id);
    if (answer == NULL && answers->count == ANSWERS_MAX) {
        return STATUS_FULL;
    }
    if (answer == NULL && (answer = add(answers, session_id)) == NULL) {
        return STATUS_MEMORY;
    }
    free(answer->reply);
    answer->reply = NULL;
    answer->size = 0;
    answer->number = number;
    if (reply.size <= ANSWER_BYTES_MAX) {
        answer->reply = malloc(reply.size);
        if (answer->reply == NULL) {
            return STATUS_MEMORY;
        }
        memcpy(answer->reply, reply.data, reply.size);
        answer->size = reply.size;
    }
    return STATUS_OK;
}

void answers_free(struct answers *answers)
{
    for (size_t i = 0; i < answers->count; i++) {
        free(answers->list[i].reply);
    }
    free(answers->list);
    *answers = (struct answers){0};
}
