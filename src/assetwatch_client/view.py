"""The client's map: what a watch has told, message by message. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatch.v1.asset_status_service_pb2 import Change, WatchStarted

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
    """The asset is no longer in what is watched; status is the last that was told of it."""

    key: Key
    status: AssetStatus
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Synced:
    """The map is complete. Comes once for each stream, so again after each break."""

    revision: int


@dataclass(frozen=True, slots=True)
class ConditionChanged:
    """A source is doing differently, or (at the beginning of a stream) as told."""

    source: str
    condition: SourceCondition


Event: TypeAlias = Upsert | Removed | Synced | ConditionChanged


@dataclass(slots=True)
class View:
    """The map and where it stands.

    statuses: the latest of each asset. conditions: of each source watched. token: where to resume. head: the newest
    revision the server has told of. epoch: of the store that counts the revisions.
    """

    statuses: dict[Key, AssetStatus] = field(default_factory=dict)
    conditions: dict[str, SourceCondition] = field(default_factory=dict)
    token: str = ""
    head: int = 0
    epoch: str = ""
    heartbeat_s: float = 0.0
    synced: bool = False
    _snapshot: set[Key] | None = None

    def take(self, message: WatchStatusResponse) -> Iterator[Event]:
        """Take in one message and yield what it changed, nothing twice. The token moves when all of it was taken."""
        if message.HasField("started"):
            self._begin(message)
        for change in message.changes:
            yield from self._change(change)
        for told in message.source_conditions:
            if self.conditions.get(told.source) != told.condition:
                self.conditions[told.source] = told.condition
                yield ConditionChanged(told.source, told.condition)
        self.head = max(self.head, message.head_revision)
        if message.HasField("synced"):
            yield from self._complete()
            yield Synced(message.head_revision)
        self.token = message.resume_token or self.token

    def forget_token(self) -> None:
        """The token is of no use any more: the next stream begins with a snapshot."""
        self.token = ""

    def _begin(self, message: WatchStatusResponse) -> None:
        started = message.started
        self.synced = False
        self.heartbeat_s = started.heartbeat_interval.ToMilliseconds() / 1000
        if started.mode == WatchStarted.MODE_SNAPSHOT:
            self._snapshot = set()
        if started.epoch != self.epoch:
            self.head = 0
            self.epoch = started.epoch
            for status in self.statuses.values():  # counted by another store: any revision may follow
                status.revision = 0

    def _change(self, change: Change) -> Iterator[Event]:
        status = change.status
        key = Key(status.asset.source, status.asset.asset_id)
        held = self.statuses.get(key)
        if change.kind == Change.KIND_REMOVED:
            if self._snapshot is not None:
                self._snapshot.discard(key)
            if held is not None and held.revision < status.revision:
                del self.statuses[key]
                yield Removed(key, status, change.traceparent)
            return
        if self._snapshot is not None:
            self._snapshot.add(key)
        if held is None or held.revision < status.revision:
            self.statuses[key] = status
            yield Upsert(key, status, change.traceparent)

    def _complete(self) -> Iterator[Event]:
        """After a snapshot, what it did not hold is gone."""
        self.synced = True
        if self._snapshot is not None:
            for key in [key for key in self.statuses if key not in self._snapshot]:
                yield Removed(key, self.statuses.pop(key))
            self._snapshot = None
