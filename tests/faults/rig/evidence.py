"""What a run leaves behind to be judged: the journal of the store, recordings, the truth, the faults."""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from assetwatch.v1 import asset_status_pb2
from assetwatch.v1 import asset_status_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from faults.rig.follower import Follower
    from faults.rig.load import Fact, Key
    from faults.rig.ownership import Call, Term
    from faults.rig.recorder import Recorder, Stream, Wanted
    from faults.rig.replica import Ended

GONE = frozenset({asset_status_pb2.ASSET_STATE_DELETED, asset_status_pb2.ASSET_STATE_MISSING})


class Logged(NamedTuple):
    """One entry of the store, and when it became readable (monotonic)."""

    t: float
    revision: int
    key: Key
    state: int
    gone: bool
    status: asset_status_pb2.AssetStatus


def holds(wanted: Wanted, entry: Logged) -> bool:
    """Whether an entry belongs into a client's map: the schema's comments on Change and WatchStatusRequest, again."""
    if not wanted.concerns(entry.key) or (wanted.states and entry.state not in wanted.states):
        return False
    return not entry.gone or entry.key in wanted.keys or (bool(wanted.states) and entry.state in GONE)


@dataclass
class Line:
    """What one store counted, over any number of restarts. drops: (when, revisions); floor: the highest it had.

    forgotten: entries of assets that never were as far as was known, dropped once nobody named them, below no floor.
    """

    entries: list[Logged] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    drops: list[tuple[float, list[int]]] = field(default_factory=list)
    floor: int = 0
    forgotten: set[int] = field(default_factory=set)
    _past: dict[Key, list[Logged]] = field(default_factory=dict)

    def add(self, entry: Logged) -> None:
        """Append an entry; one that was loaded again is known."""
        if self.revisions and entry.revision <= self.revisions[-1]:
            return
        self.entries.append(entry)
        self.revisions.append(entry.revision)
        self._past.setdefault(entry.key, []).append(entry)

    def drop(self, t: float, revisions: list[int]) -> None:
        """Take down that removals were dropped; the floor of a store that is loaded says it too."""
        revisions = [revision for revision in revisions if revision not in self.forgotten]
        self.drops.append((t, revisions))
        self.floor = max([self.floor, *revisions])

    def upto(self, head: int) -> Line:
        """Return what a backup of it holds that was made at a revision."""
        line = Line(drops=list(self.drops), floor=self.floor, forgotten=set(self.forgotten))
        for entry in self.between(0, head):
            line.add(entry)
        return line

    def may_lack(self, key: Key) -> bool:
        """Whether an asset is gone since so long that a store need not know of it, nor a snapshot hold it."""
        past = self.past(key)
        return not past or any(entry.gone and self._dropped(entry.revision) for entry in past)

    def unheard(self, revision: int | None, known: int | None) -> bool:
        """Whether a change need not be told to one who knows an older one: it is forgotten, and that one is gone too.

        Nobody named the asset meanwhile, and who does has it read anew.
        """
        entry = self.at(known or 0)
        return revision in self.forgotten and (entry is None or (entry.gone and entry.revision < (revision or 0)))

    def _dropped(self, revision: int) -> bool:
        return revision <= self.floor or revision in self.forgotten

    def at(self, revision: int) -> Logged | None:
        """Return the entry of a revision."""
        place = bisect_left(self.revisions, revision)
        found = place < len(self.revisions) and self.revisions[place] == revision
        return self.entries[place] if found else None

    def between(self, after: int, upto: int) -> Sequence[Logged]:
        """Return every entry with after < revision <= upto."""
        return self.entries[bisect_right(self.revisions, after) : bisect_right(self.revisions, upto)]

    def past(self, key: Key) -> Sequence[Logged]:
        """Return all an asset ever was."""
        return self._past.get(key, ())

    def latest(self, key: Key, upto: int) -> Logged | None:
        """Return what an asset was as of a revision."""
        past = self.past(key)
        place = bisect_right(past, upto, key=lambda entry: entry.revision)
        return past[place - 1] if place else None

    def head_at(self, t: float) -> int:
        """Return the newest revision that could be read at a moment."""
        return max((entry.revision for entry in self.entries if entry.t <= t), default=0)


@dataclass
class Journal:
    """Lines by epoch (a store that goes on after a restart goes on with its line), starts, delay points.

    heads: of the store, as each start found it.
    """

    lines: list[Line] = field(default_factory=list)
    by_epoch: dict[str, Line] = field(default_factory=dict)
    ready_at: list[float] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    points: list[tuple[float, str]] = field(default_factory=list)

    @property
    def last(self) -> Line:
        """What is counted now."""
        return self.lines[-1]


