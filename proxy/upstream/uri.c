/*
 * The upstream's URI: what is taken of it, what is refused and what is only told.
 *
 * libmongoc parses it, as every C driver's. Its own words for a mistake may repeat a password, so
 * that what people get wrong is looked for here first, and said here. Options that mean a client
 * (a write concern, a pool's size) are no mistake: people paste the URI that their services had.
 *
 * Threads: pure.
 */
#include <string.h>
#include <strings.h>

#include "upstream/private.h"

#define OPTION_NAME_BYTES 64

/* One option of the query; `name` and `value` as they stand there. */
struct option {
    const char *name;
    size_t name_size;
    const char *value;
    size_t value_size;
};

/* Where the options begin; NULL: there are none. A ? in a password that should have been written
   otherwise is not taken for it: what follows would be told. */
static const char *options_of(const char *uri)
{
    const char *scheme = strstr(uri, "://");
    const char *rest = scheme == NULL ? uri + strlen(uri) : scheme + 3;
    const char *slash = strchr(rest, '/');
    const char *login = slash == NULL ? strrchr(rest, '@') : NULL;
    const char *question = strchr(slash != NULL ? slash : login != NULL ? login : rest, '?');
    return question == NULL ? NULL : question + 1;
}

/* The next one behind *at, which begins as NULL. */
static bool option_next(const char *uri, const char **at, struct option *ret_option)
{
    const char *begin = *at == NULL ? options_of(uri) : *at;
    while (begin != NULL && (*begin == '&' || *begin == ';')) {
        begin++;
    }
    if (begin == NULL || *begin == '\0') {
        return false;
    }
    size_t size = strcspn(begin, "&;");
    const char *equals = memchr(begin, '=', size);
    ret_option->name = begin;
    ret_option->name_size = equals == NULL ? size : (size_t)(equals - begin);
    ret_option->value = equals == NULL ? begin + size : equals + 1;
    ret_option->value_size = (size_t)(begin + size - ret_option->value);
    *at = begin + size;
    return true;
}

static bool option_is(const struct option *option, const char *name)
{
    return strlen(name) == option->name_size &&
           strncasecmp(option->name, name, option->name_size) == 0;
}

bool uri_text_has(const char *uri, const char *name)
{
    const char *at = NULL;
    struct option option;
    while (option_next(uri, &at, &option)) {
        if (option_is(&option, name)) {
            return true;
        }
    }
    return false;
}

static bool is_true(const char *uri, const char *name)
{
    const char *at = NULL;
    struct option option;
    bool found = false;
    while (option_next(uri, &at, &option)) {
        if (option_is(&option, name)) {
            found = option.value_size == 4 && strncasecmp(option.value, "true", 4) == 0;
        }
    }
    return found;
}

bool uri_text_is_srv(const char *uri)
{
    return strncmp(uri, "mongodb+srv://", 14) == 0;
}

/* ------------------------------------------------------------------ what is refused */

/* libmongoc 1.23 follows a null pointer if it is to log in by a password that nobody gave. */
static enum status login_check(const mongoc_uri_t *uri, struct error *ret_error)
{
    const char *mechanism = mongoc_uri_get_auth_mechanism(uri);
    bool by_password = mechanism == NULL || strncasecmp(mechanism, "SCRAM-", 6) == 0 ||
                       strcasecmp(mechanism, "PLAIN") == 0;
    if (mongoc_uri_get_username(uri) != NULL && mongoc_uri_get_password(uri) == NULL &&
        by_password) {
        return error_set(ret_error, STATUS_INVALID,
                         "the upstream URI names a user but no password: "
                         "mongodb://user:password@host:port");
    }
    return STATUS_OK;
}

static enum status hosts_check(const mongoc_uri_t *uri, struct error *ret_error)
{
    for (const mongoc_host_list_t *at = mongoc_uri_get_hosts(uri); at != NULL; at = at->next) {
        /* libmongoc takes the first @ for the end of the password and would tell the rest as a
           host. */
        if (strchr(at->host, '@') != NULL) {
            return error_set(ret_error, STATUS_INVALID,
                             "the upstream URI has a user or password with an @: write it as %%40, "
                             "and likewise : as %%3A, / as %%2F and %% as %%25");
        }
    }
    return STATUS_OK;
}

static bool names_several(const char *text)
{
    const char *scheme = strstr(text, "://");
    const char *hosts = scheme == NULL ? text + strlen(text) : scheme + 3;
    size_t size = strcspn(hosts, "/?");
    const char *login = memrchr(hosts, '@', size);
    size_t skipped = login == NULL ? 0 : (size_t)(login + 1 - hosts);
    return memchr(hosts + skipped, ',', size - skipped) != NULL;
}

/* What libmongoc would refuse, in words that help. */
static enum status text_check(const char *text, struct error *ret_error)
{
    bool several = names_several(text);
    if (is_true(text, "loadBalanced")) {
        return error_set(ret_error, STATUS_INVALID,
                         "the upstream URI has loadBalanced=true, which ties cursors and "
                         "transactions to a service behind one address, one connection each: take "
                         "it out and name the servers themselves");
    }
    if (is_true(text, "directConnection") && (several || uri_text_is_srv(text))) {
        return error_set(ret_error, STATUS_INVALID,
                         "the upstream URI has directConnection=true and several hosts: name the "
                         "one that is meant, as in mongodb://host:port/?directConnection=true");
    }
    return STATUS_OK;
}

