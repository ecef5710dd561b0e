"""Runs what goes on until it is stopped: its event loop, the signals that end it, and a failed start in words."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import nullcontext
from typing import TYPE_CHECKING

from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.terminal import ReaderGone, while_read
from assetwatchd.model.errors import AssetwatchError, HistoryBroken
from assetwatchd.runtime.stopping import HANGUP, has_terminal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine


def until_stopped(work: Coroutine[object, object, None], *, read: bool = False, listen: str = "") -> None:
    """Run to the end, which Ctrl-C or SIGTERM brings about in good order; a start that fails becomes one sentence.

    read: what it prints is what it is run for, so that it ends, too, when whoever reads that has gone. listen: the flag
    that says where it listens, named where it cannot.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_stopped_by_signals(work, read=read))
    except (KeyboardInterrupt, asyncio.CancelledError, ReaderGone):
        pass
    except OSError as error:
        fail(ExitCode.NOT_MET, f"could not start: {error.strerror or error}")
    except HistoryBroken as error:
        fail(ExitCode.NOT_MET, str(error))
    except AssetwatchError as error:
        text = re.sub(r"^server\.listen: ", f"{listen}: " if listen else "server.listen: ", str(error))
        fail(ExitCode.NOT_MET, *f"could not start: {text}".splitlines())


async def _stopped_by_signals(work: Coroutine[object, object, None], *, read: bool) -> None:
    """Cancel the work at SIGTERM, and when the terminal is closed; a server hears both for itself once it has begun."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - the runner made it
    stops = (signal.SIGTERM, HANGUP) if has_terminal() else (signal.SIGTERM,)
    # Without a terminal of its own (nohup, a service) nothing that was closed concerns it, and by default HANGUP kills.
    if HANGUP not in stops:
        signal.signal(HANGUP, signal.SIG_IGN)
    for number in stops:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with while_read() if read else nullcontext():
        await work


def _loop_factory() -> Callable[[], AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    factory: Callable[[], AbstractEventLoop] = uvloop.new_event_loop
    return factory
