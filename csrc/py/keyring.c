/* SPDX-License-Identifier: MIT */
#include "py/keyring.h"

#include "py/errors.h"
#include "py/state.h"

#include "base/ck_alloc.h"
#include "base/ck_clock.h"

/* --- errors --- */

/* E002, whose text is the library's and never the key's. */
static void
raise_bad_master(struct ckpy_state *state)
{
    PyObject *make = ckpy_error_class(state, "invalid_master_key");
    PyObject *error = make == NULL ? NULL : PyObject_CallNoArgs(make);
    if (error != NULL)
        ckpy_reraise(error);
    Py_XDECREF(error);
    Py_XDECREF(make);
}

/* E003 with its own text. */
static void
raise_not_authentic(struct ckpy_state *state)
{
    PyObject *class = ckpy_error_class(state, "DecryptionError");
    if (class != NULL)
        PyErr_SetNone(class);
    Py_XDECREF(class);
}

static void
raise_status(struct ckpy_keyring *self, enum ck_status status)
{
    switch (status) {
    case CK_MISS:
    case CK_ERR_CORRUPT: raise_not_authentic(self->state); break;
    case CK_ERR_LIMIT:
        PyErr_SetString(PyExc_OverflowError,
                        "the tenant, the key or the data is too long to encrypt");
        break;
    case CK_ERR_ARGUMENT:
        PyErr_SetString(PyExc_ValueError, "there is no such key in the ring");
        break;
    case CK_ERR_IO:
        PyErr_SetString(PyExc_OSError, "the system has no entropy for a nonce");
        break;
    default: PyErr_NoMemory(); break;
    }
}

/* --- for the binding --- */

int
ckpy_keyring_key(struct ckpy_keyring *self, unsigned master, enum ck_purpose purpose,
                 struct ck_piece tenant, struct ck_key **out)
{
    enum ck_status status =
        ck_keyring_key(&self->ring, master, purpose, tenant.data, tenant.len, out);
    if (status == CK_OK)
        return 0;
    raise_status(self, status);
    return -1;
}

int
ckpy_keyring_seal(struct ckpy_keyring *self, struct ck_key *key, uint8_t *out,
                  const struct ck_bound *bound, const void *data, size_t len)
{
    enum ck_status status;
    PyThreadState *detached = len >= CKPY_KEYRING_DETACH ? PyEval_SaveThread() : NULL;
    status = ck_keyring_seal(&self->ring, key, ck_clock_coarse(), out, bound->pieces,
                             bound->count, data, len);
    if (detached != NULL)
        PyEval_RestoreThread(detached);
    if (status == CK_OK)
        return 0;
    raise_status(self, status);
    return -1;
}

enum ck_status
ckpy_keyring_open(struct ckpy_keyring *self, enum ck_purpose purpose,
                  struct ck_piece tenant, const uint8_t *fingerprint, uint8_t *out,
                  const struct ck_bound *bound, const uint8_t *sealed, size_t len)
{
    PyThreadState *detached = len >= CKPY_KEYRING_DETACH ? PyEval_SaveThread() : NULL;
    enum ck_status status =
        ck_keyring_open(&self->ring, purpose, tenant.data, tenant.len, fingerprint, out,
                        bound->pieces, bound->count, sealed, len);
    if (detached != NULL)
        PyEval_RestoreThread(detached);
    return status;
}

/* --- construction --- */

static int
hex_digit(Py_UCS4 c)
{
    if (c >= '0' && c <= '9')
        return (int)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (int)(c - 'a') + 10;
    return c >= 'A' && c <= 'F' ? (int)(c - 'A') + 10 : -1;
}

/* The bytes that hex digits stand for [out-own, wiped with wipe_master]. 0, or -1 with
 * an exception. */
