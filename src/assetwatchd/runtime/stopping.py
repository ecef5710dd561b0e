"""The signals that end the process: in good order, and where that takes too long, in any case.

A handler of the event loop hears nothing while the loop stands still. So signals are heard by a thread of their own, by
way of the file to which Python notes each signal as it comes (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANGUP = signal.SIGHUP
"""Stops a process that began in a terminal, which was closed; to another one somebody sent it, and it is told alone."""
CLOSING_S = 4.0
"""Beyond the time that calls under way have, to give back connections, close the store and flush telemetry."""
LAST_RESORT_S = 0.4
"""Where not even that thread can run, stacks are written so much later, and the kernel ends the process then."""
STUCK = 5
"""The exit code of a process that did not stop in time."""
AT_FORCED_END: set[Callable[[], object]] = set()
"""What is called, from another thread, before the process is ended that did not end by itself; it is not waited for
longer than LAST_RESORT_S."""
_OVER = 0
"""No signal has this number."""


class Stopping:
    """A context manager that at the first signal calls stop, from its own thread, and ends the process within_s later.

    lasting: the time goes on after the block, until the process has ended by itself. hung_up is called, from that
    thread too, at a HANGUP that does not stop. Entered in a thread that is not the main one it hears nothing: signals
    belong to whoever runs that.
    """

    def __init__(
        self,
        stop: Callable[[], object],
        *,
        within_s: float,
        lasting: bool,
        hung_up: Callable[[], object] = lambda: None,
        end: Callable[[], object] | None = None,
    ) -> None:
        self._stop = stop
        self._hung_up = hung_up
        self._within_s = within_s
        self._lasting = lasting
        self._end = end or self._end_process
        self._until: float | None = None
        self._thread = threading.Thread(target=self._listen, name="stopping", daemon=True)
        self._hears = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Self:
        """Hear signals from now on."""
        if self._hears:
            self._receiver, self._sender = socket.socketpair()
            self._sender.settimeout(0)  # Python writes to it as a signal comes, and refuses a file that may block
            # Whoever closes the terminal means to stop the server. Without one, tools send SIGHUP to have services read
            # their configuration anew, and it must not end them.
            self._stops = (*SIGNALS, HANGUP) if has_terminal() else SIGNALS
            self._handlers = {number: signal.signal(number, self._hear) for number in (*SIGNALS, HANGUP)}
            self._others = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave signals to whoever had them before."""
        if not self._hears:
            return
        signal.set_wakeup_fd(self._others)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._until is None or not self._lasting:
            self._sender.send(bytes([_OVER]))
            self._thread.join()
            self._receiver.close()
            self._sender.close()

    def _listen(self) -> None:
        with suppress(TimeoutError):
            while _OVER not in (numbers := self._receiver.recv(4096)):
                self._pass_on(bytes(number for number in numbers if number not in self._handlers))
                if self._until is None and any(number in self._stops for number in numbers):
                    self._until = time.monotonic() + self._within_s
                    self._stop()
                if HANGUP in numbers and HANGUP not in self._stops:
                    self._hung_up()
                # The time left bounds the next wait for a signal: so this thread is also what ends the process.
                if self._until is not None:
                    self._receiver.settimeout(max(self._until - time.monotonic(), 0.001))
            return
        self._end()

    def _pass_on(self, numbers: bytes) -> None:
        """Write signals that are not ours to the file that the event loop had given to Python before us."""
        if numbers and self._others != -1:
            with suppress(OSError):
                os.write(self._others, numbers)

    def _hear(self, number: int, _frame: object) -> None:
        """Prepare for that thread never to run: this does, once the main thread is in Python or looks for signals.

        Stacks are then written by a thread that needs no Python, and the kernel ends the process (SIGALRM).
        """
        if self._lasting and number in self._stops:
            faulthandler.dump_traceback_later(self._within_s + LAST_RESORT_S)
            signal.setitimer(signal.ITIMER_REAL, self._within_s + 2 * LAST_RESORT_S)

    def _end_process(self) -> None:
        writing = threading.Thread(target=self._last_words, daemon=True)
        writing.start()
        writing.join(LAST_RESORT_S)  # perhaps nobody reads standard error: that may be why it stands still
        os._exit(STUCK)  # sys.exit would end this thread alone

    def _last_words(self) -> None:
        for call in tuple(AT_FORCED_END):
            with suppress(Exception):
                call()
        self._write_stacks()

    def _write_stacks(self) -> None:
        text = f"assetwatch: not stopped within {self._within_s:g} s, so ended with {STUCK}; where each thread stood:\n"
        sys.stderr.write(text)
        sys.stderr.flush()
        faulthandler.dump_traceback(all_threads=True)


def has_terminal() -> bool:
    """Return whether there is a terminal whose end is to be that of the process: nohup says that it is not."""
    if signal.getsignal(HANGUP) is signal.SIG_IGN:
        return False
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
