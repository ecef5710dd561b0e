"""Figures of replicas: what they ask upstream, how long a takeover takes, how late a change is through an election.

GRPC_ENABLE_FORK_SUPPORT=0 GRPC_VERBOSITY=ERROR PYTHONPATH=tests python -m faults.measures [requests takeover leader]

They are of this machine, and of what else it does; `starved` says how long the processes waited for a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from faults.replica_catalogue import member_killed
from faults.rig.delays import delays
from faults.rig.recorder import Recorder, Wanted
from faults.rig.replicas import LEASE_S, replicas
from faults.rig.upstreams import OMN, PACE, PIECES, SOURCES
from faults.rig.waiting import until
from faults.rig.world import Plan
from faults.runs import run, shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from faults.rig.replica import Replica
    from faults.rig.replicas import Replicas

BUSY_S = 10.0
"""What was new at the start is read as seldom as all else by then."""
COUNT_S = 30.0
MANY = 100_000
MANY_PER_S = 10_000
MANY_S = 120.0
ROUNDS = 3
QUOTA_BYTES = 2**30
ENDS = ("SIGTERM", "kill -9")


class Takeover(NamedTuple):
    """Seconds after an owner was ended: until others owned all it had, and until a first request came of each."""

    owned_s: float
    asked_s: float


async def requests(count: int) -> Mapping[str, float]:
    """Return how many requests a second each source gets of so many replicas, at rest, with watchers at each."""
    plan = Plan(1, replicas=count, recorders=7, churners=0, stalled=0, retention_s=60.0)
    async with replicas(plan) as running:
        await asyncio.sleep(BUSY_S)
        before, began = {name: running.upstreams[name].requests.count() for name in SOURCES}, time.monotonic()
        await asyncio.sleep(COUNT_S)
        took_s = time.monotonic() - began
        return {name: (running.upstreams[name].requests.count() - before[name]) / took_s for name in SOURCES}


async def takeovers(assets: int) -> tuple[list[Takeover], list[Takeover]]:
    """Return takeovers by SIGTERM and by kill -9, of owners of so many assets."""
    plan = Plan(2, replicas=3, recorders=0, churners=0, stalled=0, retention_s=60.0, quota_bytes=QUOTA_BYTES)
    async with replicas(plan) as running:
        running.add(Recorder("recorder", running.address, Wanted(frozenset({PIECES}))))
        assert await running.owned()
        await _made(running, assets)
        ended: Sequence[Callable[[Replica], Awaitable[int]]] = (lambda each: each.stop(), lambda each: each.kill())
        found: list[list[Takeover]] = [[], []]
        for _ in range(ROUNDS):
            for how, end in enumerate(ended):
                found[how].append(await _takeover(running, running.replica(running.history.owners()[OMN]), end))
        return found[0], found[1]


async def _made(running: Replicas, assets: int) -> None:
    """Have the owner of one source keep so many assets that nobody watches, past its adapter."""
    if not assets:
        return
    owner = running.replica(running.history.owners()[OMN])
    owner.server.tell(ingest={"source": OMN, "assets": assets, "per_s": MANY_PER_S})
    assert await until(lambda: running.history.changed_since(0.0) >= assets, MANY_S)
    owner.server.tell(ingest={"per_s": 0})
    await asyncio.sleep(3)


async def _takeover(running: Replicas, replica: Replica, end: Callable[[Replica], Awaitable[int]]) -> Takeover:
    had, began = running.owned_by(replica), time.monotonic()
    ending = asyncio.create_task(_timed(end(replica)))

    def owned() -> bool:
        owners = running.history.owners()
        return all(owners.get(source, replica.name) != replica.name for source in had)

    assert await until(owned, LEASE_S + 20)
    owned_at = max(term.began_at for term in running.history.terms() if term.source in had)
    asked: dict[str, float] = {}

    def first() -> bool:
        for source in had:
            mine = running.replicas.index(replica)
            later = (t for t, caller, _ in running.upstreams.callers(source) if t > began and caller != mine)
            asked.setdefault(source, next(later, 0.0))
            if not asked[source]:
                del asked[source]
        return len(asked) == len(had)

    assert await until(first, 20)
    await ending
    await replica.start()
    await running.owned()
    await asyncio.sleep(5)
    return Takeover(owned_at - began, max(asked.values()) - began)


async def _timed(work: Awaitable[int]) -> int:
    return await work


async def leader() -> list[float]:
    """Return the delays of all changes around a killed leader of three members of etcd."""
    async with replicas(shared(3, members=3, pace=PACE)) as running:
        running.work()
        await asyncio.sleep(3)
        running.measure()
        killed = await running.etcd.leader()
        assert killed is not None
        window = await member_killed(killed, 3, "E leader killed")
        running.windows.append(window)
        await asyncio.sleep(4)
        evidence = await running.evidence(quiet_s=10)
        print(f"leader: {evidence.changes_per_s:.0f} changes/s, starved {evidence.starved:.0%}", file=sys.stderr)  # noqa: T201
        return list(delays(evidence, window.began_at - 1, window.ended_at + 1))


Found: TypeAlias = "Mapping[str, Any]"


def requests_of_both() -> Found:
    """Return, by source, the requests a second that it gets of one replica, and of three."""
    one, three = run(requests(1)), run(requests(3))
    return {name: (one[name], three[name]) for name in SOURCES}


def takeovers_of_many() -> Found:
    """Return how long takeovers of many assets took, by how the owner ended."""
    how = dict(zip(ENDS, run(takeovers(MANY)), strict=True))
    seconds = {
        end: {"owned_s": [each.owned_s for each in found], "asked_s": [each.asked_s for each in found]}
        for end, found in how.items()
    }
    return {"lease_s": LEASE_S, "assets": MANY, **seconds}


def around_an_election() -> Found:
    """Return how late changes were told around an election."""
    late = run(leader())
    return {"changes": len(late), "p99_s": statistics.quantiles(late, n=100)[98], "max_s": max(late)}


def told(what: str, found: Found) -> Iterator[str]:
    """Yield lines that say it."""
    match what:
        case "requests":
            for name, (one, three) in found.items():
                yield f"requests/s of {name:20} 1 replica {one:6.2f}, 3 replicas {three:6.2f}: {three / one:.3f}"
        case "takeover":
            for end in ENDS:
                owned, asked = found[end]["owned_s"], found[end]["asked_s"]
                yield (
                    f"takeover by {end}, {found['assets']} assets, lease {found['lease_s']} s: owned after"
                    f" {statistics.median(owned):.2f} s (at most {max(owned):.2f}), asked after"
                    f" {statistics.median(asked):.2f} s (at most {max(asked):.2f})"
                )
        case "leader":
            yield f"{found['changes']} changes told, p99 {found['p99_s']:.2f} s late, at most {found['max_s']:.2f} s"


MEASURES: Mapping[str, Callable[[], Found]] = {
    "requests": requests_of_both,
    "takeover": takeovers_of_many,
    "leader": around_an_election,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m faults.measures", description=__doc__)
    parser.add_argument("what", nargs="*", default=list(MEASURES))
    parser.add_argument("--json", action="store_true", help="a line of JSON for each, for bench/b9_replicas.py")
    options = parser.parse_args(arguments)
    for what in options.what:
        found = MEASURES[what]()
        for line in [json.dumps(found)] if options.json else told(what, found):
            print(line)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
