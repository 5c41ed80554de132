# SPDX-License-Identifier: MIT
"""Entries exchanged with the package ``cachekit`` on PyPI, over a real Redis.

Four of its releases are installed into folders under ``out/``, kept from run to run;
each runs in processes of its own, as it has the same import name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer
from wire3_entries import library, value_of

from cachekit import Cache, CacheConfig, _core
from cachekit._wire3 import (
    Bond,
    EntryForm,
    InteropName,
    Name,
    call_names,
    custom_names,
    dialect_of,
    interop_arguments,
    read_entry,
    read_interop,
    serializer_code,
    write_entry,
    write_interop,
)

pytestmark = pytest.mark.no_sanitizer

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "pypi" / str(sys.implementation.cache_tag)
PEER = Path(__file__).resolve().parent / "pypi_peer.py"
RELEASES = ("0.17", "0.20", "0.23", "0.24")
INSTALL_SECONDS = 300
OLD, NEW = "0123456789abcdef" * 4, "fedcba9876543210" * 4
TENANT = "6f1c2b0a-1111-4222-8333-444455556666"


def installed(release: str) -> Path:
    """The folder with a release, installed first if it has to be."""
    folder, wanted = FOLDER / release, f"cachekit[json]=={release}.*"
    done = folder / ".installed"
    if done.exists() and done.read_text() == wanted:
        return folder
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    command = [*pip, "install", "--upgrade", "--target", str(folder), wanted]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        why = said.stderr.strip().splitlines()[-1:] if said.returncode else []
    except subprocess.TimeoutExpired:
        why = [f"not within {INSTALL_SECONDS} s"]
    if why or not (folder / "cachekit").is_dir():
        missing = f"{wanted} does not install from PyPI: {''.join(why)}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    done.write_text(wanted)
    return folder


class Peer:
    """A process with a release, on a store given in the environment or by each call."""

    def __init__(self, release: str, redis: RedisServer, home: Path, env: bool) -> None:
        self.release = release
        self.dialect = dialect_of(f"3:{release}")
        self.redis = redis
        self.tenant = "default" if env else None
        self.url = None if env else redis.url
        self.home = home
        self._processes: dict[tuple[str, ...], subprocess.Popen[str]] = {}

    def call(
        self, args: str, value: str, environ: dict[str, str] | None = None, **case: Any
    ) -> dict[str, Any]:
        """What a call gives there: ``ran`` and ``gave`` (its repr)."""
        process = self._process(environ or {})
        asked = {"args": args, "value": value, "url": self.url, **case}
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(asked), file=process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        assert "raised" not in answer, answer
        return answer

    def _process(self, environ: dict[str, str]) -> subprocess.Popen[str]:
        key = tuple(sorted(environ.items()))
        if key not in self._processes:
            inherited = {
                name: os.environ[name]
                for name in ("PATH", "LD_LIBRARY_PATH")
                if name in os.environ
            }
            home = {"HOME": str(self.home)}
            store = {} if self.url else {"REDIS_URL": self.redis.url}
            self._processes[key] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PEER), str(installed(self.release))],
                env={**inherited, **home, **store, **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._processes[key]

    def close(self) -> None:
        for process in self._processes.values():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait(10)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    installed(name)
    return name


@pytest.fixture(scope="module", params=["environment", "explicit"])
def peer(
    request: pytest.FixtureRequest,
    release: str,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Peer]:
    home = tmp_path_factory.mktemp("home")
    peer = Peer(release, redis, home, request.param == "environment")
    yield peer
    peer.close()


@pytest.fixture
def store(redis: RedisServer) -> Iterator[Any]:
    with redis.client() as client:
        client.call("FLUSHALL")
        yield client


def entries(store: Any) -> dict[str, bytes]:
    """What lies in the store, side data left out."""
    found = {}
    for key in store.call("KEYS", "*"):
        if store.call("TYPE", key) == "string":
            found[key.decode()] = store.call("GET", key)
    return found


def exchange(
    peer: Peer,
    store: Any,
    names: tuple[Name, ...],
    form: EntryForm,
    args: str,
    value: str,
    bond: Bond | None = None,
    **case: Any,
) -> None:
    """The peer writes and we read; we write and the peer reads."""
    assert peer.call(args, value, **case)["ran"]
    hit = peer.call(args, value, **case)
    assert not hit["ran"]
    ((key, data),) = entries(store).items()
    assert key == names[0].stored
    found = read_entry(data, form, bond)
    assert found is not None
    assert repr(found[0]) == hit["gave"]

    store.call("SET", key, write_entry(value_of(value), form, bond), "PX", 300_000)
    assert peer.call(args, '"it ran again"', **case) == hit


VALUES = [
    "None",
    "{'id': 42, 'tags': ['a', 1.5, None, True], 'raw': b'\\x00\\xff'}",
    "(1, [2, (3,)])",
    "{'at': datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc), 'd': date(2024, 1, 2)}",
    "2**64 - 1",
    "'é' * 100_000",
    "[{'id': i, 'name': 'user%d' % i} for i in range(1000)]",
    "bytes(range(256)) * 300",
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:20])
def test_values(peer, store, value):
    names = call_names(
        "app.get_user", (1,), {}, dialect=peer.dialect, tenant=peer.tenant
    )
    exchange(peer, store, names, EntryForm(), "(1,)", value)


ARGUMENTS = [
    "(-0.0, {'b': [1], 'a': (2,)})",
    "('é' * 300, datetime(2024, 1, 2, tzinfo=timezone.utc))",
    "(b'x', 2**63)",
]


@pytest.mark.parametrize("namespace", [None, "my ns:a", "n" * 300], ids=str)
@pytest.mark.parametrize("args", ARGUMENTS, ids=lambda args: args[:20])
def test_keys(peer, store, args, namespace):
    names = call_names(
        "app.get_user",
        value_of(args),
        {},
        dialect=peer.dialect,
        namespace=namespace,
        tenant=peer.tenant,
    )
    options = {"namespace": namespace}
    exchange(peer, store, names, EntryForm(), args, "[1]", options=options)


@pytest.mark.parametrize("integrity", [True, False])
@pytest.mark.parametrize("serializer", ["default", "auto", "orjson"])
def test_serializers(peer, store, serializer, integrity):
    if serializer == "orjson":
        library("orjson")
    names = call_names(
        "app.get_user",
        (1,),
        {},
        dialect=peer.dialect,
        code=serializer_code(serializer),
        integrity=integrity,
        tenant=peer.tenant,
    )
    value = "({1}, (2, 3))" if serializer == "auto" else "{'b': [1, 2.5], 'a': None}"
    options = {"serializer": serializer, "integrity_checking": integrity}
    form = EntryForm(serializer, integrity)
    exchange(peer, store, names, form, "(1,)", value, options=options)


@pytest.mark.parametrize("namespace", [None, "users"])
def test_key_functions(peer, store, namespace):
    library("blake3")
    names = custom_names(
        "app.get_user",
        "user: 1",
        dialect=peer.dialect,
        namespace=namespace,
        tenant=peer.tenant,
    )
    case = {"key": "lambda number: f'user: {number}'"}
    options = {"namespace": namespace}
    exchange(peer, store, names, EntryForm(), "(1,)", "1", options=options, **case)


def secret(peer: Peer, master: str, *previous: str) -> Any:
    """Names, bond and case of an encrypted function."""
    names = call_names(
        "app.get_user", (1,), {}, dialect=peer.dialect, tenant=peer.tenant
    )
    bound = names[0].bound(peer.dialect)
    others = (names[0].stored, names[0].bare)
    bond = Bond(
        _core.Keyring(master, previous, wire=3),
        (TENANT, "default"),
        tuple(dict.fromkeys((bound, *others))),
    )
    environ = {"CACHEKIT_MASTER_KEY": master}
    if previous:
        environ["CACHEKIT_PREVIOUS_MASTER_KEYS"] = ",".join(previous)
    options = {
        "encryption": True,
        "master_key": master,
        "single_tenant_mode": True,
        "deployment_uuid": TENANT,
    }
    return names, bond, {"environ": environ, "options": options}


@pytest.mark.parametrize("value", ["None", "{'id': 42}", "'x' * 20_000"])
def test_secrets(peer, store, value):
    names, bond, case = secret(peer, OLD)
    exchange(peer, store, names, EntryForm(), "(1,)", value, bond, **case)


def test_secrets_after_a_change_of_the_key(peer, store):
    names, old, case = secret(peer, OLD)
    _, new, later = secret(peer, NEW, OLD)
    key = names[0].stored
    assert peer.call("(1,)", "'old'", **case)["ran"]
    assert read_entry(store.call("GET", key), EntryForm(), new) == ("old",)
    store.call("SET", key, write_entry("ours", EntryForm(), new))
    after = peer.call("(1,)", "'theirs'", **later)
    assert after == {"ran": False, "gave": "'ours'"}
    if peer.release == "0.17":
        return  # has no previous keys
    store.call("SET", key, write_entry("before", EntryForm(), old))
    after = peer.call("(1,)", "'theirs'", **later)
    assert after == {"ran": False, "gave": "'before'"}


#: On a store that is given explicitly: tenants are not put before these keys.
INTEROP = {"interop": "get_user", "namespace": "users"}


def interop_key(args: str) -> str:
    import inspect

    def function(number: Any, flag: Any = False) -> None: ...

    digits = interop_arguments(inspect.signature(function), value_of(args), {})
    return InteropName("users", "get_user").key(digits)


@pytest.mark.parametrize("args", ["(42.0,)", "({'b': [1], 'aa': {3, 1}},)"])
def test_interop(peer, store, args):
    value = "{'b': [1, 2.5, b'x'], 'a': datetime(2024, 1, 2)}"
    case = {"options": INTEROP, "url": peer.redis.url}
    assert peer.call(args, value, **case)["ran"]
    ((key, data),) = entries(store).items()
    assert key == interop_key(args)
    assert read_interop(data) == value_of(value)
    assert data == write_interop(value_of(value))
    store.call("SET", key, write_interop({"z": 1, "y": None}))
    after = peer.call(args, "1", **case)
    assert after == {"ran": False, "gave": "{'y': None, 'z': 1}"}


def test_interop_with_secrets(peer, store):
    _, bond, case = secret(peer, OLD)
    case = {**case, "options": {**case["options"], **INTEROP}, "url": peer.redis.url}
    key = interop_key("(1,)")
    bond = Bond(bond.keyring, bond.tenants, (key,))
    assert peer.call("(1,)", "[1]", **case)["ran"]
    ((stored, data),) = entries(store).items()
    assert stored == key
    assert read_interop(data, bond) == [1]
    store.call("SET", key, write_interop("ours", bond))
    after = peer.call("(1,)", "1", **case)
    assert after == {"ran": False, "gave": "'ours'"}


# ---- decorated functions of ours -----------------------------------------------------


class Ours:
    """``app.get_user`` of ours, on the store as the peer has it."""

    def __init__(self, peer: Peer, **options: Any) -> None:
        self.runs = 0
        self.value: Any = None
        config = {
            name: options.pop(name)
            for name in ("master_key", "previous_master_keys", "tenant")
            if name in options
        }
        settings: dict[str, Any] = {"wire": f"3:{peer.release}", **config}
        given = {} if peer.url is None else {"backend": peer.url}
        if options.pop("explicit", False):
            given = {"backend": peer.redis.url}
        if not given:
            settings["redis_url"] = peer.redis.url
        self.cache = Cache(CacheConfig(**settings), **given)

        def get_user(number: Any, flag: Any = False) -> Any:
            self.runs += 1
            return self.value

        # A closure: the name vouches for it.
        options = {"name": "app.get_user", "l1_enabled": False, "ttl": 300, **options}
        self.function = self.cache(**options)(get_user)

    def call(self, args: str, value: str) -> dict[str, Any]:
        """As the peer's."""
        runs, self.value = self.runs, value_of(value)
        gave = self.function(*value_of(args))
        return {"ran": self.runs > runs, "gave": repr(gave)}


