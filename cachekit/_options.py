# SPDX-License-Identifier: MIT
"""The keywords of the decorator: one table, as for the configuration.

``OPTIONS``, in ``_option_table.py``, makes the validation at decoration,
``FunctionOptions`` (what one decorated function asked for), the typed keywords and the
page. ``PRESETS`` are plain mappings over the same names.

Two steps: ``FunctionOptions.of(preset, given)`` judges everything at decoration without
reading the environment; ``resolve(config)`` at first use fills in what was left to the
configuration.

THREADING  Immutable after construction.
"""

from __future__ import annotations

from cachekit._checks import (
    NEVER_NS,
    UNSET,
    Seconds,
    held,
    refusal,
    to_ns,
    unknown_name,
)
from cachekit._errors import (
    ConfigurationError,
    invalid_master_key,
    missing_master_key,
)
from cachekit._option_table import OPTIONS, Option
from cachekit._types import NEVER, Strategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar
    from typing import Any, NoReturn

    from typing_extensions import TypedDict

    from cachekit._checks import Duration, LifetimeOf
    from cachekit._config import CacheConfig
    from cachekit._types import Never
    from cachekit.serializers import Serializer

__all__ = ["OPTIONS", "PRESETS", "FunctionOptions", "Option", "Preset", "judge_ttl"]

_DAY = 86400.0
_LIFETIME = Seconds()
_BY_NAME = {option.name: option for option in OPTIONS}
_KEYWORDS = tuple(option.name for option in OPTIONS if not option.preset_only)
_COMMON = tuple(name for name in _KEYWORDS if name != "max_entries")
_LOCAL = tuple(option.name for option in OPTIONS if option.local)


# -- presets --------------------------------------------------------------------------


class Preset:
    """A name for a set of options. ``options`` is a plain mapping over ``OPTIONS``."""

    def __init__(
        self,
        name: str,
        doc: str,
        options: Mapping[str, Any],
        takes: tuple[str, ...] = _COMMON,
    ) -> None:
        self.name = name
        self.doc = self.__doc__ = doc
        self.options = options
        #: The keywords that a user may give with it.
        self.takes = takes

    @property
    def called(self) -> str:
        """As the user writes it."""
        return f"@cache.{self.name}" if self.name else "@cache"


_PRODUCTION = {
    "distributed_lock": True,
    "ttl_jitter": 0.1,
    "serve_stale_on_error": True,
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("", "Cache the results of a function.", {}),
        Preset(
            "minimal",
            "As little as possible around the function: no breaker, no retries, no "
            "single flight.",
            {
                "enable_circuit_breaker": False,
                "connection_retries": 0,
                "single_flight": False,
            },
        ),
        Preset(
            "production",
            "The defaults, and for a fleet: one run at a time across processes, "
            "lifetimes shortened by up to a tenth at random, and the old value when "
            "the function raises.",
            _PRODUCTION,
        ),
        Preset(
            "secure",
            "`production`, and every entry encrypted, in the store and in memory. "
            "Needs `CACHEKIT_MASTER_KEY`: E001 without one, E002 where it is none.",
            {**_PRODUCTION, "encryption": True},
        ),
        Preset(
            "dev",
            "For development: memory only, logs at DEBUG, and failures of the cache "
            "surface.",
            {"backend": None, "debug": True, "fallback_enabled": False},
        ),
        Preset(
            "test",
            "For test suites: memory only, entries do not expire, and failures of the "
            "cache surface.",
            {"backend": None, "ttl": NEVER, "fallback_enabled": False},
        ),
        Preset(
            "local",
            "References in this process, as `functools.lru_cache` keeps them: every "
            "caller gets the same object, and any argument is accepted. Entries do not "
            "expire. No store, never encrypted.",
            {"backend": None, "ttl": NEVER, "references": True},
            takes=_LOCAL,
        ),
    )
}


# -- what one function asked for ------------------------------------------------------


