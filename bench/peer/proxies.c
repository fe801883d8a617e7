/*
 * Starts the proxies that are measured, each in front of a server, with as many threads. Main
 * thread.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "bench/peer/peer_private.h"

#define START_MS 60000u
#define PROGRAM_SETTING "program="
#define NGINX_CONNECTIONS 100000u

static bool is_local(const char *address)
{
    return strncmp(address, NETWORK_LOCAL_PREFIX, strlen(NETWORK_LOCAL_PREFIX)) == 0;
}

/* Without the prefix, which HAProxy writes in another way; nginx has the same. */
static const char *path_of(const char *address)
{
    return address + (is_local(address) ? strlen(NETWORK_LOCAL_PREFIX) : 0);
}

static enum status haproxy(const struct targets *targets, const struct target *target,
                           struct child_words *words, struct error *ret_error)
{
    char path[TARGET_PATH_BYTES];
    if (!peer_path(path, target->directory, "haproxy.cfg")) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    child_words_add(words, "haproxy");
    child_words_add(words, "-db");
    child_words_add(words, "-f");
    child_words_add(words, "%s", path);
    return peer_write_file(path, ret_error,
                           "global\n    nbthread %u\n"
                           "defaults\n    mode tcp\n    timeout connect 10s\n"
                           "    timeout client 1h\n    timeout server 1h\n"
                           "frontend in\n    bind %s%s\n    default_backend out\n"
                           "backend out\n    server s %s%s\n",
                           targets->options->threads, is_local(target->where) ? "unix@" : "",
                           path_of(target->where), is_local(target->upstream) ? "unix@" : "",
                           path_of(target->upstream));
}

/* Two are needed for a connection, and nginx refuses none that it has promised. */
static unsigned descriptor_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < NGINX_CONNECTIONS
               ? (unsigned)limit.rlim_cur
               : NGINX_CONNECTIONS;
}

static enum status nginx(const struct targets *targets, const struct target *target,
                         struct child_words *words, struct error *ret_error)
{
    char path[TARGET_PATH_BYTES];
    if (!peer_path(path, target->directory, "nginx.conf")) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    child_words_add(words, "nginx");
    child_words_add(words, "-c");
    child_words_add(words, "%s", path);
    child_words_add(words, "-p");
    child_words_add(words, "%s", target->directory);
    child_words_add(words, "-e");
    child_words_add(words, "stderr");
    struct stat about; /* Debian builds it as a module of its own */
    const char *module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    bool separate = stat(module, &about) == 0;
    return peer_write_file(path, ret_error,
                           "%s%s%s\ndaemon off;\nmaster_process on;\nworker_processes %u;\n"
                           "pid %s/pid;\nerror_log stderr warn;\n"
                           "events { worker_connections %u; }\n"
                           "stream {\n    server {\n        listen %s;\n        proxy_pass %s;\n"
                           "        proxy_timeout 1h;\n    }\n}\n",
                           separate ? "load_module " : "", separate ? module : "",
                           separate ? ";" : "", targets->options->threads, target->directory,
                           descriptor_limit(), target->where, target->upstream);
}

static enum status mongobetween(const struct targets *targets, const struct target *target,
                                struct child_words *words, struct error *ret_error)
{
    (void)targets;
    (void)ret_error;
    child_words_add(words, "mongobetween");
    child_words_add(words, "-network");
    child_words_add(words, "tcp4");
    child_words_add(words, "%s=mongodb://%s/", target->where, target->upstream);
    return STATUS_OK;
}

static enum status relay(const struct targets *targets, const struct target *target,
                         struct child_words *words, struct error *ret_error)
{
    char own[512];
    if (!peer_own_path(own)) {
        return error_set(ret_error, STATUS_NOT_FOUND, "cannot find this program itself");
    }
    child_words_add(words, "%s", own);
    child_words_add(words, "relay");
    child_words_add(words, "--listen");
    child_words_add(words, "%s", target->where);
    child_words_add(words, "--target");
    child_words_add(words, "%s", target->upstream);
    child_words_add(words, "--threads");
    child_words_add(words, "%u", targets->options->threads);
    return STATUS_OK;
}

