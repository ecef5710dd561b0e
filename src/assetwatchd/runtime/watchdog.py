"""Watches the event loop from a thread of its own, and reports what blocked it, for how long and where.

Knows the names of tasks and sources, and nothing of what they do.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from assetwatchd.runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import FrameType

BEAT_S = 0.05
"""The loop gives a sign of life this often, and it is looked for as often: 0.3 % of one processor."""
BLOCKED_S = 0.25
"""No sign of life for this long is told. Others notice: a call that takes a millisecond has taken this."""
SUSPECT_S = 2 * BEAT_S
"""From here on it is noted where the loop is, so that this is known when it goes on."""
STILL_S = 5.0
"""A loop that has not gone on by now is told before it does: it may never."""
LINE_EVERY_S = 10.0
"""Lines of the log come no oftener; the metric has each time."""
HELD_CPU_S = 60.0
"""So much of the processor's time without a moment for a thread of Python: some call holds the interpreter for good, no
signal is heard any more, and the kernel ends the process (SIGPROF). Time in which it is stopped does not count."""
FRAMES_TOLD = 3
PACKAGE = Path(__file__).parents[1]

log = logging.getLogger(__name__)


class Standstill(NamedTuple):
    """For how many seconds there was no sign of life of the loop; over: there is one again."""

    seconds: float
    over: bool


class Pulse:
    """Signs of life of the loop, and what their absence means. Pure: clocks are read by others.

    Time in which nothing of this process ran does not count: it was stopped, or the machine has no time for it. Then a
    look comes late too, and the processor's time was not used. If it was used, a call has held the interpreter.
    Nor does time in which the loop alone waited for a processor, as far as the system says how long it did (waited_s).
    """

    def __init__(self, at: float, cpu_s: float, waited_s: float = 0.0) -> None:
        self._beat_at = self._looked_at = at
        self._cpu_s = cpu_s
        self._waited_s = waited_s
        self._stopped_s = 0.0
        self._ended_s: float | None = None

    def beat(self, at: float) -> None:
        """The loop gives a sign of life."""
        self._ended_s = max(self._ended_s or 0.0, at - self._beat_at)
        self._beat_at = at

    def look(self, at: float, cpu_s: float, waited_s: float = 0.0) -> Standstill:
        """Return how long it has stood still, or did until now. cpu_s: the processor's time used so far."""
        # A late look without processor time used: all of the process stood still (SIGSTOP, a busy machine), and the
        # loop is not to blame. With processor time used: some call held the interpreter, and that counts.
        late, used = at - self._looked_at - BEAT_S, cpu_s - self._cpu_s
        stopped_s = max(0.0, late - used) if late > BEAT_S else 0.0  # less is how exact timers are
        self._stopped_s += max(stopped_s, waited_s - self._waited_s)
        self._looked_at, self._cpu_s, self._waited_s = at, cpu_s, waited_s
        if self._ended_s is None:
            return Standstill(at - self._beat_at - self._stopped_s, over=False)
        found = Standstill(self._ended_s - self._stopped_s, over=True)
        self._ended_s, self._stopped_s = None, 0.0
        return found


@dataclass(frozen=True, slots=True)
class CodePlace:
    """The code that a loop was in: the name of the task, if it was in one, and the calls, the innermost first."""

    task: str
    calls: str

    def source(self, sources: Collection[str]) -> str:
        """Return the source whose task it was, by its name: SOURCE.call, SOURCE.outcomes; empty if of none."""
        name = self.task.partition(".")[0]
        return name if name in sources else ""


class Watchdog:
    """A context manager that watches the loop it is entered in. sources: names by which tasks are told apart.

    last_resort: end the process when a call holds the interpreter for good.
    """

    def __init__(self, sources: Collection[str], *, last_resort: bool = False) -> None:
        self._sources = sources
        self._last_resort = last_resort
        self._over = threading.Event()
        self._place = CodePlace("", "")
        self._told_at = -LINE_EVERY_S
        self._untold = 0
        self._still = False

    def __enter__(self) -> Self:
        """Begin to watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._waiting = Waiting(threading.get_native_id())
        self._pulse = Pulse(time.monotonic(), time.process_time(), self._waiting.seconds())
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Watch it no more."""
        self._timer.cancel()
        self._over.set()
        self._thread.join()
        if self._last_resort:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _beat(self) -> None:
        self._pulse.beat(time.monotonic())
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        while not self._over.wait(BEAT_S):
            # Set anew at each look: it can only run out when this thread gets no moment for so long, which means that
            # some call holds the interpreter. SIGPROF, not handled, then ends the process without any Python.
            if self._last_resort:
                signal.setitimer(signal.ITIMER_PROF, HELD_CPU_S)
            self._take(self._pulse.look(time.monotonic(), time.process_time(), self._waiting.seconds()))

    def _take(self, found: Standstill) -> None:
        if found.over:
            if found.seconds >= BLOCKED_S:
                telemetry.record_standstill(found.seconds, self._place.source(self._sources))
                self._tell(found, "stood still")
            self._still, self._place = False, CodePlace("", "")
        elif found.seconds >= SUSPECT_S:
            place = place_of(self._loop, self._loop_thread)
            # What the loop does of its own (logging in debug mode) between the end of a slow task and its next sign of
            # life is seen last, and is not what held it up.
            if place.task or not self._place.task:
                self._place = place
            if found.seconds >= STILL_S and not self._still:
                self._still = True
                self._tell(found, "stands still, and has")

    def _tell(self, found: Standstill, what: str) -> None:
        """Write a line, unless there was one a moment ago."""
        if time.monotonic() - self._told_at < LINE_EVERY_S and not self._still:
            self._untold += 1
            return
        source = self._place.source(self._sources)
        owner = f"source {source}, " if source else ""
        more = f" ({self._untold} more times since the last line)" if self._untold else ""
        where = f"{owner}task {self._place.task or 'none'}: {self._place.calls or 'not seen where'}"
        about = {"source": source}
        log.warning("the event loop %s for %.2f s%s in %s", what, found.seconds, more, where, extra=about)
        self._told_at, self._untold = time.monotonic(), 0


class Waiting:
    """Reads how long a thread was ready to run and had no processor; Linux tells once it runs again, others never."""

    def __init__(self, native_id: int) -> None:
        self._path = Path(f"/proc/self/task/{native_id}/schedstat")
        self._known_s = 0.0

    def seconds(self) -> float:
        """Return the seconds so far; what was read last when no file can be opened."""
        with suppress(OSError, ValueError, IndexError):
            self._known_s = int(self._path.read_bytes().split()[1]) / 1e9
        return self._known_s


def place_of(loop: asyncio.AbstractEventLoop, thread: int) -> CodePlace:
    """Return where a loop that runs in another thread is. Names of files and functions alone: values may be secret."""
    task = None
    with suppress(RuntimeError):
        task = asyncio.current_task(loop)
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way to it
    return CodePlace(task.get_name() if task is not None else "", " < ".join(_calls_of(frame)))


def _calls_of(frame: FrameType | None) -> Iterator[str]:
    """Yield the innermost call, and of those that led to it the first few that are ours."""
    innermost, left = True, FRAMES_TOLD
    while frame is not None and left:
        path = Path(frame.f_code.co_filename)
        ours = path.is_relative_to(PACKAGE)
        if ours or innermost:
            shown = path.relative_to(PACKAGE) if ours else Path(*path.parts[-2:])
            yield f"{shown}:{frame.f_lineno} {frame.f_code.co_name}"
        left -= ours
        innermost, frame = False, frame.f_back
