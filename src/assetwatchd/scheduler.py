"""One source's loops: who is interested in what, and when it is asked next. The only caller of its adapter.

Two tasks own everything here: `_calls` starts upstream calls, `_ingest` takes what they saw onto the road, in order.
A third follows the notices of a source that pushes (push.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd import push, schedule, telemetry
from assetwatchd.agenda import AT_ONCE, NEVER, Agenda, Target
from assetwatchd.conditions import FAILURES_TO_TURN, Health
from assetwatchd.errors import BadAnswer, SourceUnreachable, TooManyAssets, UpstreamError
from assetwatchd.model import SETTLED, AssetKey, Condition, ConditionState, Freshness, Observation, State
from assetwatchd.pipeline import Sighting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from assetwatchd.config import SourceSettings
    from assetwatchd.model import Entry, SourceKind
    from assetwatchd.pipeline import Pipeline
    from assetwatchd.store import Store
    from assetwatchd.upstream import Upstream

DOUBT_S = 1.0
"""A read that misses an asset which was there is repeated after this; only then is it believed."""
ABSENCES_TO_BELIEVE = 2
"""Complete lists in a row that must lack an asset before it is taken as gone."""
LOOK_AHEAD = 0.1
"""A batch with room takes what falls due within this share of the busy interval."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Figures:
    """What asking the source has cost; named as in the schema's PollFigures."""

    calls: int = 0
    failed_calls: int = 0
    asset_reads: int = 0
    changes: int = 0
    notices: int = 0


class _Seen(NamedTuple):
    """Something for the road: what was seen of a target, or (None) that its own reads keep failing."""

    target: Target
    sighting: Sighting | None


class _Job(NamedTuple):
    """One upstream call that is to be made, and for which targets."""

    make: Callable[[Sequence[Target]], Awaitable[None]]
    targets: Sequence[Target] = ()


