"""demo --replicas: processes that can be killed, a watch that goes on, and nothing that is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import assetwatch_sandbox.etcd
from assetwatch_client import Synced, Upsert, Watch, connect_any
from assetwatch_sandbox.etcd import NoEtcd
from assetwatchd.cli import app as cli
from assetwatchd.cli.children import Guard, Program
from assetwatchd.cli.replicated import AWAY_S, Part, addresses_from
from assetwatchd.model.errors import ConfigError
from support.command_line import COMMAND, DEADLINE_S, process
from support.ports import free_port
from support.replicated_demo import ARGUMENTS, LINE, demo, lives
from support.scripted_watch import until
from support.terminal import opened
from support.virtual_time import run as run_at_once

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_watch_goes_on_whoever_is_killed() -> None:
    """The replica that it is at, then etcd: no second snapshot, nothing twice or out of order, and both come back."""
    async with demo() as running, connect_any(running.addresses) as servers:
        watch = Watch(servers, sources=["omn", "pieces"])
        seen: dict[tuple[str, str], int] = {}
        snapshots = 0

        async def follow() -> None:
            nonlocal snapshots
            async with aclosing(watch.events()) as events:
                async for event in events:
                    if isinstance(event, Upsert):
                        assert event.status.revision > seen.get(event.key, 0)
                        seen[event.key] = event.status.revision
                    snapshots += isinstance(event, Synced) and event.replaced

        following = asyncio.create_task(follow())
        await until(lambda: len(seen) > 30)
        for name in ("replica-1", "etcd"):
            assert servers.turn == (name == "etcd")
            os.kill(running.pids[name], signal.SIGKILL)
            await running.said(f"{name} has ended")
            back = LINE.search(await running.said(f"{name} is back"))
            assert back
            running.pids[name] = int(back[1])
            newest = max(seen.values())
            await grown(seen, newest)
        assert not following.done()
        following.cancel()
        assert snapshots == 1
        running.running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.running.wait(), DEADLINE_S) == 0
        await running.leaves_nothing()


async def grown(seen: dict[tuple[str, str], int], newest: int) -> None:
    """Wait until something newer was seen."""
    async with asyncio.timeout(DEADLINE_S):
        while max(seen.values()) <= newest:  # noqa: ASYNC110 - it comes from elsewhere
            await asyncio.sleep(0.05)


async def test_nothing_is_left_of_a_demo_that_is_killed() -> None:
    """It cannot end its children by then; they end all the same."""
    async with demo() as running:
        running.running.kill()
        await running.leaves_nothing()


def killable(lines: list[str]) -> dict[str, tuple[int, bool]]:
    """Return the parts on the screen, their processes, and whether the table is of it."""
    found = ((LINE.search(line), "<- this table" in line) for line in lines)
    return {match[2]: (int(match[1]), marked) for match, marked in found if match}


async def test_the_table_goes_on_at_another_replica() -> None:
    """On 80x24: it says which replica it is of; when that is killed, it is of another, and Ctrl-C ends all of it."""
    async with opened(*COMMAND, *ARGUMENTS) as terminal:
        await terminal.shows(lambda lines: len(killable(lines)) == 4 and " FRESH" in "\n".join(lines))
        pids = {pid for pid, _ in killable(terminal.lines).values()}
        first = next(name for name, (_, marked) in killable(terminal.lines).items() if marked)
        os.kill(killable(terminal.lines)[first][0], signal.SIGKILL)
        await terminal.shows(lambda lines: re.search(rf"back in \d+ s +{first}", "\n".join(lines)))
        await terminal.shows(lambda lines: any(marked for _, marked in killable(lines).values()))
        await terminal.shows(lambda lines: " FRESH" in "\n".join(lines))
        assert any("assetwatch sources" in line for line in terminal.lines)
        pids |= {pid for pid, _ in killable(terminal.lines).values()}
        terminal.press("\x03")
        assert await terminal.ended() == 0
        await until(lambda: not any(map(lives, pids)))


async def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    """Exit code 1; and what had been started by then is ended."""
    with socket.create_server(("127.0.0.1", free_port(2))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with process("demo", "--replicas", "2", "--no-table", "--grpc", address) as running:
            out, err = await asyncio.wait_for(running.communicate(), 60)
    assert (running.returncode, out) == (1, b"")
    assert err.decode().count("\n") == 1
    assert err.decode().startswith("assetwatch: could not start: ")
    assert address in err.decode()


def test_without_an_etcd_it_says_so_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and what to do."""

    def none() -> Path:
        raise NoEtcd("etcd 3.6 or newer is not on PATH, and neither is Go 1.26 to build it")

    monkeypatch.setattr(assetwatch_sandbox.etcd, "find", none)
    done = CliRunner().invoke(cli, ["demo", "--replicas", "3"])
    assert done.exit_code == 1
    assert (
        done.stderr
        == "assetwatch: could not start: etcd 3.6 or newer is not on PATH, and neither is Go 1.26 to build it\n"
    )


