# SPDX-License-Identifier: MIT
"""The keywords of the decorator: one table, as for the configuration.

``OPTIONS`` makes the validation at decoration, ``FunctionOptions`` (what one decorated
function asked for), the typed keywords and the page. ``PRESETS`` are plain mappings
over the same names.

Two steps: ``FunctionOptions.of(preset, given)`` judges everything at decoration without
reading the environment; ``resolve(config)`` at first use fills in what was left to the
configuration.

THREADING  Immutable after construction.
"""

from __future__ import annotations

from cachekit._checks import (
    NEVER_NS,
    UNSET,
    Check,
    Choice,
    Flag,
    Function,
    Maybe,
    Namespace,
    Number,
    Seconds,
    Text,
    Whole,
    held,
    refusal,
    sequence_of_text,
    to_ns,
    unknown_name,
)
from cachekit._errors import (
    ConfigurationError,
    NotBuiltYet,
    invalid_master_key,
    missing_master_key,
)
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


# -- checks that only the decorator has -----------------------------------------------


class Ttl(Seconds):
    """``ttl=``: also a callable of the result, and None for the configured default."""

    def __init__(self) -> None:
        super().__init__(never=True, function=True)
        self.accepted += ", or None for the configured default"
        self.takes += " | None"

    def check(self, value: Any) -> Any:
        return UNSET if value is None else super().check(value)


class Follows(Maybe):
    """None means the same as leaving it out: the configuration decides."""

    def __init__(self, inner: Check, *, nullable: bool = False) -> None:
        super().__init__(inner)
        self.gives = inner.gives + (" | None" if nullable else "")
        self.accepted += " for what the configuration says"

    def check(self, value: Any) -> Any:
        return UNSET if value is None else self.inner.check(value)


class StrategyName(Check):
    accepted = "a cachekit.Strategy or its name: FRESH, REFRESH, INVALIDATE, BYPASS"
    takes = "Strategy | str"
    gives = "Strategy"

    def check(self, value: Any) -> Strategy:
        try:
            return Strategy.parse(value)
        except ValueError:
            raise ValueError from None
        except TypeError:
            raise TypeError from None


class ExceptionTypes(Check):
    accepted = "an Exception class or a tuple of them"
    takes = "type[Exception] | tuple[type[Exception], ...]"
    gives = "tuple[type[Exception], ...]"

    def check(self, value: Any) -> tuple[type[Exception], ...]:
        kinds = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        for kind in kinds:
            if not isinstance(kind, type):
                raise TypeError
            if not issubclass(kind, Exception):
                raise ValueError("only subclasses of Exception can be stood in for")
        if not kinds:
            raise ValueError
        return kinds


class ParameterNames(Check):
    accepted = "the name of a parameter, or a tuple or list of names"
    takes = "str | Iterable[str]"
    gives = "tuple[str, ...]"

    def check(self, value: Any) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else sequence_of_text(value)
        # *args and **kwargs may be written with their stars.
        if not all(name.lstrip("*").isidentifier() for name in names):
            raise ValueError
        if len(set(names)) != len(names):
            raise ValueError("a name is given twice")
        return names


class SerializerObject(Check):
    accepted = "an object with name, serialize(value) and deserialize(data)"
    takes = gives = "Serializer | None"

    def check(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, type):
            raise TypeError("give an instance: " + value.__name__ + "()")
        if not isinstance(getattr(value, "name", None), str):
            raise TypeError
        for method in ("serialize", "deserialize"):
            if not callable(getattr(value, method, None)):
                raise TypeError
        if not 1 <= len(value.name) <= 64:
            raise ValueError("its name must have 1 to 64 characters")
        return value


class ResultType(Check):
    accepted = "a type, an annotation such as list[Point], or a tuple of them"
    takes = gives = "Any"

    def check(self, value: Any) -> Any:
        for item in value if isinstance(value, tuple) else (value,):
            if item is None or isinstance(item, type):
                continue
            # list[X], Optional[X], X | Y, Annotated[X, ...], NewType, TypeAliasType
            if not any(
                hasattr(item, name)
                for name in ("__origin__", "__args__", "__supertype__", "__value__")
            ):
                raise TypeError
        return value


