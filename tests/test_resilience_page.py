"""docs/resilience.md: each sentence names a test, and each test that is named is there.

``[test_name]`` is a test function of this folder, ``[row: title]`` a row of the failure
matrix. Everything below the page's introduction is a list item that ends with at least
one of them, or a paragraph that only says what a section is about.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from matrix.states import STATES

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "resilience.md"
MARK = re.compile(r"\[(test_\w+|row: (?:[^\]`]|`[^`]*`)+)\]")


def items() -> list[str]:
    """The list items of the page."""
    return re.findall(r"^- .+(?:\n  .+)*", PAGE.read_text("utf-8"), flags=re.M)


def named() -> list[str]:
    return MARK.findall(" ".join(PAGE.read_text("utf-8").split()))


def written() -> set[str]:
    """The names of all test functions that run."""
    return {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not is_skipped(node)
    }


def is_skipped(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """For good, not only where something is missing."""
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    return any(re.search(r"\bmark\.(skip|xfail)\b", mark) for mark in marks)


@pytest.mark.parametrize("item", items())
def test_each_sentence_ends_with_its_test(item: str) -> None:
    text = " ".join(item.split())
    assert re.search(r"\.( \[[^\]]+\])+$", text), "it ends with no test"
    said = MARK.sub("", text)
    assert len(re.findall(r"[.!?](?:\s|$)", said)) == 1, "it is not one sentence"


def test_each_test_that_is_named_is_there() -> None:
    rows = {f"row: {state.title}" for state in STATES}
    assert set(named()) - written() - rows == set()


def test_each_row_of_a_failure_is_told_of() -> None:
    """The matrix has no failure that the page is silent about."""
    told = {mark.removeprefix("row: ") for mark in named()}
    rows = {state.title for state in STATES if state.harm is not None}
    assert rows - told == set()


def test_only_list_items_promise() -> None:
    """Below the introduction, a paragraph that is no list item has no test: it may
    only name the failures that its section is about."""
    _, _, body = PAGE.read_text("utf-8").partition("\n## ")
    lines = [line for line in body.splitlines()[1:] if line]
    paragraphs = [line for line in lines if line[0] not in "-# "]
    assert len(paragraphs) <= 8
    assert [line for line in paragraphs if "[" in line] == []
