"""A stand-in whose answers point elsewhere, and who is there: nobody may ever come."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from assetwatch_sandbox.faults import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from assetwatch_sandbox.standin import Standin

STATUSES = (301, 302, 303, 307, 308)
LANDED = "/landed"


class Trap:
    """A port that counts who connects. ports: every spelling of it that an answer may use as its Location."""

    def __init__(self, port: int) -> None:
        self.visitors: list[object] = []
        self.locations = (
            f"http://127.0.0.1:{port}{LANDED}",
            f"ws://127.0.0.1:{port}{LANDED}",
            f"//127.0.0.1:{port}{LANDED}",
            LANDED,
        )

    async def visited(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a visitor."""
        self.visitors.append(writer.get_extra_info("peername"))
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    """Listen on a free port of loopback."""
    target: Trap | None = None

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if target is not None:
            await target.visited(reader, writer)

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with server:
        target = Trap(server.sockets[0].getsockname()[1])
        yield target


class Redirecting:
    """Makes one request to a stand-in, the one after `passing` others, be answered with a redirect; later ones too.

    count: requests that came.
    """

    def __init__(self, standin: Standin[Any], *, passing: int, status: int, headers: Mapping[str, str]) -> None:
        self.count = 0
        self._passing = passing
        self._fault = Fault(status=status, headers=dict(headers))
        vars(standin.faults)["take"] = self._take  # no fault of the stand-in waits for a number

    def _take(self, _method: str, _path_qs: str, on: str = "request") -> Fault | None:
        if on != "request":
            return None
        self.count += 1
        return self._fault if self.count > self._passing else None
