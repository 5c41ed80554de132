# SPDX-License-Identifier: MIT
"""A Redis for the benchmarks: on a free loopback port, keeping nothing on disk."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from rivals import Unavailable

START_SECONDS = 10.0


class Server(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def count(self, name: str) -> int:
        """A counter of its INFO. Asking counts as one read of its own."""
        with socket.create_connection(("127.0.0.1", self.port), 1) as link:
            link.sendall(b"INFO\r\nQUIT\r\n")
            said = b"".join(iter(lambda: link.recv(65536), b"")).decode()
        for line in said.splitlines():
            found, _, value = line.partition(":")
            if found == name:
                return int(value)
        raise Unavailable(f"this server does not count {name}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Started on entry, killed on exit. Raises Unavailable."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="cachekit-bench-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
        words += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        # When this process is killed, so is the server.
        death = shutil.which("setpriv") if sys.platform == "linux" else None
        prefix = [death, "--pdeathsig", "KILL"] if death else []
        process = subprocess.Popen(
            [*prefix, program, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Server(port, process)
        try:
            _wait(server)
            yield server
        finally:
            server.kill()


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", server.port), 1) as link:
                link.sendall(b"PING\r\n")
                if link.recv(16).startswith(b"+PONG"):
                    return
        time.sleep(0.01)
    raise Unavailable("redis-server does not start")
