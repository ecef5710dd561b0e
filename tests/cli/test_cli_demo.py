"""The demo on a terminal, as a person sees it: what is on the screen, what can be pasted, and how it ends."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.cli.hints import fitting, folded, to_prepare
from assetwatchd.runtime.stopping import STUCK
from support.command_line import COMMAND, environment, process
from support.terminal import opened

DEMO = (*COMMAND, "demo", "--grpc", "127.0.0.1:0")
TITLE = re.compile(r"\d+ assets?, \d+ changes?;")
CTRL_S, CTRL_Z = "\x13", "\x1a"
READY = re.compile(r"assetwatch is ready on (\S+)")


def synced(lines: list[str]) -> bool:
    """Whether the table shows assets."""
    return any(TITLE.search(line) for line in lines) and any(" FRESH" in line for line in lines)


def rows(lines: list[str]) -> int:
    """Count the assets on the screen."""
    return sum(" FRESH" in line for line in lines)


def pasted(lines: list[str]) -> list[str]:
    """Return the commands among the lines of a screen, each with the lines that it goes on in."""
    text = "\n".join(lines)
    block = text.partition("in another terminal:\n")[2].partition("\n\n")[0]
    return re.findall(r"^(?:.*\\\n)*.*[^\\\n]$", block, flags=re.MULTILINE)


async def test_hints_stay_on_a_small_screen_and_can_be_pasted() -> None:
    """On 80x24, while assets change: the hints, a table and the sources; each command works as it stands there."""
    async with opened(*DEMO, "--speed", "20") as terminal:
        await terminal.shows(synced)
        first = pasted(terminal.lines)
        await terminal.shows(lambda lines: any("9 changes" in line for line in lines))
        lines = terminal.lines
        address = READY.search("\n".join(lines))
        assert address
        assert pasted(lines) == first
        assert {"sources", "watch", "get", "list"} <= set(" ".join(first).split())
        assert rows(lines) >= 3
        assert "usd-search HEALTHY" in " ".join(lines[-2:])
        prepare = [text for text in first if "PATH=" in text or "export" in text]
        assert prepare[0].strip().startswith("PATH=")
        for text in first:
            if text in prepare or "make" in text:
                continue
            assert await _works("\n".join([*prepare, text])), text
        terminal.press("\x03")
        assert await terminal.ended() == 0
        assert b"Traceback" not in terminal.told
        assert b"the stream broke" not in terminal.told


async def _works(text: str) -> bool:
    """Paste text into a shell; what goes on for ever works if it prints something."""
    running = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"set -e\n{text.strip()} | head -c 1",
        stdout=asyncio.subprocess.PIPE,
        env=environment(PATH="/usr/bin:/bin"),
    )
    out, _ = await asyncio.wait_for(running.communicate(), 60)
    return out != b"" or "curl -X" in text


async def test_a_large_screen_is_used_and_resizing_leaves_nothing_behind() -> None:
    """The table takes the height there is; after a change of size the screen is what it would be at once."""
    async with opened(*DEMO, "--speed", "0", width=150, height=50) as terminal:
        lines = await terminal.shows(lambda lines: synced(lines) and lines[-1].endswith("usd-search HEALTHY"))
        assert rows(lines) >= 15
        for width, height in ((80, 24), (150, 50), (100, 30)):
            terminal.resize(width, height)
            await terminal.shows(lambda lines: fits(lines) and "HEALTHY" in lines[-1])
            assert len(terminal.lines) == height
        terminal.press("\x03")
        assert await terminal.ended() == 0


def fits(lines: list[str]) -> bool:
    """Whether all is on the screen once, and nothing else."""
    text = "\n".join(lines)
    return all(text.count(once) == 1 for once in ("is ready on", "SOURCE  ", "Ctrl-C stops", "oracle-sbc HEALTHY"))


async def test_a_terminal_that_cannot_be_drawn_on_gets_lines() -> None:
    """The hints, then a line a change; nothing that such a terminal would show as it is."""
    async with opened(*DEMO, "--speed", "20", width=200, height=60, TERM="dumb") as terminal:
        await terminal.shows(lambda lines: any("synced" in line for line in lines))
        terminal.press("\x03")
        assert await terminal.ended() == 0
    assert b"assetwatch sources" in terminal.told
    assert b"\x1b" not in terminal.told


async def test_a_watch_leaves_what_it_showed_last() -> None:
    """It draws the whole screen, at whatever size; when it ends its last picture is there to be read."""
    async with process("demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "0") as demo:
        assert demo.stdout is not None
        address = (await asyncio.wait_for(demo.stdout.readline(), 60)).decode().split()[-1]
        async with opened(*COMMAND, "watch", "oracle-sbc", "--server", address, width=100, height=20) as terminal:
            await terminal.shows(synced)
            terminal.resize(90, 30)
            terminal.press("\x03")
            assert await terminal.ended() == 130
            last = terminal.told.decode().rpartition("\x1b[?1049l")[2]
    assert "last-operation" in last
    assert "oracle-sbc" in last


def is_given_back(told: bytes) -> bool:
    """Whether the last that a terminal was told leaves it as it was: the first screen, the cursor shown."""
    return told.rpartition(b"\x1b[?1049")[2].startswith(b"l") and told.rpartition(b"\x1b[?25")[2].startswith(b"h")


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGQUIT, -signal.SIGQUIT), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
async def test_the_terminal_is_given_back_however_the_demo_is_ended(stop: signal.Signals, code: int) -> None:
    """A signal that ends it, in good order or on the spot, leaves no table where the prompt is to be."""
    async with opened(*DEMO, "--speed", "0") as terminal:
        await terminal.shows(synced)
        terminal.running.send_signal(stop)
        assert await terminal.ended() == code
        await terminal.was_told(is_given_back)


async def test_the_terminal_is_given_back_however_a_watch_is_ended() -> None:
    """A signal ends a watch as it ends any program, and that is what the shell is told."""
    async with process("demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "0") as demo:
        assert demo.stdout is not None
        address = (await asyncio.wait_for(demo.stdout.readline(), 60)).decode().split()[-1]
        for stop in (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
            async with opened(*COMMAND, "watch", "oracle-sbc", "--server", address) as terminal:
                await terminal.shows(synced)
                terminal.running.send_signal(stop)
                assert await terminal.ended() == -stop
                await terminal.was_told(is_given_back)


@pytest.mark.parametrize("stop", [signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_terminal_that_was_stopped_is_given_back(stop: signal.Signals) -> None:
    """After Ctrl-S it takes nothing that is written; a signal from elsewhere ends the watch all the same."""
    async with process("demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "20") as demo:
        assert demo.stdout is not None
        address = (await asyncio.wait_for(demo.stdout.readline(), 60)).decode().split()[-1]
        async with opened(*COMMAND, "watch", "oracle-sbc", "--server", address) as terminal:
            await terminal.shows(synced)
            terminal.press(CTRL_S)
            await terminal.is_still()
            terminal.running.send_signal(stop)
            assert await terminal.ended() == (130 if stop is signal.SIGINT else -stop)
            await terminal.was_told(is_given_back)


async def test_a_demo_whose_terminal_was_stopped_ends_in_time() -> None:
    """In good order: the last picture is not what it waits for."""
    async with opened(*DEMO, "--speed", "20") as terminal:
        await terminal.shows(synced)
        terminal.press(CTRL_S)
        await terminal.is_still()
        terminal.running.send_signal(signal.SIGTERM)
        assert await terminal.ended() == 0
        await terminal.was_told(is_given_back)


async def test_a_watch_can_be_put_aside() -> None:
    """Ctrl-Z leaves the shell's own screen, and fg brings the table back; as often as one likes."""
    async with process("demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "0") as demo:
        assert demo.stdout is not None
        address = (await asyncio.wait_for(demo.stdout.readline(), 60)).decode().split()[-1]
        async with opened("bash", "--norc", "-i") as terminal:
            terminal.press(f"{shlex.join([*COMMAND, 'watch', 'oracle-sbc', '--server', address])}\n")
            for times in (1, 2):
                await terminal.shows(synced)
                terminal.press(CTRL_Z)
                await terminal.was_told(lambda told, times=times: told.count(b"Stopped") == times)  # type: ignore[misc]  # bound at once
                assert is_given_back(terminal.told.rpartition(b"Stopped")[0])
                since = len(terminal.told)
                terminal.press("fg\n")
                await terminal.was_told(lambda told, since=since: b"last-operation" in told[since:])  # type: ignore[misc]  # same
                assert not is_given_back(terminal.told)
            terminal.press("\x03")
            await terminal.was_told(is_given_back)
            terminal.press("echo ended with $?\n")
            await terminal.was_told(lambda told: b"ended with 130" in told)


STUCK_LIVE = """
import time
from rich.console import Console
from rich.live import Live
from assetwatchd.cli.live import _given_back
from assetwatchd.runtime.stopping import Stopping

live = Live("a table", console=Console(), screen=True)
with Stopping(lambda: None, within_s=0.1, lasting=False), live, _given_back(live):
    time.sleep(600)
"""


async def test_a_process_that_is_ended_by_force_gives_the_terminal_back() -> None:
    """Where it did not end in time, by the thread that ends it, before it says where it stood."""
    async with opened(sys.executable, "-c", STUCK_LIVE) as terminal:
        await terminal.shows(lambda lines: "a table" in lines[0])
        terminal.press(CTRL_S)
        await terminal.is_still()
        terminal.running.send_signal(signal.SIGTERM)
        assert await terminal.ended() == STUCK
        await terminal.was_told(lambda told: b"not stopped within 0.1 s" in told)
        assert is_given_back(terminal.told)


async def test_make_demo_ends_well(tmp_path: Path) -> None:
    """Ctrl-C at the terminal ends make with 0, as it ends the demo."""
    root = Path(__file__).parents[2]
    venv = Path(sys.prefix)
    made = ("make", "-C", str(root), "-o", f"{venv}/.run", f"VENV={venv}", "demo", "ARGS=--grpc 127.0.0.1:0")
    async with opened(*made, cwd=str(tmp_path)) as terminal:
        await terminal.shows(synced)
        terminal.press("\x03")
        assert await terminal.ended() == 0
        assert b"Error" not in terminal.told
        assert b"Interrupt" not in terminal.told


WORDS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="'\\\n"), min_size=1, max_size=60
)


