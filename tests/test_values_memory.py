# SPDX-License-Identifier: MIT
"""What memory keeps of a value, what a hit hands out, and what it is charged."""

from __future__ import annotations

import collections
import contextlib
import copy
import datetime as dt
import pathlib
import random
import subprocess
import sys
import threading
import uuid
from typing import Any

import pytest
from value_samples import (
    REFUSED,
    SMALL,
    UTC,
    ZONES,
    D,
    F,
    decode_or_refuse,
    name_of,
    same,
)

from cachekit import _core
from cachekit._errors import SerializationError

IMMUTABLE = [
    None, True, 5, 10**30, 1.5, 1j, "text", b"bytes", D("1.5"), dt.date(2020, 1, 1),
    dt.datetime(2020, 1, 1, tzinfo=UTC), dt.time(1), dt.timedelta(1), uuid.UUID(int=5),
    (1, "a", (2, (D(1),))), (), frozenset({1, ("a", frozenset({b"x"}))}),
    *(dt.datetime(2020, 1, 1, tzinfo=zone) for zone in ZONES),
]  # fmt: skip


@pytest.mark.parametrize("value", IMMUTABLE, ids=name_of)
def test_immutable_value_is_the_same_object(value: Any) -> None:
    kind, handed, _ = _core.hold(value)
    assert kind == "reference"
    assert handed is value


@pytest.mark.parametrize(
    "value, kind",
    [
        ({"a": 1}, "dict"), ({}, "dict"), ([1, "a", (2, 3)], "list"), ({1, 2}, "set"),
        ({"a": [1]}, "copy"), ([[1], {2}, {3: 4}], "copy"), (([1],), "copy"),
        ({"a": {"b": ([1], 2)}}, "copy"), (bytearray(b"x"), "bytes"), ([bytearray()],
        "bytes"),
        (collections.OrderedDict(a=1), "bytes"), ({"a": collections.deque()}, "bytes"),
        (pathlib.PurePath("a"), "bytes"), ({F(1, 2): [1]}, "bytes"), ({(F(1),)},
        "bytes"),
    ],
)  # fmt: skip
def test_containers_are_copied(value: Any, kind: str) -> None:
    before = copy.deepcopy(value)
    held, handed, _ = _core.hold(value)
    assert held == kind
    assert same(handed, before)
    assert handed is not value


def test_copy_is_deep_for_containers_and_shares_leaves() -> None:
    leaf = ("x" * 100, D("1.5"))
    value = {
        "list": [leaf, {"set": {leaf}}],
        "tuple": (leaf, [leaf]),
        "flat": (1, leaf),
    }
    handed = _core.hold_copy(value)
    handed["list"][1]["set"].add(1)
    handed["list"].append(2)
    handed["tuple"][1].clear()
    handed["new"] = 1
    assert value == {
        "list": [leaf, {"set": {leaf}}], "tuple": (leaf, [leaf]), "flat": (1, leaf)
    }  # fmt: skip
    assert handed["list"][0] is leaf
    assert handed["flat"] is value["flat"]


@pytest.mark.no_sanitizer
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_copies_are_charged_what_they_take() -> None:
    """The charge is honest: what the process grows by is within a quarter of it."""
    script = """
import gc
from cachekit import _core
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def make(i):
    return {"id": i * 1000, "name": f"name {i}", "mail": f"user{i}@example.com",
            "score": i * 0.5, "on": True, "tags": [f"a{i}", f"b{i}"], "none": None,
            "at": (i + 500, f"x{i}"), "more": {"k": f"v{i}"}, "bytes": b"x%d" % i}
held = [_core.hold_copy(make(i)) for i in range(1000)]
gc.collect(); gc.disable()
before, charged = resident(), 0
for i in range(1000, 21000):
    kind, handed, size = _core.hold(make(i))
    held.append(handed)
    charged += size
grown = resident() - before
print(grown, charged)
assert grown <= 1.25 * charged, (grown, charged)
assert charged <= 1.5 * grown, (grown, charged)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shared_singletons_are_free() -> None:
    for value in (
        None,
        True,
        0,
        256,
        -5,
        "",
        "a",
        b"",
        (),
        sys.intern("a_name_of_sorts"),
    ):
        assert _core.sizeof(value) == 0
    assert _core.sizeof(1000) == 32
    assert _core.sizeof("x" * 1000) >= 1000
    assert _core.sizeof([1.5] * 10) >= 10 * 8 + 10 * 24


def test_size_of_what_holds_itself_is_bounded() -> None:
    value: list[Any] = []
    value += [value, value]
    assert _core.sizeof(value) > 0


# ---- care ---------------------------------------------------------------------------


def blocks_grown(work: Any) -> int:
    """Blocks that 600 runs leave behind, beyond what the first ones keep for reuse."""
    for _ in range(30):
        work()
    before = sys.getallocatedblocks()
    for _ in range(600):
        work()
    return sys.getallocatedblocks() - before


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("item", SMALL, ids=name_of)
def test_round_trip_leaks_nothing(item: tuple[Any, Any]) -> None:
    value, returns = item
    data = _core.encode(value, returns)

    def work() -> None:
        _core.decode(_core.encode(value, returns), returns)
        _core.hold_copy(value, returns)
        decode_or_refuse(data[:-1], returns)
        decode_or_refuse(data[:-1] + b"\xc1", returns)

    assert blocks_grown(work) < 400


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("value", REFUSED, ids=name_of)
def test_refusal_leaks_nothing(value: Any) -> None:
    def work() -> None:
        for function in (_core.encode, _core.hold_copy):
            with contextlib.suppress(SerializationError):
                function({"a": [(value,)]})

    assert blocks_grown(work) < 400


def test_containers_may_change_while_they_are_read() -> None:
    """Another thread changes them; any outcome but a crash or a torn copy will do."""
    value: dict[str, Any] = {}
    items: list[Any] = []
    stop = threading.Event()

    def change() -> None:
        chance = random.Random(1)
        while not stop.is_set():
            value[str(chance.randrange(50))] = pathlib.PurePath(str(chance.random()))
            value.pop(str(chance.randrange(50)), None)
            items.append(pathlib.PurePath("x"))
            if len(items) > 40:
                del items[:]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(1500):
            for function in (_core.encode, _core.hold_copy):
                with contextlib.suppress(SerializationError):
                    function({"a": value, "b": items})
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_import_stays_cheap() -> None:
    script = (
        "import sys; from cachekit import _core\n"
        "_core.decode(_core.encode({'a': [1, (2,), {3}, b'', 1.5, None]}))\n"
        "_core.hold_copy({'a': [1]})\n"
        "heavy = {'numpy', 'decimal', 'fractions', 'ipaddress', 'pathlib', 'uuid',\n"
        "         'zoneinfo', 'dataclasses', 'typing', 'datetime', 'asyncio'}\n"
        "bare = set(sys.argv[1].split(','))\n"
        "print(sorted((heavy & set(sys.modules)) - bare))"
    )
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, cachekit; print(','.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, bare], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
