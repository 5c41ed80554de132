"""From import to exit: references, blocks, failing allocations, other interpreters.

The programs are in `isolated/`; each is run in an interpreter of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "isolated"
SANITIZED = os.environ.get("CACHEKIT_SANITIZED") == "1"


def run(program: str, *arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FOLDER / program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stderr == "", result.stderr[-4000:]


def names_in(program: str, pattern: str) -> list[str]:
    found = re.findall(pattern, (FOLDER / program).read_text(), re.MULTILINE)
    assert found
    return found


@pytest.mark.parametrize("name", names_in("type_references.py", r'^    "(\w+)": '))
def test_instances_give_their_type_back(name: str) -> None:
    run("type_references.py", name)


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("kind", names_in("blocks.py", r'^    "([\w ]+)": '))
def test_calls_leave_no_blocks_behind(kind: str) -> None:
    run("blocks.py", kind)


has_failing_allocations = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="no _testcapi"
)


@has_failing_allocations
@pytest.mark.parametrize("kind", ["memory", "store", "async", "async store"])
def test_allocations_may_fail(kind: str) -> None:
    run("failing_allocations.py", kind)


has_interpreters = pytest.mark.skipif(
    importlib.util.find_spec(
        "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    )
    is None,
    reason="no further interpreters",
)


@has_interpreters
def test_the_package_works_in_further_interpreters() -> None:
    run("interpreters.py")


def test_the_module_can_be_unloaded() -> None:
    run("unload.py")


@pytest.mark.parametrize(
    "what",
    [
        name
        for name in names_in("exits.py", r"^def (\w+)\(\) -> None:")
        if name not in ("start", "slow")
    ],
)
def test_the_interpreter_ends_while_something_is_under_way(what: str) -> None:
    run("exits.py", what)
