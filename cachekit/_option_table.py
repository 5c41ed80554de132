# SPDX-License-Identifier: MIT
"""The table of the decorator's keywords, and all that is known of each.

THREADING  Immutable.
"""

from __future__ import annotations

from cachekit._checks import (
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
    sequence_of_text,
)
from cachekit._errors import NotBuiltYet
from cachekit._types import Strategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OPTIONS", "Option"]


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


class Tags(Check):
    accepted = (
        "a list of names of 1 to 200 bytes of printable text, at most 32, or a "
        "callable of the arguments that returns one"
    )
    takes = "Iterable[str] | Callable[..., Iterable[str]]"
    gives = "tuple[str, ...] | Callable[..., Iterable[str]]"

    def check(self, value: Any) -> Any:
        if callable(value):
            return value
        from cachekit._versions import judge_tags

        return judge_tags(value)


class Schema(Check):
    accepted = "a type whose fields can be told: a class or an annotation"
    takes = gives = "Any"

    def check(self, value: Any) -> Any:
        from cachekit._schema import fingerprint

        fingerprint(value)
        return value


class MasterKey(Check):
    accepted = "hexadecimal digits, at least 64 of them"
    takes = gives = "str"

    def check(self, value: Any) -> str:
        from cachekit._errors import invalid_master_key
        from cachekit._fields import is_master_key

        if not isinstance(value, str) or not is_master_key(value):
            raise invalid_master_key()
        return value


class Tenant(Check):
    accepted = (
        "a text of 1 to 200 printable characters, a callable of the arguments that "
        "returns one, or a ContextVar"
    )
    takes = gives = "str | Callable[..., str] | ContextVar[str]"

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            if not 1 <= len(value) <= 200 or not value.isprintable():
                raise ValueError
            return str(value)
        if not callable(value) and not (
            hasattr(value, "get") and hasattr(value, "reset")
        ):
            raise TypeError
        return value


class Operation(Check):
    accepted = (
        "1 to 64 characters of a-z, 0-9, '.', '_' and '-', the first one of a-z and "
        "0-9, without '..'"
    )
    takes = gives = "str"

    def check(self, value: Any) -> str:
        from cachekit._wire3._interop import is_segment

        if not isinstance(value, str):
            raise TypeError
        if not is_segment(value):
            raise ValueError
        return str(value)


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


# -- the table ------------------------------------------------------------------------


class Option:
    """One row of the table: everything that is known of one keyword.

    ``follows`` is the field of ``CacheConfig`` that decides when it is left out;
    ``local`` tells whether ``@cache.local`` takes it; ``preset_only`` are named by
    presets and not by users.
    """

    __slots__ = (
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
        "The type of the results, where they are enums, dataclasses, named tuples or "
        "models.",
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
    Option(
        "tags",
        (),
        Tags(),
        "Names to invalidate by, or a callable of the arguments that gives them.",
        doc_default="none",
        local=True,
    ),
    Option(
        "version",
        None,
        Maybe(Whole(0, 2**32 - 1)),
        "The version of the values: entries of another are misses, and of two the "
        "higher keeps its place in the store.",
    ),
    Option(
        "schema",
        None,
        Maybe(Schema()),
        "A type: entries made under another fingerprint of it are misses.",
    ),
    Option(
        "distributed_lock",
        False,
        Flag(),
        "One run at a time across processes: after a miss a lock in the store is "
        "taken, and the others wait.",
    ),
    Option(
        "fence_ttl",
        3600.0,
        Seconds(),
        "How long the store remembers that a run is under way; one that takes longer "
        "stores nothing.",
        doc_default="1 h",
    ),
    Option(
        "early_refresh",
        False,
        Flag(),
        "Renew an entry in the background before it ends, the sooner the longer the "
        "function takes and the more often the entry is asked for.",
    ),
    Option(
        "soft_timeout",
        None,
        Maybe(Seconds()),
        "With `serve_stale_on_error`: where an old value exists, serve it when the "
        "function takes longer than this, and let the run finish in the background.",
    ),
    Option(
        "hard_timeout",
        None,
        Maybe(Seconds()),
        "When the function takes longer than this it has failed, with `LoaderTimeout`.",
    ),
    Option(
        "coherence",
        "pubsub",
        Choice("pubsub", "tracking"),
        "How the memory of this process learns what others invalidate: messages of "
        "theirs, or also the server's own tracking of keys, which tells of foreign "
        "deletions, evictions and expiry.",
    ),
    Option(
        "encryption",
        None,
        Maybe(Flag()),
        "Whether entries are encrypted; True requires a master key, False opts out of "
        "one.",
        doc_default="where there is a master key",
    ),
    Option(
        "master_key",
        None,
        Maybe(MasterKey()),
        "The master key of this function, in place of the configuration's.",
        doc_default="`master_key`",
    ),
    Option(
        "tenant",
        None,
        Maybe(Tenant()),
        "Whose entries these are: a text, a callable of the arguments, or a "
        "`ContextVar`. One tenant never reads the entries of another.",
        doc_default="`tenant`",
    ),
    Option(
        "fail_closed",
        None,
        Maybe(Flag()),
        "Raise `DecryptionError` for an entry that is not authentic, in place of "
        "calling the function.",
        doc_default="`encryption_fail_closed`",
    ),
    Option(
        "interop",
        None,
        Maybe(Operation()),
        "The operation that names the entries for programs in all languages; needs "
        "`namespace`.",
    ),
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
