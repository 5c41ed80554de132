/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The entry frame around a value: written for what the function returned, and
 *           read, judged and opened when the store gives one back.
 * THREADING Guarded by the GIL.
 */
#include "py/call.h"

#include "py/decode.h"
#include "py/errors.h"
#include "py/state.h"

#include "base/ck_alloc.h"
#include "codec/ck_frame.h"
#include "codec/ck_kdf.h"
#include "codec/ck_lz4.h"

/* ms by which an encrypted entry may be past its end by the clocks of two hosts. */
#define REPLAY_SLACK (INT64_C(3600) * 1000)

_Static_assert(CKPY_TAGS_MAX <= CK_FRAME_TAGS_MAX, "a frame counts tags in a byte");

/* Was foreign code ended by what is no Exception (Ctrl-C, SystemExit)? Then so is the
 * call, and it keeps the exception. */
bool
ckpy_call_was_stopped(struct ckpy_call *call)
{
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_Exception))
        return false;
    Py_XSETREF(call->exception, ckpy_take_exception());
    return true;
}

/* ---- for the store ------------------------------------------------------------- */

static int64_t
milliseconds(int64_t ns)
{
    if (ns == CK_NEVER)
        return CK_FRAME_NEVER;
    int64_t ms = ns / CK_NS_PER_MS + (ns % CK_NS_PER_MS != 0);
    return ms > 0 ? ms : 1;
}

/* The version numbers that the value was made under. False where one is missing: then
 * nobody could tell later whether it still holds. */
static bool
put_numbers(struct ckpy_call *call, struct ck_frame *frame,
            uint8_t tags[8 * CKPY_TAGS_MAX])
{
    Py_ssize_t count = call->sides == NULL ? 0 : PyTuple_GET_SIZE(call->sides);
    Py_ssize_t own = call->function->policy.own_versions ? 1 : 0;
    uint64_t number;
    if (count == 0)
        return true; /* a store that knows no versions */
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!ckpy_call_number(call, i, &number) || i > own + CKPY_TAGS_MAX)
            return false;
        if (i > own)
            ck_frame_put_u64(tags + 8 * (i - own - 1), number);
        else if (i == own)
            frame->space = number;
        else
            frame->function = number;
    }
    frame->tags = tags;
    frame->tag_count = (uint8_t)(count - own - 1);
    return true;
}

/* A str as a part of what an entry is bound to. Borrowed from it. */
static struct ck_piece
piece_of(PyObject *name)
{
    Py_ssize_t len = 0;
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    return (struct ck_piece){.data = text, .len = (size_t)len};
}

static enum ck_status
write_frame(struct ckpy_call *call, struct ck_frame *frame, struct ck_buf *out,
            const struct ck_buf *payload)
{
    const struct ckpy_secret *secret = &call->function->secret;
    if (secret->keyring == NULL)
        return ck_frame_write(out, frame, payload->data, payload->len);
    PyObject *name = ckpy_call_store_key(call);
    return name == NULL
               ? CK_ERR_ARGUMENT
               : ckpy_secret_write(secret, out, frame, ckpy_call_tenant(call),
                                   piece_of(name), payload->data, payload->len);
}

/* Header, payload (compressed where it pays), check: a bytes object. */
static PyObject *
build(struct ckpy_call *call, struct ck_frame *frame, const struct ck_buf *raw)
{
    struct ck_buf packed, out;
    ck_buf_init(&packed, NULL, 0);
    ck_buf_init(&out, NULL, 0);
    const struct ck_buf *payload = raw;
    if (raw->len >= call->function->policy.compress_min) {
        frame->compressed = true;
        frame->raw_len = (uint32_t)raw->len;
        if (ck_lz4_compress(&packed, raw->data, raw->len) == CK_OK)
            payload = &packed;
        else
            frame->compressed = false;
    }
    enum ck_status status = write_frame(call, frame, &out, payload);
    PyObject *bytes = NULL;
    if (status == CK_OK)
        bytes = PyBytes_FromStringAndSize((const char *)out.data, (Py_ssize_t)out.len);
    else if (status == CK_ERR_NOMEM)
        PyErr_NoMemory();
    else if (!PyErr_Occurred())
        ckpy_raise(call->state, "SerializationError", "the entry cannot be framed: %s",
                   ck_status_name(status));
    ck_buf_fini(&out);
    ckpy_secret_wipe(&packed);
    return bytes;
}

