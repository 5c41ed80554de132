# SPDX-License-Identifier: MIT
"""Who a function is on a shared store.

Its name (``name=``, else module and qualified name) and what its closure holds when it
is first used: the functions that ``make(1)`` and ``make(2)`` return are two. A variable
that some code rebinds (``nonlocal``) is state, not identity, and is left out; so is a
container that the function itself fills.

Functions that could be taken for each other all the same are not shared: lambdas,
closures over what has no canonical bytes or may change, methods bound to an object, and
a second function of one identity while the first is in use. They live in memory, where
each wrapper has entries of its own. ``name=`` vouches for the function.
"""

from __future__ import annotations

from weakref import ref

from cachekit import _core
from cachekit._errors import ConfigurationError
from cachekit._names import function_name
from cachekit._reduce import reduce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

__all__ = ["Identities", "Identity"]

_FunctionType = type(lambda: None)
_MAX_WRAPPERS = 64


class Identity:
    """Immutable: what the entries of a function are filed under.

    ``name``       for people, and for the readable part of a store key
    ``data``       canonical bytes of name and closure
    ``shareable``  whether a store may hold the entries
    ``reason``     why not, to complete "because ..."; None when it may
    """

    __slots__ = ("data", "name", "reason")

    name: str
    data: bytes
    reason: str | None

    def __init__(self, name: str, data: bytes, reason: str | None = None) -> None:
        for field, value in (("name", name), ("data", data), ("reason", reason)):
            object.__setattr__(self, field, value)

    @property
    def shareable(self) -> bool:
        return self.reason is None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an Identity cannot be changed")

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, {self.data!r}, {self.reason!r})"


class _Use:
    """A function that is in use under an identity."""

    __slots__ = ("function", "natural", "spec", "vouched")

    def __init__(
        self, function: Any, forget: Callable[[Any], None], natural: str, vouched: bool
    ) -> None:
        self.function = ref(function, forget)
        self.natural = natural
        self.vouched = vouched
        # A module that is loaded again gets another one.
        self.spec = _globals_of(function).get("__spec__")


class Identities:
    """The identities in use in one cache. Guarded by the lock of the cache."""

    def __init__(self) -> None:
        self._uses: dict[bytes, _Use] = {}

    def identify(
        self, function: Callable[..., Any], name: str | None = None
    ) -> Identity:
        """The identity of ``function`` at its first use.

        Raises ``ConfigurationError`` when ``name`` is in use by another function, and
        for a callable without a name of its own when none is given.
        """
        natural = _natural_name(function, name)
        if name is not None:
            data = _core.canonical((name,))
            self._check_vouched(data, name, natural)
            self._register(data, function, natural, vouched=True)
            return Identity(name, data)
        closure: tuple[object, ...] = ()
        reason = _unnamed(function)
        if reason is None:
            closure, reason = _closure_of(function)
        data = _core.canonical((natural, *closure))
        if reason is not None:
            return Identity(natural, data, reason)
        self._check_vouched(data, natural, natural)
        reason = self._conflict(data, function)
        if reason is None:
            self._register(data, function, natural, vouched=False)
        return Identity(natural, data, reason)

    def _check_vouched(self, data: bytes, name: str, natural: str) -> None:
        use = self._uses.get(data)
        if use is not None and use.natural != natural:
            raise ConfigurationError(
                f"name={name!r} is given to two functions, {use.natural} and {natural}",
                hint="They would take each other's entries: give each its own",
            )

    def _register(
        self, data: bytes, function: Any, natural: str, *, vouched: bool
    ) -> None:
        uses = self._uses

        def forget(reference: object) -> None:
            use = uses.get(data)
            if use is not None and use.function is reference:
                del uses[data]

        try:
            uses[data] = _Use(function, forget, natural, vouched)
        except TypeError:  # an object that takes no weak reference
            pass

    def _conflict(self, data: bytes, function: Any) -> str | None:
        """Why ``function`` cannot share: another one of its identity is in use."""
        use = self._uses.get(data)
        other = None if use is None else use.function()
        if use is None or other is None or use.vouched or _same_source(other, function):
            return None
        variables = _globals_of(function)
        if variables is _globals_of(other):
            if variables.get("__spec__") is not use.spec:
                return None  # the module was loaded again
            file = _file(function)
            typed = file.startswith("<") or file != _file(other)
            if typed and _found_under_its_name(function):
                return None  # a cell that was run again
        return f"another function of that name is in use, {_place(other)}"