class FunctionOptions:
    """The options of one decorated function; an attribute for each.

    After ``of`` an option that follows the configuration is ``UNSET``; after
    ``resolve`` only ``backend`` may be (the configured store). Times are float seconds
    (or ``NEVER``, or for ``ttl`` a callable of the result), and each has a twin in the
    core's nanoseconds:

    ``ttl_ns``                    None where ``ttl`` is a callable
    ``stale_ttl_ns``              0 where there is none
    ``stale_if_error_ttl_ns``     0 unless ``serve_stale_on_error``
    ``stale_retry_ns``
    ``negative_ttl_ns``           None: as ``ttl``; 0: not stored
    ``single_flight_timeout_ns``
    ``l1_ttl_ns``                 ``NEVER_NS`` where there is no cap
    ``soft_timeout_ns``, ``hard_timeout_ns``  0 where there is none
    ``fence_ttl_ns``
    """

    __slots__ = (
        "fence_ttl_ns",
        "given",
        "hard_timeout_ns",
        "l1_ttl_ns",
        "negative_ttl_ns",
        "preset",
        "resolved",
        "single_flight_timeout_ns",
        "soft_timeout_ns",
        "stale_if_error_ttl_ns",
        "stale_retry_ns",
        "stale_ttl_ns",
        "ttl_ns",
        *(option.name for option in OPTIONS),
    )

    #: What the user gave, by name, normalised.
    given: dict[str, Any]
    preset: Preset
    #: Whether the configuration has been filled in.
    resolved: bool
    ttl_ns: int | None
    stale_ttl_ns: int
    stale_if_error_ttl_ns: int
    stale_retry_ns: int
    negative_ttl_ns: int | None
    single_flight_timeout_ns: int
    l1_ttl_ns: int
    soft_timeout_ns: int
    hard_timeout_ns: int
    fence_ttl_ns: int

    if TYPE_CHECKING:
        # fmt: off
        # -- made by python -m cachekit._config_page --
        ttl: float | Never | LifetimeOf
        stale_ttl: float | None
        serve_stale_on_error: bool
        stale_if_error_ttl: float | None
        stale_on: tuple[type[Exception], ...]
        stale_retry: float
        ttl_jitter: float
        negative_ttl: float | Never | None
        cache_if: Callable[[Any], object] | None
        namespace: str | None
        name: str | None
        key: Callable[..., Any] | None
        full_key: Callable[..., str] | None
        ignore: tuple[str, ...]
        on_uncacheable: str
        strategy: Strategy
        single_flight: bool
        single_flight_timeout: float
        fallback_enabled: bool
        l1_enabled: bool
        l1_ttl: float | None
        backend: Any
        max_entries: int | None
        serializer: Serializer | None
        returns: Any | None
        compress_min: int
        max_value_size: int
        tags: tuple[str, ...] | Callable[..., Iterable[str]]
        version: int | None
        schema: Any | None
        distributed_lock: bool
        fence_ttl: float
        early_refresh: bool
        soft_timeout: float | None
        hard_timeout: float | None
        coherence: str
        encryption: bool | None
        master_key: str | None
        tenant: str | Callable[..., str] | ContextVar[str] | None
        fail_closed: bool | None
        interop: str | None
        enable_circuit_breaker: bool
        connection_retries: int
        references: bool
        debug: bool
        # -- end --
        # fmt: on

    @classmethod
    def of(
        cls, preset: str, given: Mapping[str, Any], config: CacheConfig | None = None
    ) -> FunctionOptions:
        """Judge what was given to ``@cache`` ("") or a preset of it.

        ``config`` is that of the ``Cache``; it is only asked for a master key.

        Raises TypeError for an unknown keyword (naming the nearest) or a value of the
        wrong kind, ValueError for one out of range or a contradiction, ``NotBuiltYet``
        for one that this version does not have; where encryption is required,
        ``ConfigurationError`` E001 or E002. Only for that the environment is read.
        """
        chosen = PRESETS[preset]
        for name in given:
            if name not in chosen.takes:
                raise _unknown(chosen, name)
        if given.get("encryption", chosen.options.get("encryption")) is True:
            require_master_key(given, config)
        judged = {name: _judge(name, value) for name, value in given.items()}
        _check_together(chosen, judged)
        values = {option.name: option.default for option in OPTIONS}
        values.update(chosen.options)
        values.update(judged)
        return cls._make(chosen, judged, values, resolved=False)

    def resolve(self, config: CacheConfig) -> FunctionOptions:
        """The same with everything decided; ``config`` has seen the environment."""
        values = {option.name: getattr(self, option.name) for option in OPTIONS}
        for option in OPTIONS:
            if option.follows is not None and values[option.name] is UNSET:
                values[option.name] = getattr(config, option.follows)
        return self._make(self.preset, self.given, values, resolved=True)

    @classmethod
    def _make(
        cls,
        preset: Preset,
        given: dict[str, Any],
        values: dict[str, Any],
        *,
        resolved: bool,
    ) -> FunctionOptions:
        self = cls.__new__(cls)
        if values["serve_stale_on_error"] and values["stale_if_error_ttl"] is None:
            values["stale_if_error_ttl"] = _DAY
        for name, value in values.items():
            object.__setattr__(self, name, value)
        for name, value in _in_ns(values).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "preset", preset)
        object.__setattr__(self, "given", given)
        object.__setattr__(self, "resolved", resolved)
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("FunctionOptions is immutable")

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={held(value, secret=name == 'master_key')}"
            for name, value in self.given.items()
        )
        return f"<options of {self.preset.called}({shown})>"