def read_journal(path: Path) -> Journal:
    """Read what the launcher wrote; a half-written last line was never read by anybody either."""
    journal = Journal()
    loading: list[Logged] | None = None
    for fields in _lines(path):
        match fields["kind"]:
            case "boot":
                loading = []
            case "ready":
                _started(journal, fields, loading or [])
                loading = None
            case "entry" if loading is not None:
                loading.append(_logged(fields))
            case "entry":
                journal.last.add(_logged(fields))
            case "drop" if loading is None:
                journal.last.drop(fields["t"], fields["revisions"])
            case "forget":
                journal.last.forgotten.add(fields["revision"])
            case "point":
                journal.points.append((fields["t"], fields["name"]))
    return journal


def read_points(path: Path) -> list[tuple[float, str]]:
    """Read which delay points a process passed while they were armed, and when."""
    return [(line["t"], line["name"]) for line in _lines(path) if line["kind"] == "point"] if path.exists() else []


def _started(journal: Journal, fields: Mapping[str, Any], loaded: Sequence[Logged]) -> None:
    """A store was opened: a new one, one that goes on, or a backup that was put back."""
    if fields["head"] == 0 or not journal.lines or not _goes_on(journal.last, loaded):
        journal.lines.append(Line())
    elif journal.last.revisions and fields["head"] < journal.last.revisions[-1]:
        journal.lines.append(journal.last.upto(fields["head"]))
    for entry in loaded:
        journal.last.add(entry)
    journal.by_epoch[fields["epoch"]] = journal.last
    journal.last.drop(fields["t"], [fields["floor"]])
    journal.ready_at.append(fields["t"])
    journal.heads.append(fields["head"])


def _goes_on(line: Line, loaded: Sequence[Logged]) -> bool:
    """Whether what was loaded has an entry the line knows, with the same content."""
    known = [(entry, line.at(entry.revision)) for entry in loaded]
    return not loaded or any(old is not None and old.status == entry.status for entry, old in known)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)


def _logged(fields: Mapping[str, Any]) -> Logged:
    message = pb.WatchStatusResponse.FromString(base64.b64decode(fields["upsert"]))
    status = message.changes[0].status
    return Logged(
        fields["t"], fields["revision"], (fields["source"], fields["id"]), fields["state"], fields["gone"], status
    )


@dataclass
class Window:
    """When a fault was on. source: the upstream it hit, if it did. silent: that could not be read at all.

    ends: processes may end by themselves, for a supervisor to start them anew.
    """

    fault: str
    began_at: float
    ended_at: float
    fired: bool
    source: str = ""
    silent: bool = False
    restarts: bool = False
    ends: bool = False


@dataclass
class Evidence:
    """All of it. rates: calls a second that each source may be asked; listed: what List gave at the end, by key.

    starved: the share of time in which server or clients could run and had no processor. begun: when each source was
    begun to be asked. Of replicas: also_listed: what List gave at each; terms, calls: who owned and who asked a source;
    pushes: connections by which one pushes, at the end; ended: processes that ended by themselves.
    """

    journal: Journal
    recorders: Sequence[Recorder]
    followers: Sequence[Follower]
    churners: Sequence[Recorder]
    facts: Sequence[Fact]
    windows: Sequence[Window]
    listed: Mapping[Key, asset_status_pb2.AssetStatus]
    quiet_at: float
    settled: bool
    retention_s: float
    requests: Mapping[str, Sequence[tuple[float, str, int | None]]] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    changes_per_s: float = 0.0
    starved: float = 0.0
    stderr: str = ""
    begun: Mapping[str, Sequence[float]] = field(default_factory=dict)
    also_listed: Mapping[str, Mapping[Key, asset_status_pb2.AssetStatus]] = field(default_factory=dict)
    terms: Sequence[Term] = ()
    calls: Mapping[str, Sequence[Call]] = field(default_factory=dict)
    pushes: Mapping[str, int] = field(default_factory=dict)
    ended: Sequence[Ended] = ()


def streams(run: Evidence) -> Iterator[tuple[Recorder, Stream]]:
    """Every stream of those whose messages are kept."""
    for who in (*run.recorders, *run.churners):
        for stream in who.streams:
            yield who, stream


def changes_of(stream: Stream) -> Iterator[tuple[float, pb.StatusChange]]:
    """Every change a stream was told, and when."""
    for t, message in stream.messages:
        for change in message.changes:
            yield t, change


def line_of(run: Evidence, stream: Stream) -> Line | None:
    """What the log has of the epoch a stream was told; None when it was told none."""
    return run.journal.by_epoch.get(stream.messages[0][1].started.epoch) if stream.messages else None
