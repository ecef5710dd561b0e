"""Several servers over one etcd: each source is asked by one of them, and every one of them serves all of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import patch

import grpc
import pytest
from assetwatch.internal.v1 import peer_pb2
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pieces_pb
from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceStub
from assetwatch.v1.asset_status_pb2 import (
    ASSET_STATE_AVAILABLE,
    ASSET_STATE_DELETED,
    ASSET_STATE_MISSING,
    ASSET_STATE_PROCESSING,
    FRESHNESS_FRESH,
)
from assetwatch.v1.asset_status_service_pb2 import WatchStarted

from assetwatchd.model.errors import SourceUnreachable
from assetwatchd.model.values import AssetKey, ConditionState
from assetwatchd.replicas import forwarding, shared
from support.replica_rig import LEASE_S, SHORT_LEASE_S, replicas, until
from support.rig import SAMPLES, sample

if TYPE_CHECKING:
    from pathlib import Path

    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from assetwatch_sandbox.etcd import Cluster
    from support.rig import Stream


async def shows(watch: Stream, key: AssetKey, state: int) -> AssetStatus:
    """Take messages in until an asset is in a state."""
    await watch.holds(lambda held: key in held and held[key].state == state)
    return watch.map[key]


async def test_one_of_them_asks(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """A watch at each of two: both are told the very same, and the upstream is asked as for one of them alone."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        watches = [await each.watch(sources=["omn"]).synced() for each in (owner, other)]
        changed = owner.vary("omn")
        told = [await shows(watch, changed, ASSET_STATE_PROCESSING) for watch in watches]
        assert told[0] == told[1]
        assert not other.owns("omn")


