# SPDX-License-Identifier: MIT
"""Arguments that are no built-in values, taken apart into plain ones.

``reduce(obj)`` gives a tuple that starts with a word for the kind of object and holds
what tells two of that kind apart, or a text that says why there is no such tuple. The
core writes the tuple in place of the object, so objects of different kinds never share
a key. A class stands in it as module and qualified name.

No module is imported for a type here: where an object of the type exists, the module
is imported already.
"""

from __future__ import annotations

import sys
from types import MethodType

from cachekit._names import function_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Reduced: TypeAlias = tuple[object, ...] | str
    Reducer: TypeAlias = Callable[[Any], Reduced]

__all__ = ["reduce"]

#: How objects of a type are taken apart, found once for each type.
_reducers: dict[type, Reducer] = {}
#: Programs that make classes without end must not fill memory.
_MAX_REDUCERS = 4096

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that is not part of the interpreter


def reduce(obj: object) -> Reduced:
    """Take ``obj`` apart into a tuple of plain values, or say in a text why not."""
    kind = type(obj)
    reducer = _reducers.get(kind)
    if reducer is None:
        reducer = _reducer_of(kind)
    return reducer(obj)


def _keep(kind: type, reducer: Reducer) -> Reducer:
    if len(_reducers) >= _MAX_REDUCERS:
        _reducers.clear()
    _reducers[kind] = reducer
    return reducer


def _reducer_of(kind: type) -> Reducer:
    if _gives(kind, "__cache_key__"):
        return _own_key(kind)
    reducer = _KNOWN.get(f"{kind.__module__}.{kind.__qualname__}")
    if reducer is not None:
        return _keep(kind, reducer)
    if issubclass(kind, type):
        return _keep(kind, _class)
    if kind.__module__ == "numpy" and _is_numpy_scalar(kind):
        return _keep(kind, _numpy_scalar)
    for recognise in (_as_enum, _as_named_tuple, _as_dataclass):
        reducer = recognise(kind)
        if reducer is not None:
            return reducer
    if kind is MethodType:
        return _keep(kind, _method)
    return _named_or_refused(kind)


def _gives(kind: type, name: str) -> bool:
    """Does a class give its instances a method? (Those of a metaclass are its own.)"""
    return any(name in base.__dict__ for base in kind.__mro__)


# ---- names ---------------------------------------------------------------------------


def _full_name(obj: Any) -> str:
    """Module and qualified name for a message."""
    module = getattr(obj, "__module__", None)
    name = getattr(obj, "__qualname__", None) or type(obj).__qualname__
    return name if module in (None, "builtins") else f"{module}.{name}"


def _found_by_name(obj: object, module: object, qualname: object) -> bool:
    """Does ``qualname`` in the imported ``module`` give ``obj``?"""
    if not isinstance(module, str) or not isinstance(qualname, str):
        return False
    *outer, name = qualname.split(".")
    owner: Any = sys.modules.get(module)
    for part in outer:
        owner = getattr(owner, part, None)
    # A descriptor in a class gives another object each time it is asked for.
    inside = getattr(owner, "__dict__", {})
    return getattr(owner, name, None) is obj or inside.get(name) is obj


def _importable(obj: Any, what: str) -> str | None:
    """None when a class or function is found by its name, else why it is not."""
    qualname = getattr(obj, "__qualname__", None)
    if isinstance(qualname, str) and qualname.endswith("<lambda>"):
        return "a lambda has no name to be found under"
    if isinstance(qualname, str) and "<locals>" in qualname:
        return f"the {what} {_full_name(obj)} is made inside a function"
    if not _found_by_name(obj, getattr(obj, "__module__", None), qualname):
        return f"the {what} {_full_name(obj)} is not found under its name"
    return None


# ---- the standard library ------------------------------------------------------------


def _range(obj: range) -> Reduced:
    return ("range", obj.start, obj.stop, obj.step)


def _date(obj: Any) -> Reduced:
    return ("date", obj.year, obj.month, obj.day)


def _time(obj: Any) -> Reduced:
    parts = ("time", obj.hour, obj.minute, obj.second, obj.microsecond, obj.fold)
    return parts if obj.tzinfo is None else _with_zone(parts, obj)


def _datetime(obj: Any) -> Reduced:
    parts = (
        "datetime",
        obj.year,
        obj.month,
        obj.day,
        obj.hour,
        obj.minute,
        obj.second,
        obj.microsecond,
        obj.fold,
    )
    return parts if obj.tzinfo is None else _with_zone(parts, obj)


