/* Sums and products for forecasts of keys (forecast_number.h). Pure. */
#include "engine/forecast_number.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two factors of so many digits have a product below 10^36, which __int128 holds. */
#define DIGITS_MAX 18
/* What a sum's terms are brought to one exponent by, at most. */
#define SHIFT_MAX 18

__extension__ typedef __int128 wide;

/* digits * 10^exponent */
struct decimal {
    wide digits;
    long exponent;
};

static bool is_decimal(const bson_iter_t *at)
{
    return at != NULL && BSON_ITER_HOLDS_DECIMAL128(at);
}

/* A number's text, as bson_decimal128_to_string() and "%.15g" write it. False: too many digits, or
   none. */
static bool parse(const char *text, struct decimal *ret_decimal)
{
    struct decimal decimal = {0};
    bool negative = text[0] == '-';
    bool fraction = false;
    int count = 0;
    int zeros = 0; /* behind the digits: part of the exponent, if no other digit follows */
    text += text[0] == '-' || text[0] == '+';
    for (; (*text >= '0' && *text <= '9') || *text == '.'; text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        decimal.exponent -= fraction;
        if (*text == '0') {
            zeros += decimal.digits != 0;
            decimal.exponent += decimal.digits != 0;
            continue;
        }
        for (; zeros > 0; zeros--) {
            decimal.digits *= 10;
            decimal.exponent--;
            count++;
        }
        decimal.digits = decimal.digits * 10 + (*text - '0');
        if (++count > DIGITS_MAX) {
            return false;
        }
    }
    if (*text != '\0' && *text != 'E' && *text != 'e') {
        return false;
    }
    decimal.exponent += *text == '\0' ? 0 : strtol(text + 1, NULL, 10);
    if (decimal.digits == 0) {
        decimal.exponent = 0;
    }
    decimal.digits = negative ? -decimal.digits : decimal.digits;
    *ret_decimal = decimal;
    return true;
}

static bool to_decimal(const bson_iter_t *at, struct decimal *ret_decimal)
{
    char text[BSON_DECIMAL128_STRING];
    bson_decimal128_t value;
    if (BSON_ITER_HOLDS_INT(at)) {
        (void)snprintf(text, sizeof text, "%" PRId64, bson_iter_as_int64(at));
    } else if (BSON_ITER_HOLDS_DOUBLE(at)) {
        (void)snprintf(text, sizeof text, "%.15g", bson_iter_double(at)); /* as mongod converts */
    } else if (bson_iter_decimal128(at, &value)) {
        bson_decimal128_to_string(&value, text);
    } else {
        return false;
    }
    return parse(text, ret_decimal);
}

/* To one exponent, the smaller one. */
static bool add(struct decimal a, struct decimal b, struct decimal *ret_sum)
{
    struct decimal *larger = a.exponent > b.exponent ? &a : &b;
    const struct decimal *smaller = larger == &a ? &b : &a;
    if (larger->digits == 0 || smaller->digits == 0) {
        *ret_sum = a.digits == 0 ? b : a;
        return true;
    }
    if (larger->exponent - smaller->exponent > SHIFT_MAX) {
        return false;
    }
    while (larger->exponent > smaller->exponent) {
        larger->digits *= 10;
        larger->exponent--;
    }
    *ret_sum = (struct decimal){.digits = a.digits + b.digits, .exponent = a.exponent};
    return true;
}

/* As a whole number if it is one of 64 bits, else as the nearest double. */
static bool append_decimal(struct decimal value, bson_t *into, const char *name)
{
    char digits[48];
    size_t at = sizeof digits;
    char text[80];
    wide rest = value.digits < 0 ? -value.digits : value.digits;
    struct decimal whole = value;
    while (whole.digits != 0 && whole.digits % 10 == 0 && whole.exponent < 0) {
        whole.digits /= 10;
        whole.exponent++;
    }
    while (whole.digits != 0 && whole.exponent > 0 && whole.digits <= INT64_MAX &&
           whole.digits >= INT64_MIN) {
        whole.digits *= 10;
        whole.exponent--;
    }
    if (whole.exponent == 0 && whole.digits <= INT64_MAX && whole.digits >= INT64_MIN) {
        return bson_append_int64(into, name, -1, (int64_t)whole.digits);
    }
    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + (int)(rest % 10));
        rest /= 10;
    } while (rest > 0);
    (void)snprintf(text, sizeof text, "%s%se%ld", value.digits < 0 ? "-" : "", digits + at,
                   value.exponent);
    return bson_append_double(into, name, -1, strtod(text, NULL));
}

static enum forecast_number_result compute_decimals(const bson_iter_t *old,
                                                    const bson_iter_t *operand,
                                                    enum forecast_number kind, bson_t *into,
                                                    const char *name)
{
    struct decimal a;
    struct decimal b;
    struct decimal result = {0};
    bool done = to_decimal(old, &a) && to_decimal(operand, &b);
    if (done && kind == FORECAST_NUMBER_ADD) {
        done = add(a, b, &result);
    } else if (done) {
        result =
            (struct decimal){.digits = a.digits * b.digits, .exponent = a.exponent + b.exponent};
    }
    return done && append_decimal(result, into, name) ? FORECAST_NUMBER_DONE
                                                      : FORECAST_NUMBER_UNKNOWN;
}

enum forecast_number_result forecast_number(const bson_iter_t *old, const bson_iter_t *operand,
                                            enum forecast_number kind, bson_t *into,
                                            const char *name)
{
    int64_t whole;
    bool add_them = kind == FORECAST_NUMBER_ADD;
    if (!BSON_ITER_HOLDS_NUMBER(operand) && !BSON_ITER_HOLDS_DECIMAL128(operand)) {
        return FORECAST_NUMBER_REFUSED;
    }
    if (old == NULL) {
        bool appended = add_them ? bson_append_iter(into, name, -1, operand)
                                 : bson_append_int32(into, name, -1, 0);
        return appended ? FORECAST_NUMBER_DONE : FORECAST_NUMBER_UNKNOWN;
    }
    if (is_decimal(old) || is_decimal(operand)) {
        return compute_decimals(old, operand, kind, into, name);
    }
    if (BSON_ITER_HOLDS_DOUBLE(old) || BSON_ITER_HOLDS_DOUBLE(operand)) {
        double a = bson_iter_as_double(old);
        double b = bson_iter_as_double(operand);
        (void)bson_append_double(into, name, -1, add_them ? a + b : a * b);
        return FORECAST_NUMBER_DONE;
    }
    int64_t a = bson_iter_as_int64(old);
    int64_t b = bson_iter_as_int64(operand);
    if (add_them ? __builtin_add_overflow(a, b, &whole) : __builtin_mul_overflow(a, b, &whole)) {
        return FORECAST_NUMBER_REFUSED;
    }
    (void)bson_append_int64(into, name, -1, whole);
    return FORECAST_NUMBER_DONE;
}
