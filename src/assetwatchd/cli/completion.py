"""Completion of words in the shell: offers the sources of the server that the line would call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer  # noqa: TC002 - typer looks at what a completion takes

if TYPE_CHECKING:
    from assetwatchd.cli.target import Target

PIECES = 3
"""SOURCE_KIND_PIECES of the schema, which is not loaded for help."""
ASKING_S = 1.0
"""Whoever presses Tab waits no longer; without an answer nothing is offered."""


def sources_like(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of sources that begin so."""
    return [name for name, _ in _sources(ctx.params) if name.startswith(incomplete)]


def pieces_like(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of sources that begin so and are a Pieces OS."""
    return [name for name, kind in _sources(ctx.params) if kind == PIECES and name.startswith(incomplete)]


def _sources(given: dict[str, object]) -> list[tuple[str, int]]:
    """Return the name and the kind of each source."""
    from assetwatchd.cli.target import silence_grpc, target_of  # noqa: PLC0415 - its options are completed by this

    silence_grpc()  # before gRPC is imported, which is when it reads that: its lines would stand in the user's prompt
    import asyncio  # noqa: PLC0415 - help does not pay for it

    try:
        return asyncio.run(_ask(target_of(given)))
    except Exception:  # noqa: BLE001 - a shell that completes has no place for errors
        return []


async def _ask(target: Target) -> list[tuple[str, int]]:
    import asyncio  # noqa: PLC0415 - same

    from assetwatch.v1.source_service_pb2 import ListSourcesRequest  # noqa: PLC0415 - only asking pays for it

    from assetwatchd.cli.client import connect  # noqa: PLC0415 - same

    async with asyncio.timeout(ASKING_S), connect(target) as client:
        answer = await client.sources.ListSources(ListSourcesRequest(), timeout=ASKING_S)
        return [(source.name, source.kind) for source in answer.sources]
