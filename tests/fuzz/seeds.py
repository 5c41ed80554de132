# SPDX-License-Identifier: MIT
"""Writes the first inputs of each fuzz target, from bytes as they really are stored and
sent, and its dictionary:

    PYTHONPATH=.:tests:tests/fuzz python tests/fuzz/seeds.py FOLDER

What the fuzzer found from there, and is worth keeping, is in tests/fuzz/corpus.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
from targets import RETURNS, Colour, Page, Pair, Point, Right, Row, User
from value_samples import LIBRARY, PLAIN

from cachekit import _core

HERE = Path(__file__).resolve().parent
SIZE_MAX = 1500
FIXTURES = HERE.parent / "data" / "wire3" / "entries.json"

NAMED: list[tuple[Any, int]] = [
    (User("a", [User("b")]), 1), (Colour.RED, 1), (Colour.GREEN, 1), (Pair(1, [2]), 1),
    (Pair(Pair(1)), 1), (Pair([Colour.RED, User("c")], None), 1),
    ([Point(1), Point(2)], 2), ([Right.READ, Right.READ | Right.WRITE, Right(0)], 2),
    ({"a": User("d")}, 3), (Row(1), 4),
    (Page(title="a", pages={"b": Page(title="c")}), 4),
    ([Row(1, [Row(2)]), Page(title="é")], 4),
]  # fmt: skip
ARRAYS = [
    numpy.int8(-1), numpy.float64(1.5), numpy.bool_(True), numpy.complex64(1j),
    numpy.datetime64("2020-01-01", "s"), numpy.timedelta64(3, "ms"), numpy.str_("ab"),
    numpy.bytes_(b"x"), numpy.arange(6).reshape(2, 3), numpy.zeros(0, "f4"),
    numpy.arange(6, dtype=">i2").reshape(3, 2).T, numpy.array(1.0),
    numpy.array(["2020-01-01"], dtype="M8[D]"), numpy.array([True, False]),
]  # fmt: skip


def values() -> Iterator[bytes]:
    for value in [*PLAIN, *LIBRARY, *ARRAYS]:
        yield b"\x80" + _core.encode(value)
    for value, which in NAMED:
        yield bytes([0x80 | which]) + _core.encode(value, RETURNS[which])
    for depth in (511, 512):
        yield b"\x84" + b"\x91" * depth + _core.encode(Row(1), RETURNS[4])


def fixtures() -> Iterator[bytes]:
    """Whole entries, plain and encrypted."""
    stored = json.loads(FIXTURES.read_text())
    for part in ("values", "encrypted", "hand_made_entries"):
        for item in stored[part]:
            if item.get("stored_hex"):
                yield bytes.fromhex(item["stored_hex"])


def interop() -> Iterator[bytes]:
    for item in json.loads(FIXTURES.read_text())["interop"]:
        if item.get("stored_hex"):
            yield bytes.fromhex(item["stored_hex"])


def texts() -> Iterator[bytes]:
    """Entries of the older form, one JSON text."""
    meta = (
        '"metadata": {"format": "msgpack", "compressed": false, "x": [1, {"y": null}]'
    )
    for data in ("", "gQ==", "gaE=", "gaFhAQ+/", "????"):
        for more in ("", ', "encrypted": true, "tenant_id": "t\\u00e9\\n"'):
            text = f'{{"data": "{data}", {meta}{more}}}, "serializer": "default"}}'
            yield text.encode()


def frames() -> Iterator[bytes]:
    """The header as in docs/wire-format.md; the target puts the check behind."""
    flags = (0, 0x40, 0x100, 0xF00, 0x1000, 0x1F40, 0x8080, 0x9FC0, 0x9F80, 0x38)
    seconds = (0x07, 0x01, 0x10, 0x08, 0x20)
    for bits in (*flags, *seconds):
        life = (0, 0, 0) if bits & 0x38 else (3_600_000, 60_000, 1000)
        kind = 255 if bits & 0x400 else 0
        head = b"CK\x04" + struct.pack("<HBQIIIQQ", bits, kind, 1 << 40, *life, 5, 7)
        numbers = struct.pack("<I", 9) * bin(bits & 0xF40).count("1")
        tags = b"\x02" + bytes(16) if bits & 0x1000 else b""
        mark = bytes(range(16)) if bits & 0x80 else b""
        yield head + numbers + tags + mark + b"\x1fa\x01\x00" + b"\x93\x01\x02\x03" * 8


REPLIES = [
    b"+OK\r\n", b"-ERR unknown command 'X'\r\n", b"-NOSCRIPT No matching script\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", b":-5\r\n",
    b":9223372036854775807\r\n", b"$5\r\nhello\r\n", b"$0\r\n\r\n", b"$-1\r\n",
    b"*-1\r\n", b"*0\r\n", b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", b"*1\r\n" * 9 + b":1\r\n",
    b"$600000000\r\n", b"*2147483647\r\n", b"*4294967297\r\n", b"%1\r\n+a\r\n:1\r\n",
    b"$300\r\n" + b"x" * 300 + b"\r\n", b"$3\r\nabcde", b"$" + b"1" * 40,
    b"-" + b"WRONGTYPE Operation against a key" + b"\r\n", b"-BUSYGROUP x\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-ERR invalid password\r\n",
    b"*3\r\n:3600000\r\n*3\r\n$2\r\nCK\r\n$-1\r\n$16\r\n0123456789abcdef\r\n:1\r\n",
    b",1.5\r\n", b"#t\r\n", b"_\r\n", b"(123\r\n", b"~1\r\n:1\r\n", b">1\r\n:1\r\n",
]  # fmt: skip


def bulk(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


def heard() -> Iterator[bytes]:
    channel = {1: "a:invalidate", 2: "b", 4: "", 8: "__redis__:invalidate"}
    for mask, seed in itertools.product(
        (1, 2, 3, 0x11, 0x38, 0x7F, 0xF0), (0, 2, 5, 7)
    ):
        names = [channel[bit] for bit in channel if mask & bit]
        said = b"+PONG\r\n" + (b":77\r\n+OK\r\n" if mask & 0xF0 else b"")
        for place, name in enumerate(names, 1):
            said += b"*3\r\n" + bulk("subscribe") + bulk(name) + b":%d\r\n" % place
        for name in names:
            said += b"*3\r\n" + bulk("message") + bulk(name) + bulk("CKI\x01x")
        said += b"*3\r\n" + bulk("message") + bulk(channel[8]) + b"*1\r\n" + bulk("a:k")
        said += b"*3\r\n" + bulk("message") + bulk(channel[8]) + b"*-1\r\n"
        yield bytes([mask, seed]) + said
        yield bytes([mask, seed]) + said + b"*2\r\n" + bulk("pong") + bulk("")
        for failure in (b"-NOPERM no\r\n", b"-ERR unknown\r\n", b"-LOADING x\r\n"):
            yield bytes([mask, seed]) + failure + said[7:]
            yield bytes([mask, seed]) + said + failure


def blocks() -> Iterator[bytes]:
    """Blocks as _core writes them, cut out of an envelope."""
    for raw in (
        b"a" * 500,
        b"abcdefgh" * 40,
        bytes(range(256)),
        b"x",
        b"ab" * 9 + b"c",
    ):
        envelope = _core.wire3_wrap(raw, 2)
        at = 3 if envelope[1] == 0xC4 else 4
        size = envelope[2] if at == 3 else struct.unpack(">H", envelope[2:4])[0]
        yield struct.pack("<H", len(raw)) + envelope[at : at + size]


def envelopes() -> Iterator[bytes]:
    for entry in fixtures():
        parsed = _core.wire3_parse(entry)
        if parsed is not None:
            yield parsed[7]


def all_seeds() -> Iterator[tuple[str, bytes]]:
    for data in values():
        yield "value", data
        yield "unpack", b"\xff\x7f" + data[1:]
        yield "unpack", b"\x01\x02" + data[1:]
        yield "canon", data
        yield "wire3_value", b"\x00" + data[1:]
    for data in interop():
        for mode in (0, 4, 3, 7):
            yield "wire3_value", bytes([mode]) + data
    for data in [*fixtures(), *texts()]:
        yield "wire3_value", b"\x01" + data
        yield "wire3", b"\x02" + data
        if data[:1] == b"C":
            yield "wire3", b"\x00" + data[7 : 7 + struct.unpack(">I", data[3:7])[0]]
    all_kinds = 'é€😀\n\t\b\f\r"\\/\0\x7f'.encode()
    for data in (all_kinds, b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        yield "wire3", b"\x01" + data
    for data in envelopes():
        yield "envelope", b"\x03" + data
        yield "envelope", b"\x02" + data
        yield "envelope", b"\xe1" + data
        for body in (2, 6, 10):
            yield "wire3_value", bytes([body]) + data
    yield "wire3", b"\xff"
    for data in blocks():
        yield "envelope", b"\x00" + data
        yield "lz4", b"\x00" + data
        yield "lz4", b"\xe1" + data
    for data in frames():
        yield "frame", data
    for mode, data in itertools.product(
        (0, 1, 0x0D, 0xFF), [*REPLIES, b"".join(REPLIES[:12])]
    ):
        yield "resp", bytes([mode, 8]) + data
    for data in heard():
        yield "subscription", data


WORDS: dict[str, list[bytes]] = {
    "frame": [b"CK\x04", b"\x40\x00", b"\x80\x80", b"\xc0\x8f", b"\x00\x10", b"\xff"],
    "unpack": [bytes([code]) for code in range(0xC0, 0xE0)] + [b"\xc7\x02\x05\x91"],
    "value": [b"\xc7" + bytes([size, code]) for code in range(1, 34) for size in (1, 8)]
    + [b"User", b"Colour", b"Pair", b"Point", b"Right", b"Row",
       b"Page", b"<f8", b"M8[ns]", b"UTC"],
    "wire3": [
        b'"s"', b'"m"', b'"serializer"', b'"metadata"', b'"data"', b'"format"', b"null",
        b'"original_type"', b'"compressed"', b'"encrypted"', b'"tenant_id"', b"true",
        b'"encryption_algorithm"', b'"AES-256-GCM"', b'"key_fingerprint"', b"false",
        b"\\ud83d\\ude00", b"\\u00e9", b"\\n", b"CK\x03", b"==", b'": ', b", ",
    ],
    "envelope": [b"\x94\xc4", b"compressed_data", b"checksum", b"original_size",
                 b"format", b"\x84", b"\xdc", b"\xa7msgpack"],
    "lz4": [b"\x1f", b"\xf0", b"\x01\x00", b"\xff\xff"],
    "canon": [bytes([code]) for code in range(16)],
    "resp": [b"\r\n", b"$-1\r\n", b"*-1\r\n", b"*2\r\n", b"+OK\r\n", b"-ERR ",
             b":1\r\n", b"$512\r\n", b"-NOAUTH ", b"-BUSY ", b"*10000000000\r\n"],
    "subscription": [bulk(word) for word in ("subscribe", "message", "pong", "", "b",
                     "a:invalidate", "__redis__:invalidate")]
    + [b"*3\r\n", b"*2\r\n", b":1\r\n", b":2\r\n", b"+OK\r\n", b"+PONG\r\n"],
}  # fmt: skip
WORDS["wire3_value"] = WORDS["wire3"] + WORDS["envelope"] + [
    b"__datetime__", b"__date__", b"__time__", b"\xa5value", b"2020-01-02", b"\x82",
]  # fmt: skip


def dictionary(words: list[bytes]) -> str:
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    return "".join(f'"{word}"\n' for word in dict.fromkeys(quoted))


def main() -> None:
    room = Path(sys.argv[1])
    for number, (target, data) in enumerate(all_seeds()):
        if len(data) <= SIZE_MAX:
            (room / target).mkdir(parents=True, exist_ok=True)
            (room / target / f"seed-{number:05}").write_bytes(data)
    for target, words in WORDS.items():
        (HERE / f"{target}.dict").write_text(dictionary(words))


if __name__ == "__main__":
    main()
