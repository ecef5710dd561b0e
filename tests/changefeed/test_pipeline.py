"""The road: what is committed and published, and what is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed import pipeline
from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pipeline import Pipeline, Sighting, Unread
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import NotOwner, StoreError
from assetwatchd.model.values import AssetKey, Facet, Freshness, Observation, State
from assetwatchd.rpc import convert
from support.core_rig import virtual
from support.tracing import recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import Entry

pytestmark = pytest.mark.unit

KEY = AssetKey("src", "a")
ENCODER = convert.ProtobufEncoder()
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class FullStore(MemoryStore):
    """A store whose disk is full until space is made."""

    full = True

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Keep nothing while it is full."""
        if self.full:
            raise StoreError("/srv/a.db cannot be written: no space is left", path="/srv/a.db")
        return await super().commit(drafts)


class Road:
    """A pipeline over an empty store. published counts what the hub was told."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        hub = Hub(self.store, convert.WatchFraming(lambda: self.store.epoch), heartbeat_s=5)
        self.published = 0
        hub.publish = self._published  # type: ignore[method-assign]  # counted instead: nobody watches here
        self.pipeline = Pipeline(self.store, hub, convert.ProtobufEncoder())

    def _published(self) -> None:
        self.published += 1

    async def see(self, *states: State, at: float = 1000.0, asset_id: str = "a", forgotten: bool = False) -> int:
        """Ingest sightings of an asset, one call; return how many changes were committed."""
        sightings = [Sighting(Observation(asset_id, state), at, TRACE, forgotten) for state in states]
        return len(await self.pipeline.ingest("src", sightings))

    def entry(self) -> Entry:
        """What is known of the asset."""
        entry = self.store.get(KEY)
        assert entry is not None
        return entry


@virtual
async def test_a_change_is_committed_and_published() -> None:
    """What differs from what is known gets a revision, its moment and its trace, and the hub is told once."""
    road = Road()
    assert await road.see(State.PENDING) == 1
    entry = road.entry()
    assert (entry.revision, entry.state, entry.gone, entry.freshness) == (1, State.PENDING, False, Freshness.FRESH)
    assert (entry.found_at, entry.traceparent) == (1000.0, TRACE)
    assert road.published == 1
    status = convert.status_of(entry)
    assert (status.asset.source, status.asset.asset_id, status.revision) == ("src", "a", 1)


@virtual
async def test_the_same_is_no_change() -> None:
    """A sighting of the same content at another moment commits nothing and publishes nothing."""
    road = Road()
    await road.see(State.PENDING)
    assert await road.see(State.PENDING, at=2000.0) == 0
    assert (road.store.head, road.published) == (1, 1)


@virtual
async def test_the_last_sighting_counts() -> None:
    """Of several sightings of one asset the last is taken; states between are skipped."""
    road = Road()
    assert await road.see(State.PENDING, State.PROCESSING, State.AVAILABLE) == 1
    assert road.entry().state is State.AVAILABLE
    assert await road.see(State.FAILED, State.AVAILABLE) == 0


@virtual
async def test_what_was_committed_is_returned_as_it_is_in_the_store() -> None:
    """By ingest and by mark_unread: the entries that are new, and of what is as it was, nothing."""
    road = Road()
    await road.see(State.PENDING, asset_id="same")
    seen = [Sighting(Observation(name, State.PENDING), 2000.0) for name in ("a", "same", "b")]
    committed = await road.pipeline.ingest("src", seen)
    assert [(entry.key.asset_id, entry.revision) for entry in committed] == [("a", 2), ("b", 3)]
    assert [road.store.get(entry.key) for entry in committed] == committed
    [stale] = await road.pipeline.mark_unread("src", [Unread(KEY, "HTTP 500")], at=2100.0)
    assert stale == road.entry()
    assert not await road.pipeline.mark_unread("src", [Unread(KEY, "HTTP 500")], at=2200.0)


@virtual
async def test_any_part_of_the_content_is_a_change() -> None:
    """A facet's text is as much a change as the state."""
    road = Road()
    for message in ("1 %", "2 %", "2 %"):
        facet = Facet("import", State.PROCESSING, "running", message)
        await road.pipeline.ingest("src", [Sighting(Observation("a", State.PROCESSING, (facet,)), 1.0)])
    assert road.store.head == 2


