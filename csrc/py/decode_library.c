/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Library types from their bytes: dates, numbers, addresses, collections.
 * DESIGN    The constructors check what they are given; what they do not check (lengths,
 *           ranges of a timedelta) is checked here.
 * THREADING Holds the GIL.
 */
#include "py/datetime_api.h"
#include "py/decode_parts.h"
#include "py/int_bytes.h"
#include "py/library.h"
#include "py/state.h"

enum { ADDRESS_TEXT_MAX = 512 };

static uint64_t
load_be(const uint8_t *at, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

/* ---- dates --------------------------------------------------------------------- */

static const PyDateTime_CAPI *
datetime_api(struct ckpy_decoder *decoder)
{
    if (ckpy_values_type(decoder->state, CKPY_TYPE_DATETIME) == NULL)
        return NULL;
    return decoder->state->values.datetime_api;
}

static PyObject *
decode_offset(const PyDateTime_CAPI *api, const uint8_t *bytes, size_t size)
{
    if (size < 8 || (size > 8 && bytes[8] != 'n'))
        return NULL;
    int64_t offset = (int64_t)load_be(bytes, 8);
    if (offset <= -INT64_C(86400000000) || offset >= INT64_C(86400000000))
        return NULL;
    int days = offset < 0 ? -1 : 0;
    int64_t rest = offset - days * INT64_C(86400000000);
    PyObject *name = size == 8 ? NULL : ckpy_decode_loose_text(bytes + 9, size - 9);
    if (size > 8 && name == NULL)
        return NULL;
    PyObject *delta = api->Delta_FromDelta(days, (int)(rest / 1000000),
                                           (int)(rest % 1000000), 0, api->DeltaType);
    PyObject *zone = delta == NULL ? NULL : api->TimeZone_FromTimeZone(delta, name);
    Py_XDECREF(delta);
    Py_XDECREF(name);
    return zone;
}

static PyObject *
decode_zone_key(struct ckpy_decoder *decoder, const uint8_t *bytes, size_t size)
{
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_ZONEINFO);
    PyObject *key = type == NULL || size > 4 * CKPY_ZONE_KEY_MAX
                        ? NULL
                        : ckpy_decode_text(decoder, bytes, size);
    PyObject *zone = key == NULL ? NULL : PyObject_CallOneArg(type, key);
    Py_XDECREF(key);
    return zone == NULL
               ? ckpy_decode_refuse(decoder, "their time zone is not known here")
               : zone;
}

/* The zone of a moment: a new reference. */
static PyObject *
decode_zone(struct ckpy_decoder *decoder, const PyDateTime_CAPI *api, unsigned kind,
            const uint8_t *bytes, size_t size)
{
    switch (kind) {
    case CKPY_ZONE_NONE: return size != 0 ? NULL : Py_NewRef(Py_None);
    case CKPY_ZONE_UTC: return size != 0 ? NULL : Py_NewRef(api->TimeZone_UTC);
    case CKPY_ZONE_OFFSET: return decode_offset(api, bytes, size);
    case CKPY_ZONE_KEY: return decode_zone_key(decoder, bytes, size);
    default: return NULL;
    }
}

/* Take the low `bits` off `*fields`. */
static int
take(uint64_t *fields, unsigned bits)
{
    int value = (int)(*fields & ((UINT64_C(1) << bits) - 1));
    *fields >>= bits;
    return value;
}

static PyObject *
decode_moment(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    const PyDateTime_CAPI *api = datetime_api(decoder);
    if (api == NULL || token->size < 8)
        return NULL;
    uint64_t fields = load_be(token->bytes, 8);
    unsigned kind = (unsigned)take(&fields, 3);
    int fold = take(&fields, 1), microsecond = take(&fields, 20);
    int second = take(&fields, 6), minute = take(&fields, 6), hour = take(&fields, 5);
    int day = take(&fields, 5), month = take(&fields, 4), year = take(&fields, 14);
    PyObject *zone = decode_zone(decoder, api, kind, token->bytes + 8, token->size - 8);
    PyObject *moment = NULL;
    if (zone != NULL && token->ext == CK_EXT_DATETIME)
        moment = api->DateTime_FromDateAndTimeAndFold(year, month, day, hour, minute,
                                                      second, microsecond, zone, fold,
                                                      api->DateTimeType);
    else if (zone != NULL && year == 0 && month == 0 && day == 0)
        moment = api->Time_FromTimeAndFold(hour, minute, second, microsecond, zone,
                                           fold, api->TimeType);
    Py_XDECREF(zone);
    return moment;
}

