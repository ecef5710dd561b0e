"""Judges a run afterwards. Each invariant is one function under its id, with the words it holds the service to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from assetwatch.v1 import asset_status_pb2, source_pb2
from assetwatch.v1 import asset_status_service_pb2 as pb

from faults.rig.evidence import GONE, holds
from faults.rig.load import number_of
from faults.rig.mirror import Mirror, key_of
from faults.rig.recorder import read_token
from faults.rig.upstreams import SBC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from faults.rig.evidence import Evidence, Line, Logged, Window
    from faults.rig.load import Fact, Key
    from faults.rig.recorder import End, Recorder, Stream

CHANGES_PER_S_MIN = 100.0
TIMED = frozenset({"I4", "I16"})
"""What must be so within seconds; that it is not says nothing on a machine that is busy with something else."""
STARVED_MAX = 0.5
CATCH_UP_S = 5.0
RESTART_S = 2.0
TURN_S = 3.0
"""A source that is silent is told to be within this: three polls that time out after 1 s each, side by side."""
TURN_ALONE_S = 4.5
"""So where there is one asset to be read: three such polls and the pauses between them, one after another."""
MEND_S = 3.0
"""A source that is back is told to be within this: the pause before the next try, its time-out, two polls."""
CLOCKS_S = 0.05
"""How far the wall clock, by which removals age, may differ from the monotonic one within a run."""
BURST = 2
REQUESTS_A_CALL = {"oracle-sbc": 4, "media-intelligence": 2, "pieces": 2}
"""What one call may cost an upstream beyond one request: a token, a second try, a page of the list."""


class Violation(NamedTuple):
    """A promise that was broken."""

    invariant: str
    text: str


@dataclass
class Verdict:
    """PASS, VIOLATION, or VOID when the run proves nothing: why says so."""

    violations: list[Violation] = field(default_factory=list)
    void: list[str] = field(default_factory=list)

    def said(self) -> str:
        """Write the violations down."""
        return "\n".join(f"{violation.invariant}: {violation.text}" for violation in self.violations[:40])

    @property
    def word(self) -> str:
        """The verdict. A violation counts also when the load was low or the fault struck nothing."""
        if self.violations:
            return "VIOLATION"
        return "VOID" if self.void else "PASS"


def judge(run: Evidence) -> Verdict:
    """Ask every invariant."""
    verdict = Verdict()
    for name, asked in INVARIANTS.items():
        broken = [Violation(name, text) for text in asked(run)]
        if broken and name in TIMED and run.starved > STARVED_MAX:
            verdict.void.append(f"{name} does not hold, with no processor for {run.starved:.0%} of the time")
        else:
            verdict.violations += broken
    if run.changes_per_s < CHANGES_PER_S_MIN:
        verdict.void.append(f"{run.changes_per_s:.0f} changes/s before the fault")
    verdict.void += [f"{window.fault} struck nothing" for window in run.windows if not window.fired]
    return verdict


# Streams --------------------------------------------------------------------------------------------------------------


def i1(run: Evidence) -> Iterator[str]:
    """I1: per stream and asset, revisions strictly rise."""
    for who, stream in _streams(run):
        seen: dict[Key, int] = {}
        for _, change in _changes(stream):
            key, revision = key_of(change.status), change.status.revision
            if revision <= seen.get(key, 0):
                yield f"{who.name}: {key} at {revision} after {seen[key]}"
            seen[key] = revision


def i2(run: Evidence) -> Iterator[str]:
    """I2: per stream, revisions strictly rise over all messages."""
    for who, stream in _streams(run):
        last = 0
        for _, change in _changes(stream):
            if change.status.revision <= last:
                yield f"{who.name}: {change.status.revision} after {last}"
            last = change.status.revision


def i3(run: Evidence) -> Iterator[str]:
    """I3: per logical session, across resumes, (asset, revision) at most once."""
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


def i4(run: Evidence) -> Iterator[str]:
    """I4: after quiet, client map = List = the store's fold, field for field, and all are what is true upstream."""
    if not run.settled:
        yield "not every map had become what is true upstream in time"
    truth = {fact.key: fact for fact in run.facts}
    for who in run.recorders:
        expected = {key: entry.status for key, entry in _folded(run.journal.last, who).items()}
        for key in sorted(expected.keys() | who.map.keys()):
            lacked = key not in who.map and expected[key].state in GONE and run.journal.last.may_lack(key)
            if expected.get(key) != who.map.get(key) and not lacked:
                yield f"{who.name}: {key} is {_brief(who.map.get(key))}, the store has {_brief(expected.get(key))}"
    for key, fact in truth.items():
        entry = run.journal.last.latest(key, run.journal.last.head_at(float("inf")))
        if entry is None and not fact.number:
            continue  # a store begun anew never heard of it
        if entry is None or not _tells(entry, fact):
            yield f"{key} is {_brief(entry.status if entry else None)}, upstream says number {fact.number}"
        if fact.number and (entry is None or _plain(run.listed.get(key)) != _plain(entry.status)):
            yield f"List: {key} is {_brief(run.listed.get(key))}"
    for key in run.listed.keys() - {key for key, fact in truth.items() if fact.number}:
        yield f"List: {key} is listed, and is gone"


