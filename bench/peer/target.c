/*
 * See target.h. What is started has a folder of its own below one temporary folder:
 *
 *     holdfast-bench-XXXXXX/server        --server
 *                           0-holdfastd   the first target: its journal, its configuration, its log
 *                           1-native …
 */
#include "bench/peer/target.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/peer/peer_private.h"

#define END_MS 20000u
#define SERVICE_START_MS 20000u

static const char *const kind_names[] = {
#define X(name, text) [TARGET_##name] = text,
    TARGET_KIND_LIST(X)
#undef X
};

const char *target_kind_name(enum target_kind kind)
{
    return kind_names[kind];
}

/* ------------------------------------------------------------------ what is written */

/* Those that are words, without a value. */
static bool is_word_of(enum target_kind kind, const char *text, size_t size)
{
    static const struct {
        const char *word;
        bool of[TARGET_KIND_COUNT];
    } words[] = {
        {"sync", {[TARGET_NATIVE] = true}},
        {TARGET_LOCAL, {[TARGET_HOLDFASTD] = true, [TARGET_RELAY] = true, [TARGET_HAPROXY] = true}},
        {TARGET_LOCAL_SERVER,
         {[TARGET_DIRECT] = true,
          [TARGET_HOLDFASTD] = true,
          [TARGET_RELAY] = true,
          [TARGET_HAPROXY] = true}},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i].of[kind] && strlen(words[i].word) == size &&
            memcmp(words[i].word, text, size) == 0) {
            return true;
        }
    }
    return false;
}

static enum status take_setting(struct target *target, const char *text, size_t size,
                                struct error *ret_error)
{
    if (target->kind == TARGET_ADDRESS) {
        char *end = NULL;
        errno = 0;
        long pid = size > 4 && strncmp(text, "pid=", 4) == 0 ? strtol(text + 4, &end, 10) : 0;
        if (pid <= 0 || pid > INT32_MAX || errno != 0 || end != text + size) {
            return error_set(ret_error, STATUS_INVALID, "target %.80s: expected pid=PID, not %.*s",
                             target->name, (int)(size < 80 ? size : 80), text);
        }
        target->given_pid = (pid_t)pid;
        return STATUS_OK;
    }
    bool is_word = is_word_of(target->kind, text, size);
    if (target->kind != TARGET_HOLDFASTD && !is_word) {
        return error_set(ret_error, STATUS_INVALID, "target %.80s: it has no setting %.*s",
                         target->name, (int)(size < 80 ? size : 80), text);
    }
    if (target->kind == TARGET_HOLDFASTD && memchr(text, '=', size) == NULL && !is_word) {
        return error_set(ret_error, STATUS_INVALID, "target %.80s: expected KEY=VALUE, not %.*s",
                         target->name, (int)(size < 80 ? size : 80), text);
    }
    if (target->setting_count == TARGET_SETTINGS_MAX) {
        return error_set(ret_error, STATUS_INVALID, "target %.80s: at most %u settings",
                         target->name, TARGET_SETTINGS_MAX);
    }
    char *copy = strndup(text, size);
    if (copy == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    target->settings[target->setting_count++] = copy;
    return STATUS_OK;
}

static void take_where(struct target *target, const char *text, size_t size)
{
    target->kind = TARGET_ADDRESS;
    for (size_t kind = TARGET_DIRECT; kind < TARGET_KIND_COUNT; kind++) {
        if (strlen(kind_names[kind]) == size && memcmp(kind_names[kind], text, size) == 0) {
            target->kind = (enum target_kind)kind;
            return;
        }
    }
    snprintf(target->where, sizeof target->where, "%.*s", (int)size, text);
}

enum status target_parse(const char *text, struct target *ret_target, struct error *ret_error)
{
    struct target target = {0};
    const char *rest = text;
    size_t size = strcspn(text, ",");
    const char *equals = memchr(text, '=', size);
    if (equals != NULL) {
        snprintf(target.name, sizeof target.name, "%.*s", (int)(equals - text), text);
        rest = equals + 1;
    } else { /* pid=… is not what people want to read */
        snprintf(target.name, sizeof target.name, "%.*s",
                 (int)(memchr(text, ':', size) == NULL ? strlen(text) : size), text);
    }
    size = strcspn(rest, ",");
    if (size == 0 || size >= sizeof target.where || target.name[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "target %.80s: expected [NAME=]WHERE[,KEY=VALUE]...", text);
    }
    take_where(&target, rest, size);
    rest += size;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && *rest == ',') {
        rest++;
        size = strcspn(rest, ",");
        status = take_setting(&target, rest, size, ret_error);
        rest += size;
    }
    if (status != STATUS_OK) {
        target_free(&target);
        return status;
    }
    *ret_target = target;
    return STATUS_OK;
}

