# SPDX-License-Identifier: MIT
"""Entries of version 3: every recorded case, in both directions."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timezone
from decimal import Decimal
from inspect import Parameter, Signature, signature
from typing import Any

import pytest
from wire3_entries import (
    RECORDED,
    code_of,
    expression,
    form_of,
    library,
    value_of,
)

from cachekit import (
    ConfigurationError,
    DecodeError,
    DecryptionError,
    SerializationError,
    UncacheableArgument,
    _core,
)
from cachekit._wire3 import (
    Bond,
    EntryForm,
    InteropName,
    call_names,
    custom_names,
    dialect_of,
    interop_arguments,
    read_entry,
    read_interop,
    serializer_code,
    write_entry,
    write_interop,
)
from cachekit._wire3._dialect import DIALECTS

LATEST = dialect_of("3")
EXAMPLE = bytes.fromhex(
    "434b030000007d"
    + (
        b'{"s": "default", "m": {"format": "msgpack", "encoding": "utf-8", '
        b'"compressed": true, "original_type": "msgpack"}, "v": "2.0"}'
    ).hex()
    + "94c4065081a269642a9808ccddcca02bccc05537ccc805a76d73677061636b"
)


def cases(group: str) -> Any:
    return pytest.mark.parametrize("case", RECORDED[group], ids=expression)


def test_every_recorded_case_is_there():
    counts = {group: len(RECORDED[group]) for group in RECORDED if group != "rotation"}
    assert counts == {
        "keys": 96,
        "values": 82,
        "encrypted": 19,
        "interop": 52,
        "hand_made_entries": 33,
    }


# ---- the worked example --------------------------------------------------------------


def test_the_worked_example_holds():
    names = call_names(
        "app.get_user",
        (42,),
        {},
        dialect=LATEST,
        namespace="users",
    )
    assert names[0].stored == (
        "ns:users:func:app.get_user:args:"
        "3870b2ea5735ae639ded9450ef117768db676f037bec636503796c5b81095153:1s"
    )
    assert write_entry({"id": 42}, EntryForm()) == EXAMPLE
    assert read_entry(EXAMPLE, EntryForm()) == ({"id": 42},)


# ---- keys ----------------------------------------------------------------------------


def names_of(case: dict[str, Any], dialect: Any = LATEST) -> Any:
    """The names that a call of the case has."""
    integrity = case.get("deco", {}).get("integrity_checking", True)
    if case.get("preset") in ("minimal", "test"):
        integrity = False
    function = f"{case['module']}.{case['qualname']}"
    common = {
        "dialect": dialect,
        "namespace": case.get("namespace"),
        "tenant": "default" if case["backend"] == "env" else None,
    }
    args, kwargs = value_of(case["args"]), value_of(case["kwargs"])
    if "key_func" in case:
        library("blake3")
        key = value_of(case["key_func"])(*args, **kwargs)
        return custom_names(function, key, **common)
    code = code_of(case)
    return call_names(function, args, kwargs, code=code, integrity=integrity, **common)


@cases("keys")
def test_a_call_has_the_recorded_key_or_none(case):
    if case["stored"]:
        assert names_of(case)[0].stored == case["store_key"]
    elif isinstance(case.get("ttl"), float):
        assert names_of(case)  # a fraction of a second is no matter of keys
    else:
        with pytest.raises(UncacheableArgument):
            names_of(case)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.release)
@pytest.mark.parametrize("code", ["s", "a", "o", "w", "x8f72"])
def test_a_reader_looks_where_each_release_writes(dialect, code):
    common = {"code": code, "namespace": "n", "tenant": "a/b:1"}
    names = call_names("m.f", (1,), {}, dialect=dialect, **common)
    assert names[0].stored.startswith("t:a%2Fb%3A1:ns:n:func:m.f:args:")
    assert names[0].stored == f"t:a%2Fb%3A1:{names[0].bare}"
    assert names[0].stored.endswith(":1" + (code if dialect.codes else "s"))
    for other in DIALECTS:
        written = call_names("m.f", (1,), {}, dialect=other, **common)[0]
        assert written in names


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.release)
def test_a_key_function_is_looked_for_with_and_without_the_id(dialect):
    library("blake3")
    names = custom_names("app.get_user", "user:42", dialect=dialect)
    with_id, without = "5407d2bc85936a3a-default:user:42", "default:user:42"
    assert names[0].bare == (with_id if dialect.function_id else without)
    assert {name.bare for name in names} == {with_id, without}


def test_a_key_function_needs_blake3(monkeypatch):
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(ConfigurationError, match=r"blake3.*cachekit\[wire3\]"):
        custom_names("m.f", "key", dialect=LATEST)


def test_a_key_function_gives_text():
    for key in (5, None, b"x"):
        with pytest.raises(UncacheableArgument):
            custom_names("m.f", key, dialect=LATEST)


def test_entries_are_bound_to_the_key_with_the_tenant_since_0_23():
    (name,) = call_names("m.f", (), {}, dialect=LATEST, tenant="t")
    bound = {d.release: name.bound(d) for d in DIALECTS}
    assert bound["0.24"] == bound["0.23"] == name.stored
    assert bound["0.20"] == bound["0.17"] == name.bare


def test_a_release_chooses_the_dialect_of_its_time():
    releases = {"3": "0.24"}
    for minor, of in zip(range(17, 25), "17 17 17 20 20 20 23 24".split(), strict=True):
        releases[f"3:0.{minor}"] = f"0.{of}"
    assert {wire: dialect_of(wire).release for wire in releases} == releases


@pytest.mark.parametrize("wire", ["4", "3:", "3:0.16", "3:0.25", "3:1.0", "3:x", ""])
def test_other_releases_are_refused(wire):
    with pytest.raises(ConfigurationError, match="0.17 to 0.24"):
        dialect_of(wire)


def test_serializers_that_are_not_known_are_refused():
    with pytest.raises(ConfigurationError, match="'pickle'"):
        serializer_code("pickle")


def digits(*args: Any, **kwargs: Any) -> str:
    return call_names("m.f", args, kwargs, dialect=LATEST)[0].stored


def test_arguments_that_are_equal_there_have_one_key():
    Pair = namedtuple("Pair", "a b")
    assert digits(Pair(1, 2)) == digits((1, 2)) == digits([1, 2])
    assert digits(OrderedDict(b=1, a=2)) == digits({"a": 2, "b": 1})
    assert digits([-0.0]) == digits([0.0])
    assert digits(Decimal("1.0")) == digits("1.0") != digits(1.0)
    assert digits(1) != digits(1.0) != digits(True)


def test_arguments_without_a_key_there_are_refused():
    class Text(str):
        pass

    class Whole(int):
        pass

    endless: list[Any] = []
    endless.append(endless)
    refused = [Text("x"), Whole(1), {1: 1, "a": 2}, {(1, 2): 3}, "\ud800", endless]
    for value in [*refused, memoryview(b""), object()]:
        with pytest.raises(UncacheableArgument):
            digits(value)


# ---- values --------------------------------------------------------------------------

#: Written by the recorder, and read back as something else or not at all: not written.
REFUSED = {
    "{1:'a'}",
    "{1:'a', (1,2): 'b'}",
    "{'__datetime__': True, 'value': '2024-01-01'}",
}


def shows(value: Any, case: dict[str, Any]) -> bool:
    """Is it what was read back when the case was recorded? (Long ones were cut.)"""
    recorded = case["read_back_repr"]
    whole = len(recorded) < 200
    return repr(value) == recorded if whole else repr(value).startswith(recorded)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and repr(left) == repr(right)


@cases("values")
def test_a_recorded_value_is_read(case):
    if not case["stored"]:
        return  # see test_a_recorded_value_is_written
    found = read_entry(bytes.fromhex(case["stored_hex"]), form_of(case))
    assert found is not None
    if not case["second_call_hit"]:  # read by us alone
        assert same(found[0], value_of(case["value"]))
    elif "None]" in case["value"] and "pd." in case["value"]:
        assert found[0].isna().to_numpy().any()  # how it is shown is pandas' affair
    else:
        assert shows(found[0], case)


def parts_of(entry: bytes, form: EntryForm) -> Any:
    """What is the same whatever made the LZ4 block: two compressors, two blocks."""
    *header, payload = _core.wire3_parse(entry)
    if not (form.integrity and header[3]):
        return header, payload
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4}[payload[1]]
    end = 2 + width + int.from_bytes(payload[2 : 2 + width], "big")
    return header, payload[0], _core.wire3_open(payload, 2), payload[end:]


@cases("values")
def test_a_recorded_value_is_written(case):
    form, value = form_of(case), value_of(case["value"])
    if not case["stored"] or case["value"] in REFUSED:
        with pytest.raises(SerializationError):
            write_entry(value, form)
        return
    entry, recorded = write_entry(value, form), bytes.fromhex(case["stored_hex"])
    if "arrow" in str(_core.wire3_parse(recorded)[1]):  # as the library likes it
        assert _core.wire3_parse(entry)[:7] == _core.wire3_parse(recorded)[:7]
        assert read_entry(entry, form)[0].equals(read_entry(recorded, form)[0])
    elif entry != recorded:
        assert len(recorded) > 180  # small values have one block only
        assert parts_of(entry, form) == parts_of(recorded, form)


@cases("hand_made_entries")
def test_an_entry_in_an_odd_form_is_read_or_not(case):
    entry, hit = bytes.fromhex(case["stored_hex"]), case["hit"]
    if case["form"] == "int keys in value":
        hit = True  # written there and never read; here it is
    try:
        found = read_entry(entry, EntryForm())
    except DecodeError:
        found = None
    assert (found is not None) == hit
    if found is not None and "depth" not in case["form"] and "int" not in case["form"]:
        assert found == ({"planted": True},)


def test_keys_that_are_not_text_are_read():
    for value in ({1: "a"}, {None: 1, 2.5: 2}, {(1, (2, "x")): b"y"}, {True: {2: 3}}):
        packed = _core.wire3_pack(value, 2)
        assert same(_core.wire3_unpack(packed), value)


@pytest.mark.parametrize(
    "value",
    [
        {1: 2},
        {"a": [{b"k": 1}]},
        {"value": "x", "__date__": True},
        {"value": 1, "__time__": 0},
        2**64,
        -(2**63) - 1,
        1j,
        {1},
        "\ud800",
        Decimal(1),
        object(),
    ],
    ids=repr,
)
def test_what_would_not_come_back_is_not_written(value):
    with pytest.raises(SerializationError):
        write_entry(value, EntryForm())


def test_the_path_to_what_is_refused_is_told():
    with pytest.raises(SerializationError) as caught:
        write_entry({"users": [1, {"at": 1j}]}, EntryForm())
    assert caught.value.path == "$.users[1].at"


def test_maps_that_only_resemble_dates_are_kept():
    for value in (
        {"__date__": True, "value": "2024-01-01", "more": 1},
        {"__date__": True, "other": "2024-01-01"},
        {"value": 1, "more": 2},
    ):
        assert read_entry(write_entry(value, EntryForm()), EntryForm()) == (value,)
    packed = _core.wire3_pack({"__date__": 1, "value": "2024-01-01"}, 2)
    assert _core.wire3_unpack(packed) == {"__date__": 1, "value": "2024-01-01"}


def test_dates_are_read_whichever_key_comes_first():
    packed = _core.wire3_pack({"value": "2024-01-02", "__date__": True}, 2)
    assert _core.wire3_unpack(packed) == date(2024, 1, 2)
    for value in ("no date", 5, None):
        packed = _core.wire3_pack({"__date__": True, "value": value}, 2)
        with pytest.raises(DecodeError):
            _core.wire3_unpack(packed)


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def test_depth_is_limited():
    assert _core.wire3_unpack(nested(1024)) is not None
    with pytest.raises(DecodeError, match="1024"):
        _core.wire3_unpack(nested(1025))
    value: Any = None
    for _ in range(512):
        value = [value]
    assert len(_core.wire3_pack(value)) == 513
    with pytest.raises(SerializationError, match="512"):
        _core.wire3_pack([value])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xc0\xc0",
        b"\x91",
        b"\xa2\xff\xff",
        b"\xd4\x01\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x81\x01\x02\x03",
    ],
)
def test_bytes_that_are_no_value_are_refused(data):
    with pytest.raises(DecodeError):
        _core.wire3_unpack(data)


def test_no_change_of_one_byte_gives_another_value():
    for at in range(len(EXAMPLE)):
        for bit in range(8):
            changed = bytearray(EXAMPLE)
            changed[at] ^= 1 << bit
            try:
                found = read_entry(bytes(changed), EntryForm())
            except DecodeError:
                continue
            assert found in (None, ({"id": 42},))


def test_an_entry_cut_short_is_no_hit():
    for cut in range(len(EXAMPLE)):
        try:
            assert read_entry(EXAMPLE[:cut], EntryForm()) is None
        except DecodeError:
            pass


def test_an_entry_of_another_serializer_is_a_miss():
    assert read_entry(EXAMPLE, EntryForm("StandardSerializer")) is None
    assert read_entry(EXAMPLE, EntryForm("auto")) is None
    standard = write_entry(1, EntryForm("StandardSerializer"))
    assert b'"s": "StandardSerializer"' in standard
    assert read_entry(standard, EntryForm("StandardSerializer")) == (1,)


class Doubling:
    name = "doubling"

    def serialize(self, value: Any) -> bytes:
        return repr(value).encode() * 2

    def deserialize(self, data: memoryview) -> Any:
        return bytes(data[: len(data) // 2]).decode()


def test_the_bytes_of_a_custom_serializer_stand_as_they_are():
    form = EntryForm("Doubling", custom=Doubling())
    entry = write_entry(5, form)
    assert entry.endswith(b'"original_type": null}, "v": "2.0"}55')
    assert read_entry(entry, form) == ("5",)


def test_values_of_the_serializer_auto_come_back():
    numpy = library("numpy")
    form = EntryForm("auto")
    arrays = [
        numpy.array(5),
        numpy.zeros((0, 2)),
        numpy.array([[1, 2], [3, 4]], order="F"),
        numpy.array(["a", "bc"]),
        numpy.array([1], dtype=">i4"),
    ]
    for array in arrays:
        for value in (array, {"in": array}):
            found = read_entry(write_entry(value, form), form)[0]
            back = found if value is array else found["in"]
            assert back.dtype == array.dtype and numpy.array_equal(back, array)
            assert back.flags.writeable
    for value in ([{(1,), 2}, frozenset()], (1, (2, [time(1)])), {"a": b"\x00"}):
        assert same(read_entry(write_entry(value, form), form)[0], value)
    for value in (
        numpy.array([object()]),
        numpy.zeros(2, dtype=[("x", "i4")]),
        {"__tuple__": True, "value": [1]},
        {1: 2},
        numpy.int64(1),
    ):
        with pytest.raises(SerializationError):
            write_entry(value, form)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"NUMPY_RAW",
        b"NUMPY_RAW\x06\x00object\x04\x00\x01\x00\x00\x00" + b"\x41" * 8,
        b"NUMPY_RAW\x05\x00int32\x04\x00\x03\x00\x00\x00\x01\x00\x00\x00",
        b"NUMPY_RAW\x05\x00int32\x04\x00\xff\xff\xff\xff\x01\x00\x00\x00",
        b"NUMPY_RAW\x02\x00O8\x04\x00\x01\x00\x00\x00" + b"\x41" * 8,
        b"NUMPY_RAW\x05\x00(((((\x04\x00\x01\x00\x00\x00",
        b"NUMPY_RAW\xff\xffint32",
    ],
)
def test_bytes_that_are_no_array_are_refused(raw):
    library("numpy")
    entry = _core.wire3_build(
        "auto", "msgpack", "numpy", False, _core.wire3_wrap(raw, 1)
    )
    with pytest.raises(DecodeError):
        read_entry(entry, EntryForm("auto"))


# ---- encrypted -----------------------------------------------------------------------


def ring(master: str, *previous: str) -> Any:
    return _core.Keyring(master, previous, wire=3)


def bond_of(case: dict[str, Any], **changes: Any) -> Bond:
    stored = case["store_key"]
    bare = stored.split(":", 2)[2] if stored.startswith("t:") else stored
    parts = {
        "keyring": ring(case["master_key_hex"]),
        "tenants": (case["tenant_id"],),
        "keys": (stored, bare),
    }
    return Bond(**{**parts, **changes})


@cases("encrypted")
def test_a_recorded_secret_is_read(case):
    form, bond = form_of(case), bond_of(case)
    entry = bytes.fromhex(case["stored_hex"])
    found = read_entry(entry, form, bond)
    assert shows(found[0], case)
    assert read_entry(entry, form) is None  # without a key it is another one's
    for wrong in (
        {"tenants": ("somebody",)},
        {"keys": ("func:other",)},
        {"keyring": ring("ab" * 32)},
    ):
        with pytest.raises(DecryptionError):
            read_entry(entry, form, bond_of(case, **wrong))


def open_independently(entry: bytes, case: dict[str, Any], key: str) -> bytes:
    """The payload, from what is known of the format and nothing of ours."""
    aead = library("cryptography.hazmat.primitives.ciphers.aead")
    size = int.from_bytes(entry[3:7], "big")
    tenant = case["tenant_id"].encode()
    salt = b"cachekit_v1_\x0aencryption" + len(tenant).to_bytes(2, "big") + tenant
    master = bytes.fromhex(case["master_key_hex"])
    extracted = hmac.digest(salt, master, "sha256")
    derived = hmac.digest(extracted, b"encryption\x01", "sha256")
    print_ = hashlib.sha256(b"key_fingerprint_v1" + derived).hexdigest()[:32]
    assert f'"key_fingerprint": "{print_}"'.encode() in entry
    serializer = case["serializer"]
    form = "msgpack" if serializer == "default" else serializer
    compressed = serializer == "arrow" or (
        serializer == "default" and case["integrity_checking"]
    )
    bound = b"\x03"
    for text in (case["tenant_id"], key, form, str(compressed), form):
        bound += len(text.encode()).to_bytes(4, "big") + text.encode()
    sealed = entry[7 + size :]
    return aead.AESGCM(derived).decrypt(sealed[:12], sealed[12:], bound)


@cases("encrypted")
def test_a_recorded_secret_is_written(case):
    form, bond = form_of(case), bond_of(case)
    value = value_of(case["plaintext"])
    recorded, entry = bytes.fromhex(case["stored_hex"]), write_entry(value, form, bond)
    size = 7 + int.from_bytes(recorded[3:7], "big")
    assert entry[:size] == recorded[:size]
    key = case["store_key"]
    plain = open_independently(recorded, case, key)
    if case["serializer"] != "arrow":
        assert open_independently(entry, case, key)[:2] == plain[:2]
    assert shows(read_entry(entry, form, bond)[0], case)


def test_each_dialect_binds_to_its_key():
    case = RECORDED["encrypted"][1]
    stored = case["store_key"]
    bare = stored.removeprefix("t:default:")
    for key in (bare, stored):
        entry = write_entry(5, EntryForm(), bond_of(case, keys=(key,)))
        assert open_independently(entry, case, key)
        assert read_entry(entry, EntryForm(), bond_of(case)) == (5,)


def test_no_change_of_a_secret_is_a_hit():
    case = RECORDED["encrypted"][0]
    entry, bond = bytes.fromhex(case["stored_hex"]), bond_of(case)
    size = 7 + int.from_bytes(entry[3:7], "big")
    for at in range(len(entry)):
        changed = bytearray(entry)
        changed[at] ^= 1
        try:
            found = read_entry(bytes(changed), EntryForm(), bond)
        except (DecodeError, DecryptionError):
            continue
        assert at < size  # a header has members that nobody reads
        assert found in (None, ({"id": 42},))
    for wrong in (entry[:-1], entry + b"\x00"):
        with pytest.raises(DecryptionError):
            read_entry(wrong, EntryForm(), bond)


def test_plain_text_is_no_secret():
    with pytest.raises(DecryptionError):
        read_entry(EXAMPLE, EntryForm(), bond_of(RECORDED["encrypted"][0]))


def test_a_previous_key_reads_what_it_wrote():
    case = RECORDED["rotation"]
    auto, interop = case["written_with_old"]
    for previous, readable in (([], False), (case["previous_master_keys"], True)):
        keyring = ring(case["new_master_key_hex"], *previous)
        for written, value in ((auto, {"id": 42}), (interop, {"id": 7})):
            data = bytes.fromhex(written["hex"])
            bond = Bond(keyring, ("default",), (written["store_key"],))
            try:
                if written is auto:
                    found = read_entry(data, EntryForm(), bond)
                else:
                    found = (read_interop(data, bond),)
            except DecryptionError:
                assert not readable
            else:
                assert readable and found == (value,)
    keyring = ring(case["new_master_key_hex"])
    for written in case["reader_without_previous_keys"]["written"]:
        bond = Bond(keyring, ("default",), (written["store_key"],))
        data = bytes.fromhex(written["hex"])
        if written["store_key"] == auto["store_key"]:
            assert read_entry(data, EntryForm(), bond) == ({"id": "recomputed"},)
        else:
            assert read_interop(data, bond) == {"id": "recomputed"}


# ---- interop -------------------------------------------------------------------------


def signature_of(text: str) -> Signature:
    return signature(value_of(f"lambda {text[1:-1]}: None"))


def interop_key(case: dict[str, Any]) -> str:
    name = InteropName(case["namespace"], case["operation"])
    args, kwargs = value_of(case["args"]), value_of(case["kwargs"])
    return name.key(interop_arguments(signature_of(case["signature"]), args, kwargs))


@cases("interop")
def test_recorded_interop(case):
    value = value_of(case["value"])
    if "raised" in case:
        errors = (ConfigurationError, UncacheableArgument, SerializationError)
        with pytest.raises(errors):
            interop_key(case)
            write_interop(value)
        return
    assert interop_key(case) == case["store_key"]
    stored = bytes.fromhex(case["stored_hex"])
    if "master_key_hex" in case:
        bond = bond_of(case)
        assert shows(read_interop(stored, bond), case)
        mine = write_interop(value, bond)
        assert len(mine) == len(stored)
        assert shows(read_interop(mine, bond), case)
        with pytest.raises(DecryptionError):
            read_interop(stored, bond_of(case, tenants=("somebody",)))
        with pytest.raises(DecryptionError):
            read_interop(stored, bond_of(case, keys=("other",)))
    else:
        assert write_interop(value) == stored
        assert shows(read_interop(stored), case)


def flat(*args: Any) -> str:
    names = [Parameter(f"p{i}", Parameter.POSITIONAL_ONLY) for i in range(len(args))]
    return interop_arguments(Signature(names), args, {})


def test_interop_arguments_that_languages_cannot_tell_apart_have_one_key():
    utc = timezone.utc
    assert flat(2.0**63) == flat(2**63)
    assert flat(datetime(1970, 1, 1, tzinfo=utc)) == flat(0.0) == flat(0)
    assert flat({1, 2}) == flat([1, 2])
    assert flat({"b": 1, "a": 2}) == flat({"a": 2.0, "b": 1})
    assert flat(True) != flat(1)
    rest = interop_arguments(signature_of("(*ids, **kw)"), (1, 2), {"b": 1, "a": 2})
    assert rest == flat([1, 2], {"a": 2, "b": 1})


def test_interop_values_with_marks_are_not_written():
    for value in ({"__date__": True, "value": "2024-01-01"}, {1}, {1: 2}, float("nan")):
        with pytest.raises(SerializationError):
            write_interop(value)


# ---- the functions of the core -------------------------------------------------------


def test_headers_are_built_of_texts():
    with pytest.raises(ValueError, match="tenant and fingerprint or neither"):
        _core.wire3_build("s", "f", None, True, b"", "tenant")
    with pytest.raises(ValueError, match="65536"):
        _core.wire3_build("s" * 70000, "f", None, True, b"")
    with pytest.raises(UnicodeEncodeError):
        _core.wire3_build("\ud800", "f", None, True, b"")
    entry = _core.wire3_build('"é\\😀', "f", None, False, b"p", "t\n", b"0" * 16)
    assert entry[7:].isascii()
    found = _core.wire3_parse(entry)
    assert found == ('"é\\😀', "f", None, False, True, "t\n", b"0" * 16, b"p")


def test_bodies_and_styles_have_numbers():
    for call in (
        lambda: _core.wire3_open(b"", 3),
        lambda: _core.wire3_wrap(b"", -1),
        lambda: _core.wire3_pack(1, 3),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(SerializationError, match="limit"):
        _core.wire3_wrap(b"", 2)
    with pytest.raises(SerializationError, match="limit"):
        _core.wire3_dump("x" * 1000, "default", True, 100)


def test_large_values_come_back():
    value = {"text": "x" * 300_000, "bytes": bytes(range(256)) * 1000}
    for integrity in (True, False):
        form = EntryForm(integrity=integrity)
        assert read_entry(write_entry(value, form), form) == (value,)
    raw = bytes(300_000)
    assert _core.wire3_open(_core.wire3_wrap(raw, 1), 1) == raw
