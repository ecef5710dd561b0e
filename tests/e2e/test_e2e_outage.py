"""An upstream dies under a watch, and comes back."""

from __future__ import annotations

from typing import Any

import pytest

from assetwatchd.model.values import ConditionState
from support.rig import SAMPLES, SOURCES, running, sample


@pytest.mark.parametrize("source", SOURCES)
async def test_a_dead_upstream_costs_one_condition_and_no_state(source: str) -> None:
    """The stream stays, one message says so, nothing is REMOVED; it recovers by itself and tells what it missed."""
    async with running(SOURCES, count=3) as rig:
        stream = await rig.watch(sources=SOURCES).synced()
        for name in SOURCES:
            await stream.turns(name, ConditionState.HEALTHY)
        held, seen = dict(stream.map), len(stream.messages)
        await rig[source].stop()
        await stream.turns(source, ConditionState.UNREACHABLE)
        for _ in range(3):
            await stream.until(lambda message: message.HasField("bookmark"))
        assert conditions(stream.messages[seen:]) == [(source, ConditionState.UNREACHABLE)]
        assert [change for message in stream.messages[seen:] for change in message.changes] == []
        assert stream.map == held
        assert stream.removed == []

        other = next(name for name in SOURCES if name not in {source, "pieces"})
        rig.vary(other)
        await stream.holds(lambda now: now[sample(other)].state == SAMPLES[other].state)
        rig.vary(source)
        down = len(stream.messages)
        await rig[source].start()
        await stream.holds(lambda now: now[sample(source)].revision > held[sample(source)].revision)
        await stream.turns(source, ConditionState.HEALTHY)
        assert stream.map[sample(source)].state == SAMPLES[source].state
        assert stream.map.keys() == held.keys()
        assert stream.removed == []
        assert conditions(stream.messages[down:])[-1] == (source, ConditionState.HEALTHY)


def conditions(messages: list[Any]) -> list[tuple[str, int]]:
    """Return the conditions told in messages."""
    return [(told.source, told.condition.state) for m in messages for told in m.source_conditions]
