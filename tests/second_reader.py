"""A second reader of what is in the store, written from docs/wire-format.md alone.

It imports nothing of cachekit and shares no line with it: what both understand, the
page says. Of values it reads the plain types of MessagePack.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

import msgpack
import xxhash
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RAW_MAX = 512 << 20
FOREVER = None


class NotOurs(Exception):
    """A miss; the entry is left alone."""


class Corrupt(Exception):
    """A miss; the entry is removed."""


# -- keys ------------------------------------------------------------------------------


def derived(master: str, purpose: str, tenant: str) -> bytes:
    """A key of 32 bytes, of a master key in hex."""
    name, who = purpose.encode(), tenant.encode()
    salt = b"cachekit_v4_" + bytes((len(name),)) + name
    salt += struct.pack(">H", len(who)) + who
    return HKDF(SHA256(), 32, salt, name).derive(bytes.fromhex(master))


def fingerprint(key: bytes) -> bytes:
    return hashlib.sha256(b"key_fingerprint_v1" + key).digest()[:16]


def _with_length(part: bytes) -> bytes:
    return struct.pack("<Q", len(part)) + part


def canonical(value: Any) -> bytes:
    """Of the types that the page lists."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes((0x80 | value,))
        width = next(
            w for w in range(1, 9) if -(1 << 8 * w - 1) <= value < 1 << 8 * w - 1
        )
        return bytes((width,)) + value.to_bytes(width, "little", signed=True)
    if isinstance(value, float):
        return b"f" + struct.pack("<d", value)
    if isinstance(value, bytes):
        return b"y" + _count(len(value)) + value
    if isinstance(value, str):
        widest = max(map(ord, value), default=0)
        tag, width = (
            (b"s", 1) if widest < 256 else (b"u", 2) if widest < 65536 else (b"U", 4)
        )
        return (
            tag
            + _count(len(value))
            + b"".join(ord(c).to_bytes(width, "little") for c in value)
        )
    if isinstance(value, (list, tuple)):
        return b"(" + _count(len(value)) + b"".join(map(canonical, value))
    raise TypeError(value)


