"""Starts the upstream calls of one source, the only caller of its adapter: what next, when, how many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd import lists, schedule, telemetry
from assetwatchd.agenda import AT_ONCE, NEVER
from assetwatchd.answers import Unchanged
from assetwatchd.conditions import FAILURES_TO_TURN, Health
from assetwatchd.errors import AssetRejected, BadAnswer, SourceUnreachable, Unreachable, UpstreamError
from assetwatchd.model import GONE, REJECTED, Condition, ConditionState, Failure, FailureKind, Observation, State
from assetwatchd.pipeline import Sighting
from assetwatchd.plan import loop_time
from assetwatchd.reading import ANSWER_S_MAX
from assetwatchd.timelimit import TIMER_S, TimeLimit
from assetwatchd.transport import slack_s

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from assetwatchd.agenda import Target
    from assetwatchd.answers import Answer
    from assetwatchd.config import SourceSettings
    from assetwatchd.outcome import Figures, Outcomes
    from assetwatchd.plan import Plan
    from assetwatchd.upstream import Upstream

TIMEOUTS_A_CALL = 4
"""A call of ours may cost its adapter several to the upstream (a token, the answer, both once more), each timed.
Reading the answer has ANSWER_S_MAX beside: an upstream that has answered is not one that has not."""
LIST_S_MAX = 300.0
"""A list may have many pages, each timed; this is for all of them."""

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One call that is to be made, how long it may take, and for which targets it is.

    trial: it was chosen while the source was failing, to see whether it is back.
    """

    make: Callable[[Sequence[Target]], Awaitable[None]]
    limit: TimeLimit
    trial: bool
    targets: Sequence[Target] = ()


