#ifndef HOLDFAST_RECOVER_PROBE_H
#define HOLDFAST_RECOVER_PROBE_H

/*
 * The probe: a document on the server that tells, after the server has crashed, how much of what
 * it had acknowledged it still has.
 *
 *   holdfast.state { _id: "probe", journal: "<hex of the journal's id>", epoch: Int64 (the
 * lease's), number: Int64, lsn: Int64, process: ObjectId }
 *
 * The proxy writes it again and again (engine/settler.h): `lsn` is the newest LSN that was durable
 * in the journal when the probe was sent. A unit's last record is durable only after the server has
 * answered all its writes. And a server that crashes loses the end of what it has done and nothing
 * before that, whatever it had promised of it. So
 *
 *   - of a unit whose last record is not above the `lsn` that is there after the crash, nothing is
 *     lost;
 *   - what was sent after a probe was answered is lost if the probe is.
 *
 * `number` counts the probes, `process` is the server's process (hello's topologyVersion) that took
 * it: another process at the next look means that the server has restarted in between.
 *
 * Threads: those of the struct upstream that is handed in.
 */

#include <stdbool.h>
#include <stdint.h>

#include "recover/lease.h"

struct probe {
    bool exists;
    char journal[LEASE_JOURNAL_TEXT_BYTES];
    int64_t epoch;
    int64_t number;
    uint64_t lsn;
    bool has_process; /* servers before 4.4 do not tell */
    uint8_t process[UPSTREAM_PROCESS_BYTES];
};

/* The probe as it is on the server; one that is not there is no error. Errors: upstream.h. */
MUST_CHECK enum status probe_read(struct upstream *upstream, struct probe *ret_probe,
                                  struct error *ret_error);

/*
 * Puts the probe in place of whatever is there, durably as far as the server knows how. Only for
 * the owner of the lease, after a recovery. Errors: upstream.h.
 */
MUST_CHECK enum status probe_make(struct upstream *upstream, const struct probe *probe,
                                  struct error *ret_error);

/*
 * Replaces the probe of the same journal and epoch. `durable`: answered once it is on the server's
 * disk, where the server has a journal. *ret_ours false: there is none such; the lease may be lost.
 * Errors: upstream.h.
 */
MUST_CHECK enum status probe_advance(struct upstream *upstream, const struct probe *probe,
                                     bool durable, bool *ret_ours, struct error *ret_error);

#endif
