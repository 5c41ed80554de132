/* SPDX-License-Identifier: MIT */
#include "net/ck_tls.h"

#include "base/ck_alloc.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

struct ck_tls_context {
    SSL_CTX *ssl;     /* owned */
    BIO_METHOD *glue; /* owned: our BIO's functions */
    bool check_hostname;
};

struct ck_tls {
    SSL *ssl;                   /* owned; owns the BIO */
    int fd;                     /* borrowed from the stream */
    const struct ck_wait *wait; /* of the call under way, else NULL */
    enum ck_status status;      /* why the BIO failed in the call under way */
    struct ck_error error;      /* its text */
};

/* --- the BIO: plain socket calls under the deadline of the call under way --- */

/* A read that ran out of time may be repeated; any other failure ends the session. */
static int
glue_read(BIO *bio, char *data, size_t size, size_t *done)
{
    struct ck_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    tls->status = ck_socket_read(tls->fd, data, size, done, tls->wait, &tls->error);
    if (tls->status == CK_ERR_TIMEOUT || tls->status == CK_AGAIN)
        BIO_set_retry_read(bio);
    return tls->status == CK_OK;
}

static int
glue_write(BIO *bio, const char *data, size_t size, size_t *done)
{
    struct ck_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    tls->status = ck_socket_write(tls->fd, data, size, false, tls->wait, &tls->error);
    if (tls->status == CK_OK)
        *done = size;
    return tls->status == CK_OK;
}

static long
glue_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

/* --- context --- */

/* OpenSSL's own words for the last failure; they name files and reasons, no secrets. */
static const char *
ssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    return text != NULL ? text : "unknown reason";
}

static enum ck_status
fail_file(struct ck_error *error, const char *what, const char *file)
{
    enum ck_status status = ck_error_set(error, CK_ERR_ARGUMENT, "TLS: %s %s: %s", what,
                                         file, ssl_reason());
    ERR_clear_error();
    return status;
}

static enum ck_status
load_roots(SSL_CTX *ssl, const struct ck_tls_options *options, struct ck_error *error)
{
    if (options->ca_file == NULL && options->ca_path == NULL)
        SSL_CTX_set_default_verify_paths(ssl);
    if (options->ca_file != NULL &&
        SSL_CTX_load_verify_file(ssl, options->ca_file) != 1)
        return fail_file(error, "CA file", options->ca_file);
    if (options->ca_path != NULL && SSL_CTX_load_verify_dir(ssl, options->ca_path) != 1)
        return fail_file(error, "CA folder", options->ca_path);
    return CK_OK;
}

static enum ck_status
load_identity(SSL_CTX *ssl, const struct ck_tls_options *options,
              struct ck_error *error)
{
    if (options->cert_file == NULL)
        return CK_OK;
    const char *key =
        options->key_file != NULL ? options->key_file : options->cert_file;
    if (SSL_CTX_use_certificate_chain_file(ssl, options->cert_file) != 1)
        return fail_file(error, "certificate", options->cert_file);
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return fail_file(error, "key", key);
    if (SSL_CTX_check_private_key(ssl) != 1)
        return fail_file(error, "key does not fit the certificate", key);
    return CK_OK;
}

/* A key file that asks for a passphrase must fail, not read from the terminal. */
static int
no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return 0;
}

static BIO_METHOD *
glue_new(void)
{
    int type = BIO_get_new_index();
    BIO_METHOD *glue =
        type == -1 ? NULL
                   : BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "cachekit stream");
    if (glue != NULL) {
        BIO_meth_set_read_ex(glue, glue_read);
        BIO_meth_set_write_ex(glue, glue_write);
        BIO_meth_set_ctrl(glue, glue_control);
    }
    return glue;
}

enum ck_status
ck_tls_context_new(struct ck_tls_context **out_own,
                   const struct ck_tls_options *options, struct ck_error *error)
{
    ERR_clear_error();
    enum ck_status status = CK_ERR_NOMEM;
    struct ck_tls_context *context = ck_calloc(1, sizeof *context);
    if (context == NULL)
        return ck_error_set(error, CK_ERR_NOMEM, "out of memory");
    context->ssl = SSL_CTX_new(TLS_client_method());
    context->glue = glue_new();
    context->check_hostname = options->verify && options->check_hostname;
    if (context->ssl == NULL || context->glue == NULL) {
        ck_error_set(error, status, "TLS: %s", ssl_reason());
        goto fail;
    }
    SSL_CTX_set_min_proto_version(context->ssl, TLS1_2_VERSION);
    SSL_CTX_set_read_ahead(context->ssl, 1);
    SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_default_passwd_cb(context->ssl, no_passphrase);
    SSL_CTX_set_verify(context->ssl,
                       options->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (options->verify) {
        status = load_roots(context->ssl, options, error);
        if (status != CK_OK)
            goto fail;
    }
    status = load_identity(context->ssl, options, error);
    if (status != CK_OK)
        goto fail;
    *out_own = context;
    return CK_OK;

fail:
    ERR_clear_error();
    ck_tls_context_free(context);
    return status;
}

void
ck_tls_context_free(struct ck_tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->glue);
    ck_free(context);
}

