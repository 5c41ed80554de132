"""What is stored in a real Redis is what docs/wire-format.md says.

The reader knows the page and nothing else (`second_reader`); what it makes of entries,
names and messages is what went in.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import second_reader
from driver import Driver
from second_reader import Corrupt, Entry, NotOurs, entry_key, read, version_digits
from servers import RedisServer
from vault import FORMER, KEY, entries, the_entry

from cachekit import NEVER

PAGE = Path(__file__).parent.parent / "docs" / "wire-format.md"


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


SECRETS = pytest.mark.parametrize("master", [None, KEY], ids=["plain", "encrypted"])


def stored(
    driver: Driver, server: RedisServer, value: Any, master: str | None, **options: Any
) -> Entry:
    cache = driver.cache(server.url, master_key=master, l1_enabled=False)
    work = driver.work(cache, **options)
    work.answer = lambda n: value
    work(1)
    name, data = the_entry(server)
    return read(data, key=name, master=master)


# -- entries ---------------------------------------------------------------------------

VALUES = [None, 7, -1.5, "ä", b"\0\1", [1, [2]], {"id": 42}, {"long": "x" * 5000}]


@SECRETS
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values(
    driver: Driver, redis_server: RedisServer, value: Any, master: str | None
) -> None:
    entry = stored(driver, redis_server, value, master)
    assert entry.value == value
    assert (entry.raw_length is not None) is (value == VALUES[-1])
    assert entry.serializer == 0 and entry.load_us is not None


@SECRETS
def test_times(driver: Driver, redis_server: RedisServer, master: str | None) -> None:
    before = time.time_ns() // 1_000_000
    entry = stored(driver, redis_server, 1, master, ttl=60, stale_ttl=30)
    assert before <= entry.created <= time.time_ns() // 1_000_000
    assert entry.lifetimes == (90_000, 60_000, 30_000)


@SECRETS
def test_times_without_an_end(
    driver: Driver, redis_server: RedisServer, master: str | None
) -> None:
    entry = stored(driver, redis_server, 1, master, ttl=NEVER)
    assert entry.lifetimes == (None, None, 0)


@SECRETS
def test_times_of_years(
    driver: Driver, redis_server: RedisServer, master: str | None
) -> None:
    entry = stored(driver, redis_server, 1, master, ttl=86400.0 * 365)
    assert entry.lifetimes == (86_400_000 * 365, 86_400_000 * 365, 0)


@SECRETS
def test_versions_and_tags(
    driver: Driver, redis_server: RedisServer, master: str | None
) -> None:
    entry = stored(
        driver, redis_server, 1, master,
        name="tagged", tags=["b c", "a"], version=9, schema=dict[str, int],
    )  # fmt: skip
    assert entry.version == 9 and entry.schema is not None

    def number(key: str) -> int:
        return int(redis_server.call("GET", key), 16)

    identity = second_reader.canonical(("tagged",))
    own = version_digits("fn", b"test:tagged:", identity, master=master)
    assert entry.function == number(f"test:tagged:v:{own}")
    assert entry.namespace == number("test:v:" + version_digits("space", b"test"))
    for tag, seen in zip(("a", "b c"), entry.tags, strict=True):
        digits = version_digits("tag", b"test", tag.encode(), master=master)
        readable = "" if master else tag.replace(" ", "_") + ":"
        assert seen == number(f"test:tag:{readable}{digits}")


class Named:
    name = "acme.columns"

    def serialize(self, value: Any) -> bytes:
        return repr(value).encode()

    def deserialize(self, data: Any) -> Any:
        return eval(bytes(data))


@SECRETS
def test_other_serializers(
    driver: Driver, redis_server: RedisServer, master: str | None
) -> None:
    import xxhash

    entry = stored(driver, redis_server, [1, 2], master, serializer=Named())
    assert entry.serializer == 255 and entry.data == b"[1, 2]"
    assert (
        entry.serializer_name == xxhash.xxh3_64_intdigest(b"acme.columns") & 0xFFFFFFFF
    )


# -- names -----------------------------------------------------------------------------

ARGUMENTS = [
    None, True, False, 0, 127, 128, -1, -129, 1 << 40, 0.5, "", "tea", "ÿ", "ж",
    "\U0001f375", "t" * 200, b"", b"bytes", (), (1, "a", [2.0]),
]  # fmt: skip


@SECRETS
@pytest.mark.parametrize("tenant", ["default", "blue"])
@pytest.mark.parametrize("per_call", [False, True], ids=["one", "each call"])
def test_names(driver: Driver, master: str | None, tenant: str, per_call: bool) -> None:
    cache = driver.cache(None, master_key=master)

    @cache(name="price", tenant=(lambda item, n=1: tenant) if per_call else tenant)
    def price(item: Any, n: int = 1) -> int:
        return n

    for argument in ARGUMENTS:
        expected = entry_key(
            "test", "price", (argument, 1),
            master=master, tenant=tenant,
        )  # fmt: skip
        assert price.key_for(argument) == expected


def test_entries_of_tenants_are_read_by_their_keys(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY, l1_enabled=False)
    driver.work(cache, name="price", tenant="blue")(1)
    name = entry_key("test", "price", (1,), master=KEY, tenant="blue")
    data = entries(redis_server)[name]
    assert read(data, key=name, master=KEY, tenant="blue").value == {"n": 1, "run": 1}
    for wrong in ({"tenant": "green"}, {"key": name + "0"}, {"master": FORMER}):
        with pytest.raises(Corrupt):
            read(data, **{"key": name, "master": KEY, "tenant": "blue", **wrong})


# -- hostile ---------------------------------------------------------------------------


@SECRETS
def test_it_refuses_what_is_changed(
    driver: Driver, redis_server: RedisServer, master: str | None
) -> None:
    stored(driver, redis_server, {"a": "x" * 50}, master, tags=["t"], version=1)
    name, data = the_entry(redis_server)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :]
        with pytest.raises((Corrupt, NotOurs)):
            read(changed, key=name, master=master)
        with pytest.raises((Corrupt, NotOurs)):
            read(data[:at], key=name, master=master)


# -- the page --------------------------------------------------------------------------


def examples() -> list[bytes]:
    """The entries and messages that the page writes out."""
    found = []
    for block in re.findall(
        r"^```\w*\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S
    ):
        data = b""
        for line in block.splitlines():
            digits = re.match(r"((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", line)
            data += bytes.fromhex(digits[1]) if digits else b""
        found += [data] if len(data) > 20 else []
    return found


def test_the_examples_of_the_page() -> None:
    plain, full, compressed, encrypted, message = examples()
    first = read(plain)
    assert first.value == {"id": 42} and first.created == 1_700_000_000_000
    assert first.lifetimes == (3_600_000, 3_600_000, 0)
    # The second is no block of LZ4: up to there it is fine.
    with pytest.raises(Corrupt, match="block|length|cut"):
        read(full)
    assert read(compressed).value == {"text": "tea " * 25}
    name = entry_key("shop", "price", ("tea",), master=KEY_OF_THE_PAGE)
    assert name in PAGE.read_text("utf-8")
    secret = read(encrypted, key=name, master=KEY_OF_THE_PAGE)
    assert secret.value == {"id": 42} and secret.nonce == bytes(range(12))
    assert message[:4] == b"CKI\x01" and struct.unpack("8s", message[4:12])


KEY_OF_THE_PAGE = bytes(range(32)).hex()
