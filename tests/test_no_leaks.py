"""No key and no plaintext where they have no business to be.

Everything that leaves the process is collected while encrypted functions do all they
can, and searched: what the server stores, is asked and passes on, what is logged, shown
and raised. Then the memory of a process that has dropped its keys.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from leaks import memory_of
from peers import Peer
from servers import RedisServer
from vault import ALIEN, FORMER, KEY, entries, replace

import cachekit
from cachekit import Cache, CacheConfig
from cachekit._core import Keyring

#: What must not be seen: in an argument, a value, a tag and a name.
ARGUMENT, VALUE, TAG, NAME = (f"very-private-{what}-8812" for what in "avtn")
TENANTS = ("default", "", "blue")


def secrets() -> dict[str, bytes]:
    """All of it, by what it is."""
    found = {what: what.encode() for what in (ARGUMENT, VALUE, TAG, NAME)}
    for which, master in enumerate((KEY, FORMER)):
        found[f"master {which} in hex"] = master.encode()
        found[f"master {which} in capitals"] = master.upper().encode()
        found[f"master {which}"] = bytes.fromhex(master)
        found.update({f"{which}: {k}": v for k, v in derived(master).items()})
    return found


def derived(master: str) -> dict[str, bytes]:
    keys = {}
    for wire in (4, 3):
        ring = Keyring(master, wire=wire)
        for tenant in TENANTS:
            for purpose in ("encryption", "names", "pickle"):
                key = ring.derive(tenant, purpose)
                keys[f"{wire} {tenant} {purpose}"] = key
                keys[f"{wire} {tenant} {purpose} in hex"] = key.hex().encode()
    return keys


def assert_nothing_in(data: bytes, where: str) -> None:
    for what, needle in secrets().items():
        assert needle not in data, f"{what} in {where}"
    # Also written as a list of numbers or with escapes.
    text = data.decode("latin-1")
    for master in (KEY, FORMER):
        raw = bytes.fromhex(master)
        for form in (repr(raw)[2:20], repr(list(raw))[1:20], master[:16], master[-16:]):
            assert form not in text, f"a master key in {where}"


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        self.text.write(self.format(record) + "\n" + repr(vars(record)) + "\n")


@pytest.fixture
def records() -> Iterator[Records]:
    handler, logger = Records(), logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logging.getLogger("cachekit").setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@contextlib.contextmanager
def overhearing(server: RedisServer) -> Iterator[list[bytes]]:
    """All commands that the server gets, and all that is published, as lines."""
    heard: list[bytes] = []
    with server.client() as monitor, server.client() as ear:
        monitor.call("MONITOR")
        ear.call("PSUBSCRIBE", "*")

        def listen() -> None:
            with contextlib.suppress(Exception):
                while b"the end of it" not in (line := monitor._file.readline()):
                    heard.append(unescaped(line))

        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        server.call("PUBLISH", "last", "the end of it")
        while (message := ear.read())[2] != b"last":
            heard.append(b" ".join(message[1:]))
        thread.join(10)


def unescaped(line: bytes) -> bytes:
    """A line of MONITOR with the bytes that it was written for."""
    return line.decode("latin-1").encode().decode("unicode_escape").encode("latin-1")


def everything(driver: Driver, url: str, seen: Callable[[str], None]) -> list[Any]:
    """Every operation, of caches with one key and with two; returns what there was."""
    objects: list[Any] = []
    for step in ((FORMER,), (KEY, FORMER)):
        cache = driver.cache(
            url, master_key=step[0], previous_master_keys=list(step[1:]), tenant="blue"
        )
        works = [
            driver.work(cache, "secure", name="one", tags=[TAG], early_refresh=True),
            driver.work(
                cache, name="two", tags=lambda n: [TAG], tenant=lambda n: "blue"
            ),
            driver.work(cache, name="three", coherence="tracking", fail_closed=True),
            driver.work(cache, name="four", full_key=lambda n: NAME),
        ]
        for work in works:
            work.answer = lambda n: {"value": VALUE, "more": VALUE * 200}
            for strategy in ("REFRESH", "BYPASS", "INVALIDATE"):
                work.using(strategy)(ARGUMENT)
            work(ARGUMENT)
            work.put({"put": VALUE}, ARGUMENT)
            work.peek(ARGUMENT)
            work.refresh(ARGUMENT)
            seen(repr(work.entry(ARGUMENT))[:0] + repr(work.info))
            seen(work.key_for(ARGUMENT))
            work.answer = lambda n: {"value": object(), VALUE: object()}
            work.using("BYPASS")(ARGUMENT)
            work.cached.cache_clear()
            work.invalidate(ARGUMENT)
            work.answer = lambda n: [VALUE]
            work(ARGUMENT)
            objects += [work.cached, work.cached._plan, work.cached._plan.options]
        cache.set(NAME, VALUE)
        cache.get(NAME)
        seen(json.dumps(driver.finish(health(cache, driver)), default=repr))
        objects += [cache, cache.config, works[0].cached._plan.keyring]
        objects += list(cache._stores.values()) + [cache._members]
        if len(step) == 1:
            continue
        works[0].invalidate_all()
        works[0](ARGUMENT)
        cache.invalidate_tags(TAG)
        works[1](ARGUMENT)
        cache.delete(NAME)
        cache.set(NAME, VALUE)
        objects += works[:0]
    return objects


def health(cache: Cache, driver: Driver) -> Any:
    if driver.is_async:
        return cache.adetailed_health_check()
    return cache.detailed_health_check()


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def test_nothing_leaves_the_process(
    driver: Driver, redis_server: RedisServer, records: Records
) -> None:
    shown: list[str] = []
    with overhearing(redis_server) as heard:
        objects = everything(driver, redis_server.url, shown.append)
    assert len(heard) > 100 and entries(redis_server)
    assert_nothing_in(b"\n".join(heard), "what the server was told")
    assert_nothing_in(dump(redis_server), "the server's dump")
    assert_nothing_in("\n".join(shown).encode(), "what is shown")
    assert records.text.getvalue().count("\n") > 10
    logged = records.text.getvalue()
    assert_nothing_in(logged.encode("utf-8", "replace"), "the log")
    for thing in objects:
        for show in (repr, str, ascii):
            assert_nothing_in(show(thing).encode(), f"{show.__name__}(a {type(thing)})")


def dump(server: RedisServer) -> bytes:
    """The whole of the server's data as it saves it, nothing compressed."""
    server.call("CONFIG", "SET", "rdbcompression", "no")
    folder = server.call("CONFIG", "GET", "dir")[1].decode()
    file = server.call("CONFIG", "GET", "dbfilename")[1].decode()
    assert server.call("SAVE") == "OK"
    with open(f"{folder}/{file}", "rb") as saved:
        data = saved.read()
    assert len(data) > 300
    return data


