"""Sources that answer badly: what was known stays, it is told, nothing is asked more often than allowed."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from faults.catalogue import ANSWERS, answering, answers_of, f10_clock
from faults.rig import limits, oracle
from faults.rig.upstreams import SOURCES
from faults.rig.world import Plan, world
from faults.runs import run

if TYPE_CHECKING:
    from faults.rig.evidence import Evidence

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OUTAGE_S = float(os.environ.get("FAULTS_OUTAGE_S", "3"))
MENDED_S = 3.0
RETRY_AFTER_S = 2.0


@pytest.mark.parametrize("source", SOURCES)
def test_outages(source: str) -> None:
    """T62: whatever a source answers, every state is kept, the truth comes back after it, rates are kept.

    The sources differ in whether they list, batch and push; each is given every answer that it can give.
    """
    spans = {"hang": max(OUTAGE_S, limits.TURN_ALONE_S + 0.5)}  # so that each source must be told to be silent

    async def scenario() -> Evidence:
        async with world(Plan(11, recorders=7, followers=1, churners=1, stalled=0, retention_s=60.0)) as running:
            running.work()
            await asyncio.sleep(1.2)
            running.measure()
            for what in answers_of(source):
                running.windows.append(await answering(running, source, what, spans.get(what, OUTAGE_S)))
                await asyncio.sleep(MENDED_S)
            running.windows.append(await f10_clock(running, running.rng))
            await asyncio.sleep(MENDED_S)
            return await running.evidence(quiet_s=10)

    verdict = oracle.judge(run(scenario()))
    assert not verdict.violations, verdict.said()
    assert verdict.void == []


@pytest.mark.parametrize("source", SOURCES)
def test_retry_after(source: str) -> None:
    """I17: after a 429 with Retry-After: 2 the source is not asked for 2 s, but for what was under way."""

    async def scenario() -> tuple[float, list[float]]:
        async with world(Plan(12, recorders=2, churners=0, stalled=0)) as running:
            running.work()
            standin = running.upstreams[source]
            standin.faults.add(**{**ANSWERS["429"], "times": 1})
            async with asyncio.timeout(20):
                while not (refused := [each.time for each in standin.requests.all() if each.status == 429]):  # noqa: ASYNC110 - it is looked at from outside
                    await asyncio.sleep(0.01)
            await asyncio.sleep(RETRY_AFTER_S + 0.5)
            return refused[0], [each.time for each in standin.requests.all() if each.time > refused[0]]

    refused_at, asked = run(scenario())
    under_way_s = 0.15
    early = [round(t - refused_at, 3) for t in asked if under_way_s < t - refused_at < RETRY_AFTER_S - 0.05]
    assert early == []
