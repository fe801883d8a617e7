#ifndef HOLDFAST_DAEMON_UPGRADE_PRIVATE_H
#define HOLDFAST_DAEMON_UPGRADE_PRIVATE_H

/*
 * What the parts of an upgrade's old process share. Main thread.
 *
 *   upgrade.c          its steps, until all is at rest
 *   upgrade_process.c  the new process: started, heard, ended
 *   hand_over.c        journal and clients go to it
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/daemon.h"
#include "daemon/upgrade.h"
#include "net/listening.h"

/* For the new process to be able to serve. */
#define UPGRADE_STARTING_MS_MAX 60000u

enum upgrade_step { UPGRADE_STARTING, UPGRADE_DRAINING, UPGRADE_RESTING };

struct upgrade {
    enum upgrade_step step;
    pid_t process; /* the new one; 0: none */
    int channel;   /* to it; -1: none */
    uint64_t started_ms;
    uint64_t until_ms; /* of the step */
    bool cut;          /* RESTING: what was still on its way has been ended */
    char version[64];
    struct listening *listening;
    size_t listening_count;
};

/* ---- upgrade.c */

/* Ends with the upgrade; the new process goes on. */
void upgrade_free(struct daemon *daemon);
/* For status and the next process. */
void upgrade_note_failure(struct daemon *daemon, const char *reason);

/* ---- upgrade_process.c */

/* Gives it the sockets, and BEGIN. One that has ended has perhaps said why: that is heard later.
   Errors: STATUS_IO, STATUS_LIMIT, STATUS_INVALID. */
MUST_CHECK enum status upgrade_process_start(struct daemon *daemon, const char *program,
                                             struct error *ret_error);

/* Whether `kind` has come. False with *failure empty: nothing has; else why it will not come. */
bool upgrade_heard(struct upgrade *upgrade, enum upgrade_message kind, int wait_ms,
                   struct error *failure);

/* Waits for a message; false: it will not come, and why. */
bool upgrade_await(struct upgrade *upgrade, enum upgrade_message kind, uint64_t wait_ms,
                   struct error *failure);

/* It gets the word, and some time, and is then killed: what is dead takes nothing over. Harmless if
   there is none. */
void upgrade_process_end(struct upgrade *upgrade);

/* ---- hand_over.c */

/* True: the new process serves, and this one has nothing left to do. Does not return if nobody can
   serve: the process ends. */
bool upgrade_hand_over(struct daemon *daemon);

#endif
