# SPDX-License-Identifier: MIT
"""The table of speed and memory, each line beside its rival.

    python benchmarks/run.py [--quick] [--only P1,P2] [--json FILE]

Ratios within one run are the result; times are a scale that moves with the machine. A
target is reached when the best rounds and the median of the rounds both reach it. A
rival that cannot be installed, or a server that is not there, is said and not fatal.
Exits with 1 only when a measurement fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import async_hits
import containers
import encode_decode
import encryption
import hits
import imports
import memory
import namesake_hits
import outage
import rivals
import secure_hits
import stampede
import store_async
import store_hits
import store_threads
from harness import Row, Settings, print_table, skipped, verdict

import cachekit

HERE = Path(__file__).resolve().parent


def hit_ratio(settings: Settings) -> Iterator[Row]:
    """P16: by hit_ratio.py, in a process of its own."""
    work = "hit ratio on public traces"
    with tempfile.TemporaryDirectory(prefix="cachekit-bench-") as folder:
        answer = Path(folder, "rows.json")
        command = [sys.executable, str(HERE / "hit_ratio.py"), "--json", str(answer)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if not answer.exists():
            last = (said.stdout.strip().splitlines() or ["hit_ratio.py failed"])[-1]
            yield skipped("P16", work, last)
            return
        lines: list[dict[str, Any]] = json.loads(answer.read_text())
    if not lines:
        yield skipped("P16", work, said.stdout.strip().splitlines()[-1])
    for line in lines:
        target = line["target"]
        yield Row(
            "P16",
            f"hit ratio, {line['trace']} @ {line['size']:,} entries",
            "S3-FIFO" if target is not None else "-",
            f">= {target - 0.5:.1f} %" if target is not None else "-",
            f"{line['store']:.1f} % (LRU {line['lru']:.1f}, "
            f"optimum {line['optimum']:.1f})",
            "-" if target is None else verdict(line["verdict"] == "ok"),
            line,
        )


Measure = Callable[[Settings], Iterator[Row]]

MEASURED: dict[str, Measure] = {
    "P1": hits.positional,
    "P2": hits.keyword,
    "P3": async_hits.measure,
    "P4": containers.measure,
    "P5": secure_hits.measure,
    "P6": namesake_hits.measure,
    "P7": store_hits.measure,
    "P8": store_threads.measure,
    "P9": store_async.measure,
    "P10": encode_decode.measure,
    "P11": encryption.measure,
    "P12": outage.measure,
    "P13": imports.measure,
    "P14": memory.measure,
    "P16": hit_ratio,
    "P17": stampede.measure,
}
LATER = {
    "P15": "growth",
    "P18": "embedded store hit",
}
LINES = sorted([*MEASURED, *LATER], key=lambda line: int(line[1:]))


def rows_of(line: str, settings: Settings) -> list[Row]:
    if line in LATER:
        return [Row(line, LATER[line], "-", "-", "not built yet", "-")]
    try:
        return list(MEASURED[line](settings))
    except rivals.Unavailable as why:
        return [skipped(line, MEASURED[line].__module__, str(why))]
    except Exception as error:
        traceback.print_exc()
        work = MEASURED[line].__module__
        return [Row(line, work, "-", "-", f"{type(error).__name__}: {error}", "failed")]


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    try:
        for entry in Path("/proc/cpuinfo").read_text().splitlines():
            if entry.startswith("model name"):
                model = entry.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def report(rows: list[Row], about: dict[str, Any], seconds: float) -> None:
    print_table(rows)
    outcomes = [row.verdict for row in rows]
    counts = ", ".join(
        f"{outcomes.count(word)} {word}"
        for word in ("holds", "misses", "not measured", "failed")
        if word in outcomes
    )
    print(f"\n{counts}; {seconds:.0f} s")
    print(
        f"cachekit {cachekit.__version__}, Python {about['python']}, "
        f"{about['cores']} x {about['processor']}"
    )
    names = (f"{name} {version}" for name, version in rivals.versions().items())
    print("rivals:", ", ".join(names) or "none was needed")
    if about["load"] > 0.7:
        print(
            f"the machine was busy when this began (load {about['load']:.1f}): "
            "expect noise"
        )


def write_json(
    file: Path, rows: list[Row], about: dict[str, Any], settings: Settings
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "cachekit": cachekit.__version__,
        "quick": settings.quick,
        "machine": about,
        "rivals": rivals.versions(),
        "rows": [row._asdict() for row in rows],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def chosen_lines(text: str) -> list[str]:
    lines = [word.strip().upper() for word in text.split(",") if word.strip()]
    unknown = [line for line in lines if line not in LINES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: the lines are {', '.join(LINES)}"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two minutes, more noise")
    parser.add_argument("--only", type=chosen_lines, metavar="P1,P2", default=LINES)
    parser.add_argument("--json", type=Path, default=rivals.OUT / "bench.json")
    options = parser.parse_args()
    # The configuration that is measured is the one made here.
    for name in list(os.environ):
        if name == "REDIS_URL" or name.startswith("CACHEKIT_"):
            del os.environ[name]
    settings = Settings(quick=options.quick)
    about = machine()
    start = time.monotonic()
    rows: list[Row] = []
    for line in options.only:
        print(f"{line} ...", end=" ", file=sys.stderr, flush=True)
        rows += rows_of(line, settings)
    print(file=sys.stderr)
    report(rows, about, time.monotonic() - start)
    write_json(options.json, rows, about, settings)
    print(f"written to {options.json}")
    return int(any(row.verdict == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
