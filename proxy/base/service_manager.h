#ifndef HOLDFAST_BASE_SERVICE_MANAGER_H
#define HOLDFAST_BASE_SERVICE_MANAGER_H

/*
 * What systemd, or another service manager, is told of this process: the protocol of sd_notify(3),
 * one datagram for each message to the socket that NOTIFY_SOCKET names.
 *
 * Without that variable nothing is told and everything here is harmless. What cannot be told is
 * dropped: no promise of ours depends on a service manager.
 *
 * Threads: begin and end are the main thread's, before others are started and after they ended; the
 * rest is for any thread.
 */

#include <stddef.h>
#include <stdint.h>

#include "holdfast/error.h"

/* A status is one line of plain text; what is longer is cut. */
#define SERVICE_MANAGER_STATUS_BYTES 200u

/*
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment.
 * STATUS_INVALID: NOTIFY_SOCKET names no socket that can be reached; then nothing is told.
 */
MUST_CHECK enum status service_manager_begin(struct error *ret_error);

/* The start is over: what depends on this process may begin. Again, it changes the status only. */
void service_manager_ready(const char *status);

/* What `systemctl status` shows beside the state. */
void service_manager_status(const char *status);

/* The end has begun. */
void service_manager_stopping(const char *status);

/* The process `process` is the service from now on; tell it last, before service_manager_end(). */
void service_manager_hand_over(int64_t process);

/*
 * What has to be put back into the environment of such a process: up to `max` texts "NAME=VALUE",
 * which live as long as this process. Returns how many.
 */
size_t service_manager_environment(char **texts, size_t max);

/* How often the service manager wants to hear service_manager_alive(), in milliseconds, or it kills
   this process; 0: never. */
uint64_t service_manager_watchdog_ms(void);

void service_manager_alive(void);

/* Nothing is told any more. */
void service_manager_end(void);

#endif
