"""A run with replicas: etcd, three server processes that share it, and clients that hop between them."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING, Any

from faults.rig.etcd import Etcd
from faults.rig.history import History
from faults.rig.ownership import Call
from faults.rig.proxy import Proxy
from faults.rig.replica import Replica
from faults.rig.upstreams import PIECES, SOURCES
from faults.rig.waiting import until
from faults.rig.world import SPANS, World, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from faults.rig.evidence import Evidence, Journal
    from faults.rig.recorder import Recorder
    from faults.rig.world import Plan

PREFIX = "/assetwatch/"
LEASE_S = 3
CUT_OFF_S = 2
STAY_S = (1.5, 6.0)
"""A recorder leaves a stream at a moment between these, and goes on at whichever replica it comes to."""
SETTLED_S = 10.0


class Balancer(Proxy):
    """Passes each connection to one of several servers, at random; to the next one where nobody listens."""

    def __init__(self, ports: Sequence[int], *, seed: int) -> None:
        super().__init__("127.0.0.1", 0, seed=seed)
        self._choice = random.Random(seed)  # noqa: S311 - a run must be repeatable
        self._behind = list(ports)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to one of them. Raises: OSError when nobody listens."""
        ports = self._choice.sample(self._behind, len(self._behind))
        for port in ports[:-1]:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                self.counts.refused += 1
        return await asyncio.open_connection("127.0.0.1", ports[-1])


class Replicas(World):
    """A run under way. Its front is a balancer; history: all that was written to etcd."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        super().__init__(plan, directory)
        self.callers = plan.replicas
        self.etcd = Etcd(directory, plan.members, quota_bytes=plan.quota_bytes)
        self.history = History(self.etcd.members, PREFIX)
        self.replicas: list[Replica] = []
        self._following: asyncio.Task[None] | None = None

    # Beginning and end ---------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Start etcd, then all replicas at once."""
        await self.etcd.start()
        self.follow()
        secret = self.directory / "peers"
        secret.write_text(secrets.token_hex(32))
        for number in range(self.plan.replicas):
            name = f"replica-{number}"
            self.replicas.append(Replica(name, self.directory / name, SPANS, self.plan.mutant))
        await asyncio.gather(*(self._start(number, each, secret) for number, each in enumerate(self.replicas)))
        self.server = self.replicas[0].server
        self.front = Balancer([each.server.port for each in self.replicas], seed=self.plan.seed)

    async def _start(self, number: int, replica: Replica, secret: Path) -> None:
        store = {
            "kind": "etcd",
            "endpoints": await replica.link(self.etcd.members),
            "prefix": PREFIX,
            "replica": replica.name,
            "peer_listen": "127.0.0.1:0",
            "peer_token_file": str(secret),
            "lease_s": LEASE_S,
            "cut_off_s": CUT_OFF_S,
            "tombstone_retention_s": self.plan.retention_s,
        }
        await replica.start(self.settings(store, number))

    async def serve_no_more(self) -> None:
        """End everything, etcd last."""
        await asyncio.gather(*(replica.close() for replica in self.replicas))
        await self.follow_no_more()
        await self.etcd.stop()

    def follow(self) -> None:
        """Follow what is written to etcd."""
        self._following = asyncio.create_task(self.history.run())

    async def follow_no_more(self) -> None:
        """Stop that."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    def add(self, recorder: Recorder) -> None:
        """Let a recorder begin, and hop."""
        rng = random.Random(self.rng.getrandbits(32))  # noqa: S311 - a run must be repeatable
        recorder.stay_s = lambda: rng.uniform(*STAY_S)
        super().add(recorder)

    # Who is who ------------------------------------------------------------------------------------------------------

    def replica(self, name: str) -> Replica:
        """Return the one of that name."""
        return next(each for each in self.replicas if each.name == name)

    def owner(self) -> Replica:
        """Return one that owns something; any, if nobody does now."""
        owners = sorted(set(self.history.owners().values()))
        return self.replica(self.rng.choice(owners)) if owners else self.rng.choice(self.replicas)

    def owned_by(self, replica: Replica) -> list[str]:
        """Return what a replica owns."""
        return [source for source, name in self.history.owners().items() if name == replica.name]

    async def owned(self, sources: Sequence[str] = SOURCES, *, within_s: float = SETTLED_S) -> bool:
        """Return whether all of them are owned in that time."""
        return await until(lambda: set(sources) <= self.history.owners().keys(), within_s)

    # Judging ---------------------------------------------------------------------------------------------------------

    def journal(self) -> Journal:
        """Return what was written to etcd, with the delay points that replicas passed."""
        journal = self.history.journal()
        for replica in self.replicas:
            journal.points += replica.points()
        return journal

    def changed_since(self, t: float) -> int:
        """Count what was written."""
        return self.history.changed_since(t)

    def pids(self) -> list[int]:
        """Return the processes that run now."""
        return [each.server.pid for each in self.replicas if each.server.running]

    def stderr(self) -> str:
        """Return what all have said."""
        return "".join(each.server.stderr.read_text() for each in self.replicas)

    async def found(self, quiet_at: float, *, settled: bool, starved: float) -> Evidence:
        """Put it down: with what each replica lists, and who asked."""
        await self.history.reached(await self.etcd.revision())
        lists = {each.name: await self.list_at(f"127.0.0.1:{each.server.port}") for each in self.replicas}
        evidence = await super().found(quiet_at, settled=settled, starved=starved)
        evidence.also_listed = lists
        evidence.terms = self.history.terms()
        evidence.begun = {name: [term.began_at for term in evidence.terms if term.source == name] for name in SOURCES}
        evidence.calls = {
            name: [Call(t, self.replicas[caller].name, path) for t, caller, path in self.upstreams.callers(name)]
            for name in SOURCES
        }
        dropped: Any = await self.upstreams[PIECES].commands["drop_streams"]({})
        evidence.pushes = {PIECES: dropped["connections"]}
        evidence.ended = [end for each in self.replicas for end in each.ended]
        return evidence


def replicas(plan: Plan) -> AbstractAsyncContextManager[Replicas]:
    """Run one, as planned."""
    return running(lambda directory: Replicas(plan, directory))
