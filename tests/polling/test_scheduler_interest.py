"""Who is interested decides what is read."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.model.values import State
from support.core_rig import now, running, virtual
from support.fake_upstream import FakeUpstream, most_in_a_second


@virtual
async def test_nobody_interested() -> None:
    """Without interest an upstream gets signs of life only, one an interval."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream, probe_interval_s=30):
        await asyncio.sleep(301)
    assert upstream.reads == []
    assert upstream.lists == []
    assert len(upstream.probes) == 11


@virtual
async def test_many_interests_cost_one() -> None:
    """500 interests in one asset cost as many reads as one."""
    counts = []
    for interests in (1, 500):
        upstream = FakeUpstream()
        upstream.states["a"] = State.PROCESSING
        async with running(upstream) as rig:
            with ExitStack() as stack:
                for _ in range(interests):
                    stack.enter_context(rig.scheduler.interest(["a"]))
                await asyncio.sleep(40.5)
        counts.append(len(upstream.reads))
    assert counts[0] == counts[1] == 21


@virtual
async def test_interests_in_the_whole_cost_one() -> None:
    """Many who watch the whole source, one after the other, cost one list an interval."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, enumerate_interval_s=30) as rig:
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(rig.scheduler.interest([], whole=True))
                await rig.scheduler.listed(5)
                await asyncio.sleep(1)
    assert len(upstream.lists) == 2


@virtual
async def test_interest_ends() -> None:
    """An asset whose last watcher left is read no more."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(100)
        assert not rig.scheduler.interested
        left = now()
        await asyncio.sleep(1000)
        assert upstream.reads_of("a", since=left) == []


@virtual
async def test_pins() -> None:
    """A pinned asset is read though nobody asks."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(1)
        assert rig.state("a") is State.AVAILABLE
        assert rig.scheduler.wanted("a")
        assert await rig.scheduler.polled_assets() == 1
    assert upstream.reads_of("b") == []


@virtual
async def test_a_recent_read_lingers() -> None:
    """An asset read once stays of interest for linger_s, then not."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=300) as rig:
        began = now()
        await rig.scheduler.read(["a"], max_age_s=None)
        await asyncio.sleep(1000)
        assert len(upstream.reads) > 5
        assert upstream.reads[-1][0] <= began + 300
        assert not rig.scheduler.wanted("a")


@virtual
async def test_the_whole_of_a_source_that_cannot_list() -> None:
    """Watched whole, it has every asset known here read, and none else."""
    upstream = FakeUpstream("a", "b", "c")
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["a", "b"], max_age_s=None)
        await asyncio.sleep(5)
        began = now()
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(100)
    assert upstream.reads_of("a", since=began)
    assert upstream.reads_of("b", since=began)
    assert not upstream.reads_of("c")


@virtual
async def test_what_is_gone_from_a_whole_is_left_to_the_lists() -> None:
    """An asset that came and went in a source that is watched whole is neither polled for ever nor remembered."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            del upstream.states["b"]
            await asyncio.sleep(100)
            assert rig.entry("b").gone
            gone = now()
            await asyncio.sleep(600)
            assert upstream.reads_of("b", since=gone) == []
            assert await rig.scheduler.polled_assets() == 1
            await rig.scheduler.tidy(forget_after_s=1e6)
            assert rig.scheduler.observed_at("b") is None


@virtual
async def test_too_many_assets() -> None:
    """A claim beyond assets_max takes nothing, and what is known stays usable."""
    upstream = FakeUpstream("a", "b", "c")
    async with running(upstream, assets_max=2) as rig:
        with rig.scheduler.interest(["a"]):
            with pytest.raises(TooManyAssets), rig.scheduler.interest(["a", "b", "c"]):
                pass
            with pytest.raises(TooManyAssets):
                await rig.scheduler.read(["b", "c"], max_age_s=None)
            await rig.scheduler.read(["a", "b"], max_age_s=None)


@virtual
async def test_ids_that_never_were_make_room() -> None:
    """Assets that are not there and that nobody names or waits for give way at the limit; others do not."""
    upstream = FakeUpstream("real", "other")
    async with running(upstream, assets_max=4, linger_s=300) as rig:
        await rig.scheduler.read(["real"], max_age_s=None)
        await rig.scheduler.read(["x", "y", "z"], max_age_s=None)
        with rig.scheduler.interest(["y"]):
            await rig.scheduler.read(["other", "z"], max_age_s=None)
            assert rig.state("other") is State.AVAILABLE
            assert [rig.scheduler.wanted(name) for name in ("real", "x", "y", "z", "other")] == [1, 0, 1, 1, 1]
            with pytest.raises(TooManyAssets):
                await rig.scheduler.read(["p", "q"], max_age_s=None)
            assert rig.scheduler.wanted("z")
            left = now()
            await asyncio.sleep(100)
            assert upstream.reads_of("x", since=left) == []


@virtual
async def test_what_never_was_does_not_stay_for_the_whole() -> None:
    """A source watched whole does not go on reading ids that somebody once asked for in vain."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=10) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await rig.scheduler.read(["never"], max_age_s=None)
            await asyncio.sleep(60)
            late = now()
            await asyncio.sleep(300)
            assert upstream.reads_of("never", since=late) == []


