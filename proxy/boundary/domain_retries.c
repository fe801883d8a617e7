/*
 * Which way the retryable writes of a domain's sessions went; see domain_retries.h.
 *
 * Invariant: of one session and number all writes go one way, as long as its entry is there: it is
 * looked at and noted in one step.
 *
 * The domain's mutex is held.
 */
#include "boundary/domain_retries.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#define SESSION_BYTES 16u
#define KEY_BYTES (SESSION_BYTES + 512u)

struct retry_entry {
    UT_hash_handle hh;
    int64_t number;
    uint64_t call; /* of whose unit it is; 0: of none */
    size_t key_size;
    uint8_t key[]; /* the session's id, and its user */
};

static size_t make_key(const struct domain_retry *retry, uint8_t *key)
{
    size_t session_size =
        retry->session_id.size < SESSION_BYTES ? retry->session_id.size : SESSION_BYTES;
    size_t user_size = strnlen(retry->user, KEY_BYTES - SESSION_BYTES);
    memset(key, 0, SESSION_BYTES);
    memcpy(key, retry->session_id.data, session_size);
    memcpy(key + SESSION_BYTES, retry->user, user_size);
    return SESSION_BYTES + user_size;
}

static void forget_oldest(struct retry_list *list)
{
    struct retry_entry *oldest = list->entries;
    HASH_DEL(list->entries, oldest);
    free(oldest);
}

static enum retry_way add(struct retry_list *list, const struct domain_retry *retry,
                          const uint8_t *key, size_t key_size, uint64_t call)
{
    struct retry_entry *entry = calloc(1, sizeof *entry + key_size);
    if (entry == NULL) {
        return RETRY_NO_MEMORY;
    }
    if (HASH_COUNT(list->entries) >= RETRIES_MAX) {
        forget_oldest(list);
    }
    entry->number = retry->number;
    entry->call = call;
    entry->key_size = key_size;
    memcpy(entry->key, key, key_size);
    HASH_ADD_KEYPTR(hh, list->entries, entry->key, entry->key_size, entry);
    return RETRY_AS_ASKED;
}

static void to_end(struct retry_list *list, struct retry_entry *entry)
{
    HASH_DEL(list->entries, entry);
    HASH_ADD_KEYPTR(hh, list->entries, entry->key, entry->key_size, entry);
}

enum retry_way domain_retries_note(struct domain_retries *retries, const struct domain_retry *retry,
                                   uint64_t call)
{
    struct retry_list *list = retry->user[0] == '\0' ? &retries->strangers : &retries->known;
    uint8_t key[KEY_BYTES];
    size_t key_size = make_key(retry, key);
    struct retry_entry *entry = NULL;
    HASH_FIND(hh, list->entries, key, key_size, entry);
    if (entry == NULL) {
        return add(list, retry, key, key_size, call);
    }
    if (retry->number < entry->number) {
        return RETRY_TOO_OLD;
    }
    to_end(list, entry);
    if (retry->number > entry->number) {
        entry->number = retry->number;
        entry->call = call;
        return RETRY_AS_ASKED;
    }
    if (entry->call == call) {
        return RETRY_AS_ASKED;
    }
    return entry->call == 0 ? RETRY_OUTSIDE : RETRY_ENDED;
}

static void list_free(struct retry_list *list)
{
    while (list->entries != NULL) {
        forget_oldest(list);
    }
}

void domain_retries_free(struct domain_retries *retries)
{
    list_free(&retries->known);
    list_free(&retries->strangers);
}
