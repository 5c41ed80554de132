# SPDX-License-Identifier: MIT
"""Redis URLs: ``redis://user:password@host:port/database?timeout=0.5``.

Everything a URL may say is listed in ``parse_redis_url``; anything else is refused by
name. No message repeats a password.
"""

from __future__ import annotations

from cachekit._checks import LONGEST, SHORTEST, mask_url, nearest
from cachekit._errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from cachekit._config import CacheConfig
    from cachekit.backends._redis_settings import RedisSettings

__all__ = ["RedisUrl", "operation_timeout", "parse_redis_url", "redis_settings"]

_BUILT = ("redis", "rediss", "unix")
_LATER = ("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
_TLS_OPTIONS = {
    "ssl_cert_reqs": "verify",
    "ssl_ca_certs": "ca_certs",
    "ssl_certfile": "certfile",
    "ssl_keyfile": "keyfile",
    "ssl_check_hostname": "check_hostname",
}
_OPTIONS = ("db", "timeout", *_TLS_OPTIONS)


class RedisUrl:
    """What a URL says. ``timeout`` is None where it says nothing about it."""

    __slots__ = (
        "database",
        "host",
        "password",
        "path",
        "port",
        "scheme",
        "timeout",
        "tls",
        "username",
    )

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.host = "localhost"
        self.port = 6379
        self.path: str | None = None
        self.username: str | None = None
        self.password: str | None = None
        self.database = 0
        self.timeout: float | None = None
        self.tls: dict[str, Any] | None = None

    @property
    def built(self) -> bool:
        """Whether this version can talk to what the URL names."""
        return self.scheme in _BUILT


class _Reader:
    """One reading of one URL; knows how to complain."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where

    def refuse(self, why: str, hint: str | None = None) -> NoReturn:
        raise ConfigurationError(
            f"{self.where} is {mask_url(self.text)!r}: {why}", hint=hint
        ) from None

    def read(self) -> RedisUrl:
        if any(c <= " " or c == "\x7f" for c in self.text):
            self.refuse("a URL has no space and no control character")
        scheme, mark, _ = self.text.partition("://")
        scheme = scheme.lower()
        if not mark or scheme not in _BUILT + _LATER:
            self.refuse(
                "it must begin with redis://, rediss:// or unix://",
                None if mark else "Did you mean redis:// and the same?",
            )
        url = RedisUrl(scheme)
        if url.built:
            self._parts(url)
        return url

    def _parts(self, url: RedisUrl) -> None:
        from urllib.parse import unquote, urlsplit

        try:
            parts = urlsplit(self.text)
            port = parts.port
        except ValueError:
            self.refuse(
                "the port must be a number from 1 to 65535, and an IPv6 address be in "
                "brackets",
                "A / ? # or @ in a password is written %2F %3F %23 %40",
            )
        if parts.fragment or "#" in self.text:
            self.refuse("a # has no meaning in it", "In a password, write %23")
        if parts.username:
            url.username = unquote(parts.username)
        if parts.password:
            url.password = unquote(parts.password)
        if url.username is not None and url.password is None:
            self.refuse("it names a user and no password", "Write user:password@")
        if url.scheme == "unix":
            if parts.hostname:
                self.refuse("a path follows three slashes: unix:///run/redis.sock")
            url.path = unquote(parts.path)
            if url.path in ("", "/") or "\0" in url.path:
                self.refuse("the path of a socket must follow unix://")
        else:
            url.host = unquote(parts.hostname or "localhost")
            url.port = self._port(port)
        if url.scheme == "rediss":
            url.tls = {}
        self._query(url, parts.query, self._path_database(url, parts.path))

    def _port(self, port: int | None) -> int:
        if port == 0:
            self.refuse("the port must be a number from 1 to 65535")
        return 6379 if port is None else port

    def _path_database(self, url: RedisUrl, path: str) -> int | None:
        number = path.strip("/")
        if url.scheme == "unix" or not number:
            return None
        return self._database(number, "the database after the address")

    def _database(self, text: str, what: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) >= 2**31:
            self.refuse(f"{what} must be a whole number of 0 or more")
        return int(text)

    def _query(self, url: RedisUrl, query: str, database: int | None) -> None:
        from urllib.parse import parse_qsl

        seen = set()
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in _OPTIONS:
                match = nearest(name, _OPTIONS)
                self.refuse(
                    f"the option {name!r} is unknown"
                    + (f", did you mean {match!r}?" if match else ""),
                    "The options are " + ", ".join(_OPTIONS),
                )
            if name in seen:
                self.refuse(f"the option {name!r} is given twice")
            seen.add(name)
            if name == "db":
                number = self._database(value, "?db=")
                if database not in (None, number):
                    self.refuse("the path and ?db= name two databases")
                database = number
            elif name == "timeout":
                url.timeout = self._seconds(value)
            else:
                self._tls(url, name, value)
        url.database = database or 0
        if url.tls is not None and url.tls.get("verify") is False:
            # Without a verified certificate its name proves nothing.
            if url.tls.get("check_hostname"):
                self.refuse("ssl_check_hostname=true needs ssl_cert_reqs=required")
            url.tls["check_hostname"] = False
        if url.tls and ("keyfile" in url.tls) and ("certfile" not in url.tls):
            self.refuse("ssl_keyfile needs ssl_certfile")

    def _seconds(self, value: str) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not SHORTEST <= seconds <= LONGEST:
            self.refuse("?timeout= must be a number of seconds of 0.001 or more")
        return seconds

    def _tls(self, url: RedisUrl, name: str, value: str) -> None:
        if url.tls is None:
            self.refuse(f"the option {name!r} needs rediss://")
        accepted: dict[str, bool]
        if name == "ssl_cert_reqs":
            accepted = {"required": True, "none": False}
        elif name == "ssl_check_hostname":
            accepted = {"true": True, "1": True, "false": False, "0": False}
        elif value:
            url.tls[_TLS_OPTIONS[name]] = value
            return
        else:
            self.refuse(f"the option {name!r} must be the path of a file")
        if value.lower() not in accepted:
            self.refuse(f"the option {name!r} must be {' or '.join(accepted)}")
        url.tls[_TLS_OPTIONS[name]] = accepted[value.lower()]


def parse_redis_url(text: str, where: str = "redis_url") -> RedisUrl:
    """Read a Redis URL.

    ``where`` is the name of the argument or variable, for messages. User, password,
    host and path are percent-decoded. The database is the path (``/0``) or ``?db=``.
    Options: ``db``; ``timeout``, seconds for one operation; with ``rediss://`` also
    ``ssl_cert_reqs`` (required, none), ``ssl_ca_certs``, ``ssl_certfile``,
    ``ssl_keyfile`` (files) and ``ssl_check_hostname`` (true, false).

    Of ``redis+cluster://`` and ``redis+sentinel://`` only the scheme is read, and
    ``built`` is False. Raises ``ConfigurationError``.

    >>> parse_redis_url("redis://:p%40ss@[::1]:7000/2?timeout=0.5").database
    2
    """
    return _Reader(text, where).read()


def redis_settings(config: CacheConfig, url: str | None = None) -> RedisSettings:
    """How to reach and treat the Redis server of ``config`` (or of ``url``)."""
    from cachekit.backends._redis_settings import RedisSettings

    text = url if url is not None else config.redis_url
    if text is None:
        raise ConfigurationError("redis_url must be set")
    parsed = parse_redis_url(text)
    pool = config.connection_pool_kwargs
    return RedisSettings(
        host=parsed.host,
        port=parsed.port,
        path=parsed.path,
        username=parsed.username,
        password=parsed.password,
        database=parsed.database,
        tls=parsed.tls,
        connect_timeout=config.socket_connect_timeout,
        connection_retries=config.connection_retries,
        retry_delay=config.retry_delay,
        keepalive=pool.get("socket_keepalive", False),
        health_check_interval=pool.get("health_check_interval", 0.0),
        retry_on_timeout=pool.get("retry_on_timeout", False),
        async_connections=config.async_connections,
        max_reply=config.max_value_size + 1024,
    )


def operation_timeout(config: CacheConfig, url: str | None = None) -> float:
    """Seconds that one call may spend on the store: ``?timeout=``, else the field."""
    text = url if url is not None else config.redis_url
    parsed = parse_redis_url(text) if text is not None else None
    if parsed is not None and parsed.timeout is not None:
        return parsed.timeout
    return config.socket_timeout
