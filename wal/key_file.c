/*
 * Reading a key file. Nothing of its content gets into a message. Any thread.
 */

#include "wal/key_file.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "holdfast/secret.h"

#define TEXT_BYTES 44u /* base64 of 32 bytes */
#define FILE_BYTES_MAX 128u

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/* *text is trimmed in place. */
static bool decode(uint8_t *text, size_t size, uint8_t key[KEY_FILE_KEY_BYTES])
{
    uint8_t bytes[KEY_FILE_KEY_BYTES + 1]; /* the decoder writes whole groups of three */
    while (size > 0 && is_space(text[size - 1])) {
        size--;
    }
    while (size > 0 && is_space(text[0])) {
        text++;
        size--;
    }
    bool decoded = size == TEXT_BYTES && text[size - 1] == '=' && text[size - 2] != '=' &&
                   EVP_DecodeBlock(bytes, text, TEXT_BYTES) == (int)sizeof(bytes);
    if (decoded) {
        memcpy(key, bytes, KEY_FILE_KEY_BYTES);
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return decoded;
}

enum status key_file_read(const char *path, uint8_t ret_key[KEY_FILE_KEY_BYTES],
                          struct error *ret_error)
{
    uint8_t text[FILE_BYTES_MAX];
    int descriptor = -1;
    enum status status = secret_file_open("key file", path, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    ssize_t size = read(descriptor, text, sizeof(text));
    if (size < 0) {
        status = error_set(ret_error, STATUS_INVALID, "key file %s: %s", path, strerror(errno));
    }
    (void)close(descriptor);
    if (status == STATUS_OK && !decode(text, (size_t)size, ret_key)) {
        status = error_set(ret_error, STATUS_INVALID,
                           "key file %s: it must hold 32 random bytes in base64, as made by: "
                           "openssl rand -base64 32",
                           path);
    }
    OPENSSL_cleanse(text, sizeof(text));
    return status;
}
