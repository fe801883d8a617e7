#ifndef HOLDFAST_BENCH_CHILD_H
#define HOLDFAST_BENCH_CHILD_H

/*
 * Programs that the bench starts, and that end with it, also if it is killed. What they say goes
 * into a file. Main thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "holdfast/error.h"

#define CHILD_ARGUMENTS_MAX 64u

struct child {
    pid_t pid;     /* 0: none */
    char log[512]; /* path of what it says */
    char name[64]; /* for errors */
};

/* Words of a command line, copied. */
struct child_words {
    char *words[CHILD_ARGUMENTS_MAX + 1]; /* ended by NULL */
    size_t count;
};

/* Too many words, or no memory, shows when it is started. */
void child_words_add(struct child_words *words, const char *format, ...) PRINTF_LIKE(2, 3);
void child_words_free(struct child_words *words);

/*
 * Starts words[0], found on PATH if it has no '/'. Errors: STATUS_NOT_FOUND (no such program),
 * STATUS_IO, STATUS_LIMIT (too many words).
 */
MUST_CHECK enum status child_start(const char *name, const char *log,
                                   const struct child_words *words, struct child *ret_child,
                                   struct error *ret_error);

/* Whether it has not ended; it stays to be waited for. */
bool child_running(const struct child *child);

/* Ends it by the signal, waits for up to `wait_ms`, then kills it. NULL and none are harmless. */
void child_end(struct child *child, int signal, uint32_t wait_ms);

/* The end of what it said, for an error message. */
void child_last_words(const struct child *child, char *text, size_t size);

/*
 * The first line that it says with `mark` in it, from there on; waits up to `wait_ms`. False: it
 * ended, or said nothing of the kind.
 */
MUST_CHECK bool child_wait_for(const struct child *child, const char *mark, uint32_t wait_ms,
                               char *text, size_t size);

/* Whether a program of that name can be started; *ret_path (512 bytes) gets where it is. */
bool child_find(const char *program, char ret_path[512]);

/* Waits some milliseconds. */
void child_pause(uint32_t ms);

#endif
