"""What is promised of failures, ends and costs, each invariant one function."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from assetwatch.v1 import source_pb2

from assetwatch_client import Synced
from faults.rig.evidence import line_of, streams
from faults.rig.recorder import End, read_token
from faults.rig.upstreams import SBC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from faults.rig.evidence import Evidence, Line, Window
    from faults.rig.follower import Follower
    from faults.rig.load import Key
    from faults.rig.recorder import Recorder

STARVED_MAX = 0.5
CATCH_UP_S = 5.0
RESTART_S = 2.0
TURN_S = 3.0
"""A source that is silent is told to be within this: three polls that time out after 1 s each, side by side."""
TURN_ALONE_S = 4.5
"""So where there is one asset to be read: three such polls and the pauses between them, one after another."""
MEND_S = 3.0
"""A source that is back is told to be within this: the pause before the next try, its time-out, two polls."""
CLOCK_S = 0.01
"""A loop may wake so much early."""
MINUTE_S = 60.0
HELD_S = 1.0
"""A request may be held on its way for as long as it is waited for, and arrive with later ones."""
BURST = 2
"""Calls that a start may make at once."""
REQUESTS_A_CALL = {"oracle-sbc": 4, "media-intelligence": 2, "pieces": 2}
"""What one call may cost an upstream beyond one request: a token, a second try, a page of the list."""

DOCUMENTED: dict[tuple[str, str], frozenset[str]] = {
    ("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED"): frozenset({"requested", "oldest", "current"}),
    ("OUT_OF_RANGE", "RESUME_EPOCH_CHANGED"): frozenset({"epoch"}),
    ("UNAVAILABLE", "REPLICA_BEHIND"): frozenset(),  # of a token it says which; of a replica that is cut off nothing
    ("UNAVAILABLE", "SERVER_DRAINING"): frozenset(),
    ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS"): frozenset({"limit"}),
    ("RESOURCE_EXHAUSTED", "TOO_MANY_ASSETS"): frozenset({"source", "limit"}),
    ("ABORTED", "SLOW_CONSUMER"): frozenset(),
}
RETRIED = frozenset({"REPLICA_BEHIND", "SERVER_DRAINING", "TOO_MANY_STREAMS", "TOO_MANY_ASSETS"})
SNAPSHOT = "OUT_OF_RANGE"
"""What says that a token is of no use any more: a client begins anew, and for nothing else."""
TRANSPORT = frozenset({"UNAVAILABLE", "CANCELLED"})
"""What a stream ends with when its connection does."""


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
                    yield from (f"{who.name}: {text}" for text in _condition(run, who, window))


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
    """I15: each terminal status is documented, with all its details; the library did what is documented for it."""
    for who, stream in streams(run):
        if stream.end is not None and not stream.end.local:
            yield from (f"{who.name}: {text}" for text in _status(stream.end))
    for follower in run.followers:
        if follower.failed:
            yield f"{follower.name} gave up: {follower.failed}"
        yield from (f"{follower.name}: {text}" for text in _followed(follower))


def late(run: Evidence) -> Iterator[str]:
    """LATE: every map is what is true upstream within seconds of quiet. That it is in the end, is I4's."""
    if not run.settled:
        yield "not every map had become what is true upstream in time"


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
    """I17: backend requests stay within the configured rate in any 1 s and any 60 s, restarts included.

    A run that is shorter than a minute is asked for the whole of it. That Retry-After is honoured is asked by a run of
    its own.
    """
    for source, rate in run.rates.items():
        times, begun = [t for t, _, _ in run.requests.get(source, ())], run.begun.get(source, ())
        lasted_s = times[-1] - times[0] if times else 0.0
        long_s = max(1.0, min(MINUTE_S, lasted_s))
        limits = {
            1.0: (rate + BURST * max(1, _most_within(begun, 1.0))) * REQUESTS_A_CALL.get(source, 1),
            long_s: rate * (long_s + HELD_S) + BURST * len(begun),
        }
        for span_s, limit in limits.items():
            most = _most_within(times, span_s)
            if most > limit:
                yield f"{source}: {most} requests within {span_s:.0f} s, {limit:.0f} are allowed"


def ended(run: Evidence) -> Iterator[str]:
    """ENDED: no process ended by itself, but where it had to."""
    for end in run.ended:
        if not any(window.ends and end.t >= window.began_at for window in run.windows):
            yield f"{end.replica} ended with {end.code}"


def log(run: Evidence) -> Iterator[str]:
    """LOG: nothing happened on the server that nobody foresaw."""
    for word in ("Traceback (most recent call last)", "nobody foresaw"):
        if word in run.stderr:
            yield f"the server's log has: {word}: {run.stderr[run.stderr.index(word) :][:5000]}"


def _most_within(times: Sequence[float], span_s: float) -> int:
    """How many of some moments, in order, lie within a span at the most."""
    return max((bisect_right(times, t + span_s) - first for first, t in enumerate(times)), default=0)


def _condition(run: Evidence, who: Recorder, window: Window) -> Iterator[str]:
    healthy = source_pb2.SOURCE_CONDITION_STATE_HEALTHY
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
    if turned and not (mended and mended[0] - _well_again_at(run, window) <= MEND_S):
        yield f"{window.source} was back, and was not told to be in {MEND_S} s"


def _well_again_at(run: Evidence, window: Window) -> float:
    """When nothing keeps a source from being read any more: the next fault may be on before it was read again."""
    at = window.ended_at
    for later in run.windows:
        if later.source in {"", window.source} and window.began_at < later.began_at <= at + MEND_S:
            at = max(at, later.ended_at)
    return at


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


def _followed(who: Follower) -> Iterator[str]:
    """What the library did about ends that is not documented: begun anew without need, or not begun anew, or early."""
    refused, not_before = True, 0.0
    for step in who.story:
        if isinstance(step, End):
            yield from _status(step)
            refused = refused or step.code == SNAPSHOT
            not_before = step.t + (step.retry_s or 0.0)
            continue
        if step.t < not_before - CLOCK_S:
            yield f"went on {not_before - step.t:.2f} s before it was asked to"
        if isinstance(step.event, Synced):
            if step.event.replaced != refused:
                yield f"in sync {'with' if step.event.replaced else 'without'} a snapshot, refused: {refused}"
            refused = False


def _caught_up_at(run: Evidence, who: Recorder, line: Line, head: int, since: float) -> float | None:
    for stream in who.streams:
        if line_of(run, stream) is not line:
            continue
        synced = False
        for t, message in stream.messages:
            synced = synced or message.HasField("synced")
            if t >= since and synced and message.resume_token and read_token(message.resume_token)[1] >= head:
                return t
    return None
