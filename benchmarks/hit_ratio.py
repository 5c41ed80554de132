# SPDX-License-Identifier: MIT
"""Hit ratios of the in-process tier on public cache traces.

    python benchmarks/hit_ratio.py [FOLDER] [--json FILE]

For every trace and size: LRU, the store, the optimum that knows the future, the target,
and whether the store is within 0.5 points of it. The traces are those of Megiddo and
Modha ("ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST'03: OLTP, P3) and of
the cache simulators that followed. The folder is the argument, `CACHEKIT_TRACES`, or
`../shared/traces` beside the project. The store is measured in C (`hit_ratio.c`, built
with `cc` into a temporary folder), without Python around it. Needs xxHash's header, and
`zstd` for traces packed with it. Exits with 1 when a line misses its target, with 0
when all hold and when there is nothing to measure.
"""

from __future__ import annotations

import argparse
import array
import gzip
import json
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 0.5


class Line(NamedTuple):
    """One row: a trace at a size, and the hit ratio (%) published for S3-FIFO."""

    trace: str
    file: str
    size: int
    target: float | None


LINES = [
    Line("OLTP", "OLTP.lis.zst", 1000, 40.8),
    Line("OLTP", "OLTP.lis.zst", 2000, 47.0),
    Line("P3", "P3.lis.zst", 20000, 10.4),
    Line("P3", "P3.lis.zst", 80000, 36.3),
    Line("gli", "gli.trace.gz", 1000, 35.1),
    Line("sprite", "sprite.trace.gz", 200, 46.7),
    Line("sprite", "sprite.trace.gz", 600, 83.3),
    Line("orm-busy", "orm-busy.trace.xz", 1000, 77.7),
    Line("orm-busy", "orm-busy.trace.xz", 10000, 90.5),
    Line("web12", "web12.trace.xz", 500, 60.8),
    Line("web12", "web12.trace.xz", 2000, 75.6),
    Line("w106", "w106.trace.xz", 10000, 85.7),
    Line("w106", "w106.trace.xz", 60000, 93.3),
    Line("vaultservice", "trace_vaultservice.gz", 512, 33.3),
    Line("loop", "loop.trace.gz", 512, None),
]


class NotMeasured(Exception):
    """Something this needs is not here; the text says what."""


def from_words(code: str) -> Callable[[bytes], array.array]:
    """A reader of fixed-size numbers; the order of their bytes does not matter."""
    return lambda data: array.array("Q", array.array(code, data))


def from_text(data: bytes) -> array.array:
    """One number a line."""
    return array.array("Q", map(int, data.split()))


def from_ranges(data: bytes) -> array.array:
    """Lines of `start count 0 n`: `count` keys from `start` on."""
    keys = array.array("Q")
    for line in data.splitlines():
        start, count = map(int, line.split()[:2])
        keys.extend(range(start, start + count))
    return keys


def unzstd(path: Path) -> bytes:
    """Unpack with whatever can: the standard library (3.14), a package, the command."""
    for name in ("compression.zstd", "zstandard"):
        try:
            module = __import__(name, fromlist=["*"])
        except ImportError:
            continue
        if hasattr(module, "decompress"):
            with module.open(path, "rb") as file:
                return file.read()
    command = shutil.which("zstd")
    if command is None:
        raise NotMeasured("needs zstd (Debian, Fedora and Homebrew: zstd)")
    return subprocess.run(
        [command, "-dcq", str(path)], check=True, stdout=subprocess.PIPE
    ).stdout


def read_trace(path: Path) -> array.array:
    if not path.exists():
        raise NotMeasured(f"{path.name} is not in {path.parent}")
    if path.name.endswith(".lis.zst"):
        keys = from_ranges(unzstd(path))
    elif path.name.endswith(".trace.gz"):
        keys = from_text(gzip.decompress(path.read_bytes()))
    elif path.name.endswith(".trace.xz"):
        keys = from_words("I")(lzma.decompress(path.read_bytes()))
    else:
        keys = from_words("Q")(gzip.decompress(path.read_bytes()))
    if sys.byteorder == "big":
        keys.byteswap()
    return keys


def build(folder: Path) -> Path:
    """Compile the simulator with the store's own sources."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise NotMeasured(f"needs a C compiler ({compiler[0]} is not there)")
    program = folder / "hit_ratio"
    sources = [
        ROOT / "benchmarks" / "hit_ratio.c",
        ROOT / "csrc" / "base" / "ck_alloc.c",
    ]
    sources += sorted((ROOT / "csrc" / "store").glob("*.c"))
    flags = [
        "-std=c11",
        "-O2",
        "-D_GNU_SOURCE",
        "-DXXH_INLINE_ALL",
        f"-I{ROOT / 'csrc'}",
    ]
    done = subprocess.run(
        [*compiler, *flags, *map(str, sources), "-o", str(program)],
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        raise NotMeasured(f"{compiler[0]} failed:\n{done.stderr}")
    return program


def measure(program: Path, keys: array.array, sizes: list[int]) -> list[list[float]]:
    """[store, LRU, optimum] for each size."""
    done = subprocess.run(
        [str(program), *map(str, sizes)],
        input=keys.tobytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [
        [float(word) for word in line.split()[1:]] for line in done.stdout.splitlines()
    ]


def verdict(ratio: float, target: float | None) -> str:
    if target is None:
        return "-"
    return "ok" if ratio >= target - TOLERANCE else "MISSED"


def run(folder: Path) -> list[dict]:
    """Measure every line whose trace is there, printing rows as they come."""
    rows: list[dict] = []
    print(
        f"{'trace @ entries':24}{'requests':>10}{'LRU':>8}{'store':>8}"
        f"{'optimum':>9}{'target':>8}"
    )
    with tempfile.TemporaryDirectory(prefix="cachekit-hit-ratio-") as temporary:
        program = build(Path(temporary))
        for file in dict.fromkeys(line.file for line in LINES):
            lines = [line for line in LINES if line.file == file]
            try:
                keys = read_trace(folder / file)
            except NotMeasured as why:
                print(f"{lines[0].trace:24}not measured: {why}")
                continue
            results = measure(program, keys, [line.size for line in lines])
            for line, (store, lru, optimum) in zip(lines, results, strict=True):
                row = line._asdict() | {
                    "requests": len(keys),
                    "store": store,
                    "lru": lru,
                    "optimum": optimum,
                    "verdict": verdict(store, line.target),
                }
                rows.append(row)
                target = "" if line.target is None else f"{line.target:.1f}"
                print(
                    f"{line.trace + ' @' + str(line.size):24}{len(keys):>10}{lru:>8.1f}"
                    f"{store:>8.1f}{optimum:>9.1f}{target:>8}  {row['verdict']}",
                    flush=True,
                )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("CACHEKIT_TRACES") or ROOT.parent / "shared" / "traces"
    parser.add_argument("folder", nargs="?", type=Path, default=Path(default))
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    if not options.folder.is_dir():
        print(f"hit ratio: not measured: no traces in {options.folder}")
        return 0
    try:
        rows = run(options.folder)
    except NotMeasured as why:
        print(f"hit ratio: not measured: {why}")
        return 0
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["verdict"] == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
