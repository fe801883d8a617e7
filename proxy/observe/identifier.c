/* What looks like an identifier (identifier.h). Pure. */
#include "observe/identifier.h"

/* A UUID needs no rule of its own: its digits and length tell, but for one of letters only. */
bool identifier_is(struct slice segment)
{
    size_t digits = 0;
    size_t hex = 0;
    size_t dashes = 0;
    if (segment.size > IDENTIFIER_BYTES_MAX) {
        return true;
    }
    for (size_t i = 0; i < segment.size; i++) {
        uint8_t byte = segment.data[i];
        uint8_t lower = byte | 0x20u;
        digits += byte >= '0' && byte <= '9';
        hex += (byte >= '0' && byte <= '9') || (lower >= 'a' && lower <= 'f');
        dashes += byte == '-';
    }
    bool is_number = digits > 0 && digits == segment.size;
    bool is_hex = hex >= IDENTIFIER_HEX_BYTES && hex + dashes == segment.size;
    return is_number || is_hex || (digits > 0 && segment.size > IDENTIFIER_DIGITS_BYTES);
}
