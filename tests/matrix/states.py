"""The rows of the matrix: what is wrong, and what each strategy must do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from matrix.scene import Scene

MISS, BACKEND = "`CacheMiss`", "`BackendError`"
CACHED, STALE = "cached", "cached (stale)"
FUNCTION, RAISES = "function", "the exception"

# What a call under each strategy must get: FRESH, REFRESH, INVALIDATE, BYPASS.
UP_PRESENT = (CACHED, CACHED, FUNCTION, FUNCTION)
UP_ABSENT = (MISS, FUNCTION, FUNCTION, FUNCTION)
DOWN = (BACKEND, FUNCTION, FUNCTION, FUNCTION)

#: socket_timeout (seconds) of a state that makes calls wait for all of it.
SHORT = 0.1
#: The same of a state that must not make them wait at all.
LONG = 3.0

# What is wrong: the parts of the page.
WELL, OUTAGE, LOST, INVISIBLE, WRITES, FUNCTION_FAILS, ENTRY = (
    "The store works",
    "The store cannot be read",
    "One connection is lost",
    "No caller notices",
    "The store cannot be written",
    "The function fails too",
    "The entry is damaged or somebody else's",
)


@dataclass
class State:
    """A row.

    part           of the page
    title          what a user sees, in plain words
    expect         what the caller must get, one for each strategy
    harm           brings the store or the network into the state
    again          makes it whole between the calls of two strategies
    entry          whether there is one, of `entry_options` where they differ
    entry_is       changes the entry with this key, or puts another in its place
    raises         whether the function raises
    timeout        socket_timeout; SHORT where calls wait for it
    options        decorator options
    server, source attributes of World: where calls go, where entries are looked for
    user           whether the functions log in as a user whose rights can be changed
    down_before    whether it is so from before the first call
    stale          whether a background refresh is to be looked for
    said           the event that is logged, where something is
    crowd          how many calls for other entries follow
    unheard        whether the server may do what it is told without being heard
    """

    part: str
    title: str
    expect: tuple[str, str, str, str]
    harm: Callable[[Scene], object] | None = None
    again: Callable[[Scene], object] | None = None
    entry: bool = True
    entry_is: Callable[[Scene, str], object] | None = None
    entry_options: dict[str, Any] = field(default_factory=dict)
    raises: bool = False
    timeout: float = LONG
    options: dict[str, Any] = field(default_factory=dict)
    server: str = "redis"
    source: str = ""
    user: bool = False
    down_before: bool = False
    stale: bool = False
    said: str = "store_failed"
    crowd: int = 30
    unheard: bool = False

    @property
    def is_outage(self) -> bool:
        return self.part == OUTAGE

    @property
    def waits(self) -> bool:
        """Whether calls wait for the whole deadline."""
        return self.timeout == SHORT


def well(title: str, expect: tuple[str, str, str, str], **more: Any) -> State:
    return State(WELL, title, expect, **more)


def outage(title: str, harm: Callable[[Scene], object], **more: Any) -> State:
    """Reads fail, at once."""
    return State(OUTAGE, title, DOWN, harm, **more)


def silence(title: str, harm: Callable[[Scene], object], **more: Any) -> State:
    """Reads fail when the deadline has passed."""
    return outage(title, harm, timeout=SHORT, unheard=True, **more)


def unnoticed(title: str, harm: Callable[[Scene], object], **more: Any) -> State:
    return State(INVISIBLE, title, UP_PRESENT, harm, **more)


def unwritable(title: str, harm: Callable[[Scene], object], **more: Any) -> list[State]:
    return [
        State(WRITES, f"{title}; entry fresh", UP_PRESENT, harm, **more),
        State(WRITES, f"{title}; no entry", UP_ABSENT, harm, entry=False, **more),
    ]


def spoilt(title: str, change: Callable[[bytes], bytes]) -> State:
    return State(
        ENTRY,
        title,
        UP_ABSENT,
        entry_is=lambda scene, key: scene.change(change)(key),
    )


TWO_STALE = {"stale_ttl": 30, "serve_stale_on_error": True, "stale_if_error_ttl": 300}
#: Two gigabytes less one byte: more than any value may have, and lawful RESP.
HUGE = 2**31 - 1

STATES = [
    well("entry fresh", UP_PRESENT),
    well("no entry", UP_ABSENT, entry=False),
    well(
        "entry stale, within `stale_ttl`",
        (f"{CACHED}, no refresh", f"{CACHED}, one refresh", FUNCTION, FUNCTION),
        entry_is=lambda scene, key: scene.age(65)(key),
        options=TWO_STALE,
        stale=True,
    ),
    well(
        "entry stale, within `stale_if_error_ttl` only",
        UP_ABSENT,
        entry_is=lambda scene, key: scene.age(120)(key),
        options=TWO_STALE,
    ),
    well(
        "the same, and the function raises",
        (MISS, STALE, RAISES, RAISES),
        entry_is=lambda scene, key: scene.age(120)(key),
        options=TWO_STALE,
        raises=True,
    ),
    well("function raises, entry fresh", (CACHED, CACHED, RAISES, RAISES), raises=True),
    well(
        "function raises, no entry",
        (MISS, RAISES, RAISES, RAISES),
        entry=False,
        raises=True,
    ),
    # -- nobody there
    outage("connection refused", lambda scene: scene.proxy.refuse()),
    outage(
        "down since before the program started",
        lambda scene: None,
        down_before=True,
    ),
    outage("killed with `kill -9` while in use", Scene.kill, server="mortal"),
    outage(
        "every command is answered by a reset", Scene.reset_connections, unheard=True
    ),
    outage("every connection is closed at once", lambda s: s.proxy.cut(), unheard=True),
    outage(
        "every reply is cut off in its middle",
        lambda s: s.proxy.cut(after=3),
        unheard=True,
    ),
    outage(
        "half closed: it takes requests and has shut its own side",
        lambda scene: scene.proxy.shut_replies(),
        unheard=True,
    ),
    # -- nobody answers
    silence("frozen (`SIGSTOP`)", Scene.freeze),
    silence("paused (`CLIENT PAUSE`)", Scene.pause),
    silence("the network loses every packet", lambda scene: scene.proxy.stall()),
    silence("the network loses the replies", lambda scene: scene.proxy.drop()),
    silence("replies come far too late", lambda scene: scene.proxy.delay(30)),
    silence("replies come one byte each 50 ms", lambda scene: scene.proxy.trickle()),
    silence(
        "frozen, with `distributed_lock=True`",
        Scene.freeze,
        options={"distributed_lock": True},
    ),
    # -- it refuses
    outage(
        "loading its data after a restart", Scene.load, server="mortal", timeout=SHORT
    ),
    outage(
        "a replica that loads what its master sends",
        Scene.synchronise,
        server="follower",
        timeout=SHORT,
    ),
    outage("a replica without its master, set to serve nothing", Scene.lose_master),
    outage(
        "out of clients",
        lambda scene: (scene.config("maxclients", 1), scene.hang_up()),
    ),
    outage("the password was changed", Scene.change_password, user=True),
    outage("a password is demanded all at once", Scene.demand_password),
    outage("the user was deleted (`ACL DELUSER`)", Scene.delete_user, user=True),
    outage(
        "the user lost all rights (`NOPERM`)",
        lambda scene: scene.allow("-@all"),
        user=True,
    ),
    # -- it is no Redis
    outage("it is an HTTP server", lambda scene: scene.become(scene.world.http)),
    outage("it is a mail server", lambda scene: scene.become(scene.world.smtp)),
    outage("it is a memcached", lambda scene: scene.become(scene.world.memcached)),
    outage(
        "it speaks TLS and the URL does not say so",
        lambda scene: scene.become(scene.world.tls),
    ),
    # -- it talks nonsense
    outage("replies are no RESP", lambda scene: scene.answer(b"?!\r\n"), unheard=True),
    outage(
        "replies are framed wrongly",
        lambda scene: scene.answer(b"$3\r\nabcdef\r\n" * 4),
        unheard=True,
    ),
    outage(
        "replies are of the wrong type",
        lambda scene: scene.answer(b"*1\r\n+odd\r\n" * 4),
        unheard=True,
    ),
    outage(
        "a reply promises 2 GB",
        lambda scene: scene.answer(b"$%d\r\n" % HUGE),
        unheard=True,
    ),
    outage(
        "a reply promises two thousand million elements",
        lambda scene: scene.answer(b"*%d\r\n" % HUGE),
        unheard=True,
    ),
    # -- for one call
    State(
        LOST,
        "a firewall forgot the open connection; a new one works",
        DOWN,
        lambda scene: scene.proxy.forget(),
        timeout=SHORT,
    ),
    # -- nobody notices
    unnoticed("connections were closed while idle", Scene.hang_up),
    unnoticed("connections were reset while idle", lambda scene: scene.proxy.reset()),
    unnoticed("restarted between two calls", Scene.restart, server="mortal"),
    unnoticed(
        "the password was changed; connections stay open",
        lambda scene: scene.allow("resetpass", ">another"),
        user=True,
    ),
    unnoticed(
        "scripts are forbidden (`NOPERM`)",
        lambda scene: scene.allow("-@scripting"),
        user=True,
    ),
    unnoticed(
        "scripts were forgotten (`SCRIPT FLUSH`)",
        lambda scene: scene.server.call("SCRIPT", "FLUSH"),
    ),
    unnoticed(
        "publishing and subscribing are forbidden",
        lambda scene: scene.allow("resetchannels", "-@pubsub"),
        user=True,
    ),
    # -- writes fail
    *unwritable(
        "a read-only replica", Scene.fail_over, server="replica", source="master"
    ),
    *unwritable(
        "out of memory (`noeviction`)", lambda scene: scene.config("maxmemory", 1)
    ),
    *unwritable(
        "too few replicas (`min-replicas-to-write`)",
        lambda scene: scene.config("min-replicas-to-write", 1),
    ),
    *unwritable("it cannot save to disk (`MISCONF`)", Scene.spoil_the_disk),
    *unwritable(
        "the user may only read (`NOPERM`)",
        lambda scene: scene.allow("-@write", "-@scripting"),
        user=True,
    ),
    State(
        WRITES,
        "writes are paused (`CLIENT PAUSE WRITE`), as in a failover",
        UP_PRESENT,
        lambda scene: scene.pause("WRITE"),
        timeout=SHORT,
        unheard=True,
    ),
    State(
        WRITES,
        "killed with `kill -9` while the function runs; no entry",
        UP_ABSENT,
        Scene.kill_while_running,
        Scene.revive,
        entry=False,
        server="mortal",
        crowd=5,
    ),
    State(
        WRITES,
        "somebody else's data is where the fence would be; no entry",
        UP_ABSENT,
        entry=False,
        entry_is=lambda scene, key: scene.put_list(f"{{{key}}}:f"),
        said="foreign_key",
    ),
    State(
        WRITES,
        "somebody else's data is where the version numbers would be",
        UP_ABSENT,
        Scene.spoil_versions,
        said="foreign_key",
    ),
    State(
        WRITES,
        "out of memory, with `distributed_lock=True`; no entry",
        UP_ABSENT,
        lambda scene: scene.config("maxmemory", 1),
        entry=False,
        options={"distributed_lock": True},
    ),
    # -- both
    State(
        FUNCTION_FAILS,
        "connection refused, and the function raises",
        (BACKEND, RAISES, RAISES, RAISES),
        lambda scene: scene.proxy.refuse(),
        raises=True,
    ),
    State(
        FUNCTION_FAILS,
        "frozen, and the function raises",
        (BACKEND, RAISES, RAISES, RAISES),
        Scene.freeze,
        raises=True,
        timeout=SHORT,
        unheard=True,
    ),
    State(
        FUNCTION_FAILS,
        "out of memory, no entry, and the function raises",
        (MISS, RAISES, RAISES, RAISES),
        lambda scene: scene.config("maxmemory", 1),
        entry=False,
        raises=True,
    ),
    # -- what is stored
    spoilt("corrupt", lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
    spoilt("truncated", lambda data: data[:-3]),
    spoilt("cut off in its header", lambda data: data[:7]),
    spoilt("with more behind it", lambda data: data + b"more"),
    spoilt("foreign: not our magic", lambda data: b"somebody else's"),
    spoilt("foreign: empty", lambda data: b""),
    spoilt("of another format version", lambda data: data[:2] + b"\x05" + data[3:]),
    State(
        ENTRY,
        "foreign: not a string",
        UP_ABSENT,
        entry_is=lambda scene, key: scene.put_list(key),
    ),
    State(
        ENTRY,
        "its version number was evicted",
        UP_ABSENT,
        entry_is=lambda scene, key: scene.lose_versions(),
    ),
    State(
        ENTRY,
        "of a lower `version`",
        UP_ABSENT,
        options={"version": 2},
        entry_options={"version": 1},
    ),
    State(
        ENTRY,
        "of a higher `version`",
        UP_ABSENT,
        options={"version": 1},
        entry_options={"version": 2},
    ),
    State(
        ENTRY,
        "of another `schema`",
        UP_ABSENT,
        options={"schema": int},
        entry_options={"schema": str},
    ),
]
