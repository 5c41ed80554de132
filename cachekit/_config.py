# SPDX-License-Identifier: MIT
"""``CacheConfig``: one table makes the class, the environment reader and the page.

The table is ``FIELDS``, in ``_fields.py``. What is explicit wins over ``CacheConfig``,
that over the environment, that over the default; so a ``CacheConfig`` remembers which
fields were set and where each came from, and reads the default of all others.

``python -m cachekit._config_page`` writes ``docs/configuration.md`` and the typed part
of this file from the table; with ``--check`` it only tells whether they are up to date.

THREADING  Immutable after construction.
"""

from __future__ import annotations

import os

from cachekit._checks import UNSET, held, mask_url, nearest, refusal, unknown_name
from cachekit._errors import (
    ConfigurationError,
    NotBuiltYet,
    invalid_master_key,
)
from cachekit._fields import FIELDS, PREFIX, STORES, Field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextvars import ContextVar
    from typing import Any, NoReturn

    from cachekit._checks import Duration
    from cachekit._types import Never

__all__ = ["FIELDS", "CacheConfig", "Field"]

_BY_NAME = {field.name: field for field in FIELDS}


class CacheConfig:
    """Settings of one ``Cache``; every one is a keyword, all are optional.

    A field that is not given is taken from its environment variable when a ``Cache`` is
    made with the configuration, else it has its default. ``docs/configuration.md``
    lists all of them.

    Raises ``ConfigurationError`` for a value that is not accepted, and TypeError for an
    unknown keyword.

    >>> config = CacheConfig(default_ttl=60)
    >>> config.default_ttl, config.socket_timeout
    (60.0, 1.0)
    >>> config.replace(default_ttl=30).default_ttl
    30.0
    """

    __slots__ = ("__weakref__", "_given", "_origin")

    #: Field to value, for the fields that are set. Immutable after construction.
    _given: dict[str, Any]
    #: Field to the variable it was read from. Others were given in code.
    _origin: dict[str, str]

    if TYPE_CHECKING:
        # fmt: off
        # -- made by python -m cachekit._config_page --
        def __init__(
            self,
            *,
            redis_url: str | None = ...,
            memcached_servers: str | Sequence[str] | None = ...,
            file_cache_dir: str | os.PathLike[str] | None = ...,
            enabled: bool = ...,
            namespace: str | None = ...,
            default_ttl: Duration | Never = ...,
            ttl_jitter: float = ...,
            l1_enabled: bool = ...,
            l1_max_size_mb: float = ...,
            l1_max_entries: int | None = ...,
            l1_ttl: Duration | None = ...,
            fallback_enabled: bool = ...,
            enable_circuit_breaker: bool = ...,
            circuit_breaker_failure_threshold: int = ...,
            circuit_breaker_timeout: Duration = ...,
            circuit_breaker_success_threshold: int = ...,
            circuit_breaker_half_open_requests: int = ...,
            connection_retries: int = ...,
            retry_delay: Duration = ...,
            socket_timeout: Duration = ...,
            socket_connect_timeout: Duration = ...,
            connection_pool_size: int = ...,
            pool_timeout: Duration = ...,
            connection_pool_kwargs: Mapping[str, Any] = ...,
            async_connections: int = ...,
            max_concurrent_requests: int | None = ...,
            compress_min: int = ...,
            max_value_size: int = ...,
            master_key: str | None = ...,
            previous_master_keys: str | Sequence[str] = ...,
            encryption_fail_closed: bool = ...,
            tenant: str | Callable[..., str] | ContextVar[str] = ...,
            wire: int | str = ...,
        ) -> None: ...
        @property
        def redis_url(self) -> str | None: ...
        @property
        def memcached_servers(self) -> tuple[str, ...] | None: ...
        @property
        def file_cache_dir(self) -> str | None: ...
        @property
        def enabled(self) -> bool: ...
        @property
        def namespace(self) -> str | None: ...
        @property
        def default_ttl(self) -> float | Never: ...
        @property
        def ttl_jitter(self) -> float: ...
        @property
        def l1_enabled(self) -> bool: ...
        @property
        def l1_max_size_mb(self) -> float: ...
        @property
        def l1_max_entries(self) -> int | None: ...
        @property
        def l1_ttl(self) -> float | None: ...
        @property
        def fallback_enabled(self) -> bool: ...
        @property
        def enable_circuit_breaker(self) -> bool: ...
        @property
        def circuit_breaker_failure_threshold(self) -> int: ...
        @property
        def circuit_breaker_timeout(self) -> float: ...
        @property
        def circuit_breaker_success_threshold(self) -> int: ...
        @property
        def circuit_breaker_half_open_requests(self) -> int: ...
        @property
        def connection_retries(self) -> int: ...
        @property
        def retry_delay(self) -> float: ...
        @property
        def socket_timeout(self) -> float: ...
        @property
        def socket_connect_timeout(self) -> float: ...
        @property
        def connection_pool_size(self) -> int: ...
        @property
        def pool_timeout(self) -> float: ...
        @property
        def connection_pool_kwargs(self) -> Mapping[str, Any]: ...
        @property
        def async_connections(self) -> int: ...
        @property
        def max_concurrent_requests(self) -> int | None: ...
        @property
        def compress_min(self) -> int: ...
        @property
        def max_value_size(self) -> int: ...
        @property
        def master_key(self) -> str | None: ...
        @property
        def previous_master_keys(self) -> tuple[str, ...]: ...
        @property
        def encryption_fail_closed(self) -> bool: ...
        @property
        def tenant(self) -> str | Callable[..., str] | ContextVar[str]: ...
        @property
        def wire(self) -> int | str: ...
        # -- end --
        # fmt: on
    else:

        def __init__(self, **given: Any) -> None:
            for name in given:
                if name not in _BY_NAME:
                    raise unknown_name("CacheConfig", name, _BY_NAME)
            _fill(self, {n: _judge(_BY_NAME[n], v) for n, v in given.items()}, {})

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> CacheConfig:
        """What the environment says, and nothing else.

        ``environ`` stands in for ``os.environ``. Raises ``ConfigurationError`` that
        names the variable, what it held and what is accepted.
        """
        return CacheConfig().over_environment(environ)

    def over_environment(self, environ: Mapping[str, str] | None = None) -> CacheConfig:
        """This configuration, with the environment for what it leaves open.

        A store that is set here makes all store variables void, and a variable whose
        field is set here is not read at all.
        """
        given, origin = dict(self._given), dict(self._origin)
        for field, variable, text in _variables(self, environ):
            given[field.name] = _read(field, variable, text)
            origin[field.name] = variable
        return _fill(CacheConfig.__new__(CacheConfig), given, origin)

    def replace(self, **changes: Any) -> CacheConfig:
        """A copy with other values; what is not named stays as it is, open or set."""
        made = CacheConfig(**changes)
        given = {**self._given, **made._given}
        origin = {n: v for n, v in self._origin.items() if n not in changes}
        return _fill(CacheConfig.__new__(CacheConfig), given, origin)

    __replace__ = replace

    def is_set(self, name: str) -> bool:
        """Whether the field was given, in code or by the environment."""
        return name in self._given

    def source(self, name: str) -> str:
        """Where the field's value is from: a variable, "argument" or "default"."""
        if name not in _BY_NAME:
            raise unknown_name("CacheConfig", name, _BY_NAME)
        if name in self._given:
            return self._origin.get(name, "argument")
        return "default"

    @property
    def store(self) -> str | None:
        """The field that names the shared store, or None for memory only."""
        for name in STORES:
            if self._given.get(name) is not None:
                return name
        return None

    def validate(self) -> None:
        """Check what no single field can: fields that contradict each other.

        Raises ``ConfigurationError``. Runs whenever a configuration is made.
        """
        stores = [name for name in STORES if self._given.get(name) is not None]
        if len(stores) > 1:
            names = " and ".join(self._called(name) for name in stores)
            raise ConfigurationError(
                f"{names} are both set, and a cache has one shared store",
                hint="Unset one of them",
            )
        asked = self.connection_pool_kwargs.get("max_connections")
        if asked is not None and asked != self.connection_pool_size:
            raise ConfigurationError(
                f"{self._called('connection_pool_size')} is "
                f"{self.connection_pool_size} and max_connections in "
                f"{self._called('connection_pool_kwargs')} is {asked}: they mean the "
                "same",
                hint="Give one of them, or the same number",
            )

    def require_built(self) -> None:
        """Raise ``NotBuiltYet`` for a setting that this version only knows by name."""
        for name, value in self._given.items():
            field = _BY_NAME[name]
            if not field.built and value != field.default:
                raise NotBuiltYet(self._called(name))
        if self.redis_url is not None:
            from cachekit.backends._url import parse_redis_url

            url = parse_redis_url(self.redis_url, self._called("redis_url"))
            if not url.built:
                raise NotBuiltYet(f"{url.scheme}:// in {self._called('redis_url')}")

    def _called(self, name: str) -> str:
        """The name under which the user knows the field."""
        return self._origin.get(name, name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"CacheConfig is immutable: use replace({name}=...)")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("CacheConfig is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CacheConfig):
            return NotImplemented
        return self._given == other._given

    def __hash__(self) -> int:
        return hash(frozenset((n, _hashable(v)) for n, v in self._given.items()))

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={_shown(field, self._given[field.name])}"
            for field in FIELDS
            if field.name in self._given
        )
        return f"CacheConfig({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._given, self._origin)


