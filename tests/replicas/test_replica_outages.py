"""A replica that is cut off from etcd, or that comes first for a source: what its clients and the others see of it."""

from __future__ import annotations

import asyncio
import gc
import itertools
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, patch

import pytest
from assetwatch.v1.asset_status_pb2 import ASSET_STATE_PROCESSING
from grpc_health.v1 import health_pb2, health_pb2_grpc

from assetwatchd.model.errors import NotOwner
from assetwatchd.model.values import ConditionState
from assetwatchd.replicas import rank
from assetwatchd.replicas.conditions import CUT_OFF
from assetwatchd.replicas.rank import Candidate, first
from assetwatchd.replicas.shared import SharedSource
from support.etcd import client_of
from support.replica_rig import LEASE_S, SHORT_LEASE_S, replicas, until, way_to
from support.rig import SAMPLES, sample

if TYPE_CHECKING:
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.replicas.owned import Owned
    from support.replica_rig import Replica

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(replica: Replica) -> int:
    """How a replica says it is."""
    stub: Any = health_pb2_grpc.HealthStub(replica.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    return int(answer.status)


async def test_an_owner_that_is_cut_off(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """It asks no more by its own clock before the other does, and says that it is cut off; then it is as before."""
    async with (
        way_to(etcd) as way,
        replicas(etcd, etcd_prefix, tmp_path, (), lease_s=SHORT_LEASE_S, cut_off_s=2) as both,
    ):
        owner = await both.start("a", endpoints=[f"http://{way.address}"])
        await both.owner("omn")
        other = await both.start("b")
        watch = await owner.watch(sources=["omn"]).synced()
        way.blackhole()
        overlap = []
        while not other.owns("omn"):
            overlap.append(owner.owns("omn"))
            await asyncio.sleep(0.01)
        assert not owner.owns("omn")
        assert overlap[-1] is False
        await watch.turns("omn", ConditionState.UNREACHABLE)
        await until(lambda: owner.shared("omn").condition.message == CUT_OFF)
        assert await health(owner) == NOT_SERVING
        assert await health(other) == SERVING
        told = await watch.end()
        assert told is not None
        assert "cut off" in (told.details() or "")
        again = await owner.watch(sources=["omn"], resume_token=watch.token).synced()
        changed = other.vary("omn")
        way.heal()
        await again.holds(lambda held: changed in held and held[changed].state == ASSET_STATE_PROCESSING)
        await again.turns("omn", ConditionState.HEALTHY)
        assert await health(owner) == SERVING
        again.call.cancel()


async def test_what_a_former_owner_writes_is_refused(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """An owner that does not know that it is none any more, as one that was paused, keeps nothing, and stops asking."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both, client_of(*etcd.endpoints) as client:
        owner, other = await both.owner("omn"), await both.other("omn")
        watch = await other.watch(sources=["omn"]).synced()
        session = owner.app._replica._session  # type: ignore[union-attr]  # it is one of several
        listeners = owner.app.store.mirror._listeners  # type: ignore[attr-defined]  # of the store on etcd
        listeners[:] = [each for each in listeners if each[0] != b"o/"]  # it is not told whose the sources are,
        alive = AsyncMock(return_value=LEASE_S)
        with patch.object(session._client, "keep_alive", alive):  # nor that its session ended
            await until(lambda: alive.await_count)
            await client.revoke(session.lease)
            await until(lambda: other.owns("omn"))
            assert owner.owns("omn")
            forms = itertools.cycle([SAMPLES["omn"].another, SAMPLES["omn"].native])
            while owner.owns("omn"):  # until it is the first of the two to read a change
                owner["omn"].put(sample("omn").asset_id, next(forms))
                await asyncio.sleep(0.15)
        assert other.owns("omn")
        owner.vary("omn")
        await watch.holds(lambda held: held[sample("omn")].state == ASSET_STATE_PROCESSING)
        revisions = [change.status.revision for message in watch.messages for change in message.changes]
        assert revisions == sorted(set(revisions))
        assert len(watch.messages[-1].changes) <= 1


async def test_a_source_goes_to_whoever_comes_first(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """One that joins is handed what it comes first for, once it is there for long enough; nobody's watch ends."""
    names = sorted(["a", "b"], key=lambda name: rank.score("omn", Candidate(name, "")))
    with patch.object(rank, "PRESENT_S", 0.5), patch.object(rank, "HAND_OVER_EVERY_S", 0.5):
        async with replicas(etcd, etcd_prefix, tmp_path, [names[1]]) as both:
            second = await both.owner("omn")
            watch = await second.watch(sources=["omn"]).synced()
            joined = await both.start(names[0])
            assert await both.owner("omn", but=second.name) is joined
            changed = joined.vary("omn")
            await watch.holds(lambda held: held[changed].state == ASSET_STATE_PROCESSING)
            watch.call.cancel()
            assert first("omn", [joined.app._replica._parts.present.me]).name == names[0]  # type: ignore[union-attr]  # it is one


async def test_all_is_told_anew_in_another_session(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """A replica whose session was lost comes back with all that its clients watch, and can be asked for reads."""
    async with (
        replicas(etcd, etcd_prefix, tmp_path, every={"linger_s": 0.1}) as both,
        client_of(*etcd.endpoints) as client,
    ):
        owner, other = await both.owner("omn"), await both.other("omn")
        watch = await other.watch(assets=[{"source": "omn", "asset_id": sample("omn").asset_id}]).synced()
        before = other.app._replica._session.lease  # type: ignore[union-attr]  # it is one of several
        with patch("assetwatchd.replicas.interests.GRACE_S", 0.01):
            await client.revoke(before)
            await until(lambda: other.app._replica._session.lease not in {0, before})  # type: ignore[union-attr]  # same
            await until(lambda: owner.shared("omn").wanted(sample("omn").asset_id))
        other.vary("omn")
        await watch.holds(lambda held: held[sample("omn")].state == ASSET_STATE_PROCESSING)
        watch.call.cancel()


async def test_a_stranger_is_not_let_in(etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """Whoever does not know the secret gets no answer, and a replica with another one cannot ask."""
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        other = await both.other("omn")
        peers = other.app._replica._peers  # type: ignore[union-attr]  # it is one of several
        peers._access = peers._access._replace(token="another-secret-and-long-enough")
        with pytest.raises(Exception, match="did not answer"), patch("assetwatchd.replicas.forwarding.WITHIN_S", 0.5):
            await other.shared("omn").read([sample("omn").asset_id], max_age_s=0)


async def test_what_a_term_fails_with_as_its_process_ends_is_looked_at(
    etcd: Cluster, etcd_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that learns that it is nobody's any more, in the moment in which all is cancelled, is no news."""
    run_term, unseen = SharedSource._run_term, list[str]()

    async def failing(source: SharedSource, owned: Owned) -> None:
        try:
            await run_term(source, owned)
        except asyncio.CancelledError:
            raise NotOwner(source.name) from None

    monkeypatch.setattr(SharedSource, "_run_term", failing)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(str(context)))
    async with replicas(etcd, etcd_prefix, tmp_path) as both:
        await (await both.owner("omn")).kill()
        gc.collect()
    assert unseen == []
