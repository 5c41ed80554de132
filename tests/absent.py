"""A Python without some of its libraries: what is said where one is not installed."""

from __future__ import annotations

import subprocess
import sys

_BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run_without(code: str, *names: str) -> str:
    """What ``code`` prints where the libraries ``names`` cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKER.format(names=names) + code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