static int
parse_master(struct ckpy_state *state, PyObject *text, struct ck_piece *out)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "a master key is str, not %.100s",
                     Py_TYPE(text)->tp_name);
        return -1;
    }
    if (PyUnicode_READY(text) < 0)
        return -1;
    Py_ssize_t digits = PyUnicode_GET_LENGTH(text);
    if (digits % 2 != 0 || digits / 2 < CK_KEYRING_MASTER_MIN) {
        raise_bad_master(state);
        return -1;
    }
    size_t len = (size_t)digits / 2;
    uint8_t *bytes = ck_malloc(len);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int kind = PyUnicode_KIND(text), bad = 0;
    const void *data = PyUnicode_DATA(text);
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(PyUnicode_READ(kind, data, 2 * (Py_ssize_t)i));
        int low = hex_digit(PyUnicode_READ(kind, data, 2 * (Py_ssize_t)i + 1));
        bad |= high | low; /* negative when either is no digit */
        bytes[i] = (uint8_t)((unsigned)high << 4 | ((unsigned)low & 15));
    }
    *out = (struct ck_piece){bytes, len};
    if (bad >= 0)
        return 0;
    raise_bad_master(state);
    return -1;
}

static void
wipe_masters(struct ck_piece *masters)
{
    for (size_t i = 0; i < CK_KEYRING_MASTERS; i++) {
        union {
            const void *given;
            void *taken;
        } bytes = {.given = masters[i].data};
        if (bytes.taken == NULL)
            continue;
        ck_kdf_wipe(bytes.taken, masters[i].len);
        ck_free(bytes.taken);
    }
}

/* All keys into `masters`; returns how many, or -1 with an exception. */
static int
parse_masters(struct ckpy_state *state, PyObject *master, PyObject *previous,
              struct ck_piece masters[CK_KEYRING_MASTERS])
{
    if (parse_master(state, master, &masters[0]) < 0)
        return -1;
    if (previous == NULL)
        return 1;
    if (PyUnicode_Check(previous)) {
        PyErr_SetString(PyExc_TypeError, "previous is a sequence of str, not a str");
        return -1;
    }
    PyObject *fast = PySequence_Fast(previous, "previous is a sequence of str");
    if (fast == NULL)
        return -1;
    Py_ssize_t more = PySequence_Fast_GET_SIZE(fast);
    int rc = 0;
    if (more >= CK_KEYRING_MASTERS) {
        PyErr_Format(PyExc_ValueError, "at most %d previous master keys, not %zd",
                     CK_KEYRING_MASTERS - 1, more);
        rc = -1;
    }
    for (Py_ssize_t i = 0; rc == 0 && i < more; i++)
        rc = parse_master(state, PySequence_Fast_GET_ITEM(fast, i), &masters[1 + i]);
    Py_DECREF(fast);
    return rc < 0 ? -1 : 1 + (int)more;
}