@pytest.mark.parametrize(("state", "gone"), [(state, state in (State.DELETED, State.MISSING)) for state in State])
@virtual
async def test_gone(state: State, gone: bool) -> None:  # noqa: FBT001 - a column of the table
    """Deleted and missing assets are gone, and no others."""
    road = Road()
    await road.see(state)
    assert road.entry().gone is gone


@virtual
async def test_forgotten_and_back() -> None:
    """A forgotten asset is gone with its last state; the same state seen again is a change."""
    road = Road()
    await road.see(State.AVAILABLE)
    assert await road.see(State.AVAILABLE, forgotten=True) == 1
    assert (road.entry().gone, road.entry().state) == (True, State.AVAILABLE)
    assert await road.see(State.AVAILABLE) == 1
    assert not road.entry().gone


@virtual
async def test_missing_after_deleted() -> None:
    """That a deleted asset is missing is no news."""
    road = Road()
    await road.see(State.DELETED)
    assert await road.see(State.MISSING) == 0
    assert road.entry().state is State.DELETED


@virtual
async def test_stale_and_fresh_again() -> None:
    """An asset's own failing is one change, its status as it was but STALE; reading the same again is another."""
    road = Road()
    await road.see(State.AVAILABLE, at=1000.0)
    for reason in range(3):
        await road.pipeline.mark_unread("src", [Unread(KEY, f"reason {reason}", 1050.0)], at=1100.0)
    entry = road.entry()
    assert (entry.revision, entry.freshness, entry.state) == (2, Freshness.STALE, State.AVAILABLE)
    assert entry.found_at == 1100.0
    assert convert.status_of(entry).observe_time.seconds == 1050
    assert convert.status_of(entry).freshness_reason == "reason 0"
    assert await road.see(State.AVAILABLE, at=1200.0) == 1
    assert road.entry().freshness is Freshness.FRESH


@pytest.mark.parametrize("state", [State.MISSING, State.DELETED])
@virtual
async def test_what_is_gone_is_stale_too_and_fresh_again(state: State) -> None:
    """It stays gone meanwhile; that it is still missing shows that it can be read again."""
    road = Road()
    await road.see(state)
    await road.pipeline.mark_unread("src", [Unread(KEY, "not XML")], at=1100.0)
    assert (road.entry().gone, road.entry().state, road.entry().freshness) == (True, state, Freshness.STALE)
    assert await road.see(State.MISSING) == 1
    assert (road.entry().gone, road.entry().state, road.entry().freshness) == (True, state, Freshness.FRESH)
    assert await road.see(State.MISSING) == 0


@pytest.mark.parametrize("unproven", [True, False])
@virtual
async def test_what_was_never_read_is_unknown(unproven: bool) -> None:  # noqa: FBT001 - a column of the table
    """With the reason as its failure; gone, so told to none but who names it, where nothing shows that it is there."""
    road = Road()
    for reason in ("not XML", "HTTP 500"):
        await road.pipeline.mark_unread("src", [Unread(KEY, reason, unproven=unproven)], at=1100.0)
    entry = road.entry()
    assert (entry.revision, entry.state, entry.gone, entry.freshness) == (1, State.UNKNOWN, unproven, Freshness.STALE)
    assert convert.status_of(entry).failure.message == "not XML"
    await road.pipeline.mark_unread("src", [Unread(KEY, "HTTP 500", back=True)], at=1200.0)
    assert not road.entry().gone
    assert road.store.head == 1 + unproven


@virtual
async def test_one_asset_marked_twice_at_once_is_one_change() -> None:
    """As when two reads of it fail before the road is free."""
    road = Road()
    await road.pipeline.mark_unread("src", [Unread(KEY, "not XML"), Unread(KEY, "HTTP 500")], at=1100.0)
    assert road.store.head == 1


@virtual
async def test_one_that_cannot_be_encoded() -> None:
    """One odd value is left out, the rest is committed."""
    road = Road()
    odd, good = Sighting(Observation("\ud800", State.PENDING), 1.0), Sighting(Observation("a", State.PENDING), 1.0)
    assert [entry.key for entry in await road.pipeline.ingest("src", [odd, good])] == [KEY]
    assert road.store.head == 1


