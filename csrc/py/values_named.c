/* SPDX-License-Identifier: MIT
 *
 * PURPOSE   Enums, dataclasses, named tuples and models that an annotation names,
 *           encoded and decoded.
 * DESIGN    named_types.c says which classes those are. An instance of a dataclass is
 *           taken apart and put together field by field: its constructor is not run. A
 *           model (of Pydantic or msgspec) is taken apart by its converter and put
 *           together by its own validation.
 * THREADING Holds the GIL. May run code of those classes.
 */
#include "py/decode_parts.h"
#include "py/encode_parts.h"
#include "py/named_types.h"
#include "py/state.h"

/* ---- encoding ------------------------------------------------------------------ */

static int
encode_enum(struct ckpy_encoder *encoder, PyObject *value, PyObject *name)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_ENUM);
    if (ckpy_encode_value(encoder, name) < 0)
        return -1;
    /* A member by its name; a combination of flags has a value only. */
    PyObject *members =
        PyObject_GetAttrString((PyObject *)Py_TYPE(value), "_member_map_");
    PyObject *part = members == NULL ? NULL : PyObject_GetAttrString(value, "_name_");
    int rc = members == NULL || part == NULL ? -1 : 0;
    if (rc == 0 && PyUnicode_CheckExact(part) && PyDict_Check(members) &&
        PyDict_GetItemWithError(members, part) == value)
        rc = ckpy_encode_value(encoder, part);
    else if (rc == 0) {
        Py_SETREF(part, PyObject_GetAttrString(value, "_value_"));
        if (part == NULL)
            rc = -1;
        else if (!PyLong_CheckExact(part))
            rc = ckpy_encode_refuse(encoder, value, "it is no member of its class");
        else
            rc = ckpy_encode_value(encoder, part);
    }
    Py_XDECREF(part);
    Py_XDECREF(members);
    return rc < 0 ? -1 : ck_pack_ext_end(encoder->out, start);
}

/* `name: value` pairs; `names` is a tuple. The values come from `value`'s attributes, or
 * from its items when it is a tuple. */
static int
encode_fields(struct ckpy_encoder *encoder, PyObject *value, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (ckpy_encode_enter(encoder, value, 2 * count) < 0 ||
        ck_pack_map(encoder->out, (size_t)count) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        PyObject *item = PyTuple_Check(value) ? Py_NewRef(PyTuple_GET_ITEM(value, i))
                                              : PyObject_GetAttr(value, name);
        int rc = item == NULL ? -1 : ckpy_encode_value(encoder, name);
        if (rc == 0)
            rc = ckpy_encode_value(encoder, item);
        Py_XDECREF(item);
        if (rc < 0) {
            if (encoder->culprit != NULL)
                ckpy_encode_at(encoder, name, -1);
            return -1;
        }
    }
    encoder->depth++;
    return 0;
}

/* Does the instance hold attributes beside `names`? They would be lost. What a
 * functools.cached_property keeps there is computed anew. */
static int
has_more(PyObject *value, PyObject *names)
{
    PyObject *dict = PyObject_GetAttrString(value, "__dict__");
    if (dict == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    PyObject *keys = PyDict_Check(dict) ? PyDict_Keys(dict) : NULL;
    int more = keys == NULL ? (PyErr_Occurred() ? -1 : 0) : 0;
    for (Py_ssize_t i = 0; more == 0 && keys != NULL && i < PyList_GET_SIZE(keys);
         i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        int known = names == NULL ? 0 : PySequence_Contains(names, key);
        if (known < 0)
            more = -1;
        if (known != 0)
            continue;
        PyObject *made = PyObject_GetAttr((PyObject *)Py_TYPE(value), key);
        if (made == NULL)
            PyErr_Clear();
        more = made == NULL || strcmp(Py_TYPE(made)->tp_name, "cached_property") != 0;
        Py_XDECREF(made);
    }
    Py_XDECREF(keys);
    Py_DECREF(dict);
    return more;
}

static int
encode_dataclass(struct ckpy_encoder *encoder, PyObject *value, PyObject *name,
                 PyObject *names)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_DATACLASS);
    int rc = has_more(value, names);
    if (rc == 1)
        rc = ckpy_encode_refuse(encoder, value, "it has attributes that are no fields");
    if (rc == 0)
        rc = ckpy_encode_value(encoder, name);
    if (rc == 0)
        rc = encode_fields(encoder, value, names);
    return rc < 0 ? -1 : ck_pack_ext_end(encoder->out, start);
}

