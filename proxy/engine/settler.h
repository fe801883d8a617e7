#ifndef HOLDFAST_ENGINE_SETTLER_H
#define HOLDFAST_ENGINE_SETTLER_H

/*
 * The settler: a thread that writes the probe (recover/probe.h) to the server again and again, so
 * that after a crash of the server it can be told what was lost, and that plain writes may follow
 * units (unit/gate.h).
 *
 *   something waits for a probe             at once
 *   a unit has ended since the last probe   every SETTLER_PROBE_MS
 *   only plain writes have                  every SETTLER_PLAIN_MS
 *   nothing has                             none, but for a durable one behind the last
 *
 * Once in SETTLER_DURABLE_MS a probe asks for the server's own journal; what that one covers may be
 * pruned.
 *
 * It has a connection of its own, and looks before it writes on it whether the server is still the
 * same process (upstream/server_process.h).
 */

#include <stdint.h>

#include "holdfast/error.h"
#include "holdfast/wal.h"
#include "recover/probe.h"
#include "unit/gate.h"
#include "upstream/server_process.h"

#define SETTLER_PROBE_MS 20u
#define SETTLER_PLAIN_MS 1000u
#define SETTLER_DURABLE_MS 1000u

struct settler;

struct settler_options {
    const char *upstream_uri;
    uint64_t connect_ms;
    struct wal *wal;
    struct gate_table *gates; /* no command has passed yet */
    struct server_process *process;
    struct probe probe;            /* that is on the server now */
    const _Atomic uint64_t *ended; /* counts units that have ended in the journal; NULL: nobody */
};

/* The wal, gates and process outlive it. Errors: STATUS_MEMORY, STATUS_IO (no thread). */
MUST_CHECK enum status settler_start(const struct settler_options *options,
                                     struct settler **ret_settler, struct error *ret_error);

/* Writes a last, durable probe if the server can be reached, and ends the thread. NULL is harmless.
   Returns NULL. */
struct settler *settler_stop(struct settler *settler);

/* Everything up to here is there, says the probe that is on the server now: after a repair. */
void settler_restart(struct settler *settler, const struct probe *probe);

/* Up to this LSN the server has itself made everything durable, as far as it tells. */
uint64_t settler_durable_lsn(struct settler *settler);

/* Units that have ended since the probe of settler_durable_lsn() was sent, by options.ended. */
uint64_t settler_unsettled_units(struct settler *settler);

#endif
