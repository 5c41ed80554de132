"""Real servers for the tests: on free loopback ports, in throwaway folders, never left.

    with RedisServer() as redis:
        redis.client().call("SET", "key", "value")
        redis.kill()        # as kill -9
        redis.restart()     # empty, on the same port
        redis.stop()        # alive and silent, until cont()

A server that is missing on the machine skips the test, and fails it where CI=true.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 10.0
POLL_SECONDS = 0.005

# A server dies with the thread that started it (see _launch), so one thread starts
# them all and lives as long as the process.
_launcher = ThreadPoolExecutor(1, thread_name_prefix="servers")
_running: set[_Server] = set()


@atexit.register
def _close_all() -> None:
    for server in list(_running):
        server.close()


def require(program: str) -> str:
    """The path of `program`; without it the test is skipped, or fails where CI=true."""
    path = shutil.which(program)
    if path is None:
        missing = f"{program} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerError(Exception):
    """An error reply."""


class RespClient:
    """The smallest blocking Redis client: call() sends a command, reads one reply."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def call(self, *words: str | bytes | int) -> Any:
        self.send(*words)
        return self.read()

    def send(self, *words: str | bytes | int) -> None:
        parts = [
            word if isinstance(word, bytes) else str(word).encode() for word in words
        ]
        command = b"*%d\r\n" % len(parts)
        command += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.sock.sendall(command)

    def read(self) -> Any:
        """The next reply; an error reply is raised as ServerError."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise ServerError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._file.read(size + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"not a reply: {line!r}")

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> RespClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Server:
    """A child process with a folder of its own and a port that it keeps."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cachekit-server-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        _running.add(self)

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert not self.alive, "it runs already"
        for _ in range(3):
            log = self.folder / "log"
            self._launch(log)
            if self._wait_until_ready():
                return
            text = log.read_text(errors="replace")
            if "ddress already in use" not in text and "failed to listen" not in text:
                break
            # Somebody took the port between our choice and the server's start.
            time.sleep(0.05)
        raise RuntimeError(f"{type(self).__name__} did not start:\n{text[-2000:]}")

    def _launch(self, log: Path) -> None:
        environment = dict(os.environ)
        # The interpreter under test may run with a sanitizer; the server does not.
        environment.pop("LD_PRELOAD", None)
        # When this process is killed, so is the server.
        death = shutil.which("setpriv") if sys.platform == "linux" else None
        prefix = [death, "--pdeathsig", "KILL"] if death else []

        def launch() -> subprocess.Popen[bytes]:
            with open(log, "wb") as output:
                return subprocess.Popen(
                    [*prefix, *self._arguments()],
                    cwd=self.folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )

        self.process = _launcher.submit(launch).result()

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < deadline:
            with contextlib.suppress(OSError, ServerError):
                if self._is_ready():
                    return True
            time.sleep(POLL_SECONDS)
        self.kill()
        return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it at once, as kill -9 does; established connections are reset."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """Freeze it: the kernel still accepts for it, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        # The signal is on its way; wait until the process has felt it.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def cont(self) -> None:
        """Let it run again after stop()."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill it where it runs, and start it again on the same port, empty."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Kill it and remove its folder. A forked child leaves both alone."""
        if self._owner == os.getpid():
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
        _running.discard(self)

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class RedisServer(_Server):
    """A redis-server that keeps nothing on disk.

    arguments   more of its options, such as "--maxmemory", "1mb"
    password    what AUTH must send
    tls         speak TLS on `port`; `ca` is the certificate to trust
    unixsocket  listen on `socket_path` alone, and on no port
    """

    def __init__(
        self,
        *arguments: str,
        password: str | None = None,
        tls: bool = False,
        unixsocket: bool = False,
    ) -> None:
        program = require("redis-server")
        super().__init__()
        self.program = program
        self.arguments = arguments
        self.password = password
        self.tls = tls
        self.unixsocket = unixsocket
        self.socket_path = self.folder / "redis.sock"
        self.ca = self.folder / "certificate.pem"
        if tls:
            make_certificate(self.ca, self.folder / "key.pem")

    @property
    def url(self) -> str:
        """Where it is, for the library; the certificate of a TLS server is `ca`."""
        auth = f":{self.password}@" if self.password else ""
        if self.unixsocket:
            return f"unix://{auth}{self.socket_path}"
        return f"{'rediss' if self.tls else 'redis'}://{auth}{self.host}:{self.port}"

    def _arguments(self) -> list[str]:
        options = {
            "bind": self.host,
            "port": "0" if self.tls or self.unixsocket else str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "loglevel": "warning",
            "databases": "16",
        }
        if self.unixsocket:
            options["unixsocket"] = str(self.socket_path)
        if self.tls:
            options["tls-port"] = str(self.port)
            options["tls-cert-file"] = options["tls-ca-cert-file"] = str(self.ca)
            options["tls-key-file"] = str(self.folder / "key.pem")
            options["tls-auth-clients"] = "no"
        if self.password:
            options["requirepass"] = self.password
        if _redis_version(self.program) >= (7,):
            options["enable-debug-command"] = "yes"
        words = [
            word for name, value in options.items() for word in ("--" + name, value)
        ]
        return [self.program, *words, *self.arguments]

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A plain or TLS connection, before AUTH."""
        if self.unixsocket:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(timeout)
                sock.connect(str(self.socket_path))
            except OSError:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self.host, self.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return sock
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            return context.wrap_socket(sock, server_hostname="localhost")
        except OSError:
            sock.close()
            raise

    def client(self, timeout: float = 5.0) -> RespClient:
        """A new connection, authenticated."""
        client = RespClient(self.connect(timeout))
        if self.password:
            client.call("AUTH", self.password)
        return client

    def call(self, *words: str | bytes | int) -> Any:
        """One command on a connection of its own."""
        with self.client() as client:
            return client.call(*words)

    def begin(self, *arguments: str) -> None:
        """start() with more options, for once, and without waiting for an answer."""
        usual = self.arguments
        self.arguments = (*usual, *arguments)
        try:
            self._launch(self.folder / "log")
        finally:
            self.arguments = usual

    def _is_ready(self) -> bool:
        with self.client(timeout=1.0) as client:
            return client.call("PING") == "PONG"

    def cli(self, command: str) -> Any:
        """call() on the words of a string."""
        return self.call(*command.split())


_versions: dict[str, tuple[int, ...]] = {}


def _redis_version(program: str) -> tuple[int, ...]:
    if program not in _versions:
        environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, env=environment
        ).stdout
        number = said.partition("v=")[2].partition(" ")[0]
        _versions[program] = tuple(int(part) for part in number.split(".") if part)
    return _versions[program]


class MemcachedServer(_Server):
    """A memcached."""

    def __init__(self, *arguments: str) -> None:
        program = require("memcached")
        super().__init__()
        self.program = program
        self.arguments = arguments

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def _arguments(self) -> list[str]:
        # It refuses to run as root unless told which user to be.
        user = ["-u", "root"] if os.getuid() == 0 else []
        words = ["-l", self.host, "-p", str(self.port), "-U", "0", "-m", "64"]
        return [self.program, *words, *user, *self.arguments]

    def ask(self, line: str, timeout: float = 5.0) -> str:
        """The first line that `line` is answered with, on a connection of its own."""
        with socket.create_connection((self.host, self.port), timeout) as sock:
            sock.sendall(line.encode() + b"\r\n")
            with sock.makefile("rb") as answer:
                return answer.readline().decode().rstrip()

    def flush(self) -> None:
        assert self.ask("flush_all") == "OK"

    def _is_ready(self) -> bool:
        return self.ask("version", timeout=1.0).startswith("VERSION")


def make_certificate(
    certificate: Path, key: Path, names: Iterable[str] = ("localhost", "127.0.0.1")
) -> None:
    """A self-signed certificate for `names`, good for a day."""
    alternatives = ",".join(
        ("IP:" if name.replace(".", "").isdigit() else "DNS:") + name for name in names
    )
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    command = (
        f"{require('openssl')} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
        f"-nodes -days 1 -subj /CN=localhost -addext subjectAltName={alternatives}"
    ).split()
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        env=environment,
    )