@pytest.fixture
def ours(peer: Peer, store: Any) -> Iterator[Any]:
    made: list[Ours] = []

    def make(**options: Any) -> Ours:
        made.append(Ours(peer, **options))
        return made[-1]

    yield make
    for one in made:
        one.cache.close()


def share(peer: Peer, mine: Ours, args: str, value: str, **case: Any) -> None:
    """What either writes, the other finds; what either invalidates, is gone."""
    again = '"it ran again"'
    assert peer.call(args, value, **case)["ran"]
    hit = peer.call(args, again, **case)
    assert mine.call(args, again) == hit
    assert mine.function.invalidate(*value_of(args)).value == "delivered"
    assert peer.call(args, value, **case)["ran"]
    mine.function.invalidate(*value_of(args))
    assert mine.call(args, value)["ran"]
    assert peer.call(args, again, **case) == hit == mine.call(args, again)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:20])
def test_calls_share_values(peer, store, ours, value):
    share(peer, ours(), "(1,)", value)


@pytest.mark.parametrize("namespace", [None, "users"])
@pytest.mark.parametrize("args", ARGUMENTS, ids=lambda args: args[:20])
def test_calls_share_keys(peer, store, ours, args, namespace):
    mine = ours(namespace=namespace)
    share(peer, mine, args, "[1]", options={"namespace": namespace})


