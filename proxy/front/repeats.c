/*
 * Requests with an Idempotency-Key: what their caller repeats is done once (idempotency.h).
 *
 *   head    the key is read; no key, no call from outside: nothing of this file applies
 *   body    read ahead to its end, up to http.idempotency.maxBody, for only then is it known
 *           whether it is the same request
 *   begin   new: the call begins under the key | answered: the record is sent | an error
 *   commit  the held answer goes into the COMMIT record
 *   end     the key is free again: for a repetition, which finds the record or nothing
 *
 * The same request is one of the same method, target, body and caller: what
 * http.idempotency.identityHeader holds tells callers apart. So nobody is given another's answer,
 * and a key is never good for two requests.
 *
 * The exchange's worker.
 */
#include "front/repeats.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "front/exchange.h"
#include "holdfast/log.h"

struct repeat {
    struct unit_session_key key;
    EVP_MD_CTX *digest; /* of what makes it the same request */
    uint8_t fingerprint[IDEMPOTENCY_FINGERPRINT_BYTES];
    bool claimed; /* idempotency_end() is to come */
    bool answered;
    struct idempotency_answer answer;
    bson_t record;
};

/* ------------------------------------------------------------------ the key */

/* sf-string of RFC 8941 without parameters, or what callers send in its place: the bare key. */
static bool parse_key(struct slice value, struct slice *ret_key)
{
    bool quoted = value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"';
    struct slice key = quoted ? slice_front(slice_rest(value, 1), value.size - 2) : value;
    for (size_t i = 0; i < key.size; i++) {
        uint8_t byte = key.data[i];
        if (quoted && byte == '\\') {
            i++; /* whatever it is: two spellings are two keys */
        } else if (byte == '"' || byte > '~' || byte < (quoted ? ' ' : '!')) {
            return false;
        }
    }
    *ret_key = key;
    return key.size > 0 && key.size <= IDEMPOTENCY_KEY_BYTES_MAX;
}

static bool take_digest(struct repeat *repeat, struct slice bytes)
{
    return EVP_DigestUpdate(repeat->digest, bytes.data, bytes.size) == 1;
}

/* A text, and where it ends. */
static bool take_part(struct repeat *repeat, struct slice text)
{
    char size[24];
    int length = snprintf(size, sizeof size, "%zu:", text.size);
    return take_digest(repeat, slice_make((const uint8_t *)size, (size_t)length)) &&
           take_digest(repeat, text);
}

static struct repeat *make(const struct exchange *exchange, const struct http_head *head,
                           struct slice bytes, struct slice key)
{
    struct slice identity = {0};
    struct repeat *repeat = memory_new_aligned(1, sizeof *repeat, _Alignof(struct repeat));
    if (repeat == NULL) {
        return NULL;
    }
    unit_session_key_of_request(exchange->service->name, key, &repeat->key);
    buffer_init(&repeat->answer.bytes, LIMIT_DOCUMENT_BYTES_MAX);
    bson_init(&repeat->record);
    (void)head_find(bytes, exchange->shared->idempotency.identity_header, &identity);
    repeat->digest = EVP_MD_CTX_new();
    if (repeat->digest == NULL || EVP_DigestInit_ex(repeat->digest, EVP_sha256(), NULL) != 1 ||
        !take_part(repeat, head->method) || !take_part(repeat, head->target) ||
        !take_part(repeat, identity)) {
        return repeats_free(exchange->shared, repeat);
    }
    return repeat;
}

bool repeats_begin(struct exchange *exchange, const struct http_head *head, struct slice bytes)
{
    struct slice key;
    if (exchange->shared->idempotency.keys == NULL || exchange->inside ||
        head->idempotency_keys == 0) {
        return true;
    }
    if (head->idempotency_keys > 1 || head->minor_version == 0 ||
        !parse_key(head->idempotency_key, &key)) {
        exchange_malformed(exchange, ERROR_ANSWER_KEY_MALFORMED,
                           "it is to be one text of 1 to 255 characters, in HTTP/1.1");
        return false;
    }
    exchange->repeat = make(exchange, head, bytes, key);
    if (exchange->repeat == NULL) {
        exchange_refuse(exchange, ERROR_ANSWER_KEY_FAILED, NULL);
        return false;
    }
    exchange->incoming.limit = exchange->shared->idempotency.body_bytes_max +
                               FRAMING_TRAILER_BYTES_MAX + FRONT_INCOMING_BYTES_MAX;
    return true;
}

/* ------------------------------------------------------------------ the body */

