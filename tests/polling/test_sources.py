"""All sources by name, and a filter's interest over them."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pipeline import Pipeline
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import InvalidRequest, SourceNotFound, SourceUnreachable, TooManyAssets, Unreachable
from assetwatchd.model.values import AssetKey, SourceKind
from assetwatchd.polling import interest
from assetwatchd.polling import sources as sources_module
from assetwatchd.polling.plan import Plan
from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.polling.sources import Sources
from assetwatchd.rpc import convert
from assetwatchd.runtime import slices
from assetwatchd.settings.schema import SourceSettings
from support.core_rig import now, virtual, wall
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


def of(sources: Sources, name: str) -> Scheduler:
    """The scheduler of a source."""
    source = sources.get(name)
    assert isinstance(source, Scheduler)
    return source


@asynccontextmanager
async def running(*, assets_max: int = 5, **upstreams: FakeUpstream) -> AsyncIterator[Sources]:
    """Run one scheduler an upstream, over one store."""
    store = MemoryStore()
    pipeline = Pipeline(
        store, Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5), convert.ProtobufEncoder()
    )
    settings = SourceSettings.model_validate({"base_url": "http://fake.test", "assets_max": assets_max})
    sources = Sources(
        Scheduler(
            name,
            SourceKind.OMN,
            upstream,
            settings,
            store=store,
            pipeline=pipeline,
            tell=lambda *_: None,
            now=wall,
            rng=random.Random(7),  # noqa: S311 - jitter, not a secret
        )
        for name, upstream in upstreams.items()
    )
    loops = [asyncio.create_task(scheduler.run()) for scheduler in sources]
    try:
        yield sources
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)


def wanting(*keys: tuple[str, str], sources: tuple[str, ...] = ()) -> Filter:
    """A filter of assets and whole sources."""
    return Filter(frozenset(AssetKey(*key) for key in keys), frozenset(sources), frozenset())


def wanted(sources: Sources, **asset_ids: str) -> dict[str, Any]:
    """Whether an asset of each source is wanted."""
    return {name: sources.get(name).wanted(asset_id) for name, asset_id in asset_ids.items()}


@virtual
async def test_by_name() -> None:
    """Sources are found by name and told in the order of names; an unknown name is an error that tells the known."""
    async with running(b=FakeUpstream(), a=FakeUpstream()) as sources:
        assert sources.names() == [scheduler.name for scheduler in sources] == ["a", "b"]
        with pytest.raises(SourceNotFound, match="there are: a, b"):
            sources.get("c")


@virtual
async def test_check() -> None:
    """Every id that cannot be one is named with its field; an unknown source comes first."""
    async with running(a=FakeUpstream()) as sources:
        sources.check("asset", AssetKey("a", "x"))
        bad, good = AssetKey("a", "not-an-id"), AssetKey("a", "x")
        with pytest.raises(InvalidRequest) as raised:
            sources.check("asset", bad)
        assert [field for field, _ in raised.value.violations] == ["asset.asset_id"]
        wrong = sources.wrong([("assets[0]", bad), ("assets[1]", good), ("assets[2]", bad)])
        assert [field for field, _ in wrong] == ["assets[0].asset_id", "assets[2].asset_id"]
        with pytest.raises(SourceNotFound):
            sources.check("asset", AssetKey("nowhere", "x"))


@virtual
async def test_interest_is_spread() -> None:
    """A filter's interest reaches each source it concerns, and ends with the filter."""
    async with running(a=FakeUpstream("x"), b=FakeUpstream("x"), c=FakeUpstream("x")) as sources:
        async with sources.interest(wanting(("a", "x"), ("b", "x"))):
            assert wanted(sources, a="x", b="x", c="x") == {"a": True, "b": True, "c": False}
        assert wanted(sources, a="x", b="x") == {"a": False, "b": False}


@virtual
async def test_interest_refused_in_part_takes_nothing() -> None:
    """When one source has no room, no other is left with an interest."""
    async with running(a=FakeUpstream("x"), b=FakeUpstream()) as sources:
        many = [("b", str(n)) for n in range(6)]
        with pytest.raises(TooManyAssets):
            async with sources.interest(wanting(("a", "x"), *many)):
                pass
        assert wanted(sources, a="x") == {"a": False}
        assert not any(of(sources, name).interested for name in sources.names())


@virtual
async def test_read_asks_all_at_once() -> None:
    """A read over several sources takes as long as the slowest of them."""
    slow, slower = FakeUpstream("x"), FakeUpstream("x")
    slow.latency_s, slower.latency_s = 1, 2
    async with running(a=slow, b=slower) as sources:
        await asyncio.sleep(5)
        began = now()
        await sources.read([AssetKey("a", "x"), AssetKey("b", "x")], max_age_s=0)
        assert now() - began == pytest.approx(2, abs=0.1)


@virtual
async def test_read_of_a_source_that_fails() -> None:
    """One source that cannot be read is the error of the whole read."""
    broken = FakeUpstream("x")
    broken.fault = Unreachable("connection refused")
    async with running(a=FakeUpstream("x"), b=broken) as sources:
        with pytest.raises(SourceUnreachable, match="source b could not be read"):
            await sources.read([AssetKey("a", "x"), AssetKey("b", "x")], max_age_s=0)


