/* Writing JSON (json.h). No state. */
#include "admin/json.h"

#include <stdlib.h>
#include <string.h>

/* A copy that is ASCII, to be given to bson_free(); NULL: the text is UTF-8 as it is. */
static char *plain_copy(const char *text)
{
    char *plain = NULL;
    if (!bson_utf8_validate(text, strlen(text), false)) {
        plain = bson_strdup(text);
        for (char *at = plain; *at != '\0'; at++) {
            if ((unsigned char)*at >= 0x80) {
                *at = '?';
            }
        }
    }
    return plain;
}

void admin_json_append(bson_t *document, const char *name, const char *text)
{
    char *plain = plain_copy(text);
    BSON_APPEND_UTF8(document, name, plain == NULL ? text : plain);
    bson_free(plain);
}

void admin_json_text(struct evbuffer *body, const char *text)
{
    char *plain = plain_copy(text);
    char *escaped = bson_utf8_escape_for_json(plain == NULL ? text : plain, -1);
    (void)evbuffer_add_printf(body, "\"%s\"", escaped == NULL ? "" : escaped);
    bson_free(escaped);
    bson_free(plain);
}

void admin_json_member(struct evbuffer *body, bool first, const char *name, const char *text)
{
    (void)evbuffer_add_printf(body, "%s\"%s\":", first ? "" : ",", name);
    admin_json_text(body, text);
}

static char *canonical(struct slice document)
{
    bson_t view;
    return bson_init_static(&view, document.data, document.size)
               ? bson_as_canonical_extended_json(&view, NULL)
               : NULL;
}

void admin_json_image(struct evbuffer *body, struct image image, size_t *room)
{
    if (image.presence != IMAGE_PRESENT) {
        (void)evbuffer_add_printf(body, "{\"is\":\"%s\"}",
                                  image.presence == IMAGE_ABSENT ? "absent" : "unknown");
        return;
    }
    size_t size = image.document.size;
    char *text = size > *room ? NULL : canonical(image.document);
    if (text == NULL) {
        (void)evbuffer_add_printf(body, "{\"is\":\"present\",\"bytes\":%zu}", size);
        return;
    }
    *room -= size;
    (void)evbuffer_add_printf(body, "{\"is\":\"present\",\"bytes\":%zu,\"document\":%s}", size,
                              text);
    bson_free(text);
}
