/*
 * Names of locks: one digest for all document keys that MongoDB takes for equal. No state; any
 * thread.
 */
/* OpenSSL 3 would rather have EVP, whose context is an allocation for every lock. */
#define OPENSSL_API_COMPAT 10101

#include <bson/bson.h>
#include <math.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "holdfast/limits.h"
#include "unit/lock_table.h"

static void digest_number(SHA256_CTX *hash, int64_t whole)
{
    (void)SHA256_Update(hash, "n", 1);
    (void)SHA256_Update(hash, &whole, sizeof whole);
}

static void digest_double(SHA256_CTX *hash, double value)
{
    if (value >= -9223372036854775808.0 && value < 9223372036854775808.0 && floor(value) >= value) {
        digest_number(hash, (int64_t)value);
        return;
    }
    value = isnan(value) ? (double)NAN : value;
    (void)SHA256_Update(hash, "d", 1);
    (void)SHA256_Update(hash, &value, sizeof value);
}

/* A decimal as text, "-12.50E+3", taken apart: digits without leading and trailing zeros, times
   ten to the power of `exponent`. */
struct decimal {
    bool negative;
    char digits[BSON_DECIMAL128_STRING];
    int count;
    long exponent;
};

/* False: NaN or infinite. */
static bool take_apart(const char *text, struct decimal *decimal)
{
    bool fraction = false;
    *decimal = (struct decimal){.negative = text[0] == '-'};
    text += decimal->negative;
    for (; (*text >= '0' && *text <= '9') || *text == '.'; text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        decimal->exponent -= fraction;
        if (decimal->count > 0 || *text != '0') {
            decimal->digits[decimal->count++] = *text;
        }
    }
    if (*text != '\0' && *text != 'E') {
        return false;
    }
    decimal->exponent += *text == 'E' ? strtol(text + 1, NULL, 10) : 0;
    while (decimal->count > 0 && decimal->digits[decimal->count - 1] == '0') {
        decimal->count--;
        decimal->exponent++;
    }
    return true;
}

/* False: it is no whole number of 64 bits. */
static bool is_whole(const struct decimal *decimal, int64_t *ret_whole)
{
    int64_t whole = 0;
    if (decimal->count > 0 && (decimal->exponent < 0 || decimal->exponent > 18)) {
        return false;
    }
    for (long i = 0; decimal->count > 0 && i < decimal->count + decimal->exponent; i++) {
        int digit = i < decimal->count ? decimal->digits[i] - '0' : 0;
        if (__builtin_mul_overflow(whole, (int64_t)10, &whole) ||
            __builtin_sub_overflow(whole, (int64_t)digit, &whole)) {
            return false; /* from below zero: there is one more there */
        }
    }
    return decimal->negative ? (*ret_whole = whole, true)
                             : !__builtin_sub_overflow((int64_t)0, whole, ret_whole);
}

/*
 * Whole numbers as such: Longs beyond 2^53 are not rounded either. Any other decimal through a
 * double: it equals one only if it becomes that one, and two that only a double takes for equal
 * share a lock, which harms nobody.
 */
static void digest_decimal(SHA256_CTX *hash, const bson_decimal128_t *value)
{
    char text[BSON_DECIMAL128_STRING];
    struct decimal decimal;
    int64_t whole = 0;
    bson_decimal128_to_string(value, text);
    if (take_apart(text, &decimal) && is_whole(&decimal, &whole)) {
        digest_number(hash, whole);
    } else {
        digest_double(hash, strtod(text, NULL));
    }
}

static void digest_document(SHA256_CTX *hash, bson_iter_t *at, int depth);

static void digest_value(SHA256_CTX *hash, bson_iter_t *at, int depth)
{
    bson_type_t type = bson_iter_type(at);
    bson_iter_t child;
    switch (type) {
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
        digest_number(hash, bson_iter_as_int64(at));
        return;
    case BSON_TYPE_DOUBLE:
        digest_double(hash, bson_iter_double(at));
        return;
    case BSON_TYPE_DECIMAL128: {
        bson_decimal128_t decimal;
        if (bson_iter_decimal128(at, &decimal)) {
            digest_decimal(hash, &decimal);
        }
        return;
    }
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY:
        if (depth > 0 && bson_iter_recurse(at, &child)) {
            digest_document(hash, &child, depth - 1);
        }
        return;
    default: {
        char letter = (char)type;
        (void)SHA256_Update(hash, &letter, 1);
        /* The bytes of the value lie between the end of its key and the next element. */
        uint32_t key_size = bson_iter_key_len(at);
        uint32_t start = bson_iter_offset(at) + 1 + key_size + 1;
        (void)SHA256_Update(hash, at->raw + start, at->next_off - start);
        return;
    }
    }
}

static void digest_document(SHA256_CTX *hash, bson_iter_t *at, int depth)
{
    (void)SHA256_Update(hash, "{", 1);
    while (bson_iter_next(at)) {
        const char *name = bson_iter_key(at);
        (void)SHA256_Update(hash, name, strlen(name) + 1);
        digest_value(hash, at, depth);
    }
    (void)SHA256_Update(hash, "}", 1);
}

/* The namespace is in `hash` already, with its NUL. */
static void digest_key(SHA256_CTX *hash, struct slice key, struct lock_name *ret_name)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    bson_iter_t at;
    if (bson_iter_init_from_data(&at, key.data, key.size)) {
        digest_document(hash, &at, LIMIT_BSON_DEPTH);
    }
    (void)SHA256_Final(digest, hash);
    memcpy(ret_name->digest, digest, sizeof ret_name->digest);
}

void lock_name_of(const char *namespace, struct slice key, struct lock_name *ret_name)
{
    SHA256_CTX hash;
    (void)SHA256_Init(&hash);
    (void)SHA256_Update(&hash, namespace, strlen(namespace) + 1);
    digest_key(&hash, key, ret_name);
}

void lock_name_in(const char *database, const char *collection, struct slice key,
                  struct lock_name *ret_name)
{
    SHA256_CTX hash;
    (void)SHA256_Init(&hash);
    (void)SHA256_Update(&hash, database, strlen(database));
    (void)SHA256_Update(&hash, ".", 1);
    (void)SHA256_Update(&hash, collection, strlen(collection) + 1);
    digest_key(&hash, key, ret_name);
}
