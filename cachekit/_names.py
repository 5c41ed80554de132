# SPDX-License-Identifier: MIT
"""The readable parts of a store key: who a function is, and how that is written.

A store key is ``{namespace}:{function}:{64 hex digits}``. The digits alone tell entries
apart; what stands before them is for people, so it may be cleaned and cut.
"""

from __future__ import annotations

import os
import sys

from cachekit._errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["MAX_KEY", "function_name", "store_prefix", "tenant_prefix"]

#: Bytes of the longest key. Side keys wrap it in braces and add ``:f`` or ``:l``, and
#: 250 is the most that every store takes.
MAX_KEY = 250 - len("{}:f")
_DIGITS = 64
_DIGEST = 16


def store_prefix(namespace: str | None, function_name: str) -> str:
    """``"{namespace or cachekit}:{function}:"``, to which the 64 digits are added.

    Printable ASCII without space and braces; any other character becomes ``_``. A name
    that would make the key longer than ``MAX_KEY`` is cut and carries a digest of the
    whole.

    >>> store_prefix(None, "get_user")
    'cachekit:get_user:'
    """
    space = namespace or "cachekit"
    room = MAX_KEY - _DIGITS - len(space) - len("::")
    name = "".join(
        c if "!" <= c <= "~" and c not in "{}" else "_" for c in function_name
    )
    if len(name) > room:
        import hashlib

        whole = function_name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(whole, digest_size=_DIGEST // 2).hexdigest()
        name = f"{name[: room - _DIGEST - 1]}~{digest}"
    return f"{space}:{name}:"


def tenant_prefix(namespace: str | None, function_name: str, tenant: str) -> str:
    """The same for the entries of a tenant: its name stands before the function's.

    >>> tenant_prefix("shop", "get_user", "blue")
    'shop:@blue:get_user:'
    """
    return store_prefix(namespace, f"@{tenant}:{function_name}")


def function_name(func: Callable[..., Any], name: str | None = None) -> str:
    """The identity of a function as text: ``name``, else module and qualified name.

    A function of the main program is named as if its file had been imported, so that
    the program, its worker processes and its tests mean the same entries.

    Raises ``ConfigurationError`` for a callable that has no name of its own.
    """
    if name is not None:
        return name
    qualname = getattr(func, "__qualname__", None)
    module = getattr(func, "__module__", None)
    if module is None and hasattr(func, "__globals__"):
        module = "__main__"  # made by exec() in a namespace without a name
    if not isinstance(qualname, str) or not isinstance(module, str):
        raise ConfigurationError(
            f"an object of type {type(func).__qualname__} has no qualified name of its "
            "own to be cached under",
            hint="Give it one with name=",
        )
    if module in ("__main__", "__mp_main__"):
        module = _main_name(module, getattr(func, "__globals__", None))
    return f"{module}.{qualname}"


def _main_name(module: str, variables: dict[str, Any] | None) -> str:
    """What the main program would be called if it were imported."""
    if variables is None or variables.get("__name__") != module:
        variables = vars(sys.modules.get(module, sys.modules["__main__"]))
    spec = variables.get("__spec__")
    name = getattr(spec, "name", None)
    if isinstance(name, str) and name not in ("__main__", "__mp_main__"):
        return name  # python -m name
    path = variables.get("__file__")
    if not isinstance(path, str):
        return "__main__"  # typed in, or python -c
    stem = os.path.splitext(os.path.basename(path))[0]
    if stem == "__main__":  # python folder, python archive.zip
        folder = os.path.dirname(os.path.abspath(path))
        stem = os.path.splitext(os.path.basename(folder))[0] or stem
    return stem
