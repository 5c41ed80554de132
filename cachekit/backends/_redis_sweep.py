# SPDX-License-Identifier: MIT
"""Removing every key that begins with a prefix: what to send next, without I/O."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Sweep"]

#: Keys that one SCAN step looks at.
_STEP = 1000


class Sweep:
    """SCAN over a database, and DEL of what it finds.

    Send ``command``, give `take` the reply, until ``command`` is None. What ran out of
    time may go on later where it stopped.
    """

    def __init__(self, prefix: str) -> None:
        self._pattern = "".join("\\" + c if c in "*?[]\\" else c for c in prefix) + "*"
        self._cursor = b"0"
        self._scans = True
        self.deleted = 0
        self.command: tuple[Any, ...] | None = self._scan()

    def _scan(self) -> tuple[Any, ...]:
        return ("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", _STEP)

    def take(self, reply: Any) -> None:
        """The reply to ``command``."""
        if self._scans:
            self._cursor, keys = reply
            if keys:
                self._scans = False
                self.command = ("DEL", *keys)
                return
        else:
            self._scans = True
            self.deleted += reply
        self.command = None if self._cursor == b"0" else self._scan()