enum status uri_parse(const char *text, mongoc_uri_t **ret_uri, struct error *ret_error)
{
    bson_error_t error;
    enum status status = text_check(text, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    if (uri == NULL) {
        /* libmongoc's message may repeat the URI with its password. */
        return error_set(ret_error, STATUS_INVALID,
                         uri_text_is_srv(text)
                             ? "the upstream URI is not of the form "
                               "mongodb+srv://host.domain.tld[/?options], without a port"
                             : "the upstream URI is not of the form "
                               "mongodb://host:port[,host:port...][/?options]");
    }
    status = hosts_check(uri, ret_error);
    if (status == STATUS_OK) {
        status = tls_files_check(uri, ret_error);
    }
    if (status == STATUS_OK) {
        status = login_check(uri, ret_error);
    }
    if (status != STATUS_OK) {
        mongoc_uri_destroy(uri);
        return status;
    }
    *ret_uri = uri;
    return STATUS_OK;
}

bool uri_follows(const mongoc_uri_t *uri)
{
    const mongoc_host_list_t *hosts = mongoc_uri_get_hosts(uri);
    return !mongoc_uri_get_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, false) &&
           (hosts == NULL || hosts->next != NULL || mongoc_uri_get_srv_hostname(uri) != NULL ||
            mongoc_uri_get_replica_set(uri) != NULL);
}

bool upstream_uri_follows(const char *text)
{
    mongoc_uri_t *uri = NULL;
    bool follows = uri_parse(text, &uri, NULL) == STATUS_OK && uri_follows(uri);
    mongoc_uri_destroy(uri);
    return follows;
}

uint64_t upstream_uri_selection_ms(const char *text)
{
    mongoc_uri_t *uri = NULL;
    int32_t wait_ms = 20000;
    if (uri_parse(text, &uri, NULL) == STATUS_OK) {
        wait_ms = mongoc_uri_get_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, wait_ms);
        mongoc_uri_destroy(uri);
    }
    return wait_ms < 0 ? 0 : (uint64_t)wait_ms;
}

int32_t uri_wait_of(uint64_t milliseconds)
{
    return milliseconds > 600000 ? 600000 : milliseconds == 0 ? 1 : (int32_t)milliseconds;
}

/* ------------------------------------------------------------------ what is told */

/* Options that decide something here. */
static const char *const used[] = {"replicaSet",
                                   "directConnection",
                                   "loadBalanced",
                                   "authSource",
                                   "authMechanism",
                                   "authMechanismProperties",
                                   "gssapiServiceName",
                                   "tls",
                                   "ssl",
                                   "tlsCAFile",
                                   "tlsCertificateKeyFile",
                                   "tlsCertificateKeyFilePassword",
                                   "tlsInsecure",
                                   "tlsAllowInvalidCertificates",
                                   "tlsAllowInvalidHostnames",
                                   "tlsDisableOCSPEndpointCheck",
                                   "tlsDisableCertificateRevocationCheck",
                                   "sslCertificateAuthorityFile",
                                   "sslClientCertificateKeyFile",
                                   "sslClientCertificateKeyPassword",
                                   "sslAllowInvalidCertificates",
                                   "sslAllowInvalidHostnames",
                                   "socketTimeoutMS",
                                   "heartbeatFrequencyMS",
                                   "srvMaxHosts",
                                   "srvServiceName",
                                   "localThresholdMS",
                                   "serverSelectionTimeoutMS"};

/* Options of a driver that mean its own client: each client of the proxy says them itself. */
static const char *const of_clients[] = {"appName",
                                         "compressors",
                                         "zlibCompressionLevel",
                                         "maxPoolSize",
                                         "minPoolSize",
                                         "maxConnecting",
                                         "maxIdleTimeMS",
                                         "waitQueueTimeoutMS",
                                         "waitQueueMultiple",
                                         "w",
                                         "wtimeoutMS",
                                         "wtimeout",
                                         "journal",
                                         "safe",
                                         "readConcernLevel",
                                         "readPreference",
                                         "readPreferenceTags",
                                         "maxStalenessSeconds",
                                         "retryWrites",
                                         "retryReads",
                                         "serverSelectionTryOnce",
                                         "serverMonitoringMode",
                                         "timeoutMS",
                                         "uuidRepresentation",
                                         "socketCheckIntervalMS",
                                         "slaveOk",
                                         "canonicalizeHostname"};

/* Options that a setting of the proxy stands for. */
static const char *const of_settings[] = {"connectTimeoutMS"};

static bool is_among(const struct option *option, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (option_is(option, names[i])) {
            return true;
        }
    }
    return false;
}

#define IS_AMONG(option_, names_) is_among((option_), (names_), sizeof(names_) / sizeof *(names_))

void upstream_uri_notes(const char *uri,
                        void (*note)(void *context, const char *option, const char *what),
                        void *context)
{
    const char *at = NULL;
    struct option option;
    while (option_next(uri, &at, &option)) {
        char name[OPTION_NAME_BYTES];
        size_t size = option.name_size < sizeof name ? option.name_size : sizeof name - 1;
        const char *what = IS_AMONG(&option, used)          ? NULL
                           : IS_AMONG(&option, of_clients)  ? "it is for each client to say"
                           : IS_AMONG(&option, of_settings) ? "upstream.connectTimeout says it"
                                                            : "no driver's option of that name is "
                                                              "known here";
        memcpy(name, option.name, size);
        name[size] = '\0';
        if (what != NULL) {
            note(context, name, what);
        }
    }
}