def _with_zone(parts: tuple[object, ...], moment: Any) -> Reduced:
    """The offset as microseconds, then what tells one zone from another."""
    zone = moment.tzinfo
    kind = type(zone)
    offset = moment.utcoffset()
    if offset is not None:
        seconds = offset.days * 86400 + offset.seconds
        offset = seconds * 1_000_000 + offset.microseconds
    which = (_zones.get(kind) or _zone_reader(kind))(zone)
    if which is None:
        return f"the time zone of type {_full_name(kind)} does not say which one it is"
    return (*parts, offset, *which)


#: How zones of a type say which one they are.
_zones: dict[type, Callable[[Any], tuple[object, ...] | None]] = {}


def _zone_reader(kind: Any) -> Callable[[Any], tuple[object, ...] | None]:
    name = _full_name(kind)
    if _gives(kind, "__cache_key__"):
        reader = _zone_itself
    elif name == "datetime.timezone":
        reader = _zone_name
    elif name == "zoneinfo.ZoneInfo":
        reader = _zone_key
    else:
        reader = _zone_text
    if len(_zones) < _MAX_REDUCERS:
        _zones[kind] = reader
    return reader


def _zone_itself(zone: Any) -> tuple[object, ...] | None:
    return (zone,)


def _zone_name(zone: Any) -> tuple[object, ...] | None:
    return ("timezone", zone.tzname(None))


def _zone_key(zone: Any) -> tuple[object, ...] | None:
    return None if zone.key is None else ("ZoneInfo", zone.key)


def _zone_text(zone: Any) -> tuple[object, ...] | None:
    """Other libraries' zones: by class and repr, where that is no address."""
    kind: Any = type(zone)
    if kind.__repr__ is object.__repr__:
        return None
    text = repr(zone)
    return None if " at 0x" in text else (_full_name(kind), text)


def _timedelta(obj: Any) -> Reduced:
    return ("timedelta", obj.days, obj.seconds, obj.microseconds)


def _uuid(obj: Any) -> Reduced:
    return ("uuid", obj.int)


def _decimal(obj: Any) -> Reduced:
    sign, digits, exponent = obj.as_tuple()
    return ("decimal", sign, bytes(digits), exponent)


def _path(obj: Any) -> Reduced:
    return ("path", type(obj).__name__, str(obj))


#: Classes that were found under their names: class methods ask for them at each call.
_classes: dict[int, tuple[type, Reduced]] = {}


def _class(obj: type) -> Reduced:
    known = _classes.get(id(obj))
    if known is not None:
        return known[1]
    problem = _importable(obj, "class")
    if problem is not None:
        return problem
    if len(_classes) >= _MAX_REDUCERS:
        _classes.clear()
    reduced = ("class", function_name(obj))
    _classes[id(obj)] = (obj, reduced)  # kept alive: its id is not given again
    return reduced


def _function(obj: Any) -> Reduced:
    return _importable(obj, "function") or ("function", function_name(obj))


def _cached_function(obj: Any) -> Reduced:
    """By name, or by its identity where it is made inside a function."""
    problem = _importable(obj, "function")
    if problem is None:
        return ("function", function_name(obj))
    from cachekit._identity import Identities

    obj._ready()
    function = obj.__wrapped__
    identity = Identities().identify(function, obj._plan.options.name)
    if identity.reason is not None:
        return f"{problem}, and {identity.reason}"
    return ("cached", identity.data)


def _method(obj: Any) -> Reduced:
    """A class method reached through a class; others depend on their object."""
    owner = obj.__self__
    if isinstance(owner, type) and getattr(owner, obj.__name__, None) == obj:
        return ("method", owner, obj.__name__)
    return "a method is bound to an object: pass the object"


def _slot(obj: Any) -> Reduced:
    """A method of a class that is written in C, such as ``str.lower``."""
    return ("slot", obj.__objclass__, obj.__name__)


def _partial(obj: object) -> Reduced:
    return "a functools.partial has no name of its own: pass a named function"


_KNOWN: dict[str, Reducer] = {
    "builtins.range": _range,
    "builtins.function": _function,
    "builtins.builtin_function_or_method": _function,
    "builtins.method_descriptor": _slot,
    "builtins.wrapper_descriptor": _slot,
    "cachekit._core.CachedFunction": _cached_function,
    "datetime.date": _date,
    "datetime.time": _time,
    "datetime.datetime": _datetime,
    "datetime.timedelta": _timedelta,
    "decimal.Decimal": _decimal,
    "functools.partial": _partial,
    "uuid.UUID": _uuid,
    "numpy.ndarray": lambda obj: _numpy_array(obj),
    **{
        f"{module}.{name}": _path
        for module in ("pathlib", "pathlib._local")
        for name in ("PurePosixPath", "PosixPath", "PureWindowsPath", "WindowsPath")
    },
}


# ---- NumPy ---------------------------------------------------------------------------

#: Kinds of types whose items are bytes and nothing else.
_NUMPY_KINDS = "biufcmMSUV"


