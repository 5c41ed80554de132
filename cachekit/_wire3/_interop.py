# SPDX-License-Identifier: MIT
"""Entries that programs in other languages read and write, too.

The key is ``{namespace}:{operation}:{64 digits}``; the digits are BLAKE2b-256 of the
canonical MessagePack of the arguments, bound to the signature, in its order, defaults
applied. The value is one MessagePack document without a frame around it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from enum import Enum
from math import isfinite

from cachekit import _core
from cachekit._errors import ConfigurationError, DecryptionError
from cachekit._wire3._arguments import PLAIN, digits_of, text_of, uncacheable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from inspect import Signature
    from typing import Any

    from cachekit._wire3._entries import Bond

__all__ = ["InteropName", "interop_arguments", "read_interop", "write_interop"]

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: What other keys begin with.
_RESERVED = ("ns", "nsapi", "ck")
#: The style of ``_core.wire3_pack``.
_INTEROP = 1
#: What encrypted values are bound to after tenant and key.
_BOUND = ("msgpack", "False")


@dataclass(frozen=True)
class InteropName:
    """The first two parts of the keys of a function; raises ``ConfigurationError``.

    >>> InteropName("users", "get_user").key("ab")
    'users:get_user:ab'
    """

    namespace: str
    operation: str

    def __post_init__(self) -> None:
        for what, text in (
            ("namespace", self.namespace),
            ("interop", self.operation),
        ):
            if not is_segment(text):
                raise ConfigurationError(
                    f"{what}={text!r} is no name that other languages share",
                    hint="1 to 64 characters of a-z, 0-9, '.', '_' and '-', the first "
                    "one of a-z and 0-9, without '..'",
                )
        if self.namespace in _RESERVED:
            raise ConfigurationError(
                f"namespace={self.namespace!r} is reserved",
                hint=f"With interop=, any but {', '.join(_RESERVED)}",
            )

    def key(self, digits: str) -> str:
        """The key of a call; of arguments see ``interop_arguments``."""
        return f"{self.namespace}:{self.operation}:{digits}"


def is_segment(text: str) -> bool:
    """May a key have this between its colons?"""
    return _SEGMENT.fullmatch(text) is not None and ".." not in text


def interop_arguments(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """64 hex digits for the arguments of a call; raises ``UncacheableArgument``.

    What the signature does not take raises ``TypeError``, as the call itself would.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return digits_of(list(bound.arguments.values()), _canonical)


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _canonical(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _canonical_float(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return _canonical_dict(value)
    if isinstance(value, (set, frozenset)):
        items = [_canonical(item) for item in value]
        packed = {_core.wire3_pack(item, PLAIN): item for item in items}
        return [packed[key] for key in sorted(packed)]
    return _canonical_other(value)


def _canonical_float(value: float) -> int | float:
    if not isfinite(value):
        raise uncacheable("NaN and infinity are not part of keys that languages share")
    if value.is_integer() and -(2**63) <= value < 2**64:
        return int(value)
    return value


def _canonical_dict(value: dict[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in value):
        raise uncacheable("a dict whose keys are not all str")
    return {str.__str__(key): _canonical(value[key]) for key in sorted(value)}


def _canonical_other(value: Any) -> Any:
    datetime = sys.modules.get("datetime")
    if datetime is not None and isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise uncacheable("a datetime without a time zone")
        return _canonical_float(value.timestamp())
    text = text_of(value)
    if text is None:
        kind = type(value).__qualname__
        raise uncacheable(f"keys that languages share have no place for {kind}")
    return text


def write_interop(value: Any, bond: Bond | None = None) -> bytes:
    """The document of a value. Raises ``SerializationError`` for what has none."""
    document = _core.wire3_pack(value, _INTEROP)
    if bond is None:
        return document
    sealed: bytes = bond.keyring.seal(bond.tenants[0], bond.keys[0], _BOUND, document)
    return sealed


def read_interop(data: bytes, bond: Bond | None = None) -> Any:
    """The value of a document.

    With ``bond`` it must be encrypted, for one of its tenants, and authentic. Raises
    ``DecryptionError`` when it is not, ``DecodeError`` when it is damaged.
    """
    if bond is None:
        return _core.wire3_unpack(data)
    for tenant in bond.tenants:
        for key in bond.keys:
            try:
                document = bond.keyring.open(tenant, key, _BOUND, data)
            except DecryptionError:
                continue
            return _core.wire3_unpack(document)
    raise DecryptionError
