#ifndef HOLDFAST_LIMITS_H
#define HOLDFAST_LIMITS_H

/*
 * Every fixed bound, with its reason. What an operator may change is in proxy/base/config.h.
 */

/* The wire protocol's own limits, as mongod states them in hello. */
#define LIMIT_MESSAGE_BYTES_MAX (48u * 1000u * 1000u)
#define LIMIT_DOCUMENT_BYTES_MAX (16u * 1024u * 1024u)
/* A command may exceed a document by this much, so that a 16 MiB document fits into one. */
#define LIMIT_COMMAND_OVERHEAD_BYTES (16u * 1024u)

/*
 * A journaled write, and its undo, carry both images in one command document: together they must
 * fit one.
 */
#define LIMIT_UNIT_IMAGES_BYTES_MAX (LIMIT_DOCUMENT_BYTES_MAX - 64u * 1024u)
/* The before-image of a write whose after-image nobody knows yet. */
#define LIMIT_UNIT_DOCUMENT_BYTES_MAX (7u * 1024u * 1024u)

/* One worker's receive buffer. 256 KiB moves 1.2 to 1.3 times what 64 KiB moves. */
#define LIMIT_RECEIVE_BUFFER_BYTES (256u * 1024u)

/* Namespace gates are a fixed table, so that names chosen by a client cost no memory. */
#define LIMIT_NAMESPACE_GATES 4096u

/*
 * Of all reads at once that carry before-images: each has its command up to three times, while it
 * is built, framed and sent. Five of the largest, or thousands of common ones; beyond it a read
 * waits for the units instead.
 */
#define LIMIT_OVERLAY_BYTES_MAX (256u * 1024u * 1024u)

/* What units keep of their reads' answers for later batches, all together. Beyond, an answer comes
   in one batch. */
#define LIMIT_CURSOR_BYTES_MAX (256u * 1024u * 1024u)

/* Writes of transactions that are put off, all together. Beyond, they are carried out at once. */
#define LIMIT_DEFERRED_BYTES_MAX (64u * 1024u * 1024u)

/* A session key in the journal: user digest and session id. LMDB's own limit is 511. */
#define LIMIT_SESSION_KEY_BYTES 64u

/* What is kept of a client's appName, with its end; drivers allow one byte more. */
#define LIMIT_APPLICATION_BYTES 128u

/* BSON deeper than this is refused, as mongod refuses it (200), before any recursion of ours. */
#define LIMIT_BSON_DEPTH 180

#endif
