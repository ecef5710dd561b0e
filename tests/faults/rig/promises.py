"""What is promised of the changes themselves, each invariant one function: of a stream, a session, a map, the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatch.v1 import asset_status_pb2
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_UPSERT, ChangeKind

from assetwatch_client import Removed, Upsert
from faults.rig.evidence import GONE, changes_of, holds, line_of, streams
from faults.rig.follower import Told
from faults.rig.load import number_of
from faults.rig.mirror import Mirror, key_of
from faults.rig.recorder import read_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from faults.rig.evidence import Evidence, Line, Logged
    from faults.rig.follower import Follower
    from faults.rig.load import Fact, Key
    from faults.rig.recorder import Recorder, Stream

CLOCKS_S = 0.05
"""How far the wall clock, by which removals age, may differ from the monotonic one within a run."""


def i1(run: Evidence) -> Iterator[str]:
    """I1: per stream and asset, revisions strictly rise."""
    for who, stream in streams(run):
        seen: dict[Key, int] = {}
        for _, change in changes_of(stream):
            key, revision = key_of(change.status), change.status.revision
            if revision <= seen.get(key, 0):
                yield f"{who.name}: {key} at {revision} after {seen[key]}"
            seen[key] = revision


def i2(run: Evidence) -> Iterator[str]:
    """I2: per stream, revisions strictly rise over all messages."""
    for who, stream in streams(run):
        last = 0
        for _, change in changes_of(stream):
            if change.status.revision <= last:
                yield f"{who.name}: {change.status.revision} after {last}"
            last = change.status.revision


def i3(run: Evidence) -> Iterator[str]:
    """I3: per logical session, across resumes, (asset, revision) at most once; by the library over snapshots too."""
    for who in run.recorders:
        seen: set[tuple[Key, int]] = set()
        for stream in who.streams:
            for _, message in stream.messages:
                if message.started.mode == pb.WatchStarted.MODE_SNAPSHOT:
                    seen.clear()
                for change in message.changes:
                    told = (key_of(change.status), change.status.revision)
                    if told in seen:
                        yield f"{who.name}: {told} twice"
                    seen.add(told)
    for follower in run.followers:
        yield from (f"{follower.name}: {text}" for text in _told_twice(run, follower))


def i4(run: Evidence) -> Iterator[str]:
    """I4: after quiet, client map = List = the store's fold, field for field, and all are what is true upstream."""
    for who in run.recorders:
        yield from (f"{who.name}: {text}" for text in _held(run, who))
    for follower in run.followers:
        yield from (f"{follower.name}: {text}" for text in _held(run, follower))
        if follower.map != follower.statuses:
            yield f"{follower.name}: the library's map is not what its events amount to"
    truth = {fact.key: fact for fact in run.facts}
    for fact in truth.values():
        yield from _true(run, fact)
    for name, listed in _lists(run):
        for key in listed.keys() - {key for key, fact in truth.items() if fact.number}:
            yield f"List{name}: {key} is listed, and is gone"


def i5(run: Evidence) -> Iterator[str]:
    """I5: bookmark b: no later event <= b; b >= last event; the client's map at b is the fold of the log up to b."""
    for who, stream in streams(run):
        last = passed = 0
        for _, message in stream.messages:
            for change in message.changes:
                if change.status.revision <= passed:
                    yield f"{who.name}: {change.status.revision} after a bookmark at {passed}"
                last = change.status.revision
            if message.HasField("bookmark"):
                passed = read_token(message.resume_token)[1]
                if passed < last:
                    yield f"{who.name}: a bookmark at {passed} after {last}"
    yield from _mirrored(run, "bookmark")


def i6(run: Evidence) -> Iterator[str]:
    """I6: across sessions, never older than already seen."""
    for who in run.recorders:
        seen: dict[tuple[int, Key], int] = {}
        for stream in who.streams:
            line = line_of(run, stream)
            for _, change in changes_of(stream):
                key = (id(line), key_of(change.status))
                if change.status.revision < seen.get(key, 0):
                    yield f"{who.name}: {key[1]} at {change.status.revision} after {seen[key]}"
                seen[key] = change.status.revision
    for follower in run.followers:
        seen = {}
        for place, revision in _events(run, follower):
            if revision < seen.get(place, 0):
                yield f"{follower.name}: {place[1]} at {revision} after {seen[place]}"
            seen[place] = revision