def i5(run: Evidence) -> Iterator[str]:
    """I5: bookmark b: no later event <= b; b >= last event; the client's map at b is the fold of the log up to b."""
    for who, stream in _streams(run):
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
            line = _line(run, stream)
            for _, change in _changes(stream):
                key = (id(line), key_of(change.status))
                if change.status.revision < seen.get(key, 0):
                    yield f"{who.name}: {key[1]} at {change.status.revision} after {seen[key]}"
                seen[key] = change.status.revision


def i7(run: Evidence) -> Iterator[str]:
    """I7: resume from r delivers all that changed in (r, now], nothing <= r; a token just issued is always accepted."""
    for who, stream in _streams(run):
        if _mode(stream) == pb.WatchStarted.MODE_RESUMED:
            yield from (f"{who.name}: {text}" for text in _resumed(run, who, stream))
    for who in run.recorders:
        for stream in who.streams:
            yield from (f"{who.name}: {text}" for text in _refused(run, stream))


def i8(run: Evidence) -> Iterator[str]:
    """I8: at SYNCED(s) the map is the fold of the log up to s, also when empty; no token before something was told."""
    for who, stream in _streams(run):
        for _, message in stream.messages:
            if message.resume_token and message.HasField("started"):
                yield f"{who.name}: started has a token"
            if message.HasField("synced") and not message.resume_token:
                yield f"{who.name}: synced has no token"
    yield from _mirrored(run, "synced")


def i9(run: Evidence) -> Iterator[str]:
    """I9: the filter is sound; leaving it gives REMOVED."""
    for who, stream in _streams(run):
        line = _line(run, stream)
        for _, change in _changes(stream):
            key = key_of(change.status)
            entry = line.at(change.status.revision) if line else None
            if not who.wanted.concerns(key):
                yield f"{who.name}: {key} was not asked for"
            elif entry is not None and (change.kind == pb.Change.KIND_UPSERT) != holds(who.wanted, entry):
                yield f"{who.name}: {key} at {entry.revision} is {pb.Change.Kind.Name(change.kind)}"


def i10(run: Evidence) -> Iterator[str]:
    """I10: no phantom: each payload is in the log, its observation in the truth, and no older one follows a newer."""
    for who, stream in _streams(run):
        line = _line(run, stream)
        for _, change in _changes(stream):
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


def i11(run: Evidence) -> Iterator[str]:
    """I11: a source that fails keeps every last state, zero REMOVED; its condition says so, and when it is well."""
    went: dict[Key, float] = {}
    for fact in run.facts:
        if not fact.number:
            went.setdefault(fact.key, fact.t)
    for line in run.journal.lines:
        for entry in line.entries:
            if entry.gone and went.get(entry.key, float("inf")) > entry.t:
                yield f"{entry.key} at {entry.revision} is gone, and never went"
    for window in run.windows:
        if window.silent and run.starved <= STARVED_MAX:
            for who in run.recorders:
                if window.source in who.wanted.sources:
                    yield from (f"{who.name}: {text}" for text in _condition(who, window))


# Limits ---------------------------------------------------------------------------------------------------------------


