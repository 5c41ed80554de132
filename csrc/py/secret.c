/* SPDX-License-Identifier: MIT */
#include "py/secret.h"

#include "py/store_key.h"

#include "codec/ck_kdf.h"

#define PIECE(bytes, size) ((struct ck_piece){.data = (bytes), .len = (size)})

int
ckpy_secret_ready(struct ckpy_secret *secret)
{
    if (secret->keyring == NULL || secret->tenant_of != NULL)
        return 0;
    struct ck_piece tenant = ckpy_secret_tenant(secret, NULL, 0);
    for (Py_ssize_t i = 0; i < secret->names; i++)
        if (ckpy_keyring_key(secret->keyring, (unsigned)i, CK_PURPOSE_NAMES, tenant,
                             &secret->name_keys[i]) < 0)
            return -1;
    return ckpy_keyring_key(secret->keyring, 0, CK_PURPOSE_ENCRYPTION, tenant,
                            &secret->value_key);
}

void
ckpy_secret_clear(struct ckpy_secret *secret)
{
    for (size_t i = 0; i < CK_KEYRING_MASTERS; i++)
        ck_key_release(secret->name_keys[i]);
    ck_key_release(secret->value_key);
    PyObject *owned[] = {(PyObject *)secret->keyring, secret->tenant,
                         secret->tenant_of};
    *secret = (struct ckpy_secret){.names = 1};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        Py_XDECREF(owned[i]);
}

struct ck_piece
ckpy_secret_tenant(const struct ckpy_secret *secret, const uint8_t *key, size_t len)
{
    if (secret->tenant_of != NULL) {
        size_t digests = (size_t)secret->names * CK_DIGEST_SIZE;
        return PIECE(key + digests, len - digests);
    }
    Py_ssize_t size = 0;
    const char *text =
        secret->tenant == NULL ? "" : PyUnicode_AsUTF8AndSize(secret->tenant, &size);
    if (text == NULL) { /* was encoded at configuration, so it is there */
        PyErr_Clear();
        return PIECE("", 0);
    }
    return PIECE(text, (size_t)size);
}

/* ---- names --------------------------------------------------------------------- */

int
ckpy_secret_name(const struct ckpy_secret *secret, PyObject *identity, PyObject *tenant,
                 struct ck_buf *key)
{
    uint8_t digests[CK_KEYRING_MASTERS][CK_DIGEST_SIZE];
    Py_ssize_t size = 0;
    const char *text = tenant == NULL ? "" : PyUnicode_AsUTF8AndSize(tenant, &size);
    if (text == NULL)
        return -1;
    struct ck_piece owner = PIECE(text, (size_t)size);
    struct ck_piece data = PIECE(key->data, key->len);
    for (Py_ssize_t i = 0; i < secret->names; i++) {
        struct ck_key *secret_key = NULL;
        if (secret->name_keys[i] != NULL) {
            ckpy_store_key_digest(digests[i], secret->name_keys[i], PIECE(NULL, 0),
                                  identity, data);
            continue;
        }
        if (secret->keyring != NULL &&
            ckpy_keyring_key(secret->keyring, (unsigned)i, CK_PURPOSE_NAMES, owner,
                             &secret_key) < 0)
            return -1;
        ckpy_store_key_digest(digests[i], secret_key,
                              secret->keyring != NULL || secret->tenant_of == NULL
                                  ? PIECE(NULL, 0)
                                  : owner,
                              identity, data);
        ck_key_release(secret_key);
    }
    key->len = 0;
    ck_buf_put(key, digests, (size_t)secret->names * CK_DIGEST_SIZE);
    if (secret->tenant_of != NULL)
        ck_buf_put(key, text, (size_t)size);
    if (key->status == CK_OK)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* ---- in memory ----------------------------------------------------------------- */

/* 'M', two bytes of length, the tenant; bound to that, what is sealed. */
#define HELD_HEAD 3

static size_t
held_head(const uint8_t *held)
{
    return HELD_HEAD + (size_t)(held[1] | held[2] << 8);
}

static void
bind_held(struct ck_bound *bound, const uint8_t *held, size_t head)
{
    bound->pieces[0] = PIECE(held, head);
    bound->count = 1;
}

PyObject *
ckpy_secret_hold(const struct ckpy_secret *secret, struct ck_piece tenant,
                 const void *data, size_t len)
{
    struct ck_bound bound;
    struct ck_key *key;
    if (ckpy_keyring_key(secret->keyring, 0, CK_PURPOSE_ENCRYPTION, tenant, &key) < 0)
        return NULL;
    size_t head = HELD_HEAD + tenant.len;
    PyObject *held =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(head + len + CK_AEAD_OVERHEAD));
    if (held != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AS_STRING(held);
        out[0] = 'M';
        out[1] = (uint8_t)tenant.len;
        out[2] = (uint8_t)(tenant.len >> 8);
        if (tenant.len != 0)
            memcpy(out + HELD_HEAD, tenant.data, tenant.len);
        bind_held(&bound, out, head);
        if (ckpy_keyring_seal(secret->keyring, key, out + head, &bound, data, len) < 0)
            Py_CLEAR(held);
    }
    ck_key_release(key);
    return held;
}

