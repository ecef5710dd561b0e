"""The changes of the three streams as bytes: both forms, and messages of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT

from assetwatchd.pieces.client.frames import Item, Omitted
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.rpc.pieces.streams import StreamFraming, encoder

if TYPE_CHECKING:
    from google.protobuf.message import Message

pytestmark = pytest.mark.unit

RESPONSES: dict[Stream, type[Message]] = {
    Stream.ASSETS: pb.StreamAssetsResponse,
    Stream.IDENTIFIERS: pb.StreamAssetIdentifiersResponse,
    Stream.TRANSFERABLES: pb.StreamAssetTransferablesResponse,
}


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("omitted", [None, Omitted("server.message_bytes_max", 7)])
def test_both_forms_of_a_change_are_of_the_same_asset(stream: Stream, omitted: Omitted | None) -> None:
    """UPSERT and REMOVED, joined to one message, differ in their kind alone."""
    item = Item("one", gone=False, updated=None, document={"id": "one"}, omitted=omitted)
    upsert, framing = encoder(10_000)(stream, item), StreamFraming()
    message = framing.message([upsert, framing.removal(upsert)], revision=2, head=3, digest=b"")
    put, removed = RESPONSES[stream].FromString(message).changes  # type: ignore[attr-defined]  # all three have them
    assert (put.kind, removed.kind) == (CHANGE_KIND_UPSERT, CHANGE_KIND_REMOVED)
    removed.kind = put.kind
    assert put == removed
    assert put.asset_id == "one"
