# SPDX-License-Identifier: MIT
"""The table of settings: every field of ``CacheConfig``, and all that is known of it.

THREADING  Immutable.
"""

from __future__ import annotations

import os

from cachekit._checks import (
    Check,
    Flag,
    Maybe,
    Namespace,
    Number,
    Seconds,
    Text,
    Whole,
    held,
    mapping_of,
    nearest,
    sequence_of_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._config import CacheConfig

__all__ = ["FIELDS", "PREFIX", "STORES", "Field", "is_master_key"]

PREFIX = "CACHEKIT_"
#: The fields that name a shared store. One at most.
STORES = ("redis_url", "memcached_servers", "file_cache_dir")


# -- checks that only the configuration has ------------------------------------------


class RedisUrl(Text):
    def __init__(self) -> None:
        super().__init__(
            "a URL that begins with redis://, rediss:// or unix://, with user, "
            "password, database, ?timeout= and TLS options where needed"
        )

    def check(self, value: Any) -> str:
        from cachekit.backends._url import parse_redis_url

        url = super().check(value)
        parse_redis_url(url)
        return url


class Servers(Check):
    accepted = '"host:port,host:port", or a JSON list or a list of "host:port"'
    takes = "str | Sequence[str]"
    gives = "tuple[str, ...]"

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            if value.lstrip().startswith("["):
                import json

                try:
                    value = json.loads(value)
                except ValueError:
                    raise ValueError from None
            else:
                value = value.split(",")
        servers = tuple(item.strip() for item in sequence_of_text(value))
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError
        if not servers:
            raise ValueError
        return servers


class Folder(Check):
    accepted = "the path of a folder"
    takes = "str | os.PathLike[str]"
    gives = "str"

    def check(self, value: Any) -> str:
        path = os.fspath(value)
        if not isinstance(path, str):
            raise TypeError
        if not path or "\0" in path:
            raise ValueError
        return path


class PoolOptions(Check):
    """Options of the connection pool, under the names that redis-py gave them."""

    KNOWN: dict[str, Check] = {
        "socket_keepalive": Flag(),
        "health_check_interval": Seconds(0),
        "retry_on_timeout": Flag(),
        "max_connections": Whole(1, 65536),
    }
    accepted = "a mapping with any of " + ", ".join(KNOWN)
    takes = gives = "Mapping[str, Any]"

    def check(self, value: Any) -> dict[str, Any]:
        options = {}
        for name, given in mapping_of(value).items():
            if name not in self.KNOWN:
                match = nearest(name, self.KNOWN)
                meant = f", did you mean {match!r}?" if match else ""
                raise ValueError(f"{name!r} is unknown{meant}")
            check = self.KNOWN[name]
            try:
                options[name] = check.check(given)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name!r} must be {check.accepted}, not {held(given)}"
                ) from None
        return options


class MasterKey(Text):
    def __init__(self) -> None:
        super().__init__("hex digits for at least 32 bytes")

    def check(self, value: Any) -> str:
        text = super().check(value)
        if not is_master_key(text):
            raise ValueError
        return text


class MasterKeys(Check):
    accepted = "a comma list, or a list, of at most 3 keys: hex, 32 bytes or more"
    takes = "str | Sequence[str]"
    gives = "tuple[str, ...]"

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.split(",")
        keys = tuple(item.strip() for item in sequence_of_text(value))
        if len(keys) > 3 or not all(is_master_key(key) for key in keys):
            raise ValueError
        return keys


class Tenant(Text):
    def __init__(self) -> None:
        super().__init__("text, or in code a callable of the arguments or ContextVar")
        self.takes = "str | Callable[..., str] | ContextVar[str]"
        self.gives = self.takes

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            return super().check(value)
        if callable(value) or type(value).__name__ == "ContextVar":
            return value
        raise TypeError


class Wire(Check):
    accepted = '4, or "3" with a release: "3:0.24", "3:0.23", "3:0.20", "3:0.17"'
    takes = gives = "int | str"

    def check(self, value: Any) -> int | str:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        text = str(value)
        if text == "4":
            return 4
        if text not in ("3", "3:0.24", "3:0.23", "3:0.20", "3:0.17"):
            raise ValueError
        return text


def is_master_key(text: str) -> bool:
    """Hex digits, an even number of them, for 32 bytes or more."""
    if len(text) < 64 or len(text) % 2:
        return False
    return all(c in "0123456789abcdefABCDEF" for c in text)


# -- the table ------------------------------------------------------------------------


class Field:
    """One row of the table: everything that is known of one setting."""

    __slots__ = (
        "built",
        "check",
        "default",
        "doc",
        "doc_default",
        "in_environment",
        "name",
        "secret",
        "unit",
        "variable",
    )

    def __init__(
        self,
        name: str,
        default: Any,
        check: Check,
        doc: str,
        *,
        unit: str = "",
        secret: bool = False,
        built: bool = True,
        in_environment: bool = True,
        doc_default: str | None = None,
    ) -> None:
        self.name = name
        self.default = default
        self.check = check
        self.doc = doc
        self.unit = unit
        self.secret = secret
        self.built = built
        self.in_environment = in_environment
        self.variable = PREFIX + name.upper() if in_environment else None
        if doc_default is None:
            doc_default = _word(default) + (f" {unit}" if unit else "")
        self.doc_default = doc_default