/* The path of a local socket has its slashes escaped there. */
static void put_uri(struct child_words *words, const char *upstream)
{
    char host[400];
    size_t used = 0;
    bool local = is_local(upstream);
    for (const char *at = path_of(upstream); *at != '\0' && used + 4 < sizeof host; at++) {
        bool plain = isalnum((unsigned char)*at) || strchr(local ? "-._~" : "-._~:[]", *at) != NULL;
        used += (size_t)snprintf(host + used, sizeof host - used, plain ? "%c" : "%%%02X",
                                 (unsigned char)*at);
    }
    child_words_add(words, "mongodb://%.*s/", (int)used, host);
}

/* program=FILE: another build, to be compared; NULL: none is named. */
static const char *target_program(const struct target *target)
{
    for (size_t i = 0; i < target->setting_count; i++) {
        if (strncmp(target->settings[i], PROGRAM_SETTING, strlen(PROGRAM_SETTING)) == 0) {
            return target->settings[i] + strlen(PROGRAM_SETTING);
        }
    }
    return NULL;
}

static enum status holdfastd(const struct targets *targets, const struct target *target,
                             struct child_words *words, struct error *ret_error)
{
    char program[512];
    const char *given = target_program(target);
    if (given != NULL ? !child_find(given, program)
                      : !peer_holdfast_path(targets->options, "holdfastd", program)) {
        return error_set(ret_error, STATUS_NOT_FOUND,
                         "there is no holdfastd beside this program or on PATH: --holdfastd FILE");
    }
    child_words_add(words, "%s", program);
    child_words_add(words, "--listen");
    child_words_add(words, "%s", target->where);
    child_words_add(words, "--upstream");
    put_uri(words, target->upstream);
    child_words_add(words, "--wal");
    child_words_add(words, "%s/wal", target->directory);
    child_words_add(words, "--set");
    child_words_add(words, "net.threads=%u", targets->options->threads);
    if (targets->is_http) {
        child_words_add(words, "--http-listen");
        child_words_add(words, "%s", target->http);
        child_words_add(words, "--http-service");
        child_words_add(words, "%s", target->stub);
        child_words_add(words, "--set"); /* many calls at once: the stub passes their traces on */
        child_words_add(words, "http.correlation=trace");
        child_words_add(words, "--set"); /* a stopped run is nobody who goes on writing */
        child_words_add(words, "http.quietPeriod=200ms");
    }
    for (size_t i = 0; i < target->setting_count; i++) {
        if (strncmp(target->settings[i], PROGRAM_SETTING, strlen(PROGRAM_SETTING)) != 0 &&
            strcmp(target->settings[i], TARGET_LOCAL) != 0 &&
            strcmp(target->settings[i], TARGET_LOCAL_SERVER) != 0) {
            child_words_add(words, "--set");
            child_words_add(words, "%s", target->settings[i]);
        }
    }
    return STATUS_OK;
}

static enum status (*const makers[TARGET_KIND_COUNT])(const struct targets *, const struct target *,
                                                      struct child_words *, struct error *) = {
    [TARGET_HAPROXY] = haproxy,           [TARGET_NGINX] = nginx,
    [TARGET_MONGOBETWEEN] = mongobetween, [TARGET_RELAY] = relay,
    [TARGET_HOLDFASTD] = holdfastd,
};

enum status peer_proxy_start(const struct targets *targets, struct target *target,
                             struct error *ret_error)
{
    struct child_words words = {0};
    char log[TARGET_PATH_BYTES];
    if (!peer_path(log, target->directory, "log")) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    enum status status = makers[target->kind](targets, target, &words, ret_error);
    if (status == STATUS_OK) {
        status =
            child_start(target_kind_name(target->kind), log, &words, &target->child, ret_error);
    }
    child_words_free(&words);
    return status == STATUS_OK
               ? peer_wait_accepting(&target->child, target->where, START_MS, ret_error)
               : status;
}
