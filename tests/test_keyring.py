# SPDX-License-Identifier: MIT
"""`_core.Keyring`: derived keys, encryption and names, against an implementation of its
own in Python on top of `cryptography`."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from cachekit._core import Keyring
from cachekit._errors import ConfigurationError, DecryptionError

MASTER = "0123456789abcdef" * 4
FORMER = "fedcba9876543210" * 5
HEADER = b"CK\x04 a header"
VERSION3 = json.loads(
    (Path(__file__).parent / "data" / "version3_encrypted.json").read_text()
)

texts = st.text(max_size=40)


def derived(master: str, tenant: str, purpose: str, label: str) -> bytes:
    name, info = tenant.encode(), purpose.encode()
    salt = label.encode() + bytes([len(info)]) + info
    salt += len(name).to_bytes(2, "big") + name
    return HKDF(SHA256(), 32, salt, info).derive(bytes.fromhex(master))


def bound4(header: bytes, tenant: str, key: str) -> bytes:
    parts = (header, tenant.encode(), key.encode())
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def bound3(*parts: str) -> bytes:
    encoded = [part.encode() for part in parts]
    return b"\3" + b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


# -- derivation -----------------------------------------------------------------------


@given(texts)
def test_keys_are_what_hkdf_gives(tenant):
    ring, old = Keyring(MASTER, [FORMER]), Keyring(MASTER, wire=3)
    for purpose in ("encryption", "names", "pickle"):
        for which, master in enumerate((MASTER, FORMER)):
            expected = derived(master, tenant, purpose, "cachekit_v4_")
            assert ring.derive(tenant, purpose, which) == expected
    expected = derived(MASTER, tenant, "encryption", "cachekit_v1_")
    assert old.derive(tenant, "encryption") == expected
    assert old.derive(tenant, "names") == ring.derive(tenant, "names")
    fingerprint = hashlib.sha256(b"key_fingerprint_v1" + expected).digest()[:16]
    assert old.fingerprint(tenant) == fingerprint
    assert ring.fingerprint(tenant) != ring.fingerprint(tenant, which=1)


@given(texts, st.binary(max_size=200))
def test_mac_is_hmac_under_the_derived_key(tenant, data):
    ring = Keyring(MASTER)
    key = ring.derive(tenant, "pickle")
    expected = hmac.new(key, data, hashlib.sha256).digest()
    assert ring.mac(tenant, "pickle", memoryview(data)) == expected


@given(texts, st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_names_are_keyed_digests_of_parts_and_their_lengths(tenant, parts):
    ring = Keyring(MASTER, (FORMER,))
    joined = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    for which in (0, 1):
        key = ring.derive(tenant, "names", which)
        expected = hashlib.blake2b(joined, digest_size=32, key=key).digest()
        assert ring.names_digest(tenant, *parts, which=which) == expected


def test_a_key_that_is_not_in_the_ring_is_an_error():
    ring = Keyring(MASTER)
    for which in (1, -1, 2**31 - 1):
        with pytest.raises(ValueError):
            ring.derive("t", "names", which)
        with pytest.raises(ValueError):
            ring.names_digest("t", b"", which=which)
    for purpose in ("", "Names", "encryption\0"):
        with pytest.raises(ValueError):
            ring.derive("t", purpose)


# -- values ---------------------------------------------------------------------------


@given(texts, texts, st.binary(max_size=100), st.binary(max_size=3000))
def test_what_it_seals_another_implementation_opens_and_back(tenant, key, header, data):
    ring = Keyring(MASTER)
    aead = AESGCM(derived(MASTER, tenant, "encryption", "cachekit_v4_"))
    sealed = ring.seal(tenant, key, header, data)
    assert len(sealed) == len(data) + 28
    bound = bound4(header, tenant, key)
    assert aead.decrypt(sealed[:12], sealed[12:], bound) == data
    foreign = b"n" * 12 + aead.encrypt(b"n" * 12, data, bound)
    assert ring.open(tenant, key, header, foreign) == data
    assert ring.open(tenant, key, header, foreign, ring.fingerprint(tenant)) == data


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 1 << 20])
def test_sizes_with_and_without_the_interpreter_lock(size):
    ring = Keyring(MASTER)
    data = os.urandom(size)
    sealed = ring.seal("t", "k", HEADER, bytearray(data))
    assert ring.open("t", "k", HEADER, memoryview(sealed)) == data
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(DecryptionError):
        ring.open("t", "k", HEADER, broken)


@pytest.mark.parametrize("case", VERSION3, ids=lambda case: case["key"][:24])
def test_entries_of_version_3_open(case):
    ring = Keyring(MASTER, [case["master"]], wire=3)
    payload = bytes.fromhex(case["payload"])
    fingerprint = case["fingerprint"] and bytes.fromhex(case["fingerprint"])
    tenant, key, bound = case["tenant"], case["key"], case["bound"]
    plain = ring.open(tenant, key, bound, payload, fingerprint)
    assert plain == bytes.fromhex(case["plain"])
    if fingerprint is not None:
        assert ring.fingerprint(tenant, 1) == fingerprint
    for wrong in [
        (tenant + "x", key, bound),
        (tenant, "t:default:" + key, bound),
        (tenant, key, bound[:-1]),
        (tenant, key, [*bound[:-1], "False2"]),
    ]:
        with pytest.raises(DecryptionError):
            ring.open(*wrong, payload)


@given(texts, texts, st.lists(texts, max_size=3), st.binary(max_size=100))
def test_entries_of_version_3_are_written_as_another_implementation_reads_them(
    tenant, key, bound, data
):
    sealed = Keyring(MASTER, wire=3).seal(tenant, key, bound, data)
    aead = AESGCM(derived(MASTER, tenant, "encryption", "cachekit_v1_"))
    plain = aead.decrypt(sealed[:12], sealed[12:], bound3(tenant, key, *bound))
    assert plain == data


def test_every_damaged_byte_is_e003():
    ring = Keyring(MASTER)
    sealed = ring.seal("tenant", "key", HEADER, b"value")
    for at in range(len(sealed)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(sealed)
            damaged[at] ^= flip
            with pytest.raises(DecryptionError) as caught:
                ring.open("tenant", "key", HEADER, damaged)
            assert caught.value.code == "E003"
    for damaged in [sealed[:at] for at in range(len(sealed))] + [sealed + b"\0"]:
        with pytest.raises(DecryptionError):
            ring.open("tenant", "key", HEADER, damaged)


def test_a_moved_entry_is_e003():
    ring = Keyring(MASTER)
    sealed = ring.seal("tenant", "key", HEADER, b"value")
    for tenant, key, header in [
        ("tenan", "tkey", HEADER),
        ("tenant", "key2", HEADER),
        ("other", "key", HEADER),
        ("tenant", "key", HEADER[:-1]),
        ("tenant", "key", HEADER + b"\0"),
        ("key", "tenant", HEADER),
    ]:
        with pytest.raises(DecryptionError) as caught:
            ring.open(tenant, key, header, sealed)
        assert (
            caught.value.message
            == "Decryption failed: authentication tag verification failed"
        )
        assert caught.value.hint


def test_previous_keys_open_and_only_the_current_one_seals():
    former, ring = Keyring(FORMER), Keyring(MASTER, [FORMER])
    sealed = former.seal("t", "k", HEADER, b"value")
    fingerprint = former.fingerprint("t")
    assert ring.count == 2
    assert ring.open("t", "k", HEADER, sealed) == b"value"
    assert ring.open("t", "k", HEADER, sealed, fingerprint) == b"value"
    assert ring.fingerprint("t", which=1) == fingerprint
    with pytest.raises(DecryptionError):
        former.open("t", "k", HEADER, ring.seal("t", "k", HEADER, b"value"))
    with pytest.raises(DecryptionError):  # the right key, but not the one named
        ring.open("t", "k", HEADER, sealed, ring.fingerprint("t"))
    with pytest.raises(DecryptionError):  # a key that nobody has
        ring.open("t", "k", HEADER, sealed, bytes(16))
    with pytest.raises(ValueError):
        ring.open("t", "k", HEADER, sealed, bytes(15))


def test_a_ring_for_version_4_has_no_key_of_version_3():
    case = VERSION3[0]
    with pytest.raises(DecryptionError):
        Keyring(case["master"]).open(
            case["tenant"], case["key"], b"", bytes.fromhex(case["payload"])
        )


def test_wrong_types_are_type_errors():
    ring = Keyring(MASTER)
    for arguments in [
        (b"t", "k", HEADER, b""),
        ("t", b"k", HEADER, b""),
        ("t", "k", "header", b""),
        ("t", "k", HEADER, "data"),
        ("t", "k", HEADER),
        ("t", "k", HEADER, b"", b"", b""),
    ]:
        with pytest.raises(TypeError):
            ring.seal(*arguments)
        with pytest.raises(TypeError):
            ring.open(*arguments)
    with pytest.raises(UnicodeEncodeError):
        ring.seal("\ud800", "k", HEADER, b"")
    with pytest.raises(OverflowError):
        ring.seal("t" * 65536, "k", HEADER, b"")
    with pytest.raises(ValueError):
        Keyring(MASTER, wire=3).seal("t", "k", ["a"] * 4, b"")
    with pytest.raises(TypeError):
        Keyring(MASTER, wire=3).seal("t", "k", b"CK", b"")
    for nothing in [(), ("t",), ("t", "text"), (b"t", b"")]:
        with pytest.raises(TypeError):
            ring.names_digest(*nothing)


# -- nonces ---------------------------------------------------------------------------


def test_nonces_count_up_from_a_random_start():
    ring = Keyring(MASTER)
    first, second = (ring.seal("t", "k", HEADER, b"")[:12] for _ in range(2))
    assert first != second
    if first[8:] != b"\xff" * 4:
        assert first[:8] == second[:8]
        assert int.from_bytes(second[8:], "big") == int.from_bytes(first[8:], "big") + 1


def test_a_forked_child_has_nonces_of_its_own():
    ring = Keyring(MASTER)
    ring.seal("t", "k", HEADER, b"")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        sealed = [ring.seal("t", "k", HEADER, b"x") for _ in range(100)]
        os.write(write, b"".join(one[:12] for one in sealed))
        good = ring.open("t", "k", HEADER, sealed[0]) == b"x"
        os._exit(0 if good else 1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        theirs = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(theirs) == 1200
    prefixes = {theirs[at : at + 8] for at in range(0, 1200, 12)}
    assert ring.seal("t", "k", HEADER, b"")[:8] not in prefixes


def test_threads_share_a_ring():
    ring = Keyring(MASTER, [FORMER])
    data = os.urandom(70000)
    nonces: list[bytes] = []

    def work(number: int) -> None:
        for count in range(50):
            tenant = f"t{(number + count) % 5}"
            sealed = ring.seal(tenant, "k", HEADER, data)
            assert ring.open(tenant, "k", HEADER, sealed) == data
            nonces.append(sealed[:12])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(nonces)) == len(nonces) == 300


# -- what a key says of itself --------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab" * 31,
        "ab" * 32 + "a",
        "zz" * 32,
        " " + "ab" * 32 + " ",
        "ab" * 31 + "a\n",
        "é" * 64,
        "\U0001f511" * 64,
        "\0" * 64,
        "a" * 63 + "\udc80",
    ],
)
def test_text_that_is_no_key_is_e002_without_the_text(text):
    for make in (lambda: Keyring(text), lambda: Keyring(MASTER, [text])):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert caught.value.code == "E002"
        assert (
            caught.value.message
            == "CACHEKIT_MASTER_KEY must be hex-encoded, minimum 32 bytes"
        )
        assert not text or text not in str(caught.value)


def test_arguments_that_make_no_ring():
    with pytest.raises(TypeError) as caught:
        Keyring(bytes.fromhex(MASTER))
    assert "bytes" in str(caught.value) and "\\x" not in str(caught.value)
    with pytest.raises(TypeError):
        Keyring(MASTER, FORMER)
    with pytest.raises(TypeError):
        Keyring(MASTER, [FORMER.encode()])
    with pytest.raises(TypeError):
        Keyring(MASTER, 5)
    with pytest.raises(TypeError):
        Keyring(MASTER, (), 3)
    with pytest.raises(ValueError):
        Keyring(MASTER, [FORMER] * 4)
    with pytest.raises(ValueError):
        Keyring(MASTER, wire=5)
    assert Keyring(MASTER, [FORMER] * 3).count == 4
    assert Keyring(MASTER.upper()).derive("", "names") == Keyring(MASTER).derive(
        "", "names"
    )


def test_it_says_nothing_and_goes_nowhere():
    ring = Keyring(MASTER, [FORMER])
    assert repr(ring) == str(ring) == "<cachekit Keyring: 2 keys>"
    assert repr(Keyring(MASTER)) == "<cachekit Keyring: 1 key>"
    for go in (copy.copy, copy.deepcopy, pickle.dumps, lambda r: r.__reduce__()):
        with pytest.raises(TypeError):
            go(ring)
    with pytest.raises(AttributeError):
        ring.count = 3
    assert not hasattr(ring, "__dict__")


# Prints how often each of the argument's bytes, XOR 0x5a, are in its own memory. They
# are looked for in an XORed copy, so that looking for a key does not put it there.
LOOK = """
import sys
from cachekit._core import Keyring