static PyObject *
decode_date(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    const PyDateTime_CAPI *api = datetime_api(decoder);
    if (api == NULL || token->size != 4)
        return NULL;
    return api->Date_FromDate((int)load_be(token->bytes, 2), token->bytes[2],
                              token->bytes[3], api->DateType);
}

static PyObject *
decode_timedelta(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    const PyDateTime_CAPI *api = datetime_api(decoder);
    if (api == NULL || token->size != 12)
        return NULL;
    int32_t days = (int32_t)load_be(token->bytes, 4);
    uint64_t seconds = load_be(token->bytes + 4, 4);
    uint64_t microseconds = load_be(token->bytes + 8, 4);
    if (days < -999999999 || days > 999999999 || seconds >= 86400 ||
        microseconds >= 1000000)
        return NULL;
    return api->Delta_FromDelta(days, (int)seconds, (int)microseconds, 0,
                                api->DeltaType);
}

/* ---- numbers and texts --------------------------------------------------------- */

/* uuid.SafeUUID.unknown: borrowed from the state. */
static PyObject *
uuid_safety(struct ckpy_state *state)
{
    PyObject *enumeration = NULL;
    if (state->values.uuid_safety == NULL &&
        ckpy_state_import(state, &enumeration, "uuid", "SafeUUID") != NULL) {
        PyObject *unknown = PyObject_GetAttrString(enumeration, "unknown");
        if (unknown != NULL)
            Py_XSETREF(state->values.uuid_safety, unknown);
        Py_DECREF(enumeration);
    }
    return state->values.uuid_safety;
}

/* An instance without a run of its constructor, which checks what needs no check here:
 * any 16 bytes are a UUID, any pair with a positive denominator a Fraction. */
static PyObject *
bare_instance(PyObject *type, const char *first, PyObject *one, const char *second,
              PyObject *two)
{
    PyObject *object = NULL, *args = PyTuple_New(0);
    PyObject *name = args == NULL ? NULL : PyUnicode_InternFromString(first);
    PyObject *other = name == NULL ? NULL : PyUnicode_InternFromString(second);
    if (other != NULL)
        object = PyBaseObject_Type.tp_new((PyTypeObject *)type, args, NULL);
    if (object != NULL && (PyObject_GenericSetAttr(object, name, one) < 0 ||
                           PyObject_GenericSetAttr(object, other, two) < 0))
        Py_CLEAR(object);
    Py_XDECREF(other);
    Py_XDECREF(name);
    Py_XDECREF(args);
    return object;
}

static PyObject *
decode_uuid(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    uint8_t little[16];
    if (token->size != sizeof little)
        return NULL;
    for (size_t i = 0; i < sizeof little; i++)
        little[i] = token->bytes[15 - i];
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_UUID);
    PyObject *safety = type == NULL ? NULL : uuid_safety(decoder->state);
    PyObject *number = safety == NULL ? NULL : ckpy_int_load(little, sizeof little, 0);
    PyObject *uuid =
        number == NULL ? NULL : bare_instance(type, "int", number, "is_safe", safety);
    Py_XDECREF(number);
    return uuid;
}

static PyObject *
decode_fraction(struct ckpy_decoder *decoder)
{
    PyObject *fraction = NULL, *zero = NULL;
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_FRACTION);
    PyObject *numerator = type == NULL ? NULL : ckpy_decode_int(decoder);
    PyObject *denominator = numerator == NULL ? NULL : ckpy_decode_int(decoder);
    if (denominator != NULL && (zero = PyLong_FromLong(0)) != NULL &&
        PyObject_RichCompareBool(denominator, zero, Py_GT) == 1)
        fraction =
            bare_instance(type, "_numerator", numerator, "_denominator", denominator);
    Py_XDECREF(zero);
    Py_XDECREF(denominator);
    Py_XDECREF(numerator);
    return fraction;
}

/* What str() of a Decimal gives: sign, then a special value with its digits, or digits
 * with a point and an exponent. The constructor would take more, and in a context
 * without traps make NaN of the rest. */
static int
is_decimal(const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size;
    size_t digits = 0, points = 0;
    at += at < end && *at == '-';
    static const char *const words[] = {"Infinity", "sNaN", "NaN"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t len = strlen(words[i]);
        if ((size_t)(end - at) >= len && memcmp(at, words[i], len) == 0) {
            for (at += len; at < end; at++)
                if (*at < '0' || *at > '9' || i == 0)
                    return 0;
            return 1;
        }
    }
    for (; at < end && (*at == '.' || (*at >= '0' && *at <= '9')); at++)
        *at == '.' ? points++ : digits++;
    if (digits == 0 || points > 1)
        return 0;
    if (at == end)
        return 1;
    if (*at != 'E' && *at != 'e')
        return 0;
    at++;
    at += at < end && (*at == '+' || *at == '-');
    if (at == end)
        return 0;
    for (; at < end; at++)
        if (*at < '0' || *at > '9')
            return 0;
    return 1;
}

