/* A short list of IP addresses. */
#include "front/peers.h"

#include <string.h>

enum status peers_parse(const char *text, struct peers *ret_peers, struct error *ret_error)
{
    struct peers peers = {0};
    for (;;) {
        text += strspn(text, " ,");
        size_t size = strcspn(text, " ,");
        if (size == 0) {
            break;
        }
        if (peers.count == PEERS_MAX) {
            return error_set(ret_error, STATUS_INVALID, "more than %d inside peers", PEERS_MAX);
        }
        if (!ip_address_parse(slice_make(text, size), &peers.addresses[peers.count])) {
            return error_set(ret_error, STATUS_INVALID, "\"%.*s\" is no IP address", (int)size,
                             text);
        }
        peers.count++;
        text += size;
    }
    *ret_peers = peers;
    return STATUS_OK;
}

bool peers_have(const struct peers *peers, const struct sockaddr *address)
{
    struct ip_address wanted;
    if (!ip_address_of(address, &wanted)) {
        return false;
    }
    for (size_t i = 0; i < peers->count; i++) {
        if (ip_address_equal(&peers->addresses[i], &wanted)) {
            return true;
        }
    }
    return false;
}
