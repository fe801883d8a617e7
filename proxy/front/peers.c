/* A short list of IP addresses, all kept as IPv6 ones so that one comparison does. */
#include "front/peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool parse_address(const char *text, size_t size, uint8_t *address)
{
    char copy[INET6_ADDRSTRLEN];
    if (size >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    memcpy(address, mapped_prefix, sizeof mapped_prefix);
    return inet_pton(AF_INET, copy, address + sizeof mapped_prefix) == 1 ||
           inet_pton(AF_INET6, copy, address) == 1;
}

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
        if (!parse_address(text, size, peers.addresses[peers.count])) {
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
    uint8_t wanted[16];
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
        memcpy(wanted, mapped_prefix, sizeof mapped_prefix);
        memcpy(wanted + sizeof mapped_prefix, &four->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(wanted, &six->sin6_addr, 16);
    } else {
        return false;
    }
    for (size_t i = 0; i < peers->count; i++) {
        if (memcmp(peers->addresses[i], wanted, sizeof wanted) == 0) {
            return true;
        }
    }
    return false;
}
