/*
 * Encryption of payloads (cipher.h).
 *
 * An encrypted payload
 *
 *   offset  size  field
 *        0     4  number of the data key, from 1
 *        4     8  count of what was encrypted with it before; the nonce is 4 zero bytes and this
 *       12     n  AES-256-GCM of the payload
 *     12+n    16  tag; also over the journal's id and the record's kind, unit, LSN, previous LSN
 *                 and time
 *
 * The property .keys
 *
 *   offset  size  field
 *        0     8  which key file: the beginning of HMAC-SHA-256 of a fixed text with its key
 *        8    72  each data key, in the order of their numbers:
 *                   4  number
 *                   8  LSN: no record with a smaller one is encrypted with it
 *                  12  nonce, random
 *                  32  AES-256-GCM of the data key with the key of the key file
 *                  16  tag; also over the journal's id, number and LSN
 *
 * Invariants: `keys` is in the order of their numbers, which are never given out again while a
 * record needs one. The LSN of the first one only stays or falls: from it on all records are
 * encrypted. `lock` guards the keys; the context and the count are the writer thread's.
 */

#include "wal/cipher.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "wal/format.h"
#include "wal/key_file.h"

#define KEY_BYTES KEY_FILE_KEY_BYTES
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
#define MARK_BYTES 8u
#define HEAD_BYTES 12u /* of an encrypted payload */
#define ENTRY_BYTES (4u + 8u + NONCE_BYTES + KEY_BYTES + TAG_BYTES)
#define KEYS_MAX 10000u
#define BOUND_BYTES (WAL_JOURNAL_ID_BYTES + 33u)

struct data_key {
    uint32_t number;
    uint64_t first_lsn;
    uint8_t key[KEY_BYTES];
};

struct cipher {
    uint8_t journal_id[WAL_JOURNAL_ID_BYTES];
    uint8_t file_key[KEY_BYTES];
    pthread_mutex_t lock;
    struct data_key *keys;
    size_t key_count;
    EVP_CIPHER_CTX *writing; /* NULL before cipher_begin() */
    uint32_t number;         /* of the key that it has */
    uint64_t count;
};

/* ------------------------------------------------------------------ AES-256-GCM */

static enum status openssl_failed(struct error *ret_error)
{
    return error_set(ret_error, STATUS_IO, "OpenSSL cannot encrypt with AES-256-GCM");
}

/* Without a key: the one that the context has. */
static bool seal(EVP_CIPHER_CTX *context, const uint8_t *key, const uint8_t nonce[NONCE_BYTES],
                 struct slice bound, struct slice plain, uint8_t *room)
{
    int size = 0;
    return EVP_EncryptInit_ex(context, key == NULL ? NULL : EVP_aes_256_gcm(), NULL, key, nonce) ==
               1 &&
           EVP_EncryptUpdate(context, NULL, &size, bound.data, (int)bound.size) == 1 &&
           EVP_EncryptUpdate(context, room, &size, plain.data, (int)plain.size) == 1 &&
           EVP_EncryptFinal_ex(context, room + plain.size, &size) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, room + plain.size) == 1;
}

/* `sealed` ends with the tag. False: not what was sealed with this key and nonce. */
static bool unseal(EVP_CIPHER_CTX *context, const uint8_t key[KEY_BYTES],
                   const uint8_t nonce[NONCE_BYTES], struct slice bound, struct slice sealed,
                   uint8_t *room)
{
    uint8_t tag[TAG_BYTES];
    int size = 0;
    size_t plain = sealed.size - TAG_BYTES;
    memcpy(tag, sealed.data + plain, TAG_BYTES);
    return EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_DecryptUpdate(context, NULL, &size, bound.data, (int)bound.size) == 1 &&
           EVP_DecryptUpdate(context, room, &size, sealed.data, (int)plain) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 &&
           EVP_DecryptFinal_ex(context, room + plain, &size) == 1;
}

/* What a payload is bound to. */
static struct slice bound_record(const struct cipher *cipher, const struct wal_record *record,
                                 uint8_t room[BOUND_BYTES])
{
    uint8_t *at = room + WAL_JOURNAL_ID_BYTES;
    memcpy(room, cipher->journal_id, WAL_JOURNAL_ID_BYTES);
    at[0] = (uint8_t)record->kind;
    slice_store_u64be(at + 1, record->unit);
    slice_store_u64be(at + 9, record->lsn);
    slice_store_u64be(at + 17, record->previous_lsn);
    slice_store_u64be(at + 25, record->time_ms);
    return slice_make(room, BOUND_BYTES);
}

