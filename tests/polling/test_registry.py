"""What 100,000 targets cost: most share what is said of them."""

from __future__ import annotations

import sys

import pytest

from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.polling import listing
from assetwatchd.polling.plan import Plan
from assetwatchd.polling.target import Target
from assetwatchd.settings.schema import SourceSettings
from assetwatchd.upstream.port import Capabilities
from support.core_rig import virtual

NAMES = [f"a{number}" for number in range(500)]
BYTES_MAX = 240
"""Of a target and its knowledge. One of 27 fields, as it would be with all in one object, has 232."""


def plan() -> Plan:
    """The plan of a source with nothing in its store."""
    return Plan("src", SourceSettings.model_validate({"base_url": "http://fake.test"}), Capabilities(), MemoryStore())


@virtual
async def test_targets_that_are_wanted_alike_share_their_demand() -> None:
    """So do those that a filter names, those that are waited for with them, and those that were read with them."""
    of = plan()
    interest = of.interest(NAMES, whole=False)
    targets = list(of.targets)
    assert {target.demand.named for target in targets} == {1}
    assert len({id(target.demand) for target in targets}) == 1
    for target in targets:
        of.interests.wait(target, awaited=True)
    assert len({id(target.demand) for target in targets}) == 1
    for target in targets:
        target.knowledge.observe(1.0)
    of.linger(targets)
    assert len({id(target.demand) for target in targets}) == 1
    interest.end()
    assert {target.demand.named for target in targets} == {0}


@virtual
async def test_targets_of_a_list_share_their_presence() -> None:
    """Those that a list has, and those that it lacks."""
    of = plan()
    await listing.compare(of, frozenset(NAMES), None)
    await listing.compare(of, frozenset(NAMES[:100]), lambda _: None)
    assert len({id(target.presence) for target in of.targets}) == 2
    assert [target.presence.absences for target in of.targets].count(1) == 400


@pytest.mark.unit
def test_a_target_is_small() -> None:
    """With what it does not share, but for its place."""
    target = Target("a")
    assert sys.getsizeof(target) + sys.getsizeof(target.knowledge) <= BYTES_MAX
    assert not hasattr(target, "__dict__")
    assert not hasattr(target.knowledge, "__dict__")
