"""Who takes a source that nobody asks, who waits, what is handed over to whom. Pure: all know the same, so all agree.

Every process ranks all that are present, for each source in another order (rendezvous hashing): when one comes or goes,
only sources change hands that go to it, or were its own.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEP_S = 0.1
"""Between the tries of one in the order and the next: many times as long as a transaction takes."""
PRESENT_S = 60.0
"""A process gets sources of others once it is there for so long: one that comes and goes would have them go round."""
HAND_OVER_EVERY_S = 30.0
"""Between two sources that one process hands over: each is read anew a little by who takes it."""


class Candidate(NamedTuple):
    """A process that could ask. id: of the process; name: which the next process of the same replica has as well."""

    name: str
    id: str


def score(source: str, who: Candidate) -> bytes:
    """Return what orders candidates for a source; the lowest is the first. A replica keeps its place over restarts."""
    return hashlib.blake2b(f"{source}/{who.name}".encode(), digest_size=8).digest() + who.id.encode()


def rank(source: str, me: Candidate, present: Iterable[Candidate]) -> int:
    """Return how many of those present come before me."""
    mine = score(source, me)
    return sum(score(source, other) < mine for other in present)


def first(source: str, present: Iterable[Candidate]) -> Candidate:
    """Return who comes first; there must be one."""
    return min(present, key=lambda who: score(source, who))


def claim_at(source: str, me: Candidate, present: Iterable[Candidate], *, free_since: float) -> float:
    """Return when I may try to take a source that nobody has since then."""
    return free_since + STEP_S * rank(source, me, present)


def to_hand_over(owned: Iterable[str], me: Candidate, since: Mapping[Candidate, float], now: float) -> str | None:
    """Return a source of mine whose first is another, present for PRESENT_S at least; None when there is none.

    since: from when on each is present.
    """
    for source in sorted(owned):
        who = first(source, since)
        if who != me and now - since[who] >= PRESENT_S:
            return source
    return None
