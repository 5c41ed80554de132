"""The demo runs, leaves a picture, and leaves nothing else."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from servers import require

ROOT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"
#: The demo finds its parts beside itself, wherever these tests look for theirs.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"
}


def run_demo(out: Path, *arguments: str) -> str:
    out.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), "--modules", "40"]
        + ["--quick", "--out", str(out), *arguments],
        env={**ENVIRONMENT, "TMPDIR": str(out), "CACHEKIT_ENABLED": "no"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert [path.name for path in out.iterdir()] == ["demo.svg"]
    return done.stdout


def cells(said: str, name: str) -> list[str]:
    """The line of the table that begins so: calls, failed, memory, store, ran, ..."""
    [line] = re.findall(rf"^  {name}  +([\d,]+ .*)$", said.split("median  ")[1], re.M)
    return re.split(r"  +", line.strip())


def texts(out: Path) -> str:
    root = ElementTree.parse(out / "demo.svg").getroot()
    assert root.tag == SVG + "svg"
    return "\n".join(text.text or "" for text in root.iter(SVG + "text"))


@pytest.fixture(scope="module")
def through_an_outage(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    require("redis-server")
    out = tmp_path_factory.mktemp("demo")
    return run_demo(out), out


def test_warm_runs_are_served_from_memory(through_an_outage: tuple[str, Path]) -> None:
    said, _ = through_an_outage
    for kind in ("def", "async def"):
        assert cells(said, f"{kind}, no cache")[:5] == ["40", "-", "-", "-", "40"]
        assert cells(said, f"{kind}, cold cache")[:5] == ["40", "-", "-", "-", "40"]
        assert cells(said, f"{kind}, warm cache")[:5] == ["40", "-", "40", "-", "-"]


def test_second_process_finds_everything_in_the_store(
    through_an_outage: tuple[str, Path],
) -> None:
    said, _ = through_an_outage
    assert cells(said, "second process")[:5] == ["40", "-", "-", "40", "-"]


def test_what_it_invalidates_runs_again_and_nothing_else(
    through_an_outage: tuple[str, Path],
) -> None:
    said, _ = through_an_outage
    calls, failed, memory, store, ran = cells(said, r"def, \S+ invalidated")[:5]
    assert (calls, failed, store) == ("40", "-", "-")
    assert 0 < int(ran) < 40 and int(memory) == 40 - int(ran)


def test_no_call_fails_and_hits_come_back(through_an_outage: tuple[str, Path]) -> None:
    said, _ = through_an_outage
    assert ", 0 failed; hits again" in said
    calls, failed, _, store, ran = cells(said, "loop, store killed")[:5]
    assert (failed, store) == ("-", "-") and calls == ran
    calls, failed, _, store, _ = cells(said, "loop, store restarted")[:5]
    assert failed == "-" and int(store.replace(",", "")) > 0


def test_picture_marks_what_happened(through_an_outage: tuple[str, Path]) -> None:
    _, out = through_an_outage
    words = texts(out)
    for mark in ("kill -9", "restart", "hits again", "breaker", "What one call costs"):
        assert mark in words


def test_no_line_is_drawn_over_where_there_is_no_terminal(
    through_an_outage: tuple[str, Path],
) -> None:
    said, _ = through_an_outage
    assert "\r" not in said and "\033" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_takes_its_server_with_it(tmp_path: Path, number: int) -> None:
    require("redis-server")
    demo = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "demo.py"), "--out", str(tmp_path)],
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with demo:
        port = None
        for line in demo.stdout:
            if "server of our own" in line:
                port = int(line.rpartition(":")[2])
                break
        demo.send_signal(number)
        assert demo.wait(20) != 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1.0)


def test_runs_on_memory_alone_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run_demo(out, "--no-redis")
    assert "memory alone" in said and "second process" not in said
    assert "kill -9" not in texts(out)
