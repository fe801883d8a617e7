#ifndef HOLDFAST_ENGINE_WRITE_STEPS_H
#define HOLDFAST_ENGINE_WRITE_STEPS_H

/*
 * What write.c's machine and the files with its steps share. A step function that returns bool says
 * whether to go on at once; all of them may set the step.
 */

#include "engine/write.h"
#include "holdfast/image.h"

/* ---- write.c */

/* From now on statements are of this namespace; the texts outlive the operation. False: out of
 * memory. */
bool write_take_namespace(struct write_operation *operation, const char *database,
                          const char *collection);
/* Ends the command and the unit with an error of the proxy's own. */
void write_fail(struct write_operation *operation, int code, const char *message);
/* The same: there is no memory. */
void write_fail_for_memory(struct write_operation *operation);
/* The same: a stranger was seen to change a document that the unit writes. */
void write_fail_behind(struct write_operation *operation);
/*
 * The server refused statement `index` with this answer. WRITE_ERRORS_ABORT: ends the unit. Else
 * the error goes into the reply, and true says that the command goes on with the next statement;
 * false that the step is set.
 */
bool write_refused(struct write_operation *operation, size_t index, struct slice server_reply);
/*
 * The server failed with this answer when writes were done already, and which of them may not be
 * known. The unit is rolled back, whatever WRITE_ERRORS_* say; undoing finds out.
 */
void write_broken_off(struct write_operation *operation, size_t index, struct slice server_reply);
/* Sends and destroys the command; its reply goes to the step's write_take_*(). */
void write_send(struct write_operation *operation, bson_t *command);
/* Posts the operation's task: what it waits for has come. Any thread. */
void write_wake(struct write_operation *operation);
/* Waits for what other units or readers hold (LOCK, READERS): for unit.lockWait, or not at all if
   it is cancelled. */
void write_wait(struct write_operation *operation, enum write_wait wait);
/*
 * Locks a key of a unique index. False: it waits, and is called again when the wait is over; or it
 * has failed.
 */
bool write_lock_key(struct write_operation *operation, const struct lock_name *name);
void write_on_journaled(struct wal_append *first, void *context);

/* Of an operation that was put off: gives it all that write_start() would have; its documents, list
   and namespace are there. */
void write_init(struct write_operation *operation);
/* From its step on. */
void write_go_on(struct write_operation *operation);
/* What write_init() and the steps have allocated; the rest with it. */
void write_release(struct write_operation *operation);

/* ---- write_document.c: the batch of documents at work */

enum write_fate {
    WRITE_PENDING,   /* to be journaled and sent */
    WRITE_UNCHANGED, /* the update changes nothing: nothing is sent */
    WRITE_EXISTS,    /* an insert whose _id is there already */
    WRITE_ENDED,     /* written, or refused */
};

struct write_document {
    struct slice key; /* owned: {_id: value} */
    struct lock_name name;
    struct image before; /* owned */
    bson_t *after;       /* owned; NULL: absent (a delete), or computed by the server */
    bson_t *command;     /* owned; what the server computes it with, as journaled; else NULL */
    bson_t *forecast;    /* owned; has the keys that the server may make; else NULL */
    enum write_fate fate;
    int32_t number; /* of its WRITE record */
};

/* Appends {_id: value} of this document to `key`, an empty one, which stays so if it has no _id:
   false. */
bool write_key_of(struct slice document, bson_t *key);
/* A new one at the end, zeroed, with copies of key and image. NULL: out of memory; the operation
   has failed. */
struct write_document *write_document_add(struct write_operation *operation, struct slice key,
                                          struct image before);
/* The last one goes. */
void write_document_drop(struct write_operation *operation);
void write_documents_clear(struct write_operation *operation);
/* Fills in `after` and fate of a statement's documents. */
void write_documents_compute(struct write_operation *operation);
/* Whether its images fit a guarded write and its undo. */
bool write_document_fits(const struct write_document *document);
/* The one document is to be written without record and guard. */
void write_document_unjournaled(struct write_operation *operation);
/* How many of the next documents the next command takes. */
size_t write_documents_run(const struct write_operation *operation);
/* The server did not write these; the unit remembers it. */
void write_documents_refuse(struct write_operation *operation, size_t first, size_t count);

/* The rest of the statement is not written; the unit goes on with the next one. */
void write_skip_statement(struct write_operation *operation);

/* ---- write_resolve.c: from the statement to its documents and their before-images */

void write_select(struct write_operation *operation);
bool write_collect(struct write_operation *operation);
void write_take_collected(struct write_operation *operation, struct slice reply);
bool write_resolve(struct write_operation *operation);
void write_take_resolved(struct write_operation *operation, struct slice reply);
/* All documents of the batch are done: sets the step to the next batch or statement. */
void write_batch_done(struct write_operation *operation);
void write_statement_free(struct write_operation *operation);
/* The server refuses the statement before anything of it was written. */
void write_refuse_statement(struct write_operation *operation, struct slice reply);
/* Whether the unit may write all documents that were collected. False: it has failed. */
bool write_within_limits(struct write_operation *operation);
/* Locks `names`, which become the operation's, and then searches for the one document again. */
void write_lock_and_resolve(struct write_operation *operation, struct lock_name *names,
                            size_t count);
