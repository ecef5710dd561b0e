"""What fails by itself while the rest of its source is well: it is told, once, with since when and the next try."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from assetwatchd.errors import BadAnswer, Throttled, Unreachable, UpstreamError
from assetwatchd.model import Concern, ConditionState
from support.core_rig import Rig, now, running, until, virtual, wall
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from assetwatchd.model import ConcernCondition

LIST_FAULTS = (BadAnswer("an item without an id"), Unreachable("HTTP 500"), Throttled("HTTP 429"), KeyError("defect"))


def told(rig: Rig) -> list[ConditionState]:
    """The states that were told, in order."""
    return [condition.state for condition in rig.told]


def concern(rig: Rig, which: Concern) -> ConcernCondition:
    """How one thing is doing that a source is to do."""
    return next(each for each in rig.scheduler.condition.concerns if each.concern is which)


@pytest.mark.parametrize("fault", LIST_FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("pins", [0, 1, 3])
@virtual
async def test_a_list_that_never_succeeds(fault: Exception, pins: int, caplog: pytest.LogCaptureFixture) -> None:
    """Reads and signs of life that succeed do not hide that the source cannot be listed: one turn, one line."""
    names = tuple(f"a{n}" for n in range(pins))
    upstream = FakeUpstream(*names, enumerates=True)
    upstream.list_fault = fault
    async with running(upstream, pins=names) as rig:
        with rig.scheduler.interest((), whole=True):
            await asyncio.sleep(30)
            assert rig.source_state() is ConditionState.DEGRADED
            condition = rig.scheduler.condition
            assert condition.message.startswith("cannot be listed: ")
            since, turns = condition.since, len(rig.told)
            await asyncio.sleep(600)
            assert len(rig.told) == turns <= 2
            listing = concern(rig, Concern.LIST)
            assert (listing.since, listing.last_success_at) == (since, None)
            assert concern(rig, Concern.READS).state is ConditionState.HEALTHY
            assert all(rig.knows(name) for name in names)
    assert sum("cannot be listed" in line for line in caplog.messages) == 1
