#ifndef HOLDFAST_BENCH_PEER_PRIVATE_H
#define HOLDFAST_BENCH_PEER_PRIVATE_H

/* What the files that start something share. */

#include "bench/peer/target.h"

/* A port of 127.0.0.1 that nobody uses at the moment, as HOST:PORT (`size` bytes). */
MUST_CHECK enum status peer_free_address(char *address, size_t size, struct error *ret_error);
/* The part behind the colon. */
const char *peer_port(const char *address);

/* Waits until somebody accepts at `address`. Errors: STATUS_UNREACHABLE, with the last words. */
MUST_CHECK enum status peer_wait_accepting(const struct child *child, const char *address,
                                           uint32_t wait_ms, struct error *ret_error);

/* Writes a file. Errors: STATUS_IO. */
MUST_CHECK enum status peer_write_file(const char *path, struct error *ret_error,
                                       const char *format, ...) PRINTF_LIKE(3, 4);

/* A path below a folder; false: too long. */
MUST_CHECK bool peer_path(char path[TARGET_PATH_BYTES], const char *folder, const char *name);

/* Removes a folder with all that is in it. */
void peer_remove(const char *folder);

/* server.c: `program` with words behind commas; *address is chosen if it is "". */
MUST_CHECK enum status peer_server_start(const char *program, bool replica_set, bool sync,
                                         const char *folder, char *address, size_t size,
                                         struct child *child, struct error *ret_error);

/* proxies.c: starts target->child in front of `upstream` at target->where. */
MUST_CHECK enum status peer_proxy_start(const struct targets *targets, struct target *target,
                                        struct error *ret_error);
/* Where this program is. */
MUST_CHECK bool peer_own_path(char path[512]);
/* Where holdfastd, or `holdfast`, is. */
MUST_CHECK bool peer_holdfast_path(const struct bench_options *options, const char *program,
                                   char path[512]);

#endif
