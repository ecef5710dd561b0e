"""What a client may fill in and JSON cannot say: the call is refused as bad input, and the upstream is not asked."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.pieces.v1 import asset_pb2, search_pb2, seed_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.pieces.client import api, body
from assetwatchd.pieces.client.api import GIVEN_BYTES_MAX
from assetwatchd.rpc.pieces import convert, service
from support.pieces_rig import APPLICATION, pieces_rig
from support.problems import problem_of
from support.scripted_watch import until

DRAFT = "/assets/draft"

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from assetwatchd.pieces.client.body import Body

UNSAYABLE = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    '[1, {"a": NaN}]',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '{"\\ud800": 1}',
    "9" * 5000,
    "[" * 20_000,
    "[" * 5000 + "]" * 5000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    "{",
    "nul",
    "'a'",
    "1 2",
    "\ufeff1",
    "\x00",
    "[1,]",
]
"""Of extra_json: no JSON, or JSON that could not be sent on."""


def calls(text: str) -> dict[str, tuple[str, Message]]:
    """Return a request of each call that takes a document, by its RPC, with a text as extra_json somewhere deep."""
    extra = {"x": text}
    tag = seed_pb2.SeededAssetTag(text="a", extra_json=extra)
    seed = seed_pb2.Seed(asset=seed_pb2.SeededAsset(metadata=seed_pb2.SeededAssetMetadata(tags=[tag])))
    formats = asset_pb2.Formats(iterable=[asset_pb2.Format(extra_json=extra)])
    assets = asset_pb2.Assets(iterable=[asset_pb2.Asset(id="a", formats=formats)])
    interactions = search_pb2.InteractedAssets()
    recommendation = search_pb2.SeededAssetsRecommendation(assets=assets, interactions=interactions)
    return {
        "CreateAsset": ("seed", seed),
        "DraftAsset": ("seed", seed),
        "SearchAssetsWithFilters": ("input", search_pb2.AssetsSearchWithFiltersInput(extra_json=extra)),
        "ListRelatedAssets": ("assets", assets),
        "RecommendAssets": ("recommendation", recommendation),
    }


async def test_what_json_cannot_say_is_bad_input(caplog: pytest.LogCaptureFixture) -> None:
    """INVALID_ARGUMENT under the field of the document, for every call and every such text; nothing is logged."""
    async with pieces_rig() as rig:
        rig.standin.requests.clear()
        with caplog.at_level(logging.ERROR):
            for text in UNSAYABLE:
                for rpc, (field, value) in calls(text).items():
                    told = await problem_of(rig.call(rpc, **{field: value}))
                    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), text[:20]
                    assert list(told.violations) == [field]
        assert [logged for logged in rig.standin.requests.all() if logged.path_qs.startswith("/assets")] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_bytes_that_others_wait_for_are_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long list never more than a part is written in one go."""
    written: list[int] = []
    write = body._write

    def noting(value: Any) -> bytes:
        written.append(len(value) if isinstance(value, list) else 1)
        return write(value)

    monkeypatch.setattr(body, "_write", noting)
    file = asset_pb2.Content(bytes=asset_pb2.TransferableBytes(raw=bytes(range(256)) * 100))
    seed = seed_pb2.Seed(asset=seed_pb2.SeededAsset(format=seed_pb2.SeededFormat(file=file)))
    encoded = body.encode(convert.document(seed))
    assert json.loads(encoded)["asset"]["format"]["file"]["bytes"]["raw"] == list(range(256)) * 100
    assert max(written) == body.TOGETHER
    assert sum(written) >= 25_600


@pytest.mark.parametrize("rpc", calls("1"))
async def test_what_is_large_is_written_beside(rpc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to GIVEN_BYTES_MAX here, anything larger in another process: the upstream is sent the same."""
    here: list[Any] = []
    sent: list[Any] = []
    pieces, joined = body.pieces, body.joined

    def noting(document: Any) -> list[bytes]:
        here.append(document)
        return pieces(document)

    async def joining(parts: list[bytes]) -> Body:
        sent.append(json.loads(b"".join(parts)))
        return await joined(parts)

    monkeypatch.setattr(convert, "pieces", noting)
    monkeypatch.setattr(api, "joined", joining)
    async with pieces_rig() as rig:
        rig.standin.faults.add(path="/assets", status=500, body="no", content_type="text/plain")
        for text, written_here in (('"small"', 1), (f'"{"x" * GIVEN_BYTES_MAX}"', 0), (f'["{"ä" * 30_000}"]', 0)):
            field, value = calls(text)[rpc]
            here.clear()
            await problem_of(rig.call(rpc, **{field: value}))
            assert sent.pop() == convert.document(value)
            assert len(here) == written_here


def seeded(form: seed_pb2.SeededFormat) -> seed_pb2.SeededAsset:
    """Make an asset to be, with what creates it."""
    return seed_pb2.SeededAsset(application=convert.message(asset_pb2.Application, APPLICATION), format=form)


async def test_a_large_body_arrives_whole() -> None:
    """Content of a megabyte is drafted and comes back as it was."""
    raw = bytes(range(256)) * 4096
    metadata = asset_pb2.ContentMetadata(ext="png")
    file = asset_pb2.Content(bytes=asset_pb2.TransferableBytes(raw=raw), metadata=metadata)
    seed = seed_pb2.Seed(type="SEEDED_ASSET", asset=seeded(seed_pb2.SeededFormat(file=file)))
    async with pieces_rig() as rig:
        assert (await rig.call("DraftAsset", seed=seed)).seed.asset.format.file.bytes.raw == raw


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(deadline=None)
@given(DOCUMENTS)
def test_a_body_is_what_the_library_would_write(document: Any) -> None:
    """To the byte."""
    assert body.encode(document) == json.dumps(document, ensure_ascii=False).encode()


@pytest.mark.parametrize("items", [[0] * 2500, [[]] * 2500, [*[0] * 999, [1], *[2] * 1500], [{}, *[0] * 1000]])
def test_so_is_one_that_is_longer_than_a_part(items: list[Any]) -> None:
    """Plain items, items that hold others, and both."""
    assert body.encode({"a": items}) == json.dumps({"a": items}).encode()


async def test_few_large_requests_are_under_way_at_the_same_time() -> None:
    """Of ten to one source two are with the upstream; small ones and those to others pass by."""
    fragment = asset_pb2.Content(string=asset_pb2.TransferableString(raw="x" * service.LARGE_BYTES))
    seed = seed_pb2.Seed(asset=seeded(seed_pb2.SeededFormat(fragment=fragment)))
    async with pieces_rig() as rig:
        rig.standin.faults.add(path=DRAFT, hang=True)
        large = [asyncio.create_task(rig.call("DraftAsset", seed=seed)) for _ in range(10)]
        await until(lambda: rig.standin.requests.count(DRAFT) == service.LARGE_TOGETHER)
        await rig.call("ListAssets")
        assert rig.standin.requests.count(DRAFT) == service.LARGE_TOGETHER
        for each in large:
            each.cancel()
        await asyncio.wait(large)
        rig.standin.faults.clear()
        await rig.call("DraftAsset", seed=seed)
