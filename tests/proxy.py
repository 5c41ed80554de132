"""A proxy between a client and a server that does what bad networks do, on command.

    with Proxy(server.port) as proxy:
        connect_to("127.0.0.1", proxy.port)
        proxy.delay(0.05)      # every reply comes this much later
        proxy.heal()

Each method changes how bytes move from then on, on the connections that are open and on
new ones; heal() ends it. What was lost stays lost: a connection that stall() or drop()
took bytes from stays silent after heal(), as it would in the field, and new ones work.

`connections` counts the accepted ones, `round_trips` the replies that followed a
request.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

CHUNK = 65536


class Proxy:
    """Listens on 127.0.0.1:`port`; target: a port of 127.0.0.1, or a socket's path."""

    host = "127.0.0.1"

    def __init__(self, target: int | str) -> None:
        self.target = target
        self.connections = 0
        self.round_trips = 0
        self.port = 0
        self._changed = threading.Condition()
        # Everything below is guarded by _changed.
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._closed = False
        self._reset_modes()
        self._listen()

    def _reset_modes(self) -> None:
        self._delay = 0.0
        self._cut_after: int | None = None
        self._swallow_requests = False
        self._swallow_replies = False
        self._held = False
        self._shut_replies = False
        self._trickle: tuple[int, float] | None = None
        self._reorder = 0
        self._transform: Callable[[bytes], bytes] | None = None
        self._only: bool | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    # What can be done to the traffic.

    def heal(self) -> None:
        """Behave, and listen again."""
        with self._changed:
            self._reset_modes()
            self._listen()
            self._changed.notify_all()

    def only(self, *, listening: bool) -> None:
        """What is commanded concerns only the connections that have subscribed to
        something, or only the others; until heal()."""
        self._set(_only=listening)

    def delay(self, seconds: float) -> None:
        """Hand over each piece of a reply `seconds` after it came."""
        self._set(_delay=seconds)

    def hold(self) -> None:
        """Keep replies back until heal(), then hand them over."""
        self._set(_held=True)

    def cut(self, after: int = 0) -> None:
        """Close a connection when it has handed over `after` more bytes of replies."""
        self._set(_cut_after=after)

    def stall(self) -> None:
        """Accept connections and requests, and let nothing through."""
        self._set(_swallow_requests=True, _swallow_replies=True)

    def drop(self) -> None:
        """Pass requests on, and lose the replies."""
        self._set(_swallow_replies=True)

    def trickle(self, size: int = 1, seconds: float = 0.05) -> None:
        """Hand over `size` bytes of replies every `seconds`."""
        self._set(_trickle=(size, seconds))

    def reorder(self, window: int = 2) -> None:
        """Collect `window` whole RESP replies, then hand them over last one first."""
        self._set(_reorder=window)

    def transform(self, change: Callable[[bytes], bytes]) -> None:
        """Hand over change(bytes) in place of each piece of a reply."""
        self._set(_transform=change)

    def shut_replies(self) -> None:
        """Half-close: say on each connection that no reply will follow (FIN), and go on
        taking requests; on new connections at once."""
        self._set(_shut_replies=True)
        for link in self._current():
            link.shut_replies()

    def forget(self) -> None:
        """Lose the open connections without a word, as a firewall does that forgot
        them: nothing passes on them any more. New ones work."""
        with self._changed:
            for link in self._links:
                link.silent = link.silent or link._is_meant()

    def refuse(self) -> None:
        """Stop listening and reset what is open: connecting is refused until heal()."""
        with self._changed:
            self._stop_listening()
        self.reset()

    def reset(self) -> None:
        """Reset (RST) the open connections."""
        for link in self._current():
            link.end(reset=True)

    def disconnect(self) -> None:
        """Close (FIN) the open connections."""
        for link in self._current():
            link.end(reset=False)

    @property
    def open_connections(self) -> int:
        return len(self._current())

    def close(self) -> None:
        """End everything and wait for the threads."""
        with self._changed:
            self._closed = True
            self._stop_listening()
            threads = list(self._threads)
            self._changed.notify_all()
        self.disconnect()
        for thread in threads:
            thread.join(5)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # How it works.

    def _set(self, **modes: Any) -> None:
        with self._changed:
            for name, value in modes.items():
                setattr(self, name, value)
            for link in self._links:
                link.passed = 0
            self._changed.notify_all()

    def _current(self) -> list[_Link]:
        with self._changed:
            return list(self._links)

    def _listen(self) -> None:
        if self._listener is not None or self._closed:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._spawn(self._accept, listener)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            # Wakes the thread in accept(), which a mere close does not.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                _reset(client)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client, server)
            with self._changed:
                if self._listener is not listener:
                    link.end(reset=True)
                    return
                self.connections += 1
                self._links.add(link)
                self._threads = [one for one in self._threads if one.is_alive()]
                self._spawn(link.move_requests)
                self._spawn(link.move_replies)
                if self._shut_replies:
                    link.shut_replies()

    def _connect(self) -> socket.socket:
        if isinstance(self.target, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            return server
        server = socket.create_connection((self.host, self.target), 5)
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server


class _Link:
    """One client's connection and ours to the server for it."""

    def __init__(
        self, proxy: Proxy, client: socket.socket, server: socket.socket
    ) -> None:
        self.proxy = proxy
        self.client = client
        self.server = server
        self.passed = 0  # bytes of replies handed over since the last command
        self.asked = False  # a request passed that no reply has followed yet
        self.silent = False  # lost something: says nothing any more
        self.listens = False  # has subscribed
        self.shut = False  # has told the client that no reply will follow
        self.ended = False
        self.waiting = b""  # replies kept back by reorder()
        self.collected: list[bytes] = []

    def move_requests(self) -> None:
        proxy = self.proxy
        while data := _receive(self.client):
            with proxy._changed:
                self.listens = self.listens or b"SUBSCRIBE" in data
                if proxy._swallow_requests and self._is_meant():
                    self.silent = True
                if self.silent:
                    continue
                self.asked = True
            if not _send(self.server, data):
                break
        # The client has gone: the server hears of it once its replies are out.
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_WR)

    def move_replies(self) -> None:
        while data := _receive(self.server):
            if not self._hand_over(data):
                break
        self.end(reset=False)

    def _hand_over(self, data: bytes) -> bool:
        proxy = self.proxy
        with proxy._changed:
            if self.asked:
                self.asked = False
                proxy.round_trips += 1
            if proxy._delay > 0 and self._is_meant():
                self._sleep(proxy._delay, lambda: proxy._delay == 0)
            proxy._changed.wait_for(
                lambda: not (proxy._held and self._is_meant()) or self._over()
            )
            if proxy._swallow_replies and self._is_meant():
                self.silent = True
            if self.silent or self.shut:
                return not self._over()
            if proxy._transform is not None:
                data = proxy._transform(data)
            if proxy._reorder > 1 or self.waiting or self.collected:
                data = self._reordered(data)
        while data:
            with proxy._changed:
                piece, pause, last = data, 0.0, False
                if proxy._trickle is not None:
                    size, pause = proxy._trickle
                    piece = data[:size]
                if proxy._cut_after is not None:
                    left = max(0, proxy._cut_after - self.passed)
                    piece, last = piece[:left], left <= len(piece)
                self.passed += len(piece)
            if (piece and not _send(self.client, piece)) or last:
                return False
            data = data[len(piece) :]
            if pause:
                with proxy._changed:
                    self._sleep(pause, lambda: proxy._trickle is None)
                    if self._over():
                        return False
        return True

    def _is_meant(self) -> bool:
        return self.proxy._only is None or self.proxy._only == self.listens

    def _over(self) -> bool:
        return self.ended or self.proxy._closed

    def _sleep(self, seconds: float, healed: Callable[[], bool]) -> None:
        """Wait, with proxy._changed held; shorter when healed or ended."""
        end = time.monotonic() + seconds
        while (
            not self._over() and not healed() and (left := end - time.monotonic()) > 0
        ):
            self.proxy._changed.wait(left)

    def _reordered(self, data: bytes) -> bytes:
        self.waiting += data
        while size := reply_size(self.waiting):
            self.collected.append(self.waiting[:size])
            self.waiting = self.waiting[size:]
        if len(self.collected) < self.proxy._reorder:
            return b""
        replies = b"".join(reversed(self.collected))
        self.collected = []
        if self.proxy._reorder <= 1:
            replies, self.waiting = replies + self.waiting, b""
        return replies

    def shut_replies(self) -> None:
        self.shut = True
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_WR)

    def end(self, reset: bool) -> None:
        proxy = self.proxy
        with proxy._changed:
            if self.ended:
                return
            self.ended = True
            proxy._links.discard(self)
            proxy._changed.notify_all()
        if reset:
            _reset(self.client)
        for sock in (self.client, self.server):
            # Wakes the threads that read from it, then the descriptor can go.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def reply_size(data: bytes) -> int:
    """How many bytes the first RESP reply of `data` takes; 0 when it is not whole."""
    end = data.find(b"\r\n")
    if end < 0:
        return 0
    size, kind = end + 2, data[:1]
    if kind in (b"$", b"="):
        length = int(data[1:end])
        size += length + 2 if length >= 0 else 0
    elif kind in (b"*", b"~", b">", b"%"):
        count = int(data[1:end]) * (2 if kind == b"%" else 1)
        for _ in range(count):
            part = reply_size(data[size:])
            if part == 0:
                return 0
            size += part
    return size if size <= len(data) else 0


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(CHUNK)
    except (OSError, ValueError):
        return b""


def _send(sock: socket.socket, data: bytes) -> bool:
    """Send all of it; False when the connection is over, here or at the other end."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            # In slices: a closed descriptor wakes nobody who waits for room.
            try:
                room = select.poll()
                room.register(sock, select.POLLOUT)
                room.poll(50)
            except (OSError, ValueError):
                return False
        except (OSError, ValueError):
            return False
    return True


def _reset(sock: socket.socket) -> None:
    """Close with a RST, which discards what is under way."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Says nothing to the peer, and ends a recv() that would keep the socket open.
        sock.shutdown(socket.SHUT_RD)
    sock.close()
