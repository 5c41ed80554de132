# SPDX-License-Identifier: MIT
"""The work that the demo does: how big, how branched and how deep is a module?

`measure` reads one file of the standard library, parses it and walks its statements.
It is an ordinary function: nothing in here knows that its results will be cached.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path

FOLDER = Path(sysconfig.get_paths()["stdlib"])

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While),
    *(ast.ExceptHandler, getattr(ast, "match_case", ast.ExceptHandler)),
)
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


def modules() -> list[str]:
    """Every module of the standard library on this machine, as paths in `FOLDER`."""
    found = (path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))
    others = {"site-packages", "dist-packages"}
    return sorted(str(path) for path in found if others.isdisjoint(path.parts))


def package(module: str) -> str:
    """The package that a module belongs to; of one that stands alone its own name."""
    return module.partition("/")[0]


def measure(module: str) -> dict[str, int]:
    """Lines, functions, branches and the deepest nesting of one module.

    A file that is no Python (the tests of the library hold some) has lines only.
    """
    source = (FOLDER / module).read_bytes()
    counts = {"lines": source.count(b"\n"), "functions": 0, "branches": 0, "depth": 0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return counts
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        for name in _BLOCKS:
            for child in getattr(node, name, ()):
                counts["functions"] += isinstance(child, _FUNCTIONS)
                counts["branches"] += isinstance(child, _BRANCHES)
                deeper = not _is_elif(node, name, child)
                waiting.append((child, depth + deeper))
        counts["depth"] = max(counts["depth"], depth)
    return counts


def _is_elif(node: ast.AST, name: str, child: ast.AST) -> bool:
    """``elif`` is an ``if`` alone in an ``else``: no deeper than the ``if`` above."""
    both = isinstance(node, ast.If) and isinstance(child, ast.If)
    return both and name == "orelse" and len(node.orelse) == 1


async def measure_async(module: str) -> dict[str, int]:
    """`measure` for programs that are async throughout."""
    return measure(module)