static int
encode_named_tuple(struct ckpy_encoder *encoder, PyObject *value, PyObject *name,
                   PyObject *names)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_NAMED_TUPLE);
    int rc = PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(value)
                 ? ckpy_encode_refuse(encoder, value, "its fields are not its items")
                 : has_more(value, NULL);
    if (rc == 1)
        rc = ckpy_encode_refuse(encoder, value, "it has attributes that are no fields");
    if (rc == 0)
        rc = ckpy_encode_value(encoder, name);
    if (rc == 0)
        rc = encode_fields(encoder, value, names);
    return rc < 0 ? -1 : ck_pack_ext_end(encoder->out, start);
}

/* What the converter makes of the model: a plain value and a list of names. It is a level
 * of its own: a model may hold another one directly. */
static int
encode_model(struct ckpy_encoder *encoder, PyObject *value, PyObject *name,
             PyObject *converter)
{
    size_t start = ck_pack_ext_begin(encoder->out, CK_EXT_MODEL);
    PyObject *parts = PyObject_CallMethod(converter, "take", "(O)", value);
    int rc = parts == NULL ? -1 : ckpy_encode_enter(encoder, value, 0);
    if (rc == 0 && (!PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) != 2))
        rc = ckpy_encode_refuse(
            encoder, value, "its own validation does not give back an equal object");
    if (rc == 0)
        rc = ckpy_encode_value(encoder, name);
    for (Py_ssize_t i = 0; rc == 0 && i < 2; i++)
        rc = ckpy_encode_value(encoder, PyTuple_GET_ITEM(parts, i));
    Py_XDECREF(parts);
    if (rc < 0)
        return -1;
    encoder->depth++;
    return ck_pack_ext_end(encoder->out, start);
}

int
ckpy_encode_named(struct ckpy_encoder *encoder, PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    if (encoder->named == NULL) {
        encoder->named = ckpy_named_types(encoder->state, encoder->returns);
        if (encoder->named == NULL)
            return -1;
    }
    PyObject *record = PyDict_GetItemWithError(encoder->named, (PyObject *)type);
    if (record == NULL)
        return PyErr_Occurred() ? -1 : 1;
    Py_INCREF(record);
    PyObject *name = PyTuple_GET_ITEM(record, 0), *fields = PyTuple_GET_ITEM(record, 1);
    int rc;
    if (fields == Py_None)
        rc = encode_enum(encoder, value, name);
    else if (!PyTuple_Check(fields))
        rc = encode_model(encoder, value, name, fields);
    else if (PyTuple_Check(value))
        rc = encode_named_tuple(encoder, value, name, fields);
    else
        rc = encode_dataclass(encoder, value, name, fields);
    Py_DECREF(record);
    return rc;
}

/* ---- decoding ------------------------------------------------------------------ */

/* The class whose name comes next: a new reference. Its fields go to `*fields`: a tuple,
 * None for an enum, a converter for a model. They stay alive with decoder->named. */
static PyTypeObject *
decode_class(struct ckpy_decoder *decoder, PyObject **fields)
{
    if (decoder->named == NULL) {
        decoder->named = ckpy_named_types(decoder->state, decoder->returns);
        if (decoder->named == NULL)
            return NULL;
    }
    PyObject *name = ckpy_decode_name(decoder);
    if (name == NULL)
        return NULL;
    PyObject *type = Py_XNewRef(PyDict_GetItemWithError(decoder->named, name));
    Py_DECREF(name);
    PyObject *record = type == NULL || !PyType_Check(type)
                           ? NULL
                           : PyDict_GetItemWithError(decoder->named, type);
    if (record == NULL) {
        Py_XDECREF(type);
        ckpy_decode_refuse(decoder, "they hold an instance of a class that neither the "
                                    "return annotation nor returns= names");
        return NULL;
    }
    *fields = PyTuple_GET_ITEM(record, 1);
    return (PyTypeObject *)type;
}

/* Does a str begin with this byte? */
static int
is_text(uint8_t lead)
{
    return (lead & 0xe0) == 0xa0 || (lead >= 0xd9 && lead <= 0xdb);
}

