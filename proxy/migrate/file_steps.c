/*
 * The steps of a migration file (file_steps.h): each is one word with its fields (file_words.h).
 *
 * Threads: any.
 */
#include "migrate/file_steps.h"

#include "migrate/file_words.h"

static enum status read_field(struct reading *reading, const yaml_node_t *key,
                              const yaml_node_t *value)
{
    const char *name = yaml_text(key);
    size_t i = name == NULL ? WORD_FIELDS_MAX : reading_field(reading, name);
    if (i >= WORD_FIELDS_MAX || reading->word->fields[i].name == NULL) {
        return yaml_refuse(reading->file, key, reading->error, "%s has no field %.60s",
                           reading->word->word, name == NULL ? "that is no text" : name);
    }
    if (reading->values[i] != NULL) {
        return yaml_refuse(reading->file, key, reading->error, "%s stands here twice", name);
    }
    reading->fields[i] = key;
    enum status status = yaml_value(reading->file, value, &reading->values[i], reading->error);
    const char *wrong = status == STATUS_OK
                            ? reading_judge(reading->word->fields[i].type, reading->values[i])
                            : NULL;
    return wrong != NULL ? reading_refuse(reading, name, wrong) : status;
}

static enum status read_fields(struct reading *reading, const yaml_node_t *mapping)
{
    yaml_document_t *document = reading->file->document;
    enum status status = STATUS_OK;
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         status == STATUS_OK && pair < mapping->data.mapping.pairs.top; pair++) {
        status = read_field(reading, yaml_document_get_node(document, pair->key),
                            yaml_document_get_node(document, pair->value));
    }
    for (size_t i = 0; i < WORD_FIELDS_MAX && status == STATUS_OK; i++) {
        const struct field *field = &reading->word->fields[i];
        if (field->name != NULL && field->required && reading->values[i] == NULL) {
            status = yaml_refuse(reading->file, reading->at, reading->error, "%s needs %s",
                                 reading->word->word, field->name);
        }
    }
    return status;
}

static enum status build(struct reading *reading)
{
    struct step step = {
        .kind = reading->word->kind, .word = reading->word->word, .line = yaml_line(reading->at)};
    enum status status = reading_collection(reading, "collection", &step.collection);
    if (status == STATUS_OK) {
        status = reading->word->build(reading, &step);
    }
    if (status != STATUS_OK) {
        step_free(&step);
        return status;
    }
    return step_list_add(reading->list, &step)
               ? STATUS_OK
               : error_set(reading->error, STATUS_MEMORY, "out of memory");
}

static enum status read_step(const struct yaml_file *file, const yaml_node_t *node,
                             struct step_list *list, struct error *ret_error)
{
    struct reading reading = {.file = file, .at = node, .list = list, .error = ret_error};
    const yaml_node_pair_t *pair =
        node != NULL && node->type == YAML_MAPPING_NODE ? node->data.mapping.pairs.start : NULL;
    if (pair == NULL || node->data.mapping.pairs.top - pair != 1) {
        return yaml_refuse(file, node, ret_error, "expected one step, as - update: {...}");
    }
    const char *text = yaml_text(yaml_document_get_node(file->document, pair->key));
    const yaml_node_t *fields = yaml_document_get_node(file->document, pair->value);
    reading.word = word_find(text);
    if (reading.word == NULL) {
        return yaml_refuse(file, node, ret_error, "there is no step %.60s",
                           text == NULL ? "of that name" : text);
    }
    if (fields == NULL || fields->type != YAML_MAPPING_NODE) {
        return yaml_refuse(file, node, ret_error, "%s needs fields", reading.word->word);
    }
    enum status status = read_fields(&reading, fields);
    if (status == STATUS_OK) {
        status = build(&reading);
    }
    for (size_t i = 0; i < WORD_FIELDS_MAX; i++) {
        bson_destroy(reading.values[i]);
    }
    return status;
}

enum status file_steps_read(const struct yaml_file *file, const yaml_node_t *sequence,
                            struct step_list *list, struct error *ret_error)
{
    enum { STEPS_MAX = 1000 };
    if (sequence == NULL || sequence->type != YAML_SEQUENCE_NODE) {
        return yaml_refuse(file, sequence, ret_error, "expected a list of steps");
    }
    enum status status = STATUS_OK;
    for (yaml_node_item_t *item = sequence->data.sequence.items.start;
         status == STATUS_OK && item < sequence->data.sequence.items.top; item++) {
        const yaml_node_t *node = yaml_document_get_node(file->document, *item);
        status = list->count < STEPS_MAX
                     ? read_step(file, node, list, ret_error)
                     : yaml_refuse(file, node, ret_error, "more than %d steps", STEPS_MAX);
    }
    return status;
}
