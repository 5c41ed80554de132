"""The examples in the docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cachekit

NAMES = [
    "cachekit",
    *sorted(
        found.name
        for found in pkgutil.walk_packages(cachekit.__path__, "cachekit.")
        # The one for type checkers needs what only they need.
        if found.name not in ("cachekit._core", "cachekit._typed")
    ),
]
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.mark.parametrize("name", NAMES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for example in finder.find(module, name):
        runner.run(example)
    failed, _ = runner.summarize(verbose=False)
    assert failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    count = sum(
        len(example.examples)
        for name in NAMES
        for example in finder.find(importlib.import_module(name), name)
    )
    assert count >= 20
