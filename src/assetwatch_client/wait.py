"""A wait that survives breaks: asked again for what is left of its time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import WaitAssetStatusRequest
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatch_client.actions import Action, action_for, retry_delay_s
from assetwatch_client.servers import servers_of
from assetwatch_client.unexplained import Refusals
from assetwatch_client.watch import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatch.v1.asset_status_service_pb2 import WaitAssetStatusResponse

    from assetwatch_client.servers import Servers

GRACE_S = 2.0
"""What connecting may take in any case, and an answer after the end of the wait: it has to travel, too."""


async def wait(
    channel: grpc.aio.Channel | Servers,
    source: str,
    asset_id: str,
    *,
    timeout_s: float,
    states: Iterable[int] = (),
    stop_when_settled: bool = False,
    view: int = 0,
    patient: bool = True,
    backoff: Backoff | None = None,
    on_break: Callable[[grpc.aio.AioRpcError], None] | None = None,
) -> WaitAssetStatusResponse:
    """Wait until an asset is in one of the states, or settled when none is given; at most timeout_s, whatever happens.

    That is the time for all calls, the pauses between them, and until the server can be reached. Only an answer under
    way may come up to GRACE_S later, and connecting may take as long where timeout_s is shorter: 0 looks once.

    Args:
        channel: best made by `connect`; where there are several servers over one store, by `connect_any`.
        source: of the asset.
        asset_id: as its source names it.
        timeout_s: then the answer says that the condition is not met.
        states: as numbers of assetwatch.v1.AssetState.
        stop_when_settled: of states: end, unmet, when the asset settles in another; the answer is settled_otherwise.
        view: how much of the status is told, as a number of assetwatch.v1.AssetStatusView; 0 is all of it.
        patient: go on where a server that cannot be reached, or breaks off, may be there again. False: raise that, once
            it is so with each.
        backoff: pauses between calls.
        on_break: is told of each call that broke and is made again.

    Raises: AioRpcError when the call is wrong in a way that does not pass, or broke with no time left to pause;
    Unexplained, a kind of it, when it is refused again and again without a reason.
    """
    loop, servers, backoff = asyncio.get_running_loop(), servers_of(channel), backoff or Backoff()
    begun, refusals = loop.time(), Refusals()
    end = begun + timeout_s
    request = WaitAssetStatusRequest(
        asset=AssetRef(source=source, asset_id=asset_id),
        states=states,  # type: ignore[arg-type]  # the numbers of the enum
        stop_when_settled=stop_when_settled,
        view=view,  # type: ignore[arg-type]  # same
    )
    request.until_settled = not request.states
    while True:
        there = not patient or await _ready(servers, until=max(end, begun + GRACE_S))
        stub = AssetStatusServiceStub(servers.channel)
        left_s = max(0.0, end - loop.time())
        request.timeout.FromMilliseconds(round(left_s * 1000))
        try:
            return await stub.WaitAssetStatus(request, timeout=left_s + GRACE_S * there, wait_for_ready=patient)
        except grpc.aio.AioRpcError as error:
            refusals.add(error)
            pause_s = backoff.pause_s(retry_delay_s(error) or 0.0)
            waits = servers.leave() or patient
            if not waits or action_for(error) is not Action.RESUME or pause_s > end - loop.time():
                raise
            (on_break or (lambda _: None))(error)
        await asyncio.sleep(pause_s)


async def _ready(servers: Servers, *, until: float) -> bool:
    """Wait for a connection; say whether there is one by then. What the server is told to wait is counted from here."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await servers.ready()
            return True
    return False
