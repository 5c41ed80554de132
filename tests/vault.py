"""Helpers for tests of encryption: keys to encrypt with, and a look into the store."""

from __future__ import annotations

import re
from typing import Any

#: Master keys that occur nowhere else.
KEY = "4b" * 16 + "91c3" * 8
FORMER = "d7" * 16 + "05ae" * 8
ALIEN = "e2" * 16 + "7f18" * 8

_ENTRY = re.compile(rb"[^{}]+:[0-9a-f]{64}")


def entries(server: Any) -> dict[str, bytes]:
    """The entries in a Redis, by their names; not what stands beside them."""
    names = [name for name in server.call("KEYS", "*") if _ENTRY.fullmatch(name)]
    return {name.decode(): server.call("GET", name) for name in sorted(names)}


def the_entry(server: Any) -> tuple[str, bytes]:
    """The only one."""
    ((name, data),) = entries(server).items()
    return name, data


def replace(server: Any, name: str, data: bytes) -> None:
    """Other bytes under the name of an entry, which keeps its lifetime."""
    assert server.call("SET", name, data, "KEEPTTL") == "OK"
