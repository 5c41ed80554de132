# SPDX-License-Identifier: MIT
"""The key of a call, for people who look into the store."""

from __future__ import annotations

from cachekit import _core
from cachekit._checks import Namespace, held, refusal
from cachekit._names import store_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["generate_cache_key"]


def generate_cache_key(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    namespace: str | None = None,
) -> str:
    """The store key of a call of the function that goes by ``name``.

    ``args`` and ``kwargs`` are taken as they are: a name has no signature to bind them
    to. The key of a call of a decorated function is ``function.key_for(*args)``.

    Returns ``{namespace or cachekit}:{name}:{64 hex digits}``. Raises
    ``UncacheableArgument`` for an argument that has no canonical bytes, TypeError or
    ValueError for a name or namespace that is none.

    >>> generate_cache_key("get_user", (123,), {})[:18]
    'cachekit:get_user:'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {held(name)}")
    if not name:
        raise ValueError("name must not be empty")
    if namespace is not None:
        check = Namespace()
        try:
            check.check(namespace)
        except (TypeError, ValueError) as error:
            where, shown = "namespace", held(namespace)
            raise refusal(type(error), where, check.accepted, shown, error) from None
    prefix = store_prefix(namespace, name)
    return _core.generate_store_key(prefix, name, tuple(args), dict(kwargs or {}))