def test_the_same_search_finds_what_is_not_encrypted(
    redis_server: RedisServer,
) -> None:
    """So that the searches above can be believed."""
    driver = Driver()
    with overhearing(redis_server) as heard:
        work = driver.work(
            driver.cache(redis_server.url), tags=[TAG], compress_min=9999
        )
        work.answer = lambda n: [VALUE]
        work(ARGUMENT)
        work.invalidate(ARGUMENT)
        work(ARGUMENT)
    for where, data in (("monitor", b"\n".join(heard)), ("dump", dump(redis_server))):
        for needle in (VALUE, TAG) if where == "dump" else (VALUE, TAG, ARGUMENT):
            assert needle.encode() in data, (needle, where)
    driver.close()


# -- exceptions ------------------------------------------------------------------------


def failing(driver: Driver, server: RedisServer) -> dict[str, Callable[[], object]]:
    cache = driver.cache(server.url, master_key=KEY, previous_master_keys=[FORMER],
                         l1_enabled=False)  # fmt: skip
    closed = driver.work(cache, name="closed", fail_closed=True)
    closed.answer = lambda n: VALUE
    closed(ARGUMENT)
    for name, data in entries(server).items():
        replace(server, name, data[:-1])
    away = driver.cache("redis://127.0.0.1:1", master_key=KEY, fallback_enabled=False)
    gone = driver.work(away)
    misfit = driver.work(cache, on_uncacheable="raise")
    bad = driver.work(cache, tenant=lambda n: 7)
    return {
        "decryption": lambda: closed(ARGUMENT),
        "no store": lambda: gone(ARGUMENT),
        "no entry": lambda: driver.work(cache).using("FRESH")(ARGUMENT),
        "uncacheable": lambda: misfit([ARGUMENT, object()]),
        "tenant": lambda: bad(ARGUMENT),
        "unencodable": lambda: cache.set(NAME, [VALUE, object()]),
        "pickled ring": lambda: closed.cached._plan.keyring.__reduce__(),
        "too many": lambda: CacheConfig(previous_master_keys=[KEY] * 4),
        "not hex": lambda: CacheConfig(previous_master_keys=[KEY, KEY[:-1] + "x"]),
        "twice": lambda: Keyring(KEY, [KEY[:-1] + "x"]),
        "odd type": lambda: Keyring(KEY, KEY),
        "keyword": lambda: CacheConfig(master_keys=KEY),
        "option": lambda: cache(master_keys=KEY),
    }


