"""A server in a process of its own over the sandbox: what it logs and how much memory it takes can be looked at."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assetwatch_sandbox import Sandbox
from assetwatchd.model.values import AssetKey
from support.command_line import COMMAND, environment
from support.rig import QUICK, SAMPLES, SERVER, SOURCES, of_standin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASSETS_MAX = 300
"""Of each source: names that are made up fill it in the first seconds, and memory is flat from then on."""
START_S = 30
STOP_S = 20
READY = re.compile(r"assetwatch is ready on (\S+)\n")


class Served(NamedTuple):
    """A running server. keys: assets that its sources hold, do not hold, and cannot hold."""

    address: str
    pid: int
    log: Path
    keys: list[AssetKey]

    def rss_mib(self) -> float:
        """How much memory the process has."""
        told = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", told)[0]) / 1024


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    """Run both. The server must end well when it is told to."""
    sandbox = Sandbox(SOURCES)
    sandbox.seed(1, 20)
    for name, standin in sandbox.standins.items():
        standin.put(SAMPLES[name].asset_id, SAMPLES[name].native)
    await sandbox.start()
    held = [AssetKey(name, asset_id) for name, standin in sandbox.standins.items() for asset_id in standin.asset_ids()]
    others = [
        AssetKey(name, text) for name, sample in SAMPLES.items() for text in (sample.unknown, sample.wrong) if text
    ]
    try:
        sources = {
            name: {**of_standin(standin), **QUICK, "assets_max": ASSETS_MAX}
            for name, standin in sandbox.standins.items()
        }
        config = folder / "assetwatch.json"
        config.write_text(json.dumps({"server": dict(SERVER), "store": {"kind": "memory"}, "sources": sources}))
        async with _process(config, folder / "log") as (address, pid):
            yield Served(address, pid, folder / "log", held + others)
    finally:
        await sandbox.stop()


@asynccontextmanager
async def _process(config: Path, log: Path) -> AsyncIterator[tuple[str, int]]:
    with log.open("wb") as errors:
        running = await asyncio.create_subprocess_exec(
            *COMMAND, "serve", "-c", str(config), stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment()
        )
    assert running.stdout is not None
    try:
        said = READY.fullmatch((await asyncio.wait_for(running.stdout.readline(), START_S)).decode())
        assert said, f"it did not begin to serve; see {log}"
        yield said[1], running.pid
        running.terminate()
        assert await asyncio.wait_for(running.wait(), STOP_S) == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
