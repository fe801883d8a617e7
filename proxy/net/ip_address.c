/* IP addresses, all kept as IPv6 ones so that one comparison does. */
#include "net/ip_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool ip_address_parse(struct slice text, struct ip_address *ret_address)
{
    char copy[INET6_ADDRSTRLEN];
    struct ip_address found;
    if (text.size == 0 || text.size >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    memcpy(found.bytes, mapped_prefix, sizeof mapped_prefix);
    if (inet_pton(AF_INET, copy, found.bytes + sizeof mapped_prefix) != 1 &&
        inet_pton(AF_INET6, copy, found.bytes) != 1) {
        return false;
    }
    *ret_address = found;
    return true;
}

bool ip_address_of(const struct sockaddr *address, struct ip_address *ret_address)
{
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)address;
        memcpy(ret_address->bytes, mapped_prefix, sizeof mapped_prefix);
        memcpy(ret_address->bytes + sizeof mapped_prefix, &four->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
        memcpy(ret_address->bytes, &six->sin6_addr, 16);
    } else {
        return false;
    }
    return true;
}

bool ip_address_equal(const struct ip_address *one, const struct ip_address *other)
{
    return memcmp(one->bytes, other->bytes, sizeof one->bytes) == 0;
}
