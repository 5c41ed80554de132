"""What is cached, the figures that everybody goes by, and what is recorded.

Every process takes the time from one clock, `time.monotonic`, which all processes of a
machine share.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cachekit import Cache, NotBuiltYet

KEYS = 3  # of each kind: few, so that they meet
NAMED = "named"  # the kind whose entries cache.get, set and delete share


class Kind(NamedTuple):
    """Functions that are cached in one way; one is ``def``, its twin ``async def``."""

    name: str
    options: dict[str, Any]
    failing: float = 0.02  # how many of its runs raise
    tagged: bool = False
    watched: bool = False  # changed seldom, by one process; the others only look

    @property
    def memory(self) -> bool:
        return bool(self.options.get("l1_enabled", True))

    @property
    def locked(self) -> bool:
        return bool(self.options.get("distributed_lock", False))

    @property
    def life(self) -> float:
        """Seconds from its fill during which an entry may be served."""
        stale = self.options.get("stale_ttl", 0.0)
        if self.options.get("serve_stale_on_error"):
            stale = max(stale, self.options["stale_if_error_ttl"])
        return float(self.options["ttl"] + stale)


# Some live long enough to be wrong 5 s after an invalidation that they missed.
_KINDS = (
    Kind("plain", {"ttl": 30.0}),
    Kind("brief", {"ttl": 0.4}),
    Kind("bare", {"ttl": 20.0, "l1_enabled": False}),
    Kind("stale", {"ttl": 0.5, "stale_ttl": 10.0}),
    Kind(
        "rescued",
        {
            "ttl": 0.3,
            "serve_stale_on_error": True,
            "stale_if_error_ttl": 10.0,
            "stale_retry": 0.1,
        },
        failing=0.5,
    ),
    Kind(NAMED, {"ttl": 20.0}),
    Kind("tagged", {"ttl": 30.0}, tagged=True),
    # What is missed here stays, until the model sees it.
    Kind("watched", {"ttl": 60.0}, failing=0.0, watched=True),
    Kind("seen", {"ttl": 60.0, "l1_enabled": False}, failing=0.0, watched=True),
    Kind("locked", {"ttl": 2.0, "distributed_lock": True}),
    Kind("guarded", {"ttl": 2.0, "distributed_lock": True, "l1_enabled": False}),
)


def _works(options: dict[str, Any]) -> bool:
    """Does this version have these options?"""
    try:
        Cache(backend=None)(name="probe", **options)(lambda n: n)(1)
    except NotBuiltYet:
        return False
    return True


def kinds() -> dict[str, Kind]:
    """Those that can be had, by the name of their function, twins included."""
    found = {}
    for kind in _KINDS:
        probe = dict(kind.options, **({"tags": ("probe",)} if kind.tagged else {}))
        if not _works(probe):
            continue
        if kind.name == NAMED:  # one name, whoever stores under it
            found[NAMED] = kind
        else:
            for twin in ("", "_async"):
                found[kind.name + twin] = kind._replace(name=kind.name + twin)
    return found


def has_whole_invalidations() -> bool:
    """Does this version have invalidate_all()?"""
    try:
        Cache(backend=None)(name="probe", ttl=1.0)(lambda n: n).invalidate_all()
    except NotBuiltYet:
        return False
    return True


def tag_of(key: int) -> str:
    return "even" if key % 2 == 0 else "odd"


@dataclass(frozen=True)
class Settings:
    """What a worker is told."""

    seed: int
    folder: str
    url: str
    route: str  # "direct", or "proxy": what it reaches the server through
    number: int
    life: int = 0  # how many workers of this number were killed before
    threads: int = 3
    tasks: int = 6
    pause: float = 0.02  # seconds, the longest between two operations of a lane
    fault: str = ""  # what to do wrong, for the tests of the model

    @property
    def name(self) -> str:
        return f"w{self.number}.{self.life}"


@dataclass(frozen=True)
class Limits:
    """What the rules allow, in seconds where nothing else is said."""

    deadline: float = 0.5  # socket_timeout: what a call may spend on the store
    run: float = 0.03  # the longest run of a function
    hearing: float = 5.0  # and a deadline: how long memory may miss an invalidation
    lock: float = 5.0  # the life of a lock whose holder died
    slack: float = 0.75  # what a busy machine may add, beyond the stalls it was seen in
    warm_up: float = 20.0
    memory: int = 12 << 20  # bytes that a process may grow by after it
    descriptors: int = 8
    threads: int = 4


# Records are tuples, to be sent between processes as marshal writes them.
#
# ("op", worker, lane, verb, kind, key, begin, end, outcome, run, read_at, version)
#     outcome  value, miss, done, delivered, queued, cancelled, or the name of an
#              exception that the rules allow; "! ..." says what is wrong with it
#     key      -1 where it is about all of a kind, "tag:..." for those of a tag
#     run      who made the value, read_at when it began; None without a value
# ("run", worker, run, kind, key, begin, end, verb, ordinal, raised)
#     ordinal  the how many-th run of that operation it was
# ("stall", worker, begin, end)         the machine did not let it run
# ("usage", worker, when, resident bytes, descriptors, threads)
# ("counts", worker, {name: total})
# ("trouble", number, name, route, begin, end)   end is None while it lasts
# ("mark", who, when, oldest)           all that ended before `when` has been told;
#                                       oldest: when the longest operation began
# ("worker", number)                    the conductor asks to kill a worker
Record = tuple[Any, ...]


class Database:
    """The truth: a counter for each key, in a file that all processes map."""

    def __init__(self, folder: str, names: list[str], *, make: bool = False) -> None:
        self._names = {name: place for place, name in enumerate(sorted(names))}
        path = Path(folder) / "database"
        size = 8 * KEYS * len(names)
        if make:
            path.write_bytes(bytes(size))
        self._file = os.open(path, os.O_RDWR)
        self._map = mmap.mmap(self._file, size)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._map.close()
        os.close(self._file)

    def _place(self, kind: str, key: int) -> int:
        return 8 * (KEYS * self._names[kind] + key)

    def read(self, kind: str, key: int) -> int:
        return int(struct.unpack_from("Q", self._map, self._place(kind, key))[0])

    def change(self, kind: str, key: int) -> int:
        """Its next version, which it has from now on."""
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                version = self.read(kind, key) + 1
                struct.pack_into("Q", self._map, self._place(kind, key), version)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        return version


def text_of(kind: str, key: int, version: int) -> str:
    """What a value of that version holds: of few bytes, of many, of very many."""
    word = f"{kind}:{key}@{version} "
    return word * (1, 1, 1, 4, 100, 1, 1, 5000)[version % 8]
