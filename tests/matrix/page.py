"""docs/failure-matrix.md, from the runs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

from matrix.runs import Row
from matrix.scene import STRATEGIES
from matrix.states import OUTAGE, STATES, WRITES, State

PAGE = Path(__file__).parents[2] / "docs" / "failure-matrix.md"

PREAMBLE = """\
# Every strategy in every failure

What a call returns or raises when something is wrong, and what that leaves in the
store. Nothing here is an intention: each cell was observed on a real server that had
really been brought into that state, once with a `def` and once with an `async def`
function (both do the same). `tests/test_failure_matrix.py` plays all of it with the
other tests; it writes this page, and fails when page and runs differ.

[Resilience](resilience.md) tells in words what each failure means for you.

- "function": it ran, once, and its value was returned.
- "the exception": the function ran once and raised, and that very object was raised.
- "cached": the value of the entry; the function did not run.
- `CacheMiss`, `BackendError`: raised; the function did not run.
- "a call waits": for the store, as far as it touches it; where reads fail, each failure
  in a row halves the time of the next.

The memory tier is off, except where the text speaks of it. An entry that INVALIDATE
could not remove is not served by this process any more, and is removed when the store
can be reached: that, too, was looked at in each row. When a state was over, each
function got hits of the store again without being told.
"""

GETS = "What the caller gets"
LEAVES = "What the store holds then"

Observed = list[tuple[State, Row]]


def table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    text = f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|\n"
    return text + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def waits(state: State) -> str:
    """How long the first call does; tested as such."""
    return "up to `socket_timeout`" if state.waits else "no"


def gets(row: Row) -> list[str]:
    return [row.cells[strategy].gets for strategy in STRATEGIES]


def gets_line(state: State, row: Row) -> list[str]:
    return [state.title, *gets(row)]


def waits_line(state: State, row: Row) -> list[str]:
    return [*gets_line(state, row), waits(state)]


def leaves(row: Row) -> list[str]:
    return [row.cells[strategy].leaves for strategy in STRATEGIES]


def times(count: int) -> str:
    return {0: "nothing", 1: "one warning"}.get(count, f"{count} warnings")


def logged(state: State, row: Row) -> str:
    text = times(row.events.count(state.said))
    if "breaker open" in row.events:
        text += " of the failure, and the breaker opens"
    if "store_recovered" in row.after:
        text += "; afterwards one that the store answers again"
    return text


def each(
    what: str,
    rows: Observed,
    name: Callable[[State, Row], str],
    skip: str | None = None,
) -> str:
    """A sentence for all rows where they agree, else one more for each exception."""
    kinds: dict[str, list[str]] = {}
    for state, row in rows:
        if name(state, row) != skip:
            kinds.setdefault(name(state, row), []).append(state.title)
    most = max(kinds, key=lambda kind: len(kinds[kind]))
    titles = [(kind, f"in: {'; '.join(kinds[kind])}") for kind in kinds if kind != most]
    titles.append((most, "in every other row" if titles else "in every row"))
    return "".join(item(f"{what}: {kind}, {where}.") for kind, where in titles)


def item(text: str) -> str:
    return textwrap.fill(f"- {text}", 88, subsequent_indent="  ") + "\n"


def also(rows: Observed) -> str:
    """What else was observed in the rows of a part."""
    part = rows[0][0].part
    text = ""
    if part == OUTAGE:
        text += each(
            "A call, FRESH or REFRESH, whose entry is in memory",
            rows,
            lambda _, row: "/".join(sorted(set(row.memory))),
            skip="",
        )
        text += each(
            "REFRESH with `fallback_enabled=False`", rows, lambda _, row: row.strict
        )
    if part in (OUTAGE, WRITES):
        text += each(
            "The calls that follow, for other entries, under REFRESH",
            rows,
            lambda _, row: "/".join(row.crowd),
        )
        text += each("Logged for all these calls together", rows, logged)
    return text and text + "\n"


def part(title: str, rows: Observed) -> str:
    heads, line = ["state", *STRATEGIES], gets_line
    if any(state.waits for state, _ in rows):
        heads, line = [*heads, "a call waits"], waits_line
    text = f"\n## {title}\n\n{also(rows)}### {GETS}: {lower(title)}\n\n"
    text += table(heads, (line(*pair) for pair in rows))
    text += f"\n### {LEAVES}: {lower(title)}\n\n"
    return text + table(
        ["state", *STRATEGIES], ([s.title, *leaves(r)] for s, r in rows)
    )


def lower(title: str) -> str:
    return title[0].lower() + title[1:]


def text(observe: Callable[[State], Row]) -> str:
    """The page, with the row of each state from `observe`."""
    parts = [PREAMBLE]
    for title, group in groupby(STATES, key=lambda state: state.part):
        parts.append(part(title, [(state, observe(state)) for state in group]))
    return "".join(parts)