/* --- stream --- */

/* Why an SSL call failed: what the socket said, or what OpenSSL says. */
static enum ck_status
fail_ssl(struct ck_tls *tls, int result, const char *what, struct ck_error *error)
{
    enum ck_status status;
    int code = SSL_get_error(tls->ssl, result);
    long verdict = SSL_get_verify_result(tls->ssl);
    if (tls->status != CK_OK)
        status = ck_error_set(error, tls->status, "TLS %s: %s", what, tls->error.text);
    else if (code == SSL_ERROR_ZERO_RETURN)
        status = ck_error_set(error, CK_ERR_CLOSED, "the server closed the connection");
    else if (verdict != X509_V_OK && (SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER))
        status = ck_error_set(error, CK_ERR_PROTOCOL, "TLS %s: certificate: %s", what,
                              X509_verify_cert_error_string(verdict));
    else
        status = ck_error_set(error, CK_ERR_PROTOCOL, "TLS %s: %s", what, ssl_reason());
    ERR_clear_error();
    return status;
}

static void
begin(struct ck_tls *tls, const struct ck_wait *wait)
{
    ERR_clear_error();
    tls->wait = wait;
    tls->status = CK_OK;
}

static enum ck_status
tls_read(struct ck_stream *stream, void *data, size_t size, size_t *done,
         const struct ck_wait *wait, struct ck_error *error)
{
    struct ck_tls *tls = stream->tls;
    begin(tls, wait);
    int result = SSL_read_ex(tls->ssl, data, size, done);
    tls->wait = NULL;
    return result == 1 ? CK_OK : fail_ssl(tls, result, "receive", error);
}

static enum ck_status
tls_write(struct ck_stream *stream, const void *data, size_t size, bool more,
          const struct ck_wait *wait, struct ck_error *error)
{
    (void)more;
    if (size == 0)
        return CK_OK;
    struct ck_tls *tls = stream->tls;
    size_t done;
    begin(tls, wait);
    int result = SSL_write_ex(tls->ssl, data, size, &done);
    tls->wait = NULL;
    return result == 1 ? CK_OK : fail_ssl(tls, result, "send", error);
}

static void
tls_close(struct ck_stream *stream)
{
    struct ck_tls *tls = stream->tls;
    SSL_set_quiet_shutdown(tls->ssl, 1);
    SSL_free(tls->ssl);
    ck_free(tls);
    close(stream->fd);
    *stream = (struct ck_stream){.fd = -1};
}

static const struct ck_stream_ops tls_ops = {
    .read = tls_read, .write = tls_write, .close = tls_close};

static bool
is_address(const char *name)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, bytes) == 1 ||
           inet_pton(AF_INET6, name, bytes) == 1;
}

/* Whom we want to meet: SNI takes names only, the check takes both. */
static bool
set_name(SSL *ssl, const char *name, bool check)
{
    if (is_address(name))
        return !check || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    if (SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return !check || SSL_set1_host(ssl, name) == 1;
}

enum ck_status
ck_tls_start(struct ck_stream *stream, struct ck_tls_context *context,
             const char *server_name, const struct ck_wait *wait,
             struct ck_error *error)
{
    struct ck_tls *tls = ck_calloc(1, sizeof *tls);
    if (tls == NULL)
        return ck_error_set(error, CK_ERR_NOMEM, "out of memory");
    BIO *bio = BIO_new(context->glue);
    tls->ssl = SSL_new(context->ssl);
    tls->fd = stream->fd;
    if (bio == NULL || tls->ssl == NULL ||
        !set_name(tls->ssl, server_name, context->check_hostname)) {
        BIO_free(bio);
        SSL_free(tls->ssl);
        ck_free(tls);
        ERR_clear_error();
        return ck_error_set(error, CK_ERR_NOMEM, "TLS: no session");
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    stream->tls = tls;
    stream->ops = &tls_ops;
    begin(tls, wait);
    int result = SSL_connect(tls->ssl);
    tls->wait = NULL;
    return result == 1 ? CK_OK : fail_ssl(tls, result, "handshake", error);
}
