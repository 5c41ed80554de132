"""What somebody who can write to the store can do to an entry: nothing but remove it.

Every entry here is the real one, taken from a real Redis and put back changed. The
value that the function returned is never seen again: a run makes a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from servers import RedisServer
from vault import ALIEN, FORMER, KEY, entries, replace, the_entry

from cachekit import Cache, DecryptionError, Invalidation
from cachekit._core import Keyring

#: Bytes of the header of an entry that has no more than it must.
HEADER = 42 + 4 + 16


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def changed_in_one_byte(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bits in (0x01, 0x80, 0xFF):
            yield data[:at] + bytes((data[at] ^ bits,)) + data[at + 1 :]


def cut_or_extended(data: bytes) -> Iterator[bytes]:
    for size in range(len(data)):
        yield data[:size]
    for more in (b"\0", b"\xff", data[-1:], data, bytes(100)):
        yield data + more
    yield b"\0" + data


# -- one byte --------------------------------------------------------------------------

SECRETS = pytest.mark.parametrize(
    "config", [{}, {"master_key": KEY}], ids=["plain", "encrypted"]
)


@SECRETS
@pytest.mark.parametrize("how", [changed_in_one_byte, cut_or_extended])
def test_a_changed_entry_is_never_a_value(
    redis_server: RedisServer, config: dict[str, Any], how: Any
) -> None:
    """Also with every optional field, and with a payload that is compressed."""
    driver = Driver()
    cache = driver.cache(redis_server.url, l1_enabled=False, compress_min=64, **config)
    work = driver.work(cache, ttl=600, version=3, schema=dict[str, int], tags=["t"])
    work.answer = lambda n: {"secret": "s" * 90, "run": work.runs}
    work(1)
    name, data = the_entry(redis_server)
    for changed in how(data):
        replace(redis_server, name, changed)
        runs = work.runs
        assert work(1)["run"] == runs + 1, changed.hex()
        redis_server.call("DEL", "{" + name + "}:f")
    driver.close()


@SECRETS
def test_a_damaged_entry_is_evicted_counted_and_logged(
    driver: Driver,
    redis_server: RedisServer,
    config: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = driver.cache(redis_server.url, l1_enabled=False, **config)
    work = driver.work(cache)
    work(1)
    name, data = the_entry(redis_server)
    replace(redis_server, name, data[:-1] + bytes((data[-1] ^ 1,)))
    work.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        work(1)
    assert entries(redis_server) == {}, "it was left in the store"
    assert any("damaged" in text for text in caplog.messages)
    work.error = None
    assert work(1)["run"] == 3 and work(1)["run"] == 3


# -- fail_closed -----------------------------------------------------------------------


def closed(driver: Driver, url: str, **options: Any) -> Any:
    cache = driver.cache(url, master_key=KEY, l1_enabled=False)
    return driver.work(cache, fail_closed=True, **options)


def refused(job: Callable[[], object]) -> DecryptionError:
    with pytest.raises(DecryptionError) as caught:
        job()
    assert caught.value.code == "E003"
    return caught.value


def test_every_changed_byte_is_an_error_where_it_fails_closed(
    redis_server: RedisServer,
) -> None:
    """But for a version that is not ours: that one is unknown, not changed."""
    driver = Driver()
    work = closed(driver, redis_server.url)
    work(1)
    name, data = the_entry(redis_server)
    errors = misses = 0
    for changed in changed_in_one_byte(data):
        replace(redis_server, name, changed)
        try:
            value = work(1)
        except DecryptionError:
            errors += 1
        else:
            assert value["run"] == work.runs
            misses += 1
        redis_server.call("DEL", "{" + name + "}:f")
    assert misses <= 3 * 6, f"{misses} changes were no error"
    assert errors >= 3 * (len(data) - 6)
    driver.close()


def test_fail_closed_evicts_and_the_next_call_computes(
    driver: Driver, redis_server: RedisServer
) -> None:
    work = closed(driver, redis_server.url)
    work(1)
    name, data = the_entry(redis_server)
    replace(redis_server, name, data[:-1])
    error = refused(lambda: work(1))
    assert work.runs == 1, "the function ran for a caller that got an error"
    assert "Decryption failed" in str(error)
    assert entries(redis_server) == {}
    assert work(1)["run"] == 2 and work(1)["run"] == 2


def test_fail_closed_by_the_configuration_and_the_function_over_it(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(
        redis_server.url,
        master_key=KEY,
        encryption_fail_closed=True,
        l1_enabled=False,
    )
    strict, lax = driver.work(cache), driver.work(cache, fail_closed=False)
    strict(1), lax(1)
    for name, data in entries(redis_server).items():
        replace(redis_server, name, data[:-1])
    refused(lambda: strict(1))
    assert lax(1)["run"] == 2


@pytest.mark.parametrize("strategy", ["FRESH", "REFRESH"])
def test_fail_closed_by_strategy(
    driver: Driver, redis_server: RedisServer, strategy: str
) -> None:
    work = closed(driver, redis_server.url)
    work(1)
    name, data = the_entry(redis_server)
    replace(redis_server, name, data[:-1])
    refused(lambda: work.using(strategy)(1))


@pytest.mark.parametrize("strategy", ["BYPASS", "INVALIDATE"])
def test_strategies_that_do_not_read_do_not_fail(
    driver: Driver, redis_server: RedisServer, strategy: str
) -> None:
    work = closed(driver, redis_server.url)
    work(1)
    name, data = the_entry(redis_server)
    replace(redis_server, name, data[:-1])
    assert work.using(strategy)(1)["run"] == 2


def test_followers_of_a_refused_read_are_refused_too(
    redis_server: RedisServer,
) -> None:
    from together import in_threads

    driver = Driver()
    work = closed(driver, redis_server.url)
    work(1)
    name, data = the_entry(redis_server)
    for _ in range(20):
        replace(redis_server, name, data[:-1])
        results = in_threads(4, lambda: work(1))
        for result in results:
            assert isinstance(result, DecryptionError) or result["run"] > 1
        assert any(isinstance(result, DecryptionError) for result in results)
    driver.close()


# -- moved, swapped, downgraded --------------------------------------------------------

MODES = pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])


def gone(work: Any, n: int, closed: bool) -> None:
    """The entry in the store is no value: a run, or an error."""
    if closed:
        refused(lambda: work(n))
    runs = work.runs
    assert work(n)["run"] == runs + 1


@pytest.fixture
def cache(driver: Driver, redis_server: RedisServer) -> Cache:
    return driver.cache(redis_server.url, master_key=KEY, l1_enabled=False)


def stored_by(server: RedisServer, job: Callable[[], object]) -> tuple[str, bytes]:
    """What entry a call adds."""
    before = entries(server)
    job()
    after = entries(server)
    ((name, data),) = [item for item in after.items() if item[0] not in before]
    return name, data


@MODES
def test_two_entries_that_are_swapped(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool
) -> None:
    work = driver.work(cache, fail_closed=closed)
    one, first = stored_by(redis_server, lambda: work(1))
    two, second = stored_by(redis_server, lambda: work(2))
    replace(redis_server, one, second)
    replace(redis_server, two, first)
    gone(work, 1, closed)
    gone(work, 2, closed)


@MODES
def test_entries_of_two_functions_that_are_swapped(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool
) -> None:
    here = driver.work(cache, fail_closed=closed)
    there = driver.work(cache, fail_closed=closed)
    one, first = stored_by(redis_server, lambda: here(1))
    two, second = stored_by(redis_server, lambda: there(1))
    replace(redis_server, one, second)
    replace(redis_server, two, first)
    gone(here, 1, closed)
    gone(there, 1, closed)


@MODES
@pytest.mark.parametrize("what", ["tenant", "namespace"])
def test_entries_of_two_tenants_or_namespaces_that_are_swapped(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool, what: str
) -> None:
    name = f"shared{closed}{what}"
    here = driver.work(cache, fail_closed=closed, name=name, **{what: "blue"})
    there = driver.work(cache, fail_closed=closed, name=name, **{what: "green"})
    one, first = stored_by(redis_server, lambda: here(1))
    two, second = stored_by(redis_server, lambda: there(1))
    replace(redis_server, one, second)
    replace(redis_server, two, first)
    gone(here, 1, closed)
    gone(there, 1, closed)


@MODES
def test_an_entry_under_another_master_key(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool
) -> None:
    work = driver.work(cache, fail_closed=closed, name="mine")
    alien = driver.work(cache, master_key=ALIEN, name="mine")
    one, _ = stored_by(redis_server, lambda: work(1))
    _, theirs = stored_by(redis_server, lambda: alien(1))
    replace(redis_server, one, theirs)
    gone(work, 1, closed)


@MODES
@pytest.mark.parametrize("previous", [(), (FORMER,)], ids=["one key", "rotating"])
def test_a_plain_entry_under_a_function_that_encrypts(
    driver: Driver,
    redis_server: RedisServer,
    closed: bool,
    previous: tuple[str, ...],
) -> None:
    """The attacker knows the frame, and the version numbers, which are in the store."""
    plain = driver.cache(redis_server.url, l1_enabled=False)
    made = driver.work(plain, name="downgraded")
    made.answer = lambda n: "chosen by the attacker"
    cache = driver.cache(
        redis_server.url,
        master_key=KEY,
        previous_master_keys=previous,
        l1_enabled=False,
    )
    work = driver.work(cache, name="downgraded", fail_closed=closed)
    names = [work.cached._store_key(work.cached._key(1), which)
             for which in range(1 + len(previous))]  # fmt: skip
    work(1)
    _, theirs = stored_by(redis_server, lambda: made(1))
    ours = redis_server.call("GET", names[0])
    # The numbers of the encrypted function, and a check that holds.
    for forged in (theirs, with_numbers_of(theirs, ours)):
        for name in names:
            redis_server.call("DEL", *names)
            redis_server.call("SET", name, forged, "PX", 3_600_000)
            gone(work, 1, closed)


def with_numbers_of(plain: bytes, encrypted: bytes) -> bytes:
    """A plain entry that carries what the header of an encrypted one tells."""
    from second_reader import check_of

    body = plain[:5] + encrypted[5:42] + plain[42:-8]
    return body + check_of(body)


@MODES
def test_a_flag_that_says_plain(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool
) -> None:
    """The flags of encryption cleared, and a check that holds, over the ciphertext."""
    from second_reader import check_of

    work = driver.work(cache, fail_closed=closed)
    work(1)
    name, data = the_entry(redis_server)
    body = data[:3] + bytes((data[3] & 0x7F, data[4] & 0x7F)) + data[5:]
    replace(redis_server, name, body + check_of(body))
    gone(work, 1, closed)


# -- old entries -----------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("how", ["function", "tag", "namespace"])
def test_an_authentic_entry_under_an_old_version_is_a_plain_miss(
    driver: Driver, cache: Cache, redis_server: RedisServer, closed: bool, how: str
) -> None:
    work = driver.work(cache, fail_closed=closed, tags=["tag"])
    work(1)
    name, data = the_entry(redis_server)
    if how == "function":
        assert work.invalidate_all() is Invalidation.DELIVERED
    elif how == "tag":
        assert cache.invalidate_tags("tag") is Invalidation.DELIVERED
    else:
        assert cache.clear() is Invalidation.DELIVERED
    assert work(1)["run"] == 2
    redis_server.call("SET", name, data, "PX", 3_600_000)
    assert work(1)["run"] == 3, "an entry from before the invalidation"


def test_what_is_put_back_after_invalidating_one_entry_is_served(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    """Said in docs/encryption.md: one entry has no version key of its own."""
    work = driver.work(cache, fail_closed=True)
    work(1)
    name, data = the_entry(redis_server)
    work.invalidate(1)
    redis_server.call("SET", name, data, "PX", 60_000)
    assert work(1)["run"] == 1


def test_an_entry_that_is_put_back_is_not_kept_for_ever(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    """Whoever sets the expiry anew gains the lifetime in its header and an hour."""
    work = driver.work(cache, fail_closed=True, ttl=60)
    work(1)
    name, data = the_entry(redis_server)
    for hours, served in ((0.9, True), (1.1, False)):
        redis_server.call("SET", name, aged(data, name, hours), "PX", 60_000)
        assert (work(1)["run"] == 1) is served
        redis_server.call("DEL", "{" + name + "}:f")


def aged(data: bytes, name: str, hours: float) -> bytes:
    """The same entry, made so long ago by somebody who has the key."""
    keyring = Keyring(KEY)
    header, sealed = data[:HEADER], data[HEADER:]
    plain = keyring.open("default", name, header, sealed)
    created = int.from_bytes(header[6:14], "little") - round(hours * 3_600_000)
    header = header[:6] + created.to_bytes(8, "little") + header[14:]
    return header + keyring.seal("default", name, header, plain)


def test_an_entry_that_is_removed_is_computed_again(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    work = driver.work(cache, fail_closed=True)
    work(1)
    redis_server.call("FLUSHALL")
    assert work(1)["run"] == 2


def test_version_keys_that_are_put_back_bring_their_entries_back(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    """Said in docs/encryption.md: numbers in the store are not secret."""
    work = driver.work(cache, fail_closed=True)
    work(1)
    saved = {
        name: redis_server.call("GET", name) for name in redis_server.call("KEYS", "*")
    }
    work.invalidate_all()
    redis_server.call("FLUSHALL")
    for name, data in saved.items():
        redis_server.call("SET", name, data, "PX", 60_000)
    assert work(1)["run"] == 1


# -- what he can do --------------------------------------------------------------------


def test_a_lock_that_is_not_given_back_delays_and_no_more(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    work = driver.work(cache, distributed_lock=True, single_flight_timeout=0.2)
    redis_server.call("SET", "{" + work.key_for(1) + "}:l", "a" * 16)
    assert work(1)["run"] == 1
    assert work(1)["run"] <= 2


def test_a_header_of_a_later_version_keeps_ours_out_and_no_more(
    driver: Driver, cache: Cache, redis_server: RedisServer
) -> None:
    """Of an entry that stands in the way only the header is looked at."""
    work = driver.work(cache, version=1)
    work(1)
    name, data = the_entry(redis_server)
    forged = data[:42] + (2).to_bytes(4, "little") + data[46:]
    for run in (2, 3):
        replace(redis_server, name, forged)
        assert work.refresh(1)["run"] == run
