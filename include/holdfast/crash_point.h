#ifndef HOLDFAST_CRASH_POINT_H
#define HOLDFAST_CRASH_POINT_H

/*
 * Named places between two steps at which a test can kill the process.
 *
 * In a build with -DHOLDFAST_CRASH_POINTS=ON (the default of the dev, asan and tsan presets, never
 * of release) the environment variable HOLDFAST_CRASH_AT=NAME or NAME:N makes the process send
 * itself SIGKILL when it reaches that place (for the Nth time). Names are those of the list, in
 * lower case. NAME:N:stop sends SIGSTOP instead, so that a test can wake the process up later. In
 * a release build CRASH_POINT() is nothing.
 */

#define CRASH_POINT_LIST(X)                                                                        \
    X(unit_resolved)       /* the write's documents are known, none is locked */                   \
    X(unit_locked)         /* locked; nothing is in the journal for this write */                  \
    X(unit_journaled)      /* the WRITE record is durable; the write has not left */               \
    X(unit_sent)           /* the write was handed to the socket, its reply is not here */         \
    X(unit_answered)       /* the reply is here; the after-image is in memory only */              \
    X(unit_replied)        /* the client was told of the write */                                  \
    X(commit_requested)    /* commitTransaction arrived; nothing of it is in the journal */        \
    X(commit_durable)      /* the COMMIT record is durable; the client has no answer */            \
    X(commit_acknowledged) /* the client was answered */                                           \
    X(abort_requested)     /* the unit is to be rolled back; nothing is undone */                  \
    X(undo_checked)        /* all images were compared; nothing is restored */                     \
    X(undo_restored)       /* one image was restored, or is on its way back */                     \
    X(abort_undone)        /* all images are restored; the ABORT record is not written */          \
    X(abort_durable)       /* the ABORT record is durable; locks are still held */                 \
    X(recovery_fenced)     /* nothing sent earlier can arrive any more */                          \
    X(recovery_unit_done)  /* one unit was recovered (reached once per unit) */                    \
    X(restart_handed_over) /* the server has restarted; all units wait for recovery */             \
    X(redo_checked)        /* after a crash of the server: all documents were read, none moved */  \
    X(redo_adopted)        /* a document older than the journal's images is kept in the journal */ \
    X(redo_moved)          /* one document is at its last committed image again */                 \
    X(probe_made)          /* all is recovered, and the server has a new probe */                  \
    X(recovery_finished)   /* all units were recovered; not yet accepting */                       \
    X(resolve_journaled)   /* what decides a conflict is durable; no document is touched */        \
    X(resolve_replaced)    /* one document was replaced (reached once per document) */             \
    X(native_committing)   /* the COMMITTING record is durable; the commit has not left */         \
    X(native_sent)         /* the commit was handed to the socket, its reply is not here */        \
    X(native_answered)     /* the server's reply to the commit is here; the client has none */     \
    X(native_asked)        /* recovery: the server has said how one transaction ended */           \
    X(compact_copied)      /* the copy is written, not synced; the old journal is in place */      \
    X(compact_checked)     /* the copy is durable and sound; the old journal is in place */        \
    X(compact_renamed)     /* the copy is in place; its name may not survive a power cut yet */    \
    X(replay_inserting)    /* new documents of a batch are known, none is sent */                  \
    X(replay_sent)     /* a batch of changes was answered; nobody looked at what became of it */   \
    X(upgrade_started) /* the new process runs; the old one serves as ever */                      \
    X(upgrade_paused)  /* what begins waits; what has begun goes on */                             \
    X(upgrade_resting) /* nothing is on its way any more; the journal is open */                   \
    X(upgrade_journal_closed) /* the journal is closed; the old process has its lock */            \
    X(upgrade_journal_given)  /* the new process has been given the lock */                        \
    X(upgrade_giving)         /* some connections were handed over, others not */                  \
    X(upgrade_given)          /* all were; the old process is about to end */                      \
    X(upgrade_prepared)       /* the new process could serve; nobody was told */                   \
    X(upgrade_waiting)        /* it has told so */                                                 \
    X(upgrade_journal_taken)  /* it has been given the lock; the journal is not open */            \
    X(upgrade_serving)        /* it accepts connections; the old process was not told */           \
    X(upgrade_taking)         /* it has taken over a connection */                                 \
    X(wal_batch_put)          /* a batch is in the store's transaction, not committed */           \
    X(wal_batch_durable)      /* a batch is durable; nobody was told */                            \
    X(wal_checkpointed)       /* the tables have everything, and the tail still has it */

#ifdef HOLDFAST_CRASH_POINTS
enum crash_point {
#define X(name) CRASH_POINT_##name,
    CRASH_POINT_LIST(X)
#undef X
        CRASH_POINT_COUNT
};
void crash_point_reach(enum crash_point point);
/*
 * Called on this thread before the process dies or stops at a place that it reaches: what was
 * handed to the socket before the place has left then. NULL: nothing any more.
 */
void crash_point_before(void (*let_go)(void *context), void *context);
#define CRASH_POINT(name) crash_point_reach(CRASH_POINT_##name)
#define CRASH_POINT_BEFORE(let_go, context) crash_point_before(let_go, context)
#else
#define CRASH_POINT(name) ((void)0)
#define CRASH_POINT_BEFORE(let_go, context) ((void)0)
#endif

#endif
