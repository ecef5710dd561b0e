"""The demo: sandbox, server and a watch of it in one process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from assetwatchd.app import serve
from assetwatchd.cli.hints import fitting, to_prepare, to_try
from assetwatchd.cli.sandboxed import live, sources_of, started
from assetwatchd.cli.terminal import safe, tell
from assetwatchd.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox import Sandbox
    from assetwatch_sandbox.standin import AnyStandin
    from assetwatchd.cli.screen import Hints

DRAIN_S = 1.0
"""Ctrl-C ends the demo in less than two seconds, whoever watches."""


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
    # The watch, then the server that it calls, while the stand-ins still listen: none reports another one as lost.
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _tell(sandbox: Sandbox, listening: str, *, table: bool) -> None:
    if not table:
        tell(safe(f"assetwatch is ready on {listening}"))
        await asyncio.Event().wait()
    commands = [*to_prepare(listening), *to_try(sandbox.standins, listening, sandbox.control_url)]
    said = [
        f"assetwatch is ready on {listening}",
        f"The sandbox is scripted at {sandbox.control_url}. Try, in another terminal:",
    ]

    def hints(width: int, room: int) -> list[str]:
        return [*said, *fitting(commands, width, room - len(said) - 1), ""]

    await _watch(listening, list(sandbox.standins), hints)


async def _watch(listening: str, sources: list[str], hints: Hints) -> None:
    from assetwatch_client import connect  # noqa: PLC0415 - only with a table
    from assetwatchd.cli.live import Interest, show_while_served  # noqa: PLC0415 - same

    async with connect(listening) as channel:
        await show_while_served(channel, Interest(sources), hints)
    await asyncio.Event().wait()  # the server is about to end by itself


def settings_for(standins: Mapping[str, AnyStandin], *, listen: str, log_level: str = "warning") -> Settings:
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
