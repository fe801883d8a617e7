/* Who wrote (people.h). */
#include "observe/people.h"

#include <string.h>

static struct slice name_of(const char *text)
{
    /* What is much too long need not be measured to its end. */
    return text == NULL ? (struct slice){0}
                        : slice_make(text, strnlen(text, (size_t)2 * PEOPLE_NAME_BYTES));
}

/* "10.0.0.1:1234" is 10.0.0.1, "[::1]:1234" is [::1]. */
static struct slice host_of(const char *client)
{
    struct slice host = name_of(client);
    for (size_t at = host.size; at > 0; at--) {
        if (host.data[at - 1] == ':') {
            return slice_make(host.data, at - 1);
        }
    }
    return host;
}

static struct slice text_of(const struct observe_writer *writer, enum people_kind kind)
{
    switch (kind) {
    case PEOPLE_APPLICATIONS:
        return name_of(writer->application);
    case PEOPLE_USERS:
        return name_of(writer->user);
    case PEOPLE_HOSTS:
        return host_of(writer->client);
    case PEOPLE_KINDS:
        break;
    }
    return (struct slice){0};
}

struct people_writer people_writer_make(const struct observe_writer *writer, uint64_t seed)
{
    struct people_writer made = {.texts = writer, .hash = seed};
    if (writer == NULL) {
        return made;
    }
    if (writer->hash != NULL && *writer->hash != 0) {
        made.hash = *writer->hash;
        return made;
    }
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        struct slice text = text_of(writer, (enum people_kind)kind);
        made.hash = text_hash(made.hash, text.data, text.size);
    }
    if (writer->hash != NULL) {
        *writer->hash = made.hash;
    }
    return made;
}

struct text *people_keep(const struct people_writer *writer, enum people_kind kind,
                         struct text_table *texts)
{
    char clean[PEOPLE_NAME_BYTES];
    if (writer->texts == NULL) {
        return NULL;
    }
    size_t size = text_clean(TEXT_PLAIN, text_of(writer->texts, kind), clean, sizeof clean);
    return size == 0 ? NULL : text_keep(texts, slice_make(clean, size));
}

/* True: `name` has become the list's. */
static bool add_one(struct people *people, unsigned int kind, struct text *name)
{
    for (uint8_t i = 0; i < people->counts[kind]; i++) {
        if (people->names[kind][i] == name) {
            return false;
        }
    }
    if (people->counts[kind] == PEOPLE_MAX) {
        return false;
    }
    people->names[kind][people->counts[kind]++] = name;
    return true;
}

void people_add(struct people *people, const struct people_writer *writer, struct text_table *texts)
{
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        struct text *name = people_keep(writer, (enum people_kind)kind, texts);
        if (name != NULL && !add_one(people, kind, name)) {
            text_release(texts, name);
        }
    }
}

void people_merge(struct people *people, const struct people *others)
{
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        for (uint8_t i = 0; i < others->counts[kind]; i++) {
            if (add_one(people, kind, others->names[kind][i])) {
                (void)text_hold(others->names[kind][i]);
            }
        }
    }
}

void people_release(struct people *people, struct text_table *texts)
{
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        for (uint8_t i = 0; i < people->counts[kind]; i++) {
            text_release(texts, people->names[kind][i]);
        }
    }
    *people = (struct people){.counts = {0}};
}
