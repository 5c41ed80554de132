"""What can be found in the memory of a process."""

from __future__ import annotations

import re
from pathlib import Path


def memory_of(pid: int) -> list[bytes]:
    """Everything that the process can write to: heap, stacks, anonymous maps."""
    regions = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                regions.append(memory.read(end - start))
            except (OSError, OverflowError, ValueError):
                continue
    return regions


def found_in(pid: int, pattern: bytes) -> list[bytes]:
    """All that matches there."""
    compiled = re.compile(pattern, re.DOTALL)
    return [found for data in memory_of(pid) for found in compiled.findall(data)]