def test_calls_share_what_they_name_themselves(peer, store, ours):
    library("blake3")
    mine = ours(key=lambda number: f"user: {number}")
    share(peer, mine, "(1,)", "[1]", key="lambda number: f'user: {number}'")


def test_calls_share_orjson(peer, store, ours):
    library("orjson")
    from cachekit.serializers import OrjsonSerializer

    value = "{'b': [1, 2.5], 'a': None}"
    mine = ours(serializer=OrjsonSerializer())
    share(peer, mine, "(1,)", value, options={"serializer": "orjson"})


def test_calls_share_secrets(peer, store, ours):
    _, _, case = secret(peer, OLD)
    mine = ours(encryption=True, master_key=OLD, tenant=TENANT)
    share(peer, mine, "(1,)", "{'id': 'plain to see'}", **case)
    assert all(b"plain to see" not in data for data in entries(store).values())


def test_calls_share_secrets_after_a_change_of_the_key(peer, store, ours):
    _, _, before = secret(peer, OLD)
    _, _, after = secret(peer, NEW, OLD)
    mine = ours(
        encryption=True, master_key=NEW, previous_master_keys=[OLD], tenant=TENANT
    )
    assert peer.call("(1,)", "'old'", **before)["ran"]
    assert mine.call("(1,)", "'new'") == {"ran": False, "gave": "'old'"}
    share(peer, mine, "(2,)", "'x'", **after)


