#ifndef HOLDFAST_BASE_CHANNEL_H
#define HOLDFAST_BASE_CHANNEL_H

/*
 * Messages and open descriptors from one process to another on this machine, over a connected pair
 * of stream sockets. Each message is
 *
 *     0  4  bytes of the payload, little-endian
 *     4  4  kind, a number of the two processes'
 *     8     payload
 *
 * and up to CHANNEL_DESCRIPTORS_MAX descriptors travel with its header.
 *
 * One thread at a time per end. Blocking, but no longer than CHANNEL_ANSWER_MS without progress.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"

#define CHANNEL_DESCRIPTORS_MAX 2u
#define CHANNEL_ANSWER_MS 10000u
/* Of a payload: a connection with a whole message that waits, and what belongs to it. */
#define CHANNEL_PAYLOAD_MAX (64u * 1024u * 1024u)

struct channel_message {
    uint32_t kind;
    uint8_t *payload; /* NULL: none */
    size_t size;
    int descriptors[CHANNEL_DESCRIPTORS_MAX]; /* -1: none, or taken by the caller */
};

/* Both ends close on exec. Errors: STATUS_LIMIT. */
MUST_CHECK enum status channel_pair(int ret_ends[2], struct error *ret_error);

/* Prepares an end that came with the process's start. Errors: STATUS_INVALID: it is no such end. */
MUST_CHECK enum status channel_inherited(int end, struct error *ret_error);

/* The descriptors stay the caller's. Errors: STATUS_UNREACHABLE (the other process has ended, or
   takes nothing), STATUS_INVALID (too large). */
MUST_CHECK enum status channel_send(int end, uint32_t kind, struct slice payload,
                                    const int *descriptors, size_t descriptor_count,
                                    struct error *ret_error);

/* Whether a message, or the end, is there within wait_ms. */
bool channel_is_ready(int end, int wait_ms);

/*
 * Waits for a message; *ret_message is to be given to channel_message_free(). Errors:
 * STATUS_UNREACHABLE (the other process has ended, or says nothing), STATUS_PROTOCOL,
 * STATUS_MEMORY.
 */
MUST_CHECK enum status channel_receive(int end, struct channel_message *ret_message,
                                       struct error *ret_error);

/* Closes the descriptors that are left in it. A zeroed one, whose descriptors are -1, is harmless.
 */
void channel_message_free(struct channel_message *message);

#endif
