#ifndef HOLDFAST_RECOVER_REDO_PRIVATE_H
#define HOLDFAST_RECOVER_REDO_PRIVATE_H

/* Shared by the files of the redo; see redo.h. */

#include "recover/document_key.h"
#include "recover/redo.h"

enum redo_role {
    REDO_WINNER, /* committed: its images are wanted */
    REDO_LOSER,  /* open or rolled back: what was before it is wanted */
    REDO_ASIDE,  /* in conflict, or decided by an operator: its documents are left alone */
};

struct redo_member {
    struct unit_history *history;
    enum redo_role role;
    bool redone;
    bool in_conflict;
    char reason[256]; /* in_conflict only */
};

/* A write of a member. */
struct redo_entry {
    size_t member;
    const struct history_write *write;
    struct document_key document;
};

enum redo_place {
    REDO_AT_IMAGE,  /* it is `at` */
    REDO_AT_PARKED, /* the small document of a step that was interrupted */
    REDO_AT_OLDER,  /* older than its chain; `owned` */
    REDO_AT_OTHER,  /* somebody else's; `owned` */
};

struct redo_document {
    size_t first; /* its entries */
    size_t count;
    enum redo_place place;
    struct history_image at;
    struct image owned; /* the image where the journal does not have it */
    uint64_t parked_unit;
    /* decided after all were read */
    bool wanted;                 /* to be moved to `target` */
    struct history_image target; /* its last committed image */
    size_t target_entry;
    bool parked;
};

struct redo {
    struct wal *wal;
    struct upstream *upstream;
    const struct redo_options *options;
    struct redo_report *report;
    struct redo_member *members;
    size_t member_count;
    struct redo_entry *entries; /* by document, then LSN */
    size_t entry_count;
    struct redo_document *documents;
    size_t document_count;
};

/* redo_find.c: where each document is, and which units that puts in conflict. */
MUST_CHECK enum status redo_find(struct redo *redo, struct error *ret_error);

/* redo_move.c: to where it belongs. */
MUST_CHECK enum status redo_move(struct redo *redo, struct error *ret_error);

/* redo.c */
/* All units of the document's chain that can be are in conflict. */
void redo_set_conflict(struct redo *redo, const struct redo_document *document, const char *reason);
/* The image as a copy of its own; of any member's history. */
MUST_CHECK enum status redo_read(const struct redo *redo, const struct history_image *image,
                                 struct image *ret_copy, struct error *ret_error);

#endif
