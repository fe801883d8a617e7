#ifndef HOLDFAST_ENGINE_WRITE_REPLY_BULK_H
#define HOLDFAST_ENGINE_WRITE_REPLY_BULK_H

#include "engine/write_reply.h"

/*
 * Appends the reply of a bulkWrite as MongoDB 8.0's server gives it, all results in one batch:
 *
 *   { cursor: { id: 0, firstBatch: [ { ok, idx, n, nModified?, upserted?: {_id}, code?, errmsg? }
 *     ... ], ns }, nErrors, nInserted, nMatched, nModified, nUpserted, nDeleted, ok }
 *
 * `result` has counted each statement.
 */
void write_reply_put_bulk(bson_t *reply, const struct statement_list *list,
                          const struct write_result *result);

#endif
