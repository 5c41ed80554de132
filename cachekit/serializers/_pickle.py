# SPDX-License-Identifier: MIT
"""Pickle, for those who ask for it by name.

What a signed entry holds::

    CKP 01 | 32 bytes: HMAC-SHA256 | pickle

The HMAC is over ``b"cachekit pickle 1"``, the SHA-256 of the scope (the function whose
entry it is) and the SHA-256 of the pickle, under a key that the keyring derives from
the master key and the tenant and does not hand out. An entry without a signature is the
pickle alone.
"""

from __future__ import annotations

import pickle
from hashlib import sha256
from hmac import compare_digest

from cachekit._checks import held
from cachekit._errors import DecodeError
from cachekit.serializers._parts import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit import _core

__all__ = ["PickleSerializer"]

# Every interpreter that is supported reads it.
_PROTOCOL = 5
_MAGIC = b"CKP\x01"
_MAC = 32
_HEADER = len(_MAGIC) + _MAC


class _Signer:
    """Makes and verifies the signatures of one function."""

    __slots__ = ("_keyring", "_scope", "_tenant")

    def __init__(self, keyring: _core.Keyring, tenant: str, scope: bytes) -> None:
        self._keyring = keyring
        self._tenant = tenant
        self._scope = sha256(scope).digest()

    def header(self, data: bytes | memoryview, which: int = 0) -> bytes:
        """What goes before the pickle; ``which``: 0 the current key, then others."""
        message = b"cachekit pickle 1" + self._scope + sha256(data).digest()
        return _MAGIC + self._keyring.mac(self._tenant, "pickle", message, which)

    def verified(self, view: memoryview) -> memoryview:
        """The pickle behind a header by any of the keys, else ``DecodeError``."""
        given, pickled = view[:_HEADER], view[_HEADER:]
        for which in range(self._keyring.count):
            if compare_digest(given, self.header(pickled, which)):
                return pickled
        raise DecodeError(
            "a stored pickle is not signed with a key that is configured",
            hint="It was written without a key, with another one, for another "
            "function, or by somebody else",
        )


class PickleSerializer:
    """Any value that ``pickle`` takes.

    Whoever can write a pickle that is read can run code in the process that reads it.
    So what goes into a shared store is signed with a key made from the master key
    (``CACHEKIT_MASTER_KEY``, and ``CACHEKIT_PREVIOUS_MASTER_KEYS`` for reading), and
    nothing is unpickled before its signature is verified. Without a master key a
    function with a shared store is refused this serializer, unless
    ``allow_unsigned=True`` says that only trusted programs reach the store. Entries in
    memory alone need neither. An entry is unpickled only by a function that itself
    names this serializer.

    ``allow_unsigned``  write and read entries of the store without a signature

    >>> serializer = PickleSerializer()
    >>> serializer.deserialize(serializer.serialize({1, 2}))
    {1, 2}
    """

    __slots__ = ("_allow_unsigned", "_signer")

    def __init__(self, *, allow_unsigned: bool = False) -> None:
        if not isinstance(allow_unsigned, bool):
            raise TypeError(
                f"allow_unsigned must be true or false, not {held(allow_unsigned)}"
            )
        self._allow_unsigned = allow_unsigned
        self._signer: _Signer | None = None

    @property
    def name(self) -> str:
        """Stored with each entry: ``pickle``."""
        return "pickle"

    @property
    def allow_unsigned(self) -> bool:
        """Whether entries of a store are written and read without a signature."""
        return self._allow_unsigned

    @property
    def requires_signing(self) -> bool:
        """Whether a shared store needs a signature to go with it."""
        return not self._allow_unsigned

    def bind(
        self, keyring: _core.Keyring, tenant: str, scope: bytes
    ) -> PickleSerializer:
        """A copy that signs what it writes and reads what is so signed.

        ``scope`` is bound to it: what was signed for one function is not read by
        another. Called for a function with a shared store, at its first use.
        """
        made = PickleSerializer(allow_unsigned=self._allow_unsigned)
        made._signer = _Signer(keyring, tenant, scope)
        return made

    def serialize(self, value: Any, /) -> bytes:
        """The pickle of ``value``; raises ``SerializationError`` when there is none."""
        try:
            data = pickle.dumps(value, protocol=_PROTOCOL)
        except Exception as error:
            # No chain: what pickle says may quote the value.
            why = f"pickle raised {type(error).__qualname__}"
            raise refusal(value, why) from None
        if self._signer is None:
            return data
        return self._signer.header(data) + data

    def deserialize(self, data: bytes | bytearray | memoryview, /) -> Any:
        """The value of ``data``; raises ``DecodeError`` when it is no pickle, or is not
        signed where it must be."""
        view = memoryview(data)
        if self._signer is not None:
            view = self._signer.verified(view)
        try:
            return pickle.loads(view)
        except Exception as error:
            raise DecodeError(
                "stored bytes are not a pickle that this program can read",
                hint=f"pickle raised {type(error).__qualname__}",
            ) from None

    def __repr__(self) -> str:
        if self._allow_unsigned:
            return "PickleSerializer(allow_unsigned=True)"
        return "PickleSerializer()"
