# SPDX-License-Identifier: MIT
"""Values to version 3 entries and back, plain and encrypted.

What most entries are, a value of the default serializer that is not encrypted, is read
and written by the core in one call. The others are put together here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from cachekit import _core
from cachekit._errors import DecodeError, DecryptionError, SerializationError
from cachekit._wire3 import _auto, _tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Packed: TypeAlias = tuple[bytes, str, str | None, bool]

__all__ = ["Bond", "EntryForm", "read_entry", "write_entry"]

#: What surrounds the serializer's bytes; numbers that the core knows.
BARE, CHECKED, ENVELOPE = 0, 1, 2

_FAMILIES = {
    "default": "default",
    "StandardSerializer": "default",
    "auto": "auto",
    "AutoSerializer": "auto",
    "orjson": "orjson",
    "OrjsonSerializer": "orjson",
    "arrow": "arrow",
    "ArrowSerializer": "arrow",
}


@dataclass(frozen=True)
class EntryForm:
    """What a function's entries are like.

    ``serializer`` is the name in the entry: ``default``, ``auto``, ``orjson``,
    ``arrow``, or the class name of an instance, which is then ``custom`` unless it is
    one of the four. ``integrity`` is off where keys say ``0``.
    """

    serializer: str = "default"
    integrity: bool = True
    custom: Any = None

    @property
    def family(self) -> str:
        """Which of the four serializers writes the bytes, or ``custom``."""
        return _FAMILIES.get(self.serializer, "custom")


@dataclass(frozen=True)
class Bond:
    """What encrypted entries are bound to.

    ``keyring`` is a ``_core.Keyring`` made with ``wire=3``. ``keys`` are those to try,
    as entries may be bound to the stored key or to the bare one; a writer binds to the
    first. ``tenants`` are the reader's own; a writer writes for the first.
    """

    keyring: Any
    tenants: tuple[str, ...]
    keys: tuple[str, ...]


# ---- writing -------------------------------------------------------------------------


def write_entry(value: Any, form: EntryForm, bond: Bond | None = None) -> bytes:
    """The entry of a value. Raises ``SerializationError`` for what it cannot hold."""
    if bond is None and form.family == "default":
        return _core.wire3_dump(value, form.serializer, form.integrity)
    payload, format, original_type, compressed = _pack(value, form)
    if bond is None:
        return _core.wire3_build(
            form.serializer, format, original_type, compressed, payload
        )
    tenant = bond.tenants[0]
    bound = _bound(format, compressed, original_type)
    return _core.wire3_build(
        form.serializer,
        format,
        original_type,
        compressed,
        bond.keyring.seal(tenant, bond.keys[0], bound, payload),
        tenant,
        bond.keyring.fingerprint(tenant),
    )


def _pack(value: Any, form: EntryForm) -> Packed:
    """Payload, format, original type, and whether the header says compressed."""
    checked = CHECKED if form.integrity else BARE
    envelope = ENVELOPE if form.integrity else BARE
    if form.family == "default":
        raw = _core.wire3_pack(value)
        return _core.wire3_wrap(raw, envelope), "msgpack", "msgpack", form.integrity
    if form.family == "orjson":
        return _core.wire3_wrap(_json(value), checked), "orjson", "orjson", False
    if form.family == "arrow" or _tables.is_frame(value) and form.family == "auto":
        raw = _tables.write(value)
        return _core.wire3_wrap(raw, checked), "arrow", "arrow", True
    if form.family == "auto":
        kind, raw = _auto.write(value)
        if kind == "numpy":
            return _core.wire3_wrap(raw, checked), "msgpack", kind, False
        payload = _core.wire3_wrap(raw, envelope, kind)
        return payload, "msgpack", kind, form.integrity
    return bytes(form.custom.serialize(value)), "msgpack", None, False


def _json(value: Any) -> bytes:
    try:
        orjson: Any = import_module("orjson")
    except ImportError:
        raise SerializationError(
            "entries of the serializer orjson are written with the package orjson",
            hint="Install it with pip install 'cachekit[orjson]'",
        ) from None
    try:
        data: bytes = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        kind = type(value).__qualname__
        raise SerializationError(
            f"Could not serialize object of type {kind} as JSON"
        ) from None
    return data


def _bound(format: str, compressed: bool, original_type: str | None) -> tuple[str, ...]:
    """The texts that are bound after tenant and key."""
    texts = (format, str(compressed))
    return texts if original_type is None else (*texts, original_type)


# ---- reading -------------------------------------------------------------------------


def read_entry(
    data: bytes, form: EntryForm, bond: Bond | None = None
) -> tuple[Any] | None:
    """``(value,)``, or None for an entry that is another one's.

    With ``bond`` the entry must be encrypted, for one of its tenants, and authentic.
    Raises ``DecryptionError`` when it is not, ``DecodeError`` when it is damaged.
    """
    if bond is None and form.family == "default":
        return _core.wire3_load(data, form.serializer, form.integrity)
    parsed = _core.wire3_parse(data)
    if parsed is None or parsed[0] != form.serializer:
        return None
    _, format, original_type, compressed, encrypted, tenant, print_, payload = parsed
    if bond is None:
        if encrypted:
            return None
    elif not encrypted or format is None or tenant not in bond.tenants:
        raise DecryptionError
    else:
        bound = _bound(format, compressed, original_type)
        payload = _unseal(bond, tenant, bound, payload, print_)
    return (_unpack(payload, form, original_type),)


def _unseal(
    bond: Bond,
    tenant: str,
    bound: tuple[str, ...],
    payload: bytes,
    print_: bytes | None,
) -> bytes:
    for key in bond.keys:
        try:
            plain: bytes = bond.keyring.open(tenant, key, bound, payload, print_)
        except DecryptionError:
            continue
        return plain
    raise DecryptionError


def _unpack(payload: bytes, form: EntryForm, original_type: str | None) -> Any:
    checked = CHECKED if form.integrity else BARE
    envelope = ENVELOPE if form.integrity else BARE
    if form.family == "default":
        return _core.wire3_unpack(_core.wire3_open(payload, envelope))
    if form.family == "orjson":
        return _from_json(_core.wire3_open(payload, checked))
    if form.family == "arrow" or form.family == "auto" and original_type == "arrow":
        return _tables.read(_core.wire3_open(payload, checked))
    if form.family == "auto":
        around = checked if original_type == "numpy" else envelope
        return _auto.read(original_type, _core.wire3_open(payload, around))
    return form.custom.deserialize(memoryview(payload))


def _from_json(raw: bytes) -> Any:
    import json

    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise DecodeError("The stored bytes are not JSON") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
