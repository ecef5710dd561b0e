"""Starts the upstream calls of one source: what next, when, how many at a time.

Only this module and the lists it has made call an adapter's observe, enumerate and probe; only push.py its notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.errors import AssetRejected, BadAnswer, RetryTooSoon, Unreachable, UpstreamError
from assetwatchd.model.values import REJECTED, Concern, ConditionState, Failure, FailureKind, Observation, State
from assetwatchd.polling.endings import Endings
from assetwatchd.polling.lists import Lists
from assetwatchd.polling.target import AT_ONCE, NEVER
from assetwatchd.polling.verdicts import refuses_us
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.logs import Defects
from assetwatchd.runtime.timelimit import TIMER_S, TimeLimit
from assetwatchd.upstream import backoff
from assetwatchd.upstream.bodies.reading import ANSWER_S_MAX
from assetwatchd.upstream.rate import slack_s
from assetwatchd.upstream.secret_files import SecretFiles

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from assetwatchd.polling.outcomes import Outcomes
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.report import Report
    from assetwatchd.polling.stats import Figures
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.answers import Answer
    from assetwatchd.upstream.port import Upstream

TIMEOUTS_A_CALL = 4
"""A call of ours may cost its adapter several to the upstream (a token, the answer, both once more), each timed.
Reading the answer has ANSWER_S_MAX beside: an upstream that has answered is not one that has not."""
LIST_S_MAX = 300.0
"""A list may have many pages, each timed; this is for all of them."""
RETRY_WAIT_S = 10.0
"""Who has a source tried by hand is told how that went, if it is over by then."""

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One call that is to be made, how long it may take, and for which targets it is.

    trial: it was chosen while the source was failing, to see whether it is back.
    concern: whose failure it is if it fails.
    """

    make: Callable[[Sequence[Target]], Awaitable[None]]
    limit: TimeLimit
    trial: bool
    targets: Sequence[Target] = ()
    concern: Concern = Concern.READS


