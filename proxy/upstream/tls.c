/*
 * TLS towards the server: what the URI says of it, and libmongoc's TLS over a connection that was
 * made here, so that what leaves still needs a permit (permitted.c).
 *
 * The files are read with each new connection of libmongoc's: a new certificate needs no reload
 * here. The clients' own connections to the server are the net layer's; upstream_tls() tells it.
 *
 * Threads: pure, or the struct upstream's.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "upstream/private.h"

static const char *text_of(const mongoc_uri_t *uri, const char *option)
{
    return mongoc_uri_get_option_as_utf8(uri, option, "");
}

static bool is_set(const mongoc_uri_t *uri, const char *option)
{
    return mongoc_uri_get_option_as_bool(uri, option, false);
}

enum status tls_files_check(const mongoc_uri_t *uri, struct error *ret_error)
{
    static const char *const options[] = {MONGOC_URI_TLSCAFILE, MONGOC_URI_TLSCERTIFICATEKEYFILE};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const char *file = text_of(uri, options[i]);
        if (file[0] != '\0' && access(file, R_OK) != 0) {
            return error_set(ret_error, STATUS_INVALID,
                             "the upstream URI's %s %.200s cannot be read: %s", options[i], file,
                             strerror(errno));
        }
    }
    return STATUS_OK;
}

/* Its texts are the URI's. */
static mongoc_ssl_opt_t options_of(const mongoc_uri_t *uri)
{
    bool insecure = is_set(uri, MONGOC_URI_TLSINSECURE);
    const char *ca_file = text_of(uri, MONGOC_URI_TLSCAFILE);
    const char *key_file = text_of(uri, MONGOC_URI_TLSCERTIFICATEKEYFILE);
    return (mongoc_ssl_opt_t){
        .ca_file = ca_file[0] == '\0' ? NULL : ca_file,
        .pem_file = key_file[0] == '\0' ? NULL : key_file,
        .pem_pwd =
            mongoc_uri_get_option_as_utf8(uri, MONGOC_URI_TLSCERTIFICATEKEYFILEPASSWORD, NULL),
        .weak_cert_validation = insecure || is_set(uri, MONGOC_URI_TLSALLOWINVALIDCERTIFICATES),
        .allow_invalid_hostname = insecure || is_set(uri, MONGOC_URI_TLSALLOWINVALIDHOSTNAMES),
    };
}

mongoc_stream_t *tls_stream_over(mongoc_stream_t *plain, const mongoc_uri_t *uri, const char *host,
                                 int32_t wait_ms, bson_error_t *error)
{
    mongoc_ssl_opt_t options = options_of(uri);
    mongoc_stream_t *stream = mongoc_stream_tls_new_with_hostname(plain, host, &options, 1);
    if (stream == NULL) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                       "TLS cannot be set up: check tlsCAFile and tlsCertificateKeyFile");
        mongoc_stream_destroy(plain);
        return NULL;
    }
    if (!mongoc_stream_tls_handshake_block(stream, host, wait_ms, error)) {
        mongoc_stream_destroy(stream);
        return NULL;
    }
    return stream;
}

/* NULL is "". */
static bool copy(char *target, size_t capacity, const char *text)
{
    size_t size = text == NULL ? 0 : strlen(text);
    if (size >= capacity) {
        return false;
    }
    memcpy(target, text == NULL ? "" : text, size + 1);
    return true;
}

enum status upstream_tls(const char *uri_text, struct upstream_tls *ret_tls,
                         struct error *ret_error)
{
    struct upstream_tls tls = {0};
    mongoc_uri_t *uri = mongoc_uri_new(uri_text);
    if (uri == NULL) {
        return error_set(ret_error, STATUS_INVALID, "upstream.uri is not a valid MongoDB URI");
    }
    const mongoc_host_list_t *hosts = mongoc_uri_get_hosts(uri);
    mongoc_ssl_opt_t options = options_of(uri);
    tls.on = mongoc_uri_get_tls(uri);
    tls.allow_invalid_certificates = options.weak_cert_validation;
    tls.allow_invalid_hostnames = options.allow_invalid_hostname;
    bool fits =
        copy(tls.host, sizeof tls.host, hosts == NULL ? NULL : hosts->host) &&
        copy(tls.ca_file, sizeof tls.ca_file, options.ca_file) &&
        copy(tls.certificate_key_file, sizeof tls.certificate_key_file, options.pem_file) &&
        copy(tls.certificate_key_password, sizeof tls.certificate_key_password, options.pem_pwd);
    mongoc_uri_destroy(uri);
    if (!fits) {
        return error_set(ret_error, STATUS_INVALID, "a TLS option of upstream.uri is too long");
    }
    *ret_tls = tls;
    return STATUS_OK;
}
