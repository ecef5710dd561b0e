"""One asset as its source's scheduler knows it, and the state machine that its reads live by. No clock, no I/O.

Owns: `phase`, `generation`, `dirty`, `refetch` and `place` of a target. They change here alone, by the events of TABLE.
Beside them a target has three values with a writer each: demand (who wants it), presence (what lists and pushes say of
it), knowledge (what its reads found).

Must not know when a target is read (plan.py), in which order (agenda.py), and what becomes of answers (outcomes.py).
"""

from __future__ import annotations

import logging
import math
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.values import AssetKey
from assetwatchd.polling.demand import UNWANTED, Demand
from assetwatchd.polling.knowledge import Knowledge
from assetwatchd.polling.presence import UNHEARD_OF, Presence
from assetwatchd.runtime.logs import Seldom

if TYPE_CHECKING:
    from collections.abc import Mapping

NEVER = math.inf
AT_ONCE = -math.inf
UNNAMED = AssetKey("", "")
REFUSED_EVERY_S = 60.0
"""Of events that the table refuses one line a kind is logged in this time: what goes wrong once may at every read."""
REFUSED_KINDS_MAX = 50
"""More than there are pairs of an event and a phase that is not allowed."""

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Where the next read of a target is: in one of these at any time."""

    IDLE = "idle"
    """None is agreed on: nobody wants the asset, or a notice that is on its way to the store will say what it is."""
    DUE = "due"
    """It has a place in the agenda."""
    READING = "reading"
    """A call that is under way asks about it."""
    COMMITTING = "committing"
    """Its answer is on its way to the store; the read is over once it is kept, and only then are its waiters told."""
    DROPPED = "dropped"
    """The source has no such target any more, though lists of targets may that are gone through by parts. For good."""


class Event(StrEnum):
    """What happens to a target."""

    SCHEDULED = "scheduled"
    """Its next read has a place, or another one than before."""
    CANCELLED = "cancelled"
    """Its next read loses its place."""
    BEGUN = "begun"
    """A call begins that asks about it."""
    ANSWERED = "answered"
    """The call said what it is, and that goes to the store."""
    UNCHANGED = "unchanged"
    """The call said what the store's entry is made of."""
    ENDED = "ended"
    """The call said nothing that counts: it failed, was overtaken, or must be confirmed."""
    COMMITTED = "committed"
    """What the call said is in the store."""
    TOUCHED = "touched"
    """A push says that it has changed, and somebody wants it."""
    OVERTAKEN = "overtaken"
    """Something is known of it, by a push or a list, that is newer than whatever a read under way will say."""
    INVALIDATED = "invalidated"
    """It was touched, and nobody wants it: what is known holds no more, and whoever wants it next has it read."""
    DROPPED = "dropped"
    """The source has it no more."""


# The life of one target, through a read that pushes overtake:
#
#   what happens                           event        phase       generation  dirty  refetch
#   it is listed, or asked for by name     -            IDLE        0           no     no
#   somebody wants it: it gets a place     SCHEDULED    DUE         0           no     no
#   a call asks; generation 0 is noted     BEGUN        READING     0           no     no
#   a push says that it changed            TOUCHED      READING     0           yes    yes
#   a push says that it was deleted        OVERTAKEN    READING     1           no     no
#   the call ends: it is there. 0 is not   ENDED        IDLE        1           no     no
#     1, so that is not believed, and
#     the store has it as DELETED
#   it is still wanted                     SCHEDULED    DUE         1           no     no
#   a call asks; generation 1 is noted     BEGUN        READING     1           no     no
#   the call ends: it is there again       ANSWERED     COMMITTING  1           no     no
#   a push says that it changed            TOUCHED      COMMITTING  1           yes    yes
#   what the call said is in the store     COMMITTED    IDLE        1           yes    yes
#   so it is read at once                  SCHEDULED    DUE         1           yes    no
#   a call asks; generation 1 is noted     BEGUN        READING     1           yes    no
#   the call ends, and no push came        ANSWERED     COMMITTING  1           no     no
#   what the call said is in the store     COMMITTED    IDLE        1           no     no
#   nobody wants it                        DROPPED      DROPPED     1           no     no
#
# Why a touch does not overtake: what the call says may be from before the touch, but is no older than what is known,
# so it goes to the store, and the read is made once more. After a removal it would bring back what is gone.
# Why the order counts in OVERTAKEN: a touch that came before the removal is answered by it. One that comes after it,
# while the call goes on, makes the target dirty again, and asks for a read of its own.

_IDLE, _DUE, _READ, _COMM, _DROP = Phase
_NO = None
TABLE: Mapping[Event, tuple[Phase | None, ...]] = {
    # In phase:          idle   due    reading committing dropped
    Event.SCHEDULED:    (_DUE,  _DUE,  _NO,    _NO,    _NO),
    Event.CANCELLED:    (_NO,   _IDLE, _NO,    _NO,    _NO),
    Event.BEGUN:        (_NO,   _READ, _NO,    _NO,    _NO),
    Event.ANSWERED:     (_NO,   _NO,   _COMM,  _NO,    _NO),
    Event.UNCHANGED:    (_NO,   _NO,   _IDLE,  _NO,    _NO),
    Event.ENDED:        (_NO,   _NO,   _IDLE,  _NO,    _NO),
    Event.COMMITTED:    (_NO,   _NO,   _NO,    _IDLE,  _NO),
    Event.TOUCHED:      (_IDLE, _DUE,  _READ,  _COMM,  _NO),
    Event.OVERTAKEN:    (_IDLE, _NO,   _READ,  _COMM,  _NO),
    Event.INVALIDATED:  (_IDLE, _NO,   _READ,  _COMM,  _NO),
    Event.DROPPED:      (_DROP, _NO,   _NO,    _NO,    _NO),
}  # fmt: skip
"""The phase that follows an event; _NO: the event is refused.

Why some are refused. SCHEDULED while it is read: two calls would ask at once, and the older answer might be kept last.
OVERTAKEN, INVALIDATED and DROPPED while it is due: its place goes first (CANCELLED), as the agenda counts its places.
DROPPED while it is read, or its answer is on its way: whoever waits for it would never be told, and the answer would
make an entry that no target minds. Only targets that nobody wants are dropped, and one that is read is wanted, or was.
"""
_FOLLOWING = {(event, phase): after for event, row in TABLE.items() for phase, after in zip(Phase, row, strict=True)}