class Calls:
    """One task, `run`, starts the calls. Each is made by a task that goes on with the next while there is one to make.

    secrets: the files that its credentials are in. retried: set when all that fails is to be tried at once.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        report: Report,
        plan: Plan,
        outcomes: Outcomes,
        figures: Figures,
        rng: random.Random,
    ) -> None:
        self.retried = asyncio.Event()
        self.secrets = SecretFiles(settings)
        self.lists = Lists(
            name, upstream, settings, report=report, plan=plan, outcomes=outcomes, figures=figures, rng=rng
        )
        self._endings = Endings(
            settings, report=report, lists=self.lists, plan=plan, outcomes=outcomes, secrets=self.secrets, rng=rng
        )
        self._name = name
        self._defects = Defects(name)
        self._upstream = upstream
        self._settings = settings
        self._report = report
        self._health = report.health
        self._plan = plan
        self._figures = figures
        self._rng = rng
        self._call_limit = TimeLimit(TIMEOUTS_A_CALL * settings.timeout_s + ANSWER_S_MAX)
        self._list_limit = TimeLimit(LIST_S_MAX)
        self._over = {concern: asyncio.Event() for concern in (Concern.READS, Concern.LIST)}
        self._next_call_at = AT_ONCE
        self._probe_at = AT_ONCE
        self._slack_s = slack_s(settings.rate_per_s)

    async def run(self) -> None:
        """Start what is due.

        At most concurrency reads (one while failing) and one list are under way, and rate_per_s calls begin a second.
        """
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

    def request_probe(self) -> None:
        """Have the source probed at once."""
        self._probe_at = loop_time()
        self._plan.changed.set()

    def try_again(self) -> None:
        """End the pause of a failing source and probe it: there is a reason to think that it is back."""
        if self._health.failing:
            self._report.pauses.end()
            self.request_probe()

    async def retry(self) -> None:
        """Have all that fails tried at once, by hand; return once that is over, or after RETRY_WAIT_S.

        A source that is well is asked for a sign of life, unless it gave one just now; that costs nobody a later try.
        Raises: RetryTooSoon.
        """
        if self._health.state is ConditionState.HEALTHY:
            if self._heard_lately():
                return
        elif wait_s := self._report.pauses.by_hand(loop_time()):
            raise RetryTooSoon(self._name, retry_after_s=wait_s)
        by_list = not self._health.failing and self._health.list.state.is_amiss
        over = self._over[Concern.LIST if by_list else Concern.READS]
        over.clear()
        self._try_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_WAIT_S):
                await over.wait()

    def _heard_lately(self) -> bool:
        """Whether it answered no longer ago than it may be read again: to ask anew for nothing else would be idle."""
        heard_at = self._health.condition.last_success_at
        return heard_at is not None and self._report.now() - heard_at < self._settings.busy_interval_s

    def _try_all(self) -> None:
        self._report.pauses.end()
        self.lists.retry()
        self.retried.set()
        self.request_probe()

    async def follow_secret(self) -> None:
        """Try a source that refused us once the file that its credential is read from has changed; until cancelled."""
        while True:
            await self.secrets.changed()
            log.info("source %s: its credential was changed, so it is tried at once", self._name)
            self._try_all()

    # What next, and when ---------------------------------------------------------------------------------------------

    def _take(self) -> Job | None:
        """Choose the call that starts now, and count it; None when none may."""
        while self._next_start() <= (now := loop_time()):
            if (job := self._next_job(now)) is not None:
                self._pace(now)
                self._probe_at = now + self._settings.probe_interval_s
                if job.concern is Concern.LIST:
                    self.lists.begin()
                else:
                    self._endings.running += 1
                return job
        return None

    def _has_room(self) -> bool:
        return self._endings.running < (1 if self._health.failing else self._settings.concurrency)

    def _next_start(self) -> float:
        """When the next call may start; NEVER until something changes."""
        return max(self._next_wanted(), self._report.pauses.until, self._next_call_at - self._slack_s)

    def _next_wanted(self) -> float:
        """When the next call is wanted that there is room for; a list has room of its own, as it may be long."""
        if not self._has_room():
            return NEVER if self._health.failing else self.lists.next_at()
        if self._health.failing or self._endings.telling:
            return AT_ONCE
        return min(self._plan.next_due(), self._probe_at, self.lists.next_at())

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

        While failing, the read that is next is tried, even if early: a sign of life alone does not mend reads. The same
        after a sign of life that failed: some upstreams cannot give one, and can still be read.
        """
        failing = self._health.failing
        if self._has_room() and self._endings.telling:
            return self._job_that_tells(failing=failing)
        if (job := self._list_job(now)) is not None or not self._has_room():
            return job
        alive = self._probe_at <= now
        if targets := self._plan.take(even_if_early=failing or (alive and self._health.lifeless)):
            return Job(self._read, self._call_limit, failing, targets)
        return Job(self._probe, self._call_limit, failing) if failing or alive else None

    def _job_that_tells(self, *, failing: bool) -> Job:
        """Return what tells whether assets or their source failed: a read of another one, or a sign of life."""
        targets = self._endings.take_telling()
        return Job(self._read if targets else self._probe, self._call_limit, failing, targets)

    def _list_job(self, now: float) -> Job | None:
        if self._health.failing or self.lists.next_at() > now:
            return None
        return Job(self._list, self._list_limit, trial=False, concern=Concern.LIST)

    # Calls -----------------------------------------------------------------------------------------------------------

    async def _call(self, job: Job) -> None:
        self._figures.calls += 1
        self._figures.asset_reads += len(job.targets)
        secret = self.secrets.digest()
        try:
            with job.limit.block():
                await job.make(job.targets)
        except UpstreamError as error:
            self._failed(job, error, secret)
        except TimeoutError:
            what = "the list was not read" if job.concern is Concern.LIST else "no answer"
            self._failed(job, Unreachable(f"{what} within {job.limit.seconds:g} s"), secret)
        except (Exception, asyncio.CancelledError) as error:  # an adapter's defect must not stop the other sources
            if _being_cancelled():
                raise
            self._defects.log(error)
            self._failed(job, BadAnswer("the adapter failed; see the log"), secret)
        finally:
            if job.concern is Concern.LIST:
                self.lists.end()
            else:
                self._endings.running -= 1
            self._over[job.concern].set()

    async def _read(self, targets: Sequence[Target]) -> None:
        began, generations = self._report.now(), [target.generation for target in targets]
        with telemetry.poll(self._name, len(targets)):
            answers = await self._observe(targets)
            traceparent = telemetry.traceparent()
        self._endings.answered(targets, generations, answers, began=began, traceparent=traceparent)

    async def _observe(self, targets: Sequence[Target]) -> Sequence[Answer]:
        """Ask the upstream. An asset that it rejects is UNKNOWN, if nothing better was ever known of it."""
        try:
            known = {target.asset_id: target.knowledge.answer for target in targets if target.knowledge.answer}
            return await self._upstream.observe([target.asset_id for target in targets], known)
        except AssetRejected as error:
            entry = self._plan.targets.entry(targets[0])
            if len(targets) > 1 or (entry is not None and entry.state is not State.UNKNOWN):
                raise
            failure = Failure(FailureKind.PERMANENT, REJECTED, str(error))
            return [Observation(targets[0].asset_id, State.UNKNOWN, failure=failure)]

    async def _list(self, _: Sequence[Target]) -> None:
        await self.lists.make(lambda: self._pace(loop_time()))

    async def _probe(self, _: Sequence[Target]) -> None:
        await self._upstream.probe()
        self._endings.alive(idle=self._plan.next_due() == NEVER and self._endings.running == 1)

    def _failed(self, job: Job, error: UpstreamError, secret: bytes) -> None:
        """Note that a call failed; secret: digest of the credential that it was made with.

        After a list has failed something else is asked at once: that tells whether it is the list alone.
        """
        self._figures.failed_calls += 1
        if refuses_us(error):
            self.secrets.refused(secret)
        if job.concern is not Concern.LIST:
            beside = self._endings.running + self.lists.under_way > 1 or self._plan.next_due() != NEVER
            self._endings.failed(error, job.targets, trial=job.trial, beside=beside)
            if not (job.targets or self._health.failing):
                self._probe_at = loop_time() + backoff.backoff_s(1, self._settings, self._rng)
            return
        self.lists.failed(error)
        if self._health.accused is not None:
            self.request_probe()

    def _pace(self, now: float) -> None:
        self._next_call_at = max(self._next_call_at, now) + 1 / self._settings.rate_per_s


def _being_cancelled() -> bool:
    """Whether somebody wants the current task to end; an adapter's own CancelledError is none of that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