int
ckpy_secret_open_held(const struct ckpy_secret *secret, PyObject *held,
                      struct ck_buf *out)
{
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(held);
    size_t head = held_head(data), sealed = (size_t)PyBytes_GET_SIZE(held) - head;
    struct ck_bound bound;
    bind_held(&bound, data, head);
    uint8_t *plain = ck_buf_reserve(out, sealed);
    enum ck_status status;
    if (plain == NULL)
        status = CK_ERR_NOMEM;
    else if (secret->value_key != NULL && sealed < CKPY_KEYRING_DETACH)
        status = ck_aead_open(&secret->value_key->aead, plain, bound.pieces,
                              bound.count, data + head, sealed);
    else
        status = ckpy_keyring_open(secret->keyring, CK_PURPOSE_ENCRYPTION,
                                   PIECE(data + HELD_HEAD, head - HELD_HEAD), NULL,
                                   plain, &bound, data + head, sealed);
    if (status == CK_OK) {
        out->len += sealed - CK_AEAD_OVERHEAD;
        return 0;
    }
    if (status == CK_ERR_NOMEM)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_ValueError, "what memory holds is damaged");
    return -1;
}

/* ---- in the store -------------------------------------------------------------- */

enum ck_status
ckpy_secret_write(const struct ckpy_secret *secret, struct ck_buf *out,
                  struct ck_frame *frame, struct ck_piece tenant, struct ck_piece name,
                  const void *payload, size_t len)
{
    struct ck_key *key;
    size_t start = out->len;
    if (len > CK_FRAME_PAYLOAD_MAX - CK_AEAD_OVERHEAD)
        return CK_ERR_LIMIT;
    if (ckpy_keyring_key(secret->keyring, 0, CK_PURPOSE_ENCRYPTION, tenant, &key) < 0)
        return CK_ERR_ARGUMENT;
    frame->encrypted = true;
    frame->fingerprint = key->fingerprint;
    enum ck_status status = ck_frame_begin(out, frame);
    size_t header = out->len - start;
    uint8_t *sealed =
        status == CK_OK ? ck_buf_reserve(out, len + CK_AEAD_OVERHEAD) : NULL;
    if (status == CK_OK && sealed == NULL)
        status = out->status;
    if (status == CK_OK) {
        struct ck_bound bound;
        ck_bound_entry(&bound, PIECE(out->data + start, header), tenant, name);
        if (ckpy_keyring_seal(secret->keyring, key, sealed, &bound, payload, len) < 0)
            status = CK_ERR_ARGUMENT;
        else
            out->len += len + CK_AEAD_OVERHEAD;
    }
    if (status == CK_OK)
        status = ck_frame_end(out, frame, start);
    ck_key_release(key);
    return status;
}

enum ck_status
ckpy_secret_open(const struct ckpy_secret *secret, const struct ck_frame *frame,
                 struct ck_piece tenant, struct ck_piece name, struct ck_buf *out)
{
    struct ck_bound bound;
    ck_bound_entry(&bound, PIECE(frame->header, frame->header_len), tenant, name);
    uint8_t *plain = ck_buf_reserve(out, frame->payload_len);
    if (plain == NULL)
        return CK_ERR_NOMEM;
    enum ck_status status = ckpy_keyring_open(secret->keyring, CK_PURPOSE_ENCRYPTION,
                                              tenant, frame->fingerprint, plain, &bound,
                                              frame->payload, frame->payload_len);
    if (status == CK_OK)
        out->len += frame->payload_len - CK_AEAD_OVERHEAD;
    return status;
}

void
ckpy_secret_wipe(struct ck_buf *plain)
{
    if (plain->data != NULL)
        ck_kdf_wipe(plain->data, plain->len);
    ck_buf_fini(plain);
}
