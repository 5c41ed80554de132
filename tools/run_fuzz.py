# SPDX-License-Identifier: MIT
"""Builds and runs the fuzz targets of tests/fuzz, measures what their corpus covers.

    python tools/run_fuzz.py [--seconds N] [--jobs N] [target ...]
    python tools/run_fuzz.py --coverage [--missed] [target ...]
    python tools/run_fuzz.py --merge [target ...]

Each target replays its corpus and goes on for N seconds from there (0: replays only).
Ends with a table of executions; fails on a finding, whose input is kept under build/.
With --coverage it prints which share of each decoder's lines the corpus alone reaches,
and fails below 95 %. With --merge it adds to tests/fuzz/corpus what reaches more among
what the runs found (build/fuzz/corpus). Works on Linux with clang, its run-time
libraries and llvm.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build" / "fuzz"
LEAST_COVERED = 95.0


class Decoder(NamedTuple):
    """A file, or the parts of one that begin with these words, and a target."""

    source: str
    target: str
    parts: tuple[str, ...] = ()


DECODERS = (
    Decoder("csrc/codec/ck_frame.c", "frame"),
    Decoder("csrc/codec/ck_unpack.c", "unpack"),
    Decoder("csrc/codec/ck_unpack.h", "unpack"),
    Decoder("csrc/codec/ck_lz4.c", "lz4"),
    Decoder("csrc/codec/ck_canon.c", "canon"),
    Decoder("csrc/codec/ck_canon.h", "canon"),
    Decoder("csrc/codec/ck_wire3.c", "wire3"),
    Decoder("csrc/codec/ck_json.c", "wire3"),
    Decoder("csrc/codec/ck_wire3_body.c", "envelope"),
    Decoder("csrc/net/ck_resp.c", "resp"),
    Decoder("csrc/net/ck_subscription.c", "subscription"),
    Decoder("csrc/py/decode.c", "value"),
    Decoder("csrc/py/decode_library.c", "value"),
    Decoder("csrc/py/values_named.c", "value", ("decoding",)),
    Decoder("csrc/py/values_numpy.c", "value", ("decoding",)),
    Decoder("csrc/py/wire3.c", "wire3_value", ("bodies", "entries of the default")),
    Decoder("csrc/py/wire3_unpack.c", "wire3_value"),
)


class Run(NamedTuple):
    """What came of one target."""

    target: str
    seeds: int
    executions: int
    seconds: float
    finding: str  # "" when there is none


def python_include() -> str:
    return f"-isystem {sysconfig.get_path('include')}"


def python_libs() -> str:
    """What links a program with this interpreter, "" where it has no library."""
    variable = sysconfig.get_config_var
    name = f"python{variable('LDVERSION') or variable('VERSION')}"
    for folder in (variable("LIBDIR"), variable("LIBPL")):
        for suffix in ("so", "a"):
            if folder and (Path(folder) / f"lib{name}.{suffix}").exists():
                rest = f"{variable('LIBS') or ''} {variable('SYSLIBS') or ''}"
                return f"-rdynamic -L{folder} -Wl,-rpath,{folder} -l{name} {rest}"
    return ""


def tool(name: str) -> str:
    """An llvm program, also where only one with a version in its name is there."""
    clang = Path(os.path.realpath(shutil.which(os.environ.get("CLANG", "clang")) or ""))
    beside = clang.parent / name
    return str(beside) if beside.exists() else name


def can_build() -> bool:
    """Is there a clang that can link libFuzzer and ASan?"""
    clang = os.environ.get("CLANG", "clang")
    if sys.platform != "linux" or shutil.which(clang) is None:
        return False
    with tempfile.TemporaryDirectory() as room:
        source = Path(room) / "empty.c"
        source.write_text("int LLVMFuzzerTestOneInput(void) { return 0; }\n")
        command = [clang, "-w", "-fsanitize=fuzzer,address", str(source)]
        built = subprocess.run([*command, "-o", f"{room}/empty"], capture_output=True)
        return built.returncode == 0


def build(variant: str, jobs: int) -> None:
    subprocess.run(
        ["make", "--no-print-directory", "-s", "-f", "tools/fuzz.mk", f"-j{jobs}"]
        + ["programs", f"VARIANT={variant}", f"PYTHON={sys.executable}"],
        cwd=TOP,
        check=True,
    )


def targets_of(variant: str) -> list[str]:
    programs = BUILD / variant
    sources = sorted((TOP / "tests" / "fuzz").glob("fuzz_*.c"))
    names = [path.stem.removeprefix("fuzz_") for path in sources]
    for name in names:
        if not (programs / f"fuzz_{name}").exists():
            print(f"fuzz: {name} is left out: this Python has no library to link with")
    return [name for name in names if (programs / f"fuzz_{name}").exists()]


def environment() -> dict[str, str]:
    """The interpreter keeps objects for good: only the core's blocks are counted."""
    options = (
        "detect_leaks=0:detect_stack_use_after_return=1:allocator_may_return_null=1"
    )
    return {
        **os.environ,
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": "",
    }


