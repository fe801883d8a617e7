#ifndef HOLDFAST_ENGINE_INSERT_DOCUMENT_H
#define HOLDFAST_ENGINE_INSERT_DOCUMENT_H

/* A document as it will be after its insert: what mongod would otherwise decide by itself. */

#include <bson/bson.h>

#include "holdfast/slice.h"

/*
 * Copies `document` (checked BSON) with _id first, generated if it is missing, and each top-level
 * Timestamp(0, 0) but that of _id filled in with the time now, as mongod does on an insert. The
 * result is byte for byte what will be stored. Appends {_id: value} to *key. Never NULL; the caller
 * destroys it.
 */
bson_t *insert_document_make(struct slice document, bson_t *key);

/*
 * Copies `document` with its _id, if it has one, first: as it is stored, which is not always how
 * the server shows what a pipeline has made. NULL: it is no BSON. The caller destroys it.
 */
bson_t *insert_document_id_first(struct slice document);

#endif
