/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   The encodings of the library types: dates, numbers, addresses, collections.
 * THREADING Holds the GIL.
 */
#include "py/datetime_api.h"
#include "py/encode_parts.h"
#include "py/int_bytes.h"
#include "py/library.h"
#include "py/state.h"

/* ---- dates --------------------------------------------------------------------- */

/* How the zone is written, by its object. */
static int
zone_kind(struct ckpy_encoder *encoder, PyObject *zone, enum ckpy_zone *kind)
{
    const PyDateTime_CAPI *api = encoder->state->values.datetime_api;
    *kind = CKPY_ZONE_NONE;
    if (zone == Py_None)
        return 0;
    if (zone == api->TimeZone_UTC) {
        *kind = CKPY_ZONE_UTC;
        return 0;
    }
    switch (ckpy_values_find(encoder->state, Py_TYPE(zone))) {
    case CKPY_TYPE_TIMEZONE: *kind = CKPY_ZONE_OFFSET; return 0;
    case CKPY_TYPE_ZONEINFO: *kind = CKPY_ZONE_KEY; return 0;
    default:
        return ckpy_encode_refuse(
            encoder, zone,
            "of time zones, datetime.timezone and zoneinfo.ZoneInfo are "
            "known");
    }
}

static int
pack_i64(struct ck_buf *out, int64_t number)
{
    uint8_t bytes[8];
    _msgpack_store64(bytes, number);
    return ck_pack_append(out, bytes, sizeof bytes);
}

/* Microseconds, then the name, if it was given one. */
static int
encode_offset(struct ckpy_encoder *encoder, PyObject *zone)
{
    PyObject *args = PyObject_CallMethod(zone, "__getinitargs__", NULL);
    if (args == NULL)
        return -1;
    int rc = -1;
    PyObject *offset = PyTuple_GET_ITEM(args, 0);
    int64_t seconds = (int64_t)PyDateTime_DELTA_GET_DAYS(offset) * 86400 +
                      PyDateTime_DELTA_GET_SECONDS(offset);
    if (pack_i64(encoder->out,
                 seconds * 1000000 + PyDateTime_DELTA_GET_MICROSECONDS(offset)) == 0)
        rc = 0;
    if (rc == 0 && PyTuple_GET_SIZE(args) == 2) {
        ck_buf_put_u8(encoder->out, 'n');
        rc = ckpy_encode_text_body(encoder, PyTuple_GET_ITEM(args, 1));
    }
    Py_DECREF(args);
    return rc;
}

static int
encode_zone_key(struct ckpy_encoder *encoder, PyObject *zone)
{
    PyObject *key = PyObject_GetAttrString(zone, "key");
    if (key == NULL)
        return -1;
    int rc = PyUnicode_CheckExact(key) && PyUnicode_GET_LENGTH(key) <= CKPY_ZONE_KEY_MAX
                 ? ckpy_encode_text_body(encoder, key)
                 : ckpy_encode_refuse(encoder, zone, "the time zone has no key");
    Py_DECREF(key);
    return rc;
}

/* A date or time or both, with its zone: fields in 64 bits, then the zone. */
static int
encode_moment(struct ckpy_encoder *encoder, enum ck_ext type, uint64_t fields,
              PyObject *zone)
{
    enum ckpy_zone kind;
    if (zone_kind(encoder, zone, &kind) < 0)
        return -1;
    fields |= (uint64_t)kind;
    if (kind == CKPY_ZONE_NONE || kind == CKPY_ZONE_UTC) {
        if (ck_pack_ext(encoder->out, 8, (int8_t)type) < 0)
            return -1;
        return pack_i64(encoder->out, (int64_t)fields);
    }
    size_t start = ck_pack_ext_begin(encoder->out, type);
    if (pack_i64(encoder->out, (int64_t)fields) < 0)
        return -1;
    int rc = kind == CKPY_ZONE_OFFSET ? encode_offset(encoder, zone)
                                      : encode_zone_key(encoder, zone);
    return rc < 0 ? -1 : ck_pack_ext_end(encoder->out, start);
}