class BackendChoice(Check):
    accepted = (
        "None for memory only, a URL (redis://, rediss://, unix://), or a backend "
        "object with read, write and delete"
    )
    takes = gives = "Any"

    def check(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, str):
            from cachekit.backends._url import parse_redis_url

            url = parse_redis_url(value, "backend")
            if not url.built:
                raise NotBuiltYet(f"backend={url.scheme}://")
            return value
        if isinstance(value, type):
            raise TypeError("give an instance: " + value.__name__ + "()")
        methods = (getattr(value, name, None) for name in ("read", "write", "delete"))
        if not all(callable(method) for method in methods):
            raise TypeError
        return value


class Later(Check):
    """An option that this version knows by name only, and its default."""

    accepted = "left out"

    def __init__(self, takes: str, *defaults: Any) -> None:
        self.takes = takes
        self.gives = takes
        self.defaults = defaults

    def check(self, value: Any) -> Any:
        for default in self.defaults:
            if type(value) is type(default) and value == default:
                return tuple(default) if isinstance(default, list) else default
        raise NotImplementedError


# -- the table ------------------------------------------------------------------------


class Option:
    """One row of the table: everything that is known of one keyword.

    ``follows`` is the field of ``CacheConfig`` that decides when it is left out;
    ``local`` tells whether ``@cache.local`` takes it; ``preset_only`` are named by
    presets and not by users.
    """

    __slots__ = (
        "built",
        "check",
        "default",
        "doc",
        "doc_default",
        "follows",
        "gives",
        "local",
        "name",
        "preset_only",
    )

    def __init__(
        self,
        name: str,
        default: Any,
        check: Check,
        doc: str,
        *,
        follows: str | None = None,
        local: bool = False,
        preset_only: bool = False,
        doc_default: str | None = None,
    ) -> None:
        self.name = name
        self.default = UNSET if follows is not None else default
        self.check = check
        self.doc = doc
        self.follows = follows
        self.local = local
        self.preset_only = preset_only
        self.built = not isinstance(check, Later)
        self.gives = check.gives
        if doc_default is None:
            if follows is not None:
                doc_default = f"`{follows}`"
            elif default is None:
                doc_default = "none"
            else:
                doc_default = f"`{default!r}`"
        self.doc_default = doc_default


_LIFETIME = Seconds()
_DAY = 86400.0

