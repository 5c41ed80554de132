# SPDX-License-Identifier: MIT
"""The fingerprint of a type: 32 bits that change when the shape of its values does.

``schema=`` puts it into the header of an entry, so that processes with another shape of
the same type do not read each other's entries.

A type is written as text. In it a class stands by its name, and its definition (fields,
annotations) once beside it, so a type may contain itself and the order in which things
are met does not matter. What does not change a value is left out: defaults, docstrings,
metadata of ``Annotated``, the module a class lives in. The order of fields counts for
named tuples and array-like structs only. The text holds nothing that depends on the
process, on the version of Python or on hashing.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
import types
import typing
from enum import Enum
from hashlib import blake2b

from cachekit import _core
from cachekit._errors import CacheKitError, ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["describe", "fingerprint"]

#: Modules whose classes stand for themselves: their name is their shape.
_LEAVES = frozenset(sys.stdlib_module_names) | {
    *("numpy", "pandas", "polars", "pyarrow"),
    *("pydantic", "pydantic_core", "msgspec", "typing_extensions"),
}
#: Special forms that stand for themselves.
_FORMS = ("Any", "LiteralString", "Never", "NoReturn", "Self")
#: What says something about a field, not about its values.
_WRAPPERS = ("Annotated", "Required", "NotRequired", "ReadOnly", "Final")
#: How deep an annotation may nest.
_MAX_DEPTH = 64

_Union = type(int | str)
_TypeAlias: tuple[type, ...] = tuple(
    {
        getattr(sys.modules[module], "TypeAliasType")  # noqa: B009
        for module in ("typing", "typing_extensions")
        if hasattr(sys.modules.get(module), "TypeAliasType")
    }
)


def fingerprint(schema: Any) -> int:
    """32 bits of the shape of ``schema``, never 0.

    ``schema``  a type or an annotation: dataclasses, named tuples, ``TypedDict``,
                enums, msgspec structs and Pydantic models with all that they hold,
                classes of the standard library, ``dict[str, int]``, unions, literals,
                generics

    Raises ConfigurationError for what cannot be described, by its name.

    >>> fingerprint(dict[str, int]) != fingerprint(dict[str, str])
    True
    """
    text = describe(schema).encode("utf-8", "surrogatepass")
    digest = blake2b(text, digest_size=4, person=b"cachekit.schema").digest()
    return int.from_bytes(digest, "little") or 1


def describe(schema: Any) -> str:
    """The text that ``fingerprint`` is made of."""
    try:
        return _Description(schema).text()
    except RecursionError:
        raise _refusal(schema, "it nests too deep") from None


def _refusal(what: Any, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"schema= cannot describe {_name_of(what)}: {why}",
        hint=(
            "Use a dataclass, a named tuple, a TypedDict, an enum, a msgspec struct, "
            "a Pydantic model or types of the standard library; or count changes "
            "yourself with version="
        ),
    )


def _name_of(what: Any) -> str:
    if isinstance(what, type) and not isinstance(what, types.GenericAlias):
        return f"{what.__module__}.{what.__qualname__}"
    try:
        text = repr(what)
    except Exception:
        text = f"an object of type {type(what).__qualname__}"
    return text if len(text) <= 100 else f"{text[:97]}..."


class _Class:
    """A class that is described beside the annotation in which it was met."""

    __slots__ = ("definition", "of")

    def __init__(self, of: Any) -> None:
        self.of = of
        self.definition: Any = None


class _Sorted(tuple[object, ...]):
    """Parts in no order: put into that of their texts."""

    __slots__ = ()


class _Description:
    """One ``describe``: the classes met so far, and those yet to be looked into."""

    def __init__(self, schema: Any) -> None:
        self._classes: dict[Any, _Class] = {}
        self._waiting: list[_Class] = []
        self._depth = 0
        self._names: dict[_Class, str] = {}
        self._top = self._type(schema, schema)
        while self._waiting:
            found = self._waiting.pop()
            found.definition = self._define(found.of)

    # -- annotations ------------------------------------------------------------------

    def _type(self, of: Any, where: Any) -> object:
        """What stands for an annotation: text, a class, or a tuple of such.

        ``where``  what it was found in, for the error
        """
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _refusal(where, "it nests too deep")
        try:
            return self._type_of(of, where)
        finally:
            self._depth -= 1

    def _type_of(self, of: Any, where: Any) -> object:
        if of is None or of is type(None):
            return "None"
        if of is ...:
            return "..."
        origin = typing.get_origin(of)
        if origin is not None:
            return self._generic(of, origin, where)
        if isinstance(of, type):
            return self._plain_class(of)
        if isinstance(of, typing.TypeVar):
            return self._variable(of, where)
        if isinstance(of, _TypeAlias):
            return self._class(of)
        supertype = getattr(of, "__supertype__", None)
        if supertype is not None:  # a NewType: the same values
            return self._type(supertype, where)
        if isinstance(of, (str, typing.ForwardRef)):
            return self._forward(of, where)
        form = getattr(of, "_name", None) or getattr(of, "__name__", None)
        if type(of).__module__ in ("typing", "typing_extensions") and form in _FORMS:
            return f"typing.{form}"
        raise _refusal(of, f"it is no type that has a shape{_within(of, where)}")

    def _plain_class(self, of: type) -> object:
        leaf = _leaf(of)
        if leaf is None:
            return self._class(of)
        # A program may have a module of that name, with classes to look into.
        if _is_own(of) and any(applies(of) for applies, _ in _KINDS):
            return self._class(of)
        return leaf

    def _class(self, of: Any) -> _Class:
        found = self._classes.get(of)
        if found is None:
            found = self._classes[of] = _Class(of)
            self._waiting.append(found)
        return found

    def _generic(self, of: Any, origin: Any, where: Any) -> object:
        name = getattr(origin, "_name", None) or getattr(origin, "__name__", "")
        args = typing.get_args(of)
        if origin is typing.Annotated or name in _WRAPPERS:
            return self._type(args[0], where)
        if origin is typing.Union or origin is _Union:
            return self._union(args, where)
        if origin is typing.Literal or name == "Literal":
            return ("literal", _Sorted({self._constant(value, of) for value in args}))
        if not isinstance(origin, type) and not isinstance(origin, _TypeAlias):
            raise _refusal(of, f"it is no type that has a shape{_within(of, where)}")
        if name == "Callable":
            raise _refusal(of, f"a function is no value{_within(of, where)}")
        base = self._type(origin, where)
        if not hasattr(of, "__args__"):
            return base  # typing.List
        if args == ((),):
            args = ()  # typing.Tuple[()] of Python 3.10
        return ("of", base, *(self._type(arg, where) for arg in args))

    def _union(self, args: tuple[Any, ...], where: Any) -> object:
        arms: list[object] = []
        for arg in args:
            arm = self._type(arg, where)
            if isinstance(arm, tuple) and arm[0] == "union":
                arms.extend(typing.cast("_Sorted", arm[1]))
            else:
                arms.append(arm)
        arms = list(dict.fromkeys(arms))
        return arms[0] if len(arms) == 1 else ("union", _Sorted(arms))

    def _variable(self, of: typing.TypeVar, where: Any) -> object:
        bound = of.__bound__
        limits = of.__constraints__ if bound is None else (bound,)
        parts = (self._type(limit, where) for limit in limits)
        return ("variable", of.__name__, *parts)

    def _forward(self, of: Any, where: Any) -> object:
        """A name in quotes inside an annotation."""
        text = of if isinstance(of, str) else of.__forward_arg__
        meaning = _look_up(of, where)
        if isinstance(meaning, type):
            return self._type(meaning, where)
        return self._class(_Alias(text, where, meaning))  # it may contain itself

    def _constant(self, value: Any, where: Any) -> object:
        """A value of a literal or an enum."""
        if isinstance(value, Enum):
            return ("member", self._class(type(value)), value.name)
        try:
            return ("value", _core.canonical(value).hex())
        except (CacheKitError, TypeError, ValueError):
            raise _refusal(
                where, f"it holds a value of type {_name_of(type(value))}"
            ) from None

    # -- definitions ------------------------------------------------------------------

    def _define(self, of: Any) -> object:
        for applies, define in _KINDS:
            if applies(of):
                return define(self, of)
        raise _refusal(of, "only its author knows what its values hold")

    def _fields(self, of: Any, names: Iterable[str]) -> Iterator[object]:
        hints = _hints(of)
        for name in names:
            hint, where = hints.get(name, (typing.Any, of))
            yield (name, self._type(_look_up(hint, where), where))

    def _bases(self, of: type) -> object:
        """What generic bases were given, as in ``class Ints(Box[int])``."""
        found = []
        for base in of.__mro__:
            for given in base.__dict__.get("__orig_bases__", ()):
                origin = typing.get_origin(given)
                if isinstance(origin, type) and origin.__name__ not in (
                    "Generic",
                    "Protocol",
                ):
                    args = typing.get_args(given)
                    found.append((origin.__name__, *(self._type(a, of) for a in args)))
        return tuple(found)

    def _dataclass(self, of: Any) -> object:
        names = [field.name for field in dataclasses.fields(of)]
        return ("fields", _Sorted(self._fields(of, names)), self._bases(of))

    def _named_tuple(self, of: Any) -> object:
        return ("tuple", tuple(self._fields(of, of._fields)), self._bases(of))

    def _typed_dict(self, of: Any) -> object:
        fields = []
        for name, (text, where) in _hints(of).items():
            hint = _look_up(text, where)
            required = _required(hint)
            if required is None:
                required = name in of.__required_keys__
            kind = "required" if required else "optional"
            fields.append((name, kind, self._type(hint, where)))
        return ("dict", _Sorted(fields), self._bases(of))

    def _enum(self, of: Any) -> object:
        members = (
            (name, self._constant(member._value_, of))
            for name, member in of.__members__.items()
        )
        return ("enum", _Sorted(members))

    def _alias(self, of: Any) -> object:
        try:
            value = of.__value__
        except NameError as error:
            raise _refusal(of, str(error)) from None
        return ("alias", self._type(value, getattr(of, "where", of)))

    def _struct(self, of: Any) -> object:
        """A msgspec struct."""
        config, fields = of.__struct_config__, self._fields(of, of.__struct_fields__)
        sent = tuple(zip(of.__struct_encode_fields__, fields, strict=True))
        tag = (config.tag_field or "", self._constant(config.tag, of))
        if config.array_like:
            return ("array", tag, sent, self._bases(of))
        return ("struct", tag, _Sorted(sent), self._bases(of))

    def _model(self, of: Any) -> object:
        """A Pydantic model."""
        if not of.__pydantic_complete__:
            of.model_rebuild(raise_errors=False)
        if not of.__pydantic_complete__:
            raise _refusal(of, "not all of its annotations are known")
        fields = []
        for name, field in of.model_fields.items():
            aliases = (field.alias, field.serialization_alias)
            sent = [alias for alias in aliases if isinstance(alias, str)]
            fields.append((name, *sent, self._type(field.annotation, of)))
        return ("model", _Sorted(fields))

    # -- the text ---------------------------------------------------------------------

    def text(self) -> str:
        """Names in quotes, classes in angle brackets, all else in square ones."""
        self._name_classes()
        definitions = sorted(
            f"{self._text(found)}={self._text(found.definition)}"
            for found in self._names
        )
        return "\n".join((self._text(self._top), *definitions))

    def _name_classes(self) -> None:
        """By their own name; by module as well where two have the same."""
        count: dict[str, int] = {}
        for found in self._classes.values():
            name = found.of.__name__
            count[name] = count.get(name, 0) + 1
        for found in self._classes.values():
            name = found.of.__name__
            if count[name] > 1:
                name = _long_name(found.of)
            self._names[found] = name

    def _text(self, part: object) -> str:
        if isinstance(part, _Class):
            return f"<{self._names[part]}>"
        if isinstance(part, tuple):
            texts = [self._text(each) for each in part]
            if isinstance(part, _Sorted):
                texts.sort()
            return f"[{','.join(texts)}]"
        return json.dumps(part)


def _long_name(of: Any) -> str:
    qualname = getattr(of, "__qualname__", of.__name__)
    return f"{of.__module__}.{qualname}"


def _within(of: Any, where: Any) -> str:
    return "" if of is where else f" (in {_name_of(where)})"


def _leaf(of: type) -> str | None:
    """The name of a class that stands for itself; None for others."""
    # Implementations live in private modules and parts of packages that come and go.
    module = of.__module__.partition(".")[0].lstrip("_")
    if module not in _LEAVES or "<locals>" in of.__qualname__:
        return None
    if module == "typing_extensions":
        module = "typing"
    return f"{module}.{of.__qualname__}"


def _is_own(of: type) -> bool:
    """Whether its module lies elsewhere than the standard library."""
    module = sys.modules.get(of.__module__)
    path = getattr(module, "__file__", None)
    top = of.__module__.partition(".")[0]
    if path is None or top not in sys.stdlib_module_names:
        return False
    home = os.path.dirname(os.__file__) + os.sep
    return not path.startswith(home) or "-packages" in path[len(home) :]


class _Alias:
    """An annotation that stands in a module under a name."""

    __slots__ = ("__name__", "__value__", "where")

    def __init__(self, name: str, where: Any, value: Any) -> None:
        self.__name__, self.__value__, self.where = name, value, where

    @property
    def __module__(self) -> str:  # type: ignore[override]
        return str(self.where.__module__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alias) and self._place() == other._place()

    def __hash__(self) -> int:
        return hash(self._place())

    def _place(self) -> tuple[str, str]:
        return self.__name__, self.__module__


def _look_up(of: Any, where: Any) -> Any:
    """What a text or a ForwardRef means in the class ``where`` it was found in."""
    module, first = None, of
    for _ in range(_MAX_DEPTH):
        if not isinstance(of, (str, typing.ForwardRef)):
            return of
        if isinstance(of, typing.ForwardRef):
            module = getattr(of, "__forward_module__", None)
            of = of.__forward_arg__
        try:
            of = eval(of, *_names_in(where, module))
        except Exception as error:
            raise _refusal(
                of,
                f"what it means is not known where it stands: {error}"
                f"{_within(of, where)}",
            ) from None
    raise _refusal(first, f"it means itself{_within(first, where)}")


def _is_named(of: Any) -> bool:
    return isinstance(of, (type, *_TypeAlias))


def _names_in(where: Any, module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names a class sees: of its module, its own, and itself."""
    if isinstance(where, types.GenericAlias) or not _is_named(where):
        return {}, {}
    if not isinstance(module, types.ModuleType):
        module = sys.modules.get(module or where.__module__)
    names = {param.__name__: param for param in getattr(where, "__type_params__", ())}
    names[where.__name__] = where
    return ({} if module is None else vars(module)), {**vars(where), **names}