def _in_ns(values: Mapping[str, Any]) -> dict[str, int | None]:
    ttl = values["ttl"]
    negative = values["negative_ttl"]
    stale = values["stale_ttl"]
    late = values["stale_if_error_ttl"]
    cap = values["l1_ttl"]
    soft, hard = values["soft_timeout"], values["hard_timeout"]
    plain = ttl is NEVER or isinstance(ttl, float)
    return {
        "ttl_ns": to_ns(ttl) if plain else None,
        "stale_ttl_ns": 0 if stale is None else to_ns(stale),
        "stale_if_error_ttl_ns": to_ns(late) if values["serve_stale_on_error"] else 0,
        "stale_retry_ns": to_ns(values["stale_retry"]),
        "negative_ttl_ns": None if negative is None else to_ns(negative),
        "single_flight_timeout_ns": to_ns(values["single_flight_timeout"]),
        "l1_ttl_ns": NEVER_NS if cap is None or cap is UNSET else to_ns(cap),
        "soft_timeout_ns": 0 if soft is None else to_ns(soft),
        "hard_timeout_ns": 0 if hard is None else to_ns(hard),
        "fence_ttl_ns": to_ns(values["fence_ttl"]),
    }


def _judge(name: str, value: Any) -> Any:
    """One keyword's value, normalised."""
    check = _BY_NAME[name].check
    try:
        return check.check(value)
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise refusal(kind, name, check.accepted, held(value), error) from None


def judge_ttl(ttl: Any) -> float | Never | None:
    """A lifetime that is not a keyword of the decorator: seconds, or ``NEVER``; None
    for None, the configured default. Raises as the keyword would."""
    judged = _judge("ttl", ttl)
    if callable(judged):
        raise TypeError(f"ttl must be {_LIFETIME.accepted}, not a function")
    return None if judged is UNSET else judged


def _unknown(preset: Preset, name: str) -> TypeError:
    if name == "max_entries":
        return TypeError(
            f"max_entries belongs to @cache.local; for {preset.called} set "
            "l1_max_entries in CacheConfig"
        )
    if name in _KEYWORDS:
        return TypeError(
            f"{preset.called} keeps references in this process and takes no {name!r}; "
            "it takes: " + ", ".join(preset.takes)
        )
    return unknown_name(preset.called, name, preset.takes)


#: (an option, what it needs, how the user says that): without it, it would be ignored.
_NEEDS = (
    ("stale_if_error_ttl", "serve_stale_on_error", True),
    ("stale_on", "serve_stale_on_error", True),
    ("stale_retry", "serve_stale_on_error", True),
    ("soft_timeout", "serve_stale_on_error", True),
    ("single_flight_timeout", "single_flight", True),
    ("l1_ttl", "l1_enabled", True),
)
#: Two options that say different things about one matter.
_EXCLUDE = (("key", "full_key"), ("key", "ignore"), ("full_key", "ignore"))


