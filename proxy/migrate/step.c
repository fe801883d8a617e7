/* Memory of steps (step.h). */
#include "migrate/step.h"

#include <stdlib.h>

void step_free(struct step *step)
{
    free(step->collection);
    free(step->name);
    bson_destroy(step->filter);
    bson_destroy(step->update);
    bson_destroy(step->array_filters);
    bson_destroy(step->left);
    bson_destroy(step->documents);
    bson_destroy(step->index);
    bson_destroy(step->options);
    *step = (struct step){0};
}

bool step_list_add(struct step_list *list, struct step *step)
{
    struct step *more = reallocarray(list->steps, list->count + 1, sizeof(*more));
    if (more == NULL) {
        step_free(step);
        return false;
    }
    list->steps = more;
    list->steps[list->count++] = *step;
    *step = (struct step){0};
    return true;
}

void step_list_free(struct step_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        step_free(&list->steps[i]);
    }
    free(list->steps);
    *list = (struct step_list){0};
}