static PyObject *
keyring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"master", "previous", "wire", NULL};
    PyObject *master, *previous = NULL;
    int wire = 4;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$i:Keyring", keywords, &master,
                                     &previous, &wire))
        return NULL;
    if (wire != 3 && wire != 4) {
        PyErr_SetString(PyExc_ValueError, "wire is 3 or 4");
        return NULL;
    }
    struct ckpy_state *state = PyType_GetModuleState(type);
    struct ckpy_keyring *self =
        state == NULL ? NULL : (struct ckpy_keyring *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    struct ck_piece masters[CK_KEYRING_MASTERS] = {{NULL, 0}};
    self->state = state;
    self->purpose = wire == 3 ? CK_PURPOSE_ENCRYPTION_V3 : CK_PURPOSE_ENCRYPTION;
    int count = parse_masters(state, master, previous, masters);
    if (count > 0) {
        enum ck_status status = ck_keyring_init(&self->ring, masters, (unsigned)count);
        self->made = status == CK_OK;
        if (!self->made)
            raise_status(self, status);
    }
    wipe_masters(masters);
    if (!self->made)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
keyring_dealloc(PyObject *object)
{
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(object);
    if (self->made)
        ck_keyring_fini(&self->ring);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *
keyring_repr(PyObject *object)
{
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    return PyUnicode_FromFormat("<cachekit Keyring: %u key%s>", self->ring.count,
                                self->ring.count == 1 ? "" : "s");
}

/* --- arguments of the methods --- */

/* The UTF-8 of a str, which keeps it. 0, or -1 with an exception. */
static int
text_of(PyObject *object, const char *what, struct ck_piece *out)
{
    Py_ssize_t len;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s is str, not %.100s", what,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    const char *text = PyUnicode_AsUTF8AndSize(object, &len);
    *out = (struct ck_piece){text, (size_t)len};
    return text == NULL ? -1 : 0;
}

static int
purpose_of(PyObject *object, enum ck_purpose encryption, enum ck_purpose *out)
{
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "purpose is str, not %.100s",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(object, "encryption") == 0)
        *out = encryption;
    else if (PyUnicode_CompareWithASCIIString(object, "names") == 0)
        *out = CK_PURPOSE_NAMES;
    else if (PyUnicode_CompareWithASCIIString(object, "pickle") == 0)
        *out = CK_PURPOSE_PICKLE;
    else {
        PyErr_SetString(PyExc_ValueError,
                        "purpose is \"encryption\", \"names\" or \"pickle\"");
        return -1;
    }
    return 0;
}

/* What a payload is bound to, and the buffers and texts that it borrows. */
struct binding {
    struct ck_bound bound;
    struct ck_piece tenant;
    Py_buffer header;  /* of our frame; obj NULL otherwise */
    PyObject *further; /* owned: a tuple of str, for version 3 */
};

static void
binding_fini(struct binding *binding)
{
    if (binding->header.obj != NULL)
        PyBuffer_Release(&binding->header);
    Py_XDECREF(binding->further);
}

static int
bind_version3(struct binding *binding, struct ck_piece key, PyObject *header)
{
    struct ck_piece parts[CK_BOUND_PARTS] = {binding->tenant, key};
    binding->further = PySequence_Tuple(header); /* nobody changes it meanwhile */
    if (binding->further == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(binding->further);
    if (count > CK_BOUND_PARTS - 2) {
        PyErr_Format(PyExc_ValueError, "header has at most %d parts",
                     CK_BOUND_PARTS - 2);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (text_of(PyTuple_GET_ITEM(binding->further, i), "a part of header",
                    &parts[2 + i]) < 0)
            return -1;
    ck_bound_version3(&binding->bound, parts, 2 + (size_t)count);
    return 0;
}

/* tenant, key, header. 0, or -1 with an exception; binding_fini after either. */
static int
binding_init(struct binding *binding, struct ckpy_keyring *self, PyObject *tenant,
             PyObject *key, PyObject *header)
{
    struct ck_piece name;
    binding->header.obj = NULL;
    binding->further = NULL;
    if (text_of(tenant, "tenant", &binding->tenant) < 0 ||
        text_of(key, "key", &name) < 0)
        return -1;
    if (self->purpose == CK_PURPOSE_ENCRYPTION_V3)
        return bind_version3(binding, name, header);
    if (PyObject_GetBuffer(header, &binding->header, PyBUF_SIMPLE) < 0)
        return -1;
    struct ck_piece bytes = {binding->header.buf, (size_t)binding->header.len};
    ck_bound_entry(&binding->bound, bytes, binding->tenant, name);
    return 0;
}

/* --- methods --- */

PyDoc_STRVAR(
    keyring_seal_doc,
    "seal($self, tenant, key, header, data, /)\n--\n\n"
    "Encrypt `data` with the current key of the tenant: nonce (12), ciphertext,\n"
    "tag (16). The three before it are bound to it. `key` is the store key; `header`\n"
    "is the frame's, or with wire=3 a sequence of the texts bound after the key.");

static PyObject *
keyring_seal(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    struct binding binding;
    struct ck_key *key = NULL;
    Py_buffer data = {.obj = NULL};
    PyObject *sealed = NULL;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "seal(tenant, key, header, data)");
        return NULL;
    }
    if (binding_init(&binding, self, args[0], args[1], args[2]) < 0 ||
        PyObject_GetBuffer(args[3], &data, PyBUF_SIMPLE) < 0 ||
        ckpy_keyring_key(self, 0, self->purpose, binding.tenant, &key) < 0)
        goto done;
    if ((size_t)data.len > CK_AEAD_SEALED_MAX - CK_AEAD_OVERHEAD) {
        raise_status(self, CK_ERR_LIMIT);
        goto done;
    }
    sealed = PyBytes_FromStringAndSize(NULL, data.len + CK_AEAD_OVERHEAD);
    if (sealed != NULL &&
        ckpy_keyring_seal(self, key, (uint8_t *)PyBytes_AS_STRING(sealed),
                          &binding.bound, data.buf, (size_t)data.len) < 0)
        Py_CLEAR(sealed);
done:
    ck_key_release(key);
    if (data.obj != NULL)
        PyBuffer_Release(&data);
    binding_fini(&binding);
    return sealed;
}

/* The plaintext of `data`, or NULL with an exception. */
static PyObject *
open_bound(struct ckpy_keyring *self, const struct binding *binding,
           const Py_buffer *data, const uint8_t *fingerprint)
{
    if (data->len < CK_AEAD_OVERHEAD) {
        raise_not_authentic(self->state);
        return NULL;
    }
    PyObject *plain = PyBytes_FromStringAndSize(NULL, data->len - CK_AEAD_OVERHEAD);
    if (plain == NULL)
        return NULL;
    enum ck_status status =
        ckpy_keyring_open(self, self->purpose, binding->tenant, fingerprint,
                          (uint8_t *)PyBytes_AS_STRING(plain), &binding->bound,
                          data->buf, (size_t)data->len);
    if (status == CK_OK)
        return plain;
    Py_DECREF(plain);
    raise_status(self, status);
    return NULL;
}

PyDoc_STRVAR(
    keyring_open_doc,
    "open($self, tenant, key, header, data, fingerprint=None, /)\n--\n\n"
    "The plaintext of what seal() gave, with the key that has the fingerprint, or\n"
    "with any key of the ring. DecryptionError when it is not authentic.");

static PyObject *
keyring_open(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    struct binding binding;
    Py_buffer data = {.obj = NULL}, print = {.obj = NULL};
    PyObject *plain = NULL;
    if (nargs < 4 || nargs > 5) {
        PyErr_SetString(PyExc_TypeError,
                        "open(tenant, key, header, data, fingerprint=None)");
        return NULL;
    }
    bool any = nargs == 4 || args[4] == Py_None;
    if (binding_init(&binding, self, args[0], args[1], args[2]) < 0 ||
        PyObject_GetBuffer(args[3], &data, PyBUF_SIMPLE) < 0 ||
        (!any && PyObject_GetBuffer(args[4], &print, PyBUF_SIMPLE) < 0))
        goto done;
    if (!any && print.len != CK_KDF_FINGERPRINT)
        PyErr_Format(PyExc_ValueError, "a fingerprint has %d bytes",
                     CK_KDF_FINGERPRINT);
    else
        plain = open_bound(self, &binding, &data, any ? NULL : print.buf);
done:
    if (print.obj != NULL)
        PyBuffer_Release(&print);
    if (data.obj != NULL)
        PyBuffer_Release(&data);
    binding_fini(&binding);
    return plain;
}

/* Key number `which` of (tenant, purpose), or NULL with an exception. [out-own] */
static struct ck_key *
key_of(struct ckpy_keyring *self, PyObject *tenant, enum ck_purpose purpose, int which)
{
    struct ck_piece text;
    struct ck_key *key = NULL;
    if (text_of(tenant, "tenant", &text) < 0)
        return NULL;
    if (which < 0 || ckpy_keyring_key(self, (unsigned)which, purpose, text, &key) < 0) {
        if (!PyErr_Occurred())
            raise_status(self, CK_ERR_ARGUMENT);
        return NULL;
    }
    return key;
}

PyDoc_STRVAR(keyring_fingerprint_doc,
             "fingerprint($self, tenant, which=0)\n--\n\n"
             "The 16 bytes in an entry that tell which key it was encrypted with.\n"
             "`which`: 0 the current master key, 1 and up the previous ones.");

static PyObject *
keyring_fingerprint(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"tenant", "which", NULL};
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    PyObject *tenant;
    int which = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|i:fingerprint", keywords, &tenant,
                                     &which))
        return NULL;
    struct ck_key *key = key_of(self, tenant, self->purpose, which);
    if (key == NULL)
        return NULL;
    PyObject *bytes =
        PyBytes_FromStringAndSize((char *)key->fingerprint, CK_KDF_FINGERPRINT);
    ck_key_release(key);
    return bytes;
}