class Scheduler:
    """Polls one source for those who are interested, follows its pushes, and tells how it is doing."""

    def __init__(
        self,
        name: str,
        kind: SourceKind,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        store: Store,
        pipeline: Pipeline,
        tell: Callable[[str, Condition], None],
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.upstream = upstream
        self.settings = settings
        self.figures = Figures()
        self._store = store
        self._pipeline = pipeline
        self._tell = tell
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._health = Health(Condition(ConditionState.UNKNOWN, "not asked yet", now()))
        self._agenda = Agenda()
        self._targets: dict[str, Target] = {}
        self._awaited: set[Target] = set()
        self._whole = 0
        self._whole_until = AT_ONCE
        self._running = 0
        self._not_before = AT_ONCE
        self._next_call_at = AT_ONCE
        self._probe_at = AT_ONCE
        self._list_at = AT_ONCE
        self._wake = asyncio.Event()
        self._inbox: list[_Seen] = []
        self._arrived = asyncio.Event()
        self._listed = asyncio.Event()
        self.pushing = False
        self._restore()

    # What others ask of it -------------------------------------------------------------------------------------------

    @property
    def condition(self) -> Condition:
        """How the source is doing."""
        return self._health.condition

    @property
    def polled_assets(self) -> int:
        """How many assets somebody is interested in now."""
        return sum(self._wanted(target) for target in self._targets.values())

    @property
    def interested(self) -> bool:
        """Whether anybody is interested in anything here."""
        return self._whole_wanted() or any(self._wanted(target) for target in self._targets.values())

    def wanted(self, asset_id: str) -> bool:
        """Whether anybody is interested in an asset now."""
        target = self._targets.get(asset_id)
        return target is not None and self._wanted(target)

    def observed_at(self, asset_id: str) -> float | None:
        """When the asset was last read (s since 1970); None if never."""
        target = self._targets.get(asset_id)
        return None if target is None else target.observed_at

    def freshness(self, entry: Entry) -> Freshness:
        """How far an entry of this source can be trusted now."""
        if not self.condition.readable:
            return Freshness.UNREACHABLE
        if entry.freshness is Freshness.STALE:
            return Freshness.STALE
        observed_at = self.observed_at(entry.key.asset_id) or entry.committed_at
        age_max_s = 2 * max(self.settings.settled_interval_s, self.settings.busy_interval_s)
        fresh = self.pushing or self._now() - observed_at <= age_max_s
        return Freshness.FRESH if fresh else Freshness.STALE

    @contextmanager
    def interest(self, asset_ids: Iterable[str], *, whole: bool = False) -> Iterator[None]:
        """Keep assets by name, or the whole source, up to date while open.

        Raises: TooManyAssets, having taken nothing.
        """
        targets = self._claim(asset_ids)
        for target in targets:
            target.named += 1
            self._soon(target)
        self._whole += whole
        if whole:
            self._wake_whole()
        try:
            yield
        finally:
            self._whole -= whole
            self._whole_until = max(self._whole_until, self._lingering()) if whole else self._whole_until
            for target in targets:
                target.named -= 1

    async def read(self, asset_ids: Iterable[str], *, max_age_s: float | None) -> None:
        """Return once each asset was read at most max_age_s ago (None: ever); reads under way are shared.

        Raises: TooManyAssets; SourceUnreachable when a read was needed and failed.
        """
        targets = self._claim(asset_ids)
        for target in targets:
            target.linger_until = self._lingering()
        needed = [target for target in targets if not self._fresh_enough(target, max_age_s)]
        if needed and self._health.failing and self._loop_time() < self._not_before:
            raise self._unreachable(self.condition.message)
        try:
            await asyncio.gather(*[self._demand(target) for target in needed])
        finally:
            for target in targets:
                self._soon(target)

    async def listed(self, timeout_s: float) -> None:
        """Have the whole source in view for a while; return once it was listed and read, or after timeout_s."""
        self._whole_until = self._lingering()
        self._wake_whole()
        if not self.upstream.capabilities.enumerates or self.condition.state is ConditionState.REFUSED:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._listed.wait()
                unread = [t.asset_id for t in self._targets.values() if t.listed and t.observed_at is None]
                await self.read(unread, max_age_s=None)
        except (TimeoutError, SourceUnreachable):
            return

    def tidy(self, *, forget_after_s: float) -> None:
        """Forget assets nobody has wanted for that long, and targets whose asset is gone."""
        before = self._now() - forget_after_s
        for target in list(self._targets.values()):
            entry = self._store.get(self._key(target))
            if self._wanted(target) or target.reading or target.listed:
                continue
            if entry is None or entry.gone:
                del self._targets[target.asset_id]
            elif max(target.observed_at or 0.0, entry.committed_at) < before:
                last = Observation(target.asset_id, entry.state)
                self._see(target, Sighting(last, self._now(), forgotten=True))

    async def run(self) -> None:
        """Run the source's loops until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ingest(), name=f"{self.name}.ingest")
            if self.upstream.capabilities.pushes:
                tasks.create_task(push.follow(self, rng=self._rng), name=f"{self.name}.push")
            await self._calls()

    # What the push bridge tells it -----------------------------------------------------------------------------------

    def push_listed(self, asset_ids: frozenset[str]) -> None:
        """The push connection began with this complete list: read all anew, anything may have happened meanwhile."""
        self.pushing = True
        self._note(self._health.push_lost("", self._now()))
        self._note(self._health.succeeded(self._now()))
        self._take_list(asset_ids, believe_absence=False)
        self.push_touched(t.asset_id for t in list(self._targets.values()) if t.listed)

    def push_touched(self, asset_ids: Iterable[str]) -> None:
        """These assets changed upstream: read them at once, and once more if they are being read."""
        for asset_id in asset_ids:
            target = self._targets.get(asset_id) or (self._add(asset_id) if self._room() else None)
            if target is None:
                continue
            target.listed = True
            if target.reading:
                target.again = True
            elif self._wanted(target):
                self._agenda.put(target, AT_ONCE)
        self._wake.set()

    def push_removed(self, observation: Observation, traceparent: str) -> None:
        """The upstream says that an asset was deleted. Any read under way is older and no longer counts."""
        target = self._targets.get(observation.asset_id) or self._add(observation.asset_id)
        target.turn += 1
        target.listed = False
        self._see(target, Sighting(observation, self._now(), traceparent))

    def push_ended(self, error: UpstreamError | None) -> None:
        """The push connection broke, or was given up (None): poll as with any other source until it is back."""
        if self.pushing:
            self.pushing = False
            for target in self._targets.values():
                self._replan(target)
        if error is not None:
            self._note(self._health.push_lost(str(error), self._now()))

    # The loops -------------------------------------------------------------------------------------------------------

    async def _calls(self) -> None:
        """Start calls: due, at most concurrency (one while failing) at a time, at most rate_per_s a second."""
        async with asyncio.TaskGroup() as calls:
            while True:
                self._wake.clear()
                at = self._next_start()
                if at > self._loop_time():
                    await self._woken(at)
                    continue
                if (job := self._next_job()) is not None:
                    self._next_call_at = max(self._next_call_at, self._loop_time()) + 1 / self.settings.rate_per_s
                    self._probe_at = self._loop_time() + self.settings.probe_interval_s
                    self._running += 1
                    calls.create_task(self._call(job))

    def _next_start(self) -> float:
        """When the next call may start; NEVER until somebody wakes us."""
        failing = self._health.failing
        if self._running >= (1 if failing else self.settings.concurrency):
            return NEVER
        due = self._not_before if failing else min(self._agenda.next_due(), self._probe_at, self._next_list())
        return max(due, self._not_before, self._next_call_at)

    async def _woken(self, at: float) -> None:
        try:
            async with asyncio.timeout_at(None if at == NEVER else at):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _next_job(self) -> _Job | None:
        """Choose what is most due: a list, a read, or a sign of life; None when nobody wants it any more."""
        now, failing = self._loop_time(), self._health.failing
        if not failing and self._next_list() <= now:
            self._list_at = now + self.settings.enumerate_interval_s
            return _Job(self._list)
        if targets := self._take():
            return _Job(self._read, targets)
        return _Job(self._probe) if failing or self._probe_at <= now else None

    async def _call(self, job: _Job) -> None:
        self.figures.calls += 1
        self.figures.asset_reads += len(job.targets)
        try:
            await job.make(job.targets)
        except UpstreamError as error:
            self._failed(job.targets, error)
        except Exception:  # an adapter's defect must not stop the other sources
            log.exception("source %s: the adapter failed", self.name)
            self._failed(job.targets, BadAnswer("the adapter failed; see the log"))
        finally:
            self._running -= 1
            self._wake.set()

    def _take(self) -> list[Target]:
        """Take the targets that are due, as many as one call can ask for."""
        look_ahead_s = LOOK_AHEAD * self.settings.busy_interval_s
        batch_max = self.upstream.capabilities.batch_max
        while taken := self._agenda.take(self._loop_time() + look_ahead_s * (batch_max > 1), batch_max):
            targets = [target for target in taken if self._wanted(target)]
            for target in targets:
                target.reading, target.again = True, False
            if targets:
                return targets
        return []

    async def _read(self, targets: Sequence[Target]) -> None:
        began, turns = self._now(), [target.turn for target in targets]
        with telemetry.poll(self.name, len(targets)):
            observations = await self.upstream.observe([target.asset_id for target in targets])
            traceparent = telemetry.traceparent()
        self._note(self._health.succeeded(self._now()))
        by_id = {observation.asset_id: observation for observation in observations}
        for target, turn in zip(targets, turns, strict=True):
            observation = by_id.get(target.asset_id)
            if observation is None:
                self._asset_failed(target, BadAnswer("the answer leaves the asset out"))
            elif target.turn != turn:
                self._settle(target)
            elif self._doubtful(target, observation):
                self._retry(target, DOUBT_S)
            else:
                self._see(target, Sighting(observation, began, traceparent))

    async def _list(self, _: Sequence[Target]) -> None:
        with telemetry.poll(self.name, 0):
            asset_ids = await self.upstream.enumerate()
        self._note(self._health.succeeded(self._now()))
        self._take_list(asset_ids, believe_absence=True)

    async def _probe(self, _: Sequence[Target]) -> None:
        await self.upstream.probe()
        self._note(self._health.succeeded(self._now()))

    async def _ingest(self) -> None:
        """Take sightings onto the road, all that wait at once, in the order in which they were seen."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            inbox, self._inbox = self._inbox, []
            heads = {seen.target: self._revision(seen.target) for seen in inbox}
            self.figures.changes += await self._pipeline.ingest(self.name, [s.sighting for s in inbox if s.sighting])
            for seen in inbox:
                if seen.sighting is None:
                    await self._pipeline.mark_stale(self._key(seen.target), at=self._now())
            for target, revision in heads.items():
                target.calm = target.calm + 1 if self._revision(target) == revision else 0
                self._settle(target)

    # How a read ends -------------------------------------------------------------------------------------------------

    def _see(self, target: Target, sighting: Sighting) -> None:
        target.doubted = False
        target.failures = 0
        target.observed_at = sighting.observed_at
        self._inbox.append(_Seen(target, sighting))
        self._arrived.set()

    def _doubtful(self, target: Target, observation: Observation) -> bool:
        """Whether a read that misses an asset we know must be confirmed first."""
        known = self._store.get(self._key(target))
        if observation.state is not State.MISSING or known is None or known.gone or target.doubted:
            return False
        target.doubted = True
        return True

    def _settle(self, target: Target) -> None:
        """The store is as new as the last read: tell those who wait, and agree on the next one."""
        target.reading = False
        self._answer(target, None)
        if target.again:
            target.again = False
            self._agenda.put(target, AT_ONCE)
        elif target.due == NEVER and self._wanted(target):
            self._agenda.put(target, self._next_read(target))
        self._wake.set()

    def _retry(self, target: Target, delay_s: float) -> None:
        target.reading = False
        self._agenda.put(target, self._loop_time() + delay_s)
        self._wake.set()

    def _failed(self, targets: Sequence[Target], error: UpstreamError) -> None:
        self.figures.failed_calls += 1
        self._note(self._health.failed(error, self._now()))
        if self._health.failing:
            pause_s = schedule.backoff_s(self._health.failures, self.settings, self._rng)
            self._not_before = self._loop_time() + pause_s
        if error.retry_after_s is not None:
            self._not_before = max(self._not_before, self._loop_time() + error.retry_after_s)
        for target in targets:
            self._asset_failed(target, error)
        if self._health.failing:
            for target in list(self._awaited):
                self._answer(target, self._unreachable(str(error)))

    def _asset_failed(self, target: Target, error: UpstreamError) -> None:
        target.failures += 1
        self._answer(target, self._unreachable(str(error)))
        pause_s = schedule.backoff_s(target.failures, self.settings, self._rng)
        self._retry(target, max(pause_s, self.settings.busy_interval_s))
        if target.failures >= FAILURES_TO_TURN and not self._health.failing:
            self._inbox.append(_Seen(target, None))
            self._arrived.set()

    def _answer(self, target: Target, error: SourceUnreachable | None) -> None:
        waiting, target.waiting = target.waiting, None
        self._awaited.discard(target)
        for future in waiting or ():
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _unreachable(self, why: str) -> SourceUnreachable:
        wait_s = max(self._not_before - self._loop_time(), self.settings.busy_interval_s)
        return SourceUnreachable(self.name, why, retry_after_s=wait_s)

    def _note(self, turned: bool) -> None:  # noqa: FBT001 - the answer of Health, passed on
        if turned:
            level = logging.INFO if self.condition.state is ConditionState.HEALTHY else logging.WARNING
            log.log(level, "source %s is %s %s", self.name, self.condition.state.name.lower(), self.condition.message)
            self._tell(self.name, self.condition)

    # Who is interested -----------------------------------------------------------------------------------------------

    def _wanted(self, target: Target) -> bool:
        now = self._loop_time()
        return target.pinned or target.named > 0 or target.linger_until > now or self._whole_wanted()

    def _whole_wanted(self) -> bool:
        return self._whole > 0 or self._whole_until > self._loop_time()

    def _lingering(self) -> float:
        return self._loop_time() + self.settings.linger_s

    def _claim(self, asset_ids: Iterable[str]) -> list[Target]:
        """Return the targets, new ones added if there is room for all of them."""
        names = list(dict.fromkeys(asset_ids))
        unknown = [name for name in names if name not in self._targets]
        if len(self._targets) + len(unknown) > self.settings.assets_max:
            raise TooManyAssets(self.name, self.settings.assets_max)
        for name in unknown:
            self._add(name)
        return [self._targets[name] for name in names]

    def _add(self, asset_id: str) -> Target:
        target = self._targets[asset_id] = Target(asset_id)
        return target

    def _room(self) -> bool:
        return len(self._targets) < self.settings.assets_max

    def _wake_whole(self) -> None:
        self._list_at = min(self._list_at, self._loop_time())
        for target in self._targets.values():
            self._soon(target)
        self._wake.set()

    def _soon(self, target: Target) -> None:
        """Agree on the next read of a target that has none, at once if it was never read."""
        if target.due == NEVER and not target.reading and self._wanted(target):
            never = target.observed_at is None
            spread_s = schedule.phase(target.asset_id) * schedule.interval_s(self._state(target), 1, self.settings)
            self._agenda.put(target, AT_ONCE if never else self._loop_time() + spread_s)
            self._wake.set()

    def _replan(self, target: Target) -> None:
        """Agree anew on the next read of a target."""
        target.due = NEVER
        self._soon(target)

    def _fresh_enough(self, target: Target, max_age_s: float | None) -> bool:
        if target.observed_at is None:
            return False
        return max_age_s is None or (max_age_s > 0 and self._now() - target.observed_at <= max_age_s)

    def _demand(self, target: Target) -> asyncio.Future[None]:
        """Return a future for the read of a target that is under way, or for one that is asked for now."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if target.waiting is None:
            target.waiting = []
            self._awaited.add(target)
            if not target.reading:
                self._agenda.put(target, AT_ONCE)
                self._wake.set()
        target.waiting.append(future)
        return future

    def _take_list(self, asset_ids: frozenset[str], *, believe_absence: bool) -> None:
        """Compare a complete list with what was listed before."""
        for asset_id in asset_ids:
            target = self._targets.get(asset_id) or (self._add(asset_id) if self._room() else None)
            if target is not None:
                target.listed, target.absences = True, 0
                self._soon(target)
        for target in [t for t in self._targets.values() if t.listed and t.asset_id not in asset_ids]:
            target.absences += 1
            if believe_absence and target.absences >= ABSENCES_TO_BELIEVE:
                target.listed = False
                self._see(target, Sighting(Observation(target.asset_id, State.MISSING), self._now()))
        if len(asset_ids) > len(self._targets):
            log.warning("source %s lists more than assets_max = %d assets", self.name, self.settings.assets_max)
        self._listed.set()

    def _next_list(self) -> float:
        can = self.upstream.capabilities
        return self._list_at if can.enumerates and not can.pushes and self._whole_wanted() else NEVER

    def _next_read(self, target: Target) -> float:
        now = self._loop_time()
        if self.pushing:
            return now + self.settings.reconcile_interval_s * (1 + schedule.phase(target.asset_id)) / 2
        wait_s = schedule.interval_s(self._state(target), target.calm, self.settings)
        if self.upstream.capabilities.batch_max > 1:
            return schedule.aligned(now + wait_s, self.settings.busy_interval_s)
        return now + wait_s

    # Small things ----------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Know again what the store knows, and the pins."""
        for key in self._store.keys(self.name):
            entry = self._store.get(key)
            target = self._add(key.asset_id)
            target.observed_at = entry.committed_at if entry else None
            target.calm = int(entry is not None and entry.state in SETTLED)
        for asset_id in self.settings.pins:
            (self._targets.get(asset_id) or self._add(asset_id)).pinned = True

    def _key(self, target: Target) -> AssetKey:
        return AssetKey(self.name, target.asset_id)

    def _state(self, target: Target) -> State | None:
        entry = self._store.get(self._key(target))
        return None if entry is None else entry.state

    def _revision(self, target: Target) -> int:
        entry = self._store.get(self._key(target))
        return 0 if entry is None else entry.revision

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()
