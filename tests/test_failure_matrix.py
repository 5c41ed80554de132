"""Every strategy in every failure, on real servers; docs/failure-matrix.md shows it.

Each row is played once for ``def`` and once for ``async def`` functions, and what was
observed is then judged by the tests below. The rows are in matrix/states.py.

    python tests/test_failure_matrix.py    writes the page anew
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from driver import DRIVERS, Driver, each_driver
from matrix import page
from matrix.runs import SLACK, Row, play
from matrix.scene import STRATEGIES
from matrix.states import (
    BACKEND,
    CACHED,
    ENTRY,
    FUNCTION,
    HUGE,
    INVISIBLE,
    LOST,
    RAISES,
    STATES,
    WELL,
    WRITES,
    State,
)
from matrix.world import World
from proxy import Proxy

driver = each_driver

OUTAGES = [state for state in STATES if state.is_outage]
_rows: dict[tuple[str, str, str], Row | Exception] = {}


def row_of(state: State, kind: type[Driver], world: World) -> Row:
    """What was observed; played when first asked for. A row that cannot be played
    fails the test that asks first, and leaves the others nothing to judge."""
    at = (state.part, state.title, kind.name)
    if at not in _rows:
        try:
            _rows[at] = play(state, kind, world)
        except Exception as error:
            _rows[at] = error
            raise
    row = _rows[at]
    if isinstance(row, Exception):
        pytest.skip("the row could not be played")
    return row


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


def name(state: State) -> str:
    return f"{state.part}: {state.title}"


kinds = pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.name)
every_state = pytest.mark.parametrize("state", STATES, ids=name)
every_outage = pytest.mark.parametrize("state", OUTAGES, ids=name)


@every_state
@kinds
def test_the_caller_gets_what_is_promised(state, kind, world):
    row = row_of(state, kind, world)
    assert tuple(row.cells[strategy].gets for strategy in STRATEGIES) == state.expect


@every_state
def test_sync_and_async_do_the_same(state, world):
    one, other = (row_of(state, kind, world) for kind in DRIVERS)
    assert one.cells == other.cells
    assert (one.crowd, one.memory, one.strict) == (
        other.crowd,
        other.memory,
        other.strict,
    )
    assert one.events.count("store_failed") == other.events.count("store_failed")


@every_state
@kinds
def test_what_was_invalidated_does_not_come_back(state, kind, world):
    assert row_of(state, kind, world).old == []


@every_state
@kinds
def test_a_call_waits_no_longer_than_it_may(state, kind, world):
    """All calls of a row: one for each strategy, one strict one, those that follow."""
    row = row_of(state, kind, world)
    *single, crowd = row.seconds
    if state.waits:
        # Each of the single calls is the first of its own breaker and may wait for the
        # whole deadline; the crowd opens one breaker, for less than two deadlines.
        assert sum(single) < len(single) * state.timeout + SLACK
        assert crowd < 2 * state.timeout + SLACK
    else:
        assert max(single) < SLACK < state.timeout
        assert crowd < 2 * SLACK + (state.again is not None) * 10


@every_outage
@kinds
def test_memory_is_served_meanwhile(state, kind, world):
    row = row_of(state, kind, world)
    assert row.memory == ([] if state.down_before else [CACHED, CACHED])


@every_outage
@kinds
def test_without_fallback_the_failure_is_raised_and_nothing_runs(state, kind, world):
    assert row_of(state, kind, world).strict == BACKEND


@every_outage
@kinds
def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends(
    state, kind, world
):
    row = row_of(state, kind, world)
    assert row.events.count("store_failed") == 1
    assert row.events.count("breaker open") >= 1
    assert row.after.count("store_failed") == 0
    assert row.after.count("store_recovered") >= 1


@pytest.mark.parametrize(
    "state", [s for s in STATES if s.part in (WELL, INVISIBLE, ENTRY)], ids=name
)
@kinds
def test_what_nobody_notices_is_not_logged_as_a_failure(state, kind, world):
    row = row_of(state, kind, world)
    assert "store_failed" not in row.events
    assert "breaker open" not in row.events


@pytest.mark.parametrize(
    "state", [s for s in STATES if s.part in (WRITES, LOST)], ids=name
)
@kinds
def test_what_the_store_did_not_take_is_logged_once(state, kind, world):
    row = row_of(state, kind, world)
    assert row.events.count(state.said) == 1


@every_state
@kinds
def test_the_calls_that_follow_get_the_functions_result(state, kind, world):
    assert row_of(state, kind, world).crowd == [RAISES if state.raises else FUNCTION]


def test_the_page_shows_what_the_runs_show(world):
    shown = page.text(lambda state: row_of(state, DRIVERS[0], world))
    assert page.PAGE.read_text("utf-8") == shown, (
        f"run {Path(__file__).name} as a program to write the page anew"
    )


# Beside the rows


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("promise", [b"$%d\r\n", b"*%d\r\n"], ids=["bytes", "elements"])
def test_what_is_promised_is_not_reserved(driver, redis_server, promise):
    with Proxy(redis_server.port) as proxy:
        work = driver.work(driver.cache(proxy.url, socket_timeout=0.3))
        proxy.transform(lambda _: promise % HUGE + b"x" * 100)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for n in range(5):
            assert work(n)["n"] == n
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 64 << 20


def test_a_reply_that_nobody_asked_for_is_nobodys_value(driver, redis_server):
    """What follows the last reply must not be taken for the next call's."""
    with Proxy(redis_server.port) as proxy:
        work = driver.work(driver.cache(proxy.url), name="asked", l1_enabled=False)
        for n in range(20):
            work(n)
        stored = redis_server.call("GET", work.key_for(0))
        extra = b":60000\r\n$%d\r\n%b\r\n" % (len(stored), stored)
        proxy.transform(lambda data: data + extra)
        assert [work(n)["n"] for n in range(20)] == list(range(20))
        proxy.heal()
        assert [work(n)["n"] for n in range(20)] == list(range(20))


@pytest.mark.parametrize("window", [2, 3])
def test_replies_in_another_order_are_nobodys_value(driver, redis_server, window):
    with Proxy(redis_server.port) as proxy:
        cache = driver.cache(proxy.url, socket_timeout=0.1)
        work = driver.work(cache, name="ordered", l1_enabled=False)
        for n in range(10):
            work(n)
        proxy.reorder(window)
        assert [work(n)["n"] for n in range(10)] == list(range(10))
        proxy.heal()
        assert [work(n)["n"] for n in range(10)] == list(range(10))


def main() -> None:
    for variable in list(os.environ):
        if variable == "REDIS_URL" or variable.startswith("CACHEKIT_"):
            del os.environ[variable]
    with closing(World()) as world:
        shown = page.text(lambda state: row_of(state, DRIVERS[0], world))
    page.PAGE.write_text(shown, "utf-8")
    print(f"{page.PAGE}: {len(STATES)} states")


if __name__ == "__main__":
    main()
