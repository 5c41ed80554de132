# SPDX-License-Identifier: MIT
"""The picture that the demo draws: SVG, written by hand.

Above: each call of the loop through the outage, as a dot: when it began, how long it
took, and who answered. Below: what one call cost in each run of the survey. Both scales
of time are logarithmic: from one line to the next it is ten times as long.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import outage

if TYPE_CHECKING:
    from demo import Row

WIDTH, LEFT, RIGHT = 1080, 96, 1040
INK, SOFT, GRID, PAPER = "#1f2430", "#6b7280", "#e7e4de", "#fcfbf9"
BLUE, AMBER, RED, GREEN = "#2563c9", "#e08a1e", "#c2413a", "#2f8f5b"
DOTS = {outage.STORE: BLUE, outage.FILLED: AMBER, outage.ALONE: RED}
TICKS = [
    *((1e-7, "100 ns"), (1e-6, "1 µs"), (1e-5, "10 µs"), (1e-4, "100 µs")),
    *((1e-3, "1 ms"), (1e-2, "10 ms"), (1e-1, "100 ms"), (1.0, "1 s"), (10.0, "10 s")),
]


def draw(rows: Sequence[Row], story: outage.Story | None) -> str:
    """The whole picture as a document."""
    canvas = Canvas()
    top = 36.0
    if story is not None and story.calls:
        top = _outage(canvas, story, top)
    bottom = _bars(canvas, rows, top)
    return canvas.document(bottom)


def short(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


class Canvas:
    """Elements in the order in which they are drawn."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, element: str, content: str | None = None, **attributes: Any) -> None:
        words = " ".join(
            f'{name.strip("_").replace("_", "-")}="{_number(value)}"'
            for name, value in attributes.items()
        )
        end = "/>" if content is None else f">{_escaped(content)}</{element}>"
        self._parts.append(f"<{element} {words}{end}")

    def text(
        self, x: float, y: float, content: str, size: float = 13, **more: Any
    ) -> None:
        look: dict[str, Any] = {"fill": INK, **more}
        self.add("text", content, x=x, y=y, font_size=size, **look)

    def line(self, x1: float, y1: float, x2: float, y2: float, **more: Any) -> None:
        look: dict[str, Any] = {"stroke": GRID, "stroke_width": 1, **more}
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, **look)

    def rect(
        self, x: float, y: float, width: float, height: float, **more: Any
    ) -> None:
        self.add("rect", x=x, y=y, width=max(0, width), height=height, **more)

    def document(self, height: float) -> str:
        font = "Inter, Helvetica Neue, Helvetica, Arial, DejaVu Sans, sans-serif"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'font-family="{font}">'
        )
        paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return "\n".join([head, paper, *self._parts, "</svg>", ""])


