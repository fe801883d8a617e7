/*
 * Starts a MongoDB server for the bench: mongod, or the one that Holdfast's own tests use. Main
 * thread.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "bench/load/link.h"
#include "bench/peer/peer_private.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"
#include "wire/op_msg.h"

#define START_MS 60000u
#define POLL_MS 50u

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void mongod_words(struct child_words *words, const char *program, bool replica_set,
                         const char *folder, const char *address)
{
    child_words_add(words, "%s", program);
    child_words_add(words, "--port");
    child_words_add(words, "%s", peer_port(address));
    child_words_add(words, "--bind_ip");
    child_words_add(words, "127.0.0.1");
    child_words_add(words, "--dbpath");
    child_words_add(words, "%s", folder);
    if (replica_set) {
        child_words_add(words, "--replSet");
        child_words_add(words, "bench");
    }
}

/* Without a small log file it takes seconds to start again. */
static void secantusd_words(struct child_words *words, const char *program, bool replica_set,
                            bool sync, const char *folder, const char *address)
{
    child_words_add(words, "%s", program);
    child_words_add(words, "--port");
    child_words_add(words, "%s", peer_port(address));
    child_words_add(words, "--storage-path");
    child_words_add(words, "%s", folder);
    child_words_add(words, "--log-file-max");
    child_words_add(words, "16MB");
    child_words_add(words, "--cache-size");
    child_words_add(words, "512M");
    if (!replica_set) {
        child_words_add(words, "--standalone");
    }
    if (sync) {
        child_words_add(words, "--sync-on-commit");
    }
}

static enum status call(const char *address, const bson_t *command, bool *ret_primary,
                        struct error *ret_error)
{
    struct network_address where;
    struct buffer reply;
    struct reply_view view;
    int descriptor;
    enum status status = network_address_resolve(address, &where, ret_error);
    if (status == STATUS_OK) {
        status = link_connect(&where, &descriptor, ret_error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    status = link_call(descriptor, command, &reply, &view, ret_error);
    if (status == STATUS_OK) {
        struct op_msg message;
        struct bson_element primary;
        *ret_primary = op_msg_parse(buffer_slice(&reply), &message) == STATUS_OK &&
                       bson_element_find(message.body, "isWritablePrimary", &primary) &&
                       primary.value.size == 1 && primary.value.data[0] == 1;
    }
    buffer_free(&reply);
    (void)close(descriptor);
    return status;
}

/* A replica set of one; one that is initiated already says so, which is no matter. */
static enum status initiate(const char *address, struct error *ret_error)
{
    bool primary = false;
    bson_t *set = BCON_NEW("replSetInitiate", "{", "_id", BCON_UTF8("bench"), "members", "[", "{",
                           "_id", BCON_INT32(0), "host", BCON_UTF8(address), "}", "]", "}", "$db",
                           BCON_UTF8("admin"));
    bson_t *hello = BCON_NEW("hello", BCON_INT32(1), "$db", BCON_UTF8("admin"));
    enum status status = call(address, set, &primary, ret_error);
    for (uint32_t past = 0; status == STATUS_OK && !primary && past < START_MS; past += POLL_MS) {
        status = call(address, hello, &primary, ret_error);
        child_pause(primary ? 0 : POLL_MS);
    }
    bson_destroy(set);
    bson_destroy(hello);
    return status == STATUS_OK && !primary
               ? error_set(ret_error, STATUS_UNREACHABLE, "mongod does not become primary")
               : status;
}

enum status peer_server_start(const char *program, bool replica_set, bool sync, const char *folder,
                              char *address, size_t size, struct child *child,
                              struct error *ret_error)
{
    struct child_words words = {0};
    char log[TARGET_PATH_BYTES];
    bool is_mongod = strncmp(file_name(program), "mongod", 6) == 0;
    if (!is_mongod && strncmp(file_name(program), "secantusd-rs", 12) != 0) {
        return error_set(ret_error, STATUS_INVALID,
                         "--server %.100s: expected mongod or secantusd-rs", program);
    }
    if (address[0] == '\0') {
        enum status status = peer_free_address(address, size, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (!peer_path(log, folder, "log")) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    if (is_mongod) { /* it syncs its journal before a majority write is acknowledged anyway */
        mongod_words(&words, program, replica_set, folder, address);
    } else {
        secantusd_words(&words, program, replica_set, sync, folder, address);
    }
    enum status status = child_start(file_name(program), log, &words, child, ret_error);
    child_words_free(&words);
    if (status == STATUS_OK) {
        status = peer_wait_accepting(child, address, START_MS, ret_error);
    }
    return status == STATUS_OK && is_mongod && replica_set ? initiate(address, ret_error) : status;
}
