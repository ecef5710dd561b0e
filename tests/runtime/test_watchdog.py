"""What holds up the event loop is told, and what only looks like it is not."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.adapters.omn import Omn
from assetwatchd.runtime import telemetry, watchdog
from assetwatchd.runtime.watchdog import BEAT_S, BLOCKED_S, CodePlace, Pulse, Standstill, Waiting, Watchdog
from support.rig import running, sample
from support.tracing import recorded

TICKS = 0.01


class Timeline:
    """A process by the clock: its loop beats and the watchdog looks, unless something is done to either."""

    def __init__(self) -> None:
        self.now = self.cpu_s = self.waited_s = 0.0
        self.told: list[Standstill] = []
        self._pulse = Pulse(0.0, 0.0)
        self._beat_at = self._look_at = BEAT_S

    def passes(self, seconds: float, *, loop: bool = True, watchdog: bool = True, busy: bool = False) -> None:
        """Let time pass, with the loop and the watchdog able to run or not, and the processor used or not."""
        until = self.now + seconds
        while self.now < until - TICKS / 2:
            self.now += TICKS
            self.cpu_s += TICKS * busy
            if loop and self.now >= self._beat_at:
                self._pulse.beat(self.now)
                self._beat_at = self.now + BEAT_S
            if watchdog and self.now >= self._look_at:
                self.told.append(self._pulse.look(self.now, self.cpu_s, self.waited_s))
                self._look_at = self.now + BEAT_S

    @property
    def longest_s(self) -> float:
        """Return the longest standstill that was found."""
        return max(found.seconds for found in self.told)


spans = st.floats(0.01, 20)


@given(st.lists(spans, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_loop_that_goes_round_is_never_told(pauses: list[float], busy: list[bool]) -> None:
    """Nor is a process that was stopped, or has no share of the processor, however often and long."""
    line = Timeline()
    for pause, work in zip(pauses, busy, strict=False):
        line.passes(1, busy=work)
        line.passes(pause, loop=False, watchdog=False)
    line.passes(1)
    assert line.longest_s < BLOCKED_S


@given(st.lists(spans, max_size=5), st.booleans())
def test_a_loop_that_waits_for_a_processor_is_not_told_of(waits: list[float], busy: bool) -> None:  # noqa: FBT001 - of the case
    """While other threads of the process run; the system tells how long it waited once it runs again."""
    line = Timeline()
    for wait in waits:
        line.passes(1)
        line.passes(wait, loop=False, busy=busy)
        line.waited_s += wait
    line.passes(1)
    assert max(found.seconds for found in line.told if found.over) < BLOCKED_S


async def test_the_system_tells_how_long_a_thread_waited() -> None:
    """It is a time that only grows; of a thread that is not there, and where nothing is told, there is none."""
    waiting = Waiting(threading.get_native_id())
    assert 0.0 <= waiting.seconds() <= waiting.seconds() < time.monotonic()
    assert Waiting(0).seconds() == 0.0


@given(held_s=spans, busy=st.booleans(), interpreter=st.booleans(), stopped=st.lists(spans, max_size=2))
def test_a_standstill_is_told_with_its_length(
    *,
    held_s: float,
    busy: bool,
    interpreter: bool,
    stopped: list[float],
) -> None:
    """Whether it waits or computes, and when it keeps the watchdog from running too; what was stopped is left out."""
    line = Timeline()
    for pause in stopped:
        line.passes(1)
        line.passes(pause, loop=False, watchdog=False)
    line.passes(1)
    line.passes(held_s, loop=False, watchdog=not interpreter, busy=busy or interpreter)
    line.passes(1)
    assert line.longest_s == pytest.approx(held_s, abs=2 * BEAT_S + 3 * TICKS)
    assert [found for found in line.told if found.over and found.seconds == line.longest_s]


def test_a_standstill_is_seen_while_it_lasts() -> None:
    """It may never end."""
    line = Timeline()
    line.passes(1)
    line.passes(30, loop=False)
    assert not line.told[-1].over
    assert line.told[-1].seconds == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(("task", "source"), [("omn.call", "omn"), ("omn", "omn"), ("hub.rounds", ""), ("", "")])
def test_a_task_tells_its_source_by_its_name(task: str, source: str) -> None:
    """SOURCE, a dot, and what it does."""
    assert CodePlace(task, "").source({"omn", "dam"}) == source


def hold_up_the_loop(secret: str) -> None:
    """Keep everybody waiting."""
    assert secret
    time.sleep(2 * BLOCKED_S)


@pytest.mark.serial("what waits for a processor beside others is not told of")
async def test_what_held_it_up_is_logged_and_measured(caplog: pytest.LogCaptureFixture) -> None:
    """One line and one measurement, with the source whose task it was; where in the code, and never a value."""
    with recorded() as record, Watchdog({"omn"}):

        async def call() -> None:
            hold_up_the_loop("hunter2")

        await asyncio.sleep(3 * BEAT_S)
        await asyncio.create_task(call(), name="omn.call")
        async with asyncio.timeout(10):
            while "hold_up_the_loop" not in caplog.text:  # noqa: ASYNC110 - a thread writes it
                await asyncio.sleep(BEAT_S)
        points = record.points(telemetry.STANDSTILL)
    (line,) = [record.getMessage() for record in caplog.records if "hold_up_the_loop" in record.getMessage()]
    assert "source omn, task omn.call: runtime/test_watchdog.py:" in line
    assert "hunter2" not in line
    assert any(point.attributes == {telemetry.SOURCE: "omn"} and point.sum >= BLOCKED_S for point in points)


async def test_an_answer_that_holds_up_the_loop_is_told_with_its_source(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls to upstreams are made by tasks that are named by their sources."""
    observe = Omn.observe
    monkeypatch.setattr(watchdog, "LINE_EVERY_S", 0.0)

    async def slow(self: Omn, *args: Any) -> Any:
        hold_up_the_loop("hunter2")
        return await observe(self, *args)

    async with running(("omn",)) as rig:
        monkeypatch.setattr(Omn, "observe", slow)
        with Watchdog(rig.app.settings.sources):
            await rig.get(sample("omn"), max_age={})
            async with asyncio.timeout(10):
                while "source omn, task omn.call: runtime/test_watchdog.py" not in caplog.text:  # noqa: ASYNC110 - a thread
                    await asyncio.sleep(BEAT_S)


