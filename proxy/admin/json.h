#ifndef HOLDFAST_ADMIN_JSON_H
#define HOLDFAST_ADMIN_JSON_H

/*
 * JSON that is written straight into an answer: where documents stand in it their types must show,
 * and canonical Extended JSON of our own figures would be a burden to read. Any thread.
 */

#include <bson/bson.h>
#include <event2/buffer.h>

#include "holdfast/image.h"

/*
 * The text in quotation marks. What clients call themselves need not be UTF-8, or was cut in the
 * middle, but JSON must be: in such a text all bytes beyond ASCII become question marks.
 */
void admin_json_text(struct evbuffer *body, const char *text);

/* The same as a field of a document that becomes JSON as a whole. */
void admin_json_append(bson_t *document, const char *name, const char *text);

/* ,"name":"text" (without the comma if `first`). */
void admin_json_member(struct evbuffer *body, bool first, const char *name, const char *text);

/*
 * {"is":"absent"}, {"is":"unknown"}, {"is":"present","document":CANONICAL EXTENDED JSON}, or for
 * one that takes more than *room, or cannot be written as JSON, {"is":"present","bytes":NUMBER}.
 * What is written is taken off *room.
 */
void admin_json_image(struct evbuffer *body, struct image image, size_t *room);

#endif
