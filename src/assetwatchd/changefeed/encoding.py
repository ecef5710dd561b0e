"""The port to the schema: who makes the bytes that the changefeed keeps, joins and hands on.

The changefeed never looks into those bytes, and never alters them. What a change looks like on the wire, in each of
its forms, is known here by the names of these methods alone; `rpc` implements them, `App` hands them in.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from assetwatchd.model.values import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.model.values import Entry, Observation


FORMED_BYTES_TOGETHER = 256 * 1024
"""So many bytes of changes are made into another form at a time, or one change: a millisecond or two, and where they
hold nothing but small values four."""


class Encoder(Protocol):
    """Turns model values into bytes of the schema, on their way into the store."""

    def content(self, source: str, observation: Observation) -> bytes:
        """Encode what makes two statuses equal or not: everything but the moment of the read and the revision."""
        ...

    def again(self, entry: Entry, *, stale: str) -> bytes:
        """Encode the content of an entry again: STALE, and why; FRESH if that is empty."""
        ...

    def unread(self, source: str, observation: Observation, why: str) -> bytes:
        """Encode the content of an asset that was never read, its freshness STALE, and why."""
        ...

    def seal(self, content: bytes, *, observed_at: float, traceparent: str) -> Callable[[int], bytes]:
        """Return a function that makes the whole change, an UPSERT, once its revision is known."""
        ...


class Framing(Protocol):
    """Turns encoded changes into messages, on their way out of the store.

    An entry holds one form of its change, the UPSERT, and a REMOVED is made when a message needs it. That is measured:
    making it takes 0.3 us, and is done once for all watchers of a filter; keeping both would double the bytes of every
    entry, in memory and on the disk, for a form that most entries are never told in. The view BASIC takes decoding, and
    is kept in memory with the entry once it is made (`form_of`).
    """

    def basic(self, upsert: bytes) -> bytes:
        """Return the UPSERT in the view BASIC, of one in the view FULL; those bytes themselves if there is no less."""
        ...

    def removal(self, upsert: bytes) -> bytes:
        """Return the REMOVED of the same status, of an UPSERT in any view."""
        ...

    def message(self, changes: Sequence[bytes], *, revision: int, head: int, digest: bytes) -> bytes:
        """Join changes into one message.

        Args:
            changes: encoded, each in any form, in the order of revisions.
            revision: of the last of them; the message's token says so.
            head: the newest revision there was when they were selected.
            digest: of the filter that they were selected for; it is in the token too.
        """
        ...


def weight(entry: Entry) -> int:
    """Return how many bytes an entry's change has, as it is kept."""
    return len(entry.upsert)


def weight_to_form(view: View) -> Callable[[Entry], int]:
    """Return what tells of an entry how many bytes are gone through to make its form in a view; 0 if that is there."""
    if view is View.FULL:
        return lambda _: 0
    return lambda entry: 0 if entry.basic else weight(entry)


def form_of(view: View, basic: Callable[[bytes], bytes]) -> Callable[[Entry], bytes]:
    """Return what gives an entry's UPSERT in a view. basic: makes that of BASIC, once an entry, whoever asks first."""
    if view is View.FULL:
        return attrgetter("upsert")

    def basic_of(entry: Entry) -> bytes:
        entry.basic = entry.basic or basic(entry.upsert)
        return entry.basic

    return basic_of
