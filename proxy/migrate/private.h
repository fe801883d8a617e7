#ifndef HOLDFAST_MIGRATE_PRIVATE_H
#define HOLDFAST_MIGRATE_PRIVATE_H

/* What the files of this folder share; see migrate.h. */

#include "migrate/lock.h"
#include "migrate/migrate.h"

struct migrate {
    struct migrate_options options;
    struct maintain *maintain;
    char database[64];
    char owner[25]; /* of the lock: of this process alone */
    struct migration_folder folder;
    struct row_list rows;
    struct lock *lock;
    struct migrate_entry *entries;
    size_t entry_count;
    uint32_t batch; /* documents of the next unit: fewer where units were slow or too large */
};

/* One step of a row, while it is carried out. */
struct step_run {
    struct migrate *migrate;
    struct row *row;
    const struct step *step;
    int32_t index; /* in its list */
};

/* Between batches: STATUS_UNREACHABLE if somebody wants us to stop, STATUS_OWNED without lock. */
MUST_CHECK enum status migrate_go_on(struct migrate *migrate, struct error *ret_error);
void migrate_tell(struct migrate *migrate, const struct row *row, const struct step *step,
                  size_t index, size_t count);

/* Fills migrate->entries; without a look into the journal nobody knows what it can undo. (look.c)
 */
MUST_CHECK enum status entries_make(struct migrate *migrate, bool with_journal,
                                    struct error *ret_error);

/* Now, as a Date. */
void put_now(bson_t *set, const char *name);

/* The batch after a unit: halved where it was slow or met others, else doubled up to options. */
void migrate_adapt_batch(struct migrate *migrate, const struct maintain_result *result,
                         uint64_t took_ms);

/* Carries out the step from where the row says on, and then says that it is done. (run_*.c) */
MUST_CHECK enum status run_documents(const struct step_run *run, struct error *ret_error);
MUST_CHECK enum status run_namespace(const struct step_run *run, struct error *ret_error);
/* All steps of the list from row->step on. (run.c) */
MUST_CHECK enum status run_steps(struct migrate *migrate, struct row *row,
                                 const struct step_list *list, struct error *ret_error);
/* Notes the failure in the row, if that can be done. (run.c) */
void run_note_failure(struct migrate *migrate, struct row *row, const struct error *error);

/* The lock, and the rows as they are then. (run.c) */
MUST_CHECK enum status migrate_lock(struct migrate *migrate, struct error *ret_error);
void migrate_unlock(struct migrate *migrate);
/* `target` must be a migration that there is. (run.c) */
MUST_CHECK enum status run_check_target(const struct migrate *migrate, int64_t target,
                                        struct error *ret_error);
/* Sets fields of the row, and when; destroys `set`. (run.c) */
MUST_CHECK enum status run_change(struct migrate *migrate, struct row *row, bson_t *set,
                                  struct error *ret_error);
/* The step is done: sets that, and what else is in `set`, which it destroys. (run.c) */
MUST_CHECK enum status run_step_end(const struct step_run *run, bson_t *set,
                                    struct error *ret_error);
/* Nothing is done yet of a list of steps: into what the row is set to. (run.c) */
void run_put_beginning(bson_t *set);
/* All steps are done. (run.c) */
MUST_CHECK enum status run_end(struct migrate *migrate, struct row *row, enum row_state state,
                               struct error *ret_error);

/* Undoes by the journal what the row has done, from where it says on. (undo.c) */
MUST_CHECK enum status undo_by_journal(struct migrate *migrate, struct row *row,
                                       struct error *ret_error);

#endif
