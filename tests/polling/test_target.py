"""The life of a target: which event is allowed in which phase, and what it does."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.values import AssetKey
from assetwatchd.polling import target as module
from assetwatchd.polling.target import TABLE, Event, Phase, Place, Refusals, RefusedEvent, Target
from support.examples import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.unit

DO: dict[Event, Callable[[Target], None]] = {
    Event.SCHEDULED: lambda target: target.schedule(Place(7.0, 1, 5.0, False, target)),  # noqa: FBT003 - a tuple
    Event.CANCELLED: Target.cancel,
    Event.BEGUN: Target.begin,
    Event.ANSWERED: Target.answer,
    Event.UNCHANGED: Target.unchanged,
    Event.ENDED: Target.end,
    Event.COMMITTED: Target.commit,
    Event.TOUCHED: Target.touch,
    Event.OVERTAKEN: Target.overtake,
    Event.INVALIDATED: Target.invalidate,
    Event.DROPPED: Target.drop,
}
WAY_TO: dict[Phase, list[Event]] = {
    Phase.IDLE: [],
    Phase.DUE: [Event.SCHEDULED],
    Phase.READING: [Event.SCHEDULED, Event.BEGUN],
    Phase.COMMITTING: [Event.SCHEDULED, Event.BEGUN, Event.ANSWERED],
    Phase.DROPPED: [Event.DROPPED],
}
PAIRS = [(event, phase) for event in Event for phase in Phase]
STEPS = 60


def lived(events: list[Event]) -> Target:
    """A target to which these have happened."""
    target = Target("a", AssetKey("src", "a"))
    for event in events:
        DO[event](target)
    return target


def facts(target: Target) -> tuple[object, ...]:
    """All that the state machine owns of a target, and what INVALIDATED does to its knowledge."""
    known = target.knowledge.outdated
    return target.phase, target.generation, target.dirty, target.refetch, target.place, known


def allowed(phase: Phase) -> list[Event]:
    """The events that the table has for a phase."""
    return [event for event, row in TABLE.items() if row[list(Phase).index(phase)] is not None]


# The table -----------------------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    """Each event has a row, and each row says of every phase what follows, or that it is refused."""
    assert list(TABLE) == list(Event) == list(DO)
    assert {len(row) for row in TABLE.values()} == {len(Phase)}
    assert len(PAIRS) == 55


@pytest.mark.parametrize(("event", "phase"), PAIRS)
def test_each_pair_is_in_the_table_or_refused(event: Event, phase: Phase) -> None:
    """An event leads to the phase that the table says; one that is refused raises, and changes nothing."""
    target = lived(WAY_TO[phase])
    assert target.phase is phase
    following, before = TABLE[event][list(Phase).index(phase)], facts(target)
    if following is None:
        with pytest.raises(RefusedEvent, match=f"asset 'a': {event} while {phase}"):
            DO[event](target)
        assert facts(target) == before
    else:
        DO[event](target)
        assert target.phase is following


def test_which_are_refused() -> None:
    """What must not be, apart from the table: two reads at once, a read of nothing, any life after the end."""
    assert allowed(Phase.DROPPED) == []
    assert [phase for phase in Phase if Event.BEGUN in allowed(phase)] == [Phase.DUE]
    assert [phase for phase in Phase if Event.SCHEDULED in allowed(phase)] == [Phase.IDLE, Phase.DUE]
    assert [phase for phase in Phase if Event.COMMITTED in allowed(phase)] == [Phase.COMMITTING]
    assert Event.DROPPED not in {*allowed(Phase.READING), *allowed(Phase.COMMITTING)}


def test_in_service_a_refused_event_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes nothing, and there is a line a kind now and then, with how many there were since."""
    monkeypatch.setattr(module, "refusals", Refusals())
    target = lived([])
    before = facts(target)
    with caplog.at_level(logging.ERROR):
        for _ in range(100):
            target.begin()
            target.commit()
    assert facts(target) == before
    assert caplog.messages == [
        "source src, asset 'a': begun while idle: ignored; 0 more such since the last line",
        "source src, asset 'a': committed while idle: ignored; 0 more such since the last line",
    ]


# What events do beside -----------------------------------------------------------------------------------------------


def lives(data: st.DataObject) -> Iterator[tuple[list[Event], Target]]:
    """A life of allowed events, as far as it has gone at each step."""
    target, past = lived([]), list[Event]()
    for _ in range(STEPS):
        events = [event for event in allowed(target.phase) if event is not Event.DROPPED]
        event = data.draw(st.sampled_from(events))
        DO[event](target)
        past.append(event)
        yield past, target


def last(past: list[Event], *events: Event) -> int:
    """When one of these happened last; -1 if never."""
    return max((at for at, event in enumerate(past) if event in events), default=-1)


@bounded("lives of a target")
@given(st.data())
def test_whatever_happens(data: st.DataObject) -> None:
    """In every life: a place while due and only then, and all else as its past says it must be."""
    for past, target in lives(data):
        assert (target.place is not None) == (target.phase is Phase.DUE)
        assert target.generation == past.count(Event.OVERTAKEN)
        touched, begun = last(past, Event.TOUCHED), last(past, Event.BEGUN)
        answered_to = begun if last(past, Event.ANSWERED, Event.UNCHANGED) > begun else _read_before(past, begun)
        caught_up = max(answered_to, last(past, Event.OVERTAKEN, Event.INVALIDATED))
        assert target.dirty == (touched > caught_up), past
        answered = last(past, Event.SCHEDULED, Event.OVERTAKEN, Event.INVALIDATED)
        assert target.refetch == (_touched_under_way(past) > answered), past


def _touched_under_way(past: list[Event]) -> int:
    """When it was last touched while it was being read."""
    over = (Event.UNCHANGED, Event.ENDED, Event.COMMITTED)
    touches = [at for at, event in enumerate(past) if event is Event.TOUCHED]
    return max((at for at in touches if last(past[:at], Event.BEGUN) > last(past[:at], *over)), default=-1)


def _read_before(past: list[Event], begun: int) -> int:
    """When the last read began that ended well before the one under way."""
    well = last(past[: max(begun, 0)], Event.ANSWERED, Event.UNCHANGED)
    return last(past[: max(well, 0)], Event.BEGUN)


# The worked example --------------------------------------------------------------------------------------------------


def told() -> Iterator[list[str]]:
    """The lines of the example in the source: event, phase, generation, dirty, refetch."""
    for line in inspect.getsource(module).splitlines():
        words = line.rsplit(maxsplit=5)
        if line.startswith("#   ") and words[-1] in {"yes", "no"}:
            yield words[1:]


def test_the_example_is_true() -> None:
    """What the comment beside the table tells of one target happens so."""
    target = lived([])
    lines = list(told())
    for event, phase, generation, dirty, refetch in lines:
        if event != "-":
            DO[Event[event]](target)
        seen = (
            target.phase.name,
            str(target.generation),
            *("yes" if it else "no" for it in (target.dirty, target.refetch)),
        )
        assert seen == (phase, generation, dirty, refetch)
    assert len(lines) == 16
    assert {line[1] for line in lines} == set(Phase.__members__)
