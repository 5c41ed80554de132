# SPDX-License-Identifier: MIT
"""What is said, and how often."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from cachekit._logging import Log


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return Log(interval=60, clock=clock)


def test_record_carries_event_and_fields(log, caplog):
    log.emit("warning", "store %s is down", "h:1", event="store_down", kind="refused")
    (record,) = caplog.records
    assert record.name == "cachekit"
    assert record.getMessage() == "store h:1 is down"
    assert (record.event, record.kind) == ("store_down", "refused")
    assert record.filename == "test_logging.py"


@pytest.mark.parametrize("name", ["message", "name", "args", "module"])
def test_field_that_a_record_has_already_is_refused(name, log):
    log_of = log.emit
    if name == "message":
        with pytest.raises(TypeError):
            log_of("info", "x", event="e", **{name: 1})
        return
    with pytest.raises(ValueError, match=name):
        log_of("info", "x", event="e", **{name: 1})


def test_change_of_state_is_said_once(log, caplog):
    caplog.set_level(logging.INFO, "cachekit")
    said = [
        log.changed("store", state, "warning", "now %s", state, event="state")
        for state in ("ok", "down", "down", "down", "ok", "ok", "down")
    ]
    assert said == [False, True, False, False, True, False, True]
    assert [r.state for r in caplog.records] == ["down", "ok", "down"]


def test_topics_have_states_of_their_own(log, caplog):
    assert log.changed("one", "down", "warning", "x", event="e")
    assert log.changed("two", "down", "warning", "x", event="e")


def test_once_is_once_per_key(log, caplog):
    said = [log.once(key, "warning", "x", event="e") for key in "aabba"]
    assert said == [True, False, True, False, False]
    assert len(caplog.records) == 2


def test_repeated_warning_is_limited_and_counts_what_it_held_back(log, clock, caplog):
    for clock.now in (0, 1, 59.9, 60, 61, 119.9, 120, 500):
        log.limited("f", "warning", "cannot store", event="e")
    assert [r.suppressed for r in caplog.records] == [0, 2, 2, 0]


def test_limits_are_per_key(log, caplog):
    for key in "abab":
        log.limited(key, "warning", "x", event="e")
    assert len(caplog.records) == 2


def test_memory_of_what_was_said_is_bounded(log):
    log.MAX_KEYS = 10
    for key in range(1000):
        log.once(key, "debug", "x", event="e")
        log.limited(key, "debug", "x", event="e")
        log.changed(key, "down", "debug", "x", event="e")
    assert len(log._said) == len(log._limits) == len(log._states) == 10
    assert not log.once(999, "debug", "x", event="e")


def test_debug_is_silent_unless_asked_for(log, caplog):
    assert not log.debugging
    log.debug("x", event="e")
    assert not caplog.records
    caplog.set_level(logging.DEBUG, "cachekit")
    assert log.debugging
    log.debug("x", event="e")
    assert [r.levelno for r in caplog.records] == [logging.DEBUG]
    assert caplog.records[0].filename == "test_logging.py"


def run(code: str) -> str:
    """What a fresh interpreter prints, stderr included."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def test_logging_is_imported_with_the_first_record():
    assert (
        run(
            "import sys\n"
            "from cachekit._logging import default_log\n"
            "log = default_log()\n"
            "log.debug('x', event='e')\n"
            "print('logging' in sys.modules)\n"
            "log.once('k', 'info', 'x', event='e')\n"
            "print('logging' in sys.modules)\n"
        )
        == "False\nTrue\n"
    )


def test_nothing_is_printed_where_nothing_is_configured():
    assert (
        run(
            "from cachekit._logging import default_log\n"
            "default_log().once('k', 'warning', 'x', event='e')\n"
        )
        == ""
    )


def test_debug_preset_shows_records_where_nothing_is_configured():
    assert (
        run(
            "from cachekit._logging import default_log, enable_debug\n"
            "enable_debug(); enable_debug()\n"
            "default_log().debug('hello', event='e')\n"
        )
        == "DEBUG cachekit: hello\n"
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forked_child_can_log_while_the_parent_held_the_lock():
    assert (
        run(
            "import os, threading\n"
            "from cachekit._logging import default_log\n"
            "log = default_log()\n"
            "held, done = threading.Event(), threading.Event()\n"
            "def hold():\n"
            "    with log._lock:\n"
            "        held.set(); done.wait()\n"
            "t = threading.Thread(target=hold); t.start(); held.wait()\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os._exit(0 if log.once('k', 'info', 'x', event='e') else 1)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
            "done.set(); t.join()\n"
        ).splitlines()[-1]
        == "0"
    )
