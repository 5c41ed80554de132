# SPDX-License-Identifier: MIT
"""A hit in memory asks for no memory and takes no lock.

100,000 hits are counted in a process of their own, by two shims built here: one is
preloaded and counts calls of the C library (malloc and its kin, mutexes), the other
wraps Python's allocators. Free lists and arenas hide nothing from the second: a Python
object taken from an allocator counts, whether or not that came to a malloc.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SHIMS = Path(__file__).resolve().parent / "shims"
HITS = 100_000
NOTHING = {"malloc": 0, "locks": 0, "python": 0}

ARGUMENTS = [
    "int",
    "large int",
    "float",
    "str",
    "bytes",
    "tuple",
    "keyword",
    "attribute",
]

pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(sys.platform != "linux", reason="preloads as Linux does"),
]


def build(source: Path, folder: Path, *flags: str) -> str:
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} is not installed")
    target = folder / (source.stem + ".so")
    words = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
    words += ["-shared", "-fPIC", str(source), "-o", str(target), *flags]
    subprocess.run([*compiler, *words], check=True)
    return str(target)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """What 100,000 calls of each kind asked for."""
    folder = tmp_path_factory.mktemp("shims")
    include = "-I" + sysconfig.get_paths()["include"]
    calls = build(SHIMS / "count_calls.c", folder, "-fno-builtin", "-ldl")
    python = build(SHIMS / "count_python.c", folder, include)
    search = [path for path in sys.path if path]
    environment = {
        **os.environ,
        "LD_PRELOAD": calls,
        "PYTHONPATH": os.pathsep.join(search),
    }
    environment.pop("PYTHONMALLOC", None)
    said = subprocess.run(
        [sys.executable, str(SHIMS / "hits.py"), calls, python],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    results: dict[str, dict[str, int]] = json.loads(said.stdout)
    return results


def test_shims_see_what_they_count(counted: dict[str, dict[str, int]]) -> None:
    assert counted["seen: malloc and python"]["malloc"] >= HITS
    assert counted["seen: malloc and python"]["python"] >= HITS
    assert counted["seen: lock"]["locks"] >= HITS


@pytest.mark.parametrize("preset", ["cache", "local"])
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_hit_asks_for_no_memory_and_takes_no_lock(
    counted: dict[str, dict[str, int]], preset: str, argument: str
) -> None:
    assert counted[f"{preset}: {argument}"] == NOTHING


def test_hit_that_returns_the_reference_to_a_dict_asks_for_no_memory(
    counted: dict[str, dict[str, int]],
) -> None:
    assert counted["local: dict back"] == NOTHING


def test_hit_that_copies_a_dict_asks_for_what_the_copy_needs(
    counted: dict[str, dict[str, int]],
) -> None:
    hit, copy = counted["cache: dict back"], counted["plain: dict copy"]
    assert copy["python"] >= HITS
    assert hit["python"] <= copy["python"]
    assert hit["malloc"] <= copy["malloc"]
    assert hit["locks"] == 0


@pytest.mark.parametrize("preset", ["cache", "local"])
def test_async_hit_asks_for_no_more_than_a_plain_coroutine(
    counted: dict[str, dict[str, int]], preset: str
) -> None:
    hit, plain = counted[f"{preset}: async"], counted["plain: async"]
    assert plain["python"] // HITS >= 1
    assert hit["python"] // HITS <= plain["python"] // HITS
    assert hit["malloc"] == 0
    assert hit["locks"] == 0
