"""Bytes that are never made again: what was stored is read for ever.

`tests/data/golden` holds entries as one process once stored them, and in `index.json`
what they mean. Nothing here writes there. A failure means that a change would make the
caches of all programs that are running cold, or unreadable.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import second_reader
from driver import Driver
from servers import RedisServer
from vault import entries

from cachekit import NEVER, Cache
from cachekit._messages import entry_message, parse, version_message, wake_message

GOLDEN = Path(__file__).parent / "data" / "golden"
INDEX: dict[str, Any] = json.loads((GOLDEN / "index.json").read_text("utf-8"))
CASES = sorted(INDEX["entries"])

#: Where an entry tells when it was made.
CREATED = slice(6, 14)


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def golden(case: str) -> tuple[bytes, dict[str, Any]]:
    return (GOLDEN / f"{case}.bin").read_bytes(), INDEX["entries"][case]


class Named:
    name = "acme.columns"

    def serialize(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def deserialize(self, data: Any) -> Any:
        return json.loads(bytes(data))


def options_of(about: dict[str, Any]) -> dict[str, Any]:
    options = dict(about["options"])
    if options.get("ttl") == "NEVER":
        options["ttl"] = NEVER
    if options.pop("named", False):
        options["serializer"] = Named()
    return options


def function_of(
    cache: Cache, about: dict[str, Any], value: Any, runs: list[int]
) -> Any:
    @cache(name="golden", **options_of(about))
    def function(item: str, n: int = 1) -> Any:
        runs.append(n)
        return value

    return function


def cache_of(driver: Driver, server: RedisServer, about: dict[str, Any]) -> Cache:
    return driver.cache(
        server.url, namespace="shop", l1_enabled=False, master_key=about["master_key"]
    )


@pytest.mark.parametrize("case", CASES)
def test_it_is_read(driver: Driver, redis_server: RedisServer, case: str) -> None:
    """By the function that would store it, under the name it was stored under."""
    data, about = golden(case)
    runs: list[int] = []
    function = function_of(cache_of(driver, redis_server, about), about, None, runs)
    # The expiry that it would have now, had it been made a minute ago.
    created = int.from_bytes(data[CREATED], "little")
    if about["master_key"] and about["total_ms"] is not None:
        late = time.time_ns() // 1_000_000 - created - about["total_ms"]
        if late > 3_600_000:
            pytest.skip("it is authentic and over: test_the_second_reader_reads_it")
    life = () if about["total_ms"] is None else ("PX", about["total_ms"] - 60_000)
    redis_server.call("SET", about["name"], data, *life)
    for name, number in about["versions"].items():
        redis_server.call("SET", name, number)
    assert function("tea") == about["value"] and runs == []


@pytest.mark.parametrize("case", CASES)
def test_the_second_reader_reads_it(case: str) -> None:
    data, about = golden(case)
    entry = second_reader.read(
        data,
        key=about["name"],
        master=about["master_key"],
        tenant=about["options"].get("tenant", "default"),
    )
    value = json.loads(entry.data) if entry.serializer == 255 else entry.value
    assert value == about["value"]
    assert entry.lifetimes[0] == about["total_ms"]
    numbers = [int(number, 16) for number in about["versions"].values()]
    assert [entry.function, entry.namespace, *entry.tags] == numbers


@pytest.mark.parametrize("case", CASES)
def test_it_would_be_written_alike(
    driver: Driver, redis_server: RedisServer, case: str
) -> None:
    """Byte for byte, but for the time, and what chance has chosen."""
    data, about = golden(case)
    cache = cache_of(driver, redis_server, about)
    for name, number in about["versions"].items():
        redis_server.call("SET", name, number)
    assert function_of(cache, about, about["value"], [])("tea") == about["value"]
    ((name, again),) = entries(redis_server).items()
    assert name == about["name"]
    tenant = about["options"].get("tenant", "default")
    secret = {"key": name, "master": about["master_key"], "tenant": tenant}
    old, new = (second_reader.read(one, **secret) for one in (data, again))
    assert comparable(old) == comparable(new)
    if about["master_key"]:
        # What is encrypted differs each time; what is inside and around does not.
        assert len(data) == len(again) and old.nonce != new.nonce
    else:
        sizes = len(old.header)
        assert data[sizes:-8] == again[sizes:-8]


def comparable(entry: second_reader.Entry) -> dict[str, Any]:
    parts = dict(vars(entry))
    header = bytearray(parts.pop("header"))
    header[CREATED] = bytes(8)
    if parts.pop("load_us") is not None:
        at = 42 + 4 * sum(
            parts[name] is not None for name in ("serializer_name", "version", "schema")
        )
        header[at : at + 4] = bytes(4)
    del parts["created"], parts["nonce"]
    return {"header": bytes(header), **parts}


def test_messages() -> None:
    about = INDEX["messages"]
    origin, function = bytes(range(1, 9)), bytes(range(16))
    made = {
        "k": entry_message(origin, function, b"s\x03tea\x81"),
        "d": entry_message(origin, function, bytes(range(32)), b"d"),
        "v": version_message(origin, "shop:v:360d9fd425b1c3dfc58f2531e81ffc06"),
        "w": wake_message(origin, "shop:price:" + 64 * "0"),
    }
    assert {kind: data.hex() for kind, data in made.items()} == about
    for data in map(bytes.fromhex, about.values()):
        assert parse(data) is not None


def test_nothing_is_missing_and_nothing_unknown() -> None:
    files = {path.stem for path in GOLDEN.glob("*.bin")}
    assert files == set(CASES) and len(CASES) >= 8