@pytest.mark.parametrize(
    ("listen", "count", "wanted"),
    [
        ("127.0.0.1:50051", 3, ["127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50053"]),
        ("[::1]:65533", 2, ["[::1]:65533", "[::1]:65534"]),
    ],
)
def test_replicas_are_at_ports_in_a_row(listen: str, count: int, wanted: list[str]) -> None:
    """From the one that was given on."""
    assert addresses_from(listen, count) == wanted


@pytest.mark.parametrize("listen", ["unix:/run/a.sock", "127.0.0.1:65534"])
def test_where_there_are_no_ports_in_a_row_it_says_so(listen: str) -> None:
    """A socket has none, and there are none after the last."""
    with pytest.raises(ConfigError, match="3 replicas need HOST:PORT, and 2 ports after that"):
        addresses_from(listen, 3)


class Fragile:
    """A child that ends as soon as it was started, and does not start every time."""

    def __init__(self) -> None:
        self.pid = 1
        self.started_at: list[float] = []

    async def start(self) -> None:
        """Start; the first time it cannot."""
        self.started_at.append(asyncio.get_running_loop().time())
        if len(self.started_at) == 1:
            raise ConfigError("nobody answers")

    async def ended(self) -> None:
        """It has."""

    async def end(self) -> None:
        """There is nothing to end."""


def test_what_does_not_come_back_is_started_once_more() -> None:
    """Each time after the same pause, and each time it is said."""
    child, said = Fragile(), list[str]()
    part = Part("replica-1", "127.0.0.1:1", child, AWAY_S)

    async def keep_up() -> None:
        async with asyncio.timeout(2.5 * AWAY_S):
            await part.kept_up(said.append)

    with pytest.raises(TimeoutError):
        run_at_once(keep_up())
    assert len(child.started_at) == 2
    assert child.started_at[1] - child.started_at[0] == pytest.approx(AWAY_S)
    assert said[1] == "replica-1 did not come back: nobody answers"
    assert said[3] == "replica-1 is back: kill -9 1        replica-1  127.0.0.1:1"


async def test_a_program_that_ends_before_it_is_ready(tmp_path: Path) -> None:
    """Its last word is told."""
    script = "import sys; print('first', file=sys.stderr); sys.exit('assetwatch: could not start: no etcd')"
    with Guard() as guard:
        program = Program([sys.executable, "-c", script], dict(os.environ), tmp_path / "log", guard)
        with pytest.raises(ConfigError, match=r"^no etcd$"):
            await program.start()
        assert program.pid == 0


async def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hears no SIGTERM is killed after its time; what it prints meanwhile never holds it up."""
    monkeypatch.setattr("assetwatchd.cli.children.END_S", 0.1)
    script = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('it is ready on 1', flush=True)\n"
        "while True: print('x' * 1000, flush=True)"
    )
    with Guard() as guard:
        program = Program([sys.executable, "-c", script], dict(os.environ), tmp_path / "log", guard)
        await program.start()
        pid = program.pid
        assert lives(pid)
        await program.end()
        assert not lives(pid)
        assert program.pid == 0


async def test_the_guard_ends_what_is_left(tmp_path: Path) -> None:
    """When its end of the pipe closes; it leaves alone what has ended before."""
    script = "import time; print('it is ready on 1', flush=True); time.sleep(600)"
    with Guard() as guard:
        kept, ended = (
            Program([sys.executable, "-c", script], dict(os.environ), tmp_path / "log", guard) for _ in range(2)
        )
        await kept.start()
        await ended.start()
        guard.forget(ended.pid)
    await asyncio.wait_for(kept.ended(), DEADLINE_S)
    assert ended.pid
    await ended.end()