# ---- functions -----------------------------------------------------------------------


def _natural_name(function: Any, name: str | None) -> str:
    try:
        return function_name(function)
    except ConfigurationError:
        if name is None:
            raise
        return f"an object of type {type(function).__qualname__}"


def _unnamed(function: Any) -> str | None:
    """Why the name of a function does not say which one it is."""
    if getattr(function, "__qualname__", "").endswith("<lambda>"):
        return "it is a lambda"
    if getattr(function, "__module__", None) is None and _globals_of(function):
        return "its module has no name"
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type(_core)):
        return f"it is bound to an object of type {type(owner).__qualname__}"
    return None


def _plain(function: Any) -> Any:
    """The Python function in a callable that wraps one, else the callable itself."""
    inner = function
    for _ in range(_MAX_WRAPPERS):  # an object may claim any attribute, without end
        if isinstance(inner, _FunctionType):
            return inner
        inner = getattr(inner, "__wrapped__", None)
    return function


def _globals_of(function: Any) -> dict[str, Any]:
    variables: dict[str, Any] = getattr(_plain(function), "__globals__", {})
    return variables


def _same_source(one: Any, other: Any) -> bool:
    """Are both made by one piece of source?"""
    first = getattr(_plain(one), "__code__", None)
    second = getattr(_plain(other), "__code__", None)
    if first is None or second is None:
        return first is second
    return bool(first == second and first.co_filename == second.co_filename)


def _file(function: Any) -> str:
    code = getattr(_plain(function), "__code__", None)
    return "" if code is None else str(code.co_filename)


def _found_under_its_name(function: Any) -> bool:
    parts = function.__qualname__.split(".")
    found = _globals_of(function).get(parts[0])
    for part in parts[1:]:
        found = getattr(found, "__dict__", {}).get(part)
    found = getattr(found, "__func__", found)
    return found is not None and _plain(found) is _plain(function)


def _place(function: Any) -> str:
    code = getattr(_plain(function), "__code__", None)
    if code is None:
        return f"an object of type {type(function).__qualname__}"
    return f"at line {code.co_firstlineno} of {code.co_filename}"


# ---- closures ------------------------------------------------------------------------


class _Unstable(Exception):
    """A variable that can be no part of an identity; the argument says why."""


def _closure_of(function: Any) -> tuple[tuple[object, ...], str | None]:
    """What tells the closure from others of its code, or why nothing does."""
    try:
        return tuple(_variables(function, [])), None
    except _Unstable as problem:
        return (), str(problem)


def _variables(function: Any, around: list[object]) -> Iterator[tuple[str, object]]:
    """(name, value) of each variable that is part of the identity.

    ``around`` holds the functions whose closures led here.
    """
    function = _plain(function)
    cells = getattr(function, "__closure__", None)
    if not cells:
        return
    wrapped = function.__dict__.get("__wrapped__")
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        if name == "__class__" and "<locals>" not in function.__qualname__:
            continue  # the class that a method is in is in its name
        if _is_rebound(function, name):
            continue
        try:
            value = cell.cell_contents
        except ValueError:
            raise _Unstable(f"its variable {name!r} has no value yet") from None
        if isinstance(value, _CONTAINERS) and _fills(function, name):
            continue
        inner = _plain(value)
        if inner is function or any(inner is outer for outer in around):
            yield name, ("itself",)
        elif value is wrapped or isinstance(value, _core.CachedFunction):
            inside = tuple(_variables(value, [*around, function]))
            yield name, ("function", function_name(value), inside)
        else:
            _require_stable(name, value)
            yield name, value