def corpus_of(target: str) -> Path:
    return TOP / "tests" / "fuzz" / "corpus" / target


def run_target(target: str, seconds: int) -> Run:
    """Replay the corpus, then look further. New inputs stay under build/."""
    seeds = corpus_of(target)
    grown, findings = BUILD / "corpus" / target, BUILD / "findings" / target
    for folder in (grown, findings):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(BUILD / "fuzz" / f"fuzz_{target}"),
        *(f"-max_total_time={seconds}",) * (seconds > 0),
        *("-runs=0",) * (seconds == 0),
        "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=256",
        "-max_len=4096", "-print_final_stats=1", "-verbosity=1",
        f"-artifact_prefix={findings}/", f"-dict={TOP}/tests/fuzz/{target}.dict",
        str(grown), str(seeds),
    ]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=TOP, env=environment(), capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    took = time.monotonic() - start
    said = done.stdout + done.stderr
    counted = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said)
    finding = ""
    if done.returncode != 0:
        finding = said[-6000:] + f"\n{target}: the input is kept in {findings}"
    files = sum(1 for _ in seeds.iterdir())
    return Run(target, files, int(counted[-1]) if counted else 0, took, finding)


def fuzz(targets: Sequence[str], seconds: int, jobs: int) -> int:
    with ThreadPoolExecutor(jobs) as pool:
        runs = list(pool.map(lambda target: run_target(target, seconds), targets))
    print(f"{'target':<14} {'corpus':>6} {'executions':>12} {'a second':>9}  finding")
    for run in runs:
        speed = run.executions / max(run.seconds, 0.001)
        found = "FOUND" if run.finding else "none"
        counts = f"{run.seeds:>6} {run.executions:>12,} {speed:>9,.0f}"
        print(f"{run.target:<14} {counts}  {found}")
    print(f"{'all':<14} {sum(run.seeds for run in runs):>6} "
          f"{sum(run.executions for run in runs):>12,}")  # fmt: skip
    for run in runs:
        if run.finding:
            print(f"\n{run.finding}", file=sys.stderr)
    return 1 if any(run.finding for run in runs) else 0


def replay_for_coverage(target: str) -> Path:
    room = BUILD / "profiles"
    room.mkdir(parents=True, exist_ok=True)
    raw, merged = room / f"{target}.profraw", room / f"{target}.profdata"
    files = [str(path) for path in sorted(corpus_of(target).iterdir())]
    subprocess.run(
        [str(BUILD / "coverage" / f"fuzz_{target}"), "-timeout=60", *files],
        cwd=TOP,
        env={**environment(), "LLVM_PROFILE_FILE": str(raw)},
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [tool("llvm-profdata"), "merge", "-sparse", str(raw), "-o", str(merged)],
        check=True,
    )
    return merged