PyDoc_STRVAR(keyring_derive_doc,
             "derive($self, tenant, purpose, which=0)\n--\n\n"
             "The 32 bytes of a key: of \"encryption\", \"names\" or \"pickle\".\n"
             "They are the caller's to guard; mac() does not hand them out.");

static PyObject *
keyring_derive(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"tenant", "purpose", "which", NULL};
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    PyObject *tenant, *purpose;
    enum ck_purpose chosen;
    int which = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|i:derive", keywords, &tenant,
                                     &purpose, &which) ||
        purpose_of(purpose, self->purpose, &chosen) < 0)
        return NULL;
    struct ck_key *key = key_of(self, tenant, chosen, which);
    if (key == NULL)
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize((char *)key->bytes, CK_AEAD_KEY);
    ck_key_release(key);
    return bytes;
}

PyDoc_STRVAR(keyring_mac_doc,
             "mac($self, tenant, purpose, data, which=0)\n--\n\n"
             "HMAC-SHA256 of `data` under the key that derive() would give.");

static PyObject *
keyring_mac(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"tenant", "purpose", "data", "which", NULL};
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    PyObject *tenant, *purpose, *bytes = NULL;
    Py_buffer data;
    enum ck_purpose chosen;
    int which = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOy*|i:mac", keywords, &tenant,
                                     &purpose, &data, &which))
        return NULL;
    struct ck_key *key = purpose_of(purpose, self->purpose, &chosen) < 0
                             ? NULL
                             : key_of(self, tenant, chosen, which);
    uint8_t mac[CK_KDF_MAC];
    if (key != NULL &&
        ck_kdf_mac(mac, key->bytes, CK_AEAD_KEY, data.buf, (size_t)data.len) == CK_OK)
        bytes = PyBytes_FromStringAndSize((char *)mac, CK_KDF_MAC);
    else if (key != NULL)
        PyErr_NoMemory();
    ck_key_release(key);
    PyBuffer_Release(&data);
    return bytes;
}

