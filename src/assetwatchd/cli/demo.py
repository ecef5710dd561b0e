"""The demo: sandbox, server and a watch of it in one process."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assetwatchd.app import serve
from assetwatchd.cli.sandboxed import live, sources_of, started
from assetwatchd.cli.terminal import safe, tell
from assetwatchd.config import Settings
from assetwatchd.rpc.names import ASSET_STATUS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatchd.sandbox import Sandbox
    from assetwatchd.sandbox.standin import Standin

DRAIN_S = 1.0
"""Ctrl-C ends the demo in less than two seconds, whoever watches."""
ROWS_MAX = 12
"""Leaves the commands to try on the screen."""
GRPCURL = "https://github.com/fullstorydev/grpcurl"
STATUS_SERVICE = ASSET_STATUS.full_name


async def run_demo(*, listen: str, table: bool, control_port: int, seed: int, speed: float, assets: int) -> None:
    """Serve what the sandbox holds until cancelled or told to stop; table: say what to try, and show what changes."""
    async with started(host="127.0.0.1", control_port=control_port, seed=seed, assets=assets) as sandbox:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        settings = settings_for(sandbox.standins, listen=listen, log_level="error" if table else "warning")
        server = asyncio.create_task(serve(settings, on_ready=ready.set_result))
        tasks = [server, asyncio.create_task(live(sandbox, seed=seed, speed=speed))]
        try:
            first: list[asyncio.Future[Any]] = [server, ready]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                tasks.append(asyncio.create_task(_tell(sandbox, ready.result(), table=table)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(tasks)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what still runs, the youngest first; raise what any of them failed with."""
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _tell(sandbox: Sandbox, listening: str, *, table: bool) -> None:
    tell(safe(f"assetwatch is ready on {listening}"))
    if not table:
        await asyncio.Event().wait()
    tell(safe(f"The sandbox is scripted at {sandbox.control_url}. Try, in another terminal:"))
    tell(safe(""))
    for line in (*to_prepare(), *to_try(sandbox.standins, listening)):
        tell(safe(f"  {line}"))
    tell(safe(""))
    await _watch(listening, list(sandbox.standins))


async def _watch(listening: str, sources: list[str]) -> None:
    from assetwatch_client import connect  # noqa: PLC0415 - only with a table
    from assetwatchd.cli.live import Interest, show_while_served  # noqa: PLC0415 - same

    async with connect(listening) as channel:
        await show_while_served(channel, Interest(sources), rows_max=ROWS_MAX)
    await asyncio.Event().wait()  # the server is about to end by itself


def settings_for(standins: Mapping[str, Standin[Any]], *, listen: str, log_level: str = "warning") -> Settings:
    """Return settings that point at stand-ins, under their names and with their credentials."""
    server = {"listen": listen, "drain_s": DRAIN_S}
    return Settings.model_validate(
        {
            "server": server,
            "store": {"kind": "memory"},
            "telemetry": {"log_level": log_level},
            "sources": sources_of(standins),
        }
    )


def to_prepare() -> list[str]:
    """Return what another terminal needs first: the programs of this environment on its PATH, and grpcurl.

    Make puts them on PATH for what it starts alone, so under it they are not on that of another terminal.
    """
    programs, path = str(Path(sys.executable).parent), os.get_exec_path()
    by_make = bool(os.environ.get("MAKELEVEL"))
    lines = [f"PATH={shlex.quote(programs)}:$PATH"] if by_make or programs not in path else []
    if shutil.which("grpcurl", path=os.pathsep.join([programs, *path])) is None:
        here = f"make -C {shlex.quote(str(Path.cwd()))} grpcurl   # or any other grpcurl"
        lines.append(here if by_make else f"# needs grpcurl: {GRPCURL}")
    return lines


def to_try(standins: Mapping[str, Standin[Any]], listening: str) -> list[str]:
    """Return commands that work while the demo runs."""
    call = f"grpcurl -plaintext {listening}"
    ask = f"{STATUS_SERVICE}/GetAssetStatus"
    everything = json.dumps({"sources": list(standins)})
    first = {name: next(iter(standin.asset_ids()), "") for name, standin in standins.items()}
    wanted = {name: {"asset": {"source": name, "asset_id": asset_id}} for name, asset_id in first.items() if asset_id}
    return [
        f"{call} list",
        *(f"grpcurl -plaintext -d '{json.dumps(request)}' {listening} {ask}" for request in wanted.values()),
        f"grpcurl -plaintext -d '{json.dumps({'page_size': 5})}' {listening} {STATUS_SERVICE}/ListAssetStatuses",
        f"grpcurl -plaintext -d '{everything}' {listening} {STATUS_SERVICE}/WatchStatus",
        f"assetwatch sources --server {listening}",
    ]