@pytest.mark.parametrize(
    "case",
    ["decryption", "no store", "no entry", "uncacheable", "tenant", "unencodable"]
    + ["pickled ring", "too many", "not hex", "twice", "odd type", "keyword", "option"],
)
def test_no_exception_tells(
    driver: Driver, redis_server: RedisServer, records: Records, case: str
) -> None:
    job = failing(driver, redis_server)[case]
    with pytest.raises(Exception) as caught:
        job()
    error: BaseException | None = caught.value
    told = ["".join(traceback.format_exception(caught.value))]
    while error is not None:
        told += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    # The source lines of this file name the constants, not what they hold.
    assert_nothing_in("\n".join(told).encode(), f"the exception of {case!r}")
    assert_nothing_in(records.text.getvalue().encode(), "the log")


def test_options_and_configurations_show_no_key() -> None:
    config = CacheConfig(master_key=KEY, previous_master_keys=[FORMER])
    options = cachekit._options.FunctionOptions.of("", {"master_key": ALIEN})
    for thing in (config, options, config.replace(default_ttl=5)):
        assert_nothing_in(repr(thing).encode(), "repr")
        assert ALIEN not in repr(thing)


# -- memory ----------------------------------------------------------------------------


class Owner:
    """A process that uses keys and lets go of them. It gets them in a form that the
    search does not look for, and looks for them in a form that is not the keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cache: Any = None
        self.work: Any = None

    def use(self, swapped: list[str]) -> None:
        keys = [bytes(b ^ 0x5A for b in bytes.fromhex(key)).hex() for key in swapped]
        config = CacheConfig(
            namespace="test", master_key=keys[0], previous_master_keys=keys[1:]
        )
        self.cache = Cache(config, backend=self.url)
        self.work = self.cache(name="dropped", tags=["t"])(lambda n: [n])
        blue = self.cache(name="blue", tenant=lambda n: "blue")(lambda n: [n])
        for n in range(50):
            self.work(n), blue(n), self.work(n), blue(n)
        self.work.invalidate_all()
        self.cache.invalidate_tags("t")
        self.work(1)

    def drop(self) -> None:
        self.cache.close()
        self.cache = self.work = None
        gc.collect()


@pytest.mark.no_sanitizer
def test_keys_are_wiped_when_they_are_dropped(redis_server: RedisServer) -> None:
    """The digits that a program writes its key with are that program's; the key itself,
    and all that is made of it, is in memory once, and then not at all."""
    import os

    masters = [os.urandom(32).hex() for _ in range(2)]
    swapped = [bytes(b ^ 0x5A for b in bytes.fromhex(key)).hex() for key in masters]
    with Peer(lambda: Owner(redis_server.url)) as peer:
        # Made after the fork: that process has never held them.
        needles = {}
        for which, master in enumerate(masters):
            needles[f"master {which}"] = bytes.fromhex(master)
            for what, key in derived(master).items():
                if not what.endswith("hex"):
                    needles[f"master {which}, {what}"] = key
        peer.call("use", swapped)
        before = found(peer.pid, needles)
        assert "master 0" in before and "master 0, 4 default encryption" in before
        peer.call("drop")
        assert found(peer.pid, needles) == set()


def found(pid: int, needles: dict[str, bytes]) -> set[str]:
    regions = memory_of(pid)
    return {
        what for what, key in needles.items() if any(key in data for data in regions)
    }