DOCUMENTED: dict[tuple[str, str], frozenset[str]] = {
    ("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED"): frozenset({"requested", "oldest", "current"}),
    ("OUT_OF_RANGE", "RESUME_EPOCH_CHANGED"): frozenset({"epoch"}),
    ("UNAVAILABLE", "REPLICA_BEHIND"): frozenset({"revision", "current"}),
    ("UNAVAILABLE", "SERVER_DRAINING"): frozenset(),
    ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"): frozenset({"limit"}),
    ("RESOURCE_EXHAUSTED", "TOO_MANY_ASSETS"): frozenset({"source", "limit"}),
    ("ABORTED", "SLOW_CONSUMER"): frozenset(),
}
RETRIED = frozenset({"REPLICA_BEHIND", "SERVER_DRAINING", "TOO_MANY_STREAMS", "TOO_MANY_ASSETS"})
TRANSPORT = frozenset({"UNAVAILABLE", "CANCELLED"})
"""What a stream ends with when its connection does."""


def i13(alone_s: float, beside_s: float) -> Iterator[str]:
    """I13: isolation: with stalled readers, the 99th percentile of healthy delivery is <= 2x what it was + 50 ms."""
    if beside_s > 2 * alone_s + 0.05:
        yield f"{beside_s * 1000:.0f} ms beside stalled readers, {alone_s * 1000:.0f} ms without"


def i14(before: Mapping[str, int], after: Mapping[str, int], *, spare: int = 5) -> Iterator[str]:
    """I14: bounded: memory within 10 % + 20 MiB of before; tasks, files and watchers back to what they were."""
    if after["rss_bytes"] > 1.1 * before["rss_bytes"] + 20 * 2**20:
        yield f"memory went from {before['rss_bytes']} to {after['rss_bytes']} bytes"
    for name in ("tasks", "fds", "watchers"):
        if after[name] > before[name] + spare:
            yield f"{name} went from {before[name]} to {after[name]}"


def i15(run: Evidence) -> Iterator[str]:
    """I15: each terminal status is documented: code, reason, domain, all metadata keys, at most one of each detail."""
    for who, stream in _streams(run):
        if stream.end is not None and not stream.end.local:
            yield from (f"{who.name}: {text}" for text in _status(stream.end))


def log(run: Evidence) -> Iterator[str]:
    """LOG: nothing happened on the server that nobody foresaw."""
    for word in ("Traceback (most recent call last)", "nobody foresaw"):
        if word in run.stderr:
            yield f"the server's log has: {word}: {run.stderr[run.stderr.index(word) :][:2000]}"


def i16(run: Evidence) -> Iterator[str]:
    """I16: after the last fault heals every recorder catches up in 5 s, in 2 s after a restart."""
    if not run.windows:
        return
    healed_at = max(window.ended_at for window in run.windows)
    restarted = all(window.restarts for window in run.windows)
    limit_s = RESTART_S if restarted else CATCH_UP_S
    line = run.journal.last
    head = line.head_at(healed_at)
    for who in run.recorders:
        at = _caught_up_at(run, who, line, head, healed_at)
        if at is None or at - healed_at > limit_s:
            after = "never" if at is None else f"{at - healed_at:.2f} s after"
            yield f"{who.name}: caught up {after} the fault healed"


def i17(run: Evidence) -> Iterator[str]:
    """I17: backend requests stay within the configured rate in any 1 s, restarts included; Retry-After is honoured."""
    for source, rate in run.rates.items():
        times = [t for t, _, _ in run.requests.get(source, ())]
        limit = (rate + BURST) * REQUESTS_A_CALL.get(source, 1)
        first = 0
        for last, t in enumerate(times):
            while times[first] < t - 1.0:
                first += 1
            if last - first + 1 > limit:
                yield f"{source}: {last - first + 1} requests within 1 s, {limit:.0f} are allowed"
                break


# I12 is of several replicas; I13 and I14 compare two moments, and are asked by the runs that measure them.
INVARIANTS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    asked.__name__.upper(): asked for asked in (i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11, i15, i16, i17, log)
}


# How they look ------------------------------------------------------------------------------------------------------


def _streams(run: Evidence) -> Iterator[tuple[Recorder, Stream]]:
    for who in (*run.recorders, *run.churners):
        for stream in who.streams:
            yield who, stream


def _changes(stream: Stream) -> Iterator[tuple[float, pb.Change]]:
    for t, message in stream.messages:
        for change in message.changes:
            yield t, change


