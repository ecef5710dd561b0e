"""A wait that goes on: asked again over breaks, for what is left of its time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import WaitAssetStatusRequest
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatch_client.actions import Action, action_for, retry_delay_s
from assetwatch_client.unexplained import Refusals
from assetwatch_client.watch import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from assetwatch.v1.asset_status_service_pb2 import WaitAssetStatusResponse

GRACE_S = 10.0
"""The deadline of a call comes this long after the end of the wait."""


async def wait(
    channel: grpc.aio.Channel,
    source: str,
    asset_id: str,
    *,
    timeout_s: float,
    states: Iterable[int] = (),
    patient: bool = True,
    backoff: Backoff | None = None,
    on_break: Callable[[grpc.aio.AioRpcError], None] | None = None,
) -> WaitAssetStatusResponse:
    """Wait until an asset is in one of the states, or settled when none is given; at most timeout_s, over all breaks.

    Args:
        channel: best made by `connect`.
        source: of the asset.
        asset_id: as its source names it.
        timeout_s: then the answer says that the condition is not met.
        states: as numbers of assetwatch.v1.State.
        patient: go on where a server that cannot be reached, or breaks off, may be there again. False: raise that.
        backoff: pauses between calls.
        on_break: is told of each call that broke and is made again.

    Raises: AioRpcError when the call is wrong in a way that does not pass, or broke with no time left to pause;
    Unexplained, a kind of it, when it is refused again and again without a reason.
    """
    loop, stub, backoff = asyncio.get_running_loop(), AssetStatusServiceStub(channel), backoff or Backoff()
    end = loop.time() + timeout_s
    request = WaitAssetStatusRequest(
        asset=AssetRef(source=source, asset_id=asset_id),
        states=states,  # type: ignore[arg-type]  # the numbers of the enum
    )
    request.until_settled = not request.states
    left_s, refusals = timeout_s, Refusals()
    while True:
        request.timeout.FromMilliseconds(round(left_s * 1000))
        try:
            return await stub.WaitAssetStatus(request, timeout=left_s + GRACE_S, wait_for_ready=patient)
        except grpc.aio.AioRpcError as error:
            refusals.add(error)
            pause_s = backoff.pause_s(retry_delay_s(error) or 0.0)
            if not patient or action_for(error) is not Action.RESUME or pause_s > end - loop.time():
                raise
            (on_break or (lambda _: None))(error)
        await asyncio.sleep(pause_s)
        left_s = max(0.0, end - loop.time())
