# SPDX-License-Identifier: MIT
"""How values become bytes and come back.

``DefaultSerializer`` keeps the types of Python's built-in and standard-library values
exactly, and is what every function uses unless it says otherwise. A serializer of your
own is any object with ``name``, ``serialize`` and ``deserialize``; see ``Serializer``.

Each serializer is imported when it is asked for.
"""

from __future__ import annotations

from cachekit._lazy import lazy
from cachekit.serializers._default import DEFAULT_SERIALIZER, DefaultSerializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.serializers._arrow import ArrowSerializer
    from cachekit.serializers._orjson import OrjsonSerializer
    from cachekit.serializers._pickle import PickleSerializer
    from cachekit.serializers._protocol import Serializer

__all__ = [
    "DEFAULT_SERIALIZER",
    "ArrowSerializer",
    "DefaultSerializer",
    "OrjsonSerializer",
    "PickleSerializer",
    "Serializer",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ArrowSerializer": "cachekit.serializers._arrow",
        "OrjsonSerializer": "cachekit.serializers._orjson",
        "PickleSerializer": "cachekit.serializers._pickle",
        "Serializer": "cachekit.serializers._protocol",
    },
)
