# SPDX-License-Identifier: MIT
"""What the demo shows on the terminal: a progress bar, a table, and numbers to read.

On a terminal the bar is drawn over itself. Anywhere else (a file, a pipe, a build log)
each step is one plain line when it is done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

_WIDTH = 32
_REDRAW = 0.05  # seconds


def prepare() -> None:
    """Never fail for a character that the terminal does not have."""
    sys.stdout.reconfigure(errors="replace", line_buffering=True)


def _can(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say(text: str = "") -> None:
    print(text, flush=True)


class Bar:
    """``with Bar("cold", 1500) as bar: bar.show(3)``, and in the end a line to keep."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = max(1, total)
        self.result = ""
        self._drawn = 0.0
        self._live = sys.stdout.isatty()
        self._full, self._empty = ("█", "░") if _can("█░") else ("#", ".")

    def show(self, done: int) -> None:
        now = time.monotonic()
        if not self._live or now - self._drawn < _REDRAW:
            return
        self._drawn = now
        full = _WIDTH * done // self.total
        bar = self._full * full + self._empty * (_WIDTH - full)
        self._write(f"  {self.what:<28} {bar} {done:>6,} of {self.total:,}")

    def _write(self, text: str) -> None:
        sys.stdout.write(f"\r{text}\033[K")
        sys.stdout.flush()

    def __enter__(self) -> Bar:
        self.show(0)
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if self._live:
            self._write("")
            sys.stdout.write("\r")
        if kind is None:
            say(f"  {self.what:<28} {self.result}")


def duration(seconds: float) -> str:
    """Three digits and the unit that suits: ``1.23 ms``."""
    micro = "µs" if _can("µ") else "us"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, micro)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The first column to the left, numbers to the right; an empty row is a rule."""
    lines = [list(head), *map(list, rows)]
    full = [line for line in lines if line]
    widths = [max(len(line[at]) for line in full) for at in range(len(head))]
    rule = "  " + ("─" if _can("─") else "-") * (sum(widths) + 2 * len(widths) - 2)
    for number, line in enumerate(lines):
        if not line:
            say(rule)
            continue
        cells = [line[0].ljust(widths[0])]
        pairs = zip(line[1:], widths[1:], strict=True)
        cells += [cell.rjust(width) for cell, width in pairs]
        say("  " + "  ".join(cells).rstrip())
        if number == 0:
            say(rule)