/* A part of a name: its length in 8 bytes, then itself. 0, or -1 with an exception. */
static int
update_name(struct ck_digest *digest, PyObject *part)
{
    Py_buffer view;
    uint8_t len[8];
    if (PyObject_GetBuffer(part, &view, PyBUF_SIMPLE) < 0)
        return -1;
    uint64_t left = (uint64_t)view.len;
    for (size_t i = 0; i < sizeof len; i++, left >>= 8)
        len[i] = (uint8_t)left;
    ck_digest_update(digest, len, sizeof len);
    ck_digest_update(digest, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return 0;
}

PyDoc_STRVAR(keyring_names_digest_doc,
             "names_digest($self, tenant, part, /, *parts, which=0)\n--\n\n"
             "BLAKE2b-256 of the parts, each after its length in 8 bytes\n"
             "(little-endian), keyed with the tenant's \"names\".");

static PyObject *
keyring_names_digest(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"which", NULL};
    struct ckpy_keyring *self = (struct ckpy_keyring *)object;
    int which = 0, rc = 0;
    PyObject *none = PyTuple_New(0);
    if (none == NULL)
        return NULL;
    rc =
        PyArg_ParseTupleAndKeywords(none, kwargs, "|$i:names_digest", keywords, &which);
    Py_DECREF(none);
    if (!rc)
        return NULL;
    if (PyTuple_GET_SIZE(args) < 2) { /* a digest begun with a name's key needs data */
        PyErr_SetString(PyExc_TypeError, "names_digest(tenant, part, *parts, which=0)");
        return NULL;
    }
    struct ck_key *key =
        key_of(self, PyTuple_GET_ITEM(args, 0), CK_PURPOSE_NAMES, which);
    if (key == NULL)
        return NULL;
    struct ck_digest digest;
    uint8_t name[CK_DIGEST_SIZE];
    ck_key_begin_name(key, &digest);
    rc = 0;
    for (Py_ssize_t i = 1; rc == 0 && i < PyTuple_GET_SIZE(args); i++)
        rc = update_name(&digest, PyTuple_GET_ITEM(args, i));
    ck_digest_final(&digest, name);
    ck_key_release(key);
    return rc < 0 ? NULL : PyBytes_FromStringAndSize((char *)name, CK_DIGEST_SIZE);
}

