#ifndef HOLDFAST_ENGINE_UNIQUE_FORECAST_H
#define HOLDFAST_ENGINE_UNIQUE_FORECAST_H

/*
 * Which keys of unique indexes a document may have after an update by operators that the server
 * will compute, so that they can be locked before it does.
 *
 * The answer is a document that has, of the fields that the indexes speak of, every value that the
 * update may leave there: where several are possible, as elements of an array, for an index has a
 * key for each element. So its keys are those that the document will have, and perhaps more:
 *
 *     {u: 3}         {$mul: {u: 2}}                 {u: 6}
 *     {u: 3}         {$min: {u: 2}}                 {u: [3, 2]}
 *     {t: [1, 2]}    {$push: {t: 3}}                {t: [1, 2, 3]}
 *     {t: [1, 2]}    {$pull: {t: {$gt: 1}}}         {t: [1, 2, null]}      (it may be empty then)
 *     {t: [{x: 1}]}  {$set: {"t.$[i].x": 5}}        {t: [{x: 1}, {x: 5}]}
 *
 * Pure; any thread.
 */

#include <bson/bson.h>
#include <stdbool.h>

#include "engine/statement.h"
#include "engine/unique_keys.h"
#include "holdfast/slice.h"

/*
 * `before`: the document; or size 0 if the upsert is to make one, of what its filter says must be
 * equal; then `key` is {_id: value} of the document to be. `statement`: an update by operators.
 * True: *ret_forecast, an empty, initialised document, is as above. False: it cannot be told (an
 * operator that is not known, paths of more than UNIQUE_FORECAST_DEPTH_MAX names, decimals of more
 * than 18 digits, a result that is too large, an array in a document that is a key as a whole);
 * *ret_forecast is empty.
 */
bool unique_forecast(const struct unique_indexes *indexes, const struct statement *statement,
                     struct slice before, struct slice key, bson_t *ret_forecast);

#define UNIQUE_FORECAST_DEPTH_MAX 64

#endif
