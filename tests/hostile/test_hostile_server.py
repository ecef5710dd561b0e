"""A server over a hostile upstream and one that is well: what is large is read elsewhere, and others are answered."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pieces_pb
from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceStub

from assetwatchd.rpc.pieces import convert
from assetwatchd.upstream.bodies import xml
from assetwatchd.upstream.bodies.reading import INLINE_BYTES_MAX
from support.hostile import JSON, SHAPES, UUID
from support.reader import PATIENCE_S
from support.rig import SAMPLES, SOURCES, running, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.rig import Rig

BYTES = 100_000
CALLS = 2
"""How often an answer of one shape is asked for; the first has been read when there is another."""
READS = 5
EVERY = {"timeout_s": 20}


@contextmanager
def parsed() -> Iterator[list[int]]:
    """Note the length of every document that is parsed in this process."""
    lengths: list[int] = []
    loads, parse = json.loads, xml.parse

    def noted_json(text: str | bytes, **how: Any) -> Any:
        lengths.append(len(text))
        return loads(text, **how)

    def noted_xml(body: bytes, content_type: str = "") -> Any:
        lengths.append(len(body))
        return parse(body, content_type)

    with patch.object(json, "loads", noted_json), patch.object(xml, "parse", noted_xml):
        yield lengths


@pytest.mark.parametrize("source", SOURCES)
async def test_large_answers_are_read_elsewhere(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """No more than INLINE_BYTES_MAX of an answer is parsed here, whatever it is; the other source's assets are told."""
    other = "usd-search" if source != "usd-search" else "omn"
    async with running((source, other), count=1, every=EVERY) as rig:
        await rig.get(sample(source))
        known = await rig.get(sample(other))
        for shape in SHAPES:
            if shape.kind == source.replace("-", "_") and shape.name != "UTF-16":  # faults are told as text
                rig[source].faults.clear()
                body = shape.make(BYTES).decode()
                told = {"status": shape.status, "body": body, "content_type": shape.content_type}
                rig[source].faults.add(path=SAMPLES[source].observe, **told)
                with parsed() as lengths:
                    for _ in range(CALLS):
                        await asked(rig, source)
                    for _ in range(READS):
                        assert (await rig.get(sample(other))).revision >= known.revision
                assert max(lengths, default=0) <= INLINE_BYTES_MAX, str(shape)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


CALLS_OF_PIECES: dict[str, tuple[Any, dict[str, object]]] = {
    "GetAsset": (pieces_pb.GetAssetRequest, {"asset_id": UUID}),
    "ListAssets": (pieces_pb.ListAssetsRequest, {}),
    "ListAssetIdentifiers": (pieces_pb.ListAssetIdentifiersRequest, {}),
    "ListAssetFormats": (pieces_pb.ListAssetFormatsRequest, {"asset_id": UUID}),
    "SearchAssets": (pieces_pb.SearchAssetsRequest, {"query": "a"}),
}


@pytest.mark.parametrize("call", CALLS_OF_PIECES)
async def test_large_answers_of_pieces_are_made_elsewhere(call: str) -> None:
    """The calls of its assets API parse no more here either, and answer, or say that they cannot."""
    request, arguments = CALLS_OF_PIECES[call]
    async with running(("pieces",), count=1, every=EVERY) as rig:
        await rig.get(sample("pieces"))
        ask = getattr(PiecesAssetsServiceStub(rig.channel), call)
        for shape in SHAPES:
            if shape.kind == "pieces":
                rig["pieces"].faults.clear()
                rig["pieces"].faults.add(path=r"/assets(?!/stream)", body=shape.make(BYTES).decode(), content_type=JSON)
                with parsed() as lengths, patch.object(convert, "message", side_effect=AssertionError("made here")):
                    response = await ask(request(source="pieces", **arguments), timeout=PATIENCE_S)
                assert response.ByteSize() > 0
                assert max(lengths, default=0) <= INLINE_BYTES_MAX, str(shape)


async def asked(rig: Rig, source: str) -> None:
    """Wait until the sample is asked for once more."""
    requests, observe = rig[source].requests, SAMPLES[source].observe
    before = requests.count(observe)
    if source == "pieces":
        rig.vary(source)  # it is asked for what was told to have changed
    while requests.count(observe) == before:  # noqa: ASYNC110 - the stand-in tells nobody
        await asyncio.sleep(0.01)
