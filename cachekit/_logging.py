# SPDX-License-Identifier: MIT
"""What cachekit says, on the logger ``cachekit``.

One WARNING when a state changes, rate-limited warnings for what repeats, DEBUG for each
operation. A record carries an ``event`` (a stable word for alerts) and structured
fields through ``extra=``, for instance ``function``, ``backend``, ``kind``. Never an
argument, a value, a key of encryption or a password: callers pass names and counts.

``logging`` is dear to import, so it is imported with the first record. A program that
configured logging has imported it already.

THREADING  A ``Log`` may be used by any thread, and again after fork.
"""

from __future__ import annotations

import _thread
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Hashable
    from typing import Any

__all__ = ["Log", "default_log", "enable_debug"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
#: What a record may not be given as a field, because it has it already.
_TAKEN = frozenset(
    (
        *("name", "msg", "args", "levelname", "levelno", "pathname", "filename"),
        *("module", "exc_info", "exc_text", "stack_info", "lineno", "funcName"),
        *("created", "msecs", "relativeCreated", "thread", "threadName"),
        *("processName", "process", "message", "asctime", "taskName"),
    )
)


def _logger() -> logging.Logger:
    import logging

    logger = logging.getLogger("cachekit")
    if not any(isinstance(h, logging.NullHandler) for h in logger.handlers):
        # Without it Python prints warnings of unconfigured programs to stderr twice
        # over: the choice is the program's.
        logger.addHandler(logging.NullHandler())
    return logger


def enable_debug() -> None:
    """Show DEBUG records, on stderr where the program configured no handler."""
    import logging

    logger = _logger()
    logger.setLevel(logging.DEBUG)
    if not logging.getLogger().handlers and len(logger.handlers) == 1:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


class Log:
    """Says things at most as often as they are worth saying.

    ``interval``  seconds between two records of the same ``limited`` key
    ``clock``     seconds, monotonic; tests give their own
    """

    #: Keys that are remembered. Past it the oldest is forgotten, and may speak again.
    MAX_KEYS = 1000

    def __init__(
        self, interval: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.interval = interval
        self._clock = clock
        # Re-entrant: a finalizer that runs inside may log in turn.
        self._lock = _thread.RLock()
        self._states: dict[Hashable, str] = {}  # guarded by _lock
        self._said: dict[Hashable, None] = {}  # guarded by _lock
        #: key -> (when it was last said, how often it was held back since)
        self._limits: dict[Hashable, tuple[float, int]] = {}  # guarded by _lock

    def emit(
        self, level: str, message: str, *args: object, event: str, **fields: object
    ) -> None:
        """One record. ``message`` is a %-template, so that records group by it."""
        _write(level, message, args, {"event": event, **fields})

    @property
    def debugging(self) -> bool:
        """Whether DEBUG records go anywhere. Cheap: ask before making one."""
        logging = sys.modules.get("logging")
        return logging is not None and bool(
            logging.getLogger("cachekit").isEnabledFor(_LEVELS["debug"])
        )

    def debug(self, message: str, *args: object, event: str, **fields: object) -> None:
        """One operation, at DEBUG."""
        if self.debugging:
            _write("debug", message, args, {"event": event, **fields})

    def changed(
        self,
        topic: Hashable,
        state: str,
        level: str,
        message: str,
        *args: object,
        event: str,
        **fields: object,
    ) -> bool:
        """Say it when ``topic`` was last in another state. Returns whether it was.

        A topic that was never heard of is in the state ``"ok"``: nobody needs to be
        told that things are as they should be.
        """
        with self._lock:
            before = self._states.get(topic, "ok")
            if before == state:
                return False
            _remember(self._states, topic, state, self.MAX_KEYS)
        _write(level, message, args, {"event": event, "state": state, **fields})
        return True

    def once(
        self,
        key: Hashable,
        level: str,
        message: str,
        *args: object,
        event: str,
        **fields: object,
    ) -> bool:
        """Say it the first time. Returns whether this was the first."""
        with self._lock:
            if key in self._said:
                return False
            _remember(self._said, key, None, self.MAX_KEYS)
        _write(level, message, args, {"event": event, **fields})
        return True

    def limited(
        self,
        key: Hashable,
        level: str,
        message: str,
        *args: object,
        event: str,
        **fields: object,
    ) -> bool:
        """Say it now and then: the first time, then once per interval.

        A later record has the field ``suppressed``: how many were held back since the
        one before. Returns whether it was said.
        """
        now = self._clock()
        with self._lock:
            last, suppressed = self._limits.get(key, (None, 0))
            if last is not None and now - last < self.interval:
                self._limits[key] = (last, suppressed + 1)
                return False
            _remember(self._limits, key, (now, 0), self.MAX_KEYS)
        fields["suppressed"] = suppressed
        _write(level, message, args, {"event": event, **fields})
        return True

    def renew_lock(self) -> None:
        """In a forked child: whoever held the lock is not here any more."""
        self._lock = _thread.RLock()


def _write(
    level: str, message: str, args: tuple[object, ...], fields: dict[str, object]
) -> None:
    """Make the record, as if the caller of the caller had."""
    taken = _TAKEN.intersection(fields)
    if taken:
        raise ValueError(f"a log record has {sorted(taken)} already")
    logger = _logger()
    if logger.isEnabledFor(_LEVELS[level]):
        logger.log(_LEVELS[level], message, *args, extra=fields, stacklevel=3)


def _remember(
    memory: dict[Hashable, Any], key: Hashable, value: object, limit: int
) -> None:
    memory.pop(key, None)
    if len(memory) >= limit:
        del memory[next(iter(memory))]
    memory[key] = value


_DEFAULT = Log()


def default_log() -> Log:
    """The log of this process."""
    return _DEFAULT


def _after_fork() -> None:
    _DEFAULT.renew_lock()


try:
    from os import register_at_fork
except ImportError:  # not on this platform
    pass
else:
    register_at_fork(after_in_child=_after_fork)
