#ifndef HOLDFAST_WAL_CIPHER_H
#define HOLDFAST_WAL_CIPHER_H

/*
 * Encryption at rest: what is in the payloads of records, which is all that holds documents.
 * Private to wal/.
 *
 * Envelope encryption, AES-256-GCM (NIST SP 800-38D) twice:
 *
 *     key file --wraps--> data keys, in the property .keys --encrypt--> payloads
 *
 * Each opening for writing makes a data key of its own and counts what it encrypts with it: the
 * count is the nonce. So no nonce is ever used twice with a key, whatever a crash leaves half
 * written, and changing the key file rewrites the property and no record. A wrapped key is bound to
 * its journal and its place in it; a payload to its journal and its record's header, so that
 * neither can be moved to where it does not belong without being noticed.
 *
 * Not encrypted: record headers, rows of units and sessions, properties. They hold numbers, times,
 * and the keys by which retried commands are found.
 *
 * Threads: cipher_encrypt() on the writer thread; cipher_decrypt() and cipher_learn() on any;
 * the rest on the thread that opens the journal, or in a task of the writer thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/slice.h"
#include "holdfast/wal.h"

/* By how much an encrypted payload is longer: the number of the data key, the nonce's count, the
   tag. */
#define CIPHER_OVERHEAD_BYTES 28u

struct cipher;

/*
 * Reads the key file. `journal_id` is copied.
 *
 * Errors: STATUS_INVALID (it cannot be read, others may read it, it is not a key: says what to do),
 * STATUS_MEMORY.
 */
MUST_CHECK enum status cipher_open(const char *key_file,
                                   const uint8_t journal_id[WAL_JOURNAL_ID_BYTES],
                                   struct cipher **ret_cipher, struct error *ret_error);
/* Clears all keys. NULL is harmless; returns NULL. */
struct cipher *cipher_close(struct cipher *cipher);

/*
 * Takes over the data keys of the property .keys, in place of those known so far.
 * Errors: STATUS_INVALID (another key file has wrapped them), STATUS_CORRUPT, STATUS_MEMORY.
 */
MUST_CHECK enum status cipher_learn(struct cipher *cipher, struct slice property,
                                    struct error *ret_error);

/* Asks whether there is a record with an LSN from `first` to before `end`. */
struct cipher_use {
    enum status (*find)(void *context, uint64_t first, uint64_t end, bool *ret_used,
                        struct error *ret_error);
    void *context;
};

/*
 * Makes the data key that cipher_encrypt() uses from here on. `first_lsn`: no record with a smaller
 * one will be encrypted with it. Data keys of which there is no record any more are forgotten.
 * Once, after cipher_learn() where there is a property.
 * Errors: STATUS_LIMIT (too many openings whose records are still kept), STATUS_IO, STATUS_MEMORY,
 * what `use` returns.
 */
MUST_CHECK enum status cipher_begin(struct cipher *cipher, uint64_t first_lsn,
                                    const struct cipher_use *use, struct error *ret_error);

/* The LSN from which on all records are encrypted: one that is not has been put there by somebody
   without the key. UINT64_MAX: there is no data key yet. Any thread. */
uint64_t cipher_since(struct cipher *cipher);

/* The property .keys: all data keys, wrapped. To be freed. STATUS_IO, STATUS_MEMORY. */
MUST_CHECK enum status cipher_property(const struct cipher *cipher, uint8_t **ret_bytes,
                                       size_t *ret_size, struct error *ret_error);

/* Whether that property has the data key of an encrypted payload; without the key file. Size 0:
   there is no property. */
bool cipher_property_has(struct slice property, struct slice payload);

/* Wraps with another key file from here on. Errors: as cipher_open(). */
MUST_CHECK enum status cipher_change_file(struct cipher *cipher, const char *key_file,
                                          struct error *ret_error);

/* Writes record->payload, encrypted, to `room`: CIPHER_OVERHEAD_BYTES more than it has. STATUS_IO:
   OpenSSL failed. */
MUST_CHECK enum status cipher_encrypt(struct cipher *cipher, const struct wal_record *record,
                                      uint8_t *room, struct error *ret_error);

/*
 * Writes the payload of an encrypted record to `room`, CIPHER_OVERHEAD_BYTES fewer than it has.
 * Errors: STATUS_NOT_FOUND (its data key is not known: cipher_learn() again), STATUS_CORRUPT,
 * STATUS_IO.
 */
MUST_CHECK enum status cipher_decrypt(struct cipher *cipher, const struct wal_record *record,
                                      uint8_t *room, struct error *ret_error);

#endif
