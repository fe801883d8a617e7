/*
 * What TLS connections have in common (tls.h).
 *
 * Invariant: `context` is never changed once it is there, only replaced; who makes a connection of
 * it holds a reference (OpenSSL's own count) for as long as that lives.
 *
 * Threads: any; the mutex covers the pointer, not what it points to.
 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "net/tls_private.h"

/* Of TLS 1.2: forward secrecy and AEAD only. TLS 1.3 has no others. */
static const char ciphers_of_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

/* Several records with one system call. */
#define READ_AHEAD_BYTES (64u * 1024u)

struct tls {
    struct tls_options options; /* its texts are our own */
    pthread_mutex_t mutex;
    SSL_CTX *context; /* the mutex */
};

/* The most telling of OpenSSL's errors; the queue is empty afterwards. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    ERR_clear_error();
    return text == NULL ? "unknown error" : text;
}

static int give_password(char *buffer, int size, int for_writing, void *context)
{
    const char *password = context;
    size_t length = strlen(password);
    (void)for_writing;
    if (length == 0 || length > (size_t)size) {
        return -1;
    }
    memcpy(buffer, password, length);
    return (int)length;
}

static enum status check_dates(SSL_CTX *context, const char *file, struct error *ret_error)
{
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    const char *wrong = X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 ? "has expired"
                        : X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0
                            ? "is not valid yet"
                            : NULL;
    return wrong == NULL
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID, "the certificate in %.200s %s", file, wrong);
}

static enum status load_certificate(SSL_CTX *context, const struct tls_options *options,
                                    struct error *ret_error)
{
    const char *file = options->certificate_key_file;
    enum status status = secret_file_check("certificateKeyFile", file, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    SSL_CTX_set_default_passwd_cb(context, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, (void *)(uintptr_t)options->password);
    if (SSL_CTX_use_certificate_chain_file(context, file) != 1) {
        return error_set(ret_error, STATUS_INVALID,
                         "no certificate in PEM can be read in %.200s: %s", file, reason());
    }
    if (SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        return error_set(ret_error, STATUS_INVALID,
                         "no private key of the certificate can be read in %.200s (certificate and "
                         "key stand in one file%s): %s",
                         file, options->password[0] == '\0' ? ", the key not encrypted" : "",
                         reason());
    }
    return check_dates(context, file, ret_error);
}

static enum status load_authorities(SSL_CTX *context, const struct tls_options *options,
                                    struct error *ret_error)
{
    if (options->ca_file[0] == '\0') {
        if (options->is_client) {
            (void)SSL_CTX_set_default_verify_paths(context);
            ERR_clear_error();
        }
        return STATUS_OK;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(options->ca_file);
    if (names == NULL || SSL_CTX_load_verify_file(context, options->ca_file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return error_set(ret_error, STATUS_INVALID, "no certificates can be read in %.200s: %s",
                         options->ca_file, reason());
    }
    if (options->is_client) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
    } else {
        SSL_CTX_set_client_CA_list(context, names); /* so that clients know which of theirs fits */
    }
    return STATUS_OK;
}

static void set_verification(SSL_CTX *context, const struct tls_options *options)
{
    int mode = SSL_VERIFY_NONE;
    if (options->is_client) {
        mode = options->allow_invalid_certificates ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
    } else if (options->ca_file[0] != '\0') {
        mode = SSL_VERIFY_PEER;
        if (!options->certificate_optional) {
            mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        }
    }
    SSL_CTX_set_verify(context, mode, NULL);
}

/* What a caller of HTTP is to speak; one that offers neither is served all the same, as one without
   ALPN is: its first bytes tell. */
