"""Every command that a document prints is run as it stands there, against a demo; a reader can paste it."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.command_line import environment, process
from support.documents import ROOT, blocks, pages, table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

PRINTED = {name: text for name, text in pages().items() if not name.startswith("docs/reference/")}
"""Those of docs/reference are written by the program."""
BIN = Path(sys.executable).parent
DEADLINE_S = 60
ADDRESS = "127.0.0.1:50051"
ELSEWHERE = {
    r"make ": "repo/test_first_command.py::test_a_target_makes_its_layers_first",
    r"cd examples/node && npm ci && node watch\.mjs ": "node/test_node_pieces.py::test_node_watches",
    r"etcdctl (compact|defrag|alarm) ": "etcd/test_etcd_checks.py::test_a_full_database",
    r"node pieces\.mjs ": "node/test_node_pieces.py::test_node_lists_creates_searches_streams_and_deletes",
}
"""Commands that install something, by how they begin, and the test that holds each in its own way."""
BY_HAND = {
    r"go (mod edit -replace|get) github\.com/assetwatch": "needs a Go program beside the clone",
}
ENDS_WITH = {
    """{"asset": {"source": "dam", "asset_id": "x"}}""": 64 + 5,
    "-max-time": 64 + 4,
}
"""The exit codes of lines that show an error: grpcurl's are 64 and the status."""
GOES_ON = {
    r"assetwatch serve": "serving on",
    r"assetwatch demo --replicas": "kill -9",
    r"assetwatch sandbox --write-config": "leads to them",
    r"assetwatch watch": "synced",
    r"grpcurl .*/Stream\w+$": "{",
}
"""Commands that end when they are interrupted alone, and what they have printed by then."""


class Demo(NamedTuple):
    """A demo that runs: where it serves and is scripted, and the folder in which its reader works."""

    address: str
    control: str
    folder: Path

    def localised(self, text: str) -> str:
        """Put this demo's places into a text where the document has those of a reader's machine."""
        text = text.replace(ADDRESS, self.address)
        text = text.replace("assetwatch sandbox", f"assetwatch sandbox --first-port {_first_of_six()}")
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


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _first_of_six() -> int:
    """Find a port that is free with the five after it."""
    for _ in range(100):
        first = _free_port()
        with suppress(OSError, OverflowError):
            for port in range(first, first + 6):
                with socket.socket() as bound:
                    bound.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no six free ports in a row")


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[Demo]:
    """Run a demo, and wait until everything in it is known."""
    port = _free_port()
    arguments = ("--no-table", "--grpc", "127.0.0.1:0", "--control-port", str(port))
    async with process("demo", *arguments) as running:
        assert running.stdout is not None
        address = (await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)).decode().split()[-1]
        found = Demo(address, f"http://127.0.0.1:{port}", folder)
        wait = "until [ $(assetwatch list --all -o ndjson | wc -l) -ge 60 ]; do sleep 0.2; done"
        await _run(wait, found)
        yield found


async def _run(script: str, where: Demo) -> tuple[int, str]:
    """Run a script to its end; return its exit code, and what it printed."""
    async with _shell(script, where) as running:
        out, _ = await asyncio.wait_for(running.communicate(), DEADLINE_S)
        return running.returncode or 0, out.decode()


async def _until(script: str, where: Demo, mark: str) -> None:
    """Run a script until a line that it prints has the mark."""
    async with _shell(script, where) as running:
        assert running.stdout is not None
        told = ""
        async with asyncio.timeout(DEADLINE_S):
            while line := (await running.stdout.readline()).decode():
                told += line
                if mark in line and line.strip():
                    return
        raise AssertionError(f"ended without {mark!r}: {told}")


@asynccontextmanager
async def _shell(script: str, where: Demo) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script in a group of its own, which ends with the context."""
    running = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=where.variables(),
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


def first_match(patterns: Mapping[str, object], statement: str) -> str | None:
    """Return the pattern that a statement begins with."""
    return next((pattern for pattern in patterns if re.match(pattern, statement)), None)


async def paste(statement: str, before: str, where: Demo) -> None:
    """Run one statement as its page means it."""
    script = f"{before}\n{where.localised(statement)}"
    if (pattern := first_match(GOES_ON, statement)) is not None:
        await _until(script, where, GOES_ON[pattern])
        return
    code, told = await _run(script, where)
    wanted = next((code for part, code in ENDS_WITH.items() if part in statement), 0)
    assert code == wanted, f"{statement}\n{told}"


def run_here(statement: str) -> bool:
    """Whether a statement is to be run by this test."""
    return first_match(ELSEWHERE | BY_HAND, statement) is None


PASTED = [name for name, text in PRINTED.items() if any(run_here(each) for each in statements(text))]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PASTED)
async def test_what_is_printed_can_be_pasted(name: str, tmp_path: Path) -> None:
    """A page from its top to its end, in one folder; variables that it sets hold for what follows."""
    async with demo(tmp_path) as running:
        before = "set -o pipefail"
        for statement in filter(run_here, statements(PRINTED[name])):
            if re.match(r"[A-Z]+=", statement):
                before += f"\n{running.localised(statement)}"
            else:
                await paste(statement, before, running)


@pytest.mark.timeout(400)
async def test_the_calls_of_the_pieces_api(tmp_path: Path) -> None:
    """Each line of grpcurl in the table, with the variables that the page sets; the asset is found anew each time."""
    text = PRINTED["docs/pieces.md"]
    set_up = [each for each in statements(text) if re.match(r"[A-Z]+=", each)]
    calls = [row[3].strip("`") for row in table("Operation", text)]
    assert len(calls) == 15
    async with demo(tmp_path) as running:
        before = "\n".join(["set -o pipefail", *map(running.localised, set_up)])
        for call in calls:
            await paste(call, before, running)


PROGRAMS = [(name, number) for name, text in PRINTED.items() for number, _ in enumerate(blocks("python", text))]


@pytest.mark.parametrize(("name", "number"), PROGRAMS)
async def test_a_printed_program_runs(name: str, number: int, tmp_path: Path) -> None:
    """Each Python program prints something about an asset of its source."""
    async with demo(tmp_path) as running:
        (tmp_path / "program.py").write_text(running.localised(blocks("python", PRINTED[name])[number]))
        await _until(f"{shlex.quote(sys.executable)} program.py", running, "tid:")


def test_what_is_not_run_here_is_held_elsewhere() -> None:
    """Each exception is of a command that is printed, and names a test that there is."""
    printed = [each for text in PRINTED.values() for each in statements(text)]
    for pattern in ELSEWHERE | BY_HAND:
        assert any(re.match(pattern, each) for each in printed), pattern
    for test in ELSEWHERE.values():
        file, _, function = test.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (ROOT / "tests" / file).read_text(), flags=re.MULTILINE), test