void target_free(struct target *target)
{
    for (size_t i = 0; i < target->setting_count; i++) {
        free(target->settings[i]);
        target->settings[i] = NULL;
    }
    target->setting_count = 0;
}

bool target_has_setting(const struct target *target, const char *key)
{
    for (size_t i = 0; i < target->setting_count; i++) {
        if (strcmp(target->settings[i], key) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ starting */

static enum status make_folder(const char *parent, const char *name, char folder[TARGET_PATH_BYTES],
                               struct error *ret_error)
{
    if (!peer_path(folder, parent, name)) {
        return error_set(ret_error, STATUS_INVALID, "--directory: the path is too long");
    }
    return mkdir(folder, 0700) == 0 || errno == EEXIST
               ? STATUS_OK
               : error_set(ret_error, STATUS_IO, "cannot make %s: %s", folder, strerror(errno));
}

static bool server_is(const struct targets *targets, const char *word)
{
    const char *text = targets->options->server;
    return strstr(text + strcspn(text, ","), word) != NULL;
}

/* The fake before it, which listens at a local socket, too. */
static enum status start_instant(struct server *server, const char *folder, struct error *ret_error)
{
    struct child_words words = {0};
    char own[512];
    char log[TARGET_PATH_BYTES];
    if (!peer_own_path(own) || !peer_path(log, folder, "instant.log")) {
        return error_set(ret_error, STATUS_NOT_FOUND, "cannot find this program itself");
    }
    enum status status = peer_free_address(server->where, sizeof server->where, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    int size = snprintf(server->local_where, sizeof server->local_where,
                        NETWORK_LOCAL_PREFIX "%s.sock", folder); /* drivers know it by its end */
    if (size < 0 || (size_t)size >= sizeof server->local_where) {
        return error_set(ret_error, STATUS_INVALID, "--directory: too long for a local socket");
    }
    child_words_add(&words, "%s", own);
    child_words_add(&words, "instant");
    child_words_add(&words, "--listen");
    child_words_add(&words, "%s", server->where);
    child_words_add(&words, "--local");
    child_words_add(&words, "%s", server->local_where);
    child_words_add(&words, "--target");
    child_words_add(&words, "%s", server->address);
    status = child_start("instant", log, &words, &server->instant, ret_error);
    child_words_free(&words);
    return status == STATUS_OK
               ? peer_wait_accepting(&server->instant, server->where, SERVICE_START_MS, ret_error)
               : status;
}

/* --server PROGRAM[,replicaset][,sync][,instant] */
static enum status start_server(struct targets *targets, struct server *server, bool native,
                                bool sync, const char *folder, struct error *ret_error)
{
    char program[512];
    const char *text = targets->options->server;
    size_t length = text == NULL ? 0 : strcspn(text, ",");
    if (length == 0 || length >= sizeof program) {
        return error_set(ret_error, STATUS_INVALID, "%s needs --server PROGRAM",
                         native ? "native" : "this");
    }
    snprintf(program, sizeof program, "%.*s", (int)length, text);
    bool replica_set = native || server_is(targets, ",replicaset");
    bool synced = native ? sync : server_is(targets, ",sync");
    enum status status = peer_server_start(program, replica_set, synced, folder, server->address,
                                           sizeof server->address, &server->child, ret_error);
    if (status == STATUS_OK && !native && server_is(targets, ",instant")) {
        return start_instant(server, folder, ret_error);
    }
    snprintf(server->where, sizeof server->where, "%s", server->address);
    return status;
}

struct server *target_server(struct targets *targets, struct target *target)
{
    return target->has_own_server ? &target->server : &targets->server;
}

enum status target_server_start(struct targets *targets, struct target *target,
                                struct error *ret_error)
{
    char folder[TARGET_PATH_BYTES];
    bool own = target->has_own_server;
    enum status status =
        make_folder(own ? target->directory : targets->directory, "server", folder, ret_error);
    return status == STATUS_OK
               ? start_server(targets, target_server(targets, target),
                              own && target->kind == TARGET_NATIVE,
                              own && target_has_setting(target, "sync"), folder, ret_error)
               : status;
}

static void end_server(struct server *server)
{
    child_end(&server->instant, SIGKILL, 0);
    child_end(&server->child, SIGKILL, 0);
}

/* The stub service, in front of which calls are put. */
static enum status start_service(struct targets *targets, struct target *target,
                                 struct error *ret_error)
{
    struct child_words words = {0};
    char own[512];
    char log[TARGET_PATH_BYTES];
    char line[200];
    if (!peer_own_path(own) || !peer_path(log, target->directory, "service.log")) {
        return error_set(ret_error, STATUS_NOT_FOUND, "cannot find this program itself");
    }
    child_words_add(&words, "%s", own);
    child_words_add(&words, "service");
    child_words_add(&words, "--listen");
    child_words_add(&words, "%s", target->stub);
    child_words_add(&words, "--mongo");
    child_words_add(&words, "%s", target->where);
    child_words_add(&words, "--documents");
    child_words_add(&words, "%u", targets->options->load.documents);
    enum status status = child_start("service", log, &words, &target->service, ret_error);
    child_words_free(&words);
    if (status == STATUS_OK &&
        !child_wait_for(&target->service, "listening on", SERVICE_START_MS, line, sizeof line)) {
        child_last_words(&target->service, line, sizeof line);
        status = error_set(ret_error, STATUS_UNREACHABLE, "service: %s", line);
    }
    if (status == STATUS_OK && target->kind != TARGET_HOLDFASTD) {
        snprintf(target->http, sizeof target->http, "%s", target->stub);
    }
    return status == STATUS_OK
               ? network_address_resolve(target->http, &target->http_address, ret_error)
               : status;
}

/* A server that the target alone uses, or that of all. */
static enum status find_upstream(struct targets *targets, struct target *target,
                                 struct error *ret_error)
{
    struct server *server = target_server(targets, target);
    bool local = target_has_setting(target, TARGET_LOCAL_SERVER);
    if (target->has_own_server && server->where[0] == '\0') {
        if (targets->options->server == NULL) {
            return error_set(ret_error, STATUS_INVALID,
                             "%s needs --server PROGRAM: it has a server of its own, for %s",
                             target->name,
                             target->kind == TARGET_NATIVE ? "that is to be a replica set"
                                                           : "a server has one holdfastd");
        }
        enum status status = target_server_start(targets, target, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (server->where[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID, "%s needs --upstream or --server",
                         target->name);
    }
    if (local && server->local_where[0] == '\0') {
        return error_set(ret_error, STATUS_INVALID,
                         "%s: " TARGET_LOCAL_SERVER " needs --server PROGRAM,instant",
                         target->name);
    }
    snprintf(target->upstream, sizeof target->upstream, "%s",
             local ? server->local_where : server->where);
    return STATUS_OK;
}

enum status target_start(struct targets *targets, struct target *target, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (target->kind != TARGET_ADDRESS) {
        status = find_upstream(targets, target, ret_error);
    }
    if (status == STATUS_OK && (target->kind == TARGET_DIRECT || target->kind == TARGET_NATIVE)) {
        snprintf(target->where, sizeof target->where, "%s", target->upstream);
    } else if (status == STATUS_OK && target->kind != TARGET_ADDRESS) {
        if (target_has_setting(target, TARGET_LOCAL)) {
            snprintf(target->where, sizeof target->where, "unix:%.100s/sock", target->directory);
        } else if (target->where[0] == '\0') {
            status = peer_free_address(target->where, sizeof target->where, ret_error);
        }
        if (status == STATUS_OK) {
            status = peer_proxy_start(targets, target, ret_error);
        }
    }
    return status == STATUS_OK ? network_address_resolve(target->where, &target->address, ret_error)
                               : status;
}

static enum status start_all(struct targets *targets, struct error *ret_error)
{
    enum status status = STATUS_OK;
    bool is_first = true; /* of the holdfastds: a server has one */
    for (size_t i = 0; i < targets->count && status == STATUS_OK; i++) {
        struct target *target = &targets->targets[i];
        char name[32];
        bool another = target->kind == TARGET_HOLDFASTD && !is_first;
        target->has_own_server = target->kind == TARGET_NATIVE || another;
        is_first = is_first && target->kind != TARGET_HOLDFASTD;
        if (target->kind != TARGET_ADDRESS) {
            snprintf(name, sizeof name, "%zu-%s", i, kind_names[target->kind]);
            status = make_folder(targets->directory, name, target->directory, ret_error);
        }
        if (status == STATUS_OK) {
            status = target_start(targets, target, ret_error);
        }
    }
    return status;
}

static enum status set_http(struct targets *targets, struct target *target, struct error *ret_error)
{
    enum status status = STATUS_OK;
    bool front = target->kind == TARGET_HOLDFASTD;
    child_end(&target->service, SIGTERM, END_MS);
    target->http[0] = '\0';
    if (targets->is_http) {
        status = peer_free_address(target->stub, sizeof target->stub, ret_error);
    }
    if (status == STATUS_OK && targets->is_http && front) {
        status = peer_free_address(target->http, sizeof target->http, ret_error);
    }
    if (status == STATUS_OK && front) {
        child_end(&target->child, SIGTERM, END_MS);
        status = target_start(targets, target, ret_error);
    }
    return status == STATUS_OK && targets->is_http ? start_service(targets, target, ret_error)
                                                   : status;
}

enum status targets_set_http(struct targets *targets, bool is_http, struct error *ret_error)
{
    enum status status = STATUS_OK;
    if (targets->is_http == is_http) {
        return STATUS_OK;
    }
    targets->is_http = is_http;
    for (size_t i = 0; i < targets->count && status == STATUS_OK; i++) {
        if (targets->targets[i].kind != TARGET_ADDRESS) {
            status = set_http(targets, &targets->targets[i], ret_error);
        }
    }
    return status;
}

/* ------------------------------------------------------------------ all of them */

static bool has_kind(const struct targets *targets, enum target_kind kind)
{
    for (size_t i = 0; i < targets->count; i++) {
        if (targets->targets[i].kind == kind) {
            return true;
        }
    }
    return false;
}

/* --peers: whoever is not there yet, as far as it is installed. */
static void add_peers(struct targets *targets)
{
    static const enum target_kind peers[] = {TARGET_DIRECT, TARGET_RELAY, TARGET_HAPROXY,
                                             TARGET_NGINX, TARGET_MONGOBETWEEN};
    char path[512];
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
        bool own = peers[i] == TARGET_DIRECT || peers[i] == TARGET_RELAY;
        if (has_kind(targets, peers[i]) || targets->count == BENCH_TARGETS_MAX) {
            continue;
        }
        if (!own && !child_find(kind_names[peers[i]], path)) {
            fprintf(stderr, "holdfast-bench: %s is not installed: left out\n",
                    kind_names[peers[i]]);
            continue;
        }
        struct target *target = &targets->targets[targets->count++];
        *target = (struct target){.kind = peers[i]};
        snprintf(target->name, sizeof target->name, "%s", kind_names[peers[i]]);
    }
}

static enum status parse_all(struct targets *targets, struct error *ret_error)
{
    const struct bench_texts *texts = &targets->options->targets;
    for (size_t i = 0; i < texts->count; i++) {
        if (texts->values[i] == NULL) {
            continue; /* only floor, which needs none */
        }
        struct target *target = &targets->targets[targets->count];
        enum status status = target_parse(texts->values[i], target, ret_error);
        if (status != STATUS_OK) {
            return status;
        }
        targets->count++;
        for (size_t other = 0; other + 1 < targets->count; other++) {
            if (strcmp(targets->targets[other].name, target->name) == 0) {
                return error_set(ret_error, STATUS_INVALID,
                                 "two targets are called %s: NAME=WHERE tells them apart",
                                 target->name);
            }
        }
    }
    if (targets->options->peers) {
        add_peers(targets);
    }
    return STATUS_OK;
}

static bool starts_something(const struct targets *targets)
{
    for (size_t i = 0; i < targets->count; i++) {
        if (target_is_started(&targets->targets[i])) {
            return true;
        }
    }
    return targets->options->server != NULL;
}

static enum status make_directory(struct targets *targets, struct error *ret_error)
{
    const char *parent = targets->options->directory;
    const char *temporary = getenv("TMPDIR");
    if (parent == NULL) {
        parent = temporary == NULL || temporary[0] == '\0' ? "/tmp" : temporary;
    }
    if (!peer_path(targets->directory, parent, "holdfast-bench-XXXXXX") ||
        mkdtemp(targets->directory) == NULL) {
        enum status status = error_set(ret_error, STATUS_IO, "cannot make a folder in %.200s: %s",
                                       parent, strerror(errno));
        targets->directory[0] = '\0';
        return status;
    }
    return STATUS_OK;
}

enum status targets_start(const struct bench_options *options, struct targets *ret_targets,
                          struct error *ret_error)
{
    struct targets *targets = ret_targets;
    *targets = (struct targets){.options = options};
    targets->targets = calloc(BENCH_TARGETS_MAX, sizeof *targets->targets);
    if (targets->targets == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    if (options->upstream != NULL && options->server != NULL) {
        return error_set(ret_error, STATUS_INVALID, "--upstream and --server: one of them");
    }
    snprintf(targets->server.where, sizeof targets->server.where, "%s",
             options->upstream == NULL ? "" : options->upstream);
    enum status status = parse_all(targets, ret_error);
    if (status == STATUS_OK && starts_something(targets)) {
        status = make_directory(targets, ret_error);
    }
    if (status == STATUS_OK && options->server != NULL) {
        struct target none = {.kind = TARGET_DIRECT};
        status = target_server_start(targets, &none, ret_error);
    }
    return status == STATUS_OK ? start_all(targets, ret_error) : status;
}

void targets_stop(struct targets *targets)
{
    for (size_t i = 0; i < targets->count; i++) {
        child_end(&targets->targets[i].service, SIGTERM, END_MS);
        child_end(&targets->targets[i].child, SIGTERM, END_MS);
        end_server(&targets->targets[i].server);
        target_free(&targets->targets[i]);
    }
    end_server(&targets->server);
    if (targets->directory[0] != '\0') {
        peer_remove(targets->directory);
        targets->directory[0] = '\0';
    }
    free(targets->targets);
    targets->targets = NULL;
    targets->count = 0;
}
