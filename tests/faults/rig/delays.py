"""How late clients hear of what is true upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.rig.load import number_of
from faults.rig.mirror import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults.rig.evidence import Evidence
    from faults.rig.load import Fact, Key
    from faults.rig.recorder import Recorder


def delays(run: Evidence, since: float, until: float) -> Iterator[float]:
    """Yield for each change between two moments, and each client of all states of it, how much later it was told.

    A change that was followed by another before it was told is told with that; one of what went then need not be told.
    """
    facts: dict[Key, list[Fact]] = {}
    for fact in run.facts:
        facts.setdefault(fact.key, []).append(fact)
    for who in run.recorders:
        if not who.wanted.states:
            yield from (t - fact.t for fact, t in _told(who, facts) if since <= fact.t <= until)


def _told(who: Recorder, facts: dict[Key, list[Fact]]) -> Iterator[tuple[Fact, float]]:
    """Yield every change that a client was told, or told of with a later one, and when."""
    places: dict[Key, int] = {}
    for stream in who.streams:
        for t, message in stream.messages:
            for change in message.changes:
                key, number = key_of(change.status), number_of(change.status)
                past = facts.get(key, [])
                upto = next((n for n, fact in enumerate(past, 1) if fact.number == number and number), 0)
                yield from ((fact, t) for fact in _still(past[places.get(key, 0) : upto]))
                places[key] = max(upto, places.get(key, 0))


def _still(facts: Sequence[Fact]) -> Iterator[Fact]:
    """Yield those since which the asset did not go."""
    went = max((place for place, fact in enumerate(facts, 1) if not fact.number), default=0)
    yield from facts[went:]