int
ckpy_call_frame(struct ckpy_call *call, const struct ck_buf *raw, int64_t ttl,
                int64_t usable)
{
    const struct ckpy_policy *policy = &call->function->policy;
    uint8_t tags[8 * CKPY_TAGS_MAX];
    int64_t load_us = call->load_time / CK_NS_PER_US;
    struct ck_frame frame = {
        .serializer = policy->serializer_id,
        .serializer_name = policy->serializer_name,
        .has_version = policy->has_version,
        .version = policy->version,
        .has_schema = policy->has_schema,
        .schema = policy->schema,
        .has_load_time = true,
        .load_us = (uint32_t)(load_us > UINT32_MAX ? UINT32_MAX : load_us),
        .created = ck_clock_wall_ms(),
        .total = milliseconds(usable),
        .fresh = milliseconds(ttl),
        .revalidate = policy->stale_ttl == 0 ? 0 : milliseconds(policy->stale_ttl),
    };
    Py_CLEAR(call->payload);
    if (!put_numbers(call, &frame, tags))
        return 0;
    call->payload = build(call, &frame, raw);
    call->payload_ttl = usable == CK_NEVER ? 0 : milliseconds(usable);
    return call->payload == NULL ? -1 : 0;
}

/* ---- from the store ------------------------------------------------------------ */

/* The serializer's own bytes of a payload: itself, or `*expanded` (to be freed). */
static enum ck_status
expand(const struct ck_frame *frame, struct ck_piece payload, uint8_t **expanded)
{
    *expanded = NULL;
    if (!frame->compressed)
        return CK_OK;
    enum ck_status status = ck_lz4_check(frame->raw_len, payload.len);
    if (status != CK_OK)
        return status;
    *expanded = ck_malloc(frame->raw_len);
    if (*expanded == NULL)
        return CK_ERR_NOMEM;
    return ck_lz4_decompress(*expanded, frame->raw_len, payload.data, payload.len);
}

static PyObject *
decode(struct ckpy_call *call, const uint8_t *data, size_t len)
{
    struct ckpy_function *function = call->function;
    if (function->policy.serializer == NULL)
        return ckpy_decode(call->state, data, len, function->policy.returns);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)len);
    PyObject *value =
        bytes == NULL ? NULL
                      : ckpy_function_handout(function, bytes, CKPY_KIND_SERIALIZED);
    Py_XDECREF(bytes);
    return value;
}

/* ms since the entry was made, 0 to 100 years: whoever wrote it may have written
 * anything. */
static int64_t
age_by_wall_clock(const struct ck_frame *frame)
{
    const int64_t longest = INT64_C(36525) * 86400 * 1000;
    uint64_t now = ck_clock_wall_ms();
    if (frame->created >= now)
        return 0;
    return now - frame->created < (uint64_t)longest ? (int64_t)(now - frame->created)
                                                    : longest;
}

/* Do the version numbers of the entry still hold? One that is missing from the store
 * does not. */
static bool
numbers_hold(struct ckpy_call *call, const struct ck_frame *frame)
{
    Py_ssize_t count = call->sides == NULL ? 0 : PyTuple_GET_SIZE(call->sides);
    Py_ssize_t own = call->function->policy.own_versions ? 1 : 0;
    uint64_t number;
    if (count == 0)
        return true;
    if (frame->tag_count != count - own - 1)
        return false;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t written = i < own    ? frame->function
                           : i == own ? frame->space
                                      : ck_frame_u64(frame->tags + 8 * (i - own - 1));
        if (!ckpy_call_number(call, i, &number) || number != written)
            return false;
    }
    return true;
}