def i7(run: Evidence) -> Iterator[str]:
    """I7: resume from r delivers all that changed in (r, now], nothing <= r; a token just issued is always accepted."""
    for who, stream in streams(run):
        if _mode(stream) == pb.WatchStarted.MODE_RESUMED:
            yield from (f"{who.name}: {text}" for text in _resumed(run, who, stream))
    for who in run.recorders:
        for stream in who.streams:
            yield from (f"{who.name}: {text}" for text in _refused(run, stream))


def i8(run: Evidence) -> Iterator[str]:
    """I8: at SYNCED(s) the map is the fold of the log up to s, also when empty; no token before something was told."""
    for who, stream in streams(run):
        for _, message in stream.messages:
            if message.resume_token and message.HasField("started"):
                yield f"{who.name}: started has a token"
            if message.HasField("synced") and not message.resume_token:
                yield f"{who.name}: synced has no token"
    yield from _mirrored(run, "synced")


def i9(run: Evidence) -> Iterator[str]:
    """I9: the filter is sound; leaving it gives REMOVED."""
    for who, stream in streams(run):
        line = line_of(run, stream)
        for _, change in changes_of(stream):
            key = key_of(change.status)
            entry = line.at(change.status.revision) if line else None
            if not who.wanted.concerns(key):
                yield f"{who.name}: {key} was not asked for"
            elif entry is not None and (change.kind == CHANGE_KIND_UPSERT) != holds(who.wanted, entry):
                yield f"{who.name}: {key} at {entry.revision} is {ChangeKind.Name(change.kind)}"


def i10(run: Evidence) -> Iterator[str]:
    """I10: no phantom: each payload is in the log, its observation in the truth, and no older one follows a newer."""
    for who, stream in streams(run):
        line = line_of(run, stream)
        for _, change in changes_of(stream):
            entry = line.at(change.status.revision) if line else None
            if entry is None or entry.status != change.status:
                yield f"{who.name}: {key_of(change.status)} at {change.status.revision} is not in the log so"
    facts = {(fact.key, fact.number): fact for fact in run.facts}
    for line in run.journal.lines:
        newest: dict[Key, int] = {}
        for entry in line.entries:
            number = number_of(entry.status)
            fact = facts.get((entry.key, number))
            if number and (fact is None or fact.t > entry.t or fact.state != entry.state):
                yield f"{entry.key} at {entry.revision} was never so upstream"
            if 0 < number < newest.get(entry.key, 0):
                yield f"{entry.key} at {entry.revision} goes back to number {number} from {newest[entry.key]}"
            newest[entry.key] = number or newest.get(entry.key, 0)


def _lists(run: Evidence) -> Iterator[tuple[str, Mapping[Key, AssetStatus]]]:
    """Every list there is, of replicas with where it is from."""
    yield "", run.listed
    for name, listed in run.also_listed.items():
        yield f" of {name}", listed


def _mode(stream: Stream) -> int:
    return stream.messages[0][1].started.mode if stream.messages else pb.WatchStarted.MODE_UNSPECIFIED


def _tells(entry: Logged, fact: Fact) -> bool:
    """Whether an entry says what is true; of what is gone it may know how it went (DELETED) or not (MISSING)."""
    if not fact.number:
        return entry.state in GONE
    return entry.state == fact.state and number_of(entry.status) == fact.number


def _true(run: Evidence, fact: Fact) -> Iterator[str]:
    """Where the store, or a list, is not what is true upstream of an asset."""
    past = run.journal.last.past(fact.key)
    if not past and not fact.number:
        return  # a store begun anew never heard of it
    entry = past[-1] if past else None
    if entry is None or not _tells(entry, fact):
        yield f"{fact.key} is {_brief(entry.status if entry else None)}, upstream says number {fact.number}"
    for name, listed in _lists(run):
        if fact.number and (entry is None or _plain(listed.get(fact.key)) != _plain(entry.status)):
            yield f"List{name}: {fact.key} is {_brief(listed.get(fact.key))}"


def _held(run: Evidence, who: Recorder | Follower) -> Iterator[str]:
    """Where a client's map is not what the store holds."""
    expected = {key: entry.status for key, entry in _folded(run.journal.last, who).items()}
    for key in sorted(expected.keys() | who.map.keys()):
        lacked = key not in who.map and expected[key].state in GONE and run.journal.last.may_lack(key)
        if expected.get(key) != who.map.get(key) and not lacked:
            yield f"{key} is {_brief(who.map.get(key))}, the store has {_brief(expected.get(key))}"


