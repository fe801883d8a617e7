#ifndef HOLDFAST_ENGINE_FORECAST_NUMBER_H
#define HOLDFAST_ENGINE_FORECAST_NUMBER_H

/*
 * What $inc and $mul make of a number, as far as names of locks tell numbers apart: these are the
 * same for all types, and of a decimal that is no whole number they know the nearest double
 * (unit/lock_name.c). Pure; any thread.
 */

#include <bson/bson.h>

enum forecast_number {
    FORECAST_NUMBER_ADD,
    FORECAST_NUMBER_MULTIPLY,
};

enum forecast_number_result {
    FORECAST_NUMBER_DONE,    /* appended */
    FORECAST_NUMBER_REFUSED, /* the server refuses it: an overflow, an operand that is no number */
    FORECAST_NUMBER_UNKNOWN, /* decimals of more than 18 digits, NaN and infinite ones */
};

/* `old`: a number, or NULL if there is none; then $inc gives the operand, $mul zero. */
enum forecast_number_result forecast_number(const bson_iter_t *old, const bson_iter_t *operand,
                                            enum forecast_number kind, bson_t *into,
                                            const char *name);

#endif
