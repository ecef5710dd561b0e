"""Signals end the process, whatever its event loop does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assetwatchd.cli.exit_codes import ExitCode
from assetwatchd.runtime.stopping import STUCK, Stopping
from support.command_line import environment

STUCK_SERVER = Path(__file__).parents[1] / "support" / "stuck.py"
PATIENCE_S = 60


def ended(kind: str, number: signal.Signals | None) -> tuple[int, str]:
    """Have a server stand still, send it a signal, and return its exit code and what it wrote on standard error."""
    command = [sys.executable, str(STUCK_SERVER), kind]
    server = subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "standing still\n"
        if number is not None:
            server.send_signal(number)
        if kind == "log":  # nobody reads
            return server.wait(PATIENCE_S), ""
        _, err = server.communicate(timeout=PATIENCE_S)
        return server.returncode, err
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["python", "sleep"])
def test_a_loop_that_stands_still_does_not_keep_the_process(kind: str, number: signal.Signals) -> None:
    """It is ended with a code of its own, and standard error says where it stood."""
    code, err = ended(kind, number)
    assert code == STUCK == ExitCode.STUCK
    assert f"in {kind}" in err
    assert "in stand_still" in err


def test_standard_error_that_nobody_reads_does_not_keep_the_process() -> None:
    """Stacks are not worth waiting for."""
    assert ended("log", signal.SIGTERM)[0] == STUCK


def test_a_call_that_holds_the_interpreter_and_looks_for_signals_does_not_keep_the_process() -> None:
    """No thread of Python can run: the stacks are written without, and the kernel ends it."""
    code, err = ended("regex", signal.SIGTERM)
    assert code == -signal.SIGALRM
    assert "in regex" in err


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_a_call_that_holds_the_interpreter_for_good_is_ended_by_the_kernel(number: signal.Signals | None) -> None:
    """After so much of the processor's time, whether it is told to stop or not: it hears nothing by then."""
    assert ended("held", number)[0] in ((-signal.SIGPROF,) if number is None else (-signal.SIGPROF, -signal.SIGALRM))


async def test_other_signals_reach_the_loop() -> None:
    """What it hears of them it hears as before, and signals are back where they were in the end."""
    loop, heard, stopped = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Stopping(lambda: loop.call_soon_threadsafe(stopped.set), within_s=600, lasting=False):
            for number, happens in ((signal.SIGUSR1, heard), (signal.SIGTERM, stopped)):
                os.kill(os.getpid(), number)
                async with asyncio.timeout(10):
                    await happens.wait()
        heard.clear()
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(10):
            await heard.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [thread for thread in threading.enumerate() if thread.name == "stopping"]


async def test_too_late_is_the_end() -> None:
    """What is to be done when the time is over is done once, from the thread that hears."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    end = lambda: loop.call_soon_threadsafe(over.set)  # noqa: E731
    with Stopping(lambda: None, within_s=0.05, lasting=False, end=end):
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await over.wait()


async def test_in_another_thread_signals_are_left_alone() -> None:
    """They are the program's that embeds the service."""

    def use() -> object:
        with Stopping(lambda: None, within_s=1, lasting=True):
            return signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert await asyncio.to_thread(use) is before
