from __future__ import annotations

import grpc
import pytest
from assetwatch.v1.source_service_pb2 import ListSourcesRequest
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub

from assetwatch_client import connect
from support.fake_service import serving


async def test_options_take_the_place_of_ours() -> None:
    """What a caller says of the channel holds, and without it an answer may be as large as gRPC allows."""
    async with serving() as fake:
        async with connect(fake.address, options=[("grpc.max_receive_message_length", 1)]) as narrow:
            with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
                await SourceServiceStub(narrow).ListSources(ListSourcesRequest(), timeout=10)
        async with connect(fake.address) as usual:
            assert (await SourceServiceStub(usual).ListSources(ListSourcesRequest(), timeout=10)).sources