@given(st.lists(WORDS, min_size=1, max_size=8), st.integers(30, 200))
def test_a_folded_command_is_the_command(words: list[str], width: int) -> None:
    """Whatever its words: no line is wider, save for what is quoted, and a shell reads what was to be said."""
    quoted = [shlex.quote(word) for word in words]
    lines = folded(quoted, width)
    assert all(len(line) <= width for line in lines) or any("'" in word for word in quoted)
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == words


def test_what_there_is_no_room_for_is_left_out_whole() -> None:
    """The first commands have the room; none is begun that would not end."""
    commands = [("a", "b" * 10), ("c" * 18, "d" * 18), ("e",)]
    assert fitting(commands, 30, 9) == ["  a bbbbbbbbbb", f"  {'c' * 18} \\", f"    {'d' * 18}", "  e"]
    assert fitting(commands, 30, 2) == ["  a bbbbbbbbbb"]
    assert fitting(commands, 30, 0) == []


@pytest.mark.parametrize(
    ("level", "there", "address", "said"),
    [
        ("1", "grpcurl", "127.0.0.1:50051", ["PATH='{bin}':$PATH"]),
        ("1", "none", "127.0.0.1:50051", ["PATH='{bin}':$PATH", "make -C '{here}' grpcurl"]),
        ("", "none", "127.0.0.1:9", ["PATH='{bin}':$PATH", "export ASSETWATCH_SERVER=127.0.0.1:9"]),
    ],
)
def test_the_demo_says_how_another_terminal_gets_its_programs(
    *, level: str, there: str, address: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This environment on PATH, the server if it is not where it is by default, and grpcurl where make can make it."""
    programs = tmp_path / "a b" / "bin"
    programs.mkdir(parents=True)
    (programs / there).touch(0o755)
    monkeypatch.chdir(programs.parent)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("MAKELEVEL", level)
    wanted = [text.format(bin=programs, here=programs.parent) for text in said]
    assert [" ".join(command) for command in to_prepare(address)] == wanted