def _mode(stream: Stream) -> int:
    return stream.messages[0][1].started.mode if stream.messages else pb.WatchStarted.MODE_UNSPECIFIED


def _tells(entry: Logged, fact: Fact) -> bool:
    """Whether an entry says what is true; of what is gone it may know how it went (DELETED) or not (MISSING)."""
    if not fact.number:
        return entry.state in GONE
    return entry.state == fact.state and number_of(entry.status) == fact.number


def _line(run: Evidence, stream: Stream) -> Line | None:
    return run.journal.by_epoch.get(stream.messages[0][1].started.epoch) if stream.messages else None


def _folded(line: Line, who: Recorder) -> dict[Key, Logged]:
    latest = {entry.key: entry for entry in line.entries}
    return {key: entry for key, entry in latest.items() if holds(who.wanted, entry)}


def _mirrored(run: Evidence, signal: str) -> Iterator[str]:
    for who in run.recorders:
        mirror = Mirror(who.wanted)
        for stream in who.streams:
            if (line := _line(run, stream)) is None:
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
        if message.HasField("synced") and (line := _line(run, stream)) is not None:
            upto = read_token(message.resume_token)[1]
            changed = {e.key: e.revision for e in line.between(after, upto) if who.wanted.concerns(e.key)}
            for key in sorted(changed.keys() | told.keys()):
                if changed.get(key) != told.get(key):
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
            t - _observed_at(entry)
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


def _observed_at(entry: Logged) -> float:
    """When the read began that found a removal: from then on it is kept for the retention; by the monotonic clock."""
    return entry.status.observe_time.ToNanoseconds() / 1e9 - (time.time() - time.monotonic())


def _condition(who: Recorder, window: Window) -> Iterator[str]:
    healthy = source_pb2.CONDITION_STATE_HEALTHY
    told = [
        (t, each.condition.state)
        for stream in who.streams
        for t, message in stream.messages
        for each in message.source_conditions
        if each.source == window.source
    ]
    turned = [t for t, state in told if state != healthy and window.began_at <= t <= window.ended_at + 1]
    mended = [t for t, state in told if state == healthy and turned and t > turned[-1]]
    turn_s = TURN_ALONE_S if window.source == SBC else TURN_S
    if window.ended_at - window.began_at >= turn_s and not (turned and turned[0] - window.began_at <= turn_s):
        yield f"{window.source} was silent, and was not told to be in {turn_s} s"
    if turned and not (mended and mended[0] - window.ended_at <= MEND_S):
        yield f"{window.source} was back, and was not told to be in {MEND_S} s"


def _status(end: End) -> Iterator[str]:
    if end.code == "OK" or (not end.reason and end.code in TRANSPORT):
        return
    keys = DOCUMENTED.get((end.code, end.reason))
    if keys is None:
        yield f"{end.code} {end.reason!r} {end.text[:200]} is not documented for a watch"
        return
    if end.metadata.get("domain") != "assetwatch" or not keys <= end.metadata.keys():
        yield f"{end.reason} has {end.metadata}"
    if len(end.details) != len(set(end.details)):
        yield f"{end.reason} has {end.details}"
    if (end.reason in RETRIED) != (end.retry_s is not None):
        yield f"{end.reason} with RetryInfo {end.retry_s}"


def _caught_up_at(run: Evidence, who: Recorder, line: Line, head: int, since: float) -> float | None:
    for stream in who.streams:
        if _line(run, stream) is not line:
            continue
        synced = False
        for t, message in stream.messages:
            synced = synced or message.HasField("synced")
            if t >= since and synced and message.resume_token and read_token(message.resume_token)[1] >= head:
                return t
    return None


def _plain(status: asset_status_pb2.AssetStatus | None) -> asset_status_pb2.AssetStatus | None:
    """Leave out what a read derives: freshness, and when it was last seen."""
    if status is None:
        return None
    plain = asset_status_pb2.AssetStatus()
    plain.CopyFrom(status)
    plain.ClearField("freshness")
    plain.ClearField("observe_time")
    return plain


def _brief(status: asset_status_pb2.AssetStatus | None) -> str:
    if status is None:
        return "not there"
    return f"{asset_status_pb2.State.Name(status.state)} number {number_of(status)} at {status.revision}"
