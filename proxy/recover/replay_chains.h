#ifndef HOLDFAST_RECOVER_REPLAY_CHAINS_H
#define HOLDFAST_RECOVER_REPLAY_CHAINS_H

/*
 * The images of every document that the journal's units wrote, for a replay; private to this
 * folder. Of an image only its place in the journal and a hash are kept: 64 bytes a write, and
 * some 150 and the _id for each document.
 */

#include <uthash.h>

#include "recover/history.h"
#include "recover/replay.h"

/* An image in the journal. */
struct replay_image {
    uint64_t lsn; /* of the record that holds it */
    uint64_t hash;
    uint32_t offset;
    uint32_t size;
};

enum replay_outcome {
    REPLAY_COMMITTED,
    REPLAY_NOT_COMMITTED, /* rolled back, open, or committed after the limit */
    REPLAY_SET_ASIDE,     /* in conflict, or an operator kept what was there */
};

/* One write of the document. */
struct replay_link {
    uint64_t lsn; /* of the WRITE record: documents' links are in this order */
    uint64_t unit;
    struct replay_image before;
    struct replay_image after;
    uint8_t before_presence; /* enum image_presence */
    uint8_t after_presence;
    uint8_t outcome; /* enum replay_outcome */
    uint32_t next;   /* while it is built: the document's next link, REPLAY_NONE: none */
};

#define REPLAY_NONE UINT32_MAX

struct replay_document {
    UT_hash_handle hh;
    const char *namespace;
    struct slice key;
    uint32_t first_link; /* after replay_chains_finish(): its links lie one behind the other */
    uint32_t last_link;
    uint32_t link_count;
    /* for replay.c */
    struct image found;   /* a copy while it is worked on */
    struct image wanted;  /* as well */
    uint32_t position;    /* the link at whose image it was found */
    bool position_before; /* at the image before it, else after it */
};

struct replay_chains;

/* Room for one key; zero at first, to be freed by free(scratch.bytes). One for each thread. */
struct replay_scratch {
    uint8_t *bytes;
    size_t size;
};

/* Takes documents of portion `portion` of `portions` only. NULL: out of memory. */
struct replay_chains *replay_chains_new(uint64_t portion, uint64_t portions);
/* NULL is harmless; returns NULL. */
struct replay_chains *replay_chains_free(struct replay_chains *chains);

/*
 * Adds the unit's writes up to until_lsn. *ret_added: how many writes. Any thread. Errors: those of
 * history.h.
 */
MUST_CHECK enum status replay_chains_add(struct replay_chains *chains,
                                         const struct unit_history *history, uint64_t until_lsn,
                                         enum replay_outcome outcome,
                                         struct replay_scratch *scratch, uint64_t *ret_added,
                                         struct error *ret_error);

/* Bytes of memory in use. Any thread. */
size_t replay_chains_bytes(struct replay_chains *chains);

/* After the last unit: brings each document's links into their order. STATUS_MEMORY. */
MUST_CHECK enum status replay_chains_finish(struct replay_chains *chains, struct error *ret_error);

/* The documents, those of one namespace together; their number. Valid until they are freed. */
struct replay_document **replay_chains_documents(struct replay_chains *chains, size_t *ret_count);

/*
 * The one that has the _id of `document`; NULL: no unit wrote it, or memory is short. Any thread,
 * while nothing is added.
 */
struct replay_document *replay_chains_find(const struct replay_chains *chains,
                                           const char *namespace, struct slice document,
                                           struct replay_scratch *scratch);

const struct replay_link *replay_chains_link(const struct replay_chains *chains,
                                             const struct replay_document *document,
                                             uint32_t index);

/*
 * The image that the document belongs at. *ret_left: where the last unit that wrote it was set
 * aside, its links from this one on; their after-images stay; else link_count.
 */
struct history_image replay_chains_wanted(const struct replay_chains *chains,
                                          const struct replay_document *document,
                                          uint32_t *ret_left);

/*
 * Whether `image`, a copy that somebody made from the server's reply, is one of the document's; the
 * newest such place goes into the document. Errors: those of reading the journal.
 */
MUST_CHECK enum status replay_chains_match(const struct replay_chains *chains, struct wal *wal,
                                           struct replay_document *document, struct image image,
                                           bool *ret_matches, struct error *ret_error);

struct history_image replay_image_place(const struct replay_image *image, uint8_t presence);

#endif
