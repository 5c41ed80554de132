"""Cached functions on a store behind a proxy, and what it takes to harm them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from driver import Driver, Work
from proxy import Proxy
from servers import RedisServer, ServerError, free_port

from matrix.world import World

if TYPE_CHECKING:
    from matrix.states import State

STRATEGIES = ("FRESH", "REFRESH", "INVALIDATE", "BYPASS")
USER, PASSWORD = "app", "secret"
ENTITLED = ("on", "resetpass", f">{PASSWORD}", "~*", "&*", "+@all")
ANOTHER_NAME = "127.1"  # for 127.0.0.1
HEALTHY_TIMEOUT = 5.0  # socket_timeout of what only prepares and looks


class Failure(Exception):
    """What the function raises."""


class Records(logging.Handler):
    """What is said of the store at an address, and of functions, at WARNING."""

    def __init__(self, address: str) -> None:
        super().__init__(logging.WARNING)
        self.address = address
        self.events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "store", self.address) == self.address:
            event = getattr(record, "event", "")
            if event == "breaker_changed":
                event = f"breaker {getattr(record, 'state', '')}"
            self.events.append(event)

    def count(self, event: str) -> int:
        return self.events.count(event)


class Scene:
    """What one row is played on.

    server   where the proxy leads, once the state is there
    source   where entries are made and looked for; the same, unless `server` is a
             replica or no Redis
    works    a function for each strategy, each with a cache, connections and a breaker
             of its own
    kept     one whose entry memory holds
    strict   one with fallback_enabled=False
    undo     ends the state; unwound after the calls
    """

    def __init__(self, driver: Driver, world: World, state: State) -> None:
        self.driver = driver
        self.world = world
        self.state = state
        self.undo = ExitStack()
        self.closing = ExitStack()
        self.error = Failure("the function failed")
        self.lasts = 1.2  # seconds of a state that cannot be ended
        self.until = float("inf")  # monotonic seconds: when such a state ends
        self.server: RedisServer = getattr(world, state.server)
        self.source: RedisServer = getattr(world, state.source or state.server)
        self.works: dict[str, Work] = {}
        self.before: dict[str, bytes | None] = {}

    def open(self) -> None:
        """The proxy, the functions and their entries; all is well so far."""
        self.source.call("FLUSHALL")
        self.proxy = Proxy(self.server.port)
        self.closing.callback(self.proxy.close)
        self.undo.callback(self.proxy.heal)
        address = f"{self.proxy.host}:{self.proxy.port}"
        self.records = Records(address)
        logger = logging.getLogger("cachekit")
        logger.addHandler(self.records)
        self.closing.callback(logger.removeHandler, self.records)
        login = ""
        if self.state.user:
            self.grant(*ENTITLED)
            self.closing.callback(self.server.call, "ACL", "DELUSER", USER)
            login = f"{USER}:{PASSWORD}@"
        self.url = f"redis://{login}{address}"
        # The same place under another name: what is said of it is told apart.
        self.aside = f"redis://{login}{ANOTHER_NAME}:{self.proxy.port}"
        if self.state.down_before:
            self.proxy.refuse()
        self._build()

    def _build(self) -> None:
        state = self.state
        source = self.driver.cache(self.source.url, socket_timeout=HEALTHY_TIMEOUT)
        for strategy in STRATEGIES:
            name = f"work.{strategy.lower()}"
            if state.entry:
                options = {**state.options, **state.entry_options}
                filler = self._work(source, name, **options)
                filler.answer = lambda n: "old"
                filler(1)
            cache = self.cache(aside=strategy != "REFRESH")
            self.works[strategy] = self._work(cache, name, **state.options)
        if state.is_outage:
            strict = self.cache(aside=True, fallback_enabled=False)
            self.strict = self._work(strict, "strict", **state.options)
            self.strict.answer = lambda n: "new"
        if state.is_outage and not state.down_before:
            self._keep()
        if self.server is not self.source:
            wait_until_in_step(self.server, self.source)
        for strategy, work in self.works.items():
            work.answer = lambda n: "new"
            if not state.down_before:
                self._warm(work)
            if state.entry_is is not None:
                state.entry_is(self, work.key_for(1))
            self.before[strategy] = self.contents(strategy)
            if state.raises:
                work.error = self.error

    def cache(self, aside: bool, **config: Any) -> Any:
        config.setdefault("socket_timeout", self.state.timeout)
        return self.driver.cache(self.aside if aside else self.url, **config)

    def _work(self, cache: Any, name: str, **options: Any) -> Work:
        options = {"ttl": 60, "l1_enabled": False, **options}
        return self.driver.work(cache, name=name, **options)

    def _keep(self) -> None:
        """A function whose entry memory holds."""
        self.kept = self._work(self.cache(aside=True), "kept", l1_enabled=True)
        self.kept.answer = lambda n: "old"

        def kept() -> bool:
            hits = self.kept.info.l1_hits
            self.kept(1)
            return self.kept.info.l1_hits > hits

        self.driver.wait_until(kept)
        self.kept.answer = lambda n: "new"

    def _warm(self, work: Work) -> None:
        """Have a connection, without an entry for it."""
        try:
            work.using("FRESH")("warm")
        except LookupError:
            pass

    def contents(self, strategy: str) -> bytes | None:
        """What the store holds for the strategy's function, whatever its type."""
        return self.source.call("DUMP", self.works[strategy].key_for(1))

    def close(self) -> None:
        with self.closing, self.undo:
            pass

    # What harms.

    def config(self, *options: object, server: RedisServer | None = None) -> None:
        """Set options (name, value, name, value) of the server until the end."""
        client = self.undo.enter_context((server or self.server).client())
        for name, value in zip(options[::2], options[1::2], strict=True):
            before = client.call("CONFIG", "GET", name)[1]
            client.call("CONFIG", "SET", name, value)
            self.undo.callback(client.call, "CONFIG", "SET", name, before)

    def grant(self, *rules: str) -> None:
        """What the user of the functions may do."""
        self.server.call("ACL", "SETUSER", USER, *rules)

    def allow(self, *rules: str) -> None:
        """Change it, until the end."""
        self.grant(*rules)
        self.undo.callback(self.grant, "reset", *ENTITLED)

    def change_password(self) -> None:
        self.allow("resetpass", ">another")
        self.hang_up()

    def demand_password(self) -> None:
        """The server wants a password of clients that know none."""
        server = self.server

        def demand(password: str | None) -> None:
            server.call("CONFIG", "SET", "requirepass", password or "")
            server.password = password

        demand("newly set")
        self.undo.callback(demand, None)
        self.hang_up()

    def delete_user(self) -> None:
        """Which closes the user's connections."""
        self.server.call("ACL", "DELUSER", USER)
        self.undo.callback(self.grant, *ENTITLED)

    def hang_up(self) -> None:
        """Close the open connections."""
        self.proxy.disconnect()
        self.driver.rest(0.01)

    def reset_connections(self) -> None:
        """Every command is answered with a reset."""

        def reset(data: bytes) -> bytes:
            self.proxy.reset()
            return b""

        self.proxy.transform(reset)

    def answer(self, data: bytes) -> None:
        """Put these bytes in the place of every reply."""
        self.proxy.transform(lambda _: data)

    def pause(self, what: str = "ALL") -> None:
        """Nobody's commands (or writes) are carried out, nor can that be ended."""
        self.server.call("CLIENT", "PAUSE", int(self.lasts * 1000), what)
        self.until = time.monotonic() + self.lasts
        self.undo.callback(self.server.call, "DEL", "anything")

    def freeze(self) -> None:
        self.server.stop()
        self.undo.callback(self.server.cont)

    def kill(self) -> None:
        """kill -9; it comes back with what it held."""
        self.server.call("SAVE")
        self.server.kill()
        self.undo.callback(self.server.start)

    def restart(self) -> None:
        self.server.call("SAVE")
        self.server.restart()

    def kill_while_running(self) -> None:
        """Each run of the function finds the server alive, and kills it."""
        for work in self.works.values():
            work.before = self._kill_once

    def _kill_once(self) -> None:
        if self.server.alive:
            self.server.call("SAVE")
            self.server.kill()

    def revive(self) -> None:
        if not self.server.alive:
            self.server.start()

    def load(self) -> None:
        """It was restarted with much data, and answers LOADING until it has it."""
        server = self.server
        server.call("DEBUG", "POPULATE", 4000, "ballast", 1024)
        server.call("SAVE")
        server.kill()
        self.undo.callback(self.end_loading, server)
        server.begin(*slow_loading("--"))
        self._wait_for_error("LOADING")

    def synchronise(self) -> None:
        """It is a replica from now on, and loads what the master sends."""
        master, server = self.world.master, self.server
        copy_keys(server, master)
        master.call("DEBUG", "POPULATE", 4000, "ballast", 1024)
        self.undo.callback(server.call, "REPLICAOF", "NO", "ONE")
        self.undo.callback(wait_until_in_step, server, master)
        self.undo.callback(self.end_loading, server)
        server.call("CONFIG", "SET", *slow_loading(""))
        server.call("REPLICAOF", master.host, master.port)
        self._wait_for_error("LOADING")

    def end_loading(self, server: RedisServer) -> None:
        server.call("CONFIG", "SET", "key-load-delay", 0)
        self.driver.wait_until(lambda: self._error() == "", HEALTHY_TIMEOUT)

    def lose_master(self) -> None:
        """It is a replica of nobody, and serves no old data."""
        self.config("replica-serve-stale-data", "no")
        self.server.call("REPLICAOF", "127.0.0.1", free_port())
        self.undo.callback(self.server.call, "REPLICAOF", "NO", "ONE")
        self._wait_for_error("MASTERDOWN")

    def _error(self) -> str:
        try:
            self.server.call("GET", "anything")
        except ServerError as error:
            return str(error)
        except OSError:
            return "no connection"
        return ""

    def _wait_for_error(self, word: str) -> None:
        self.driver.wait_until(lambda: self._error().startswith(word))

    def fail_over(self) -> None:
        """When the state ends, the address leads to the source of the data."""
        self.undo.callback(self.lead_to, self.source.port)

    def lead_to(self, port: int) -> None:
        """The address leads elsewhere; connections are reset."""
        self.proxy.target = port
        self.proxy.reset()

    def become(self, port: int) -> None:
        """Another kind of server listens at the address, until the end."""
        self.lead_to(port)
        self.undo.callback(self.lead_to, self.source.port)

    def spoil_the_disk(self) -> None:
        """Its snapshots fail, and it is configured to take no writes then."""
        obstacle = self.server.folder / "dump.rdb"
        obstacle.unlink(missing_ok=True)
        obstacle.mkdir()
        self.config("save", "3600 1")
        # One that works takes it out of that state.
        self.undo.callback(self.server.call, "SAVE")
        self.undo.callback(obstacle.rmdir)
        self.server.call("BGSAVE")

        def refuses() -> bool:
            try:
                self.server.call("SET", "unsaved", 1)
            except ServerError as error:
                return str(error).startswith("MISCONF")
            return False

        self.driver.wait_until(refuses)

    # What is done to an entry.

    def age(self, seconds: float) -> Callable[[str], None]:
        """Make it that much older, as the server's clock tells it."""

        def age(key: str) -> None:
            left = self.source.call("PTTL", key)
            self.source.call("PEXPIRE", key, left - int(seconds * 1000))

        return age

    def change(self, change: Callable[[bytes], bytes]) -> Callable[[str], None]:
        def rewrite(key: str) -> None:
            data = self.source.call("GET", key)
            self.source.call("SET", key, change(data), "KEEPTTL")

        return rewrite

    def put_list(self, key: str) -> None:
        """Somebody else's data, in the place of what is there."""
        self.source.call("DEL", key)
        self.source.call("RPUSH", key, "somebody else's")

    def versions(self) -> list[bytes]:
        """The keys that hold version numbers: all that are not entries."""
        entries = {work.key_for(1).encode() for work in self.works.values()}
        keys = self.source.call("KEYS", "*")
        return [key for key in keys if b":v:" in key and key not in entries]

    def lose_versions(self) -> None:
        for key in self.versions():
            self.source.call("DEL", key)

    def spoil_versions(self) -> None:
        for key in self.versions():
            self.put_list(key.decode())
            self.undo.callback(self.source.call, "DEL", key)


