#ifndef HOLDFAST_BENCH_DOCUMENTS_H
#define HOLDFAST_BENCH_DOCUMENTS_H

/*
 * The documents that a load works on: { _id: int32 from 0, value: int64, text: filler }, in the
 * database DOCUMENTS_DATABASE, in a collection whose name tells its shape, so that a later run may
 * find and use it. Main thread.
 */

#include <stddef.h>
#include <stdint.h>

#include "bench/load/load.h"
#include "holdfast/error.h"

#define DOCUMENTS_DATABASE "holdfast_bench"
#define DOCUMENTS_NAME_BYTES 64

struct documents {
    char collection[DOCUMENTS_NAME_BYTES];
    uint32_t count;
    uint32_t reply_bytes; /* length of the whole message that returns all of them; 0: not asked */
};

/*
 * Makes the documents unless they are there, through the target itself. For large-read also reads
 * them all once, checks the reply and remembers its length.
 * Errors: STATUS_UNREACHABLE, STATUS_REFUSED, STATUS_PROTOCOL.
 */
MUST_CHECK enum status documents_prepare(const struct load_options *options, int descriptor,
                                         struct documents *ret_documents, struct error *ret_error);

#endif
