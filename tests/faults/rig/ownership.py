"""I12: one poller a source, judged from what the stand-ins were asked beside who owned the source when.

The order decides, not the clock: the calls to a source come from its owners, one owner after the other. What the one
before had under way when the next began may still arrive: one call, of however many requests that is.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from faults.rig.limits import REQUESTS_A_CALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults.rig.evidence import Evidence

HEARD_S = 2.5
"""The rig hears of a new owner within this, from one member or the next, and the owner may have begun by then."""
ENDED_S = 0.3
"""Nobody owns a source since so long: whoever did has learnt of it."""


@dataclass
class Term:
    """One replica owned one source. revision: of etcd, when that began; both moments are when the rig heard of it."""

    source: str
    replica: str
    revision: int
    began_at: float
    ended_at: float | None = None


class Call(NamedTuple):
    """A request that came to a stand-in, which replica sent it, and for what."""

    t: float
    replica: str
    path: str = ""


def i12(run: Evidence) -> Iterator[str]:
    """I12: calls to a source come from its owner alone; at a takeover one call of the owner before is still under way.

    No term begins before the one before has ended. A source pushes to its owner alone.
    """
    for source, connections in run.pushes.items():
        if connections > 1:
            yield f"{source}: it pushes on {connections} connections"
    for source, calls in run.calls.items():
        terms = [term for term in run.terms if term.source == source]
        yield from (f"{source}: {text}" for text in _in_order(terms))
        yield from (f"{source}: {text}" for text in _strays(terms, calls, REQUESTS_A_CALL.get(source, 1)))


def _in_order(terms: Sequence[Term]) -> Iterator[str]:
    for before, after in itertools.pairwise(terms):
        if before.ended_at is None or before.ended_at > after.began_at:
            yield f"{after.replica} owns it from revision {after.revision} on, and {before.replica} has not ended"


def _strays(terms: Sequence[Term], calls: Sequence[Call], allowed: int) -> Iterator[str]:
    """Find who asks without being owner: more than what one call takes after each owner's end, or never an owner."""
    place, strays = -1, 0
    for call in calls:
        place, before = _owner_at(terms, call, place), place
        strays = 0 if place != before else strays
        if place < 0 or terms[place].replica != call.replica or _over(terms[place], call):
            strays += 1
            if strays > allowed:
                owner = terms[place].replica if place >= 0 else "nobody"
                yield f"{call.replica} asks {call.path} at {call.t:.3f}, {owner} owns it; {strays} requests so"


def _owner_at(terms: Sequence[Term], call: Call, place: int) -> int:
    """Return whose turn it is: that of the next term of who calls, if that has begun, else that of before."""
    if place >= 0 and terms[place].replica == call.replica and not _over(terms[place], call):
        return place
    for later in range(place + 1, len(terms)):
        if terms[later].replica == call.replica and terms[later].began_at - HEARD_S <= call.t:
            return later
    return place


def _over(term: Term, call: Call) -> bool:
    return term.ended_at is not None and call.t > term.ended_at + ENDED_S
