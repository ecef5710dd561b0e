"""The port to the schema: who makes the bytes that the changefeed keeps, joins and hands on.

The changefeed never looks into those bytes, and never alters them. What a change looks like on the wire, in either of
its two forms, is known here by the names of these methods alone; `rpc` implements them, `App` hands them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.model.values import Entry, Observation


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

    An entry holds one form of its change, the UPSERT, and the other is made when a message needs it. That is measured:
    making it takes 0.3 us, and is done once for all watchers of a filter; keeping both would double the bytes of every
    entry, in memory and on the disk, for a form that most entries are never told in.
    """

    def removal(self, upsert: bytes) -> bytes:
        """Return the REMOVED of the same status, of an UPSERT as `Encoder.seal` makes it."""
        ...

    def message(self, changes: Sequence[bytes], *, revision: int, head: int, digest: bytes) -> bytes:
        """Join changes into one message.

        Args:
            changes: encoded, either form each, in the order of revisions.
            revision: of the last of them; the message's token says so.
            head: the newest revision there was when they were selected.
            digest: of the filter that they were selected for; it is in the token too.
        """
        ...