ring = Keyring(sys.argv[1])
ring.open("t", "k", b"", ring.seal("t", "k", b"", b"value"))
ring.names_digest("t", b"x")
if sys.argv[2] == "drop":
    del ring
needles = [bytes.fromhex(text) for text in sys.argv[3:]]
turned = bytes(number ^ 0x5A for number in range(256))
found = [0] * len(needles)
with open("/proc/self/maps") as maps:
    lines = maps.read().splitlines()
with open("/proc/self/mem", "rb", buffering=0) as memory:
    for line in lines:
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if rights[:2] != "rw" or end - start > 64 << 20:
            continue
        try:
            memory.seek(start)
            chunk = memory.read(end - start).translate(turned)
        except (OSError, OverflowError):
            continue
        found = [n + chunk.count(needle) for n, needle in zip(found, needles)]
print(*found)
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no /proc")
def test_dropped_keys_are_gone_from_memory():
    master = os.urandom(32).hex()
    keys = [
        bytes.fromhex(master),
        derived(master, "t", "encryption", "cachekit_v4_"),
        derived(master, "t", "names", "cachekit_v4_"),
    ]
    needles = [bytes(byte ^ 0x5A for byte in key).hex() for key in keys]

    def look(what: str) -> list[int]:
        command = [sys.executable, "-c", LOOK, master, what, *needles]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(count) for count in done.stdout.split()]

    assert min(look("keep")) >= 1
    assert look("drop") == [0, 0, 0]
