"""docs/encryption.md: each promise about attackers names a test, and each is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_resilience_page import written

PAGE = Path(__file__).parent.parent / "docs" / "encryption.md"
MARK = re.compile(r"\[(test_\w+)\]")


def promises() -> list[str]:
    """The list items between the threat model and what cachekit cannot do."""
    _, _, part = PAGE.read_text("utf-8").partition("## What an attacker can do")
    part, _, _ = part.partition("What cachekit cannot do")
    return re.findall(r"^- .+(?:\n  .+)*", part, flags=re.M)


def test_there_are_promises() -> None:
    assert len(promises()) > 20


@pytest.mark.parametrize("promise", promises())
def test_each_promise_ends_with_its_test(promise: str) -> None:
    text = " ".join(promise.split())
    assert re.search(r"\.( \[test_\w+\])+$", text), "it ends with no test"


def test_each_test_that_is_named_is_there() -> None:
    assert set(MARK.findall(PAGE.read_text("utf-8"))) - written() == set()
