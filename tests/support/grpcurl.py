"""grpcurl and buf curl as people run them: processes of their own that know the server by reflection alone."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BIN = Path(sys.executable).parent
STATUS_SERVICE = "assetwatch.v1.AssetStatusService"
SOURCE_SERVICE = "assetwatch.v1.SourceService"
PATIENCE_S = 30.0
READ_LIMIT = 8 * 1024 * 1024


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """Return the JSON documents it printed."""
        return documents_of(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """Return the status it was answered with, as JSON; asserts that there was one."""
        assert self.code != 0, self.out
        status: dict[str, Any] = json.loads(self.err[self.err.index("{") :])
        return status

    def detail(self, name: str) -> dict[str, Any]:
        """Return the google.rpc detail of that name in the status; asserts that it is there once."""
        (found,) = [d for d in self.error.get("details", []) if d["@type"].endswith(f"/google.rpc.{name}")]
        return dict(found)


def documents_of(text: str) -> list[Any]:
    """Split concatenated JSON documents; an unfinished last one is left out."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        try:
            document, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            break
        found.append(document)
        text = text[end:]
    return found


async def run(tool: str, *arguments: str) -> Ran:
    """Run a tool of this environment to its end."""
    process = await _start(tool, *arguments)
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    finally:
        await _end(process)
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def call(address: str, method: str, request: object = None, *options: str) -> Ran:
    """Make one call with grpcurl; errors come as JSON."""
    data = ["-d", json.dumps(request)] if request is not None else []
    return await run("grpcurl", "-plaintext", "-format-error", *options, *data, address, method)


async def describe(address: str, verb: str, *names: str) -> str:
    """Run grpcurl's list or describe, which must succeed."""
    ran = await run("grpcurl", "-plaintext", address, verb, *names)
    assert ran.code == 0, ran.err
    return ran.out


class Following:
    """A streaming call under way, read as it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    @property
    def documents(self) -> list[Any]:
        """Return what it has printed so far."""
        return documents_of(self.text)

    async def until(self, wanted: Callable[[list[Any]], object]) -> list[Any]:
        """Read on until what it has printed is as wanted."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(documents := self.documents):
                chunk = await self.process.stdout.read(READ_LIMIT)
                assert chunk, f"it ended: {await self._error()}"
                self.text += chunk.decode()
        return documents

    async def ended(self) -> Ran:
        """Wait for its end, and return all of it."""
        async with asyncio.timeout(PATIENCE_S):
            out, err = await self.process.communicate()
        return Ran(self.process.returncode or 0, self.text + out.decode(), err.decode())

    async def _error(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def following(address: str, method: str, request: object, *options: str) -> AsyncIterator[Following]:
    """Make a streaming call with grpcurl; it is ended with the block."""
    data = json.dumps(request)
    process = await _start("grpcurl", "-plaintext", "-format-error", *options, "-d", data, address, method)
    try:
        yield Following(process)
    finally:
        await _end(process)


async def _start(tool: str, *arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(str(BIN / tool), *arguments, stdout=pipe, stderr=pipe)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.communicate()