@pytest.mark.parametrize("secrets", [False, True])
def test_calls_share_interop(peer, store, ours, secrets):
    case: dict[str, Any] = {"options": INTEROP, "url": peer.redis.url}
    options: dict[str, Any] = {"explicit": True, **INTEROP}
    if secrets:
        _, _, case = secret(peer, OLD)
        case = {**case, "options": {**case["options"], **INTEROP}}
        case["url"] = peer.redis.url
        options |= {"encryption": True, "master_key": OLD, "tenant": TENANT}
    share(peer, ours(**options), "(42.0,)", "{'b': [1, 2.5, b'x'], 'a': None}", **case)


def test_their_invalidations_reach_what_we_wrote(peer, store, ours):
    mine = ours(namespace="users")
    case = {"options": {"namespace": "users"}}
    mine.call("(1,)", "1")
    peer.call("(1,)", "0", does="invalidate", **case)
    assert mine.call("(1,)", "2")["ran"]


def test_all_of_a_function(peer, store, ours):
    library("blake3")
    if peer.url is not None or peer.release == "0.17":
        return  # keeps no list of a function's keys
    mine = ours(namespace="users")
    case = {"options": {"namespace": "users"}}
    for number in range(3):
        mine.call(f"({number},)", "1")
        peer.call(f"({number + 10},)", "1", **case)
    peer.call("()", "0", does="clear", **case)
    assert entries(store) == {}
    for number in range(3):
        mine.call(f"({number},)", "1")
        peer.call(f"({number + 10},)", "1", **case)
    assert len(entries(store)) == 6
    assert mine.function.invalidate_all().value == "delivered"
    assert entries(store) == {}


def test_memory_hears_of_their_invalidations(peer, store, ours):
    library("blake3")
    if peer.url is not None or not peer.dialect.events:
        return  # tells nobody
    mine = ours(namespace="users", l1_enabled=True)
    mine.call("(1,)", "1")
    peer.call("(1,)", "0", does="invalidate", options={"namespace": "users"})
    end = time.monotonic() + 5
    while mine.call("(1,)", "2")["gave"] != "2":
        assert time.monotonic() < end
