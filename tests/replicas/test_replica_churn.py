"""Three servers that come and go in every way, and watchers that go from one to the next with their tokens."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED

from support.reader import PATIENCE_S
from support.replica_rig import SHORT_LEASE_S, replicas, way_to
from support.rig import key_of

if TYPE_CHECKING:
    from pathlib import Path

    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.model.values import AssetKey
    from faults.rig.proxy import Proxy
    from support.replica_rig import Replica, Replicas

NAMES = ("a", "b", "c")
SOURCES = ("omn", "pieces", "oracle-sbc")
FAULTS = 6
SERVER = {"heartbeat_s": 0.5, "first_read_wait_s": 0.5}
SHORT: dict[str, Any] = {"lease_s": SHORT_LEASE_S, "cut_off_s": 2}
HOP_S = (0.3, 2.0)
SILENT_S = 5.0


class Hopper:
    """A client that keeps a watch of all sources over any of the servers, and notes what must not be."""

    def __init__(self, running: Replicas, rng: random.Random) -> None:
        self.map: dict[AssetKey, AssetStatus] = {}
        self.token = ""
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._running = running
        self._rng = rng
        self._seen: set[tuple[AssetKey, int]] = set()
        self._high: dict[AssetKey, int] = {}

    async def run(self) -> None:
        """Hop until cancelled."""
        while True:
            await self._stay(self._rng.choice(list(self._running.running.values())))

    async def _stay(self, replica: Replica) -> None:
        """Watch one for a while."""
        stub, until = replica.statuses, asyncio.get_running_loop().time() + self._rng.uniform(*HOP_S)
        call = stub.WatchStatus(pb.WatchStatusRequest(sources=SOURCES, resume_token=self.token))
        last = 0
        try:
            while asyncio.get_running_loop().time() < until:
                async with asyncio.timeout(SILENT_S):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                last = self._take(message, last)
        except grpc.aio.AioRpcError as error:
            self.counts[error.code().name] += 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self.wrong.append(f"{replica.name}: {error.code().name}: {error.details()}")
            await asyncio.sleep(0.1)
        except (TimeoutError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self.counts["silent, or gone"] += 1
            await asyncio.sleep(0.1)
        finally:
            call.cancel()

    def _take(self, message: pb.WatchStatusResponse, last: int) -> int:
        if message.HasField("started"):
            mode = pb.WatchStarted.Mode.Name(message.started.mode)
            self.counts[mode] += 1
            if mode == "MODE_SNAPSHOT":
                if self.token:
                    self.wrong.append("a snapshot, in spite of a token")
                self.map.clear()
                self._seen.clear()
        for change in message.changes:
            key, revision = key_of(change.status), change.status.revision
            if revision <= last:
                self.wrong.append(f"{key}: {revision} after {last}")
            if (key, revision) in self._seen:
                self.wrong.append(f"{key}: {revision} twice")
            if revision < self._high.get(key, 0):
                self.wrong.append(f"{key}: {revision}, which is older than {self._high[key]}")
            last = revision
            self._seen.add((key, revision))
            self._high[key] = revision
            if change.kind == CHANGE_KIND_REMOVED:
                self.map.pop(key, None)
            else:
                self.map[key] = change.status
        self.token = message.resume_token or self.token
        return last


async def strike(running: Replicas, ways: dict[str, Proxy], rng: random.Random) -> str:
    """Let something happen to one of the servers, and be over."""
    replica = rng.choice(list(running.running.values()))
    fault = rng.choice(["kill", "stop", "cut", "cut short"])
    way = ways[replica.name]
    if fault.startswith("cut"):
        way.blackhole()
        await asyncio.sleep(SHORT_LEASE_S / 2 if fault == "cut short" else 2.5 * SHORT_LEASE_S)
        way.heal()
        return fault
    await (replica.kill() if fault == "kill" else replica.stop())
    del running.running[replica.name]
    await asyncio.sleep(rng.choice([0, 1]))
    await running.start(replica.name, endpoints=[f"http://{way.address}"])
    return fault


@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_or_doubled(etcd: Cluster, etcd_prefix: str, tmp_path: Path, seed: int) -> None:
    """Whatever happens to the servers, no token is refused, nothing comes twice or late, and in the end all agree."""
    rng = random.Random(seed)  # noqa: S311 - a run can be repeated
    async with (
        way_to(etcd) as one,
        way_to(etcd) as two,
        way_to(etcd) as three,
        replicas(etcd, etcd_prefix, tmp_path, (), sources=SOURCES, server=SERVER, **SHORT) as running,
    ):
        ways = dict(zip(NAMES, (one, two, three), strict=True))
        for name, way in ways.items():
            await running.start(name, endpoints=[f"http://{way.address}"])
        hoppers = [Hopper(running, random.Random(seed + n)) for n in range(3)]  # noqa: S311 - same
        hopping = [asyncio.create_task(hopper.run()) for hopper in hoppers]
        living = asyncio.create_task(running.sandbox.live(seed=seed, speed=4.0))
        faults = [await strike(running, ways, rng) for _ in range(FAULTS)]
        living.cancel()
        for task in hopping:
            task.cancel()
        results = await asyncio.gather(*hopping, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        assert len(faults) == FAULTS
        async with asyncio.timeout(PATIENCE_S):
            while not await agree(running, hoppers):  # noqa: ASYNC110 - what the upstreams do last may be on its way
                await asyncio.sleep(0.2)
        for hopper in hoppers:
            assert not hopper.wrong, hopper.wrong[:3]
        assert sum(hopper.counts["MODE_RESUMED"] for hopper in hoppers) >= FAULTS  # else nothing was tried


async def agree(running: Replicas, hoppers: list[Hopper]) -> bool:
    """Whether all servers, and all watches that go on at one of them, come to the same."""
    replicas = list(running.running.values())
    maps = [(await replica.watch(sources=SOURCES).synced()).map for replica in replicas]
    for hopper in hoppers:
        stream = await replicas[0].watch(sources=SOURCES, resume_token=hopper.token).synced()
        last = 0
        for message in stream.messages:
            last = hopper._take(message, last)
        maps.append(hopper.map)
    return all(each == maps[0] for each in maps)
