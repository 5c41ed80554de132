# SPDX-License-Identifier: MIT
"""P11: sealing 1 KB and 1 MB, as an entry is sealed: with a nonce of its own, bound to
header, tenant and key.

Beside ``openssl speed``, which encrypts one buffer over and over and does nothing else,
and beside ``cryptography``, which is given its nonce and one piece of associated data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

from harness import Row, Settings, compare, loop, race, rounds_of, skipped

from cachekit._core import Keyring

SIZES = ((1024, "1 KB", 1.4), (1 << 20, "1 MB", 1.1))
HEADER = bytes(78)
KEY = "users:app.users.get_user:" + "5" * 64


def measure(settings: Settings) -> Iterator[Row]:
    """P11."""
    for size, name, bound in SIZES:
        yield from _one(size, f"AES-256-GCM, {name}", bound, settings)


def _openssl(program: str, size: int) -> Callable[[], float]:
    command = [program, "speed", "-elapsed", "-seconds", "1", "-bytes", str(size)]

    def once() -> float:
        command_line = [*command, "-evp", "aes-256-gcm"]
        done = subprocess.run(command_line, capture_output=True, text=True, check=True)
        thousands = done.stdout.split()[-1].rstrip("k")
        return size / (float(thousands) * 1000)

    return once


def _one(size: int, work: str, bound: float, settings: Settings) -> Iterator[Row]:
    data = os.urandom(size)
    ring = Keyring("ab" * 32)
    sealed = ring.seal("default", KEY, HEADER, data)
    fingerprint = ring.fingerprint("default")
    names = {"tenant": "default", "key": KEY, "header": HEADER, "data": data}
    timed = {
        "seal": loop("call(tenant, key, header, data)", call=ring.seal, **names),
        "open": loop(
            "call(tenant, key, header, data, fingerprint)",
            call=ring.open,
            fingerprint=fingerprint,
            **{**names, "data": sealed},
        ),
        "empty loop": loop("pass"),
    }
    missing = {}
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        missing["cryptography"] = str(error)
    else:
        aead, nonce = AESGCM(os.urandom(32)), os.urandom(12)
        timed["cryptography"] = loop(
            "call(nonce, data, bound)",
            call=aead.encrypt,
            nonce=nonce,
            data=data,
            bound=HEADER + b"default" + KEY.encode(),
        )
    ready = {name: rounds_of(one, settings.seconds) for name, one in timed.items()}
    program = shutil.which("openssl")
    if program is None:
        missing["openssl speed"] = "there is no openssl command"
    else:
        ready["openssl speed"] = _openssl(program, size)
    times = race(ready, 3 if settings.quick else 7)
    empty = times.pop("empty loop")
    net = {
        name: taken if name == "openssl speed" else taken.less(empty)
        for name, taken in times.items()
    }
    for verb in ("seal", "open"):
        if "openssl speed" in net:
            yield compare(
                "P11",
                f"{work}, {verb}",
                net[verb],
                "openssl speed",
                net["openssl speed"],
                at_most=bound,
            )
        if "cryptography" in net:
            yield compare(
                "P11",
                f"{work}, {verb}",
                net[verb],
                "cryptography",
                net["cryptography"],
            )
    for rival, why in missing.items():
        yield skipped("P11", work, why, rival)