/* Is it of the version and the schema that this function wants? Where it is not and may
 * keep its place, `yields` is set: of two versions the higher has it, and another schema
 * until half of its fresh period is over. `age` in ms. */
static bool
is_wanted(struct ckpy_call *call, const struct ck_frame *frame, int64_t age)
{
    const struct ckpy_policy *policy = &call->function->policy;
    int64_t ours = policy->has_version ? (int64_t)policy->version : -1;
    int64_t theirs = frame->has_version ? (int64_t)frame->version : -1;
    bool same_schema = policy->has_schema == frame->has_schema &&
                       (!policy->has_schema || policy->schema == frame->schema);
    if (theirs == ours && same_schema)
        return true;
    if (theirs != ours)
        call->yields = theirs > ours;
    else
        call->yields = frame->fresh == CK_FRAME_NEVER || age < frame->fresh / 2;
    return false;
}

/* Where on its time line the entry stands. */
static enum ck_event
place_in_time(struct ckpy_call *call, const struct ck_frame *frame, int64_t remaining)
{
    const struct ckpy_policy *policy = &call->function->policy;
    struct ckpy_value *found = &call->found;
    bool never = frame->total == CK_FRAME_NEVER;
    int64_t wall_age = age_by_wall_clock(frame);
    if (remaining == -2 && !never)
        remaining = frame->total - wall_age;
    else if ((remaining == -1) != never && remaining != -2)
        return CK_EV_READ_MISS; /* somebody changed its expiry: trust nothing */
    if (!never && remaining <= 0)
        return CK_EV_READ_MISS;
    /* Its times are authentic, the expiry in the store is not: nobody keeps it for ever
     * by setting that anew. */
    if (!never && call->function->secret.keyring != NULL &&
        wall_age > frame->total + REPLAY_SLACK)
        return CK_EV_READ_MISS;
    /* An age below 0 is 0, and no more than all is left. */
    if (!never && remaining > frame->total)
        remaining = frame->total;
    int64_t age = never ? wall_age : frame->total - remaining;
    int64_t now = ck_clock_now();
    found->created = now - age * CK_NS_PER_MS;
    found->fresh_until = frame->fresh == CK_FRAME_NEVER
                             ? CK_NEVER
                             : now + (frame->fresh - age) * CK_NS_PER_MS;
    found->usable_until = never ? CK_NEVER : now + remaining * CK_NS_PER_MS;
    if (!is_wanted(call, frame, age))
        return CK_EV_READ_MISS;
    if (now < found->fresh_until)
        return CK_EV_READ_FRESH;
    int64_t stale = frame->revalidate == CK_FRAME_NEVER
                        ? policy->stale_ttl
                        : frame->revalidate * CK_NS_PER_MS;
    if (stale > policy->stale_ttl)
        stale = policy->stale_ttl;
    if (now < ck_clock_add(found->fresh_until, stale))
        return CK_EV_READ_STALE;
    if (policy->serve_stale_on_error &&
        now < ck_clock_add(found->fresh_until, policy->error_ttl))
        return CK_EV_READ_LATE;
    return CK_EV_READ_MISS;
}

/* May this function read what that serializer wrote? */
static bool
is_readable(const struct ckpy_policy *policy, const struct ck_frame *frame)
{
    return frame->serializer == policy->serializer_id &&
           (frame->serializer != CK_FRAME_OTHER ||
            frame->serializer_name == policy->serializer_name);
}

/* Why the bytes gave no value. */
static enum ck_event
what_went_wrong(struct ckpy_call *call, enum ck_status status)
{
    if (ckpy_call_was_stopped(call))
        return CK_EV_ABORTED;
    /* The check held, so these are the bytes that somebody wrote: of a class that this
     * function was not told, or by a newer program. Not damaged, and left alone. */
    if (status == CK_OK || status == CK_ERR_NOMEM)
        return CK_EV_READ_MISS;
    return CK_EV_READ_CORRUPT;
}

