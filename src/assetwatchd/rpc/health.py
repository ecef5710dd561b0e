"""grpc.health.v1: the process, its services, and each source by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

    from assetwatchd.model import Condition

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("", "assetwatch.v1.AssetStatusService", "assetwatch.v1.SourceService")


def source_name(source: str) -> str:
    """The name under which a source's health is asked for."""
    return f"assetwatch.v1.AssetStatusService/{source}"


class Health(aio.HealthServicer):
    """NOT_SERVING until told otherwise. The process serves though sources may not: a liveness probe asks for ""."""

    def __init__(self) -> None:
        super().__init__()
        self._listed: dict[str, Any] = {}

    async def prepare(self, sources: Iterable[str]) -> None:
        """Know every name, none of them serving yet."""
        for name in (*SERVICES, *(source_name(source) for source in sources)):
            await self.set(name, NOT_SERVING)

    async def serving(self) -> None:
        """The process takes calls."""
        for name in SERVICES:
            await self.set(name, SERVING)

    async def tell(self, source: str, condition: Condition) -> None:
        """A source serves while what it says can be had."""
        await self.set(source_name(source), SERVING if condition.readable else NOT_SERVING)

    async def set(self, service: str, status: Any) -> None:
        """Set what is answered for a name, and told to those who watch it."""
        self._listed[service] = status
        await super().set(service, status)

    async def List(self, _request: Any, _context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802 - the RPC
        """Every name and its status."""
        messages: Any = health_pb2  # its published types lack the messages of List
        statuses = {name: messages.HealthCheckResponse(status=status) for name, status in self._listed.items()}
        return messages.HealthListResponse(statuses=statuses)