@virtual
async def test_a_list_beyond_the_limit_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Assets listed beyond assets_max are left out with a warning that says how many."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(10)], enumerates=True)
    async with running(upstream, assets_max=7) as rig:
        with rig.scheduler.interest([], whole=True):
            await rig.scheduler.listed(5)
            assert rig.store.count("src") == 7
    assert "cannot be listed completely: 3 assets beyond assets_max = 7" in caplog.text


@virtual
async def test_tidy_forgets() -> None:
    """An asset nobody wanted for forget_after_s is forgotten: gone here, and read anew when asked for again."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["a", "b"], max_age_s=None)
        with rig.scheduler.interest(["b"]):
            await asyncio.sleep(1000)
            await rig.scheduler.tidy(forget_after_s=900)
            await asyncio.sleep(1)
            assert rig.entry("a").gone
            assert not rig.entry("b").gone
            asked = now()
            await rig.scheduler.read(["a"], max_age_s=None)
            assert upstream.reads_of("a", since=asked)
            assert not rig.entry("a").gone


@virtual
async def test_tidy_drops_the_targets_of_what_is_gone() -> None:
    """Ids that never were cost nothing once nobody asks: there is room again, and a later whole does not read them."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=1, assets_max=3) as rig:
        await rig.scheduler.read(["x", "y", "z"], max_age_s=None)
        await asyncio.sleep(1.5)
        await rig.scheduler.tidy(forget_after_s=1e6)
        tidied = now()
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(100)
        assert {name for at, names in upstream.reads if at >= tidied for name in names} == {"a"}


@virtual
async def test_forgotten_while_listed_long_ago() -> None:
    """That an asset was in a list once does not keep it when nobody watches the whole any more."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.listed(5)
        await asyncio.sleep(1000)
        await rig.scheduler.tidy(forget_after_s=900)
        await asyncio.sleep(1)
        assert rig.entry("a").gone


@virtual
async def test_what_the_store_knows_is_known_again() -> None:
    """After a restart the known assets are part of the whole, spread over their interval and not all at once."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(30)])
    async with running(upstream) as rig:
        await rig.scheduler.read(upstream.states, max_age_s=None)
    again = FakeUpstream(*upstream.states)
    async with running(again, rig.store) as rig:
        assert rig.scheduler.observed_at("a0") is not None
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(60)
        assert {name for _, names in again.reads for name in names} == set(upstream.states)
        assert most_in_a_second(again.calls[:20]) < 20
        assert rig.store.head == 30


@virtual
async def test_a_forgotten_asset_is_not_known_after_a_restart() -> None:
    """What was forgotten before a restart is asked for anew after it, not told from its last state."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        await asyncio.sleep(100)
        await rig.scheduler.tidy(forget_after_s=50)
        await asyncio.sleep(1)
    upstream.reads.clear()
    async with running(upstream, rig.store) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
    assert len(upstream.reads) == 1