static PyObject *
decode_from_text(struct ckpy_decoder *decoder, const struct ck_token *token,
                 enum ckpy_type kind)
{
    if (kind == CKPY_TYPE_DECIMAL
            ? !is_decimal(token->bytes, token->size)
            : kind <= CKPY_TYPE_IPV6_INTERFACE && token->size > ADDRESS_TEXT_MAX)
        return NULL;
    PyObject *type = ckpy_values_type(decoder->state, kind);
    PyObject *text =
        type == NULL ? NULL : ckpy_decode_loose_text(token->bytes, token->size);
    PyObject *value = text == NULL ? NULL : PyObject_CallOneArg(type, text);
    Py_XDECREF(text);
    return value;
}

PyObject *
ckpy_decode_library(struct ckpy_decoder *decoder, const struct ck_token *token)
{
    switch (token->ext) {
    case CK_EXT_DATETIME:
    case CK_EXT_TIME: return decode_moment(decoder, token);
    case CK_EXT_DATE: return decode_date(decoder, token);
    case CK_EXT_TIMEDELTA: return decode_timedelta(decoder, token);
    case CK_EXT_UUID: return decode_uuid(decoder, token);
    default: break;
    }
    enum ckpy_type text = ckpy_text_type(token->ext);
    if (text == CKPY_TYPE_NONE)
        return ckpy_decode_refuse(decoder, "they hold an unknown extension type");
    return decode_from_text(decoder, token, text);
}

/* ---- collections --------------------------------------------------------------- */

/* An empty instance of a library collection. */
static PyObject *
empty(struct ckpy_decoder *decoder, enum ckpy_type kind)
{
    PyObject *type = ckpy_values_type(decoder->state, kind);
    return type == NULL ? NULL : PyObject_CallNoArgs(type);
}

static PyObject *
decode_default_dict(struct ckpy_decoder *decoder)
{
    struct ck_token code;
    if (ck_unpack_next(&decoder->in, &code) != CK_OK || code.type != CK_TOKEN_INT)
        return NULL;
    PyObject *factory = ckpy_factory_of(code.i);
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_DEFAULT_DICT);
    PyObject *dict =
        factory == NULL || type == NULL ? NULL : PyObject_CallOneArg(type, factory);
    if (dict != NULL && ckpy_decode_map_into(decoder, dict) < 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *
decode_deque(struct ckpy_decoder *decoder)
{
    PyObject *deque = NULL, *items = NULL, *maxlen = NULL;
    PyObject *type = ckpy_values_type(decoder->state, CKPY_TYPE_DEQUE);
    if (type == NULL)
        return NULL;
    if (ck_unpack_left(&decoder->in) != 0 && *decoder->in.at == 0xc0) {
        decoder->in.at++; /* nil: no bound */
        maxlen = Py_NewRef(Py_None);
    }
    else {
        maxlen = ckpy_decode_int(decoder);
    }
    if (maxlen != NULL)
        items = ckpy_decode_array(decoder);
    if (items != NULL)
        deque = PyObject_CallFunctionObjArgs(type, items, maxlen, NULL);
    if (deque != NULL && PyObject_Size(deque) != PyList_GET_SIZE(items))
        Py_CLEAR(deque);
    Py_XDECREF(items);
    Py_XDECREF(maxlen);
    return deque;
}

PyObject *
ckpy_decode_nested_library(struct ckpy_decoder *decoder, enum ck_ext type)
{
    PyObject *dict;
    switch (type) {
    case CK_EXT_ORDERED_DICT:
        dict = empty(decoder, CKPY_TYPE_ORDERED_DICT);
        if (dict != NULL && ckpy_decode_map_into_mapping(decoder, dict) < 0)
            Py_CLEAR(dict);
        return dict;
    case CK_EXT_COUNTER:
        dict = empty(decoder, CKPY_TYPE_COUNTER);
        if (dict != NULL && ckpy_decode_map_into(decoder, dict) < 0)
            Py_CLEAR(dict);
        return dict;
    case CK_EXT_DEFAULT_DICT: return decode_default_dict(decoder);
    case CK_EXT_DEQUE: return decode_deque(decoder);
    case CK_EXT_FRACTION: return decode_fraction(decoder);
    default: return NULL;
    }
}