def _check_together(preset: Preset, judged: Mapping[str, Any]) -> None:
    """Refuse what would otherwise be accepted and ignored."""

    def effective(name: str) -> Any:
        if name in judged:
            return judged[name]
        return preset.options.get(name, _BY_NAME[name].default)

    for name, needed, wanted in _NEEDS:
        if judged.get(name) in (None, UNSET):
            continue
        if effective(needed) not in (wanted, UNSET):
            raise ValueError(f"{name} has no effect without {needed}={wanted}")
    for one, other in _EXCLUDE:
        if judged.get(one) and judged.get(other):
            raise ValueError(f"{one} and {other} exclude each other: give one of them")
    if preset.options.get("encryption") is True and effective("encryption") is not True:
        raise ValueError(
            f"{preset.called} encrypts: use @cache.production for entries that are not"
        )
    soft, hard = effective("soft_timeout"), effective("hard_timeout")
    if soft is not None and hard is not None and soft >= hard:
        raise ValueError("soft_timeout has no effect unless it is below hard_timeout")
    if effective("l1_enabled") is False and effective("backend") is None:
        raise ValueError("l1_enabled=False and backend=None leave no place to cache in")


def require_master_key(
    given: Mapping[str, Any], config: CacheConfig | None = None
) -> None:
    """Raise E001 where a function that must be encrypted has no key, E002 for a bad
    one. The key is the keyword's, else the configuration's, else the environment's.
    """
    import os

    from cachekit._fields import is_master_key

    key = given.get("master_key")
    if key is None and config is not None:
        key = config.master_key
    if key is None:
        key = os.environ.get("CACHEKIT_MASTER_KEY", "").strip() or None
    if key is None:
        raise missing_master_key()
    if not isinstance(key, str) or not is_master_key(key):
        raise invalid_master_key()


if TYPE_CHECKING:
    # The keywords for the type checker: `**options: Unpack[Keywords]`.

    class Keywords(TypedDict, total=False):
        # fmt: off
        # -- made by python -m cachekit._config_page --
        ttl: Duration | Never | LifetimeOf | None
        stale_ttl: Duration | None
        serve_stale_on_error: bool
        stale_if_error_ttl: Duration | None
        stale_on: type[Exception] | tuple[type[Exception], ...]
        stale_retry: Duration
        ttl_jitter: float | None
        negative_ttl: Duration | Never | None
        cache_if: Callable[[Any], object] | None
        namespace: str | None
        name: str | None
        key: Callable[..., Any] | None
        full_key: Callable[..., str] | None
        ignore: str | Iterable[str]
        on_uncacheable: str
        strategy: Strategy | str
        single_flight: bool
        single_flight_timeout: Duration
        fallback_enabled: bool | None
        l1_enabled: bool | None
        l1_ttl: Duration | None
        backend: Any
        max_entries: int | None
        serializer: Serializer | None
        returns: Any | None
        compress_min: int | None
        max_value_size: int | None
        tags: Iterable[str] | Callable[..., Iterable[str]]
        version: int | None
        schema: Any | None
        distributed_lock: bool
        fence_ttl: Duration
        early_refresh: bool
        soft_timeout: Duration | None
        hard_timeout: Duration | None
        coherence: str
        encryption: bool | None
        master_key: str | None
        tenant: str | Callable[..., str] | ContextVar[str] | None
        fail_closed: bool | None
        interop: str | None
        # -- end --
        # fmt: on

    class LocalKeywords(TypedDict, total=False):
        # fmt: off
        # -- made by python -m cachekit._config_page --
        ttl: Duration | Never | LifetimeOf | None
        stale_ttl: Duration | None
        serve_stale_on_error: bool
        stale_if_error_ttl: Duration | None
        stale_on: type[Exception] | tuple[type[Exception], ...]
        stale_retry: Duration
        ttl_jitter: float | None
        negative_ttl: Duration | Never | None
        cache_if: Callable[[Any], object] | None
        name: str | None
        key: Callable[..., Any] | None
        ignore: str | Iterable[str]
        on_uncacheable: str
        strategy: Strategy | str
        single_flight: bool
        single_flight_timeout: Duration
        max_entries: int | None
        tags: Iterable[str] | Callable[..., Iterable[str]]
        # -- end --
        # fmt: on
