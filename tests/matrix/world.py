"""The servers that the states are made of: started when first needed, then shared."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from servers import MemcachedServer, RedisServer, _Server

S = TypeVar("S", bound=_Server)


class World:
    """Each server is an attribute; close() ends those that were started."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def _start(self, server: S) -> S:
        self._closing.callback(server.close)
        server.start()
        return server

    @cached_property
    def redis(self) -> RedisServer:
        """The store of most states; its options and users are put back after each."""
        return self._start(RedisServer())

    @cached_property
    def mortal(self) -> RedisServer:
        """To be killed and restarted."""
        return self._start(RedisServer())

    @cached_property
    def master(self) -> RedisServer:
        """Sends its data to a replica without delay."""
        return self._start(RedisServer("--repl-diskless-sync", "no"))

    @cached_property
    def replica(self) -> RedisServer:
        """A replica of `master`, in step with it."""
        replica = self._start(RedisServer())
        replica.call("REPLICAOF", self.master.host, self.master.port)
        return replica

    @cached_property
    def follower(self) -> RedisServer:
        """To be made a replica, and freed again."""
        return self._start(RedisServer())

    @cached_property
    def memcached(self) -> int:
        """Its port."""
        return self._start(MemcachedServer()).port

    @cached_property
    def tls(self) -> int:
        """The port of a Redis that speaks TLS alone."""
        return self._start(RedisServer(tls=True)).port

    @cached_property
    def http(self) -> int:
        """The port of an HTTP server."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
        self._serve(server.serve_forever, server.shutdown, server.server_close)
        return server.server_address[1]

    @cached_property
    def smtp(self) -> int:
        """The port of a server that speaks first, as those for mail do."""
        listener = socket.create_server(("127.0.0.1", 0))

        def greet() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(5)
                    try:
                        client.sendall(b"220 mail.example ESMTP ready\r\n")
                        while client.recv(4096):
                            client.sendall(b"500 5.5.2 command unrecognized\r\n")
                    except OSError:
                        pass

        self._serve(greet, lambda: listener.shutdown(socket.SHUT_RDWR), listener.close)
        return listener.getsockname()[1]

    def _serve(self, run: Callable[[], Any], *ends: Callable[[], Any]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._closing.callback(thread.join, 5)
        for end in reversed(ends):
            self._closing.callback(end)

    def close(self) -> None:
        self._closing.close()


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass
