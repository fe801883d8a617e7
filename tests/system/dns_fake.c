/*
 * Preloaded into holdfastd: the name service of a test. Whatever is asked by the resolver library
 * (SRV, TXT: libmongoc's) goes to 127.0.0.1, port HOLDFAST_DNS_PORT; hosts whose names end in
 * .fake.test are 127.0.0.1.
 */

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>

/* resolv.h makes a macro of the name that libraries call. */
int __res_ninit(res_state state);

int __res_ninit(res_state state)
{
    int (*real)(res_state) = dlsym(RTLD_NEXT, "__res_ninit");
    const char *port = getenv("HOLDFAST_DNS_PORT");
    int result = real(state);
    if (port != NULL) {
        state->nscount = 1;
        state->nsaddr_list[0] = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
    }
    return result;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    static const char suffix[] = ".fake.test";
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    size_t size = name == NULL ? 0 : strlen(name);
    if (size >= sizeof suffix && strcmp(name + size - (sizeof suffix - 1), suffix) == 0) {
        name = "127.0.0.1";
    }
    return real(name, service, hints, result);
}
