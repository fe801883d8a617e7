#ifndef HOLDFAST_ENGINE_NATIVE_UNIT_PRIVATE_H
#define HOLDFAST_ENGINE_NATIVE_UNIT_PRIVATE_H

/* Shared by native_unit.c, native_unit_end.c and begin.c only. */

#include "engine/native_private.h"
#include "engine/native_unit.h"
#include "engine/touched.h"

/* Each unit has a session of its own, and that one transaction. */
#define NATIVE_UNIT_NUMBER 1

/* What the unit is on the server. */
struct native_unit_state {
    bson_t lsid;
    bool begun; /* a command was sent */
    bool wrote; /* one that may change something */
    bson_t api; /* parameters of the first command, which all have to have; may be empty */
    /* BEGIN is in the journal or on its way, unless that was full. unit->begun: it is, for sure. */
    bool begin_appended;
    struct touched touched;
    bson_t commands;
    uint32_t command_count;
    int32_t left;
    bson_t recovery_token; /* the last that a mongos gave; empty: none */
    bson_t times;          /* operationTime and $clusterTime of the commit's answer; may be empty */
    bool has_process;
    uint8_t process[UPSTREAM_PROCESS_BYTES]; /* that the commit is first sent to */
    uint64_t began_us;
};

/* Whose transaction a command is of: lsid, txnNumber, autocommit. */
void native_unit_put_transaction(bson_t *command, const struct native_unit_state *state);

#endif
