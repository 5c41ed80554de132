# SPDX-License-Identifier: MIT
"""CacheConfig: its table, the environment, the order of layers, Redis URLs."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from cachekit import _config_page, _logging
from cachekit._checks import mask_url
from cachekit._config import FIELDS, CacheConfig
from cachekit._errors import ConfigurationError, NotBuiltYet
from cachekit._types import NEVER
from cachekit.backends._url import operation_timeout, parse_redis_url, redis_settings

ROOT = Path(__file__).resolve().parent.parent
KEY = "ab" * 32
OTHER_KEY = "cd" * 32
SECRET = "hunter2"
BY_NAME = {field.name: field for field in FIELDS}

# For every field: a value in code, the text of its variable, what both become.
GIVEN = {
    "redis_url": ("redis://h:1/2", "redis://h:1/2", "redis://h:1/2"),
    "memcached_servers": (["a:1", "b:2"], "a:1, b:2", ("a:1", "b:2")),
    "file_cache_dir": ("/tmp/x", "/tmp/x", "/tmp/x"),
    "enabled": (False, "off", False),
    "namespace": ("shop", "shop", "shop"),
    "default_ttl": (60, "60", 60.0),
    "ttl_jitter": (0.25, "0.25", 0.25),
    "l1_enabled": (False, "no", False),
    "l1_max_size_mb": (7, "7", 7.0),
    "l1_max_entries": (10, "10", 10),
    "l1_ttl": (5, "5", 5.0),
    "fallback_enabled": (False, "0", False),
    "enable_circuit_breaker": (False, "FALSE", False),
    "circuit_breaker_failure_threshold": (2, "2", 2),
    "circuit_breaker_timeout": (9, "9", 9.0),
    "circuit_breaker_success_threshold": (3, "3", 3),
    "circuit_breaker_half_open_requests": (4, "4", 4),
    "connection_retries": (0, "0", 0),
    "retry_delay": (0, "0", 0.0),
    "socket_timeout": (5.0, "5.0", 5.0),
    "socket_connect_timeout": (0.5, "0.5", 0.5),
    "connection_pool_size": (3, "3", 3),
    "pool_timeout": (0.2, "0.2", 0.2),
    "connection_pool_kwargs": ({"socket_keepalive": True},) * 3,
    "async_connections": (2, "2", 2),
    "max_concurrent_requests": (50, "50", 50),
    "compress_min": (0, "0", 0),
    "max_value_size": (1000, "1000", 1000),
    "master_key": (KEY, KEY, KEY),
    "previous_master_keys": ([KEY, OTHER_KEY], f"{KEY}, {OTHER_KEY}", (KEY, OTHER_KEY)),
    "encryption_fail_closed": (True, "yes", True),
    "tenant": ("acme", "acme", "acme"),
    "wire": ("3:0.24", "3:0.24", "3:0.24"),
}

DEFAULTS = {
    "redis_url": None,
    "memcached_servers": None,
    "file_cache_dir": None,
    "enabled": True,
    "namespace": None,
    "default_ttl": 3600,
    "ttl_jitter": 0,
    "l1_enabled": True,
    "l1_max_size_mb": 100,
    "l1_max_entries": None,
    "l1_ttl": None,
    "fallback_enabled": True,
    "enable_circuit_breaker": True,
    "circuit_breaker_failure_threshold": 5,
    "circuit_breaker_timeout": 60.0,
    "circuit_breaker_success_threshold": 1,
    "circuit_breaker_half_open_requests": 1,
    "connection_retries": 3,
    "retry_delay": 0.1,
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "pool_timeout": 0.1,
    "connection_pool_kwargs": {},
    "async_connections": 1,
    "max_concurrent_requests": None,
    "compress_min": 1024,
    "max_value_size": 104857600,
    "master_key": None,
    "previous_master_keys": (),
    "encryption_fail_closed": False,
    "tenant": "default",
    "wire": 4,
}

# For every field: values in code that are refused.
REFUSED = {
    "redis_url": ["http://h", "", 6379, b"redis://h"],
    "memcached_servers": ["", "host", "host:x", "h:0", "h:70000", [], [1], 7],
    "file_cache_dir": ["", 1, b"/tmp"],
    "enabled": [1, "true", None],
    "namespace": ["", "a b", "a{b", "a}b", "é", "x" * 65, "a\n", 1],
    "default_ttl": [0, -1, True, float("nan"), float("inf"), "60", None, 4e9, 0.0009],
    "ttl_jitter": [-0.1, 0.51, True, "0", float("nan")],
    "l1_enabled": [0, "no"],
    "l1_max_size_mb": [0, -1, True, "1", float("inf"), float("nan")],
    "l1_max_entries": [0, -1, True, 1.5, "1"],
    "l1_ttl": [0, -1, True, "1"],
    "fallback_enabled": [1],
    "enable_circuit_breaker": ["on"],
    "circuit_breaker_failure_threshold": [0, 1.0, True],
    "circuit_breaker_timeout": [0, -1, "1"],
    "circuit_breaker_success_threshold": [0],
    "circuit_breaker_half_open_requests": [0],
    "connection_retries": [-1, 1.0, True],
    "retry_delay": [-0.1, True],
    "socket_timeout": [0, -1, "1", None],
    "socket_connect_timeout": [0, -1],
    "connection_pool_size": [0, None, 1.5],
    "pool_timeout": [-1, "1"],
    "connection_pool_kwargs": [
        {"socket_timeout": 1},
        {"socket_keepalive": 1},
        {"health_check_interval": -1},
        {"max_connections": 0},
        {1: 2},
        None,
        "x",
    ],
    "async_connections": [0],
    "max_concurrent_requests": [0, 1.5],
    "compress_min": [-1, 1.5],
    "max_value_size": [0, 512 * 1024 * 1024 + 1],
    "master_key": ["zz" * 32, "ab" * 31, "a" * 65, 7],
    "previous_master_keys": [["xy"], [KEY] * 4, 7],
    "encryption_fail_closed": ["yes"],
    "tenant": ["", 7],
    "wire": [5, 3.0, True, "3:0.1"],
}

# For some fields: texts that are refused.
REFUSED_TEXT = {
    "redis_url": ["localhost:6379", "redis+tls://h"],
    "enabled": ["2", "maybe", "y"],
    "default_ttl": ["soon", "0", "nan", "1h"],
    "l1_max_entries": ["1.5", "x"],
    "ttl_jitter": ["x"],
    "memcached_servers": ['["a:1"', '{"a": 1}', "a"],
    "wire": ["5"],
}


@pytest.fixture
def log(monkeypatch):
    """Nothing has been said yet."""
    fresh = _logging.Log()
    monkeypatch.setattr(_logging, "_DEFAULT", fresh)
    return fresh


def test_the_table_of_this_file_covers_every_field():
    assert set(GIVEN) == set(REFUSED) == set(BY_NAME)
    assert set(DEFAULTS) == set(BY_NAME) - {"connection_pool_size"}


# -- values in code -------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_documented_one(name):
    value = getattr(CacheConfig(), name)
    assert value == DEFAULTS[name]
    assert isinstance(value, bool) == isinstance(DEFAULTS[name], bool)


def test_default_pool_follows_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert CacheConfig().connection_pool_size == 7


@pytest.mark.parametrize("name", GIVEN)
def test_argument_is_taken(name):
    given, _, expected = GIVEN[name]
    config = CacheConfig(**{name: given})
    assert getattr(config, name) == expected
    assert type(getattr(config, name)) is type(expected)
    assert config.is_set(name)
    assert config.source(name) == "argument"


@pytest.mark.parametrize("name, value", [(n, v) for n in REFUSED for v in REFUSED[n]])
def test_refused_argument_is_a_configuration_error(name, value):
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig(**{name: value})
    if name != "master_key":
        assert name in str(caught.value)


def test_refusal_names_argument_value_and_what_is_accepted():
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig(connection_retries=-1)
    assert caught.value.message == (
        "connection_retries must be a whole number from 0 to 1000, not -1"
    )


def test_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match="'default_tll'; did you mean 'default_ttl'"):
        CacheConfig(default_tll=3)


def test_times_may_be_timedeltas():
    assert CacheConfig(default_ttl=timedelta(minutes=1)).default_ttl == 60.0
    assert CacheConfig(default_ttl=NEVER).default_ttl is NEVER


def test_tenant_may_be_a_callable_or_a_context_variable():
    import contextvars

    variable = contextvars.ContextVar("tenant")
    assert CacheConfig(tenant=variable).tenant is variable
    assert CacheConfig(tenant=len).tenant is len


def test_configuration_is_immutable():
    config = CacheConfig()
    for name in ("default_ttl", "other"):
        with pytest.raises(AttributeError):
            setattr(config, name, 1)
    with pytest.raises(AttributeError):
        del config.default_ttl
    config = CacheConfig(connection_pool_kwargs={"socket_keepalive": True})
    config.connection_pool_kwargs["socket_keepalive"] = False
    assert config.connection_pool_kwargs == {"socket_keepalive": True}


def test_mapping_given_is_not_kept():
    given = {"socket_keepalive": True}
    config = CacheConfig(connection_pool_kwargs=given)
    given["socket_keepalive"] = False
    assert config.connection_pool_kwargs == {"socket_keepalive": True}


def test_equal_configurations_hash_alike():
    one = CacheConfig(default_ttl=60, connection_pool_kwargs={"max_connections": 2})
    two = CacheConfig(connection_pool_kwargs={"max_connections": 2}, default_ttl=60.0)
    assert one == two and hash(one) == hash(two)
    assert one != CacheConfig() and one != 1


def test_set_to_its_default_is_not_the_same_as_open():
    assert CacheConfig(default_ttl=3600) != CacheConfig()


# -- replace and the standard library -------------------------------------------------


@pytest.mark.parametrize(
    "replace", [CacheConfig.replace, dataclasses.replace], ids=["own", "dataclasses"]
)
def test_replace_keeps_what_is_not_named(replace):
    config = replace(CacheConfig(default_ttl=60, namespace="a"), default_ttl=5)
    assert (config.default_ttl, config.namespace) == (5.0, "a")


@pytest.mark.parametrize(
    "replace", [CacheConfig.replace, dataclasses.replace], ids=["own", "dataclasses"]
)
def test_replace_leaves_open_what_was_open(replace):
    config = replace(CacheConfig(), namespace="a")
    assert not config.is_set("default_ttl")
    assert config.over_environment({"CACHEKIT_DEFAULT_TTL": "9"}).default_ttl == 9


@pytest.mark.parametrize(
    "replace", [CacheConfig.replace, dataclasses.replace], ids=["own", "dataclasses"]
)
def test_replace_refuses_what_the_class_refuses(replace):
    with pytest.raises(TypeError):
        replace(CacheConfig(), nonsense=1)
    with pytest.raises(ConfigurationError):
        replace(CacheConfig(), default_ttl=0)


def test_replace_keeps_where_a_value_came_from():
    config = CacheConfig.from_environment({"CACHEKIT_L1_TTL": "9"})
    assert config.replace(namespace="a").source("l1_ttl") == "CACHEKIT_L1_TTL"
    assert config.replace(l1_ttl=3).source("l1_ttl") == "argument"


def test_dataclasses_knows_the_fields():
    assert dataclasses.is_dataclass(CacheConfig)
    assert [f.name for f in dataclasses.fields(CacheConfig)] == list(BY_NAME)
    assert dataclasses.asdict(CacheConfig(default_ttl=60)) == {"default_ttl": 60.0}


def test_signature_lists_the_fields():
    assert list(inspect.signature(CacheConfig).parameters) == list(BY_NAME)


def test_configuration_survives_pickle_and_copy():
    config = CacheConfig.from_environment({"CACHEKIT_L1_TTL": "9"})
    for twin in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        assert twin == config
        assert twin.source("l1_ttl") == "CACHEKIT_L1_TTL"


# -- the environment ------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in GIVEN if BY_NAME[n].in_environment])
def test_variable_is_taken(name):
    variable = "CACHEKIT_" + name.upper()
    _, text, expected = GIVEN[name]
    config = CacheConfig.from_environment({variable: f" {text} "})
    assert getattr(config, name) == expected
    assert type(getattr(config, name)) is type(expected)
    assert config.source(name) == variable


def test_pool_kwargs_have_no_variable():
    config = CacheConfig.from_environment({"CACHEKIT_CONNECTION_POOL_KWARGS": "{}"})
    assert not config.is_set("connection_pool_kwargs")


@pytest.mark.parametrize(
    "name, text", [(n, t) for n in REFUSED_TEXT for t in REFUSED_TEXT[n]]
)
def test_refused_text_names_the_variable_and_what_it_held(name, text):
    variable = "CACHEKIT_" + name.upper()
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig.from_environment({variable: text})
    message = str(caught.value)
    assert message.startswith(f"{variable} ")
    assert text in message
    assert " must " in message


def test_refused_flag_says_what_a_flag_may_be():
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig.from_environment({"CACHEKIT_ENABLED": "maybe"})
    assert caught.value.message == (
        "CACHEKIT_ENABLED must be true/false, 1/0, yes/no or on/off, not 'maybe'"
    )


@pytest.mark.parametrize("text", ["true", "1", "YES", "On"])
def test_flag_reads_every_word_for_true(text):
    assert CacheConfig.from_environment({"CACHEKIT_ENABLED": text}).enabled is True


def test_empty_variable_counts_as_unset():
    config = CacheConfig.from_environment({"CACHEKIT_ENABLED": "", "REDIS_URL": " "})
    assert config == CacheConfig()


def test_words_for_none_and_never():
    environ = {"CACHEKIT_L1_TTL": "None", "CACHEKIT_DEFAULT_TTL": "never"}
    config = CacheConfig.from_environment(environ)
    assert config.l1_ttl is None and config.is_set("l1_ttl")
    assert config.default_ttl is NEVER


def test_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "7")
    assert CacheConfig.from_environment().default_ttl == 7
    assert CacheConfig().default_ttl == 3600


def test_argument_wins_over_environment_wins_over_default():
    environ = {"CACHEKIT_DEFAULT_TTL": "7", "CACHEKIT_NAMESPACE": "env"}
    config = CacheConfig(default_ttl=5).over_environment(environ)
    assert (config.default_ttl, config.namespace, config.l1_ttl) == (5, "env", None)
    sources = [config.source(n) for n in ("default_ttl", "namespace", "l1_ttl")]
    assert sources == ["argument", "CACHEKIT_NAMESPACE", "default"]


def test_argument_equal_to_its_default_still_wins():
    environ = {"CACHEKIT_DEFAULT_TTL": "7"}
    assert CacheConfig(default_ttl=3600).over_environment(environ).default_ttl == 3600


def test_variable_that_is_overridden_is_not_read():
    environ = {"CACHEKIT_DEFAULT_TTL": "nonsense"}
    assert CacheConfig(default_ttl=5).over_environment(environ).default_ttl == 5


def test_store_in_code_makes_store_variables_void():
    environ = {"CACHEKIT_REDIS_URL": "redis://env", "REDIS_URL": "redis://platform"}
    config = CacheConfig(file_cache_dir="/tmp/x").over_environment(environ)
    assert (config.store, config.redis_url) == ("file_cache_dir", None)


def test_misspelt_variable_is_told(log, caplog):
    CacheConfig.from_environment({"CACHEKIT_DEFUALT_TTL": "7"})
    CacheConfig.from_environment({"CACHEKIT_DEFUALT_TTL": "7"})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "CACHEKIT_DEFUALT_TTL" in record.getMessage()
    assert "CACHEKIT_DEFAULT_TTL" in record.getMessage()


def test_variables_of_others_are_left_alone(log, caplog):
    CacheConfig.from_environment({"CACHEKIT_X": "7", "CACHEKIT_SANITIZED": "1"})
    assert not caplog.records


# -- which store ----------------------------------------------------------------------


def test_no_store_by_default():
    assert CacheConfig().store is None


@pytest.mark.parametrize("name", ["redis_url", "memcached_servers", "file_cache_dir"])
def test_store_is_the_field_that_is_set(name):
    assert CacheConfig(**{name: GIVEN[name][0]}).store == name


def test_two_stores_in_the_environment_are_named_both():
    environ = {
        "CACHEKIT_REDIS_URL": "redis://h",
        "CACHEKIT_MEMCACHED_SERVERS": "h:1",
    }
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig.from_environment(environ)
    assert "CACHEKIT_REDIS_URL" in str(caught.value)
    assert "CACHEKIT_MEMCACHED_SERVERS" in str(caught.value)


def test_two_stores_in_code_are_named_both():
    with pytest.raises(ConfigurationError, match="redis_url and file_cache_dir"):
        CacheConfig(redis_url="redis://h", file_cache_dir="/tmp/x")


def test_redis_url_of_the_platform_is_used_and_told_once(log, caplog):
    caplog.set_level(logging.INFO, "cachekit")
    environ = {"REDIS_URL": f"redis://user:{SECRET}@platform/1"}
    for _ in range(2):
        config = CacheConfig.from_environment(environ)
    assert config.redis_url == environ["REDIS_URL"]
    assert config.source("redis_url") == "REDIS_URL"
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.INFO, "cachekit")
    assert "REDIS_URL" in record.getMessage() and SECRET not in record.getMessage()


@pytest.mark.parametrize("name", ["redis_url", "memcached_servers", "file_cache_dir"])
def test_redis_url_of_the_platform_gives_way_to_any_store_variable(name, log, caplog):
    caplog.set_level(logging.INFO, "cachekit")
    environ = {"REDIS_URL": "redis://platform", BY_NAME[name].variable: GIVEN[name][1]}
    config = CacheConfig.from_environment(environ)
    assert config.store == name
    assert config.redis_url != "redis://platform"
    assert not caplog.records


def test_bad_redis_url_of_the_platform_is_named():
    with pytest.raises(ConfigurationError, match="^REDIS_URL "):
        CacheConfig.from_environment({"REDIS_URL": "nonsense"})


# -- fields that contradict each other ------------------------------------------------


def test_max_connections_is_the_pool_size():
    config = CacheConfig(connection_pool_kwargs={"max_connections": 5})
    assert config.connection_pool_size == 5
    environ = {"CACHEKIT_CONNECTION_POOL_SIZE": "9"}
    assert config.over_environment(environ).connection_pool_size == 5


def test_max_connections_may_repeat_the_pool_size_and_not_contradict_it():
    pool = {"max_connections": 5}
    config = CacheConfig(connection_pool_kwargs=pool, connection_pool_size=5)
    assert config.connection_pool_size == 5
    with pytest.raises(ConfigurationError, match="max_connections") as caught:
        CacheConfig(connection_pool_kwargs=pool, connection_pool_size=6)
    assert "connection_pool_size" in str(caught.value)


def test_unknown_pool_option_names_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'socket_keepalive'"):
        CacheConfig(connection_pool_kwargs={"socket_keep_alive": True})


# -- secrets --------------------------------------------------------------------------


def test_secrets_are_masked_in_repr():
    config = CacheConfig(
        redis_url=f"redis://user:{SECRET}@h/0",
        master_key=KEY,
        previous_master_keys=[OTHER_KEY],
    )
    assert repr(config) == (
        "CacheConfig(redis_url='redis://user:***@h/0', master_key='***', "
        "previous_master_keys='***')"
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("master_key", SECRET),
        ("previous_master_keys", SECRET),
        ("previous_master_keys", [SECRET]),
        ("redis_url", f"redis://:{SECRET}@h:x/0"),
        ("redis_url", f"redis://u:{SECRET}/x@h/0"),
        ("redis_url", f"http://u:{SECRET}@h"),
        ("redis_url", f":{SECRET}@h:6379"),
        ("redis_url", f"redis://u:{SECRET}"),
        ("redis_url", f"redis://u:{SECRET}#@h"),
        ("redis_url", f"redis://h?password={SECRET}"),
        ("redis_url", f"redis://:{SECRET} @h"),
        ("wire", f"redis://u:{SECRET}@h"),
    ],
)
def test_secret_is_in_no_message(name, value):
    with pytest.raises(ConfigurationError) as caught:
        CacheConfig(**{name: value})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    if isinstance(value, str):
        with pytest.raises(ConfigurationError) as caught:
            CacheConfig.from_environment({"CACHEKIT_" + name.upper(): value})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["zz" * 32, "abcd1234"])
def test_bad_master_key_is_e002(text):
    for make in (
        lambda: CacheConfig(master_key=text),
        lambda: CacheConfig.from_environment({"CACHEKIT_MASTER_KEY": text}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert caught.value.code == "E002"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://u:p@w@h", "redis://u:***@h"),
        ("redis://u:p/w?x#y@h:1", "redis://u:***@h:1"),
        ("redis://token@h", "redis://:***@h"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://[::1]", "redis://[::1]"),
        ("u:pw@h", "u:***@h"),
        ("redis://h:pw", "redis://h:***"),
        ("redis://h?db=1&password=x", "redis://h?db=1&password=***"),
    ],
)
def test_mask_hides_what_may_be_a_password(text, shown):
    assert mask_url(text) == shown


# -- what is known and not built ------------------------------------------------------


@pytest.mark.parametrize("name", [f.name for f in FIELDS if not f.built])
def test_setting_that_is_not_built_is_named(name):
    config = CacheConfig(**{name: GIVEN[name][0]})
    with pytest.raises(NotBuiltYet) as caught:
        config.require_built()
    assert caught.value.option == name
    environ = {BY_NAME[name].variable: GIVEN[name][1]}
    with pytest.raises(NotBuiltYet) as caught:
        CacheConfig.from_environment(environ).require_built()
    assert caught.value.option == BY_NAME[name].variable


@pytest.mark.parametrize("name", [f.name for f in FIELDS if not f.built])
def test_default_of_what_is_not_built_is_accepted(name):
    CacheConfig(**{name: DEFAULTS[name]}).require_built()


@pytest.mark.parametrize("name", [f.name for f in FIELDS if f.built])
def test_setting_that_is_built_is_accepted(name):
    CacheConfig(**{name: GIVEN[name][0]}).require_built()


@pytest.mark.parametrize("scheme", ["redis+cluster", "redis+sentinel"])
def test_topologies_are_not_built(scheme):
    config = CacheConfig(redis_url=f"{scheme}://h1:1,h2:2/main")
    with pytest.raises(NotBuiltYet) as caught:
        config.require_built()
    assert scheme in caught.value.option


# -- Redis URLs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, expected",
    [
        ("redis://", {"host": "localhost", "port": 6379, "database": 0, "tls": None}),
        ("redis://h", {"host": "h", "port": 6379}),
        ("redis://h:7000", {"host": "h", "port": 7000}),
        ("redis://h/", {"database": 0}),
        ("redis://h/3", {"database": 3}),
        ("redis://h?db=3", {"database": 3}),
        ("redis://h/3?db=3", {"database": 3}),
        ("redis:///2", {"host": "localhost", "database": 2}),
        ("REDIS://h", {"host": "h"}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000, "database": 1}),
        ("redis://[fe80::1]", {"host": "fe80::1", "port": 6379}),
        ("redis://:pw@h", {"username": None, "password": "pw"}),
        ("redis://u:pw@h", {"username": "u", "password": "pw"}),
        ("redis://us%3Aer:p%40%2F%3A%23@h", {"username": "us:er", "password": "p@/:#"}),
        ("redis://h?timeout=0.25", {"timeout": 0.25}),
        ("redis://h", {"timeout": None}),
        ("redis://...", {"host": "..."}),
        ("rediss://h", {"tls": {}}),
        (
            "rediss://h?ssl_cert_reqs=none",
            {"tls": {"verify": False, "check_hostname": False}},
        ),
        (
            (
                "rediss://h?ssl_cert_reqs=required&ssl_ca_certs=/a%20b.pem"
                "&ssl_certfile=c&ssl_keyfile=/k.pem&ssl_check_hostname=false"
            ),
            {
                "tls": {
                    "verify": True,
                    "ca_certs": "/a b.pem",
                    "certfile": "c",
                    "keyfile": "/k.pem",
                    "check_hostname": False,
                }
            },
        ),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock", "database": 0}),
        ("unix:///run/a%20b.sock?db=2", {"path": "/run/a b.sock", "database": 2}),
        (
            "unix://u:pw@/run/r.sock?timeout=2",
            {"path": "/run/r.sock", "username": "u", "password": "pw", "timeout": 2.0},
        ),
    ],
)
def test_url_says(url, expected):
    parsed = parse_redis_url(url)
    assert {name: getattr(parsed, name) for name in expected} == expected
    assert parsed.built


@pytest.mark.parametrize(
    "url, why",
    [
        ("h:6379", "must begin with redis://"),
        ("http://h", "must begin with redis://"),
        ("redis:/h", "must begin with redis://"),
        ("redis://h:port", "port"),
        ("redis://h:0", "port"),
        ("redis://h:70000", "port"),
        ("redis://[::1", "IPv6"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h?db=x", "db="),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h?db=1&db=1", "twice"),
        ("redis://h?tiemout=1", "'tiemout' is unknown, did you mean 'timeout'"),
        ("redis://h?max_connections=5", "'max_connections' is unknown"),
        ("redis://h?timeout=0", "timeout"),
        ("redis://h?timeout=nan", "timeout"),
        ("redis://h?timeout=soon", "timeout"),
        ("redis://h?ssl_cert_reqs=none", "needs rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://h?ssl_ca_certs=", "path of a file"),
        ("rediss://h?ssl_keyfile=/k", "needs ssl_certfile"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true", "ssl_check_hostname"),
        ("redis://u@h", "no password"),
        ("redis://h#x", "#"),
        ("redis://a b", "space"),
        ("redis://h\n", "control"),
        ("unix://", "path of a socket"),
        ("unix://run/redis.sock", "three slashes"),
    ],
)
def test_url_is_refused_with_the_reason(url, why):
    with pytest.raises(ConfigurationError, match="MY_URL") as caught:
        parse_redis_url(url, "MY_URL")
    assert why in caught.value.message


def test_settings_hold_url_and_configuration():
    config = CacheConfig(
        redis_url="rediss://u:pw@h:1/2",
        socket_connect_timeout=0.5,
        connection_retries=7,
        retry_delay=0.3,
        async_connections=2,
        max_value_size=5000,
        connection_pool_kwargs={
            "socket_keepalive": True,
            "health_check_interval": 30,
            "retry_on_timeout": True,
        },
    )
    settings = redis_settings(config)
    assert (settings.host, settings.port, settings.database) == ("h", 1, 2)
    assert (settings.username, settings.password) == ("u", "pw")
    assert settings.tls == {}
    assert settings.connect_timeout == 0.5
    assert (settings.connection_retries, settings.retry_delay) == (7, 0.3)
    assert settings.async_connections == 2
    assert settings.keepalive and settings.retry_on_timeout
    assert settings.health_check_interval == 30.0
    assert 5000 <= settings.max_reply < 10000
    assert "pw" not in repr(settings)


def test_settings_of_another_url():
    config = CacheConfig(redis_url="redis://one")
    assert redis_settings(config, "redis://two").host == "two"


def test_timeout_of_the_url_stands_in_for_the_field():
    assert operation_timeout(CacheConfig(socket_timeout=3)) == 3
    config = CacheConfig(socket_timeout=3, redis_url="redis://h?timeout=0.5")
    assert operation_timeout(config) == 0.5
    assert operation_timeout(config, "redis://other") == 3


# -- what is made from the table ------------------------------------------------------


def test_page_and_signatures_are_what_the_tables_say():
    # If not: python -m cachekit._config_page
    assert _config_page.differing(ROOT) == []


def test_page_names_every_field_and_variable():
    text = _config_page.page()
    for field in FIELDS:
        assert f"`{field.name}`" in text
        if field.built and field.variable:
            assert f"`{field.variable}`" in text


def test_check_of_the_page_reports_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "cachekit").mkdir()
    for name in ("_config.py", "_options.py"):
        source = (ROOT / "cachekit" / name).read_text("utf-8")
        (tmp_path / "cachekit" / name).write_text(source, "utf-8")
    page = tmp_path / "docs" / "configuration.md"
    assert _config_page.main(["--check"], tmp_path) == 1
    assert not page.exists()
    assert capsys.readouterr().out == "differs: docs/configuration.md\n"
    assert _config_page.main([], tmp_path) == 0
    assert _config_page.main(["--check"], tmp_path) == 0
    assert page.read_text("utf-8") == _config_page.page()
