"""One run put together: upstreams, a server process, the load, clients; and what it leaves to be judged."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from faults.rig.evidence import Evidence, read_journal
from faults.rig.follower import Follower
from faults.rig.load import SMALL, Load
from faults.rig.process import Server
from faults.rig.proxy import Proxy
from faults.rig.recorder import OPTIONS, Churner, Recorder, Stalled, Wanted
from faults.rig.upstreams import MEDIA, OMN, PACE, PIECES, SBC, SOURCES, USD, Upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from faults.rig.evidence import Journal, Window
    from faults.rig.load import Key

LOAD_PER_S = 200.0
READY_S = 60.0
QUIET_S = 5.0
LATE_S = 30.0
"""However little processor there is: maps that are not right by then never will be."""
LOOK_S = 0.1
NAMED_MAX = 10
CLOSE_S = 0.2
"""Sockets that were aborted are closed within this; a loop that ends earlier complains."""
SERVER: Mapping[str, Any] = {"heartbeat_s": 0.1, "drain_s": 2, "first_read_wait_s": 5}
SPANS: Mapping[str, float] = {"tidy_interval_s": 0.2, "doubt_s": 0.1}


@dataclass
class Plan:
    """How a run is shaped. store: memory or sqlite; retention_s: of tombstones; followers: watches of the library.

    replicas: 0 for one server with a store of its own; members: of the etcd of replicas. quota_bytes: of that etcd, in
    which what a run writes has room, and which is filled up within a second.
    """

    seed: int
    store: str = "sqlite"
    retention_s: float = 1.0
    sizes: Mapping[str, int] = field(default_factory=lambda: SMALL)
    recorders: int = 8
    followers: int = 0
    churners: int = 4
    stalled: int = 4
    server: Mapping[str, Any] = field(default_factory=dict)
    pace: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: PACE)
    mutant: str = ""
    replicas: int = 0
    members: int = 1
    quota_bytes: int = 64 * 2**20


class World:
    """A run under way. windows: the faults so far; front: the proxy between clients and server.

    callers: how many processes ask the upstreams.
    """

    callers = 1

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)  # noqa: S311 - a run must be repeatable
        self.directory = directory
        self.upstreams = Upstreams()
        self.load = Load(self.upstreams, seed=plan.seed, sizes=plan.sizes)
        self.windows: list[Window] = []
        self.recorders: list[Recorder] = []
        self.followers: list[Follower] = []
        self.churners: list[Churner] = []
        self.stalled: list[Stalled] = []
        self.changes_per_s = 0.0
        self._working_since: tuple[float, float] = (0.0, 0.0)
        self._expectations: dict[Wanted, tuple[int, dict[Key, int]]] = {}
        self.server: Server
        self.front: Proxy
        self._clients: list[asyncio.Task[None]] = []
        self._loading: asyncio.Task[None] | None = None

    # Beginning and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything but the load; return once every recorder is in sync with what is true upstream."""
        self.load.populate()
        await self.upstreams.start(self.callers)
        await self.serve()
        await self.front.start()
        self._people()
        if not await self.settles(READY_S):
            raise RuntimeError(f"the maps did not become what is true upstream: {self.unsettled()}")

    async def serve(self) -> None:
        """Start what serves, and make what clients connect to."""
        store: dict[str, Any] = {"kind": self.plan.store, "tombstone_retention_s": self.plan.retention_s}
        if self.plan.store != "memory":
            store["path"] = str(self.directory / "store.db")
        self.server = Server(self.settings(store), self.directory, spans=SPANS, mutant=self.plan.mutant)
        await self.server.start()
        self.front = Proxy("127.0.0.1", self.server.port, seed=self.plan.seed)

    def settings(self, store: Mapping[str, Any], caller: int = 0) -> dict[str, Any]:
        """Return the configuration of what serves."""
        return {
            "server": {**SERVER, **self.plan.server},
            "store": dict(store),
            "telemetry": {"log_level": "info"},
            "sources": self.upstreams.settings(self.plan.pace, caller),
        }

    def _people(self) -> None:
        kinds = self._kinds()
        for number in range(self.plan.recorders):
            self.add(Recorder(f"recorder-{number}", self.address, kinds[number % len(kinds)]))
        for number in range(self.plan.followers):
            follower = Follower(f"follower-{number}", self.address, kinds[(self.plan.seed + number) % len(kinds)])
            self.followers.append(follower)
            self._clients.append(asyncio.create_task(follower.run()))
        for number in range(self.plan.churners):
            rng = random.Random(self.rng.getrandbits(32))  # noqa: S311 - a run must be repeatable
            churner = Churner(f"churner-{number}", self.address, kinds[number % len(kinds)], rng=rng)
            self.churners.append(churner)
            self._clients.append(asyncio.create_task(churner.run()))
        for number in range(self.plan.stalled):
            stalled = Stalled(f"stalled-{number}", self.address, kinds[0])
            self.stalled.append(stalled)
            self._clients.append(asyncio.create_task(stalled.run()))

    def add(self, recorder: Recorder) -> None:
        """Let a recorder begin."""
        self.recorders.append(recorder)
        self._clients.append(asyncio.create_task(recorder.run()))

    def _kinds(self) -> list[Wanted]:
        """Eight ways to watch: all, one source, by name, by state, and mixtures."""
        everything = frozenset(SOURCES)
        some = frozenset(
            key
            for source in SOURCES
            for key in self.rng.sample(self.load.keys[source], min(NAMED_MAX, len(self.load.keys[source])))
        )
        settled = frozenset({status_pb.ASSET_STATE_AVAILABLE, status_pb.ASSET_STATE_FAILED})
        ended = frozenset(
            {status_pb.ASSET_STATE_AVAILABLE, status_pb.ASSET_STATE_DELETED, status_pb.ASSET_STATE_MISSING}
        )
        return [
            Wanted(everything),
            Wanted(frozenset({OMN})),
            Wanted(frozenset({PIECES, SBC})),
            Wanted(keys=some),
            Wanted(everything, states=settled),
            Wanted(frozenset({PIECES, MEDIA}), keys=frozenset(key for key in some if key[0] == USD)),
            Wanted(frozenset({PIECES, OMN}), states=ended),
            Wanted(everything),
        ]

    def address(self) -> str:
        """Where clients connect."""
        return self.front.address

    async def stop(self) -> None:
        """End everything; nothing is left running."""
        await self.rest()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if hasattr(self, "front"):
            await self.front.stop()
        await self.serve_no_more()
        await self.upstreams.stop()
        await asyncio.sleep(CLOSE_S)

    async def serve_no_more(self) -> None:
        """End what serves."""
        if hasattr(self, "server"):
            await self.server.stop()

    # The load --------------------------------------------------------------------------------------------------------

    def work(self, per_s: float = LOAD_PER_S) -> None:
        """Begin to change assets."""
        self._working_since = (time.monotonic(), _starved_s(os.getpid()))
        self._loading = asyncio.create_task(self.load.run(per_s))

    async def rest(self) -> None:
        """Stop changing assets."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
            self._loading = None

    def measure(self) -> None:
        """Count the changes of the second before now; a run with too few of them is void."""
        self.changes_per_s = float(self.changed_since(time.monotonic() - 1.0))

    def changed_since(self, t: float) -> int:
        """Count the changes since a moment, some seconds ago at the most."""
        return sum(entry.t >= t for entry in self.journal().last.entries[-2000:])

    # Waiting ---------------------------------------------------------------------------------------------------------

    async def settles(self, within_s: float) -> bool:
        """Return whether the map of every recorder and follower becomes what is true upstream in that time."""
        until = time.monotonic() + within_s
        while (late := self.unsettled()) and time.monotonic() < until:  # noqa: ASYNC110 - maps change unheard
            await asyncio.sleep(LOOK_S)
        return not late

    def unsettled(self) -> list[str]:
        """Name those whose map is not, and one asset each."""
        everybody: list[Recorder | Follower] = [*self.recorders, *self.followers]
        return [text for who in everybody if (text := self._lacks(who))]

    def _lacks(self, who: Recorder | Follower) -> str:
        if not who.synced:
            return f"{who.name} is not in sync {who.failed}"
        expected, held = self._expected(who.wanted), who.numbers
        if expected == held:
            return ""
        for key in expected.keys() | held.keys():
            gone_long = expected.get(key) == 0 and key not in held and key not in who.wanted.keys
            if expected.get(key) != held.get(key) and not gone_long:  # who begins anew need not hear of what is gone
                return f"{who.name} has {key} as {held.get(key)}, not {expected.get(key)}"
        return ""

    def _expected(self, wanted: Wanted) -> Mapping[Key, int]:
        """What a map should show by number; kept until something changes upstream."""
        changes, numbers = self._expectations.get(wanted, (0, {}))
        if changes != len(self.load.facts):
            numbers = {key: fact.number for key, fact in self.load.now.items() if self._held(wanted, key)}
            self._expectations[wanted] = (len(self.load.facts), numbers)
        return numbers

    def _held(self, wanted: Wanted, key: Key) -> bool:
        fact = self.load.now[key]
        if not wanted.concerns(key) or (wanted.states and fact.state not in wanted.states):
            return False
        return bool(fact.number) or key in wanted.keys or bool(wanted.states)

    # Judging ---------------------------------------------------------------------------------------------------------

    def journal(self) -> Journal:
        """Return what the store has been so far."""
        return read_journal(self.server.journal)

    def pids(self) -> list[int]:
        """Return the processes that serve now."""
        return [self.server.pid]

    def stderr(self) -> str:
        """Return what those who serve have said."""
        return self.server.stderr.read_text()

    async def evidence(self, *, quiet_s: float = QUIET_S) -> Evidence:
        """Stop the load, wait until all is quiet, ask List, and put down everything there is to judge."""
        await self.rest()
        quiet_at, starved_s = time.monotonic(), {pid: _starved_s(pid) for pid in self.pids()}
        settled = await self.settles(quiet_s)
        if not settled:
            print(self.unsettled())  # noqa: T201 - for whoever looks at the failure
            await self.settles(LATE_S)  # that it took long is one thing, that it never came right another
        since, own_s = self._working_since
        starved = [_share(_starved_s(os.getpid()) - own_s, time.monotonic() - since)]
        quiet_s = max(time.monotonic() - quiet_at, 1.0)
        same = starved_s.keys() & set(self.pids())
        starved += [_share(_starved_s(pid) - starved_s[pid], quiet_s) for pid in same]
        await asyncio.sleep(3 * SERVER["heartbeat_s"])
        return await self.found(quiet_at, settled=settled, starved=max(starved))

    async def found(self, quiet_at: float, *, settled: bool, starved: float) -> Evidence:
        """Put it down."""
        listed = await self.list_at(f"127.0.0.1:{self.server.port}")
        journal = self.journal()
        return Evidence(
            journal=journal,
            recorders=self.recorders,
            followers=self.followers,
            churners=self.churners,
            facts=list(self.load.facts),
            windows=self.windows,
            listed=listed,
            quiet_at=quiet_at,
            settled=settled,
            retention_s=self.plan.retention_s,
            requests={
                name: [(each.time, each.path_qs, each.status) for each in self.upstreams[name].requests.all()]
                for name in SOURCES
            },
            rates={name: pace["rate_per_s"] for name, pace in self.plan.pace.items()},
            begun=dict.fromkeys(SOURCES, journal.ready_at),
            changes_per_s=self.changes_per_s,
            starved=starved,
            stderr=self.stderr(),
        )

    async def list_at(self, address: str) -> dict[Key, status_pb.AssetStatus]:
        """List everything, page after page."""
        found: dict[Key, status_pb.AssetStatus] = {}
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            call = AssetStatusServiceStub(channel).ListAssetStatuses
            token = ""
            while True:
                page = await call(pb.ListAssetStatusesRequest(page_size=1000, page_token=token), timeout=READY_S)
                for status in page.statuses:
                    found[status.asset.source, status.asset.asset_id] = status
                if not (token := page.next_page_token):
                    return found


def _starved_s(pid: int) -> float:
    """How long the main thread of a process has waited for a processor; seconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _share(part_s: float, whole_s: float) -> float:
    return part_s / whole_s


W = TypeVar("W", bound=World)


def world(plan: Plan) -> AbstractAsyncContextManager[World]:
    """Run one, as planned."""
    return running(lambda directory: World(plan, directory))


@asynccontextmanager
async def running(make: Callable[[Path], W]) -> AsyncIterator[W]:
    """Run one in a directory of its own, which goes with it."""
    directory = Path(tempfile.mkdtemp(prefix="assetwatch-faults-"))
    made = make(directory)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        shutil.rmtree(directory, ignore_errors=True)