static int
encode_datetime(struct ckpy_encoder *encoder, PyObject *value)
{
    uint64_t fields = ckpy_moment(
        (unsigned)PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value),
        PyDateTime_GET_DAY(value), PyDateTime_DATE_GET_HOUR(value),
        PyDateTime_DATE_GET_MINUTE(value), PyDateTime_DATE_GET_SECOND(value),
        (unsigned)PyDateTime_DATE_GET_MICROSECOND(value),
        PyDateTime_DATE_GET_FOLD(value));
    return encode_moment(encoder, CK_EXT_DATETIME, fields,
                         PyDateTime_DATE_GET_TZINFO(value));
}

static int
encode_time(struct ckpy_encoder *encoder, PyObject *value)
{
    uint64_t fields = ckpy_moment(0, 0, 0, PyDateTime_TIME_GET_HOUR(value),
                                  PyDateTime_TIME_GET_MINUTE(value),
                                  PyDateTime_TIME_GET_SECOND(value),
                                  (unsigned)PyDateTime_TIME_GET_MICROSECOND(value),
                                  PyDateTime_TIME_GET_FOLD(value));
    return encode_moment(encoder, CK_EXT_TIME, fields,
                         PyDateTime_TIME_GET_TZINFO(value));
}

static int
encode_date(struct ckpy_encoder *encoder, PyObject *value)
{
    uint8_t bytes[4];
    _msgpack_store32(bytes, (uint32_t)PyDateTime_GET_YEAR(value) << 16 |
                                (uint32_t)PyDateTime_GET_MONTH(value) << 8 |
                                (uint32_t)PyDateTime_GET_DAY(value));
    if (ck_pack_ext(encoder->out, sizeof bytes, CK_EXT_DATE) < 0)
        return -1;
    return ck_pack_append(encoder->out, bytes, sizeof bytes);
}

static int
encode_timedelta(struct ckpy_encoder *encoder, PyObject *value)
{
    uint8_t bytes[12];
    _msgpack_store32(bytes, (uint32_t)PyDateTime_DELTA_GET_DAYS(value));
    _msgpack_store32(bytes + 4, (uint32_t)PyDateTime_DELTA_GET_SECONDS(value));
    _msgpack_store32(bytes + 8, (uint32_t)PyDateTime_DELTA_GET_MICROSECONDS(value));
    if (ck_pack_ext(encoder->out, sizeof bytes, CK_EXT_TIMEDELTA) < 0)
        return -1;
    return ck_pack_append(encoder->out, bytes, sizeof bytes);
}

/* ---- numbers and texts --------------------------------------------------------- */

static int
encode_uuid(struct ckpy_encoder *encoder, PyObject *value)
{
    uint8_t bytes[16];
    PyObject *number = PyObject_GetAttrString(value, "int");
    if (number == NULL)
        return -1;
    int rc = PyLong_CheckExact(number)
                 ? ckpy_int_store(number, bytes, sizeof bytes, 0)
                 : ckpy_encode_refuse(encoder, value, "it holds no integer");
    Py_DECREF(number);
    if (rc < 0 || ck_pack_ext(encoder->out, sizeof bytes, CK_EXT_UUID) < 0)
        return -1;
    for (size_t i = 0; i < 8; i++) { /* its usual order is big-endian */
        uint8_t low = bytes[i];
        bytes[i] = bytes[15 - i];
        bytes[15 - i] = low;
    }
    return ck_pack_append(encoder->out, bytes, sizeof bytes);
}

static int
encode_as_text(struct ckpy_encoder *encoder, PyObject *value, enum ck_ext type)
{
    PyObject *text = PyObject_Str(value);
    if (text == NULL)
        return -1;
    int rc = ckpy_encode_text(encoder, text, type);
    Py_DECREF(text);
    return rc;
}

static int
encode_attribute(struct ckpy_encoder *encoder, PyObject *value, const char *name)
{
    PyObject *part = PyObject_GetAttrString(value, name);
    if (part == NULL)
        return -1;
    int rc = ckpy_encode_value(encoder, part);
    Py_DECREF(part);
    return rc;
}