def _count(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def entry_key(
    namespace: str,
    name: str,
    arguments: tuple[Any, ...],
    *,
    master: str | None = None,
    tenant: str = "default",
) -> str:
    identity = canonical((name,))
    readable = name if tenant == "default" else f"@{tenant}:{name}"
    if master is None and tenant != "default":
        identity += b"@" + tenant.encode()
    names = b"" if master is None else derived(master, "names", tenant)
    digest = hashlib.blake2b(digest_size=32, key=names)
    digest.update(_with_length(identity))
    digest.update(_with_length(b"".join(map(canonical, arguments))))
    return f"{namespace}:{readable}:{digest.hexdigest()}"


def version_digits(kind: str, *parts: bytes, master: str | None = None) -> str:
    person = b"cachekit." + kind.encode()
    if master is None:
        digest = hashlib.blake2b(digest_size=16, person=person)
    else:
        digest = hashlib.blake2b(digest_size=32, key=derived(master, "names", ""))
        digest.update(_with_length(person))
    for part in parts:
        digest.update(_with_length(part))
    return digest.hexdigest()[:32]


# -- entries ---------------------------------------------------------------------------


@dataclass
class Entry:
    serializer: int
    created: int
    #: Milliseconds, None without an end: total, fresh, stale-while-revalidate.
    lifetimes: tuple[int | None, ...]
    function: int
    namespace: int
    serializer_name: int | None = None
    version: int | None = None
    schema: int | None = None
    load_us: int | None = None
    raw_length: int | None = None
    tags: list[int] = field(default_factory=list)
    fingerprint: bytes | None = None
    nonce: bytes | None = None
    header: bytes = b""
    #: The serializer's bytes.
    data: bytes = b""

    @property
    def value(self) -> Any:
        return msgpack.unpackb(self.data, strict_map_key=False)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise Corrupt("cut off")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values if len(values) > 1 else values[0]


def read(
    data: bytes, *, key: str = "", master: str | None = None, tenant: str = "default"
) -> Entry:
    """``key`` and what follows it are needed for an entry that is encrypted."""
    if len(data) < 3 or data[:3] != b"CK\x04":
        raise NotOurs("no entry of version 4")
    bytes_ = _Bytes(data)
    bytes_.at = 3
    flags, serializer, created = bytes_.take("HBQ")
    if flags & 0x6000 or serializer not in (0, 1, 2, 3, 255):
        raise NotOurs("of a later version")
    encrypted = _both(flags, 0x0080, 0x8000)
    numbers = bytes_.take("III")
    lifetimes = tuple(
        _lifetime(number, bool(flags & 1 << at), bool(flags & 8 << at))
        for at, number in enumerate(numbers)
    )
    entry = Entry(serializer, created, lifetimes, *bytes_.take("QQ"))
    _in_order(lifetimes)
    if bool(flags & 0x0400) != (serializer == 255):
        raise Corrupt("a name and no need for it, or the reverse")
    for flag, name in (
        (0x0400, "serializer_name"), (0x0100, "version"), (0x0200, "schema"),
        (0x0800, "load_us"), (0x0040, "raw_length"),
    ):  # fmt: skip
        if flags & flag:
            setattr(entry, name, bytes_.take("I"))
    if flags & 0x1000:
        entry.tags = [bytes_.take("Q") for _ in range(bytes_.take("B"))]
        if not entry.tags:
            raise Corrupt("no tags where tags are announced")
    if encrypted:
        entry.fingerprint = bytes_.take("16s")
    entry.header = data[: bytes_.at]
    payload = data[bytes_.at :]
    if encrypted:
        if master is None:
            raise NotOurs("encrypted")
        payload = _decrypted(entry, payload, key, master, tenant)
    else:
        if len(payload) < 8 or check_of(data[:-8]) != data[-8:]:
            raise Corrupt("wrong check")
        payload = payload[:-8]
    if entry.raw_length is not None:
        if not 0 < entry.raw_length <= min(RAW_MAX, 1000 * len(payload)):
            raise Corrupt("over the limit")
        payload = lz4_block(payload, entry.raw_length)
    entry.data = payload
    return entry


def check_of(body: bytes) -> bytes:
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


def _both(flags: int, one: int, other: int) -> bool:
    if bool(flags & one) != bool(flags & other):
        raise Corrupt("half a flag")
    return bool(flags & one)


def _lifetime(number: int, seconds: bool, endless: bool) -> int | None:
    if endless:
        if number or seconds:
            raise Corrupt("a lifetime without an end that has one")
        return FOREVER
    return number * 1000 if seconds else number


def _in_order(lifetimes: tuple[int | None, ...]) -> None:
    total, fresh, _ = lifetimes
    if total is not FOREVER and (fresh is FOREVER or fresh > total):
        raise Corrupt("fresh for longer than it lives")


def _decrypted(
    entry: Entry, payload: bytes, key: str, master: str, tenant: str
) -> bytes:
    secret = derived(master, "encryption", tenant)
    if fingerprint(secret) != entry.fingerprint:
        raise Corrupt("of another key")
    entry.nonce = payload[:12]
    bound = b"".join(
        struct.pack("<I", len(part)) + part
        for part in (entry.header, tenant.encode(), key.encode())
    )
    try:
        return AESGCM(secret).decrypt(payload[:12], payload[12:], bound)
    except (InvalidTag, ValueError):
        raise Corrupt("not authentic") from None


def lz4_block(block: bytes, size: int) -> bytes:
    """LZ4's block format: literals, then a copy of what is there already, repeated."""
    out, at = bytearray(), 0
    while at < len(block):
        token = block[at]
        at += 1
        length, at = _length(block, at, token >> 4)
        out += block[at : at + length]
        at += length
        if at >= len(block):
            break
        back = int.from_bytes(block[at : at + 2], "little")
        length, at = _length(block, at + 2, token & 15)
        if not 0 < back <= len(out) or len(out) + length + 4 > size:
            raise Corrupt("not a block")
        for _ in range(length + 4):
            out.append(out[-back])
    if len(out) != size:
        raise Corrupt("another length")
    return bytes(out)


def _length(block: bytes, at: int, start: int) -> tuple[int, int]:
    length = start
    while start == 15:
        if at >= len(block):
            raise Corrupt("cut off")
        length += block[at]
        at += 1
        if block[at - 1] != 255:
            break
    return length, at