@virtual
async def test_first_reads() -> None:
    """Before a snapshot named assets and whole sources get a moment to be read, no longer, and failing is no error."""
    well, silent, broken = FakeUpstream("x", enumerates=True), FakeUpstream("x"), FakeUpstream("x")
    silent.open.clear()
    broken.fault = Unreachable("connection refused")
    async with running(a=well, b=silent, c=broken) as sources:
        await sources.first_reads(wanting(sources=("a",)), timeout_s=2)
        assert sources.get("a").observed_at("x") is not None
        began = now()
        async with sources.interest(what := wanting(("b", "x"))):
            await sources.first_reads(what, timeout_s=2)
        assert now() - began == pytest.approx(2)
        async with sources.interest(what := wanting(("c", "x"))):
            await sources.first_reads(what, timeout_s=2)


@virtual
async def test_equal_filters_share_their_interest_and_their_names() -> None:
    """The second costs no more targets; what they name is of interest until the last of them ends."""
    async with running(a=FakeUpstream("x", "y")) as sources:
        filters = [wanting(("a", "x"), ("a", "y")) for _ in range(3)]
        async with AsyncExitStack() as first, AsyncExitStack() as others:
            await first.enter_async_context(sources.interest(filters[0]))
            target = of(sources, "a")._plan.targets.get("x")
            assert target is not None
            for what in filters[1:]:
                await others.enter_async_context(sources.interest(what))
                assert what.keys is filters[0].keys
            assert target.demand.named == 1
            await first.aclose()
            assert wanted(sources, a="x") == {"a": True}
        assert wanted(sources, a="x") == {"a": False}
        assert target.demand.named == 0
        assert not sources._shared


@virtual
async def test_an_interest_that_has_ended_takes_no_more_turns() -> None:
    """What it named and others want too is read in their turns alone."""
    names = [("a", str(number)) for number in range(5)]
    async with running(a=FakeUpstream()) as sources:
        lanes = of(sources, "a")._plan._agenda._new
        async with sources.interest(wanting(*names[:4]), ("host", "stays", "1")):
            before = len(lanes)
            async with sources.interest(wanting(*names), ("host", "goes", "2")):
                assert len(lanes) > before
            assert len(lanes) == before > 0


@virtual
async def test_a_name_is_in_memory_once() -> None:
    """Filters that differ have the very same keys, those of the targets and of what is stored."""
    async with running(a=FakeUpstream("x", "y")) as sources:
        one, other = wanting(("a", "x")), wanting(("a", "x"), ("a", "y"))
        async with sources.interest(one), sources.interest(other):
            await sources.first_reads(other, timeout_s=5)
            [key] = one.keys
            assert any(key is each for each in other.keys)
            entry = of(sources, "a")._plan.targets._store.get(key)
            assert entry is not None
            assert entry.key is key
        assert one == wanting(("a", "x"))


@virtual
async def test_a_large_interest_is_taken_and_ended_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beginning nor ending one goes through all its names at once; cancelled in the middle, it leaves none."""
    monkeypatch.setattr(slices, "SLICE", 2)
    monkeypatch.setattr(interest, "SLICE", 2)
    monkeypatch.setattr(sources_module, "SLICE", 2)
    monkeypatch.setattr(Plan, "interest", counted := Counted(Plan.interest))
    async with running(a=FakeUpstream(), assets_max=10) as sources:
        names = [("a", str(n)) for n in range(5)]
        scheduler = of(sources, "a")
        others = [("a", f"other {n}") for n in range(5)]
        async with sources.interest(wanting(*names)), sources.interest(wanting(*others)):
            assert counted.most == 2
            assert await scheduler.polled_assets() == 10
        entering = [sources.interest(wanting(*names)), sources.interest(wanting(*others))]
        beginning = [asyncio.create_task(each.__aenter__()) for each in entering]  # the second waits for its turn
        await asyncio.sleep(0)
        for each in beginning:
            each.cancel()
        await asyncio.wait(beginning)
        assert all(each.cancelled() for each in beginning)
        assert not scheduler.interested
        assert not any(target.demand.named for target in scheduler._plan.targets)


class Counted:
    """Plan.interest, noting the most names that were begun with between two turns of the loop."""

    def __init__(self, interest: Callable[..., Any]) -> None:
        self.most = 0
        self._interest = interest

    def __get__(self, of: Plan, _owner: object = None) -> Callable[..., Any]:
        """As a method is."""

        def call(asset_ids: Sequence[str], **options: Any) -> Any:
            self.most = max(self.most, len(list(asset_ids)))
            return self._interest(of, asset_ids, **options)

        return call


@pytest.mark.parametrize("first_stays", [True, False])
@virtual
async def test_who_watches_what_another_watches_has_turns_of_his_own(first_stays: bool) -> None:  # noqa: FBT001 - a case
    """That the filter is equal to one of 200 of another's watches lets nobody wait for the other 199; nothing stays."""
    upstream = FakeUpstream(*[f"a{number}" for number in range(400)], "x")
    async with running(assets_max=10_000, src=upstream) as sources, AsyncExitStack() as others:
        for number in range(200):
            what = wanting(("src", f"a{number}"), ("src", f"a{number + 200}"))
            await others.enter_async_context(sources.interest(what, ("host", "one", str(number))))
        first = AsyncExitStack()
        await first.enter_async_context(sources.interest(wanting(("src", "x")), ("host", "one", "first")))
        began = now()
        async with sources.interest(wanting(("src", "x")), ("elsewhere", "two", "second")):
            if not first_stays:
                await first.aclose()
            await sources.first_reads(wanting(("src", "x")), timeout_s=100)
            assert now() - began < 1
        await first.aclose()
        await others.aclose()
        agenda = of(sources, "src")._plan._agenda
        assert (len(agenda._asked), len(agenda._new)) == (0, 0)
        assert not of(sources, "src")._plan.targets._strangers.quota._taken
