"""A backend with the three basic operations alone, as a user's own may be."""

from __future__ import annotations

from cachekit.backends import MemoryBackend


class BasicStore(MemoryBackend):
    """What tests override: every operation is a ``read``, ``write`` or ``delete``."""

    versioned = False
    fenced = False
