/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   TLS over a connected stream.
 * DESIGN    OpenSSL reads and writes through our own BIO, which calls the plain socket
 *           functions under the caller's deadline: no descriptor juggling, no SIGPIPE,
 *           and the same failures as without TLS. The peer's certificate and name are
 *           verified unless that was switched off.
 * THREADING A context is immutable after new and shared by all streams of a pool. A
 *           stream has one user at a time.
 */
#ifndef CK_NET_TLS_H
#define CK_NET_TLS_H

#include "net/ck_socket.h"

struct ck_tls_options {
    bool verify;           /* check the certificate chain */
    bool check_hostname;   /* check the name in it; needs `verify` */
    const char *ca_file;   /* PEM bundle of trusted roots; NULL: the system's */
    const char *ca_path;   /* folder of hashed roots; NULL: the system's */
    const char *cert_file; /* our certificate chain (PEM); NULL: none */
    const char *key_file;  /* its key; NULL: in cert_file */
};

struct ck_tls_context;

/* Read the files and make a context. CK_ERR_ARGUMENT when a file cannot be used (the
 * text names it), CK_ERR_NOMEM. Nothing of `options` is kept. */
enum ck_status
ck_tls_context_new(struct ck_tls_context **out_own,
                   const struct ck_tls_options *options, struct ck_error *error)
    CK_NODISCARD;
void
ck_tls_context_free(struct ck_tls_context *context);

/* Shake hands over an open plain stream and turn it into a TLS stream. `server_name`
 * goes into the SNI and is what the certificate must name (a DNS name or an IP
 * address). On failure the stream is still open and must be closed: CK_ERR_PROTOCOL
 * for a failed handshake or verification, else as a read. */
enum ck_status
ck_tls_start(struct ck_stream *stream, struct ck_tls_context *context,
             const char *server_name, const struct ck_wait *wait,
             struct ck_error *error) CK_NODISCARD;

#endif
