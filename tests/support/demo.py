"""A demo that runs, and what its reader pastes into a shell beside it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support.command_line import environment, process
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

BIN = Path(sys.executable).parent
DEADLINE_S = 60
ADDRESS = "127.0.0.1:50051"


class Demo(NamedTuple):
    """A demo that runs: where it serves and is scripted, and the folder in which its reader works."""

    address: str
    control: str
    folder: Path

    def localised(self, text: str) -> str:
        """Put this demo's places into a text where the document has those of a reader's machine."""
        text = text.replace(ADDRESS, self.address)
        text = text.replace("assetwatch sandbox", f"assetwatch sandbox --first-port {free_port(6)}")
        text = text.replace("assetwatch demo", "assetwatch demo --grpc 127.0.0.1:0")
        return text.replace("assetwatch serve", "assetwatch serve --listen 127.0.0.1:0")

    def variables(self) -> dict[str, str]:
        """Return the environment of its reader's shell."""
        (self.folder / ".curlrc").write_text("fail")  # an error of HTTP is one of curl's
        return environment(
            ASSETWATCH_SERVER=self.address,
            CONTROL=self.control,
            CURL_HOME=str(self.folder),
            PATH=f"{BIN}:{os.environ['PATH']}",
            PYTHONUNBUFFERED="1",
        )


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[Demo]:
    """Run a demo, and wait until everything in it is known."""
    port = free_port()
    arguments = ("--no-table", "--grpc", "127.0.0.1:0", "--control-port", str(port))
    async with process("demo", *arguments) as running:
        assert running.stdout is not None
        address = (await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)).decode().split()[-1]
        found = Demo(address, f"http://127.0.0.1:{port}", folder)
        wait = "until [ $(assetwatch list --all -o ndjson | wc -l) -ge 60 ]; do sleep 0.2; done"
        await run(wait, found)
        yield found


async def run(script: str, where: Demo, deadline_s: float = DEADLINE_S, **extra: str) -> tuple[int, str]:
    """Run a script to its end, with extra variables; return its exit code, and what it printed."""
    async with _shell(script, where, extra) as running:
        out, _ = await asyncio.wait_for(running.communicate(), deadline_s)
        return running.returncode or 0, out.decode()


async def until(script: str, where: Demo, mark: str, deadline_s: float = DEADLINE_S, **extra: str) -> None:
    """Run a script, with extra variables, until a line that it prints has the mark."""
    async with _shell(script, where, extra) as running:
        assert running.stdout is not None
        told = ""
        async with asyncio.timeout(deadline_s):
            while line := (await running.stdout.readline()).decode():
                told += line
                if mark in line and line.strip():
                    return
        raise AssertionError(f"ended without {mark!r}: {told}")


@asynccontextmanager
async def _shell(script: str, where: Demo, extra: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script in a group of its own, which ends with the context."""
    running = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**where.variables(), **extra},
        cwd=where.folder,
        start_new_session=True,
        limit=2**20,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        await running.wait()


def statements(text: str) -> Iterator[str]:
    """Yield what a page has to be pasted into a shell, each as far as the shell would read before it begins."""
    shell = r"^```(sh|console)\n(.*?)^```"
    for language, block in re.findall(shell, text, flags=re.DOTALL | re.MULTILINE):
        lines = block if language == "sh" else "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)", block, flags=re.MULTILINE))
        yield from _whole(lines)


def _whole(text: str) -> Iterator[str]:
    """Yield one command after the other, those of several lines in one."""
    held = ""
    for line in text.splitlines():
        held = f"{held}\n{line}".strip("\n")
        if held.strip() and not held.endswith("\\") and _complete(held):
            yield held.strip()
            held = ""
    assert not held.strip(), f"should be whole: {held}"


def _complete(text: str) -> bool:
    ended = subprocess.run(["bash", "-n", "-c", text], capture_output=True, timeout=10, check=False)
    return ended.returncode == 0