/* What a wrapped key is bound to. */
static struct slice bound_key(const struct cipher *cipher, const uint8_t *entry,
                              uint8_t room[BOUND_BYTES])
{
    memcpy(room, cipher->journal_id, WAL_JOURNAL_ID_BYTES);
    memcpy(room + WAL_JOURNAL_ID_BYTES, entry, 12);
    return slice_make(room, WAL_JOURNAL_ID_BYTES + 12);
}

/* ------------------------------------------------------------------ the key file */

static bool mark_of(const uint8_t key[KEY_BYTES], uint8_t mark[MARK_BYTES])
{
    static const char text[] = "holdfast journal key file";
    uint8_t whole[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool done = HMAC(EVP_sha256(), key, KEY_BYTES, (const uint8_t *)text, sizeof(text) - 1, whole,
                     &size) != NULL;
    if (done) {
        memcpy(mark, whole, MARK_BYTES);
    }
    return done;
}

enum status cipher_open(const char *key_file, const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                        struct cipher **ret_cipher, struct error *ret_error)
{
    struct cipher *cipher = calloc(1, sizeof(*cipher));
    if (cipher == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    enum status status = key_file_read(key_file, cipher->file_key, ret_error);
    if (status != STATUS_OK) {
        free(cipher);
        return status;
    }
    memcpy(cipher->journal_id, journal_id, WAL_JOURNAL_ID_BYTES);
    pthread_mutex_init(&cipher->lock, NULL);
    *ret_cipher = cipher;
    return STATUS_OK;
}

static void free_keys(struct data_key *keys, size_t count)
{
    if (keys != NULL) {
        OPENSSL_cleanse(keys, count * sizeof(*keys));
        free(keys);
    }
}

struct cipher *cipher_close(struct cipher *cipher)
{
    if (cipher != NULL) {
        EVP_CIPHER_CTX_free(cipher->writing);
        free_keys(cipher->keys, cipher->key_count);
        pthread_mutex_destroy(&cipher->lock);
        OPENSSL_cleanse(cipher, sizeof(*cipher));
        free(cipher);
    }
    return NULL;
}

enum status cipher_change_file(struct cipher *cipher, const char *key_file, struct error *ret_error)
{
    uint8_t key[KEY_BYTES];
    enum status status = key_file_read(key_file, key, ret_error);
    if (status == STATUS_OK) {
        memcpy(cipher->file_key, key, KEY_BYTES);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return status;
}

/* ------------------------------------------------------------------ data keys */

static enum status unwrap(const struct cipher *cipher, EVP_CIPHER_CTX *context,
                          const uint8_t *entry, struct data_key *ret_key, struct error *ret_error)
{
    uint8_t room[BOUND_BYTES];
    uint8_t key[KEY_BYTES + EVP_MAX_BLOCK_LENGTH];
    struct slice sealed = slice_make(entry + 12 + NONCE_BYTES, KEY_BYTES + TAG_BYTES);
    bool done =
        unseal(context, cipher->file_key, entry + 12, bound_key(cipher, entry, room), sealed, key);
    if (done) {
        ret_key->number = slice_load_u32be(entry);
        ret_key->first_lsn = slice_load_u64be(entry + 4);
        memcpy(ret_key->key, key, KEY_BYTES);
    }
    OPENSSL_cleanse(key, sizeof(key));
    return done ? STATUS_OK
                : error_set(ret_error, STATUS_CORRUPT,
                            "data key %u of the journal is damaged or of another journal",
                            (unsigned)slice_load_u32be(entry));
}

static enum status unwrap_all(const struct cipher *cipher, struct slice entries,
                              struct data_key *keys, struct error *ret_error)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    enum status status =
        context == NULL ? error_set(ret_error, STATUS_MEMORY, "out of memory") : STATUS_OK;
    uint32_t before = 0;
    for (size_t i = 0; i < entries.size / ENTRY_BYTES && status == STATUS_OK; i++) {
        status = unwrap(cipher, context, entries.data + i * ENTRY_BYTES, &keys[i], ret_error);
        if (status == STATUS_OK && keys[i].number <= before) {
            status = error_set(ret_error, STATUS_CORRUPT,
                               "the data keys of the journal are not in order");
        }
        before = keys[i].number;
    }
    EVP_CIPHER_CTX_free(context);
    return status;
}

enum status cipher_learn(struct cipher *cipher, struct slice property, struct error *ret_error)
{
    uint8_t mark[MARK_BYTES];
    if (property.size < MARK_BYTES || (property.size - MARK_BYTES) % ENTRY_BYTES != 0 ||
        (property.size - MARK_BYTES) / ENTRY_BYTES > KEYS_MAX) {
        return error_set(ret_error, STATUS_CORRUPT, "the data keys of the journal are damaged");
    }
    if (!mark_of(cipher->file_key, mark)) {
        return openssl_failed(ret_error);
    }
    if (CRYPTO_memcmp(mark, property.data, MARK_BYTES) != 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "this is not the key file that the journal is encrypted with");
    }
    size_t count = (property.size - MARK_BYTES) / ENTRY_BYTES;
    struct data_key *keys = calloc(count + 1, sizeof(*keys)); /* never of size 0 */
    if (keys == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    struct slice entries = slice_make(property.data + MARK_BYTES, property.size - MARK_BYTES);
    enum status status = unwrap_all(cipher, entries, keys, ret_error);
    if (status != STATUS_OK) {
        free_keys(keys, count + 1);
        return status;
    }
    pthread_mutex_lock(&cipher->lock);
    struct data_key *former = cipher->keys;
    size_t former_count = cipher->key_count;
    cipher->keys = keys;
    cipher->key_count = count;
    pthread_mutex_unlock(&cipher->lock);
    free_keys(former, former_count);
    return STATUS_OK;
}

uint64_t cipher_since(struct cipher *cipher)
{
    pthread_mutex_lock(&cipher->lock);
    uint64_t since = cipher->key_count == 0 ? UINT64_MAX : cipher->keys[0].first_lsn;
    pthread_mutex_unlock(&cipher->lock);
    return since;
}

/* The newest stays in any case, so that no number is given out twice. What is first then has the
   LSN of what was. */
static enum status forget_unused(struct cipher *cipher, const struct cipher_use *use,
                                 struct error *ret_error)
{
    size_t kept = 0;
    uint64_t since = cipher_since(cipher);
    for (size_t i = 0; i < cipher->key_count; i++) {
        bool used = i + 1 == cipher->key_count;
        if (!used) {
            enum status status = use->find(use->context, cipher->keys[i].first_lsn,
                                           cipher->keys[i + 1].first_lsn, &used, ret_error);
            if (status != STATUS_OK) {
                return status;
            }
        }
        if (used) {
            cipher->keys[kept++] = cipher->keys[i];
        }
    }
    cipher->key_count = kept;
    if (kept > 0) {
        cipher->keys[0].first_lsn = since;
    }
    return STATUS_OK;
}

enum status cipher_begin(struct cipher *cipher, uint64_t first_lsn, const struct cipher_use *use,
                         struct error *ret_error)
{
    enum status status = forget_unused(cipher, use, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    if (cipher->key_count >= KEYS_MAX) {
        return error_set(ret_error, STATUS_LIMIT,
                         "the journal keeps records of %u openings, each with a key of its own: "
                         "prune it (holdfast prune), or resolve old conflicts",
                         KEYS_MAX);
    }
    struct data_key key = {.number = 1, .first_lsn = first_lsn};
    if (cipher->key_count > 0) {
        key.number = cipher->keys[cipher->key_count - 1].number + 1;
    }
    struct data_key *keys = calloc(cipher->key_count + 1, sizeof(*keys));
    if (keys == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    if (cipher->key_count > 0) {
        memcpy(keys, cipher->keys, cipher->key_count * sizeof(*keys));
    }
    free_keys(cipher->keys, cipher->key_count); /* not realloc(), which would leave a copy behind */
    cipher->keys = keys;
    cipher->writing = EVP_CIPHER_CTX_new();
    if (cipher->writing == NULL || RAND_bytes(key.key, KEY_BYTES) != 1 ||
        EVP_EncryptInit_ex(cipher->writing, EVP_aes_256_gcm(), NULL, key.key, NULL) != 1) {
        return openssl_failed(ret_error);
    }
    cipher->keys[cipher->key_count++] = key;
    cipher->number = key.number;
    cipher->count = 0;
    OPENSSL_cleanse(&key, sizeof(key));
    return STATUS_OK;
}

static bool wrap(const struct cipher *cipher, EVP_CIPHER_CTX *context, const struct data_key *key,
                 uint8_t *entry)
{
    uint8_t room[BOUND_BYTES];
    slice_store_u32be(entry, key->number);
    slice_store_u64be(entry + 4, key->first_lsn);
    return RAND_bytes(entry + 12, NONCE_BYTES) == 1 &&
           seal(context, cipher->file_key, entry + 12, bound_key(cipher, entry, room),
                slice_make(key->key, KEY_BYTES), entry + 12 + NONCE_BYTES);
}

enum status cipher_property(const struct cipher *cipher, uint8_t **ret_bytes, size_t *ret_size,
                            struct error *ret_error)
{
    size_t size = MARK_BYTES + cipher->key_count * ENTRY_BYTES;
    uint8_t *bytes = malloc(size);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool done = bytes != NULL && context != NULL && mark_of(cipher->file_key, bytes);
    for (size_t i = 0; i < cipher->key_count && done; i++) {
        done = wrap(cipher, context, &cipher->keys[i], bytes + MARK_BYTES + i * ENTRY_BYTES);
    }
    EVP_CIPHER_CTX_free(context);
    if (!done) {
        free(bytes);
        return openssl_failed(ret_error);
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ payloads */

enum status cipher_encrypt(struct cipher *cipher, const struct wal_record *record, uint8_t *room,
                           struct error *ret_error)
{
    uint8_t bound[BOUND_BYTES];
    uint8_t nonce[NONCE_BYTES] = {0};
    slice_store_u32be(room, cipher->number);
    slice_store_u64be(room + 4, cipher->count);
    slice_store_u64be(nonce + 4, cipher->count);
    cipher->count++; /* also where the transaction is given up: its pages may be on the disk */
    return seal(cipher->writing, NULL, nonce, bound_record(cipher, record, bound), record->payload,
                room + HEAD_BYTES)
               ? STATUS_OK
               : openssl_failed(ret_error);
}

static bool find_key(struct cipher *cipher, uint32_t number, uint8_t ret_key[KEY_BYTES])
{
    bool found = false;
    pthread_mutex_lock(&cipher->lock);
    for (size_t i = cipher->key_count; i > 0 && !found; i--) {
        found = cipher->keys[i - 1].number == number;
        if (found) {
            memcpy(ret_key, cipher->keys[i - 1].key, KEY_BYTES);
        }
    }
    pthread_mutex_unlock(&cipher->lock);
    return found;
}

enum status cipher_decrypt(struct cipher *cipher, const struct wal_record *record, uint8_t *room,
                           struct error *ret_error)
{
    uint8_t bound[BOUND_BYTES];
    uint8_t nonce[NONCE_BYTES] = {0};
    uint8_t key[KEY_BYTES];
    struct slice payload = record->payload;
    if (payload.size < CIPHER_OVERHEAD_BYTES) {
        return error_set(ret_error, STATUS_CORRUPT,
                         "record %llu is damaged: too short for an encrypted one",
                         (unsigned long long)record->lsn);
    }
    uint32_t number = slice_load_u32be(payload.data);
    if (!find_key(cipher, number, key)) {
        return error_set(ret_error, STATUS_NOT_FOUND,
                         "record %llu is encrypted with data key %u, which the journal has not",
                         (unsigned long long)record->lsn, (unsigned)number);
    }
    memcpy(nonce + 4, payload.data + 4, 8);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool done = context != NULL &&
                unseal(context, key, nonce, bound_record(cipher, record, bound),
                       slice_make(payload.data + HEAD_BYTES, payload.size - HEAD_BYTES), room);
    EVP_CIPHER_CTX_free(context);
    OPENSSL_cleanse(key, sizeof(key));
    return done ? STATUS_OK
                : error_set(ret_error, STATUS_CORRUPT,
                            "record %llu is damaged: it cannot be decrypted",
                            (unsigned long long)record->lsn);
}

bool cipher_property_has(struct slice property, struct slice payload)
{
    if (payload.size < CIPHER_OVERHEAD_BYTES) {
        return false;
    }
    for (size_t at = MARK_BYTES; at + ENTRY_BYTES <= property.size; at += ENTRY_BYTES) {
        if (slice_load_u32be(property.data + at) == slice_load_u32be(payload.data)) {
            return true;
        }
    }
    return false;
}
