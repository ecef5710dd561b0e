"""Starts the upstream calls of one source, the only caller of its adapter: what next, when, how many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.pipeline import Sighting
from assetwatchd.model.errors import (
    AssetRejected,
    BadAnswer,
    RetryTooSoon,
    SourceUnreachable,
    Unreachable,
    UpstreamError,
)
from assetwatchd.model.values import GONE, REJECTED, Concern, ConditionState, Failure, FailureKind, Observation, State
from assetwatchd.polling import listing
from assetwatchd.polling.conditions import FAILURES_TO_TURN, NONE_READ_MAX, Health, refuses_us
from assetwatchd.polling.pauses import Pauses
from assetwatchd.polling.target import AT_ONCE, NEVER
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.timelimit import TIMER_S, TimeLimit
from assetwatchd.upstream import backoff
from assetwatchd.upstream.answers import Unchanged, Unreadable
from assetwatchd.upstream.bodies.reading import ANSWER_S_MAX
from assetwatchd.upstream.rate import slack_s
from assetwatchd.upstream.secret_files import SecretFiles

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from assetwatchd.model.values import Condition
    from assetwatchd.polling.outcomes import Outcomes
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.stats import Figures
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.answers import Answer
    from assetwatchd.upstream.port import Listed, Upstream

TIMEOUTS_A_CALL = 4
"""A call of ours may cost its adapter several to the upstream (a token, the answer, both once more), each timed.
Reading the answer has ANSWER_S_MAX beside: an upstream that has answered is not one that has not."""
LIST_S_MAX = 300.0
"""A list may have many pages, each timed; this is for all of them."""
LISTED_BUT_MISSING = "it is listed, and a read of it says that there is no such asset"
LEFT_OUT = "the answer leaves the asset out"
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

    listed: set once there is a list that is recent enough for those who wait for one. lacking: what of all there is
    was not taken in, and why; empty when all was. secrets: the files that its credentials are in.
    retried: set when all that fails is to be tried at once.
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
        self.health = Health(now(), steady_s=settings.backoff_max_s)
        self.listed = asyncio.Event()
        self.retried = asyncio.Event()
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
        self._pauses = Pauses(settings, rng)
        self._over = {concern: asyncio.Event() for concern in (Concern.READS, Concern.LIST)}
        self.secrets = SecretFiles(settings)
        self._next_call_at = AT_ONCE
        self._slack_s = slack_s(settings.rate_per_s)
        self._probe_at = AT_ONCE
        self._list_at = AT_ONCE
        self._doubtful: dict[Target, int] = {}
        self.lacking = ""
        self._listing = False
        self._confirm = False
        self._other_asked = False
        self._other = ""

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
        if self.health.store.state.is_amiss:
            return self._unreachable(self.health.store.message)
        return self._unreachable(self._pauses.why) if loop_time() < self._pauses.until else None

    def store_failing(self, why: str) -> None:
        """End all waits for reads, as our store cannot keep what is read (why); empty: it can again."""
        self.note(self.health.store_lost(why, self._now()))
        if why:
            self._outcomes.all_failed(self._unreachable(self.health.store.message))

    def note(self, turned: bool) -> None:  # noqa: FBT001 - the answer of Health, passed on
        """Tell everybody when the condition has turned."""
        if turned:
            condition = self.health.condition
            level = logging.WARNING if condition.state.is_amiss else logging.INFO
            why = f": {condition.message}" if condition.message else ""
            log.log(level, "source %s is %s%s%s", self._name, condition.state.name.lower(), why, self._next_try())
            self._tell(self._name, condition)

    def _next_try(self) -> str:
        at = self.health.condition.next_try_at
        return "" if at is None else f"; next try in {max(0.0, at - self._now()):.1f} s"

    @property
    def has_list(self) -> bool:
        """Whether, since the source could last not be read or listed, there was a list, and all of it was taken in."""
        return self.listed.is_set() and not (self.lacking or self.health.list.state.is_amiss)

    def lose_list(self) -> None:
        """Let the last list count no more, and have one made, as assets may have come; not while changes are pushed."""
        if not self._plan.pushing:
            self.listed.clear()
            self._list_at = loop_time() if self._list_at != NEVER else NEVER  # it is being made

    async def take_list(self, listed: Listed, *, pushed: bool) -> None:
        """Compare a list with what was listed before, one list after the other.

        While changes are pushed, the list that the connection began with is the newest, and of what it lacks they tell.
        What a list lacks of which something cannot be read may be that, so it is left to the reads.
        """
        asset_ids = listed.asset_ids
        async with self._comparing:
            if self._plan.pushing and not pushed:
                return
            asset_ids, unfit = await listing.fitting(asset_ids, self._upstream.check)
            gone = None if listed.unreadable else _nothing if pushed else self._gone
            left_out = await listing.compare(self._plan, asset_ids, gone)
        lacking = [listed.lack] if listed.lack else []
        if unfit:
            lacking.append(f"{len(unfit)} ids that cannot be one, e.g. {unfit[0][:100]!a}")
        if left_out:
            lacking.append(f"{left_out} assets beyond assets_max = {self._settings.assets_max}")
        self._list_at = loop_time() + self._settings.enumerate_interval_s
        self.lacking = "; ".join(lacking)
        next_at = None if self._plan.pushing else self._wall(self._list_at)
        self.note(self.health.listed(self._now(), lacking=self.lacking, next_at=next_at))
        self.listed.set()

    def no_room(self) -> None:
        """Note that something was pushed that there is no room for."""
        self.lacking = self.lacking or f"assets beyond assets_max = {self._settings.assets_max}"
        self._say_what_lacks()

    def _say_what_lacks(self) -> None:
        if self.lacking and self._plan.whole_wanted and not self.health.list.state.is_amiss:
            self.note(self.health.lacks(self.lacking, self._now()))

    def _gone(self, target: Target) -> None:
        self._plan.targets.unlist(target)
        self._outcomes.told(target, Sighting(Observation(target.asset_id, State.MISSING), self._now()))

    def want_list(self) -> None:
        """Have a list made, unless the last one is recent, or is kept up to date by what is pushed."""
        if self._list_at <= loop_time() and not self._plan.pushing:
            self.listed.clear()
        self._say_what_lacks()
        self._plan.changed.set()

    def request_probe(self) -> None:
        """Have the source probed at once."""
        self._probe_at = loop_time()
        self._plan.changed.set()

    def try_again(self) -> None:
        """End the pause of a failing source and probe it: there is a reason to think that it is back."""
        if self.health.failing:
            self._pauses.end()
            self.request_probe()

    async def retry(self) -> None:
        """Have all that fails tried at once, by hand; return once that is over, or after RETRY_WAIT_S.

        A source that is well is asked for a sign of life, unless it gave one just now; that costs nobody a later try.
        Raises: RetryTooSoon.
        """
        if self.health.state is ConditionState.HEALTHY:
            if self._heard_lately():
                return
        elif wait_s := self._pauses.by_hand(loop_time()):
            raise RetryTooSoon(self._name, retry_after_s=wait_s)
        by_list = not self.health.failing and self.health.list.state.is_amiss
        over = self._over[Concern.LIST if by_list else Concern.READS]
        over.clear()
        self._try_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_WAIT_S):
                await over.wait()

    def _heard_lately(self) -> bool:
        """Whether it answered no longer ago than it may be read again: to ask anew for nothing else would be idle."""
        heard_at = self.health.condition.last_success_at
        return heard_at is not None and self._now() - heard_at < self._settings.busy_interval_s

    def _try_all(self) -> None:
        self._pauses.end()
        if self.health.list.state.is_amiss:
            self._list_at = loop_time()
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
                    self._listing = True
                else:
                    self._running += 1
                return job
        return None

    def _has_room(self) -> bool:
        return self._running < (1 if self.health.failing else self._settings.concurrency)

    def _next_start(self) -> float:
        """When the next call may start; NEVER until something changes."""
        return max(self._next_wanted(), self._pauses.until, self._next_call_at - self._slack_s)

    def _next_wanted(self) -> float:
        """When the next call is wanted that there is room for; a list has room of its own, as it may be long."""
        if not self._has_room():
            return NEVER if self.health.failing else self._next_list()
        if self.health.failing or self.health.suspect or self._confirm:
            return AT_ONCE
        return min(self._plan.next_due(), self._probe_at, self._next_list())

    def _next_list(self) -> float:
        can = self._upstream.capabilities
        pushed = self._plan.pushing or not self.health.push.state.is_amiss
        polled = can.enumerates and not (can.pushes and pushed)
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

        While failing, the read that is next is tried, even if early: a sign of life alone does not mend reads. As it is
        when a sign of life failed, which an upstream may be without that can be read.
        """
        failing = self.health.failing
        if self._has_room() and (self.health.suspect or self._confirm):
            return self._job_that_tells(failing=failing)
        if (job := self._list_job(now)) is not None or not self._has_room():
            return job
        alive = self._probe_at <= now
        if targets := self._plan.take(even_if_early=failing or (alive and self.health.lifeless)):
            return Job(self._read, self._call_limit, failing, targets)
        return Job(self._probe, self._call_limit, failing) if failing or alive else None

    def _job_that_tells(self, *, failing: bool) -> Job:
        """Choose what tells whether assets or their source failed: a read of another one, or a sign of life."""
        targets: Sequence[Target] = ()
        if self.health.suspect:
            self.health.suspect = False
        else:
            self._confirm = False
            targets = self._plan.take_untroubled()
        if not targets:
            return Job(self._probe, self._call_limit, failing)
        self._other = targets[0].asset_id
        return Job(self._read, self._call_limit, failing, targets)

    def _list_job(self, now: float) -> Job | None:
        if self.health.failing or self._next_list() > now:
            return None
        self._list_at = NEVER
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
            self._failed(job, Unreachable(f"no answer within {job.limit.seconds:g} s"), secret)
        except (Exception, asyncio.CancelledError):  # an adapter's defect must not stop the other sources
            if _being_cancelled():
                raise
            log.exception("source %s: the adapter failed", self._name)
            self._failed(job, BadAnswer("the adapter failed; see the log"), secret)
        finally:
            if job.concern is Concern.LIST:
                self._listing = False
            else:
                self._running -= 1
            self._over[job.concern].set()

    async def _read(self, targets: Sequence[Target]) -> None:
        began, generations = self._now(), [target.generation for target in targets]
        with telemetry.poll(self._name, len(targets)):
            answers = await self._observe(targets)
            traceparent = telemetry.traceparent()
        by_id = {answer.asset_id: answer for answer in answers}
        self._succeeded()
        unread = {target.asset_id: why for target in targets if (why := _why_unread(by_id.get(target.asset_id)))}
        for target, generation in zip(targets, generations, strict=True):
            if (answer := by_id.get(target.asset_id)) is None:
                self._asset_failed(target, BadAnswer(LEFT_OUT))
            elif isinstance(answer, Unchanged):
                self._outcomes.unchanged(target, began, generation=generation)
            elif isinstance(answer, Unreadable):
                self._asset_failed(target, BadAnswer(answer.why))
            elif self._contradicts_list(target, answer):
                self._asset_failed(target, BadAnswer(LISTED_BUT_MISSING))
            else:
                self._outcomes.read(target, Sighting(answer, began, traceparent), generation=generation)
        self.health.heard_of(by_id.keys() - unread.keys())
        if len(unread) < len(targets):
            self._other_asked = False
            self.note(self.health.asset_read(self._now()))
        else:
            self._unread(list(unread), next(iter(unread.values())))

    def _contradicts_list(self, target: Target, answer: Observation) -> bool:
        """Whether an asset is missing that is listed; of one that was read before, only a list since then counts.

        Only while lists are made: the next one ends the contradiction, if it lacks the asset too.
        """
        if answer.state is not State.MISSING or not target.presence.listed or target.presence.absences:
            return False
        if self._plan.pushing or not self._plan.whole_wanted:
            return False
        return target.presence.back or target.knowledge.state in {None, State.UNKNOWN}

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
        try:
            with telemetry.poll(self._name, 0):
                listed = await self._upstream.enumerate()
                if not listed.unreadable and (target := await listing.proof(self._plan, listed.asset_ids)) is not None:
                    await self._confirm_gone(target)
        finally:
            self._list_at = loop_time() + self._settings.enumerate_interval_s
        await self.take_list(listed, pushed=False)

    async def _confirm_gone(self, target: Target) -> None:
        """Read one asset of those that a list lacks altogether. Raises: BadAnswer when it is there."""
        self._pace(loop_time())
        self._figures.asset_reads += 1
        with contextlib.suppress(AssetRejected):
            answers = await self._upstream.observe([target.asset_id])
            if not answers or not isinstance(answers[0], Observation) or answers[0].state not in GONE:
                raise BadAnswer("a list has nothing of all that was there, and yet it can be read")

    async def _probe(self, _: Sequence[Target]) -> None:
        await self._upstream.probe()
        self._succeeded()
        if self._plan.next_due() == NEVER and self._running == 1:  # nobody wants a read that could tell
            self.note(self.health.asset_read(self._now()))

    # How calls end ---------------------------------------------------------------------------------------------------

    def _succeeded(self) -> None:
        self._doubtful.clear()  # it was they, not the source
        self.note(self.health.succeeded(self._now()))
        self._doubt_list()
        if self.health.list.state.is_amiss and not self._plan.whole_wanted:
            self.note(self.health.list_unwanted(self._now()))
        all_well = self.health.state is ConditionState.HEALTHY
        self._pauses.succeeded(all_well=all_well)
        if all_well:
            self.secrets.taken()

    def _failed(self, job: Job, error: UpstreamError, secret: bytes) -> None:
        """Note that a call failed; secret: digest of the credential that it was made with."""
        self._figures.failed_calls += 1
        if refuses_us(error):
            self.secrets.refused(secret)
        if job.concern is Concern.LIST:
            self._list_failed(error)
        elif self.health.throttles_alone(error, [target.asset_id for target in job.targets]):
            self._succeeded()
            for target in job.targets:
                self._asset_failed(target, error)
        else:
            self._read_failed(job, error)

    def _list_failed(self, error: UpstreamError) -> None:
        """Try the list again after a pause, and ask something else at once: that tells whether it is the list alone.

        Its pause begins with the end of the silence that was asked for: reads keep that too, and are to have a turn.
        """
        self._pauses.asked(error, loop_time())
        turned = self.health.list_failed(error, self._now())
        pause_s = self._pauses.after(error, self.health.list.failures + 1)
        self._list_at = max(loop_time(), self._pauses.until) + pause_s
        self.health.list.next_try_at = self._wall(self._list_at)
        self.note(turned)
        self._doubt_list()
        if self.health.accused is not None:
            self.request_probe()

    def _doubt_list(self) -> None:
        """Let the last list count no more once it is known that none can be made now."""
        if self.health.list.failures and self.health.list.state.is_amiss:
            self.listed.clear()

    def _read_failed(self, job: Job, error: UpstreamError) -> None:
        was_failing = self.health.failing
        asked = [target.asset_id for target in job.targets]
        self._blame_again(job.targets)
        others = self._running + self._listing > 1 or self._plan.next_due() != NEVER
        doubted = self.health.doubted
        turned = self.health.failed(
            error,
            self._now(),
            asked=asked,
            can_be_read=not asked and others,
            others=bool(asked) and self._plan.has_untroubled(),
        )
        failing = self.health.failing
        self._confirm = self.health.doubted and not doubted
        self._pause(error, more=failing and (job.trial or not was_failing))
        if not job.targets and not failing:
            self._probe_at = loop_time() + backoff.backoff_s(1, self._settings, self._rng)
        self.note(turned)
        if job.trial:
            self._acquit()
        for target in job.targets:
            self._asset_failed(target, error, counts=not was_failing)
        if len(asked) == 1 and not failing:  # of several, one may spoil the answer
            self._unread(asked, str(error))
        if failing:
            self._outcomes.all_failed(self._unreachable(str(error)))
        if failing and not was_failing:
            self.lose_list()

    def _unread(self, asset_ids: Sequence[str], why: str) -> None:
        """Take what is so of several assets in a row, and of no other, as their source's trouble, not theirs.

        If one could be read lately, it is asked first. What was never read yet may be well: that is waited for, but
        not too long.
        """
        confirmed = self._other in asset_ids
        count = self.health.assets_unread(asset_ids)
        if count < FAILURES_TO_TURN:
            return
        if not confirmed and not self.health.none_read:
            if self._plan.has_untroubled():
                self._confirm = self._confirm or not self._other_asked
                self._other_asked = True
                return
            if count < NONE_READ_MAX and (self._running > 1 or self._plan.next_due() <= loop_time()):
                return
        self.note(self.health.none_can_be_read(why, self._now()))

    def _pause(self, error: UpstreamError, *, more: bool) -> None:
        """Pause after a failure; more: one that makes the pauses of a failing source longer."""
        now = loop_time()
        if not self.health.failing:
            self._pauses.succeeded(all_well=False)
        elif more:
            self._pauses.failed(error, now)
        if not isinstance(error, AssetRejected):
            self._pauses.asked(error, now)
        if self.health.failing:
            self.health.next_try_at(self._wall(max(self._pauses.until, now)))

    def _wall(self, at: float) -> float:
        """Return a time of the event loop as seconds since 1970."""
        return self._now() + at - loop_time()

    def _acquit(self) -> None:
        """Take back the failures of assets since the last success: a trial has failed too, so it was the source."""
        for target, failures in self._doubtful.items():
            target.knowledge.take_back_failures(failures)
        self._doubtful.clear()

    def _blame_again(self, targets: Sequence[Target]) -> None:
        """Have assets that are told to be unreadable count no more against their source."""
        self.health.blamed.update(target.asset_id for target in targets if target.knowledge.failures > FAILURES_TO_TURN)

    def _asset_failed(self, target: Target, error: UpstreamError, *, counts: bool = True) -> None:
        failing = self.health.failing
        if counts:
            self._doubtful.setdefault(target, target.knowledge.failures)
            target.knowledge.count_failure()
        pause_s = backoff.backoff_s(max(target.knowledge.failures, 1), self._settings, self._rng)
        retry_at = loop_time() + max(pause_s, self._settings.busy_interval_s, error.retry_after_s or 0.0)
        enough = FAILURES_TO_TURN + self.health.suspect  # if suspect, a sign of life is to come first
        its_own = target.knowledge.failures >= enough and not failing
        refused = self._unreachable(str(error), asset_id=target.asset_id if its_own else "")
        self._outcomes.failed(target, refused, why=str(error), retry_at=retry_at)
        if its_own:
            self._outcomes.failing(target)

    def _pace(self, now: float) -> None:
        self._next_call_at = max(self._next_call_at, now) + 1 / self._settings.rate_per_s

    def _unreachable(self, why: str, *, asset_id: str = "") -> SourceUnreachable:
        wait_s = max(self._pauses.until - loop_time(), self._settings.busy_interval_s)
        return SourceUnreachable(self._name, why, retry_after_s=wait_s, asset_id=asset_id)


def _why_unread(answer: Answer | None) -> str:
    """Why an answer tells nothing of its asset; empty when it does."""
    if answer is None:
        return LEFT_OUT
    if isinstance(answer, Unreadable):
        return answer.why
    failure = answer.failure if isinstance(answer, Observation) else None
    return failure.message if failure is not None and failure.code == REJECTED else ""


def _nothing(_: Target) -> None:
    pass


def _being_cancelled() -> bool:
    """Whether somebody wants the current task to end; an adapter's own CancelledError is none of that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
