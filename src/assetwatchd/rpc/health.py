"""grpc.health.v1: the process, its services, and each source by name.

Our own servicer: the library's holds a lock while it writes to a watcher, so one that reads nothing would stop the news
for all others, and its List is not served.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assetwatchd.rpc import names
from assetwatchd.rpc.status import ErrorsAsStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    from assetwatchd.model.errors import CallError
    from assetwatchd.model.values import Condition
    from assetwatchd.rpc.signatures import Context

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
ALIVE = names.HEALTH.full_name
"""Serves as long as calls are answered at all: what a liveness probe asks for, as no new start helps who is cut off."""
SERVICES = ("", ALIVE, *(service.full_name for service in names.SERVICES))


class Health(health_pb2_grpc.HealthServicer):
    """NOT_SERVING until told otherwise. The process serves though sources may not."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = dict.fromkeys(SERVICES, NOT_SERVING)
        self._changed = asyncio.Event()
        self._ending: Callable[[], CallError] | None = None

    def serving(self) -> None:
        """Note that the process takes calls."""
        self._set(dict.fromkeys(SERVICES, SERVING))

    def cut_off(self, cut_off: bool) -> None:  # noqa: FBT001 - told as it is
        """Note that the process serves what it knew alone, so that new clients go elsewhere, or that it is back."""
        self._set({name: NOT_SERVING if cut_off and name != ALIVE else SERVING for name in SERVICES})

    def tell(self, source: str, condition: Condition) -> None:
        """Note the condition of a source, which serves while it can be read."""
        self._set({names.source_health(source): SERVING if condition.readable else NOT_SERVING})

    def end(self, why: Callable[[], CallError]) -> None:
        """Tell all watchers that nothing serves any more, and end each with an error of its own."""
        self._ending = why
        self._set(self._statuses)

    def _set(self, statuses: Mapping[str, int]) -> None:
        self._statuses |= dict.fromkeys(statuses, NOT_SERVING) if self._ending else statuses
        # A new event for each change, and none is ever cleared: a watcher that is late to wait finds its own event set,
        # and cannot miss a change.
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802 - the RPC
        """Answer with one name's status; NOT_FOUND for a name that is not known, as the protocol says."""
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service or source")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:  # noqa: N802 - the RPC
        """Stream one name's status and its changes until the process ends; write encoded messages."""
        async with ErrorsAsStatus(context):
            told = None
            while True:
                # The event before the write: a change during that sets it, so that the wait below returns at once.
                changed, status = self._changed, self._statuses.get(request.service, SERVICE_UNKNOWN)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                    told = status
                if self._ending is not None:
                    raise self._ending()
                await changed.wait()

    async def List(self, request: object, context: Context) -> object:  # noqa: ARG002, N802 - the RPC
        """Answer with every name and its status."""
        messages: Any = health_pb2  # its published types lack the messages of List
        statuses = {name: messages.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return messages.HealthListResponse(statuses=statuses)
