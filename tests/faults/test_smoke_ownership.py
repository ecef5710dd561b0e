"""The judge of who asks a source, over made-up histories: what an owner does is no fault, each stray call is one."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from faults.rig.ownership import Call, Term, i12

if TYPE_CHECKING:
    from faults.rig.evidence import Evidence

pytestmark = pytest.mark.unit

SOURCE = "omn"
"""One call of it is one request."""
NAMES = ("a", "b", "c")
TERM_S = 10.0
GAP_S = 1.0
OWNERS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=6)


def found(terms: list[Term], calls: list[Call]) -> list[str]:
    """Ask the judge."""
    run = SimpleNamespace(terms=terms, calls={SOURCE: sorted(calls)}, pushes={})
    return list(i12(cast("Evidence", run)))


def history(owners: list[str]) -> list[Term]:
    """Give each owner a term, one after the other."""
    begins = [number * (TERM_S + GAP_S) for number in range(len(owners))]
    terms = [
        Term(SOURCE, who, number, at, at + TERM_S) for number, (who, at) in enumerate(zip(owners, begins, strict=True))
    ]
    terms[-1].ended_at = None
    return terms


def asked(terms: list[Term], moments: list[float]) -> list[Call]:
    """Let each owner ask at some moments of its term."""
    return [Call(term.began_at + moment, term.replica) for term in terms for moment in moments]


@given(OWNERS, st.lists(st.floats(0, TERM_S), max_size=5))
def test_owners_may_ask(owners: list[str], moments: list[float]) -> None:
    """In its own term, and heard of a little late, whoever is owner asks as it likes."""
    terms = history(owners)
    assert found(terms, asked(terms, moments)) == []
    for term in terms:
        term.began_at += 0.3
    assert [text for text in found(terms, asked(history(owners), moments)) if "asks" in text] == []


@given(OWNERS, st.data())
def test_one_late_call_is_allowed_and_a_second_is_not(owners: list[str], data: st.DataObject) -> None:
    """What was under way at a takeover arrives during the next term."""
    terms = history(owners)
    takeovers = [(before, after) for before, after in pairwise(terms) if before.replica != after.replica]
    assume(takeovers)
    before, after = data.draw(st.sampled_from(takeovers))
    calls = asked(terms, [0.5, 5.0, 9.5])
    late = Call(after.began_at + 0.6, before.replica)
    assume(
        all(term.replica != before.replica or term.began_at - 3 > late.t for term in terms if term.began_at > late.t)
    )
    assert found(terms, [*calls, late]) == []
    assert found(terms, [*calls, late, late._replace(t=late.t + 0.1)]) != []


@given(OWNERS, st.floats(0, 50))
def test_who_never_was_owner_is_seen(owners: list[str], at: float) -> None:
    """Two requests of a replica that never owned the source."""
    terms = history(owners)
    calls = asked(terms, [0.5, 5.0])
    assert found(terms, [*calls, Call(at, "z"), Call(at, "z")]) != []


@given(OWNERS)
def test_who_asks_on_is_seen(owners: list[str]) -> None:
    """An owner whose term is over, while nobody owns the source."""
    terms = history(owners)
    terms[-1].ended_at = terms[-1].began_at + TERM_S
    over = terms[-1].ended_at + 1
    calls = asked(terms, [0.5, 5.0])
    assert found(terms, [*calls, Call(over, owners[-1]), Call(over + 1, owners[-1])]) != []


def test_terms_that_overlap_are_seen() -> None:
    """A term begins before the one before has ended."""
    terms = history(["a", "b"])
    terms[0].ended_at = None
    assert found(terms, []) != []