def _events(run: Evidence, who: Follower) -> Iterator[tuple[tuple[int, Key], int]]:
    """Every change that events told: which asset of which store, and its revision.

    A Removed of what a snapshot left out has the status that was told before, and tells of no other.
    """
    held: dict[Key, AssetStatus] = {}
    for told in who.story:
        if not isinstance(told, Told) or not isinstance(told.event, Upsert | Removed):
            continue
        key, status = told.event.key, told.event.status
        if isinstance(told.event, Upsert) or status != held.get(key):
            yield (id(run.journal.by_epoch.get(told.epoch)), key), status.revision
        if isinstance(told.event, Upsert):
            held[key] = status
        else:
            held.pop(key, None)


def _told_twice(run: Evidence, who: Follower) -> Iterator[str]:
    seen: set[tuple[tuple[int, Key], int]] = set()
    for told in _events(run, who):
        if told in seen:
            yield f"{told[0][1]} at {told[1]} twice"
        seen.add(told)


def _folded(line: Line, who: Recorder | Follower) -> dict[Key, Logged]:
    latest = {entry.key: entry for entry in line.entries}
    return {key: entry for key, entry in latest.items() if holds(who.wanted, entry)}


def _mirrored(run: Evidence, signal: str) -> Iterator[str]:
    for who in run.recorders:
        mirror = Mirror(who.wanted)
        for stream in who.streams:
            if (line := line_of(run, stream)) is None:
                continue
            for _, message in stream.messages:
                mirror.take(message, line)
                if message.HasField(signal):  # type: ignore[arg-type]  # one of the signals
                    revision = read_token(message.resume_token)[1]
                    for key in mirror.differing(revision)[:3]:
                        held, expected = mirror.client.get(key), mirror.fold.get(key)
                        yield f"{who.name}: at {signal} {revision} {key} is {held}, not {expected}"


def _resumed(run: Evidence, who: Recorder, stream: Stream) -> Iterator[str]:
    after = read_token(stream.token)[1]
    told: dict[Key, int] = {}
    for _, message in stream.messages:
        for change in message.changes:
            told[key_of(change.status)] = change.status.revision
            if change.status.revision <= after:
                yield f"resumed after {after}, told {change.status.revision}"
        if message.HasField("synced") and (line := line_of(run, stream)) is not None:
            upto = read_token(message.resume_token)[1]
            changed = {e.key: e.revision for e in line.between(after, upto) if who.wanted.concerns(e.key)}
            for key in sorted(changed.keys() | told.keys()):
                if changed.get(key) != told.get(key) and not line.unheard(changed.get(key), told.get(key)):
                    yield f"resumed from {after} to {upto}: {key} at {changed.get(key)}, told {told.get(key)}"


def _refused(run: Evidence, stream: Stream) -> Iterator[str]:
    """A token this client was given was refused: only for removals that are dropped by then, or another store."""
    end = stream.end
    if end is None or not stream.token or end.local:
        return
    if end.code == "INVALID_ARGUMENT":
        yield f"its own token was refused: {end.reason}"
    if end.reason == "RESUME_TOKEN_EXPIRED":
        requested, oldest = int(end.metadata["requested"]), int(end.metadata["oldest"])
        ages = [
            t - entry.t  # a removal is kept for the retention from its commit on
            for line in run.journal.lines
            for t, dropped in line.drops
            for revision in dropped
            if revision == oldest and (entry := line.at(revision)) is not None
        ]
        if requested >= oldest or (ages and min(ages) < run.retention_s - CLOCKS_S):
            yield f"expired at {requested}, oldest {oldest}, dropped at an age of {ages} s"
    if end.reason == "RESUME_EPOCH_CHANGED":
        old = run.journal.by_epoch.get(read_token(stream.token)[0])
        new = run.journal.by_epoch.get(end.metadata["epoch"])
        if old is new and old is not None:
            yield "the epoch changed though the store went on"


def _plain(status: asset_status_pb2.AssetStatus | None) -> asset_status_pb2.AssetStatus | None:
    """Leave out what a read derives: freshness, and when it was last seen."""
    if status is None:
        return None
    plain = asset_status_pb2.AssetStatus()
    plain.CopyFrom(status)
    plain.ClearField("freshness")
    plain.ClearField("freshness_reason")
    plain.ClearField("observe_time")
    return plain


def _brief(status: asset_status_pb2.AssetStatus | None) -> str:
    if status is None:
        return "not there"
    return f"{asset_status_pb2.AssetState.Name(status.state)} number {number_of(status)} at {status.revision}"