def _number(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Log:
    """A logarithmic scale: ``low`` to ``high`` seconds onto ``begin`` to ``end``."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self._low = math.floor(math.log10(max(low, 1e-9)) * 2) / 2
        self._high = max(self._low + 1, math.ceil(math.log10(max(high, 1e-9)) * 2) / 2)
        self._begin, self._end = begin, end

    def __call__(self, seconds: float) -> float:
        part = (math.log10(max(seconds, 1e-9)) - self._low) / (self._high - self._low)
        return self._begin + (self._end - self._begin) * min(1.0, max(0.0, part))

    def ticks(self) -> list[tuple[float, str]]:
        return [
            (self(seconds), label)
            for seconds, label in TICKS
            if self._low - 1e-9 <= math.log10(seconds) <= self._high + 1e-9
        ]


# -- the outage -----------------------------------------------------------------------


def _outage(canvas: Canvas, story: outage.Story, top: float) -> float:
    canvas.text(
        LEFT, top + 6, "A loop of calls while the store dies", 22, font_weight=600
    )
    failed = "none failed" if not story.failed else f"{story.failed:,} failed"
    canvas.text(
        LEFT,
        top + 30,
        f"{len(story.calls):,} calls, {failed}. The memory tier is off: each call has "
        "to do with the store.",
        14,
        fill=SOFT,
    )
    cost = [call.added for call in story.without()]
    if cost:
        canvas.text(
            LEFT,
            top + 50,
            f"While it was dead caching added {short(statistics.median(cost))} to a "
            f"call (median), {short(max(cost))} at most; the rest is the function.",
            14,
            fill=SOFT,
        )
    _legend(canvas, story, top + 80)
    above, below = top + 144, top + 444
    end = story.end or story.calls[-1].at

    def x(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * at / end

    seconds = [call.seconds for call in story.calls]
    y = Log(min(seconds), max(seconds), below, above)
    for at, label in y.ticks():
        canvas.line(LEFT, at, RIGHT, at)
        canvas.text(LEFT - 10, at + 4, label, 12, fill=SOFT, text_anchor="end")
    step = 0.5 if end < 4 else 1.0
    for number in range(int(end / step) + 1):
        canvas.text(
            x(number * step),
            below + 20,
            f"{number * step:g} s",
            12,
            fill=SOFT,
            text_anchor="middle",
        )
    _phases(canvas, story, x, above, below)
    for call in story.calls:
        canvas.add(
            "circle",
            cx=x(call.at),
            cy=y(call.seconds),
            r=2.6,
            fill=DOTS[call.source],
            fill_opacity=0.55,
        )
    return _breaker(canvas, story, x, below + 40, end) + 56


def _legend(canvas: Canvas, story: outage.Story, y: float) -> None:
    at = float(LEFT)
    for source, text in (
        (outage.STORE, "answered by the store"),
        (outage.FILLED, "not in the store: function run, stored"),
        (outage.ALONE, "store gone: function run"),
    ):
        count = sum(call.source == source for call in story.calls)
        label = f"{text} ({count:,})"
        canvas.add("circle", cx=at + 5, cy=y - 4.5, r=5, fill=DOTS[source])
        canvas.text(at + 17, y, label, 13)
        at += 42 + 6.5 * len(label)


def _phases(
    canvas: Canvas, story: outage.Story, x: Any, above: float, below: float
) -> None:
    """The time without a store, shaded; what happened when; what calls cost."""
    killed, restarted = x(story.killed), x(story.restarted)
    canvas.rect(
        killed, above, restarted - killed, below - above, fill=RED, fill_opacity=0.06
    )
    marks = [(killed, "kill -9", RED), (restarted, "restart", INK)]
    if story.first_hit is not None:
        marks.append((x(story.first_hit), "hits again", BLUE))
    for at, _, color in marks:
        canvas.line(at, above - 8, at, below, stroke=color, stroke_width=1.5)
    crowded = len(marks) == 3 and marks[2][0] - marks[1][0] < 80
    for number, (at, label, color) in enumerate(marks):
        anchor, shift = "start", 6
        if crowded and number == 1:
            anchor, shift = "end", -6
        canvas.text(
            at + shift,
            above - 12,
            label,
            13,
            fill=color,
            font_weight=600,
            text_anchor=anchor,
        )


def _breaker(
    canvas: Canvas, story: outage.Story, x: Any, y: float, end: float
) -> float:
    """A strip: in which state the breaker was."""
    colors = {"closed": GREEN, "open": RED, "half-open": AMBER}
    canvas.text(LEFT - 10, y + 11, "breaker", 12, fill=SOFT, text_anchor="end")
    changes = [(0.0, "closed"), *story.breaker, (end, "")]
    for (begin, state), (until, _) in zip(changes, changes[1:], strict=False):
        left, right = x(min(begin, end)), x(min(until, end))
        color = colors.get(state, SOFT)
        canvas.rect(left, y, max(2.0, right - left), 14, fill=color, fill_opacity=0.85)
        if right - left > 60:
            canvas.text(
                (left + right) / 2,
                y + 11,
                state,
                11,
                fill="#ffffff",
                text_anchor="middle",
                font_weight=600,
            )
    return y + 14


# -- the survey -----------------------------------------------------------------------


def _bars(canvas: Canvas, rows: Iterable[Row], top: float) -> float:
    survey = [row for row in rows if row.seconds and not row.name.startswith("loop")]
    count = len(survey[0].seconds)
    canvas.text(LEFT, top + 6, "What one call costs", 22, font_weight=600)
    canvas.text(
        LEFT,
        top + 30,
        f"Analysing {count:,} modules of the standard library; the median of each run, "
        "and its total.",
        14,
        fill=SOFT,
    )
    above, left = top + 54, LEFT + 120.0
    below = above + 30 * len(survey)
    medians = [statistics.median(row.seconds) for row in survey]
    x = Log(min(medians) / 2, max(medians) * 2, left, RIGHT - 150)
    for at, label in x.ticks():
        canvas.line(at, above, at, below)
        canvas.text(at, below + 20, label, 12, fill=SOFT, text_anchor="middle")
    for number, (row, median) in enumerate(zip(survey, medians, strict=True)):
        y = above + 30 * number
        color = SOFT
        if row.memory:
            color = GREEN
        elif row.store:
            color = BLUE
        elif "no cache" not in row.name:
            color = AMBER
        canvas.text(left - 12, y + 19, row.name, 13, text_anchor="end")
        canvas.rect(left, y + 6, x(median) - left, 18, rx=3, fill=color)
        canvas.text(x(median) + 10, y + 19, short(median), 13, font_weight=600)
        canvas.text(
            x(median) + 76, y + 19, f"{short(sum(row.seconds))} in all", 12, fill=SOFT
        )
    return below + 44