static PyObject *
keyring_reduce(PyObject *Py_UNUSED(object), PyObject *Py_UNUSED(arg))
{
    PyErr_SetString(PyExc_TypeError, "a Keyring is neither pickled nor copied");
    return NULL;
}

/* --- the type --- */

static PyMethodDef keyring_methods[] = {
    {"seal", (PyCFunction)(void (*)(void))keyring_seal, METH_FASTCALL,
     keyring_seal_doc},
    {"open", (PyCFunction)(void (*)(void))keyring_open, METH_FASTCALL,
     keyring_open_doc},
    {"fingerprint", (PyCFunction)(void (*)(void))keyring_fingerprint,
     METH_VARARGS | METH_KEYWORDS, keyring_fingerprint_doc},
    {"derive", (PyCFunction)(void (*)(void))keyring_derive,
     METH_VARARGS | METH_KEYWORDS, keyring_derive_doc},
    {"mac", (PyCFunction)(void (*)(void))keyring_mac, METH_VARARGS | METH_KEYWORDS,
     keyring_mac_doc},
    {"names_digest", (PyCFunction)(void (*)(void))keyring_names_digest,
     METH_VARARGS | METH_KEYWORDS, keyring_names_digest_doc},
    {"__reduce__", keyring_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", keyring_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef keyring_members[] = {
    {"count", T_UINT, offsetof(struct ckpy_keyring, ring.count), READONLY,
     "How many master keys: the current one and the previous ones."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct ckpy_keyring, weak), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(keyring_doc,
             "Keyring(master, previous=(), *, wire=4)\n--\n\n"
             "A master key and up to 3 previous ones, hex digits for 32 bytes or more\n"
             "each. `wire` is the version of the entries that it encrypts: 4 or 3.\n"
             "ConfigurationError E002 for text that is no key.");

static PyType_Slot keyring_slots[] = {
    {Py_tp_doc, (void *)keyring_doc},
    {Py_tp_new, keyring_new},
    {Py_tp_dealloc, keyring_dealloc},
    {Py_tp_repr, keyring_repr},
    {Py_tp_methods, keyring_methods},
    {Py_tp_members, keyring_members},
    {0, NULL},
};

static PyType_Spec keyring_spec = {
    .name = "cachekit._core.Keyring",
    .basicsize = sizeof(struct ckpy_keyring),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = keyring_slots,
};

int
ckpy_keyring_exec(PyObject *module, struct ckpy_state *state)
{
    return ckpy_state_add_type(module, &state->keyring_type, &keyring_spec, "Keyring");
}