/* A fresh entry of a function that refreshes early: is it due? */
static void
look_ahead(struct ckpy_call *call, const struct ck_frame *frame)
{
    struct ckpy_function *function = call->function;
    if (frame->has_load_time)
        ckpy_function_loaded_in(function, (int64_t)frame->load_us * CK_NS_PER_US);
    if (call->mode != CK_MODE_REFRESH || call->silent ||
        call->found.fresh_until == CK_NEVER)
        return;
    call->early =
        ckpy_function_is_due(function, call->found.fresh_until - ck_clock_now());
}

/* The payload of a frame as it was before encryption, in `plain` where that was needed.
 * CK_OK, CK_ERR_CORRUPT, CK_ERR_NOMEM. */
static enum ck_status
decrypt(struct ckpy_call *call, const struct ck_frame *frame, PyObject *name,
        struct ck_buf *plain, struct ck_piece *payload)
{
    const struct ckpy_secret *secret = &call->function->secret;
    *payload = (struct ck_piece){.data = frame->payload, .len = frame->payload_len};
    if (secret->keyring == NULL)
        return CK_OK;
    if (!frame->encrypted)
        return CK_ERR_CORRUPT; /* put there by somebody without the key */
    enum ck_status status =
        ckpy_secret_open(secret, frame, ckpy_call_tenant(call), piece_of(name), plain);
    *payload = (struct ck_piece){.data = plain->data, .len = plain->len};
    return status == CK_MISS ? CK_ERR_CORRUPT : status;
}

/* The value in an authentic payload, or NULL: `*event` says why. */
static PyObject *
read_value(struct ckpy_call *call, const struct ck_frame *frame,
           struct ck_piece payload, enum ck_event *event)
{
    uint8_t *expanded;
    PyObject *value = NULL;
    enum ck_status status = expand(frame, payload, &expanded);
    if (status == CK_OK && expanded != NULL)
        value = decode(call, expanded, frame->raw_len);
    else if (status == CK_OK)
        value = decode(call, payload.data, payload.len);
    if (expanded != NULL && call->function->secret.keyring != NULL)
        ck_kdf_wipe(expanded, frame->raw_len);
    ck_free(expanded);
    if (value == NULL) {
        *event = what_went_wrong(call, status);
        PyErr_Clear();
    }
    return value;
}

/* An entry that has been taken apart: is it ours to use, and what is in it? */
static enum ck_event
open_frame(struct ckpy_call *call, const struct ck_frame *frame, PyObject *name,
           int64_t remaining)
{
    struct ck_buf plain;
    struct ck_piece payload;
    uint8_t space[1024];
    ck_buf_init(&plain, space, sizeof space);
    enum ck_status status = decrypt(call, frame, name, &plain, &payload);
    enum ck_event event = status == CK_OK          ? CK_EV_READ_MISS
                          : status == CK_ERR_NOMEM ? CK_EV_READ_MISS
                                                   : CK_EV_READ_CORRUPT;
    struct ckpy_value former = call->found;
    PyObject *value = NULL;
    if (status == CK_OK && numbers_hold(call, frame) &&
        is_readable(&call->function->policy, frame))
        event = place_in_time(call, frame, remaining);
    if (status == CK_OK && event != CK_EV_READ_MISS)
        value = read_value(call, frame, payload, &event);
    ckpy_secret_wipe(&plain);
    if (value == NULL) {
        call->found = former;
        return event;
    }
    call->found.held = NULL;
    call->found.value = value;
    call->found.bytes = 0;
    Py_XDECREF(former.held);
    Py_XDECREF(former.value);
    return event;
}

static enum ck_event
open_entry(struct ckpy_call *call, const uint8_t *data, size_t len, PyObject *name,
           int64_t remaining)
{
    struct ck_frame frame;
    enum ck_status status = ck_frame_parse(&frame, data, len);
    bool secret = call->function->secret.keyring != NULL;
    if (status == CK_MISS || (status == CK_OK && frame.encrypted && !secret))
        return CK_EV_READ_MISS;
    if (status != CK_OK)
        return CK_EV_READ_CORRUPT;
    enum ck_event event = open_frame(call, &frame, name, remaining);
    if (CK_UNLIKELY(call->function->policy.early) && event == CK_EV_READ_FRESH)
        look_ahead(call, &frame);
    return event;
}

