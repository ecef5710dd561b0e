"""The client's map: applies the messages of a watch, and says what each changed. No I/O, and no call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatch.v1.asset_status_service_pb2 import StatusChange, WatchStarted
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_UPSERT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch.v1.asset_status_pb2 import AssetStatus
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse
    from assetwatch.v1.source_pb2 import SourceCondition


class Key(NamedTuple):
    """Names one asset."""

    source: str
    asset_id: str


@dataclass(frozen=True, slots=True)
class Upsert:
    """The asset's status is now this."""

    key: Key
    status: AssetStatus
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """The asset is no longer in what is watched; status is the last that was told of it.

    When a snapshot left it out, that is the last this watch had: its revision was told before.
    """

    key: Key
    status: AssetStatus
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """The map is complete. Comes once for each stream, so again after each break, and whenever incomplete is another.

    head: the newest revision the server knew of then. replaced: a whole snapshot was sent since the last Synced. What
    this watch had told of and was not in it has been Removed. What an earlier watch had told of, whose token this one
    began with, and this one has not, is gone too. incomplete: whole sources of which there may be more than the server
    knew by then; what is missing follows.
    """

    head: int
    replaced: bool
    incomplete: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ConditionChanged:
    """A source is doing differently, or (at the beginning of a stream) as told."""

    source: str
    condition: SourceCondition


Event: TypeAlias = Upsert | Removed | Synced | ConditionChanged


@dataclass(slots=True)
class View:
    """The map and where it stands.

    statuses: the latest of each asset, the last to change last. conditions: of each source watched. token: where to
    resume. head: the newest revision the server has told of. epoch: of the store that counts the revisions; empty
    before the first stream began. replica: that serves the stream. heartbeat_s: what the server announced; 0 when it
    did not. synced: this stream is in sync. replacing: a snapshot is under way, in this stream or in one before that it
    goes on with. incomplete: whole sources of which there may be more than the server knows, as it told last.
    """

    statuses: dict[Key, AssetStatus] = field(default_factory=dict)
    conditions: dict[str, SourceCondition] = field(default_factory=dict)
    token: str = ""
    head: int = 0
    epoch: str = ""
    replica: str = ""
    heartbeat_s: float = 0.0
    synced: bool = False
    replacing: bool = False
    incomplete: frozenset[str] = frozenset()
    _unconfirmed: set[Key] = field(default_factory=set)
    """Held when the snapshot under way began, and not sent in it yet."""
    _foreign: set[Key] = field(default_factory=set)
    """Held with a revision of another epoch, whose counting this one need not go on with: what differs is newer."""

    def take(self, message: WatchStatusResponse) -> Iterator[Event]:
        """Take in one message and yield what it changed, nothing twice.

        Each event is in the map when it is yielded. The token moves only when all its changes were taken.
        """
        if message.HasField("started"):
            self._begin(message.started)
        self.head = max(self.head, message.head_revision)
        for change in message.changes:
            yield from self._change(change)
        for told in message.source_conditions:
            if self.conditions.get(told.source) != told.condition:
                self.conditions[told.source] = told.condition
                yield ConditionChanged(told.source, told.condition)
        # The token last of all: whoever stops in the middle of a message has it told once more by the next stream, and
        # what was applied already is not yielded twice, as revisions tell.
        synced = message.HasField("synced")
        if synced:
            yield from self._leave_out()
        self.token = message.resume_token or self.token
        if synced:
            replaced, self.replacing, self.synced = self.replacing, False, True
            self.incomplete = frozenset(message.synced.incomplete)
            yield Synced(self.head, replaced, self.incomplete)
        elif self.synced and message.HasField("bookmark"):
            yield from self._mark(frozenset(message.bookmark.incomplete))

    def _mark(self, incomplete: frozenset[str]) -> Iterator[Event]:
        if incomplete != self.incomplete:
            self.incomplete = incomplete
            yield Synced(self.head, replaced=False, incomplete=incomplete)

    def forget_token(self) -> None:
        """Drop the token, so that the next stream begins with a snapshot."""
        self.token = ""

    def _begin(self, started: WatchStarted) -> None:
        """Begin a stream. One that resumes goes on with the snapshot that the last one left unfinished, if it did."""
        self.synced = False
        self.incomplete = frozenset(started.incomplete)
        self.heartbeat_s = started.heartbeat_interval.ToMilliseconds() / 1000
        if started.mode == WatchStarted.MODE_SNAPSHOT:
            if started.epoch != self.epoch:
                self.head = 0
                self._foreign = set(self.statuses)
            self.forget_token()  # it leads into what was before this snapshot
            self.replacing = True
            self._unconfirmed = set(self.statuses)
        self.epoch, self.replica = started.epoch, started.replica

    def _change(self, change: StatusChange) -> Iterator[Event]:
        status = change.status
        key = Key(status.asset.source, status.asset.asset_id)
        held = self.statuses.get(key)
        newer = held is None or (held != status if key in self._foreign else held.revision < status.revision)
        self._unconfirmed.discard(key)
        self._foreign.discard(key)
        if newer:
            self.statuses.pop(key, None)  # so that it is last in the map, which is in the order of changes
            if change.kind == CHANGE_KIND_UPSERT:
                self.statuses[key] = status
                yield Upsert(key, status, change.traceparent)
            elif held is not None:
                yield Removed(key, status, change.traceparent)

    def _leave_out(self) -> Iterator[Event]:
        """End the snapshot under way, if there is one: remove what was not in it."""
        for key in [key for key in self.statuses if key in self._unconfirmed]:
            self._unconfirmed.discard(key)
            self._foreign.discard(key)
            yield Removed(key, self.statuses.pop(key))