def _word(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _pool_size(config: CacheConfig) -> int:
    """2 x the cores this process may use + 1."""
    asked = config.connection_pool_kwargs.get("max_connections")
    if asked is not None:
        return int(asked)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    return 2 * cores + 1


FIELDS: tuple[Field, ...] = (
    Field(
        "redis_url",
        None,
        Maybe(RedisUrl()),
        "The Redis server that processes share. `REDIS_URL` stands in for it when no "
        "`CACHEKIT_` store variable is set.",
    ),
    Field(
        "memcached_servers",
        None,
        Maybe(Servers()),
        "Memcached servers that processes share.",
        built=False,
    ),
    Field(
        "file_cache_dir",
        None,
        Maybe(Folder()),
        "The folder of the embedded store that the processes of one host share.",
        built=False,
    ),
    Field("enabled", True, Flag(), "False: every call goes straight to the function."),
    Field(
        "namespace",
        None,
        Maybe(Namespace()),
        "The first part of every key in the store; none uses `cachekit`.",
    ),
    Field(
        "default_ttl",
        3600.0,
        Seconds(never=True),
        'How long an entry is fresh, where the decorator says nothing; "never" in the '
        "environment is `cachekit.NEVER`.",
        unit="s",
    ),
    Field(
        "ttl_jitter",
        0.0,
        Number(0, 0.5, "a number from 0 to 0.5"),
        "Shortens each lifetime by up to this fraction, at random, so that entries "
        "made together do not end together.",
    ),
    Field("l1_enabled", True, Flag(), "Keep entries in the memory of the process."),
    Field(
        "l1_max_size_mb",
        100.0,
        Number(0, 2**40, "a number of megabytes greater than 0", above=True),
        "The memory budget of one `Cache`, everything included.",
        unit="MiB",
    ),
    Field(
        "l1_max_entries",
        None,
        Maybe(Whole(1)),
        "A bound in entries, besides the one in bytes.",
    ),
    Field(
        "l1_ttl",
        None,
        Maybe(Seconds()),
        "A cap on how long memory serves an entry without asking the store.",
        unit="s",
        doc_default="none",
    ),
    Field(
        "fallback_enabled",
        True,
        Flag(),
        "Hide failures of the store from callers; false makes them raise.",
    ),
    Field(
        "enable_circuit_breaker",
        True,
        Flag(),
        "Stop asking a store that keeps failing, until it answers again.",
    ),
    Field(
        "circuit_breaker_failure_threshold",
        5,
        Whole(1),
        "Consecutive failures that open the breaker.",
    ),
    Field(
        "circuit_breaker_timeout",
        60.0,
        Seconds(),
        "The latest moment at which a call of yours tries an open store again; a "
        "probe of its own usually finds it much earlier.",
        unit="s",
    ),
    Field(
        "circuit_breaker_success_threshold",
        1,
        Whole(1),
        "Successes that close a half-open breaker.",
    ),
    Field(
        "circuit_breaker_half_open_requests",
        1,
        Whole(1),
        "Operations that a half-open breaker lets through at once.",
    ),
    Field(
        "connection_retries",
        3,
        Whole(0, 1000),
        "How often one operation is tried again, inside its one deadline.",
    ),
    Field(
        "retry_delay",
        0.1,
        Seconds(0),
        "The first pause before trying again; doubles, with full jitter.",
        unit="s",
    ),
    Field(
        "socket_timeout",
        1.0,
        Seconds(),
        "The time a call may spend on the store in all: wait for a connection, "
        "connect, write, read, retries.",
        unit="s",
    ),
    Field(
        "socket_connect_timeout",
        1.0,
        Seconds(),
        "The part of it that connecting may take.",
        unit="s",
    ),
    Field(
        "connection_pool_size",
        _pool_size,
        Whole(1, 65536),
        "Connections that blocking callers share, at most.",
        doc_default="2 x cores + 1",
    ),
    Field(
        "pool_timeout",
        0.1,
        Seconds(0),
        "How long a blocking caller waits for a free connection.",
        unit="s",
    ),
    Field(
        "connection_pool_kwargs",
        {},
        PoolOptions(),
        "`socket_keepalive`: the kernel probes idle connections. "
        "`health_check_interval`: a connection idle for longer (seconds) is pinged "
        "before use. `retry_on_timeout`: a connect that timed out is tried again, in "
        "the same deadline. `max_connections`: the same as `connection_pool_size`.",
        in_environment=False,
        doc_default="{}",
    ),
    Field(
        "async_connections",
        1,
        Whole(1, 65536),
        "Pipelined connections per event loop.",
    ),
    Field(
        "max_concurrent_requests",
        None,
        Maybe(Whole(1)),
        "Store operations under way at once; the excess waits within its deadline, "
        "then goes without the store.",
    ),
    Field(
        "compress_min",
        1024,
        Whole(0, unit="bytes"),
        "Values of this size and more are compressed, where that shrinks them.",
        unit="bytes",
    ),
    Field(
        "max_value_size",
        100 * 1024 * 1024,
        Whole(1, 512 * 1024 * 1024, unit="bytes"),
        "A larger value is returned and not cached.",
        unit="bytes",
    ),
    Field(
        "master_key",
        None,
        Maybe(MasterKey()),
        "Encrypts every entry; `encryption=False` on a function opts out.",
        secret=True,
    ),
    Field(
        "previous_master_keys",
        (),
        MasterKeys(),
        "Former master keys, still read.",
        secret=True,
        doc_default="none",
    ),
    Field(
        "encryption_fail_closed",
        False,
        Flag(),
        "Raise `DecryptionError` for an entry that is not authentic, instead of "
        "computing it anew.",
    ),
    Field(
        "tenant",
        "default",
        Tenant(),
        "Whose entries these are: part of every key.",
    ),
    Field(
        "wire",
        4,
        Wire(),
        "The form of entries in the store: 4, or that of a release of the package on "
        "PyPI; `3` is `3:0.24`.",
    ),
)
