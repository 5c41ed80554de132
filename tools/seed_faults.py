#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Seed faults in the policy machine, one at a time, and demand that its tests see each.

    tools/seed_faults.py [-v]

Each fault is a piece of csrc/engine/ck_strategy.c (white space aside) and what replaces
it. The tests are built against a faulty copy in a throwaway folder; the tree itself is
only read. The exit status is 1 when the tests pass a faulty machine, fail the sound
one, or when a piece is no longer found exactly once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MACHINE = ROOT / "csrc/engine/ck_strategy.c"
TESTS = tuple(
    ROOT / f"tests/c/{name}.c"
    for name in ("test_strategy", "test_strategy_lock", "test_strategy_walk")
)


class Fault(NamedTuple):
    name: str
    piece: str
    replacement: str


FAULTS = (
    Fault(
        "the flight is left open when the function raises",
        "if (!m->leads) return ask(m, end);",
        "if (!m->leads || end == CK_ACT_RAISE_RAN) return ask(m, end);",
    ),
    Fault(
        "a cancelled leader hands its followers a value",
        "CK_ACT_RAISE_RAN, CK_OUTCOME_ABANDONED",
        "CK_ACT_RAISE_RAN, CK_OUTCOME_VALUE",
    ),
    Fault(
        "a late value is served where stale-on-error is off",
        "return m->options.serve_stale_on_error && m->candidate",
        "return m->candidate",
    ),
    Fault(
        "any exception is hidden by a stale value",
        "if (event == CK_EV_RAISED && stands_in(m))",
        "if (stands_in(m))",
    ),
    Fault(
        "the store's failure reaches the caller",
        "m->options.mode == CK_MODE_FRESH || !m->options.fallback",
        "m->options.mode == CK_MODE_FRESH || m->options.fallback",
    ),
    Fault(
        "a failed store is asked again",
        "m->store_failed = true; return m->options.mode",
        "return m->options.mode",
    ),
    Fault(
        "the function runs under FRESH",
        "if (m->options.mode == CK_MODE_FRESH) return finish(m, CK_ACT_RAISE_MISS);",
        "",
    ),
    Fault(
        "the function runs in its pause",
        "if (m->options.run_paused && stands_in(m))",
        "if (m->options.run_paused && stands_in(m) && !m->leads)",
    ),
    Fault(
        "an abandoned follower runs beside the new leader",
        "case CK_EV_FLIGHT_ABANDONED: return join(m);",
        "",
    ),
    Fault(
        "a value that was read is kept over a renewed one",
        "return m->follows ? finish(m, CK_ACT_RETURN_CACHED)",
        "return m->leads ? finish(m, CK_ACT_RETURN_CACHED)",
    ),
    Fault(
        "followers share an iterator",
        "m->unshared = true;",
        "",
    ),
    Fault(
        "a corrupt entry is left in the store",
        "m->follows && !m->options.fail_closed ? work(m) : ask(m, CK_ACT_EVICT);",
        "work(m);",
    ),
    Fault(
        "a stale value is served without a refresh",
        "m->revalidate = true;",
        "",
    ),
    Fault(
        "a failed write loses the value",
        "return keep(m, false, end);",
        "return finish(m, end);",
    ),
    Fault(
        "a function runs without a claim once its flight is over",
        "m->wants_lock = false; m->follows = false;",
        "m->claimed = true; m->follows = false;",
    ),
    Fault(
        "a write goes to a store that refused the claim",
        "m->writes_fail = failed;",
        "",
    ),
    Fault(
        "a fenced value is kept in memory",
        "case CK_EV_FENCED: case CK_EV_NOT_CACHEABLE:",
        "case CK_EV_NOT_CACHEABLE:",
    ),
    Fault(
        "a refresh that gives way hands its followers a value",
        ": end == CK_ACT_RETURN_NOTHING ? CK_OUTCOME_ABANDONED",
        "",
    ),
    Fault(
        "the lock is asked for again after the patience for it is over",
        "m->wants_lock = false;",
        "",
    ),
    Fault(
        "a busy lock is waited for in the background",
        "m->options.mode == CK_MODE_REVALIDATE ? finish(m, CK_ACT_RETURN_NOTHING) "
        ": ask(m, CK_ACT_LINGER);",
        "ask(m, CK_ACT_LINGER);",
    ),
    Fault(
        "a value at hand hides the failure of the store",
        "m->writes_fail && !fallback ? CK_ACT_RAISE_BACKEND",
        "event == CK_EV_WRITE_FAILED && !fallback ? CK_ACT_RAISE_BACKEND",
    ),
    Fault(
        "a deletion is no claim",
        "m->claimed = m->state == CK_ACT_DELETE;",
        "",
    ),
    Fault(
        "a caller without an old value is given one",
        "if (event == CK_EV_SOFT_TIMEOUT && m->candidate == CK_CANDIDATE_NONE) "
        "return false;",
        "",
    ),
)


def pattern(fault: Fault) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, fault.piece.split())))


def build(folder: Path, source: str) -> list[Path]:
    """The test programs of a machine whose source text is `source`."""
    folder.mkdir()
    machine = folder / "ck_strategy.c"
    machine.write_text(source)
    compiler = os.environ.get("CC", "cc").split()
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", f"-I{ROOT}/csrc", f"-I{ROOT}/tests/c"]
    programs = [folder / test.stem for test in TESTS]
    for test, program in zip(TESTS, programs, strict=True):
        command = [*compiler, *flags, str(test), str(machine), "-o", str(program)]
        subprocess.run(command, check=True)
    return programs


def failed_tests(programs: list[Path]) -> list[str]:
    """The names of the tests that fail."""
    failed = []
    for program in programs:
        try:
            done = subprocess.run([program], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            failed.append(f"{program.name} (does not end)")
            continue
        lines = [line.split() for line in done.stderr.splitlines()]
        names = [w[1] for w in lines if len(w) == 2 and w[0] == "FAILED"]
        if done.returncode != 0:
            failed += names or [f"{program.name} (crash)"]
    return failed


def main() -> int:
    verbose = "-v" in sys.argv[1:]
    sound = MACHINE.read_text()
    lost = [f.name for f in FAULTS if len(pattern(f).findall(sound)) != 1]
    for name in lost:
        print(f"NOT FOUND  {name}: its piece is not in {MACHINE.name} exactly once")
    if lost:
        return 1

    with tempfile.TemporaryDirectory(prefix="cachekit-faults-") as name:
        folder = Path(name)
        if broken := failed_tests(build(folder / "sound", sound)):
            print(f"the tests fail without a fault: {', '.join(broken)}")
            return 1

        def seed(number: int) -> list[str]:
            fault = FAULTS[number]
            faulty = pattern(fault).sub(lambda _: fault.replacement, sound)
            return failed_tests(build(folder / str(number), faulty))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(seed, range(len(FAULTS))))

    for fault, seen_by in zip(FAULTS, results, strict=True):
        if not seen_by:
            print(f"SURVIVED   {fault.name}")
        elif verbose:
            print(f"caught     {fault.name}: {', '.join(seen_by)}")
    survivors = results.count([])
    print(f"{len(FAULTS) - survivors} of {len(FAULTS)} faults caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
