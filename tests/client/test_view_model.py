"""Any interleaving of changes, breaks, resumes, lost tokens and lost stores, against a modelled server."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from assetwatch_client import Removed, Upsert, View
from support.examples import bounded
from support.scripted_watch import batch, bookmark, removed, started, synced, upsert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse

    from assetwatch_client import Event

pytestmark = pytest.mark.unit

ASSETS = ("a", "b", "c", "d", "e")
BATCH = 2


class Entry(NamedTuple):
    """The latest of one asset: held by the filter, or not (any more)."""

    asset_id: str
    revision: int
    held: bool


class TokenRefusedError(Exception):
    """The server cannot go on from there: expired, or another epoch's."""


class Server:
    """A store and its streams, as the schema describes them: the shortest program that keeps its promises.

    stores: which store each epoch counts for; one that is opened again goes on counting.
    """

    def __init__(self) -> None:
        self.epoch = 1
        self.stores = {"1": 1}
        self.head = 0
        self.floor = 0
        self.entries: dict[str, Entry] = {}

    def change(self, asset_id: str, *, held: bool) -> None:
        """Commit one change; a removal of what nobody has is none."""
        if held or asset_id in self.entries:
            self.head += 1
            self.entries[asset_id] = Entry(asset_id, self.head, held)

    def drop_tombstones(self) -> None:
        """Forget removals: the floor first."""
        self.floor = self.head
        self.entries = {name: entry for name, entry in self.entries.items() if entry.held}

    def wipe(self, survivors: set[str]) -> None:
        """Lose the store; what survives upstream is counted anew."""
        self.head, self.floor, self.entries = 0, 0, {}
        self._begin_epoch(store=self.epoch + 1)
        for asset_id in sorted(survivors):
            self.change(asset_id, held=True)

    def restart(self) -> None:
        """Open the store again."""
        self._begin_epoch(store=self.stores[str(self.epoch)])

    def _begin_epoch(self, *, store: int) -> None:
        self.epoch += 1
        self.stores[str(self.epoch)] = store

    def watch(self, token: str) -> Iterator[WatchStatusResponse]:
        """Open a stream. Raises: TokenRefusedError."""
        if not token:
            return self._stream(0, snapshot=True)
        epoch, revision = token.split("/")
        if self.stores[epoch] != self.stores[str(self.epoch)] or int(revision) < self.floor:
            raise TokenRefusedError
        return self._stream(int(revision), snapshot=False)

    def _stream(self, cursor: int, *, snapshot: bool) -> Iterator[WatchStatusResponse]:
        epoch = str(self.epoch)
        yield started(resumed=not snapshot, epoch=epoch, head=self.head)
        head = self.head
        yield from self._range(cursor, head, held_only=snapshot)
        yield synced(self._token(head), head=self.head)
        while True:
            cursor, head = head, self.head
            if cursor < self.floor:
                raise TokenRefusedError
            yield from self._range(cursor, head)
            yield bookmark(self._token(head), head=self.head)

    def _range(self, cursor: int, head: int, *, held_only: bool = False) -> Iterator[WatchStatusResponse]:
        """Frozen when it begins, in the order of revisions."""
        due = sorted(self.entries.values(), key=lambda entry: entry.revision)
        due = [entry for entry in due if cursor < entry.revision <= head and (entry.held or not held_only)]
        for start in range(0, len(due), BATCH):
            part = due[start : start + BATCH]
            changes = [(upsert if entry.held else removed)(entry.asset_id, entry.revision) for entry in part]
            yield batch(*changes, token=self._token(part[-1].revision), head=self.head)

    def _token(self, revision: int) -> str:
        return f"{self.epoch}/{revision}"


class Watching(RuleBasedStateMachine):
    """One client of it. folded is the map that the events alone make; told is the last revision told of each asset."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.view = View()
        self.stream: Iterator[WatchStatusResponse] | None = None
        self.folded: dict[str, int] = {}
        self.told: dict[tuple[int, str], int] = {}

    @rule(asset_id=st.sampled_from(ASSETS), held=st.booleans())
    def change(self, asset_id: str, held: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by name
        """An asset changes, appears or goes."""
        self.server.change(asset_id, held=held)

    @rule()
    def drop_tombstones(self) -> None:
        """Older tokens expire, and so does a stream that is behind."""
        self.server.drop_tombstones()

    @rule(survivors=st.sets(st.sampled_from(ASSETS)))
    def wipe(self, survivors: set[str]) -> None:
        """The server loses its store; every stream breaks with it."""
        self.server.wipe(survivors)
        self.stream = None

    @rule()
    def restart(self) -> None:
        """The server ends and starts again over the same store."""
        self.server.restart()
        self.stream = None

    @precondition(lambda self: self.stream is not None)
    @rule()
    def cut(self) -> None:
        """The stream breaks between two messages."""
        self.stream = None

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        """Some messages come and are taken in whole."""
        for _ in range(count):
            self._tell(self.view.take(self._next()))

    @rule(count=st.integers(0, 3))
    def leave_off(self, count: int) -> None:
        """The consumer stops in the middle of a message, and the stream with it."""
        events = self.view.take(self._next())
        self._tell(islice(events, count))
        events.close()  # type: ignore[attr-defined]  # it is a generator
        self.stream = None

    @rule()
    def settle(self) -> None:
        """Whatever happened: once in sync and idle, the client's map is the server's."""
        while True:
            message = self._next()
            self._tell(self.view.take(message))
            if message.HasField("bookmark") and self.view.token.endswith(f"/{self.server.head}"):
                break
        assert self._map() == {name: entry.revision for name, entry in self.server.entries.items() if entry.held}
        assert self.view.synced
        assert not self.view.replacing

    @invariant()
    def map_is_what_was_told(self) -> None:
        """The map is at all times the sum of the events."""
        assert self._map() == self.folded

    def _next(self) -> WatchStatusResponse:
        try:
            self.stream = self.stream or self.server.watch(self.view.token)
            return next(self.stream)
        except TokenRefusedError:
            self.view.forget_token()
            self.stream = self.server.watch("")
            return next(self.stream)

    def _map(self) -> dict[str, int]:
        return {key.asset_id: status.revision for key, status in self.view.statuses.items()}

    def _tell(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, Upsert):
                self._tell_of(event.key.asset_id, event.status.revision)
                self.folded[event.key.asset_id] = event.status.revision
            elif isinstance(event, Removed):
                if event.traceparent:  # else a snapshot left it out: its status is the one told before
                    self._tell_of(event.key.asset_id, event.status.revision)
                else:
                    assert event.status.revision == self.folded[event.key.asset_id]
                del self.folded[event.key.asset_id]

    def _tell_of(self, asset_id: str, revision: int) -> None:
        """Each (asset, revision) of a store at most once, and never an older one."""
        place = (self.server.stores[self.view.epoch], asset_id)
        assert revision > self.told.get(place, 0)
        self.told[place] = revision


Watching.TestCase.settings = bounded("the client's map")
TestWatching = Watching.TestCase
