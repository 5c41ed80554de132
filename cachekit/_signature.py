# SPDX-License-Identifier: MIT
"""How a function takes its arguments, in the form in which the core binds calls.

``inspect`` is imported for callables other than plain functions only: it costs more
than all of cachekit.
"""

from __future__ import annotations

from cachekit._errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeAlias

    #: (name, fallback, has_fallback, ignored)
    Parameter: TypeAlias = tuple[str, object, bool, bool]
    #: (parameters, positional_only, positional, var_positional, var_keyword,
    #: ignore_var_positional, ignore_var_keyword, loose)
    Description: TypeAlias = tuple[
        tuple[Parameter, ...], int, int, bool, bool, bool, bool, bool
    ]

__all__ = ["bind", "describe"]

_VAR_POSITIONAL = 0x04  # CO_VARARGS
_VAR_KEYWORD = 0x08  # CO_VARKEYWORDS
_FunctionType = type(lambda: None)


class _Shape:
    """The parameters of a callable: positional ones first, then keyword-only ones."""

    __slots__ = (
        "defaults",
        "loose",
        "names",
        "positional",
        "positional_only",
        "var_keyword",
        "var_positional",
    )

    def __init__(self) -> None:
        self.names: list[str] = []
        self.defaults: dict[str, object] = {}
        self.positional_only = 0
        self.positional = 0
        self.var_positional: str | None = None
        self.var_keyword: str | None = None
        #: Found behind a wrapper that takes anything: it may take more than this.
        self.loose = False


def describe(function: Callable[..., Any], ignore: tuple[str, ...]) -> Description:
    """The signature of ``function`` as the core reads it.

    A wrapper that takes exactly ``(*args, **kwargs)`` has the parameters of what it
    wraps. ``ignore`` names parameters that are no part of the key; ``"*args"`` and
    ``"**kwargs"`` may be written with their stars or without.

    Raises ``ConfigurationError`` when ``ignore`` names no parameter.
    """
    shape = _shape(function)
    ignored = _ignored(function, shape, ignore)
    parameters = tuple(
        (name, shape.defaults.get(name), name in shape.defaults, name in ignored)
        for name in shape.names
    )
    return (
        parameters,
        shape.positional_only,
        shape.positional,
        shape.var_positional is not None,
        shape.var_keyword is not None,
        shape.var_positional in ignored,
        shape.var_keyword in ignored,
        shape.loose,
    )


def bind(
    function: Callable[..., Any],
    args: tuple[object, ...],
    kwargs: Mapping[str, object] | None,
) -> None:
    """Raise the TypeError of ``function(*args, **kwargs)`` without running it.

    Returns None when the call fits.
    """
    function = _unwrapped(function)
    named = kwargs or {}
    if isinstance(function, _FunctionType):
        _stand_in(function)(*args, **named)
        return
    import inspect

    try:
        signature = inspect.signature(function)
    except ValueError:  # a built-in that does not tell
        return
    signature.bind(*args, **named)


def _takes_anything(function: Callable[..., Any]) -> bool:
    code = function.__code__
    both = _VAR_POSITIONAL | _VAR_KEYWORD
    named = code.co_argcount + code.co_kwonlyargcount
    return not named and code.co_flags & both == both


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """What stands behind wrappers that take anything and hand it on."""
    seen = {id(function)}
    while isinstance(function, _FunctionType) and _takes_anything(function):
        inner = function.__dict__.get("__wrapped__")
        if not callable(inner) or id(inner) in seen:
            break
        seen.add(id(inner))
        function = inner
    return function


def _shape(function: Callable[..., Any]) -> _Shape:
    inner = _unwrapped(function)
    if isinstance(inner, _FunctionType):
        shape = _shape_of_function(inner)
    else:
        shape = _shape_of_callable(inner)
    shape.loose = inner is not function
    return shape


def _shape_of_function(function: Callable[..., Any]) -> _Shape:
    shape = _Shape()
    code = function.__code__
    names = code.co_varnames
    shape.positional_only = code.co_posonlyargcount
    shape.positional = code.co_argcount
    total = code.co_argcount + code.co_kwonlyargcount
    shape.names = list(names[:total])
    defaults = function.__defaults__ or ()
    first = code.co_argcount - len(defaults)
    shape.defaults.update(zip(names[first : code.co_argcount], defaults, strict=True))
    shape.defaults.update(function.__kwdefaults__ or {})
    if code.co_flags & _VAR_POSITIONAL:
        shape.var_positional = names[total]
        total += 1
    if code.co_flags & _VAR_KEYWORD:
        shape.var_keyword = names[total]
    return shape


def _shape_of_callable(function: Callable[..., Any]) -> _Shape:
    import inspect

    shape = _Shape()
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a built-in that does not tell: it may take anything
        shape.var_positional, shape.var_keyword = "args", "kwargs"
        return shape
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            shape.var_positional = parameter.name
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            shape.var_keyword = parameter.name
            continue
        shape.names.append(parameter.name)
        shape.positional_only += parameter.kind is parameter.POSITIONAL_ONLY
        shape.positional += parameter.kind is not parameter.KEYWORD_ONLY
        if parameter.default is not parameter.empty:
            shape.defaults[parameter.name] = parameter.default
    return shape


def _ignored(
    function: Callable[..., Any], shape: _Shape, ignore: tuple[str, ...]
) -> frozenset[str]:
    """The names in ``ignore`` without their stars, each checked to be a parameter."""
    known = {name: name for name in shape.names}
    if shape.var_positional is not None:
        known[f"*{shape.var_positional}"] = shape.var_positional
        known[shape.var_positional] = shape.var_positional
    if shape.var_keyword is not None:
        known[f"**{shape.var_keyword}"] = shape.var_keyword
        known[shape.var_keyword] = shape.var_keyword
    for name in ignore:
        if name not in known:
            raise _no_parameter(function, name, known)
    return frozenset(known[name] for name in ignore)


def _no_parameter(
    function: Callable[..., Any], name: str, known: dict[str, str]
) -> ConfigurationError:
    from cachekit._checks import nearest

    match = nearest(name, known)
    if match is not None:
        hint = f"Did you mean {match!r}?"
    elif known:
        hint = "It takes: " + ", ".join(dict.fromkeys(known.values()))
    else:
        hint = "It takes no arguments"
    called = getattr(function, "__qualname__", type(function).__qualname__)
    return ConfigurationError(
        f"ignore= names {name!r}, which is no parameter of {called}()", hint=hint
    )


def _parameters_as_text(shape: _Shape) -> Iterator[str]:
    for at, name in enumerate(shape.names[: shape.positional]):
        yield f"{name}=None" if name in shape.defaults else name
        if at + 1 == shape.positional_only:
            yield "/"
    keyword_only = shape.names[shape.positional :]
    if shape.var_positional is not None:
        yield f"*{shape.var_positional}"
    elif keyword_only:
        yield "*"
    for name in keyword_only:
        yield f"{name}=None" if name in shape.defaults else name
    if shape.var_keyword is not None:
        yield f"**{shape.var_keyword}"


def _stand_in(function: Callable[..., Any]) -> Callable[..., None]:
    """A function of the same name and parameters that does nothing."""
    shape = _shape_of_function(function)
    # Parameter names are identifiers of code that is compiled already.
    stand_in: Callable[..., None] = eval(
        f"lambda {', '.join(_parameters_as_text(shape))}: None", {}
    )
    stand_in.__name__ = function.__name__
    stand_in.__qualname__ = function.__qualname__
    return stand_in