OPTIONS: tuple[Option, ...] = (
    Option(
        "ttl",
        None,
        Ttl(),
        "How long a result is fresh.",
        follows="default_ttl",
        local=True,
    ),
    Option(
        "stale_ttl",
        None,
        Maybe(_LIFETIME),
        "For how long after that the old value is served at once, while one refresh "
        "runs in the background.",
        local=True,
    ),
    Option(
        "serve_stale_on_error",
        False,
        Flag(),
        "When the function raises, serve the old value.",
        local=True,
    ),
    Option(
        "stale_if_error_ttl",
        None,
        Maybe(_LIFETIME),
        "For how long after the fresh period `serve_stale_on_error` may do so.",
        local=True,
        doc_default="24 h",
    ),
    Option(
        "stale_on",
        (Exception,),
        ExceptionTypes(),
        "The exceptions that `serve_stale_on_error` stands in for.",
        local=True,
        doc_default="`(Exception,)`",
    ),
    Option(
        "stale_retry",
        1.0,
        Seconds(),
        "After the function raised, how long its old value is served before it is "
        "tried again; grows to 30 s.",
        local=True,
        doc_default="1 s",
    ),
    Option(
        "ttl_jitter",
        None,
        Follows(Number(0, 0.5, "a number from 0 to 0.5")),
        "Shortens each lifetime by up to this fraction, at random.",
        follows="ttl_jitter",
        local=True,
    ),
    Option(
        "negative_ttl",
        None,
        Maybe(Seconds(zero=True, never=True)),
        "The lifetime of a result that is None; 0: not stored.",
        local=True,
        doc_default="as `ttl`",
    ),
    Option(
        "cache_if",
        None,
        Maybe(Function("the result", "object")),
        "Decides whether a result is stored. When it raises, the result is not.",
        local=True,
    ),
    Option(
        "namespace",
        None,
        Follows(Namespace(), nullable=True),
        "The first part of the function's keys in the store.",
        follows="namespace",
    ),
    Option(
        "name",
        None,
        Maybe(Text()),
        "Stands in for module and qualified name as the function's identity, and "
        "vouches that its closure does not matter.",
        local=True,
        doc_default="module and qualname",
    ),
    Option(
        "key",
        None,
        Maybe(Function("the arguments", "Any")),
        "Makes the argument part of the key.",
        local=True,
    ),
    Option(
        "full_key",
        None,
        Maybe(Function("the arguments", "str")),
        "Makes the whole name within the namespace, shared with `cache.get`, `set` and "
        "`delete` of that name.",
    ),
    Option(
        "ignore",
        (),
        ParameterNames(),
        "Parameters that are no part of the key.",
        local=True,
    ),
    Option(
        "on_uncacheable",
        "raise",
        Choice("raise", "call"),
        "What to do with an argument that cannot be part of a key: raise "
        "`UncacheableArgument`, or call through uncached, counted.",
        local=True,
        doc_default='`"raise"`',
    ),
    Option(
        "strategy",
        Strategy.REFRESH,
        StrategyName(),
        "How calls use the cache; `fn.using()` chooses another for one call.",
        local=True,
        doc_default="`REFRESH`",
    ),
    Option(
        "single_flight",
        True,
        Flag(),
        "Concurrent calls with the same arguments share one run.",
        local=True,
    ),
    Option(
        "single_flight_timeout",
        60.0,
        Seconds(),
        "How long a call waits for another's run before it runs by itself.",
        local=True,
        doc_default="60 s",
    ),
    Option(
        "fallback_enabled",
        None,
        Follows(Flag()),
        "Hide failures of the store; False makes them raise.",
        follows="fallback_enabled",
    ),
    Option(
        "l1_enabled",
        None,
        Follows(Flag()),
        "Keep the function's entries in the memory of the process.",
        follows="l1_enabled",
    ),
    Option(
        "l1_ttl",
        None,
        Follows(Seconds(), nullable=True),
        "A cap on how long memory serves an entry without asking the store.",
        follows="l1_ttl",
    ),
    Option(
        "backend",
        UNSET,
        BackendChoice(),
        "The shared store of this function.",
        doc_default="the configured store",
    ),
    Option(
        "max_entries",
        None,
        Maybe(Whole(1)),
        "Of `@cache.local` only: a bound in entries, for a table of its own.",
        local=True,
    ),
    Option(
        "serializer",
        None,
        SerializerObject(),
        "How values become bytes.",
        doc_default="`DEFAULT_SERIALIZER`",
    ),
    Option(
        "returns",
        None,
        Maybe(ResultType()),
        "The type of the results, where they are enums, dataclasses or named tuples.",
        doc_default="the annotation",
    ),
    Option(
        "compress_min",
        None,
        Follows(Whole(0, unit="bytes")),
        "Values of this size and more are compressed, where that shrinks them.",
        follows="compress_min",
    ),
    Option(
        "max_value_size",
        None,
        Follows(Whole(1, 512 * 1024 * 1024, unit="bytes")),
        "A larger value is returned and not cached.",
        follows="max_value_size",
    ),
    Option("tags", (), Later("Any", (), []), "Names to invalidate by."),
    Option("version", None, Later("int | None", None), "The version of the values."),
    Option("schema", None, Later("Any", None), "A type that values must match."),
    Option(
        "distributed_lock",
        False,
        Later("bool", False),
        "One run at a time across processes.",
    ),
    Option(
        "fence_ttl",
        3600.0,
        Later("Duration", 3600.0, 3600),
        "How long a fence of an invalidation is kept.",
    ),
    Option(
        "early_refresh",
        False,
        Later("bool", False),
        "Renew a hot entry before it ends.",
    ),
    Option(
        "soft_timeout",
        None,
        Later("Duration | None", None),
        "Serve a stale value when the function takes longer.",
    ),
    Option(
        "hard_timeout",
        None,
        Later("Duration | None", None),
        "Raise `LoaderTimeout` when the function takes longer.",
    ),
    Option(
        "coherence",
        "pubsub",
        Later("str", "pubsub"),
        "How processes learn of invalidations.",
    ),
    Option(
        "encryption",
        None,
        Later("bool | None", None, False),
        "Whether entries are encrypted.",
    ),
    Option("master_key", None, Later("str | None", None), "The master key."),
    Option(
        "tenant",
        None,
        Later("str | Callable[..., str] | ContextVar[str] | None", None, "default"),
        "Whose entries these are.",
    ),
    Option(
        "fail_closed",
        None,
        Later("bool | None", None, False),
        "Raise for an entry that is not authentic.",
    ),
    Option("interop", None, Later("str | None", None), "A name other languages share."),
    Option(
        "enable_circuit_breaker",
        None,
        Flag(),
        "Whether the store has a breaker.",
        follows="enable_circuit_breaker",
        preset_only=True,
    ),
    Option(
        "connection_retries",
        None,
        Whole(0, 1000),
        "How often a store operation is tried again.",
        follows="connection_retries",
        preset_only=True,
    ),
    Option(
        "references",
        False,
        Flag(),
        "Memory keeps the objects themselves.",
        preset_only=True,
    ),
    Option("debug", False, Flag(), "Log at DEBUG.", preset_only=True),
)

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
            "The defaults, and for a fleet: lifetimes shortened by up to a tenth at "
            "random, and the old value when the function raises. One run at a time "
            "holds within a process; across processes (`distributed_lock`) it is not "
            "part of this version.",
            {"ttl_jitter": 0.1, "serve_stale_on_error": True},
        ),
        Preset(
            "secure",
            "`production`, and every entry encrypted. Needs `CACHEKIT_MASTER_KEY`: "
            "E001 without one, E002 where it is none. Encryption is not part of this "
            "version: with a good key it raises `NotBuiltYet`.",
            {"ttl_jitter": 0.1, "serve_stale_on_error": True, "encryption": True},
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
    """

    __slots__ = (
        "given",
        "l1_ttl_ns",
        "negative_ttl_ns",
        "preset",
        "resolved",
        "single_flight_timeout_ns",
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

    if TYPE_CHECKING:
        # fmt: off
        # -- made by python -m cachekit._config --
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
        tags: Any
        version: int | None
        schema: Any
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
        if chosen.options.get("encryption") or given.get("encryption") is True:
            require_encryption(given, config)
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
        shown = ", ".join(f"{n}={held(v)}" for n, v in self.given.items())
        return f"<options of {self.preset.called}({shown})>"


def _in_ns(values: Mapping[str, Any]) -> dict[str, int | None]:
    ttl = values["ttl"]
    negative = values["negative_ttl"]
    stale = values["stale_ttl"]
    late = values["stale_if_error_ttl"]
    cap = values["l1_ttl"]
    plain = ttl is NEVER or isinstance(ttl, float)
    return {
        "ttl_ns": to_ns(ttl) if plain else None,
        "stale_ttl_ns": 0 if stale is None else to_ns(stale),
        "stale_if_error_ttl_ns": to_ns(late) if values["serve_stale_on_error"] else 0,
        "stale_retry_ns": to_ns(values["stale_retry"]),
        "negative_ttl_ns": None if negative is None else to_ns(negative),
        "single_flight_timeout_ns": to_ns(values["single_flight_timeout"]),
        "l1_ttl_ns": NEVER_NS if cap is None or cap is UNSET else to_ns(cap),
    }


def _judge(name: str, value: Any) -> Any:
    """One keyword's value, normalised."""
    check = _BY_NAME[name].check
    try:
        return check.check(value)
    except NotBuiltYet:
        raise
    except NotImplementedError:
        raise NotBuiltYet(name) from None
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
    if effective("l1_enabled") is False and effective("backend") is None:
        raise ValueError("l1_enabled=False and backend=None leave no place to cache in")


def require_encryption(
    given: Mapping[str, Any], config: CacheConfig | None = None
) -> NoReturn:
    """What a function that must be encrypted gets: E001, E002, or ``NotBuiltYet``.

    The key is the keyword's, else the configuration's, else the environment's.
    """
    import os

    from cachekit._config import is_master_key

    key = given.get("master_key")
    if key is None and config is not None:
        key = config.master_key
    if key is None:
        key = os.environ.get("CACHEKIT_MASTER_KEY", "").strip() or None
    if key is None:
        raise missing_master_key()
    if not isinstance(key, str) or not is_master_key(key):
        raise invalid_master_key()
    raise NotBuiltYet("@cache.secure", hint="Encryption is not part of this version")


if TYPE_CHECKING:
    # The keywords for the type checker: `**options: Unpack[Keywords]`.

    class Keywords(TypedDict, total=False):
        # fmt: off
        # -- made by python -m cachekit._config --
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
        tags: Any
        version: int | None
        schema: Any
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
        # -- made by python -m cachekit._config --
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
        # -- end --
        # fmt: on
