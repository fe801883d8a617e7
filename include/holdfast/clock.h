#ifndef HOLDFAST_CLOCK_H
#define HOLDFAST_CLOCK_H

/*
 * Time. All of Holdfast asks here, so that a test can hold the clock. Any thread.
 */

#include <stdint.h>

struct clock_source {
    uint64_t (*monotonic_ms)(void); /* never steps back; its zero means nothing */
    uint64_t (*wall_ms)(void);      /* milliseconds since 1970-01-01 UTC */
};

/* Replaces the system's clock; NULL brings it back. Call before any thread is started. */
void clock_use(const struct clock_source *source);

uint64_t clock_monotonic_ms(void);
uint64_t clock_wall_ms(void);

/* The same in microseconds, for durations that are measured; of a source that was put in place, its
   milliseconds. */
uint64_t clock_monotonic_us(void);
uint64_t clock_wall_us(void);

/* A time as everything that people read shows it, with room for any: "2026-01-02T03:04:05.678Z". */
#define CLOCK_TEXT_BYTES 32
void clock_text(uint64_t wall_ms, char ret_text[CLOCK_TEXT_BYTES]);

#endif
