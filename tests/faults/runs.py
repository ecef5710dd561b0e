"""Exploratory runs: load, one fault chosen by the seed, more load, then judgement.

GRPC_ENABLE_FORK_SUPPORT=0 GRPC_VERBOSITY=ERROR PYTHONPATH=tests python -m faults.runs --help

Prints a line a run with its seed, and at the end runs, faults fired, voids and violations. Ends 1 on a violation.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from faults import catalogue, replica_catalogue
from faults.rig import oracle
from faults.rig.load import FULL
from faults.rig.replicas import SETTLED_S, replicas
from faults.rig.upstreams import PACE_FULL
from faults.rig.world import Plan, world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from faults.rig.evidence import Evidence, Window
    from faults.rig.oracle import Verdict
    from faults.rig.world import World

T = TypeVar("T")

QUIET_S = 5.0
KNOWN = sorted({*catalogue.FAULTS, *replica_catalogue.FAULTS})


@dataclass
class Outcome:
    """How one run went. reasons: with which of ours streams ended; starved: see Evidence."""

    seed: int
    windows: Sequence[Window]
    verdict: Verdict
    changes_per_s: float
    took_s: float
    reasons: frozenset[str] = frozenset()
    starved: float = 0.0

    def __str__(self) -> str:
        faults = " + ".join(window.fault for window in self.windows) or "no fault"
        words = f"seed {self.seed}: {self.verdict.word}  {faults}  {self.changes_per_s:.0f} changes/s"
        lines = [
            f"{words}  {self.took_s:.1f} s  starved {self.starved:.0%}",
            *(f"    void: {why}" for why in self.verdict.void),
        ]
        shown = self.verdict.violations[:10]
        lines += [f"    {violation.invariant}: {violation.text}" for violation in shown]
        if len(self.verdict.violations) > len(shown):
            lines.append(f"    and {len(self.verdict.violations) - len(shown)} more")
        return "\n".join(lines)


@dataclass
class Summary:
    """What all runs came to."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def violated(self) -> bool:
        """Whether any promise was broken."""
        return any(outcome.verdict.violations for outcome in self.outcomes)

    def __str__(self) -> str:
        rows: dict[str, Counter[str]] = {}
        for outcome in self.outcomes:
            for window in outcome.windows:
                row = rows.setdefault(window.fault, Counter())
                row["runs"] += 1
                row["fired"] += window.fired
                row[outcome.verdict.word] += 1
        columns = ("runs", "fired", "VOID", "VIOLATION")
        lines = [f"{'fault':44}" + "".join(f"{name.lower():>11}" for name in columns)]
        for fault, row in sorted(rows.items()):
            lines.append(f"{fault:44}" + "".join(f"{row[name]:11}" for name in columns))
        words = Counter(outcome.verdict.word for outcome in self.outcomes)
        fired = sum(window.fired for outcome in self.outcomes for window in outcome.windows)
        total = f"{len(self.outcomes)} runs, {fired} faults fired, {words['PASS']} passed"
        return "\n".join([*lines, f"{total}, {words['VOID']} void, {words['VIOLATION']} with violations"])


async def explore(plan: Plan, faults: Sequence[str]) -> Outcome:
    """Run once: about a second of load, the faults one after another, about a second of load, judgement."""
    began = time.monotonic()
    rng = random.Random(plan.seed)  # noqa: S311 - a run must be repeatable
    async with AsyncExitStack() as stack:
        running: World
        if plan.replicas:
            several = await stack.enter_async_context(replicas(plan))
            todo = [partial(replica_catalogue.FAULTS[name], several) for name in faults]
            running = several
        else:
            running = await stack.enter_async_context(world(plan))
            todo = [partial(catalogue.FAULTS[name], running) for name in faults]
        evidence = await _explored(running, todo, rng)
    verdict = oracle.judge(evidence)
    clients = (*evidence.recorders, *evidence.churners)
    reasons = frozenset(stream.end.reason for who in clients for stream in who.streams if stream.end is not None)
    took_s = time.monotonic() - began
    return Outcome(
        plan.seed, running.windows, verdict, running.changes_per_s, took_s, reasons=reasons, starved=evidence.starved
    )


