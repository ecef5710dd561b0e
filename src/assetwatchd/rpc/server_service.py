"""The servicer that tells about this server itself: which one it is, and what it takes."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from assetwatch.v1 import server_service_pb2 as pb
from assetwatch.v1 import server_service_pb2_grpc as grpc_pb

from assetwatchd.rpc import convert
from assetwatchd.rpc.receiving import METADATA_BYTES_MAX
from assetwatchd.rpc.status import ErrorsAsStatus

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.rpc.signatures import Context
    from assetwatchd.settings.schema import ServerSettings


class ServerService(grpc_pb.ServerServiceServicer):
    """Made when the server is about to serve; asks nobody."""

    def __init__(self, store: Store, limits: ServerSettings, replica: str) -> None:
        """replica: the name of this one."""
        self._store = store
        self._facts = pb.ServerInfo(
            version=version("assetwatch"),
            replica=replica,
            epoch=store.epoch,
            start_time=convert.timestamp(time.time()),
            limits=pb.ServerLimits(
                message_bytes_max=limits.message_bytes_max,
                metadata_bytes_max=METADATA_BYTES_MAX,
                streams_per_caller_max=limits.streams_per_peer_max,
                names_per_caller_max=limits.names_per_peer_max,
                stream_age=convert.duration(limits.stream_age_s),
            ),
        )

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Answer with what was known at the start, and the head as of now."""
        async with ErrorsAsStatus(context):
            answer = pb.GetServerInfoResponse(server=self._facts)
            answer.server.head_revision = self._store.head
            return answer
