"""One replica of a run: a server process, its own links to etcd, and a supervisor that starts it anew when it ends."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from faults.rig.evidence import read_points
from faults.rig.process import Server
from faults.rig.proxy import Proxy
from faults.rig.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from assetwatch_sandbox.etcd import Member

START_S = 60.0
"""Without etcd a start fails, and is tried again, as a supervisor does."""
AGAIN_S = 0.2


class Ended(NamedTuple):
    """A process ended by itself."""

    t: float
    replica: str
    code: int


class Replica:
    """server: its process. links: to each member of etcd. ended: whenever it ended though nobody had it ended."""

    def __init__(self, name: str, directory: Path, spans: Mapping[str, float], mutant: str = "") -> None:
        directory.mkdir()
        self.name = name
        self.links: list[Proxy] = []
        self.ended: list[Ended] = []
        self.server = Server({}, directory, spans=spans, mutant=mutant)
        self._keeping: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._ready = False

    async def link(self, members: Sequence[Member]) -> list[str]:
        """Make the links; return the endpoints that it is to be told."""
        for member in members:
            host, _, port = member.endpoint.rpartition("/")[2].partition(":")
            self.links.append(Proxy(host, int(port)))
            await self.links[-1].start()
        return [f"http://{link.address}" for link in self.links]

    async def start(self, settings: Mapping[str, Any] | None = None) -> None:
        """Start it, and keep it running; return once it takes calls."""
        if settings is not None:
            self.server.settings = dict(settings)
        await self._up()
        self._keeping = asyncio.create_task(self._keep())

    async def kill(self) -> int:
        """Kill -9, and leave it dead; return the exit code."""
        await self._let_go()
        return await self.server.kill()

    async def stop(self) -> int:
        """SIGTERM, and leave it ended; return the exit code."""
        await self._let_go()
        return await self.server.stop()

    async def close(self) -> None:
        """End it and its links."""
        await self.stop()
        for link in self.links:
            await link.stop()

    async def up(self) -> None:
        """Return once it takes calls, if it was started anew."""
        if not await until(lambda: self._ready, START_S):
            raise RuntimeError(f"{self.name} did not come back")

    def said(self, words: str) -> int:
        """Count how often it said something."""
        return self.server.stderr.read_text().count(words)

    def cut(self) -> None:
        """Hold everything between it and etcd."""
        for link in self.links:
            link.blackhole()

    def heal(self) -> None:
        """Let everything pass again."""
        for link in self.links:
            link.heal()

    @property
    def held_chunks(self) -> int:
        """What a cut has held up so far."""
        return sum(link.counts.held_chunks for link in self.links)

    def points(self) -> list[tuple[float, str]]:
        """Return the delay points that were passed while armed."""
        return read_points(self.server.journal)

    async def _let_go(self) -> None:
        """Have nobody start it anew."""
        if self._keeping is not None:
            async with self._beginning:  # a process that is being made is not given up half made
                self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def _keep(self) -> None:
        while True:
            code = await self.server.exited()
            self._ready = False
            self.ended.append(Ended(time.monotonic(), self.name, code))
            await asyncio.sleep(AGAIN_S)
            await self._up()

    async def _up(self) -> None:
        end = time.monotonic() + START_S
        while True:
            try:
                async with self._beginning:
                    await self.server.start()
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                self._ready = True
                return
