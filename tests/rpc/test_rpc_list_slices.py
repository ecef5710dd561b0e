"""Lists and batches of a large store: a part a turn of the loop, while what is listed goes on changing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_pb2 import ASSET_STATE_FAILED, AssetRef

from assetwatchd.app import App
from assetwatchd.changefeed.encoding import FORMED_BYTES_TOGETHER, form_of, weight
from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.pipeline import Pipeline, Sighting
from assetwatchd.model.bounds import TEXT_LENGTH_MAX
from assetwatchd.model.details import OmnDetail
from assetwatchd.model.values import Facet, Observation, State, View
from assetwatchd.rpc import convert
from assetwatchd.rpc.service import PAGE_SIZE_MAX, VIEWED_TOGETHER, AssetStatusService
from assetwatchd.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

OMN = {"kind": "omn", "base_url": "http://127.0.0.1:9", "auth": {"kind": "bearer", "token": "t"}}
WINDOWS = 5
"""The store holds so many times what is looked through in a turn."""
FAILED = Filter(frozenset(), frozenset(["omn"]), frozenset([State.FAILED]))


class Large:
    """A store with many assets, all AVAILABLE, and the service over it."""

    def __init__(self) -> None:
        self.app = App(Settings.model_validate({"store": {"kind": "memory"}, "sources": {"omn": OMN}}))
        self.road = Pipeline(self.app.store, self.app.hub, convert.ProtobufEncoder())
        watching: Any = None
        self.service = AssetStatusService(self.app.store, self.app.hub, self.app.sources, watching)

    async def put(self, numbers: Iterable[int], state: State) -> None:
        """Let assets be in a state."""
        seen = [Sighting(Observation(asset_id=f"tid:{number:X}", state=state), 1.0) for number in numbers]
        await self.road.ingest("omn", seen)


@pytest.fixture
async def large() -> Large:
    """WINDOWS turns of assets."""
    made = Large()
    await made.put(range(WINDOWS * PAGE_SIZE_MAX), State.AVAILABLE)
    return made


async def test_what_changes_while_a_list_is_made_is_on_it_once_and_as_it_is(large: Large) -> None:
    """Some failed before, some fail, change again or are mended meanwhile: none is missing, twice, or as it was."""
    await large.put([0, 1, 2], State.FAILED)
    listing = asyncio.create_task(large.service._page(FAILED, 0, PAGE_SIZE_MAX))
    for turn in range(WINDOWS + 1):
        await asyncio.sleep(0)
        await large.put([10 + turn], State.FAILED)
        await large.put([0], State.AVAILABLE if turn % 2 else State.FAILED)
        await large.put([1], State.FAILED if turn % 2 else State.PROCESSING)
    entries, more = await listing
    assert not more
    assert [entry.revision for entry in entries] == sorted(entry.revision for entry in entries)
    told = [entry.key.asset_id for entry in entries]
    assert len(set(told)) == len(told)
    held = {entry.key.asset_id: entry for entry in large.app.store.after(0, large.app.store.head, 10**6)}
    assert {asset_id for asset_id, entry in held.items() if entry.state is State.FAILED} == set(told)


def counted(calls: list[int], function: Callable[P, T]) -> Callable[P, T]:
    """Put an item on the list at each call."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        calls.append(1)
        return function(*args, **kwargs)

    return call


async def test_a_store_is_looked_through_a_part_a_turn(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that finds nothing looks at all of it, and others get their turn after each part."""
    looked: list[int] = []
    after = large.app.store.after
    monkeypatch.setattr(large.app.store, "after", counted(looked, after))
    listing, most = asyncio.create_task(large.service._page(FAILED, 0, PAGE_SIZE_MAX)), 0
    while not listing.done():
        before = len(looked)
        await asyncio.sleep(0)
        most = max(most, len(looked) - before)
    assert await listing == ([], False)
    assert len(looked) > WINDOWS
    assert most == 1


@pytest.mark.parametrize("method", ["ListAssetStatuses", "BatchGetAssetStatuses"])
async def test_an_answer_is_made_a_part_a_turn(large: Large, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Of a thousand statuses, a slice between two turns."""
    made: list[int] = []
    view = convert.status_view
    monkeypatch.setattr(convert, "status_view", counted(made, view))
    monkeypatch.setattr(large.app.sources.get("omn"), "listed", lambda _: asyncio.sleep(0))
    monkeypatch.setattr(large.app.sources, "read", lambda *_, **__: asyncio.sleep(0))
    refs = [AssetRef(source="omn", asset_id=f"tid:{number:X}") for number in range(1000)]
    asked = {
        "ListAssetStatuses": pb.ListAssetStatusesRequest(page_size=1000),
        "BatchGetAssetStatuses": pb.BatchGetAssetStatusesRequest(assets=refs),
    }
    context: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")
    answering, most = asyncio.create_task(getattr(large.service, method)(asked[method], context)), 0
    while not answering.done():
        before = len(made)
        await asyncio.sleep(0)
        most = max(most, len(made) - before)
    assert len((await answering).statuses) == len(made) == 1000
    assert most == VIEWED_TOGETHER


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("method", ["ListAssetStatuses", "BatchGetAssetStatuses"])
async def test_of_large_statuses_fewer_a_turn(
    large: Large, monkeypatch: pytest.MonkeyPatch, method: str, view: View
) -> None:
    """What is decoded between two turns is bounded in bytes, whichever view is made of it."""
    texts = tuple(Facet(f"f{number}", State.AVAILABLE, "x" * TEXT_LENGTH_MAX) for number in range(2))
    detail = OmnDetail("1", "1", meta={"a": "x" * TEXT_LENGTH_MAX})
    seen = [
        Sighting(Observation(f"tid:{number:X}", State.FAILED, texts[: number % 3], detail=detail), 1.0)
        for number in range(40)
    ]
    await large.road.ingest("omn", seen)
    entries = [entry for entry in large.app.store.after(0, large.app.store.head) if entry.state is State.FAILED]
    made: list[int] = []
    for name in ("basic", "status_of"):
        monkeypatch.setattr(convert, name, counted(made, getattr(convert, name)))
    monkeypatch.setattr(convert, "FORMS", {each: form_of(each, convert.basic) for each in View})
    monkeypatch.setattr(large.app.sources.get("omn"), "listed", lambda _: asyncio.sleep(0))
    monkeypatch.setattr(large.app.sources, "read", lambda *_, **__: asyncio.sleep(0))
    refs = [AssetRef(source=entry.key.source, asset_id=entry.key.asset_id) for entry in entries]
    number: Any = int(view)
    asked = {
        "ListAssetStatuses": pb.ListAssetStatusesRequest(states=[ASSET_STATE_FAILED], page_size=1000, view=number),
        "BatchGetAssetStatuses": pb.BatchGetAssetStatusesRequest(assets=refs, view=number),
    }
    context: Any = SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:1")
    answering, most = asyncio.create_task(getattr(large.service, method)(asked[method], context)), 0
    while not answering.done():
        before = len(made)
        await asyncio.sleep(0)
        most = max(most, len(made) - before)
    assert 1 < len((await answering).statuses) <= len(entries)
    assert most * min(map(weight, entries)) <= 2 * FORMED_BYTES_TOGETHER