def _hints(of: Any) -> dict[str, tuple[Any, Any]]:
    """The annotations of a class and its bases, each with the class it stands in; yet
    to be looked up.

    ``typing.get_type_hints`` unrolls aliases that contain themselves, in every version
    of Python to another depth.
    """
    hints: dict[str, tuple[Any, Any]] = {}
    for base in reversed(of.__mro__):
        for name, hint in inspect.get_annotations(base).items():
            hints[name] = hint, base
    return hints


def _required(hint: Any) -> bool | None:
    """What Required or NotRequired say of a key; None when neither does."""
    while (origin := typing.get_origin(hint)) is not None:
        name = getattr(origin, "_name", None) or getattr(origin, "__name__", "")
        if name in ("Required", "NotRequired"):
            return bool(name == "Required")
        if origin is not typing.Annotated and name not in _WRAPPERS:
            return None
        hint = typing.get_args(hint)[0]
    return None


def _is_dataclass(of: Any) -> bool:
    return dataclasses.is_dataclass(of)


def _is_named_tuple(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, tuple) and hasattr(of, "_fields")


def _is_typed_dict(of: Any) -> bool:
    return hasattr(of, "__required_keys__") and hasattr(of, "__total__")


def _is_enum(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Enum)


def _is_struct(of: Any) -> bool:
    """Whoever made the struct has imported msgspec."""
    module = sys.modules.get("msgspec")
    return module is not None and issubclass(of, module.Struct)


def _is_model(of: Any) -> bool:
    module = sys.modules.get("pydantic")
    return module is not None and issubclass(of, module.BaseModel)


def _is_alias(of: Any) -> bool:
    return isinstance(of, (_Alias, *_TypeAlias))


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[_Description, Any], object]], ...]
_KINDS = (
    (_is_alias, _Description._alias),
    (_is_enum, _Description._enum),
    (_is_typed_dict, _Description._typed_dict),
    (_is_named_tuple, _Description._named_tuple),
    (_is_struct, _Description._struct),
    (_is_model, _Description._model),
    (_is_dataclass, _Description._dataclass),
)
