"""SourceService: what it tells of each source, without asking any."""

from __future__ import annotations

import time

from assetwatch.v1 import source_pb2

from assetwatchd.model import ConditionState
from support.rig import SOURCES, running, sample

CAPABILITIES = {
    "media-intelligence": (False, True),
    "omn": (False, True),
    "oracle-sbc": (False, False),
    "pieces": (True, True),
    "usd-search": (False, False),
}


async def test_all_sources_in_the_order_of_their_names() -> None:
    """Name, kind and capabilities of each."""
    async with running() as rig:
        told = await rig.all_sources()
        assert [source.name for source in told] == sorted(SOURCES)
        for source in told:
            assert source_pb2.SourceKind.Name(source.kind) == f"SOURCE_KIND_{source.name.replace('-', '_').upper()}"
            can = source.capabilities
            assert (can.push, can.enumerate) == CAPABILITIES[source.name]
            assert can.batch_size >= 1


async def test_one_source_is_told_as_in_the_list() -> None:
    """GetSource and ListSources agree."""
    async with running(("omn",), every={"probe_interval_s": 60}) as rig:
        await rig.get(sample("omn"))
        assert [await rig.source("omn")] == list(await rig.all_sources())


async def test_figures_count_what_the_upstream_was_asked() -> None:
    """Calls, asset reads and changes rise with reads; assets and watchers are counted."""
    async with running(("omn",), count=4) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        source = await rig.source("omn")
        assert (source.asset_count, source.watcher_count, source.poll.polled_assets) == (5, 1, 5)
        assert source.poll.asset_reads >= 5
        assert source.poll.changes == 5
        assert 0 < source.poll.calls <= rig["omn"].requests.count()
        rig.vary("omn")
        await stream.until(lambda message: message.changes)
        assert (await rig.source("omn")).poll.changes == 6


async def test_a_condition_is_told_with_its_times() -> None:
    """UNKNOWN before the first call; HEALTHY with last success; UNREACHABLE with its reason, failures counted."""
    async with running(("omn",)) as rig:
        before = time.time()
        await rig.get(sample("omn"))
        healthy = (await rig.source("omn")).condition
        assert healthy.state == ConditionState.HEALTHY
        assert healthy.message == ""
        assert healthy.last_success_time.ToMilliseconds() >= int(before * 1000) - 1
        await rig["omn"].stop()
        down = await rig.shows("omn", lambda source: source.condition.state == ConditionState.UNREACHABLE)
        assert down.condition.message
        assert down.poll.failed_calls >= 3
        assert down.condition.since.ToMilliseconds() >= healthy.since.ToMilliseconds()
        assert down.condition.last_success_time.ToMilliseconds() >= healthy.last_success_time.ToMilliseconds()


async def test_asking_about_sources_asks_no_upstream() -> None:
    """Not one request, however often."""
    async with running(("usd-search",), every={"probe_interval_s": 60}, usd_search={"pins": []}) as rig:
        await rig.get(sample("usd-search"))
        rig["usd-search"].requests.clear()
        asked = rig["usd-search"].requests.count("status")
        for _ in range(20):
            await rig.all_sources()
        assert rig["usd-search"].requests.count("storage") == 0
        assert rig["usd-search"].requests.count("status") <= asked + 3
