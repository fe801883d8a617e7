/*
 * The clock that all of Holdfast asks: the system's, or the one a test put in its place.
 *
 * Threads: the source is set before threads are started, and only read after that.
 */

#include "holdfast/clock.h"

#include <stddef.h>
#include <stdio.h>
#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec now = {0};
    (void)clock_gettime(id, &now); /* cannot fail for the two ids used here */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static uint64_t system_monotonic_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000u;
}

static uint64_t system_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000u;
}

static const struct clock_source system_clock = {
    .monotonic_ms = system_monotonic_ms,
    .wall_ms = system_wall_ms,
};

static const struct clock_source *current = &system_clock;

void clock_use(const struct clock_source *source)
{
    current = source == NULL ? &system_clock : source;
}

uint64_t clock_monotonic_ms(void)
{
    return current->monotonic_ms();
}

uint64_t clock_wall_ms(void)
{
    return current->wall_ms();
}

uint64_t clock_monotonic_us(void)
{
    return current == &system_clock ? read_us(CLOCK_MONOTONIC) : current->monotonic_ms() * 1000u;
}

uint64_t clock_wall_us(void)
{
    return current == &system_clock ? read_us(CLOCK_REALTIME) : current->wall_ms() * 1000u;
}

void clock_text(uint64_t wall_ms, char ret_text[CLOCK_TEXT_BYTES])
{
    time_t seconds = (time_t)(wall_ms / 1000u);
    struct tm parts = {0};
    (void)gmtime_r(&seconds, &parts); /* cannot fail: the year of the last one has nine digits */
    size_t size = strftime(ret_text, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(ret_text + size, CLOCK_TEXT_BYTES - size, ".%03uZ", (unsigned)(wall_ms % 1000u));
}