PyObject *
ckpy_decode_enum(struct ckpy_decoder *decoder)
{
    PyObject *member = NULL, *fields;
    PyTypeObject *type = decode_class(decoder, &fields);
    if (type == NULL)
        return NULL;
    PyObject *part = NULL;
    if (fields == Py_None && ck_unpack_left(&decoder->in) != 0)
        part = is_text(*decoder->in.at) ? ckpy_decode_name(decoder)
                                        : ckpy_decode_int(decoder);
    if (part != NULL) {
        if (PyUnicode_CheckExact(part)) {
            PyObject *members =
                PyObject_GetAttrString((PyObject *)type, "_member_map_");
            if (members != NULL && PyDict_Check(members))
                member = Py_XNewRef(PyDict_GetItemWithError(members, part));
            Py_XDECREF(members);
        }
        else {
            member = PyObject_CallOneArg((PyObject *)type, part);
        }
    }
    if (member != NULL && Py_TYPE(member) != type)
        Py_CLEAR(member);
    Py_XDECREF(part);
    Py_DECREF(type);
    return member == NULL ? ckpy_decode_refuse(decoder, "the enum has no such member")
                          : member;
}

/* The values of the map that comes next, in the order of `names`, which must be its
 * keys, all of them: a new tuple. */
static PyObject *
decode_fields(struct ckpy_decoder *decoder, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PyObject *map = PyDict_New(), *values = PyTuple_New(count);
    if (map == NULL || values == NULL || ckpy_decode_map_into(decoder, map) < 0 ||
        PyDict_GET_SIZE(map) != count)
        goto fail;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *value = PyDict_GetItemWithError(map, PyTuple_GET_ITEM(names, i));
        if (value == NULL)
            goto fail;
        PyTuple_SET_ITEM(values, i, Py_NewRef(value));
    }
    Py_DECREF(map);
    return values;
fail:
    Py_XDECREF(values);
    Py_XDECREF(map);
    return NULL;
}

PyObject *
ckpy_decode_dataclass(struct ckpy_decoder *decoder)
{
    PyObject *names, *values = NULL, *empty = NULL, *object = NULL;
    PyTypeObject *type = decode_class(decoder, &names);
    if (type == NULL)
        return NULL;
    if (PyTuple_Check(names) && !PyType_IsSubtype(type, &PyTuple_Type))
        values = decode_fields(decoder, names);
    if (values != NULL && (empty = PyTuple_New(0)) != NULL)
        object = type->tp_new(type, empty, NULL);
    for (Py_ssize_t i = 0; object != NULL && i < PyTuple_GET_SIZE(names); i++)
        if (PyObject_GenericSetAttr(object, PyTuple_GET_ITEM(names, i),
                                    PyTuple_GET_ITEM(values, i)) < 0)
            Py_CLEAR(object);
    Py_XDECREF(empty);
    Py_XDECREF(values);
    Py_DECREF(type);
    return object == NULL
               ? ckpy_decode_refuse(decoder, "the fields of the dataclass have changed")
               : object;
}

PyObject *
ckpy_decode_named_tuple(struct ckpy_decoder *decoder)
{
    PyObject *names, *values = NULL, *args = NULL, *object = NULL;
    PyTypeObject *type = decode_class(decoder, &names);
    if (type == NULL)
        return NULL;
    if (PyTuple_Check(names) && PyType_IsSubtype(type, &PyTuple_Type))
        values = decode_fields(decoder, names);
    if (values != NULL && (args = PyTuple_Pack(1, values)) != NULL)
        object = PyTuple_Type.tp_new(type, args, NULL);
    Py_XDECREF(args);
    Py_XDECREF(values);
    Py_DECREF(type);
    return object == NULL ? ckpy_decode_refuse(
                                decoder, "the fields of the named tuple have changed")
                          : object;
}

/* The bytes may hold a model in a model in a model: depth is counted here too. */
PyObject *
ckpy_decode_model(struct ckpy_decoder *decoder)
{
    PyObject *converter, *plain = NULL, *names = NULL, *object = NULL;
    if (ck_unpack_enter(&decoder->in) != CK_OK)
        return ckpy_decode_refuse(decoder, "they are nested more than 512 deep");
    PyTypeObject *type = decode_class(decoder, &converter);
    if (type == NULL)
        return NULL;
    if (converter != Py_None && !PyTuple_Check(converter)) {
        Py_INCREF(converter);
        plain = ckpy_decode_value(decoder);
        names = plain == NULL ? NULL : ckpy_decode_array(decoder);
        if (names != NULL)
            object = PyObject_CallMethod(converter, "make", "(OO)", plain, names);
        Py_DECREF(converter);
    }
    ck_unpack_leave(&decoder->in);
    if (object != NULL && Py_TYPE(object) != type)
        Py_CLEAR(object);
    Py_XDECREF(names);
    Py_XDECREF(plain);
    Py_DECREF(type);
    return object == NULL ? ckpy_decode_refuse(
                                decoder, "the model does not take its stored fields")
                          : object;
}
