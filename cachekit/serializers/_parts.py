# SPDX-License-Identifier: MIT
"""What the serializers share: how a value is refused, how a library is missed."""

from __future__ import annotations

from cachekit._errors import ConfigurationError, SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["load", "missing", "refusal"]


def refusal(value: Any, why: str, path: str | None = None) -> SerializationError:
    """E004 for ``value``, or for what is at ``path``. Says nothing of what it holds."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    where = "" if path is None else f"It is at {path}: "
    made = SerializationError(
        f"Could not serialize object of type {name}", hint=f"{where}{why}"
    )
    made.type_name = name
    made.path = path
    return made


def missing(serializer: str, library: str, extra: str) -> ConfigurationError:
    """The error where the library of a serializer is not installed."""
    return ConfigurationError(
        f"{serializer} needs {library}, which is not installed",
        hint=f"pip install 'cachekit[{extra}]'",
    )


def load(serializer: str, library: str, extra: str) -> ModuleType:
    """Import ``library``; raises ``ConfigurationError`` that says how to get it."""
    from importlib import import_module

    try:
        return import_module(library)
    except ImportError:
        raise missing(serializer, library, extra) from None