def _is_numpy_scalar(kind: type) -> bool:
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    return generic is not None and issubclass(kind, generic)


def _numpy_type(dtype: Any) -> object:
    """A dtype as plain values; None when its items are more than bytes."""
    if dtype.hasobject or dtype.kind not in _NUMPY_KINDS:
        return None
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        inner = _numpy_type(base)
        return inner and (inner, shape)
    if dtype.names is not None:
        fields = []
        for name in dtype.names:
            inner, *place = dtype.fields[name]
            inner = _numpy_type(inner)
            if inner is None:
                return None
            fields.append((name, inner, *place))
        return (dtype.itemsize, *fields)
    # The text of a type that an extension registered tells its size only.
    return (dtype.str, dtype.name) if dtype.isbuiltin == 2 else dtype.str


def _no_bytes(dtype: Any) -> str:
    return f"a NumPy value of dtype {dtype} is more than bytes"


def _numpy_scalar(obj: Any) -> Reduced:
    kind = _numpy_type(obj.dtype)
    return _no_bytes(obj.dtype) if kind is None else ("numpy", kind, obj.tobytes())


def _numpy_array(obj: Any) -> Reduced:
    kind = _numpy_type(obj.dtype)
    if kind is None:
        return _no_bytes(obj.dtype)
    return ("ndarray", kind, obj.shape, obj.tobytes())


# ---- classes of the program ----------------------------------------------------------


def _own_key(kind: type) -> Reducer:
    """The class has ``__cache_key__()``: it decides, and may be made anywhere."""
    if not callable(getattr(kind, "__cache_key__", None)):
        return _refusing(f"the __cache_key__ of {_full_name(kind)} cannot be called")
    if not isinstance(kind.__module__, str):
        return _refusing(f"the class {_full_name(kind)} has no module")
    name = function_name(kind)
    return _keep(kind, lambda obj: ("key", name, obj.__cache_key__()))


def _of_class(kind: type, reducer: Callable[[str], Reducer]) -> Reducer:
    """The reducer for instances of a class that has to be found by its name."""
    problem = _importable(kind, "class")
    if problem is not None:
        return _refusing(problem)  # not kept: the class may be bound to its name later
    return _keep(kind, reducer(function_name(kind)))


def _as_enum(kind: type) -> Reducer | None:
    meta = getattr(sys.modules.get("enum"), "EnumMeta", None)
    if meta is None or not isinstance(kind, meta):
        return None
    return _of_class(kind, lambda name: lambda obj: ("enum", name, obj._value_))


def _as_named_tuple(kind: type) -> Reducer | None:
    fields = getattr(kind, "_fields", None)
    if not issubclass(kind, tuple) or not isinstance(fields, tuple):
        return None
    if not all(isinstance(field, str) for field in fields):
        return None

    def reducer(name: str) -> Reducer:
        def named_tuple(obj: Any) -> Reduced:
            items = tuple(tuple.__iter__(obj))
            if len(items) != len(fields) or getattr(obj, "__dict__", None):
                return f"an object of type {name} holds more than its fields"
            return ("named", name, fields, items)

        return named_tuple

    return _of_class(kind, reducer)


def _as_dataclass(kind: type) -> Reducer | None:
    if "__dataclass_fields__" not in kind.__dict__ or _built_in_base(kind) is not None:
        return None
    fields = tuple(f.name for f in sys.modules["dataclasses"].fields(kind))

    def reducer(name: str) -> Reducer:
        def dataclass(obj: Any) -> Reduced:
            try:
                items = tuple([getattr(obj, field) for field in fields])
            except AttributeError:
                return f"an object of type {name} lacks one of its fields"
            return ("dataclass", name, fields, items)

        return dataclass

    return _of_class(kind, reducer)


# ---- the rest ------------------------------------------------------------------------


def _built_in_base(kind: type) -> type | None:
    for base in kind.__mro__[1:]:
        if base is not object and not base.__flags__ & _HEAP_TYPE:
            return base
        if f"{base.__module__}.{base.__qualname__}" in _KNOWN:
            return base
    return None


def _refusing(reason: str) -> Reducer:
    return lambda obj: reason


def _named_or_refused(kind: type) -> Reducer:
    """Objects that stand for a function, such as a decorated one; all others not."""
    base = _built_in_base(kind)
    reason = f"an object of type {_full_name(kind)} has no canonical bytes"
    if base is not None:
        reason = (
            f"an object of type {_full_name(kind)} is not treated as a plain "
            f"{_full_name(base)}"
        )
    if not _gives(kind, "__call__"):
        return _keep(kind, _refusing(reason))

    def named(obj: Any) -> Reduced:
        if isinstance(getattr(obj, "__qualname__", None), str):
            return _function(obj)
        return reason

    return _keep(kind, named)