/* How it is cut into chunks is no part of it. */
static bool take_body(struct repeat *repeat, struct framing framing, struct slice body)
{
    enum framing_result result = FRAMING_MORE;
    struct framing_part part;
    while (result == FRAMING_MORE && body.size > 0) {
        result = framing_take_part(&framing, body, &part);
        if (!take_digest(repeat, part.body)) {
            return false;
        }
        body = slice_rest(body, part.used);
    }
    return EVP_DigestFinal_ex(repeat->digest, repeat->fingerprint, NULL) == 1;
}

static void refuse(struct exchange *exchange, enum idempotency_found found, uint64_t unit)
{
    char number[32];
    switch (found) {
    case IDEMPOTENCY_RUNNING:
        exchange_refuse(exchange, ERROR_ANSWER_KEY_RUNNING, NULL);
        break;
    case IDEMPOTENCY_MISUSED:
        exchange_refuse(exchange, ERROR_ANSWER_KEY_MISUSED, NULL);
        break;
    case IDEMPOTENCY_CONFLICT:
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)unit);
        exchange_refuse(exchange, ERROR_ANSWER_CONFLICT, number);
        break;
    case IDEMPOTENCY_FULL:
        exchange_refuse(exchange, ERROR_ANSWER_KEY_QUOTA, NULL);
        break;
    case IDEMPOTENCY_NEW:
    case IDEMPOTENCY_ANSWERED:
    case IDEMPOTENCY_FAILED:
        exchange_refuse(exchange, ERROR_ANSWER_KEY_FAILED, NULL);
        break;
    }
}

bool repeats_admit(struct exchange *exchange, struct slice body)
{
    struct repeat *repeat = exchange->repeat;
    uint64_t unit = 0;
    if (body.size > exchange->shared->idempotency.body_bytes_max) {
        exchange_refuse(exchange, ERROR_ANSWER_KEY_BODY_TOO_LARGE, NULL);
        return false;
    }
    enum idempotency_found found = IDEMPOTENCY_FAILED;
    if (take_body(repeat, exchange->framing, body)) {
        found = idempotency_begin(exchange->shared->idempotency.keys, &repeat->key,
                                  repeat->fingerprint, &repeat->answer, &unit);
    }
    if (found == IDEMPOTENCY_NEW) {
        repeat->claimed = true;
        exchange->call.request_key = &repeat->key;
        return true;
    }
    if (found == IDEMPOTENCY_ANSWERED) {
        repeat->answered = true;
        exchange->refusing = true; /* refuse_now() sends it */
        exchange->again = true;
        return false;
    }
    refuse(exchange, found, unit);
    return false;
}

/* ------------------------------------------------------------------ the answer */

bool repeats_record(struct exchange *exchange)
{
    struct repeat *repeat = exchange->repeat;
    if (repeat == NULL) {
        return true;
    }
    if (exchange->held.size > exchange->shared->idempotency.answer_bytes_max ||
        !idempotency_put_answer(&repeat->record, repeat->fingerprint, buffer_slice(&exchange->held),
                                !exchange->answer_keep_alive)) {
        return false;
    }
    exchange->call.answer = slice_make(bson_get_data(&repeat->record), repeat->record.len);
    return true;
}

void repeats_end(struct exchange *exchange, bool committed)
{
    struct repeat *repeat = exchange->repeat;
    if (repeat != NULL && repeat->claimed) {
        repeat->claimed = false;
        idempotency_end(exchange->shared->idempotency.keys, &repeat->key,
                        committed ? exchange->held.size : 0);
    }
}

bool repeats_is_answered(const struct exchange *exchange)
{
    return exchange->repeat != NULL && exchange->repeat->answered;
}

enum status repeats_append_answer(struct exchange *exchange, struct buffer *out)
{
    static const char mark[] = "Idempotency-Replayed: true\r\n";
    const struct idempotency_answer *answer = &exchange->repeat->answer;
    struct slice bytes = buffer_slice(&answer->bytes);
    const uint8_t *line_end = memchr(bytes.data, '\n', bytes.size);
    size_t first = line_end == NULL ? 0 : (size_t)(line_end - bytes.data) + 1;
    exchange->close_after = exchange->close_after || answer->closes;
    enum status status = buffer_append(out, bytes.data, first);
    status = status == STATUS_OK ? buffer_append(out, mark, sizeof mark - 1) : status;
    struct slice rest = slice_rest(bytes, first);
    return status == STATUS_OK ? buffer_append(out, rest.data, rest.size) : status;
}

/* ------------------------------------------------------------------ life */

struct repeat *repeats_free(const struct front_shared *shared, struct repeat *repeat)
{
    if (repeat != NULL) {
        if (repeat->claimed) {
            idempotency_end(shared->idempotency.keys, &repeat->key, 0);
        }
        EVP_MD_CTX_free(repeat->digest);
        buffer_free(&repeat->answer.bytes);
        bson_destroy(&repeat->record);
        free(repeat);
    }
    return NULL;
}
