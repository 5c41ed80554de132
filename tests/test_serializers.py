# SPDX-License-Identifier: MIT
"""The serializers as objects. What the default one keeps is tested elsewhere."""

from __future__ import annotations

import datetime
import pickle
import subprocess
import sys
import threading

import pytest

from cachekit import serializers
from cachekit._errors import DecodeError, SerializationError
from cachekit.serializers import (
    DEFAULT_SERIALIZER,
    ArrowSerializer,
    DefaultSerializer,
    OrjsonSerializer,
    PickleSerializer,
    Serializer,
)


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

    __hash__ = None


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("hunter2")


@pytest.mark.parametrize("serializer", [DefaultSerializer(), PickleSerializer()])
@pytest.mark.parametrize(
    "value", [None, 1, 2**70, "é", b"x", (1, [2]), {"a": {1, 2}}, datetime.date.min]
)
@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_value_comes_back_equal_and_of_its_type(serializer, value, view):
    twin = serializer.deserialize(view(serializer.serialize(value)))
    assert twin == value and type(twin) is type(value)


@pytest.mark.parametrize("serializer", [DefaultSerializer(), PickleSerializer()])
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xff" * 20, b"\x80\x05garbage"])
def test_bytes_that_are_no_value_raise_decode_error(serializer, data):
    with pytest.raises(DecodeError):
        serializer.deserialize(memoryview(data))


def test_default_serializer_refuses_a_class_of_its_own_with_e004():
    with pytest.raises(SerializationError) as caught:
        DEFAULT_SERIALIZER.serialize({"a": [Point(1)]})
    assert caught.value.code == "E004"
    assert caught.value.message.startswith("Could not serialize object of type ")
    assert "Point" in caught.value.message


def test_default_serializer_never_unpickles():
    with pytest.raises(DecodeError):
        DEFAULT_SERIALIZER.deserialize(pickle.dumps(Point(1)))


def test_pickle_takes_objects():
    serializer = PickleSerializer()
    assert serializer.deserialize(serializer.serialize(Point(3))) == Point(3)


@pytest.mark.parametrize("value", [threading.Lock(), lambda: None, Unpicklable()])
def test_pickle_refuses_with_e004_and_shows_no_content(value):
    with pytest.raises(SerializationError) as caught:
        PickleSerializer().serialize(value)
    assert caught.value.code == "E004"
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    assert caught.value.type_name == prefix + kind.__qualname__
    assert "hunter2" not in str(caught.value)


def test_pickle_of_a_class_that_is_gone_is_a_decode_error():
    data = PickleSerializer().serialize(Point(1)).replace(b"Point", b"Pxint")
    with pytest.raises(DecodeError):
        PickleSerializer().deserialize(data)


def test_pickle_asks_for_a_signature_unless_told():
    assert PickleSerializer().requires_signing is True
    assert PickleSerializer(allow_unsigned=True).requires_signing is False
    assert PickleSerializer(allow_unsigned=True).allow_unsigned is True


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_allow_unsigned_is_true_or_false(value):
    with pytest.raises(TypeError, match="allow_unsigned must be true or false"):
        PickleSerializer(allow_unsigned=value)


def test_pickle_takes_no_positional_argument():
    with pytest.raises(TypeError):
        PickleSerializer(True)


@pytest.mark.parametrize(
    "serializer, name, shown",
    [
        (DEFAULT_SERIALIZER, "default", "DefaultSerializer()"),
        (PickleSerializer(), "pickle", "PickleSerializer()"),
        (ArrowSerializer(), "arrow", "ArrowSerializer()"),
        (OrjsonSerializer(), "orjson", "OrjsonSerializer()"),
        (
            PickleSerializer(allow_unsigned=True),
            "pickle",
            "PickleSerializer(allow_unsigned=True)",
        ),
    ],
)
def test_serializer_follows_the_protocol(serializer, name, shown):
    assert isinstance(serializer, Serializer)
    assert serializer.name == name
    assert repr(serializer) == shown


def test_default_serializer_is_one_object():
    assert isinstance(DEFAULT_SERIALIZER, DefaultSerializer)


def test_every_public_name_is_there_and_listed():
    for name in serializers.__all__:
        assert getattr(serializers, name) is not None
        assert name in dir(serializers)
    with pytest.raises(AttributeError, match="'Nonsense'"):
        _ = serializers.Nonsense


def test_pickle_is_imported_only_when_asked_for():
    code = (
        "import sys; before = set(sys.modules); import cachekit.serializers;"
        "print(sorted({'pickle', 'typing'} & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