def in_parts(source: str, parts: Sequence[str]) -> Callable[[int], bool]:
    """Whether a line belongs to the parts, which headings like "/* ---- x" begin."""
    chosen: set[int] = set()
    inside = not parts
    for number, line in enumerate((TOP / source).read_text().splitlines(), 1):
        if heading := re.match(r"/\* -+ (.*)", line):
            inside = not parts or heading[1].startswith(tuple(parts))
        if inside:
            chosen.add(number)
    return chosen.__contains__


def lines_of(decoder: Decoder, profile: Path) -> tuple[int, list[int]]:
    """How many lines a decoder has, and those that were not reached."""
    shown = subprocess.run(
        [tool("llvm-cov"), "show", str(BUILD / "coverage" / f"fuzz_{decoder.target}"),
         f"-instr-profile={profile}", str(TOP / decoder.source)],
        capture_output=True, text=True, check=True, cwd=TOP,
    ).stdout  # fmt: skip
    belongs = in_parts(decoder.source, decoder.parts)
    counts: dict[int, bool] = {}
    for text, count in re.findall(r"^ *(\d+)\| *([\d.]+)[kMGT]?\|", shown, re.M):
        if belongs(int(text)):
            counts[int(text)] = counts.get(int(text), False) or float(count) > 0
    return len(counts), sorted(line for line, reached in counts.items() if not reached)


def coverage(targets: Sequence[str], show: bool) -> int:
    profiles = {target: replay_for_coverage(target) for target in targets}
    failed = False
    print(f"{'decoder':<32} {'lines':>6} {'covered':>8}  by the corpus of")
    for decoder in DECODERS:
        if decoder.target not in profiles:
            continue
        lines, missed = lines_of(decoder, profiles[decoder.target])
        share = 100.0 * (lines - len(missed)) / max(lines, 1)
        low = share < LEAST_COVERED or lines == 0
        failed |= low
        source = f"{decoder.source:<32} {lines:>6} {share:>7.1f}%"
        print(f"{source}  {decoder.target}{'  LOW' * low}")
        if missed and (low or show):
            print(f"    not reached: {', '.join(map(str, missed))}")
    if failed:
        print(f"fuzz: below {LEAST_COVERED:.0f} %", file=sys.stderr)
    return 1 if failed else 0


def merge(targets: Sequence[str]) -> int:
    """The smallest set of inputs that reaches what all those known reach."""
    for target in targets:
        seeds, grown = corpus_of(target), BUILD / "corpus" / target
        grown.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as room:
            subprocess.run(
                [str(BUILD / "fuzz" / f"fuzz_{target}"), "-set_cover_merge=1",
                 "-max_len=4096", "-timeout=10", room, str(seeds), str(grown)],
                cwd=TOP, env=environment(), check=True, capture_output=True,
            )  # fmt: skip
            kept = [path.read_bytes() for path in Path(room).iterdir()]
        shutil.rmtree(seeds, ignore_errors=True)
        seeds.mkdir(parents=True)
        for data in kept:
            (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        print(f"{target:<14} {len(kept):>5} inputs, {sum(map(len, kept)):>8,} bytes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--optional", action="store_true", help="no clang: no failure")
    parser.add_argument("--missed", action="store_true", help="name the lines as well")
    parser.add_argument("--python-include", action="store_true")
    parser.add_argument("--python-libs", action="store_true")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    if options.python_include or options.python_libs:
        print(python_include() if options.python_include else python_libs())
        return 0
    if not can_build():
        print("fuzz: needs Linux and clang with libFuzzer (packages clang, llvm and "
              "libclang-rt-dev); nothing was run", file=sys.stderr)  # fmt: skip
        return 0 if options.optional else 1
    variant = "coverage" if options.coverage else "fuzz"
    build(variant, options.jobs)
    there = targets_of(variant)
    chosen = options.targets or there
    if unknown := sorted(set(chosen) - set(there)):
        parser.error(
            f"no such target: {', '.join(unknown)}; there are {', '.join(there)}"
        )
    if options.merge:
        return merge(chosen)
    if options.coverage:
        return coverage(chosen, options.missed)
    return fuzz(chosen, options.seconds, options.jobs)


if __name__ == "__main__":
    sys.exit(main())