static int select_protocol(SSL *session, const unsigned char **ret_chosen,
                           unsigned char *ret_chosen_size, const unsigned char *offered,
                           unsigned offered_size, void *context)
{
    static const unsigned char spoken[] = "\x02h2\x08http/1.1";
    unsigned char *chosen = NULL;
    (void)session;
    (void)context;
    if (SSL_select_next_proto(&chosen, ret_chosen_size, spoken, sizeof spoken - 1, offered,
                              offered_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *ret_chosen = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool is_address(const char *host)
{
    struct in6_addr ignored;
    return inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1;
}

static bool set_name(X509_VERIFY_PARAM *parameters, const char *host)
{
    if (is_address(host)) {
        return X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1;
    }
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(parameters, host, 0) == 1;
}

static bool set_host(SSL_CTX *context, const struct tls_options *options)
{
    return !options->is_client || options->allow_invalid_hostnames || options->host[0] == '\0' ||
           set_name(SSL_CTX_get0_param(context), options->host);
}

/* Instead of the options' name. */
static bool set_other_host(SSL *session, const struct tls_options *options, const char *host)
{
    X509_VERIFY_PARAM *parameters = SSL_get0_param(session);
    return options->allow_invalid_hostnames ||
           (X509_VERIFY_PARAM_set1_ip(parameters, NULL, 0) == 1 &&
            X509_VERIFY_PARAM_set1_host(parameters, NULL, 0) == 1 && set_name(parameters, host));
}

static bool set_habits(SSL_CTX *context, const struct tls_options *options)
{
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(context, 0);
    /* A rest of a write is offered again from a buffer of ours; idle connections keep no memory. */
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD_BYTES);
    int version = options->version_min == TLS_VERSION_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    return SSL_CTX_set_min_proto_version(context, version) == 1 &&
           SSL_CTX_set_cipher_list(context, ciphers_of_1_2) == 1 && set_host(context, options);
}

static enum status context_make(const struct tls_options *options, SSL_CTX **ret_context,
                                struct error *ret_error)
{
    enum status status = STATUS_OK;
    SSL_CTX *context = SSL_CTX_new(options->is_client ? TLS_client_method() : TLS_server_method());
    if (context == NULL || !set_habits(context, options)) {
        SSL_CTX_free(context);
        return error_set(ret_error, STATUS_MEMORY, "TLS cannot be set up: %s", reason());
    }
    if (options->certificate_key_file[0] != '\0') {
        status = load_certificate(context, options, ret_error);
    } else if (!options->is_client) {
        status = error_set(ret_error, STATUS_INVALID,
                           "certificateKeyFile is missing: a PEM file with certificate and key");
    }
    if (status == STATUS_OK) {
        status = load_authorities(context, options, ret_error);
    }
    if (status != STATUS_OK) {
        SSL_CTX_free(context);
        return status;
    }
    set_verification(context, options);
    if (options->http) {
        SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
    }
    *ret_context = context;
    return STATUS_OK;
}

static bool copy(const char **text)
{
    *text = strdup(*text == NULL ? "" : *text);
    return *text != NULL;
}

enum status tls_new(const struct tls_options *options, struct tls **ret_tls,
                    struct error *ret_error)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    tls->options = *options;
    (void)pthread_mutex_init(&tls->mutex, NULL);
    /* All of them, so that tls_free() finds nothing of the caller's. */
    bool copied = copy(&tls->options.certificate_key_file);
    copied = copy(&tls->options.password) && copied;
    copied = copy(&tls->options.ca_file) && copied;
    copied = copy(&tls->options.host) && copied;
    enum status status = copied ? context_make(&tls->options, &tls->context, ret_error)
                                : error_set(ret_error, STATUS_MEMORY, "out of memory");
    if (status != STATUS_OK) {
        tls_free(tls);
        return status;
    }
    *ret_tls = tls;
    return STATUS_OK;
}

enum status tls_reload(struct tls *tls, struct error *ret_error)
{
    SSL_CTX *context = NULL;
    enum status status = context_make(&tls->options, &context, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    pthread_mutex_lock(&tls->mutex);
    SSL_CTX *old = tls->context;
    tls->context = context;
    pthread_mutex_unlock(&tls->mutex);
    SSL_CTX_free(old);
    return STATUS_OK;
}

int tls_expires_days(struct tls *tls)
{
    int days = -1;
    int seconds = 0;
    pthread_mutex_lock(&tls->mutex);
    const X509 *certificate = SSL_CTX_get0_certificate(tls->context);
    if (certificate != NULL) {
        (void)ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate));
    }
    pthread_mutex_unlock(&tls->mutex);
    return days;
}

SSL *tls_session_new(struct tls *tls, const char *other_host)
{
    pthread_mutex_lock(&tls->mutex);
    SSL *session = SSL_new(tls->context);
    pthread_mutex_unlock(&tls->mutex);
    if (session == NULL) {
        return NULL;
    }
    if (!tls->options.is_client) {
        SSL_set_accept_state(session);
        return session;
    }
    SSL_set_connect_state(session);
    const char *host = other_host == NULL ? tls->options.host : other_host;
    bool named = other_host == NULL || set_other_host(session, &tls->options, other_host);
    if (named && host[0] != '\0' && !is_address(host)) {
        /* SSL_set_tlsext_host_name(), which casts const away. */
        named = SSL_ctrl(session, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                         (void *)(uintptr_t)host) == 1;
    }
    if (!named) {
        SSL_free(session);
        return NULL;
    }
    return session;
}

unsigned tls_handshake_ms(const struct tls *tls)
{
    return tls->options.handshake_ms == 0 ? TLS_HANDSHAKE_MS : tls->options.handshake_ms;
}

struct tls *tls_free(struct tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        secret_free((char *)(uintptr_t)tls->options.password);
        free((char *)(uintptr_t)tls->options.certificate_key_file);
        free((char *)(uintptr_t)tls->options.ca_file);
        free((char *)(uintptr_t)tls->options.host);
        (void)pthread_mutex_destroy(&tls->mutex);
        free(tls);
    }
    return NULL;
}
