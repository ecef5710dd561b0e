"""How the reads and signs of life of one source end, and what is asked next to learn whose fault a failure is.

It applies what verdicts.py decides: to the source's health and pauses, to the assets that were asked for, and to those
who wait. It starts no call: `telling` says that it wants one, which calls.py makes when it may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.changefeed.pipeline import Sighting
from assetwatchd.model.errors import AssetRejected, BadAnswer
from assetwatchd.model.values import REJECTED, ConditionState, Observation, State
from assetwatchd.polling.conditions import NONE_READ_MAX
from assetwatchd.polling.verdicts import FAILURES_TO_TURN, Failed, Pause, decide
from assetwatchd.runtime.clock import loop_time
from assetwatchd.upstream import backoff
from assetwatchd.upstream.answers import Unchanged, Unreadable

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from assetwatchd.model.errors import UpstreamError
    from assetwatchd.polling.lists import Lists
    from assetwatchd.polling.outcomes import Outcomes
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.report import Report
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.answers import Answer
    from assetwatchd.upstream.secret_files import SecretFiles

LISTED_BUT_MISSING = "it is listed, and a read of it says that there is no such asset"
LEFT_OUT = "the answer leaves the asset out"


class Endings:
    """What follows from how each call ended.

    running: how many calls but lists are under way; counted by calls.py.

    confirm: a read of another asset is to tell whether a failure is of some or of all.
    other: the asset last asked for that; other_asked: such a read was asked for since an asset was last read.
    failures_before: how often each had failed before the failures since the last success, which may be the source's.
    """

    def __init__(
        self,
        settings: SourceSettings,
        *,
        report: Report,
        lists: Lists,
        plan: Plan,
        outcomes: Outcomes,
        secrets: SecretFiles,
        rng: random.Random,
    ) -> None:
        self.running = 0
        self._settings = settings
        self._report = report
        self._health = report.health
        self._lists = lists
        self._plan = plan
        self._outcomes = outcomes
        self._secrets = secrets
        self._rng = rng
        self._failures_before: dict[Target, int] = {}
        self._confirm = False
        self._other_asked = False
        self._other = ""

    # What is asked to learn more -------------------------------------------------------------------------------------

    @property
    def telling(self) -> bool:
        """Whether something is to be asked at once to tell whether assets or their source failed."""
        return self._health.suspect or self._confirm

    def take_telling(self) -> Sequence[Target]:
        """Return another asset to read, for the answer to tell; none: a sign of life does. It is wanted no more."""
        if self._health.take_suspicion():
            return ()
        self._confirm, self._other_asked = False, True
        targets = self._plan.take_untroubled()
        self._other = targets[0].asset_id if targets else self._other
        return targets

    # Calls that ended well -------------------------------------------------------------------------------------------

    def alive(self, *, idle: bool) -> None:
        """Note a sign of life; idle: nobody wants a read that could tell more."""
        self._succeeded()
        if idle:
            self._report.note(self._health.asset_read(self._report.now()))

    def answered(
        self,
        targets: Sequence[Target],
        generations: Sequence[int],
        answers: Sequence[Answer],
        *,
        began: float,
        traceparent: str,
    ) -> None:
        """Take in what a read of targets says of each; generations: theirs when it began."""
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
        self._health.heard_of(by_id.keys() - unread.keys())
        if len(unread) < len(targets):
            self._other_asked = False
            self._report.note(self._health.asset_read(self._report.now()))
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

    def _succeeded(self) -> None:
        self._failures_before.clear()  # it was they, not the source
        self._report.note(self._health.succeeded(self._report.now()))
        self._lists.doubt()
        self._lists.forget_if_unwanted()
        all_well = self._health.state is ConditionState.HEALTHY
        self._report.pauses.succeeded(all_well=all_well)
        if all_well:
            self._secrets.taken()

    # Calls that failed -----------------------------------------------------------------------------------------------

    def failed(self, error: UpstreamError, targets: Sequence[Target], *, trial: bool, beside: bool) -> None:
        """Note that a read of targets failed, or (none) a sign of life; trial, beside: see verdicts.Failed."""
        if self._health.throttles_alone(error, [target.asset_id for target in targets]):
            self._succeeded()
            for target in targets:
                self._asset_failed(target, error)
            return
        failed = Failed(
            error,
            asked=frozenset(target.asset_id for target in targets),
            troubled=frozenset(target.asset_id for target in targets if target.knowledge.failures > FAILURES_TO_TURN),
            trial=trial,
            beside=beside,
            others=bool(targets) and self._plan.has_untroubled(),
        )
        verdict = decide(self._health.standing, failed)
        turned = self._health.take(verdict, failed, self._report.now())
        self._confirm = not verdict.failing and (self._confirm or verdict.confirm)
        self._pause(error, verdict.pause)
        self._report.note(turned)
        if verdict.reset:
            self._acquit()
        for target in targets:
            self._asset_failed(target, error, charged=verdict.charged)
        if verdict.failing:
            self._outcomes.all_failed(self._report.unreachable(str(error)))
            if verdict.charged:  # it did not fail before
                self._lists.lose()
        elif len(targets) == 1:  # of several, one may spoil the answer
            self._unread([targets[0].asset_id], str(error))

    def _pause(self, error: UpstreamError, pause: Pause) -> None:
        """Pause after a failure, and at least for as long as was asked for."""
        now, pauses = loop_time(), self._report.pauses
        if pause is Pause.SHORT:
            pauses.succeeded(all_well=False)
        elif pause is Pause.LONGER:
            pauses.failed(error, now)
        if not isinstance(error, AssetRejected):
            pauses.asked(error, now)
        if self._health.failing:
            self._health.next_try_at(self._report.wall(max(pauses.until, now)))

    def _acquit(self) -> None:
        """Take back the failures of assets since the last success: a trial has failed too, so it was the source."""
        for target, failures in self._failures_before.items():
            target.knowledge.take_back_failures(failures)
        self._failures_before.clear()

    def _asset_failed(self, target: Target, error: UpstreamError, *, charged: bool = True) -> None:
        failing = self._health.failing
        if charged:
            self._failures_before.setdefault(target, target.knowledge.failures)
            target.knowledge.count_failure()
        pause_s = backoff.backoff_s(max(target.knowledge.failures, 1), self._settings, self._rng)
        retry_at = loop_time() + max(pause_s, self._settings.busy_interval_s, error.retry_after_s or 0.0)
        enough = FAILURES_TO_TURN + int(self._health.suspect)  # if suspect, a sign of life is to come first
        its_own = target.knowledge.failures >= enough and not failing
        refused = self._report.unreachable(str(error), asset_id=target.asset_id if its_own else "")
        self._outcomes.failed(target, refused, why=str(error), retry_at=retry_at)
        if its_own:
            self._outcomes.failing(target)

    def _unread(self, asset_ids: Sequence[str], why: str) -> None:
        """Take what is so of several assets in a row, and of no other, as their source's trouble, not theirs.

        If one could be read lately, it is asked first. What was never read yet may be well: that is waited for, but
        not too long.
        """
        confirmed = self._other in asset_ids
        count = self._health.assets_unread(asset_ids)
        if count < FAILURES_TO_TURN:
            return
        if not confirmed and not self._health.none_read:
            if self._plan.has_untroubled():
                self._confirm = self._confirm or not self._other_asked
                return
            if count < NONE_READ_MAX and (self.running > 1 or self._plan.next_due() <= loop_time()):
                return
        self._report.note(self._health.none_can_be_read(why, self._report.now()))


def _why_unread(answer: Answer | None) -> str:
    """Why an answer tells nothing of its asset; empty when it does."""
    if answer is None:
        return LEFT_OUT
    if isinstance(answer, Unreadable):
        return answer.why
    failure = answer.failure if isinstance(answer, Observation) else None
    return failure.message if failure is not None and failure.code == REJECTED else ""
