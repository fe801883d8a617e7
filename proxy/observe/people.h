#ifndef HOLDFAST_OBSERVE_PEOPLE_H
#define HOLDFAST_OBSERVE_PEOPLE_H

/* Who wrote: distinct applications, users and hosts, a few of each. Thread: the owner's. */

#include <stdbool.h>
#include <stdint.h>

#include "observe/observe.h"
#include "observe/text.h"

#define PEOPLE_MAX 8u
#define PEOPLE_NAME_BYTES 128u

enum people_kind {
    PEOPLE_APPLICATIONS,
    PEOPLE_USERS,
    PEOPLE_HOSTS,
    PEOPLE_KINDS,
};

struct people {
    struct text *names[PEOPLE_KINDS][PEOPLE_MAX]; /* held */
    uint8_t counts[PEOPLE_KINDS];
};

/* A writer by his hash; his three texts are looked at when he is new. */
struct people_writer {
    const struct observe_writer *texts; /* NULL: there are none */
    uint64_t hash;                      /* of all three, the client's port dropped */
};

struct people_writer people_writer_make(const struct observe_writer *writer, uint64_t seed);

/* The cleaned text of one, kept; NULL if it is empty. */
struct text *people_keep(const struct people_writer *writer, enum people_kind kind,
                         struct text_table *texts);

/* Adds those that are new; none beyond PEOPLE_MAX of a kind. */
void people_add(struct people *people, const struct people_writer *writer,
                struct text_table *texts);
void people_merge(struct people *people, const struct people *others);
void people_release(struct people *people, struct text_table *texts);

#endif