def slow_loading(prefix: str) -> tuple[str, ...]:
    """Options for a load that takes seconds and answers meanwhile."""
    return (
        *(f"{prefix}key-load-delay", "2000"),  # microseconds for each key
        *(f"{prefix}loading-process-events-interval-bytes", "1024"),
    )


def copy_keys(source: RedisServer, target: RedisServer) -> None:
    """All that is in one server, into another."""
    target.call("FLUSHALL")
    with source.client() as read, target.client() as write:
        for key in read.call("KEYS", "*"):
            left = max(0, read.call("PTTL", key))
            write.call("RESTORE", key, left, read.call("DUMP", key))


def replication(server: RedisServer) -> dict[str, str]:
    text = server.call("INFO", "replication").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def wait_until_in_step(replica: RedisServer, master: RedisServer) -> None:
    """Until the replica has all that its master holds."""
    deadline = time.monotonic() + 10
    while not in_step(replica, master):
        assert time.monotonic() < deadline, "the replica did not catch up"
        time.sleep(0.002)


def in_step(replica: RedisServer, master: RedisServer) -> bool:
    try:
        facts = replication(replica)
    except ServerError:  # it is loading
        return False
    sent = int(replication(master)["master_repl_offset"])
    return (
        facts.get("master_link_status") == "up"
        and int(facts["slave_repl_offset"]) >= sent
    )