async def _explored(
    running: World, faults: Sequence[Callable[[random.Random], Awaitable[Window]]], rng: random.Random
) -> Evidence:
    running.work()
    await asyncio.sleep(rng.uniform(1.1, 1.3))
    running.measure()
    for fault in faults:
        running.windows.append(await fault(rng))
    await asyncio.sleep(rng.uniform(0.8, 1.2))
    return await running.evidence(quiet_s=SETTLED_S if running.plan.replicas else QUIET_S)


def planned(seed: int, faults: Sequence[str] = (), *, full: bool = False, **shape: Any) -> Plan:
    """Shape a run by its seed: tombstones go after 1 s in half of them, and where F9 needs it; else after a minute."""
    usual: dict[str, Any] = {"retention_s": 1.0 if seed % 2 or "F9" in faults else 60.0, "recorders": 7, "followers": 1}
    if full:
        usual |= {"sizes": FULL, "pace": PACE_FULL}
    return Plan(seed, **{**usual, **shape})


def shared(seed: int, faults: Sequence[str] = (), *, replicas: int = 3, members: int = 1, **shape: Any) -> Plan:
    """Shape a run with replicas; stalled readers and churners are fewer, as there are more processes."""
    crowd = {"churners": 2, "stalled": 2}
    return planned(seed, faults, replicas=replicas, members=members, **{**crowd, **shape})


def chosen(
    seed: int, count: int, only: Sequence[str] = (), names: Sequence[str] = tuple(catalogue.FAULTS)
) -> list[str]:
    """Choose faults by the seed."""
    wanted = [name for name in names if not only or name in only or name.partition("-")[0] in only]
    return random.Random(seed).choices(wanted, k=count)  # noqa: S311 - a run must be repeatable


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run without the debug mode of tests, which would make the load impossible."""
    with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _shaped(seed: int, options: argparse.Namespace) -> tuple[Plan, list[str]]:
    """Return the plan of a run and its faults, as the command line and the seed say."""
    shape = {"full": options.full, "mutant": options.mutant}
    if not options.replicas:
        faults = chosen(seed, options.at_once, options.faults)
        return planned(seed, faults, store=options.store, **shape), faults
    members = options.members or (1, 3)[seed % 3 == 0]
    faults = chosen(seed, options.at_once, options.faults, replica_catalogue.names(members))
    return shared(seed, faults, replicas=options.replicas, members=members, **shape), faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m faults.runs", description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first run; each next is one more")
    parser.add_argument("--faults", nargs="*", default=[], help=f"only these; there are {', '.join(KNOWN)}")
    parser.add_argument("--at-once", type=int, default=1, help="faults a run, one after another")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for this long instead of --runs")
    parser.add_argument("--store", default="sqlite", choices=("sqlite", "memory"))
    parser.add_argument("--replicas", type=int, default=0, help="that share an etcd; 0: one server by itself")
    parser.add_argument("--members", type=int, default=0, choices=(0, 1, 3), help="of etcd; 0: by the seed")
    parser.add_argument("--full", action="store_true", help="2,000 assets instead of 321")
    parser.add_argument("--mutant", default="", help="plant a defect, to see it found")
    parser.add_argument("--fail-fast", action="store_true")
    options = parser.parse_args(arguments)
    summary, until, seed = Summary(), time.monotonic() + 60 * options.minutes, options.seed
    while time.monotonic() < until if options.minutes else seed < options.seed + options.runs:
        summary.outcomes.append(run(explore(*_shaped(seed, options))))
        print(summary.outcomes[-1], flush=True)  # noqa: T201 - what the command is for
        if options.fail_fast and summary.violated:
            break
        seed += 1
    print(summary)  # noqa: T201 - what the command is for
    return int(summary.violated)


if __name__ == "__main__":
    sys.exit(main())