async def test_what_the_loop_does_after_a_task_does_not_hide_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that was seen counts, though none is any more when it is looked last."""
    places = iter(
        [
            CodePlace("", "selectors.py:1 select"),
            CodePlace("omn.call", "xml.py:1 parse"),
            CodePlace("", "logging.py:1 emit"),
        ]
    )
    monkeypatch.setattr(watchdog, "place_of", lambda *_: next(places))
    dog = Watchdog(["omn"])
    dog._loop, dog._loop_thread = asyncio.get_running_loop(), threading.get_ident()
    for over in (False, False, False, True):
        dog._take(Standstill(0.4, over=over))
    assert "source omn, task omn.call: xml.py:1 parse" in caplog.text


async def test_lines_are_few(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """One every now and then, with how many there would have been; each is measured."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    dog = Watchdog(())
    for _ in range(5):
        clock[0] += 1
        dog._take(Standstill(0.3, over=True))
    clock[0] += watchdog.LINE_EVERY_S
    dog._take(Standstill(0.4, over=True))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "(4 more times since the last line)" in lines[1]


async def test_a_loop_that_never_goes_on_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """Once, while it lasts."""
    dog = Watchdog(())
    dog._loop, dog._loop_thread = asyncio.get_running_loop(), threading.get_ident()
    for seconds in (1, 4.9, 5, 5.1, 60):
        dog._take(Standstill(seconds, over=False))
    (line,) = [record.getMessage() for record in caplog.records if "stands still" in record.getMessage()]
    assert "5.00 s" in line