class RefusedEvent(AssertionError):
    """A target was told of an event that its phase does not allow: a defect of ours."""


class Refusals:
    """What becomes of refused events. strict: they raise, as in tests; else they are logged, and change nothing."""

    def __init__(self) -> None:
        self.strict = False
        self._lines = Seldom(REFUSED_EVERY_S, REFUSED_KINDS_MAX)

    def note(self, target: Target, event: Event) -> None:
        """Raise, or log with measure: in service one target that is read once too often is better than none at all."""
        text = f"asset {target.asset_id!r}: {event} while {target.phase}"
        if self.strict:
            raise RefusedEvent(text)
        if (left_out := self._lines.more((event, target.phase))) is not None:
            log.error("source %s, %s: ignored; %d more such since the last line", target.key.source, text, left_out)


refusals = Refusals()


class Place(NamedTuple):
    """Where a target stands in the agenda. Replaced, never changed; one that its target has no more counts for nothing.

    due: when it is to be read. number: orders those of one moment; 0 while it stands in the lanes of its callers.
    patience_s: how much later than due it may be before others have to stand back.
    new: nothing is known of it yet, so it goes before those that are only to be read again.
    """

    due: float
    number: int
    patience_s: float
    new: bool
    target: Target

    @property
    def deadline(self) -> float:
        """How late it may get."""
        return self.due + self.patience_s


class Target:
    """One asset of one source, as long as anything is kept of it here.

    key: names it everywhere; one object for its entry and all filters that name it.
    place: in the agenda; None in every phase but DUE.
    generation: raised by what is newer than any read under way; reads that began in an older one are discarded.
    refetch: it was touched while it was read, and is read once more.
    dirty: it was touched, and since then no read that began later has ended well, nor was anything newer known.

    demand and presence are values that many targets share, for most are wanted, and there, in the same way.
    """

    __slots__ = (
        "asset_id",
        "demand",
        "dirty",
        "generation",
        "key",
        "knowledge",
        "phase",
        "place",
        "presence",
        "refetch",
    )

    def __init__(self, asset_id: str, key: AssetKey = UNNAMED) -> None:
        self.asset_id = asset_id
        self.key = key
        self.phase = Phase.IDLE
        self.place: Place | None = None
        self.generation = 0
        self.refetch = False
        self.dirty = False
        self.demand: Demand = UNWANTED  # written by interest.py
        self.presence: Presence = UNHEARD_OF  # written by registry.py
        self.knowledge = Knowledge()  # written by its own methods

    @property
    def due(self) -> float:
        """When it is to be read; NEVER while it has no place."""
        return NEVER if self.place is None else self.place.due

    @property
    def under_way(self) -> bool:
        """Whether it is being read: asked about, or its answer not in the store yet."""
        return self.phase is _READ or self.phase is _COMM

    # Events ----------------------------------------------------------------------------------------------------------

    def schedule(self, place: Place) -> None:
        """Give its next read a place, in place of the one it has."""
        if self._moves(Event.SCHEDULED):
            self.place, self.refetch = place, False

    def cancel(self) -> None:
        """Take its place away; it stays dirty, for whoever cancels knows whether it gets another one."""
        if self._moves(Event.CANCELLED):
            self.place = None

    def begin(self) -> None:
        """A call asks about it. It stays dirty until that ends well: the call may yet fail."""
        if self._moves(Event.BEGUN):
            self.place = None

    def answer(self) -> None:
        """The call said what it is. That is as new as the last touch, but for touches since the call began."""
        if self._moves(Event.ANSWERED):
            self.dirty = self.refetch

    def unchanged(self) -> None:
        """The call said what is known already, and it is as new as after `answer`."""
        if self._moves(Event.UNCHANGED):
            self.dirty = self.refetch

    def end(self) -> None:
        """The call said nothing that counts."""
        self._moves(Event.ENDED)

    def commit(self) -> None:
        """What the call said is in the store."""
        self._moves(Event.COMMITTED)

    def touch(self) -> None:
        """It has changed: a read under way may have seen what was before, so another one has to follow it."""
        if self._moves(Event.TOUCHED):
            self.dirty, self.refetch = True, self.refetch or self.under_way

    def overtake(self) -> None:
        """Something newer is known than reads under way will say, and than any touch up to now."""
        if self._moves(Event.OVERTAKEN):
            self.generation += 1
            self.dirty = self.refetch = False

    def invalidate(self) -> None:
        """What is known of it holds no more, and no read of it is agreed on, as nobody wants it."""
        if self._moves(Event.INVALIDATED):
            self.dirty = self.refetch = False
            self.knowledge.outdate()

    def drop(self) -> None:
        """The source has it no more."""
        self._moves(Event.DROPPED)

    def _moves(self, event: Event) -> bool:
        following = _FOLLOWING[event, self.phase]
        if following is None:
            refusals.note(self, event)
            return False
        self.phase = following
        return True