class _Reader:
    """The attribute of one field: what was given, else the default."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.__doc__ = field.doc

    def __get__(self, config: CacheConfig | None, owner: type) -> Any:
        if config is None:
            return self
        value = config._given.get(self.field.name, UNSET)
        if value is UNSET:
            value = self.field.default
            if callable(value):
                value = value(config)
        # The one mutable value there is; its owner must not see changes.
        return dict(value) if isinstance(value, dict) else value

    def __set__(self, config: CacheConfig, value: object) -> NoReturn:
        raise AttributeError(
            f"CacheConfig is immutable: use replace({self.field.name}=...)"
        )


class _DataclassFields:
    """Lets ``dataclasses.replace``, ``fields`` and ``asdict`` take a CacheConfig.

    The class has all fields. An instance has those that are set: so ``replace`` hands
    on what was given and leaves open what was open, and ``asdict`` is what was given.
    ``dataclasses`` itself is too dear to import for everybody.
    """

    def __get__(self, config: CacheConfig | None, owner: type) -> dict[str, Any]:
        import dataclasses

        def make(field: Field) -> dataclasses.Field[Any]:
            if callable(field.default) or isinstance(field.default, dict):
                made: Any = dataclasses.field(default=None)
            else:
                made = dataclasses.field(default=field.default)
            made.name = field.name
            made.type = field.check.gives
            made._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
            return made  # type: ignore[no-any-return]

        return {
            field.name: make(field)
            for field in FIELDS
            if config is None or field.name in config._given
        }


class _Signature:
    """``inspect.signature(CacheConfig)``, made when somebody asks."""

    def __get__(self, config: CacheConfig | None, owner: type) -> Any:
        import inspect

        return inspect.Signature(
            [
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=UNSET if callable(field.default) else field.default,
                    annotation=field.check.takes,
                )
                for field in FIELDS
            ]
        )


def _add_readers() -> None:
    for field in FIELDS:
        setattr(CacheConfig, field.name, _Reader(field))


_add_readers()
CacheConfig.__dataclass_fields__ = _DataclassFields()  # type: ignore[attr-defined]
CacheConfig.__signature__ = _Signature()  # type: ignore[attr-defined]
CacheConfig.__module__ = "cachekit"


def _fill(
    config: CacheConfig, given: dict[str, Any], origin: dict[str, str]
) -> CacheConfig:
    object.__setattr__(config, "_given", given)
    object.__setattr__(config, "_origin", origin)
    config.validate()
    return config


def _rebuild(given: dict[str, Any], origin: dict[str, str]) -> CacheConfig:
    return _fill(CacheConfig.__new__(CacheConfig), given, origin)


def _hashable(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _shown(field: Field, value: Any) -> str:
    if field.secret and value:
        return "'***'"
    return repr(mask_url(value)) if field.name == "redis_url" and value else repr(value)


def _judge(field: Field, value: Any) -> Any:
    """A value given in code, normalised."""
    try:
        return field.check.check(value)
    except (TypeError, ValueError) as error:
        accepted = field.check.accepted
        raise _refused(field, field.name, accepted, value, error) from None


def _read(field: Field, variable: str, text: str) -> Any:
    """The text of a variable as a value."""
    try:
        return field.check.parse(text)
    except (TypeError, ValueError) as error:
        accepted = field.check.reads or field.check.accepted
        raise _refused(field, variable, accepted, text, error) from None


def _refused(
    field: Field, where: str, accepted: str, value: object, error: Exception
) -> ConfigurationError:
    if field.name == "master_key":
        return invalid_master_key()
    if isinstance(error, ConfigurationError) and isinstance(value, str):
        # A URL: what is wrong inside it says more than what a URL looks like.
        error.message = error.message.replace(field.name, where, 1)
        error.args = (error.message,)
        return error
    shown = held(value, secret=field.secret)
    made = refusal(ConfigurationError, where, accepted, shown, error)
    assert isinstance(made, ConfigurationError)
    return made


def _variables(
    config: CacheConfig, environ: Mapping[str, str] | None
) -> Iterator[tuple[Field, str, str]]:
    """The variables that are set and count, with their text.

    A variable that is empty is as good as unset: that is how compose files and CI
    systems unset one.
    """
    if environ is None:
        environ = os.environ
    present = {
        name: text
        for name, value in environ.items()
        if name.startswith(PREFIX) and (text := value.strip())
    }
    has_store = any(config.is_set(name) for name in STORES)
    for field in FIELDS:
        if field.variable not in present or config.is_set(field.name):
            continue
        if field.name in STORES and has_store:
            continue
        if (
            field.name == "connection_pool_size"
            and "max_connections" in config.connection_pool_kwargs
        ):
            continue
        yield field, field.variable, present[field.variable]
    if not has_store and not any(PREFIX + s.upper() in present for s in STORES):
        url = environ.get("REDIS_URL", "").strip()
        if url:
            _tell_borrowed(url)
            yield _BY_NAME["redis_url"], "REDIS_URL", url
    _tell_unknown(present)


def _tell_borrowed(url: str) -> None:
    from cachekit._logging import default_log

    default_log().once(
        ("REDIS_URL", url),
        "info",
        "using REDIS_URL (%s), as no CACHEKIT_ store variable is set",
        mask_url(url),
        event="redis_url_borrowed",
    )


def _tell_unknown(present: dict[str, str]) -> None:
    """A misspelt variable would be ignored without a word."""
    known = {field.variable for field in FIELDS if field.variable is not None}
    for name in sorted(present.keys() - known):
        match = nearest(name, known, cutoff=0.85)
        if match is not None:
            from cachekit._logging import default_log

            default_log().once(
                name,
                "warning",
                "the environment variable %s is unknown and has no effect; did you "
                "mean %s?",
                name,
                match,
                event="unknown_variable",
            )