def _require_stable(name: str, value: object) -> None:
    if _may_change(value, 0):
        raise _Unstable(
            f"its variable {name!r} holds a {type(value).__qualname__}, which may "
            "change"
        )
    try:
        _core.canonical(value)
    except Exception:
        raise _Unstable(
            f"its variable {name!r} holds a {type(value).__qualname__}, which has no "
            "canonical bytes"
        ) from None


_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_CONTAINERS: tuple[type, ...] = (list, dict, set, bytearray)


def _may_change(value: Any, depth: int) -> bool:
    """Is there a part in ``value`` that can be changed in place?"""
    kind = type(value)
    if kind in _SCALARS or depth > 64:
        return False
    if kind in _CONTAINERS:
        return True
    if kind is tuple or kind is frozenset:
        return any(_may_change(item, depth + 1) for item in value)
    parts = reduce(value)
    if isinstance(parts, str) or parts[0] == "key":
        return False  # has no bytes at all, or says itself what it is
    if parts[0] == "ndarray":
        return True
    if parts[0] == "dataclass" and not kind.__dataclass_params__.frozen:
        return True
    return any(_may_change(part, depth + 1) for part in parts[1:])


# ---- what code does to variables -----------------------------------------------------

_LOADS = frozenset({"LOAD_CONST", "LOAD_FAST", "LOAD_GLOBAL", "LOAD_DEREF"})
_FILLS = frozenset(
    {"add", "append", "appendleft", "extend", "insert", "setdefault", "update"}
)


def _is_rebound(function: Any, name: str) -> bool:
    """Does a function assign to ``name``, a variable of one around it (``nonlocal``)?

    All functions that share the variable are looked at, where the name of this one
    leads to the function around them; else this one and those in it.
    """
    owner = function.__code__
    for code in _codes_around(function):
        if name in code.co_cellvars:
            owner = code
    return any(
        operation in ("STORE_DEREF", "DELETE_DEREF") and argument == name
        for code in _sharing(owner, name)
        if name in code.co_freevars
        for operation, argument in _instructions(code)
    )


def _codes_around(function: Any) -> list[CodeType]:
    """The codes of the functions around this one, from the outermost to the nearest."""
    outer = function.__qualname__.partition(".<locals>")[0].split(".")
    found: Any = function.__globals__.get(outer[0])
    for part in outer[1:]:
        found = getattr(found, "__dict__", {}).get(part)
    found = _plain(getattr(found, "__func__", found))
    code = getattr(found, "__code__", None)
    return [] if code is None else _path(code, function.__code__)


def _path(outer: CodeType, inner: CodeType) -> list[CodeType]:
    """The codes that ``inner`` is in, from ``outer`` on; empty when it is not in it."""
    for code in outer.co_consts:
        if code is inner:
            return [outer]
        if isinstance(code, type(inner)):
            path = _path(code, inner)
            if path:
                return [outer, *path]
    return []


def _sharing(code: CodeType, name: str) -> Iterator[CodeType]:
    """A code that has the variable ``name``, and those in it that have it from it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, type(code)) and name in inner.co_freevars:
            yield from _sharing(inner, name)


def _fills(function: Any, name: str) -> bool:
    """Does it add to the container ``name``: ``calls.append(x)``, ``n[x] += 1``?"""
    for code in _sharing(function.__code__, name):
        steps = _instructions(code)
        for loaded, first, second in zip(steps, steps[1:], steps[2:], strict=False):
            if loaded != ("LOAD_DEREF", name):
                continue
            if first[0] in ("LOAD_ATTR", "LOAD_METHOD") and first[1] in _FILLS:
                return True
            stores = second[0] in ("STORE_SUBSCR", "DUP_TOP_TWO")
            if first[0] in _LOADS and (stores or second == ("COPY", 2)):
                return True
    return False


def _instructions(code: CodeType) -> list[tuple[str, object]]:
    import dis

    return [(step.opname, step.argval) for step in dis.get_instructions(code)]
