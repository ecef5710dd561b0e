"""Who takes a source that nobody has, and what is handed over: pure, and the same for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.replicas.rank import PRESENT_S, STEP_S, Candidate, claim_at, first, rank, to_hand_over

pytestmark = pytest.mark.unit

NAMES = st.text("abcdef-.0123456789", min_size=1, max_size=8)
CANDIDATES = st.sets(st.builds(Candidate, NAMES, st.text("0123456789abcdef", min_size=8, max_size=8)), min_size=1)
SOURCES = st.sets(NAMES, min_size=1, max_size=10)


@given(NAMES, CANDIDATES)
def test_all_agree_on_one_order(source: str, present: set[Candidate]) -> None:
    """Each of those present has another rank, from 0, and waits a step longer than the one before it."""
    ranks = sorted(rank(source, who, present) for who in present)
    assert ranks == list(range(len(present)))
    assert rank(source, first(source, present), present) == 0
    waits = sorted(claim_at(source, who, present, free_since=5.0) for who in present)
    assert waits == pytest.approx([5.0 + STEP_S * n for n in range(len(present))])


@given(NAMES, CANDIDATES, st.data())
def test_who_goes_takes_only_what_was_its_own(source: str, present: set[Candidate], data: st.DataObject) -> None:
    """When one goes that is not first, nothing changes hands; one that comes takes it itself, or changes nothing."""
    before = first(source, present)
    gone = data.draw(st.sampled_from(sorted(present)))
    left = present - {gone}
    if left:
        assert first(source, left) == before or gone == before
    come = data.draw(st.builds(Candidate, NAMES, st.just("f" * 8)))
    assert first(source, present | {come}) in {before, come}


@given(NAMES, NAMES, CANDIDATES)
def test_a_restart_keeps_the_place_of_a_replica(source: str, name: str, others: set[Candidate]) -> None:
    """The order goes by the name of the replica: another process of it stands where the last one stood."""
    others = {other for other in others if other.name != name}
    old, new = Candidate(name, "0" * 8), Candidate(name, "1" * 8)
    assert rank(source, old, others | {old}) == rank(source, new, others | {new})


@given(SOURCES, CANDIDATES, st.data())
def test_what_is_handed_over(sources: set[str], present: set[Candidate], data: st.DataObject) -> None:
    """Only what comes first elsewhere, to one that is there for long; and until nothing does, there is something."""
    me = data.draw(st.sampled_from(sorted(present)))
    ages = {who: data.draw(st.floats(0, 2 * PRESENT_S)) for who in present}
    since, now = {who: 1000.0 - age for who, age in ages.items()}, 1000.0
    owned = set(sources)
    while (source := to_hand_over(owned, me, since, now)) is not None:
        to = first(source, present)
        assert to != me
        assert now - since[to] >= PRESENT_S
        owned.remove(source)
    assert all(first(each, present) == me or now - since[first(each, present)] < PRESENT_S for each in owned)
