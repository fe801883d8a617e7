/*
 * Connections by address (address_counts.h). An entry is there as long as its count is not 0.
 * Any thread; the mutex covers all of it.
 */
#include "net/address_counts.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

struct entry {
    uint8_t bytes[16];
    uint64_t count;
    UT_hash_handle hh;
};

struct address_counts {
    pthread_mutex_t mutex;
    struct entry *entries;
};

struct address_counts *address_counts_new(void)
{
    struct address_counts *counts = calloc(1, sizeof *counts);
    if (counts != NULL) {
        (void)pthread_mutex_init(&counts->mutex, NULL);
    }
    return counts;
}

struct address_counts *address_counts_free(struct address_counts *counts)
{
    if (counts != NULL) {
        struct entry *at;
        struct entry *next;
        HASH_ITER(hh, counts->entries, at, next)
        {
            HASH_DEL(counts->entries, at);
            free(at);
        }
        (void)pthread_mutex_destroy(&counts->mutex);
        free(counts);
    }
    return NULL;
}

/* IPv4 as ::ffff:a.b.c.d, whole; of IPv6 the first half. */
static struct address_key key_of(const struct sockaddr *peer)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct address_key key = {.counted = true};
    if (peer->sa_family == AF_INET) {
        memcpy(key.bytes, mapped, sizeof mapped);
        memcpy(key.bytes + 12, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, 4);
    } else if (peer->sa_family == AF_INET6) {
        const struct in6_addr *address =
            &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
        memcpy(key.bytes, address->s6_addr, IN6_IS_ADDR_V4MAPPED(address) ? 16 : 8);
    }
    return key;
}

static struct entry *find_or_add(struct address_counts *counts, const struct address_key *key)
{
    struct entry *entry = NULL;
    HASH_FIND(hh, counts->entries, key->bytes, sizeof key->bytes, entry);
    if (entry == NULL && (entry = calloc(1, sizeof *entry)) != NULL) {
        memcpy(entry->bytes, key->bytes, sizeof key->bytes);
        HASH_ADD(hh, counts->entries, bytes, sizeof entry->bytes, entry);
    }
    return entry;
}

bool address_counts_enter(struct address_counts *counts, const struct sockaddr *peer, uint64_t max,
                          struct address_key *ret_key)
{
    bool entered = false;
    *ret_key = (struct address_key){0};
    if (max == 0) {
        return true;
    }
    struct address_key key = key_of(peer);
    pthread_mutex_lock(&counts->mutex);
    struct entry *entry = find_or_add(counts, &key);
    if (entry != NULL && entry->count < max) {
        entry->count++;
        entered = true;
        *ret_key = key;
    }
    pthread_mutex_unlock(&counts->mutex);
    return entered;
}

void address_counts_leave(struct address_counts *counts, const struct address_key *key)
{
    struct entry *entry = NULL;
    if (!key->counted) {
        return;
    }
    pthread_mutex_lock(&counts->mutex);
    HASH_FIND(hh, counts->entries, key->bytes, sizeof key->bytes, entry);
    assert(entry != NULL && entry->count > 0);
    if (--entry->count == 0) {
        HASH_DEL(counts->entries, entry);
        free(entry);
    }
    pthread_mutex_unlock(&counts->mutex);
}
