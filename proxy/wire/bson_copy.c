/* Copying elements byte for byte (bson_copy.h). */
#include "wire/bson_copy.h"

#include <string.h>

#include "holdfast/slice.h"

bool bson_copy_element(bson_t *into, const bson_iter_t *at)
{
    bson_t one = BSON_INITIALIZER;
    uint32_t size = at->next_off - at->off;
    uint8_t *bytes = bson_reserve_buffer(&one, size + 5);
    if (bytes == NULL) {
        return false;
    }
    slice_store_u32le(bytes, size + 5);
    memcpy(bytes + 4, at->raw + at->off, size);
    bytes[4 + size] = 0;
    bool copied = bson_concat(into, &one);
    bson_destroy(&one);
    return copied;
}