static int
encode_fraction(struct ckpy_encoder *encoder, PyObject *value)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_FRACTION);
    if (encode_attribute(encoder, value, "_numerator") < 0 ||
        encode_attribute(encoder, value, "_denominator") < 0)
        return -1;
    return ck_pack_ext_end(encoder->out, start);
}

/* ---- collections --------------------------------------------------------------- */

static int
encode_default_dict(struct ckpy_encoder *encoder, PyObject *value)
{
    PyObject *factory = PyObject_GetAttrString(value, "default_factory");
    if (factory == NULL)
        return -1;
    int code = ckpy_factory_code(factory);
    Py_DECREF(factory);
    if (code < 0)
        return ckpy_encode_refuse(
            encoder, value, "its factory is no built-in type such as list or int");
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_DEFAULT_DICT);
    if (ck_pack_int64(encoder->out, code) < 0 || ckpy_encode_map(encoder, value) < 0)
        return -1;
    return ck_pack_ext_end(encoder->out, start);
}

static int
encode_deque(struct ckpy_encoder *encoder, PyObject *value)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_DEQUE);
    Py_ssize_t count = PyObject_Size(value);
    if (count < 0 || encode_attribute(encoder, value, "maxlen") < 0 ||
        ckpy_encode_each(encoder, value, count) < 0)
        return -1;
    return ck_pack_ext_end(encoder->out, start);
}

int
ckpy_encode_library(struct ckpy_encoder *encoder, PyObject *value, enum ckpy_type type)
{
    size_t start;
    switch (type) {
    case CKPY_TYPE_DATETIME: return encode_datetime(encoder, value);
    case CKPY_TYPE_DATE: return encode_date(encoder, value);
    case CKPY_TYPE_TIME: return encode_time(encoder, value);
    case CKPY_TYPE_TIMEDELTA: return encode_timedelta(encoder, value);
    case CKPY_TYPE_UUID: return encode_uuid(encoder, value);
    case CKPY_TYPE_FRACTION: return encode_fraction(encoder, value);
    case CKPY_TYPE_DECIMAL:
    case CKPY_TYPE_IPV4_ADDRESS:
    case CKPY_TYPE_IPV6_ADDRESS:
    case CKPY_TYPE_IPV4_NETWORK:
    case CKPY_TYPE_IPV6_NETWORK:
    case CKPY_TYPE_IPV4_INTERFACE:
    case CKPY_TYPE_IPV6_INTERFACE:
    case CKPY_TYPE_PURE_POSIX_PATH:
    case CKPY_TYPE_PURE_WINDOWS_PATH:
    case CKPY_TYPE_POSIX_PATH:
    case CKPY_TYPE_WINDOWS_PATH:
        return encode_as_text(encoder, value, ckpy_text_ext(type));
    case CKPY_TYPE_ORDERED_DICT:
        start = ck_pack_ext_begin(encoder->out, CK_EXT_ORDERED_DICT);
        return ckpy_encode_ordered_map(encoder, value) < 0
                   ? -1
                   : ck_pack_ext_end(encoder->out, start);
    case CKPY_TYPE_COUNTER:
        start = ck_pack_ext_begin(encoder->out, CK_EXT_COUNTER);
        return ckpy_encode_map(encoder, value) < 0
                   ? -1
                   : ck_pack_ext_end(encoder->out, start);
    case CKPY_TYPE_DEFAULT_DICT: return encode_default_dict(encoder, value);
    case CKPY_TYPE_DEQUE: return encode_deque(encoder, value);
    case CKPY_TYPE_NDARRAY: return ckpy_encode_numpy_array(encoder, value);
    case CKPY_TYPE_NUMPY_SCALAR: return ckpy_encode_numpy_scalar(encoder, value);
    case CKPY_TYPE_TIMEZONE:
    case CKPY_TYPE_ZONEINFO:
    case CKPY_TYPE_NUMPY_DTYPE:
    case CKPY_TYPE_ENUM:
    case CKPY_TYPE_COUNT: break;
    }
    return ckpy_encode_refuse(encoder, value,
                              "no such type is known to the default serializer");
}