async def test_whoever_is_watched_elsewhere_is_read(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """What only a client of another replica names is polled by the owner, for as long as it does."""
    async with replicas(etcd, etcd_prefix, tmp_path, every={"linger_s": 0.1}) as both:
        other = await both.other("omn")
        owner = await both.owner("omn")
        assert not owner.shared("omn").owned.scheduler.wanted(sample("omn").asset_id)  # type: ignore[union-attr]  # it is the owner
        watch = await other.watch(assets=[{"source": "omn", "asset_id": sample("omn").asset_id}]).synced()
        await shows(watch, sample("omn"), ASSET_STATE_AVAILABLE)
        other.vary("omn")
        await shows(watch, sample("omn"), ASSET_STATE_PROCESSING)
        watch.call.cancel()
        await until(lambda: not owner.shared("omn").owned.scheduler.wanted(sample("omn").asset_id))  # type: ignore[union-attr]  # same


async def test_what_found_no_room_is_asked_for_once_there_is_some(
    etcd: Cluster, etcd_prefix: str, tmp_path: Path
) -> None:
    """The owner may have to refuse what clients of another replica watch: they go on watching, and are served then."""
    with patch.object(shared, "HELD_AGAIN_S", 0.2):
        async with replicas(etcd, etcd_prefix, tmp_path, every={"linger_s": 0.1}) as both:
            other = await both.other("omn")
            owned = (await both.owner("omn")).shared("omn").owned
            assert owned is not None
            watch = await other.watch(assets=[{"source": "omn", "asset_id": sample("omn").asset_id}]).synced()
            await until(lambda: bool(owned._held))
            for bucket in list(owned._held):
                owned.hold(bucket, b"")  # as after a refusal
            assert not owned._held
            await until(lambda: bool(owned._held))
            other.vary("omn")
            await shows(watch, sample("omn"), ASSET_STATE_PROCESSING)


async def test_a_fresh_read_through_another(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """What is asked for as of now is read by the owner; as of any age, the other answers by itself once it has it."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        assert (await other.get(sample("omn"))).state == ASSET_STATE_AVAILABLE
        other.vary("omn")
        fresh = await other.get(sample("omn"), max_age={"seconds": 0})
        assert (fresh.state, fresh.freshness) == (ASSET_STATE_PROCESSING, FRESHNESS_FRESH)
        other["omn"].requests.clear()
        owner = await both.owner("omn")
        asked = owner.shared("omn").owned.scheduler.figures.calls  # type: ignore[union-attr]  # it is the owner
        assert (await other.get(sample("omn"))).revision == fresh.revision
        assert owner.shared("omn").owned.scheduler.figures.calls <= asked + 1  # type: ignore[union-attr]  # it polls


async def test_an_asset_that_never_was(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """The owner's answer about an asset that nobody has is passed on, though nothing of it is kept."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        missing = await other.get(AssetKey("omn", SAMPLES["omn"].unknown))
        assert (missing.state, missing.revision, missing.freshness) == (ASSET_STATE_MISSING, 0, FRESHNESS_FRESH)


async def test_what_is_down_is_down_everywhere(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """A condition is told by each of them, in one order; a fresh read says why it cannot be had."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        watch = await other.watch(sources=["omn"]).synced()
        other["omn"].faults.add(status=503)
        await watch.turns("omn", ConditionState.UNREACHABLE)
        with pytest.raises(SourceUnreachable, match="503"):
            await other.shared("omn").read([sample("omn").asset_id], max_age_s=0)
        assert (await other.source("omn")).condition.message == (
            await both.running["a"].source("omn")
        ).condition.message
        other["omn"].faults.clear()
        await watch.turns("omn", ConditionState.HEALTHY)


async def test_a_token_goes_on_at_another(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """A watch that began at one replica is resumed at another, also at one that was not there when it began."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        first = await owner.watch(sources=["omn"]).synced()
        first.call.cancel()
        changed = owner.vary("omn")
        for replica in (other, await both.start("c")):
            again = await replica.watch(sources=["omn"], resume_token=first.token).synced()
            assert again.messages[0].started.mode == WatchStarted.MODE_RESUMED
            await shows(again, changed, ASSET_STATE_PROCESSING)
            assert set(again.map) <= {changed}


async def test_what_was_read_again_is_fresh_everywhere(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """Reads that find nothing new write nothing, and yet every replica knows of them."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        watch = await other.watch(sources=["omn"]).synced()
        committed = watch.map[sample("omn")].observe_time.ToMicroseconds()
        await until(lambda: (other.shared("omn").observed_at(sample("omn").asset_id) or 0) * 1e6 > committed + 2e6)
        status = await other.get(sample("omn"))
        assert status.freshness == FRESHNESS_FRESH
        assert status.observe_time.ToMicroseconds() > committed + 1e6


async def test_figures_are_those_of_the_owner(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """Whoever is asked tells how often the source was asked, and how many streams watch it anywhere."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        watches = [await each.watch(sources=["omn"]).synced() for each in (owner, other)]
        told = await other.shows("omn", lambda source: source.poll_stats.calls and source.watcher_count == len(watches))
        assert told.poll_stats.polled_assets >= len(watches[0].map)
        assert not told.condition.message
        here = await owner.shows("omn", lambda source: source.watcher_count == len(watches))
        assert told.owner == here.owner == owner.name


async def test_a_replica_that_stops_hands_over(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """The other asks at once, long before a lease would end; it is no news that it does, and watches there go on."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        watch = await other.watch(sources=["omn"]).synced()
        await watch.turns("omn", ConditionState.HEALTHY)
        began = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(owner.stop())
        await both.owner("omn", but=owner.name)
        assert asyncio.get_running_loop().time() - began < LEASE_S / 2
        await stopping
        changed = other.vary("omn")
        await shows(watch, changed, ASSET_STATE_PROCESSING)
        assert watch.conditions("omn") == [ConditionState.HEALTHY]


async def test_a_replica_that_is_killed(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """The other asks once the lease is over, and what the watchers of the dead one named is of interest still."""
    async with replicas(etcd, etcd_prefix, tmp_path, every={"linger_s": 0.1}, lease_s=SHORT_LEASE_S) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        await owner.watch(assets=[{"source": "omn", "asset_id": sample("omn").asset_id}]).synced()
        await until(lambda: other.app._replica._parts.interests.elsewhere("omn"))  # type: ignore[union-attr]  # it is one of several
        await owner.kill()
        after = await both.owner("omn", but=owner.name)
        assert after is other
        await until(lambda: other.owns("omn") and other.shared("omn").wanted(sample("omn").asset_id))
        watch = await other.watch(sources=["omn"]).synced()
        changed = other.vary("omn")
        await shows(watch, changed, ASSET_STATE_PROCESSING)


async def test_a_read_waits_for_the_next_owner(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """A read that is asked for while the owner dies is made by the next one."""
    async with replicas(etcd, etcd_prefix, tmp_path, lease_s=SHORT_LEASE_S) as both:
        owner, other = await both.owner("omn"), await both.other("omn")
        owner["omn"].faults.add(path=SAMPLES["omn"].observe, delay_s=60, times=1)
        reading = asyncio.create_task(other.get(sample("omn"), max_age={"seconds": 0}))
        await owner.asked("omn", SAMPLES["omn"].observe)
        await owner.kill()
        assert (await reading).state == ASSET_STATE_AVAILABLE


async def test_a_write_at_another_is_read_at_once(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """What was deleted through a replica that does not ask the source is told before the call returns."""
    async with replicas(etcd, etcd_prefix, tmp_path, sources=("pieces",)) as both:
        owner, other = await both.owner("pieces"), await both.other("pieces")
        watch = await owner.watch(sources=["pieces"]).synced()
        api = PiecesAssetsServiceStub(other.channel)
        request = pieces_pb.DeleteAssetRequest(source="pieces", asset_id=sample("pieces").asset_id)
        deleted = await api.DeleteAsset(request)
        assert deleted.revision
        await until(lambda: owner.app.store.head >= deleted.revision)
        gone = await other.get(sample("pieces"), min_revision=deleted.revision)
        assert (gone.state, gone.revision) == (ASSET_STATE_DELETED, deleted.revision)
        watch.call.cancel()


async def asked(etcd: Cluster, prefix: str, folder: Path, names: tuple[str, ...]) -> tuple[int, int]:
    """Watch and read at each of some replicas; return how often the upstream was asked, and for how many assets."""
    spans = ("busy_interval_s", "settled_interval_s", "enumerate_interval_s", "probe_interval_s", "linger_s")
    async with replicas(etcd, prefix, folder, names, every=dict.fromkeys(spans, 600)) as running:
        asset = {"source": "omn", "asset_id": sample("omn").asset_id}
        owner = await running.owner("omn")
        for replica in running.running.values():
            await replica.watch(sources=["omn"]).synced()
            await replica.watch(assets=[asset]).synced()
            await replica.get(sample("omn"))
        return owner["omn"].requests.count(), owner.shared("omn").figures.asset_reads


async def test_three_ask_as_often_as_one(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """With a watch of the whole and one by name at each of three, the upstream is asked as if there were one."""
    one = await asked(etcd, f"{etcd_prefix}one/", tmp_path, ("a",))
    assert await asked(etcd, f"{etcd_prefix}three/", tmp_path, ("a", "b", "c")) == one


async def test_what_one_caller_may_name(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """The share of names that nobody ever saw an asset of is held at whichever replica they are named."""
    async with replicas(etcd, etcd_prefix, tmp_path, every={"assets_max": 100, "unknown_share_per_peer": 0.4}) as both:
        other = await both.other("omn")
        unknown = SAMPLES["omn"].unknown
        many = [{"source": "omn", "asset_id": f"{unknown[:-3]}{number:03d}"} for number in range(60)]
        ended = await other.watch(assets=many).end()
        assert ended is not None
        assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "nobody has ever seen" in (ended.details() or "")
        await other.watch(assets=many[:10]).synced()


async def test_a_read_may_take_as_long_as_its_owner_needs(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """Only to find an owner that answers there is a limit: one that answers is waited for, as if it were asked here."""
    async with replicas(etcd, etcd_prefix, tmp_path, every={"settled_interval_s": 60}) as both:
        other = await both.other("omn")
        other["omn"].faults.add(path=SAMPLES["omn"].observe, delay_s=1.5, times=1)
        with patch.object(forwarding, "WITHIN_S", 0.3):
            fresh = await other.get(sample("omn"), max_age={"seconds": 0})
        assert (fresh.state, fresh.freshness) == (ASSET_STATE_AVAILABLE, FRESHNESS_FRESH)


async def test_a_replica_of_a_newer_version_is_refused_what_is_not_known(
    etcd: Cluster, etcd_prefix: str, tmp_path: Path
) -> None:
    """An owner that is asked for something it has never heard of says so, and does not seem to have done it."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        with pytest.raises(SourceUnreachable, match="older version"):
            await other.shared("omn")._ask(peer_pb2.AskRequest())
