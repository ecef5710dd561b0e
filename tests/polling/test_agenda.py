"""The agenda: who is due, in which order."""

from __future__ import annotations

import pytest

from assetwatchd.polling.agenda import SLACK, Agenda
from assetwatchd.polling.target import AT_ONCE, NEVER, Target

pytestmark = pytest.mark.unit


def drained(agenda: Agenda, upto: float) -> list[str]:
    """Take everything that is due by then."""
    taken = []
    while (target := agenda.first(upto)) is not None:
        agenda.begin(target)
        target.end()
        taken.append(target.asset_id)
    return taken


def test_nothing_is_due_before_its_time() -> None:
    """A target is due when its time has come, and only once."""
    agenda, target = Agenda(), Target("a")
    assert agenda.next_due() == NEVER
    agenda.put(target, 10)
    assert agenda.next_due() == 10
    assert agenda.first(9.9) is None
    assert drained(agenda, 10) == ["a"]
    assert (agenda.next_due(), target.due) == (NEVER, NEVER)
    assert drained(agenda, 1e9) == []


def test_the_last_word_counts() -> None:
    """Putting a target anew replaces what was agreed, earlier or later."""
    agenda, target = Agenda(), Target("a")
    agenda.put(target, 10)
    agenda.put(target, 20)
    assert agenda.next_due() == 20
    agenda.put(target, 5)
    assert agenda.next_due() == 5
    agenda.remove(target)
    assert drained(agenda, 100) == []


def test_overdue_targets_go_by_deadline() -> None:
    """Of those overdue, the one that may wait least goes first, but one that waited long enough goes before it."""
    agenda = Agenda()
    agenda.put(Target("settled"), 10, patience_s=60)
    agenda.put(Target("busy"), 12, patience_s=2)
    agenda.put(Target("old"), -50, patience_s=60)
    assert drained(agenda, 15) == ["old", "busy", "settled"]


def test_asked_for_at_once() -> None:
    """Those asked for at once go first come first served, in turn with those overdue."""
    agenda = Agenda()
    for name in ("x", "y", "z"):
        agenda.put(Target(name), AT_ONCE)
    for due in (1, 2):
        agenda.put(Target(f"overdue{due}"), due)
    assert agenda.next_due() == AT_ONCE
    assert drained(agenda, 5) == ["x", "overdue1", "y", "overdue2", "z"]


def test_new_ones_go_first() -> None:
    """Those of which nothing is known go before those overdue, which have every fourth place once they are late."""
    agenda = Agenda()
    for n in range(2):
        agenda.put(Target(f"overdue{n}"), n, patience_s=2)
    for n in range(2, 7):
        agenda.put(Target(f"new{n}"), n, patience_s=60, new=True)
    assert drained(agenda, 11.9) == ["new2", "new3", "new4", "new5", "new6", "overdue0", "overdue1"]
    for n in range(2):
        agenda.put(Target(f"overdue{n}"), n, patience_s=2)
    for n in range(2, 7):
        agenda.put(Target(f"new{n}"), n, patience_s=60, new=True)
    assert drained(agenda, 13) == ["new2", "new3", "new4", "overdue0", "new5", "new6", "overdue1"]


def test_new_ones_do_not_hold_up_fresh_reads() -> None:
    """Who asks for something known anew waits for one new asset at most, however many there are."""
    agenda = Agenda()
    for n in range(4):
        agenda.put(Target(f"new{n}"), 0, new=True)
    agenda.put(Target("asked0"), AT_ONCE)
    agenda.put(Target("asked1"), AT_ONCE)
    assert agenda.next_due() == AT_ONCE
    assert drained(agenda, 0) == ["asked0", "new0", "asked1", "new1", "new2", "new3"]


def test_asking_again_keeps_the_place() -> None:
    """Who asks for the same again does not go to the end of the line."""
    agenda, first = Agenda(), Target("first")
    agenda.put(first, AT_ONCE)
    agenda.put(Target("second"), AT_ONCE)
    agenda.put(first, AT_ONCE)
    assert drained(agenda, 0) == ["first", "second"]


def test_superseded_places_are_cleared_away() -> None:
    """Putting targets anew for ever does not make the agenda grow for ever."""
    agenda, targets = Agenda(), [Target(str(n)) for n in range(10)]
    for turn in range(10_000):
        target = targets[turn % 10]
        if turn % 7 == 0:
            agenda.remove(target)
        else:
            agenda.put(target, AT_ONCE if turn % 5 == 0 else 100_000.0 - turn, new=turn % 3 == 0)
        agenda.first(turn / 2)
    places = sum(len(line) for line in (agenda._asked, agenda._new, agenda._overdue, agenda._later))
    assert places <= SLACK + 2 * 10 + 1
    waiting = {target.asset_id for target in targets if target.due != NEVER}
    assert set(drained(agenda, 1e9)) == waiting


def test_what_callers_gave_up_is_cleared_away() -> None:
    """Places behind one that is never served are not kept, however often something is asked for and called off."""
    agenda, caller, first = Agenda(), ("host", "connection", "call"), Target("first")
    agenda.put(first, AT_ONCE, caller=caller)
    for number in range(4 * SLACK):
        target = Target(str(number))
        agenda.put(target, AT_ONCE, caller=caller)
        agenda.remove(target)
    assert agenda._in_turns <= SLACK + 2
    assert agenda.first(0.0) is first
