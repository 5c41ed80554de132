# SPDX-License-Identifier: MIT
"""Pydantic models and msgspec structs as plain data and back.

The codec asks for the converter of a class that ``returns=`` or the annotation names.
A converter has ``annotations`` (what else may be inside), ``take(value)``: plain data
and a list of names, or None where the value would not come back; and ``make(plain,
names)``: the value again, by the validation of its own class.

``take`` tries ``make`` before it answers. So a validator that changes what it is given,
a private attribute or a subclass in a field is found out when the value is stored, not
when it is read.

What fails in here is not repeated: the texts of both libraries quote the values.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Converter", "converter_of"]


class Converter:
    """What the codec asks about one class."""

    __slots__ = ("annotations", "kind")

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.annotations: tuple[Any, ...] = ()

    def take(self, value: Any) -> tuple[Any, list[str]] | None:
        """The value as plain data, if it comes back."""
        try:
            parts = self._take(value)
            return parts if _same(value, self.make(*parts)) else None
        except Exception:
            return None

    def _take(self, value: Any) -> tuple[Any, list[str]]:
        raise NotImplementedError

    def make(self, plain: Any, names: list[Any]) -> Any:
        """The value again; raises where the class does not accept the data."""
        raise NotImplementedError


def converter_of(kind: type) -> Converter | None:
    """The converter of a model class; None for any other class."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and hasattr(pydantic.BaseModel, "model_fields"):
        if issubclass(kind, pydantic.BaseModel):
            return _Model(kind, issubclass(kind, pydantic.RootModel))
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(kind, msgspec.Struct):
        return _Struct(kind)
    return None


# -- Pydantic -------------------------------------------------------------------------


class _Model(Converter):
    """Field by field: what a field holds is encoded by its own type, so that a model in
    it comes back as the class it was. ``names``: the fields left to their defaults."""

    __slots__ = ("_defaults", "_foreign", "_inputs", "_keeps_extra", "_names", "_root")

    def __init__(self, kind: Any, root: bool) -> None:
        super().__init__(kind)
        if not kind.__pydantic_complete__:
            kind.model_rebuild(raise_errors=False)
        fields = kind.model_fields
        self.annotations = tuple(field.annotation for field in fields.values())
        self._root = root
        self._names = frozenset(fields)
        self._keeps_extra = kind.model_config.get("extra") == "allow"
        #: Fields whose types are Pydantic's own: those go as it writes them in JSON.
        self._foreign = {
            name
            for name, field in fields.items()
            if any(s in repr(field.annotation) for s in ("pydantic.", "pydantic_core."))
        }
        self._inputs = _input_names(kind)
        #: Defaults are not validated, and need not be what their field takes.
        self._defaults = {
            name: field.default
            for name, field in fields.items()
            if field.default_factory is None and not field.is_required()
        }

    def _take(self, value: Any) -> tuple[Any, list[str]]:
        held = vars(value)
        plain = {name: held[name] for name in self.kind.model_fields}
        plain.update(value.__pydantic_extra__ or {})
        if self._foreign:
            plain.update(
                value.model_dump(
                    mode="json",
                    include=self._foreign,
                    by_alias=False,
                    warnings=False,
                )
            )
        given = value.__pydantic_fields_set__
        return plain, [name for name in plain if name not in given]

    def make(self, plain: Any, names: list[Any]) -> Any:
        if type(plain) is not dict or not self._names <= plain.keys():
            raise ValueError("the fields of the model have changed")
        if not self._keeps_extra and len(plain) != len(self._names):
            raise ValueError("the fields of the model have changed")
        given = dict(plain)
        for name in names:
            if name in self._defaults and _same(given[name], self._defaults[name]):
                del given[name]
        validate = self.kind.__pydantic_validator__.validate_python
        inputs = self._inputs
        if self._root:
            made = validate(plain["root"])
        elif inputs is None:
            made = validate(given, by_name=True, by_alias=False)
        else:
            made = validate({inputs.get(n, n): item for n, item in given.items()})
        made.__pydantic_fields_set__.difference_update(names)
        return made


def _input_names(kind: Any) -> dict[str, str] | None:
    """The keys under which a model takes its fields; None where it can be told to take
    them by their names (Pydantic 2.11)."""
    text = sys.modules["pydantic"].VERSION
    version = tuple(int(part) for part in text.split(".")[:2])
    if version >= (2, 11):
        return None
    names: dict[str, str] = {}
    if kind.model_config.get("populate_by_name"):
        return names
    for name, field in kind.model_fields.items():
        alias = field.validation_alias
        choices = getattr(alias, "choices", (alias,))
        texts = [choice for choice in choices if isinstance(choice, str)]
        if texts:
            names[name] = texts[0]
    return names


# -- msgspec --------------------------------------------------------------------------


class _Struct(Converter):
    """The whole tree, as msgspec writes it. ``names``: the fields of the struct, so
    that one whose fields have changed is not mistaken for it."""

    __slots__ = ("_types",)

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        import datetime
        from decimal import Decimal
        from uuid import UUID

        self._types = (
            *(bytes, bytearray, UUID, Decimal),
            *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
        )

    def _take(self, value: Any) -> tuple[Any, list[str]]:
        msgspec = sys.modules["msgspec"]
        plain = msgspec.to_builtins(value, builtin_types=self._types)
        return plain, list(self.kind.__struct_fields__)

    def make(self, plain: Any, names: list[Any]) -> Any:
        if tuple(names) != self.kind.__struct_fields__:
            raise ValueError("the fields of the struct have changed")
        convert = sys.modules["msgspec"].convert
        return convert(plain, self.kind, builtin_types=self._types)


# -- the comparison -------------------------------------------------------------------


def _same(one: Any, other: Any) -> bool:
    """Equal and of the same types, all the way down; NaN is itself."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind in (list, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if kind is dict:
        return (
            len(one) == len(other)
            and all(map(_same, one, other))
            and all(map(_same, one.values(), other.values()))
        )
    if hasattr(kind, "__struct_fields__"):
        return not getattr(one, "__dict__", None) and all(
            _same(getattr(one, name), getattr(other, name))
            for name in kind.__struct_fields__
        )
    if hasattr(kind, "__pydantic_fields_set__") and hasattr(kind, "model_fields"):
        return _same_model(kind, one, other)
    return bool(one == other or (one != one and other != other))


def _same_model(kind: Any, one: Any, other: Any) -> bool:
    return (
        all(_same(vars(one)[name], vars(other)[name]) for name in kind.model_fields)
        and _same(one.__pydantic_extra__, other.__pydantic_extra__)
        and _same(one.__pydantic_private__, other.__pydantic_private__)
        and one.__pydantic_fields_set__ == other.__pydantic_fields_set__
    )
