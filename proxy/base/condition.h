#ifndef HOLDFAST_BASE_CONDITION_H
#define HOLDFAST_BASE_CONDITION_H

/*
 * Condition variables that are waited for with a bound. It counts on the monotonic clock, so that a
 * step of the wall clock neither cuts a wait short nor draws it out. Everything else is pthread's.
 */

#include <pthread.h>
#include <stdint.h>

/* Give it to pthread_cond_destroy(). */
void condition_init(pthread_cond_t *condition);

/* As pthread_cond_wait(), also in that it may end without a reason; and it ends when
   clock_monotonic_ms() has come to `until_ms`. */
void condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ms);

#endif
