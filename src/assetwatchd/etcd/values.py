"""What etcd answers, frozen: keys with their revisions, what a transaction did, what a watch told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class KeyValue(NamedTuple):
    """A key as it is at some revision.

    created, modified: the revisions of its creation and of its last change. lease: what it hangs on, 0 for nothing.
    """

    key: bytes
    value: bytes
    created: int
    modified: int
    lease: int = 0


class Page(NamedTuple):
    """Keys of a range, in their order, as of one revision. more: there are others behind the last one.

    revision: that of the store when it answered, also where an older one was asked for.
    """

    revision: int
    cluster: int
    keys: Sequence[KeyValue]
    more: bool = False

    @property
    def first(self) -> KeyValue | None:
        """The first key; None where there is none."""
        return self.keys[0] if self.keys else None


class Outcome(NamedTuple):
    """What a transaction did: success or failure, at which revision, and what each of its operations found.

    found has an item an operation, in their order: the keys that a get found; nothing for a put or a delete.
    """

    succeeded: bool
    revision: int
    cluster: int
    found: Sequence[Sequence[KeyValue]]

    def one(self, place: int) -> KeyValue | None:
        """Return the key that the get at that place found; None where it is not there."""
        keys = self.found[place]
        return keys[0] if keys else None


class Event(NamedTuple):
    """A change of one key. Of a deleted one only key and modified are told, the latter being when it was deleted."""

    deleted: bool
    key: KeyValue


class News(NamedTuple):
    """What a watch told: all changes up to revision, of which events are those that it had not told before.

    What one transaction changed is never split. No event: only that nothing else happened up to there.
    """

    revision: int
    events: Sequence[Event]

    def parts(self, length: int) -> Iterator[News]:
        """Yield it in parts of so many events, or more where one transaction has more: none is split here either."""
        begin = 0
        for end in range(1, len(self.events)):
            revision = self.events[end - 1].key.modified
            if end - begin >= length and self.events[end].key.modified != revision:
                yield News(revision, self.events[begin:end])
                begin = end
        yield News(self.revision, self.events[begin:])


class Lease(NamedTuple):
    """A lease that was granted. Keys that hang on it are deleted when it runs out."""

    id: int
    ttl_s: int


class Status(NamedTuple):
    """How one member is.

    version: of the program. quota_bytes: at which size it takes no more writes. alarms: what is wrong, by name.
    """

    member: int
    version: tuple[int, ...]
    size_bytes: int
    used_bytes: int
    quota_bytes: int
    leader: int
    troubles: Sequence[str]


class Member(NamedTuple):
    """A member of the cluster, as the cluster knows it. name is empty before it was started once."""

    id: int
    name: str
    endpoints: Sequence[str]
    learner: bool


class Alarm(NamedTuple):
    """What a member is alarmed about: NOSPACE, or CORRUPT."""

    member: int
    kind: str