class Calls:
    """One task, `run`, starts the calls. Each is made by a task that goes on with the next while there is one to make.

    listed: set once there is a list that is recent enough for those who wait for one. left_out: not all was taken.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        plan: Plan,
        outcomes: Outcomes,
        figures: Figures,
        tell: Callable[[str, Condition], None],
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.health = Health(Condition(ConditionState.UNKNOWN, "not asked yet", now()))
        self.listed = asyncio.Event()
        self._name = name
        self._upstream = upstream
        self._settings = settings
        self._plan = plan
        self._outcomes = outcomes
        self._figures = figures
        self._tell = tell
        self._now = now
        self._rng = rng
        self._comparing = asyncio.Lock()
        self._call_limit = TimeLimit(TIMEOUTS_A_CALL * settings.timeout_s + ANSWER_S_MAX)
        self._list_limit = TimeLimit(LIST_S_MAX)
        self._running = 0
        self._tries = 0
        self._not_before = AT_ONCE
        self._why_not = ""
        self._next_call_at = AT_ONCE
        self._slack_s = slack_s(settings.rate_per_s)
        self._probe_at = AT_ONCE
        self._list_at = AT_ONCE
        self._failed_lists = 0
        self._doubtful: dict[Target, int] = {}
        self.left_out = False

    async def run(self) -> None:
        """Start calls: due, at most concurrency (one while failing) at a time, at most rate_per_s a second."""
        async with asyncio.TaskGroup() as workers:
            while True:
                self._plan.changed.clear()
                if (job := self._take()) is not None:
                    workers.create_task(self._work(job), name=f"{self._name}.call")
                else:
                    await self._changed(self._next_start())

    async def _work(self, job: Job) -> None:
        """Make a call, and go on while another may start at once. `run` is told when there is room for one more."""
        try:
            await self._call(job)
            while (following := self._take()) is not None:
                if self._has_room():
                    self._plan.changed.set()
                await asyncio.sleep(0)  # an adapter that answers without waiting holds nobody up
                await self._call(following)
        finally:
            self._plan.changed.set()

    # What the scheduler asks of it -----------------------------------------------------------------------------------

    def refusal(self) -> SourceUnreachable | None:
        """Return why the source cannot be asked now and when it can be; None when it can."""
        if self.health.storing:
            return self._unreachable(self.health.storing)
        return self._unreachable(self._why_not) if loop_time() < self._not_before else None

    def store_failing(self, why: str) -> None:
        """Our store cannot keep what is read (why), so nobody need wait for a read; or it can again (empty)."""
        self.note(self.health.store_lost(why, self._now()))
        if why:
            self._outcomes.all_failed(self._unreachable(self.health.storing))

    def note(self, turned: bool) -> None:  # noqa: FBT001 - the answer of Health, passed on
        """Tell everybody when the condition has turned."""
        if turned:
            condition = self.health.condition
            level = logging.INFO if condition.state is ConditionState.HEALTHY else logging.WARNING
            why = f": {condition.message}" if condition.message else ""
            log.log(level, "source %s is %s%s", self._name, condition.state.name.lower(), why)
            self._tell(self._name, condition)

    @property
    def has_list(self) -> bool:
        """Whether, since the source could last not be read or listed, there was a list, and all of it was taken in."""
        return self.listed.is_set() and not self.left_out

    def lose_list(self) -> None:
        """What the last list lacks may be there by now, unless that is pushed; the next is made as soon as can be."""
        if not self._plan.pushing:
            self.listed.clear()
            self._list_at = loop_time() if self._list_at != NEVER else NEVER  # it is being made

    async def take_list(self, asset_ids: frozenset[str], *, pushed: bool) -> None:
        """Compare a complete list with what was listed before, one list after the other.

        While changes are pushed, the list that the connection began with is the newest, and of what it lacks they tell.
        """
        async with self._comparing:
            if self._plan.pushing and not pushed:
                return
            asset_ids, unfit = await lists.fitting(asset_ids, self._upstream.check)
            left_out = await lists.compare(self._plan, asset_ids, _nothing if pushed else self._gone)
        if unfit:
            log.warning("source %s lists %d ids that cannot be one, e.g. %a", self._name, len(unfit), unfit[0][:100])
        if left_out:
            limit = self._settings.assets_max
            log.warning("source %s lists %d assets beyond assets_max = %d", self._name, left_out, limit)
        self._list_at = loop_time() + self._settings.enumerate_interval_s
        self._failed_lists, self.left_out = 0, bool(unfit or left_out)
        self.listed.set()

    def _gone(self, target: Target) -> None:
        target.listed = False
        self._plan.note(target)
        self._outcomes.told(target, Sighting(Observation(target.asset_id, State.MISSING), self._now()))

    def want_list(self) -> None:
        """Have a list made, unless the last one is recent, or is kept up to date by what is pushed."""
        if self._list_at <= loop_time() and not self._plan.pushing:
            self.listed.clear()
        self._plan.changed.set()

    def want_sign_of_life(self) -> None:
        """Have the source probed at once."""
        self._probe_at = loop_time()
        self._plan.changed.set()

    def try_again(self) -> None:
        """There is a reason to think that the source is back: end the pause, and see."""
        if self.health.failing:
            self._not_before = AT_ONCE
            self.want_sign_of_life()

    # What next, and when ---------------------------------------------------------------------------------------------

    def _take(self) -> Job | None:
        """Choose the call that starts now, and count it; None when none may."""
        while self._next_start() <= (now := loop_time()):
            if (job := self._next_job(now)) is not None:
                self._pace(now)
                self._probe_at = now + self._settings.probe_interval_s
                self._running += 1
                return job
        return None

    def _has_room(self) -> bool:
        return self._running < (1 if self.health.failing else self._settings.concurrency)

    def _next_start(self) -> float:
        """When the next call may start; NEVER until something changes."""
        if not self._has_room():
            return NEVER
        due = AT_ONCE if self.health.failing else min(self._plan.next_due(), self._probe_at, self._next_list())
        return max(AT_ONCE if self.health.suspect else due, self._not_before, self._next_call_at - self._slack_s)

    def _next_list(self) -> float:
        can = self._upstream.capabilities
        polled = can.enumerates and (not can.pushes or bool(self.health.polling))
        return self._list_at if polled and self._plan.whole_wanted else NEVER

    async def _changed(self, until: float) -> None:
        """Wait until then, or until something changes; as long as a timer can wait, at least."""
        if until == NEVER:
            await self._plan.changed.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(max(until, loop_time() + TIMER_S)):
                await self._plan.changed.wait()

    def _next_job(self, now: float) -> Job | None:
        """Choose: a list, what is most due, or a sign of life; None when nobody wants what was due.

        While failing, the read that is next is tried, even if early: a sign of life alone does not mend reads.
        """
        failing = self.health.failing
        if self.health.suspect:
            self.health.suspect = False
            return Job(self._probe, self._call_limit, failing)
        if not failing and self._next_list() <= now:
            self._list_at = NEVER
            return Job(self._list, self._list_limit, failing)
        if targets := self._plan.take(even_if_early=failing):
            return Job(self._read, self._call_limit, failing, targets)
        return Job(self._probe, self._call_limit, failing) if failing or self._probe_at <= now else None

    # Calls -----------------------------------------------------------------------------------------------------------

    async def _call(self, job: Job) -> None:
        self._figures.calls += 1
        self._figures.asset_reads += len(job.targets)
        try:
            with job.limit.block():
                await job.make(job.targets)
        except UpstreamError as error:
            self._failed(job.targets, error, is_trial=job.trial)
        except TimeoutError:
            self._failed(job.targets, Unreachable(f"no answer within {job.limit.seconds:g} s"), is_trial=job.trial)
        except (Exception, asyncio.CancelledError):  # an adapter's defect must not stop the other sources
            if _being_cancelled():
                raise
            log.exception("source %s: the adapter failed", self._name)
            self._failed(job.targets, BadAnswer("the adapter failed; see the log"), is_trial=job.trial)
        finally:
            self._running -= 1

    async def _read(self, targets: Sequence[Target]) -> None:
        began, turns = self._now(), [target.turn for target in targets]
        with telemetry.poll(self._name, len(targets)):
            answers = await self._observe(targets)
            traceparent = telemetry.traceparent()
        by_id = {answer.asset_id: answer for answer in answers}
        self._succeeded()
        for target, turn in zip(targets, turns, strict=True):
            if (answer := by_id.get(target.asset_id)) is None:
                self._asset_failed(target, BadAnswer("the answer leaves the asset out"))
            elif isinstance(answer, Unchanged):
                self._outcomes.unchanged(target, began, turn=turn)
            else:
                self._outcomes.read(target, Sighting(answer, began, traceparent), turn=turn)

    async def _observe(self, targets: Sequence[Target]) -> Sequence[Answer]:
        """Ask. That the upstream will not speak about an asset is an answer, if nothing better was ever known of it."""
        try:
            known = {target.asset_id: target.answer for target in targets if target.answer}
            return await self._upstream.observe([target.asset_id for target in targets], known)
        except AssetRejected as error:
            entry = self._plan.entry(targets[0])
            if len(targets) > 1 or (entry is not None and entry.state is not State.UNKNOWN):
                raise
            failure = Failure(FailureKind.PERMANENT, REJECTED, str(error))
            return [Observation(targets[0].asset_id, State.UNKNOWN, failure=failure)]

    async def _list(self, _: Sequence[Target]) -> None:
        self._failed_lists += 1
        try:
            with telemetry.poll(self._name, 0):
                asset_ids = await self._upstream.enumerate()
                if (target := await lists.proof(self._plan, asset_ids)) is not None:
                    await self._confirm_gone(target)
            self._failed_lists = 0
        finally:
            self._list_at = loop_time() + self._settings.enumerate_interval_s
            if self._failed_lists >= FAILURES_TO_TURN:
                self.listed.clear()
        self._succeeded()
        await self.take_list(asset_ids, pushed=False)

    async def _confirm_gone(self, target: Target) -> None:
        """Read one asset of those that a list lacks altogether. Raises: BadAnswer when it is there."""
        self._pace(loop_time())
        self._figures.asset_reads += 1
        with contextlib.suppress(AssetRejected):
            answers = await self._upstream.observe([target.asset_id])
            if not answers or isinstance(answers[0], Unchanged) or answers[0].state not in GONE:
                raise BadAnswer("a list has nothing of all that was there, and yet it can be read")

    async def _probe(self, _: Sequence[Target]) -> None:
        await self._upstream.probe()
        self._succeeded()

    # How calls end ---------------------------------------------------------------------------------------------------

    def _succeeded(self) -> None:
        self._tries = 0
        self._doubtful.clear()  # it was they, not the source
        self.note(self.health.succeeded(self._now()))

    def _failed(self, targets: Sequence[Target], error: UpstreamError, *, is_trial: bool) -> None:
        self._figures.failed_calls += 1
        was_failing = self.health.failing
        self._blame_again(targets)
        self.note(self.health.failed(error, self._now(), asked=[target.asset_id for target in targets]))
        failing = self.health.failing
        if not failing:
            self._tries = 0
        elif is_trial or not was_failing:
            self._tries += 1
            self._pause(schedule.backoff_s(self._tries, self._settings, self._rng), str(error))
        if error.retry_after_s is not None and not isinstance(error, AssetRejected):
            self._pause(error.retry_after_s, str(error))
        if is_trial:
            self._acquit()
        for target in targets:
            self._asset_failed(target, error, counts=not was_failing)
        if failing:
            self._outcomes.all_failed(self._unreachable(str(error)))
        if failing and not was_failing:
            self.lose_list()

    def _acquit(self) -> None:
        """Nothing has succeeded since some assets failed, and now that was tried: it was the source, not they."""
        for target, failures in self._doubtful.items():
            target.failures = failures
        self._doubtful.clear()

    def _blame_again(self, targets: Sequence[Target]) -> None:
        """Those of whom it is told that they cannot be read say no more of their source when they fail again."""
        self.health.blamed.update(target.asset_id for target in targets if target.failures > FAILURES_TO_TURN)

    def _asset_failed(self, target: Target, error: UpstreamError, *, counts: bool = True) -> None:
        failing = self.health.failing
        if counts:
            self._doubtful.setdefault(target, target.failures)
            target.failures += 1
        pause_s = schedule.backoff_s(max(target.failures, 1), self._settings, self._rng)
        retry_at = loop_time() + max(pause_s, self._settings.busy_interval_s, error.retry_after_s or 0.0)
        enough = FAILURES_TO_TURN + self.health.suspect  # if suspect, a sign of life is to come first
        its_own = target.failures >= enough and not failing
        refused = self._unreachable(str(error), asset_id=target.asset_id if its_own else "")
        self._outcomes.failed(target, refused, why=str(error), retry_at=retry_at)
        if its_own:
            self._outcomes.failing(target)

    def _pace(self, now: float) -> None:
        self._next_call_at = max(self._next_call_at, now) + 1 / self._settings.rate_per_s

    def _pause(self, pause_s: float, why: str) -> None:
        self._not_before = max(self._not_before, loop_time() + pause_s)
        self._why_not = why

    def _unreachable(self, why: str, *, asset_id: str = "") -> SourceUnreachable:
        wait_s = max(self._not_before - loop_time(), self._settings.busy_interval_s)
        return SourceUnreachable(self._name, why, retry_after_s=wait_s, asset_id=asset_id)


def _nothing(_: Target) -> None:
    pass


def _being_cancelled() -> bool:
    """Whether somebody wants the current task to end; an adapter's own CancelledError is none of that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