/* The search was for everything that the filter selects now: goes on with what it found. */
void write_hidden_done(struct write_operation *operation);

/* ---- write_hidden.c: what other units hide from the search */

enum write_hidden_result {
    WRITE_HIDDEN_NONE,
    WRITE_HIDDEN_SOME,   /* the step is set; write_hidden_done() follows, or another search */
    WRITE_HIDDEN_AGAIN,  /* units have begun to write there meanwhile: search again */
    WRITE_HIDDEN_FAILED, /* the operation has failed */
};

/* Before each search. */
void write_hidden_begin(struct write_operation *operation);
/* When all of its reply is there. */
enum write_hidden_result write_hidden_look(struct write_operation *operation);
bool write_hidden_seek(struct write_operation *operation);
void write_take_hidden(struct write_operation *operation, struct slice reply);
void write_hidden_free(struct write_operation *operation);

/* ---- write_namespace.c */

/* True: the namespace does not take the statement's write, and the step is set. */
bool write_refuse_namespace(struct write_operation *operation);

/* Whether the collection's collation may take other _ids for that of {_id: value}. */
bool write_key_is_collated(const struct write_operation *operation, const bson_t *key);

/* How the unit has to lock the namespace for the statements there (unit/namespace_lock.h). */
unsigned write_namespace_modes(const struct write_operation *operation);
/* It has to be locked once more, now that it is known what it is. */
bool write_wants_more_of_namespace(const struct write_operation *operation);

/* ---- write_unique.c */

/* Which unique indexes the namespace has. */
bool write_learn_unique(struct write_operation *operation);
/* Locks the keys that the batch changes. */
bool write_lock_unique(struct write_operation *operation);
/*
 * The server has made `after` of `before`: locks the keys that only its answer shows. False: the
 * operation has failed.
 */
bool write_take_unique(struct write_operation *operation, struct slice before, struct slice after);
void write_unique_clear(struct write_operation *operation);

/* ---- write_forecast.c: keys that the server will make */

bool write_forecast(struct write_operation *operation);
void write_take_forecast(struct write_operation *operation, struct slice reply);

/* ---- write_journal.c */

bool write_journal(struct write_operation *operation);
/*
 * The pending documents of all operations of the list, which is one but in a flush, in one group.
 * `completed` is called on the journal's writer thread; then write_journal_together_done() sets
 * their steps, and tells the group's status. False: out of memory, and the first of them has
 * failed.
 */
bool write_journal_together(struct write_operation *first,
                            void (*completed)(struct wal_append *first, void *context),
                            void *context);
enum status write_journal_together_done(struct write_operation *first);

/* ---- write_publish.c */

bool write_admit(struct write_operation *operation);

/* The record of `document` is journaled as `lsn`: notes where its before-image is. False: the
   operation has failed. */
bool write_publish_note(struct write_operation *operation, const struct write_document *document,
                        struct slice payload, uint64_t lsn);
bool write_publish(struct write_operation *operation);
/* True: it waited for readers, and has failed for it. False: its task is on the way. */
bool write_publish_cancel(struct write_operation *operation);
void write_publish_free(struct write_operation *operation);

/* ---- write_send.c: send, learn */

bool write_send_documents(struct write_operation *operation);
void write_take_answer(struct write_operation *operation, struct slice reply);
/* The document at document_at counts as written, or as unchanged. */
void write_count_next(struct write_operation *operation);

/* ---- write_look.c: which were written, is it well formed, and findAndModify's projection */

bool write_check(struct write_operation *operation);
/* Of one that was put off: the command that reads its documents, and whether they are still as its
   before-images say. */
void write_put_look(const struct write_operation *operation, bson_t *command);
bool write_documents_are_unchanged(const struct write_operation *operation, struct slice reply);
void write_take_check(struct write_operation *operation, struct slice reply);
/* Whether a statement that matches nothing may yet be an error. */
bool write_wants_probe(const struct write_operation *operation);
bool write_probe(struct write_operation *operation);
void write_take_probe(struct write_operation *operation, struct slice reply);
bool write_wants_projection(const struct write_operation *operation, bool after);
bool write_project(struct write_operation *operation);
void write_take_projection(struct write_operation *operation, struct slice reply);

static inline const struct statement *write_statement(const struct write_operation *operation)
{
    return &operation->list.statements[operation->index];
}

/* The document that the iterator is at; size 0 if it is none. */
static inline struct slice write_slice_at(const bson_iter_t *iter)
{
    uint32_t size = 0;
    const uint8_t *data = NULL;
    if (BSON_ITER_HOLDS_DOCUMENT(iter)) {
        bson_iter_document(iter, &size, &data);
    }
    return slice_make(data, size);
}

static inline struct slice write_slice(const bson_t *document)
{
    return slice_make(bson_get_data(document), document->len);
}

#endif