@virtual
async def test_a_commit_is_traced_and_counted() -> None:
    """A commit is a span with a link to the read that found the change, and counts its changes."""
    road = Road()
    with recorded() as spans:
        await road.see(State.PENDING)
        await road.see(State.PENDING)
    [span] = [span for span in spans.spans if span.name == "assetwatch.commit"]
    assert span.attributes is not None
    assert span.attributes["assetwatch.change_count"] == 1
    assert [format(link.context.span_id, "016x") for link in span.links] == ["b7ad6b7169203331"]


@virtual
async def test_a_store_that_cannot_keep_loses_nothing() -> None:
    """While the store fails nothing can be read of what was seen; it says so once, and what was seen is kept later.

    Who calls is not told where the store is.
    """
    store, said = FullStore(), list[str]()
    hub = Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5)
    pipeline = Pipeline(store, hub, convert.ProtobufEncoder(), store_failing=said.append)
    ingesting = asyncio.create_task(pipeline.ingest("src", [Sighting(Observation("a", State.PENDING), 1000.0)]))
    await asyncio.sleep(10)
    assert (store.get(KEY), said) == (None, ["the store cannot be written: no space is left"])
    store.full = False
    assert len(await ingesting) == 1
    assert (store.head, said) == (1, ["the store cannot be written: no space is left", ""])


@virtual
async def test_the_store_fails_for_as_long_as_any_source_waits_for_it() -> None:
    """Said once, however many wait, and taken back when nobody does any more, were it that all of them gave up."""
    store, said = FullStore(), list[str]()
    hub = Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5)
    pipeline = Pipeline(store, hub, convert.ProtobufEncoder(), store_failing=said.append)
    sighting = Sighting(Observation("a", State.PENDING), 1000.0)
    waiting = [asyncio.create_task(pipeline.ingest(source, [sighting])) for source in ("one", "two")]
    await asyncio.sleep(10)
    assert said == ["the store cannot be written: no space is left"]
    for task in waiting:
        assert said == ["the store cannot be written: no space is left"]
        task.cancel()
        await asyncio.wait([task])
    assert said == ["the store cannot be written: no space is left", ""]


class PartlyFullStore(MemoryStore):
    """One that takes few at once, and is full behind those until space is made."""

    full = True

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Keep the first two, and fail where there are more."""
        if self.full and len(drafts) > 2:
            await super().commit(drafts[:2])
            raise StoreError("no space is left")
        return await super().commit(drafts)


@virtual
async def test_what_is_kept_of_many_is_not_kept_again() -> None:
    """A store that kept the first of them is given the others alone; all of them are told as committed."""
    store = PartlyFullStore()
    pipeline = Pipeline(store, Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5), ENCODER)
    await pipeline.ingest("src", [Sighting(Observation("1", State.PENDING), 1.0)])
    sightings = [Sighting(Observation(str(number), State.AVAILABLE), 1000.0) for number in range(5)]
    ingesting = asyncio.create_task(pipeline.ingest("src", sightings))
    await asyncio.sleep(10)
    store.full = False
    entries = await ingesting
    assert [(entry.key.asset_id, entry.revision) for entry in entries] == [(str(n), n + 2) for n in range(5)]
    assert list(store.after(1, store.head)) == list(entries)


class AnothersStore(MemoryStore):
    """One in which the source is another process's."""

    tried = 0

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Refuse."""
        self.tried += 1
        raise NotOwner(drafts[0].key.source)


@virtual
async def test_what_is_not_ours_to_write_is_not_tried_again() -> None:
    """Whoever saw it is told at once; the store is well."""
    store, said = AnothersStore(), list[str]()
    hub = Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5)
    pipeline = Pipeline(store, hub, convert.ProtobufEncoder(), store_failing=said.append)
    with pytest.raises(NotOwner, match="source src is not this process's to write"):
        await pipeline.ingest("src", [Sighting(Observation("a", State.PENDING), 1000.0)])
    assert (store.tried, said) == (1, [])


@pytest.mark.parametrize(("turn_s", "turns"), [(0.0, 50), (3600.0, 0)])
async def test_others_have_turns_while_it_encodes(turn_s: float, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen together is encoded with pauses once that has taken its time, and without before."""
    monkeypatch.setattr(pipeline, "ENCODING_S", turn_s)
    road, had = Road(), 0

    async def others() -> None:
        nonlocal had
        while not road.published:
            had += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    sightings = [Sighting(Observation(str(number), State.AVAILABLE), 1000.0) for number in range(50)]
    assert len(await road.pipeline.ingest("src", sightings)) == 50
    await task
    assert had >= turns
    assert turns or had <= 2