/* Where the function asks for it, what is not authentic is an error. */
static enum ck_event
judge_corrupt(struct ckpy_call *call, enum ck_event event)
{
    if (event != CK_EV_READ_CORRUPT || !call->function->secret.fail_closed ||
        call->function->secret.keyring == NULL)
        return event;
    PyObject *type = ckpy_error_class(call->state, "DecryptionError");
    PyObject *error = type == NULL ? NULL : PyObject_CallNoArgs(type);
    if (error == NULL)
        error = ckpy_take_exception();
    Py_XDECREF(type);
    Py_XSETREF(call->exception, error);
    return event;
}

enum ck_event
ckpy_call_open(struct ckpy_call *call, const uint8_t *data, size_t len,
               int64_t remaining)
{
    PyObject *name = ckpy_call_store_key(call);
    if (name == NULL) {
        PyErr_Clear();
        return CK_EV_READ_MISS;
    }
    return judge_corrupt(call, call->names != NULL
                                   ? ckpy_call_open_wire3(call, data, len, 0, remaining)
                                   : open_entry(call, data, len, name, remaining));
}

enum ck_event
ckpy_call_open_others(struct ckpy_call *call)
{
    enum ck_event event = CK_EV_READ_MISS;
    Py_ssize_t count = PyTuple_GET_SIZE(call->names);
    if (PyTuple_GET_SIZE(call->numbers) < count - 1)
        return event;
    for (Py_ssize_t i = 1; i < count && event == CK_EV_READ_MISS; i++) {
        PyObject *data = Py_NewRef(PyTuple_GET_ITEM(call->numbers, i - 1));
        if (PyBytes_CheckExact(data)) /* its expiry was not asked for */
            event = ckpy_call_open_wire3(call, (const uint8_t *)PyBytes_AS_STRING(data),
                                         (size_t)PyBytes_GET_SIZE(data), i, -2);
        Py_DECREF(data);
    }
    return judge_corrupt(call, event);
}

enum ck_event
ckpy_call_open_former(struct ckpy_call *call)
{
    Py_ssize_t step = PyTuple_GET_SIZE(call->sides) + 1;
    enum ck_event event = CK_EV_READ_MISS;
    for (Py_ssize_t i = 1; i < call->function->secret.names && event == CK_EV_READ_MISS;
         i++) {
        Py_ssize_t at = i * step - 1;
        PyObject *data = at >= PyTuple_GET_SIZE(call->numbers)
                             ? Py_None
                             : PyTuple_GET_ITEM(call->numbers, at);
        if (!PyBytes_CheckExact(data))
            continue;
        PyObject *name = ckpy_function_store_key(call->function, call->key, i);
        if (name == NULL) {
            PyErr_Clear();
            continue;
        }
        call->numbers_at = at + 1;
        /* Its expiry was not asked for: the times in the header serve. */
        event = open_entry(call, (const uint8_t *)PyBytes_AS_STRING(data),
                           (size_t)PyBytes_GET_SIZE(data), name, -2);
        Py_DECREF(name);
    }
    call->numbers_at = 0;
    return judge_corrupt(call, event);
}

void
ckpy_call_look_at(struct ckpy_call *call, const uint8_t *head, size_t len)
{
    struct ck_frame frame;
    uint64_t number;
    Py_ssize_t own = call->function->policy.own_versions ? 1 : 0;
    if (!ck_frame_peek(&frame, head, len))
        return;
    if (own != 0 && (!ckpy_call_number(call, 0, &number) || number != frame.function))
        return; /* invalidated as a whole: it has no claim to its place */
    if (!ckpy_call_number(call, own, &number) || number != frame.space)
        return;
    (void)is_wanted(call, &frame, age_by_wall_clock(&frame));
}
