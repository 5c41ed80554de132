# SPDX-License-Identifier: MIT
"""From the configuration to the object that holds its keys.

Functions with the same keys share one ``_core.Keyring``. It is kept here by a digest of
the keys and only as long as somebody uses it: when the last function is gone, so are
the keys, wiped.

THREADING  The table is guarded by a lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial

from cachekit import _core
from cachekit._errors import missing_master_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit._config import CacheConfig
    from cachekit._options import FunctionOptions
    from cachekit._versions import Keyed

__all__ = ["DEFAULT_TENANT", "keyring_for", "keyring_of", "names_of"]

#: Whose entries they are where nobody says.
DEFAULT_TENANT = "default"

_lock = threading.Lock()
_rings: weakref.WeakValueDictionary[bytes, _core.Keyring] = (
    weakref.WeakValueDictionary()
)
#: So that what the table holds says nothing about a key.
_salt = os.urandom(16)


def keyring_of(
    config: CacheConfig, *, master_key: str | None = None, wire: int = 4
) -> _core.Keyring | None:
    """The keys of ``config``; None where there is no master key.

    ``master_key``  the one that a function was given for itself
    ``wire``        version of the entries that are encrypted with it, 4 or 3

    Raises ``ConfigurationError`` E002 for text that is no key.
    """
    master = config.master_key if master_key is None else master_key
    if master is None:
        return None
    # A key that is named twice would be a second name for the same entry.
    previous = tuple(
        dict.fromkeys(
            key
            for key in map(str.lower, config.previous_master_keys)
            if key != master.lower()
        )
    )
    name = _name_of((str(wire), master, *previous))
    with _lock:
        ring = _rings.get(name)
        if ring is None:
            ring = _core.Keyring(master, previous, wire=wire)
            _rings[name] = ring
        return ring


def _renew() -> None:
    """The lock of a forked child may be held by a thread that is not there."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def keyring_for(
    options: FunctionOptions, config: CacheConfig, *, wire: int = 4
) -> _core.Keyring | None:
    """The keys that a function encrypts with; None where it does not.

    A master key turns encryption on for every function that does not opt out. Raises
    ``ConfigurationError`` E001 where encryption is required and there is none.
    """
    if options.references or options.encryption is False:
        return None
    ring = keyring_of(config, master_key=options.master_key, wire=wire)
    if ring is None and options.encryption:
        raise missing_master_key()
    return ring


def names_of(keyring: _core.Keyring, which: int) -> Keyed:
    """What the names of versions are made with under master key number ``which``."""
    return partial(keyring.names_digest, "", which=which)


def _name_of(parts: tuple[str, ...]) -> bytes:
    from hashlib import blake2b

    digest = blake2b(digest_size=16, key=_salt)
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
    return digest.digest()
