"""Switching encryption on and off, and what is said about keys that are none."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver, each_driver  # noqa: F401
from servers import RedisServer
from vault import ALIEN, KEY, entries, the_entry

from cachekit import (
    Cache,
    CacheConfig,
    CacheKitError,
    ConfigurationError,
    DecryptionError,
    cache,
)

E001 = "CACHEKIT_MASTER_KEY environment variable must be set"
E002 = "CACHEKIT_MASTER_KEY must be hex-encoded, minimum 32 bytes"
E003 = "Decryption failed: authentication tag verification failed"

SHORT = "c0ffee" * 10  # 30 bytes
BAD_KEYS = [
    pytest.param(SHORT, id="short"),
    pytest.param(KEY[:-1], id="odd"),
    pytest.param("not-hexadecimal!" * 5, id="text"),
    pytest.param(KEY[:-1] + "g", id="one letter"),
    pytest.param("0x" + KEY, id="prefix"),
    pytest.param("\uff11" * 64, id="other digits"),
]


@pytest.fixture
def driver(each_driver: Driver) -> Driver:  # noqa: F811
    return each_driver


def is_encrypted(data: bytes) -> bool:
    return bool(data[3] & 0x80 and data[4] & 0x80)


def failure_of(job: Callable[[], object]) -> CacheKitError:
    with pytest.raises(CacheKitError) as caught:
        job()
    return caught.value


def everything_told(error: BaseException) -> str:
    told = [str(error), repr(error), repr(error.args), repr(vars(error))]
    told.append(pickle.dumps(error).decode("latin-1"))
    told += traceback.TracebackException.from_exception(
        error, capture_locals=False
    ).format()
    return "\n".join(told)


# -- E001 ------------------------------------------------------------------------------


def test_secure_without_a_key_is_e001_at_decoration() -> None:
    error = failure_of(lambda: cache.secure(lambda: 1))
    assert type(error) is ConfigurationError
    assert (error.code, error.message) == ("E001", E001)
    assert error.hint and "openssl rand -hex 32" in error.hint
    assert str(error) == f"E001: {E001}. {error.hint}"


def test_secure_with_options_is_e001_where_it_is_written() -> None:
    assert failure_of(lambda: cache.secure(ttl=60)).code == "E001"
    assert failure_of(lambda: cache(encryption=True)).code == "E001"
    assert failure_of(lambda: Cache(backend=None).secure(ttl=60)).code == "E001"


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", " ")
    assert failure_of(lambda: cache.secure(lambda: 1)).code == "E001"


# -- E002 ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_secure_with_a_bad_key_is_e002_at_decoration(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", bad)
    error = failure_of(lambda: cache.secure(lambda: 1))
    assert type(error) is ConfigurationError
    assert (error.code, error.message) == ("E002", E002)
    assert error.hint and str(error) == f"E002: {E002}. {error.hint}"
    assert bad not in everything_told(error)


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_bad_key_in_the_environment_is_e002_at_the_first_use(
    bad: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", bad)
    work = Cache(backend=None)(lambda n: n)
    for _ in range(2):
        error = failure_of(lambda: work(1))
        assert (error.code, error.message) == ("E002", E002)
        assert bad not in everything_told(error)
    assert bad not in caplog.text


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_a_bad_key_in_code_is_e002(bad: str) -> None:
    for job in (
        lambda: CacheConfig(master_key=bad),
        lambda: Cache(backend=None)(master_key=bad),
        lambda: Cache(backend=None).secure(master_key=bad),
    ):
        error = failure_of(job)
        assert (error.code, error.message) == ("E002", E002)
        assert bad not in everything_told(error)


@pytest.mark.parametrize("given", ["short", "four", "one bad"])
def test_bad_former_keys_are_refused_without_their_text(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"short": SHORT, "four": ",".join([ALIEN] * 4), "one bad": f"{ALIEN},x{KEY}"}
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", bad[given])
    error = failure_of(lambda: Cache(backend=None)(lambda n: n)(1))
    assert type(error) is ConfigurationError
    assert "CACHEKIT_PREVIOUS_MASTER_KEYS" in str(error)
    told = everything_told(error)
    assert not any(part in told for part in (SHORT, ALIEN, KEY))


def test_former_keys_without_a_current_one_encrypt_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", KEY)
    assert failure_of(lambda: cache.secure(lambda: 1)).code == "E001"


def test_e003_has_its_sentence_and_a_way_out() -> None:
    error = DecryptionError()
    assert (error.code, error.message) == ("E003", E003)
    assert error.hint and str(error) == f"E003: {E003}. {error.hint}"


# -- on and off ------------------------------------------------------------------------


def test_a_key_in_the_environment_encrypts_every_function(
    driver: Driver, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    cache = driver.cache(redis_server.url)
    for preset in ("", "minimal", "production", "secure"):
        work = driver.work(cache, preset)
        assert work(1) == work(1) == {"n": 1, "run": 1}
    stored = entries(redis_server)
    assert len(stored) == 4 and all(map(is_encrypted, stored.values()))


def test_a_function_opts_out(
    driver: Driver, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    cache = driver.cache(redis_server.url)
    work = driver.work(cache, encryption=False)
    work(1)
    assert not is_encrypted(the_entry(redis_server)[1])


def test_a_key_of_the_function_goes_before_the_configuration(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY, l1_enabled=False)
    first = driver.work(cache, name="one")
    assert first(1)["run"] == 1
    name, _ = the_entry(redis_server)
    other = driver.cache(redis_server.url, l1_enabled=False)
    same = driver.work(other, name="one", master_key=KEY)
    assert same(1)["run"] == 1 and same.runs == 0
    apart = driver.work(driver.cache(redis_server.url), name="one", master_key=ALIEN)
    apart(1)
    assert apart.runs == 1 and len(entries(redis_server)) == 2
    assert name in entries(redis_server)


def test_no_key_no_encryption(driver: Driver, redis_server: RedisServer) -> None:
    work = driver.work(driver.cache(redis_server.url))
    work(1)
    assert not is_encrypted(the_entry(redis_server)[1])


def test_the_case_of_the_digits_makes_no_other_key(
    driver: Driver, redis_server: RedisServer
) -> None:
    for key in (KEY.lower(), KEY.upper()):
        cache = driver.cache(redis_server.url, master_key=key)
        assert driver.work(cache, name="case")(1)["run"] == 1
    assert len(entries(redis_server)) == 1


def test_longer_keys_are_used_to_the_last_digit(
    driver: Driver, redis_server: RedisServer
) -> None:
    for key in (KEY + "00", KEY + "01"):
        cache = driver.cache(redis_server.url, master_key=key)
        driver.work(cache, name="long")(1)
    assert len(entries(redis_server)) == 2


def test_secure_is_production_with_encryption() -> None:
    cache = Cache(CacheConfig(master_key=KEY), backend=None)
    secure, production = cache.secure(lambda n: n), cache.production(lambda n: n)
    secure(1), production(1)
    ours, theirs = secure._plan.options, production._plan.options
    for name in ("distributed_lock", "ttl_jitter", "serve_stale_on_error"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.encryption is True and secure._plan.keyring is not None


def test_secure_refuses_references_and_opting_out() -> None:
    cache = Cache(CacheConfig(master_key=KEY), backend=None)
    with pytest.raises((TypeError, ValueError)):
        cache.secure(encryption=False)(lambda n: n)(1)
    with pytest.raises(TypeError):
        cache.secure(references=True)


def test_local_is_never_encrypted_and_says_so() -> None:
    cache = Cache(CacheConfig(master_key=KEY), backend=None)
    value = object()
    local = cache.local(lambda n: value)
    assert local(1) is local(1) is value
    assert local._plan.keyring is None
    assert "encrypt" in (Cache.local.__doc__ or "")
    with pytest.raises(TypeError, match="encryption"):
        cache.local(encryption=True)


def test_named_entries_are_encrypted_too(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY)
    prefix = "a" if driver.is_async else ""
    driver.finish(getattr(cache, prefix + "set")("name", "the value"))
    _, data = the_entry(redis_server)
    assert is_encrypted(data)
    assert driver.finish(getattr(cache, prefix + "get")("name")) == "the value"
    driver.finish(getattr(cache, prefix + "delete")("name"))
    assert entries(redis_server) == {}


def test_a_whole_key_is_shared_with_named_entries(
    driver: Driver, redis_server: RedisServer
) -> None:
    cache = driver.cache(redis_server.url, master_key=KEY)
    work = driver.work(cache, full_key=lambda n: f"number {n}")
    assert work(1)["run"] == 1
    assert cache.get("number 1") == {"n": 1, "run": 1}


def test_debug_records_of_encrypted_functions_are_made(
    driver: Driver, redis_server: RedisServer
) -> None:
    logger = logging.getLogger("cachekit")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    work = driver.work(driver.cache(redis_server.url, master_key=KEY))
    work(1)
    assert stream.getvalue()


def test_threads_that_come_first_together_get_one_keyring() -> None:
    cache = Cache(CacheConfig(master_key=KEY), backend=None)
    rings: set[Any] = set()
    for _ in range(3):
        work = cache(lambda n: n)
        work(1)
        rings.add(id(work._plan.keyring))
    assert len(rings) == 1
