"""A second reader of entries, from docs/wire-format.md alone.

It shares no line with cachekit and imports nothing of it: what both understand, the
page says.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

import xxhash


class NotOurs(Exception):
    """A miss."""


class Corrupt(Exception):
    """To be removed."""


def check_of(body: bytes) -> bytes:
    return xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")
