"""A source's condition, from how its calls end. Pure: times are given, the change is returned."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from assetwatchd.model.errors import Refused, Throttled
from assetwatchd.model.values import Concern, Condition, ConditionState
from assetwatchd.polling.concerns import Course, roll_up, shown
from assetwatchd.polling.verdicts import (
    FAILURES_TO_BE_GONE,
    FAILURES_TO_TURN,
    GONE_DOUBTS_MAX,
    Blame,
    Standing,
    refuses_us,
    silences,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from assetwatchd.model.errors import UpstreamError
    from assetwatchd.polling.verdicts import Failed, Verdict

NONE_READ_MAX = 20
"""So many different assets in a row that cannot be read make their source amiss, though others wait to be."""
THROTTLED_MAX = 1000
"""So many assets are known by themselves to ask us to wait; more of them are as good as all."""
NONE_READ = "no asset can be read: {}"
NOT_LISTED = "cannot be listed: {}"
LACKING = "cannot be listed completely: {}"
NOT_PUSHED = "changes are not pushed, polling instead: {}"
NOT_KEPT = "statuses cannot be kept: {}"


@dataclass(slots=True)
class Health:
    """The concerns of one source, and the failures that led to how they are.

    since: when it came into its state. steady_s: see Course.
    failing: only single calls are tried, with growing pauses, until one succeeds.
    failures: of different assets, or of none, so that one asset alone does not count against its source.
    suspect: an asset failed again and little else was heard since, so that only a sign of life can tell whose fault
    it is. blamed: the assets that failed since the last success.
    doubted: a read of some assets was refused, and one of another tells whether all are.
    accused: why a list failed, until anything else that goes well shows that the list alone does.
    broken: why the push connection broke, until as much shows that the source only does not push.
    unread: assets that could not be read since one could, the first NONE_READ_MAX. none_read: what to tell of that,
    once it is known to be so of all; a sign of life does not end it.
    milder: tries in a row that failed in a milder way than told. silent: tries in a row that failed in any way.
    given_up: it came and went, and failed too often since. doubts: times in a row that it answered after that, and yet
    was not well.
    throttled: assets that we were asked to wait for, and that were not read since. heard: some asset was read since the
    last such answer.
    pushes: there is a push connection, or none is wanted; what it was before, time alone shows to be over.
    """

    since: float
    steady_s: float
    state: ConditionState = ConditionState.UNKNOWN
    failures: int = 0
    failing: bool = False
    suspect: bool = False
    blamed: set[str] = field(default_factory=set)
    doubted: bool = False
    accused: UpstreamError | None = None
    broken: str = ""
    pushes: bool = False
    unread: set[str] = field(default_factory=set)
    none_read: str = ""
    milder: int = 0
    silent: int = 0
    given_up: bool = False
    doubts: int = 0
    throttled: set[str] = field(default_factory=set)
    heard: bool = False
    reads: Course = field(init=False)
    list: Course = field(init=False)
    push: Course = field(init=False)
    credentials: Course = field(default_factory=lambda: Course(Concern.CREDENTIALS))
    store: Course = field(default_factory=lambda: Course(Concern.STORE))
    _told: frozenset[Concern] = frozenset()

    def __post_init__(self) -> None:
        """Give those that may be on and off the time to be steady."""
        self.reads, self.list = Course(Concern.READS, self.steady_s), Course(Concern.LIST, self.steady_s)
        self.push = Course(Concern.PUSH, self.steady_s)

    @property
    def condition(self) -> Condition:
        """Return the condition of the source, with each concern of which anything was heard."""
        courses = (self.credentials, self.reads, self.list, self.push, self.store)
        heard = [course.condition for course in courses if course.state is not ConditionState.UNKNOWN]
        return roll_up(heard, since=self.since)

    @property
    def standing(self) -> Standing:
        """Return what matters when a call fails."""
        return Standing(
            self.state,
            self.failing,
            self.failures,
            frozenset(self.blamed),
            self.doubted,
            refuses_us=self.credentials.state.is_amiss,
            comes_and_goes=self.reads.on_and_off or bool(self.none_read),
            silent=self.silent,
            doubts=self.doubts,
        )

    @property
    def lifeless(self) -> bool:
        """Whether signs of life alone failed, so that a read tells more than one more of them."""
        return bool(self.failures) and not self.blamed

    def take_suspicion(self) -> bool:
        """Return whether a sign of life is to tell, which is asked for once."""
        suspect, self.suspect = self.suspect, False
        return suspect

    def next_try_at(self, at: float) -> None:
        """Say when a failing source is tried next."""
        mine = self.credentials if self.credentials.state.is_amiss else self.reads
        mine.next_try_at = at

    def begin_with(self, found: Condition) -> bool:
        """Go on from a condition that was told before, by whoever asked the source then; return whether it turned.

        How our store is doing is not of that. A source that could not be read is failing until a call ends well, so
        that one call at a time is made.
        """
        courses = {each.concern: each for each in (self.credentials, self.reads, self.list, self.push)}
        for concern in found.concerns:
            if (course := courses.get(concern.concern)) is not None:
                course.begin_with(concern)
        self.state, self.since = found.state, found.since
        self._told = frozenset(each.concern for each in shown(found.concerns))
        self.failing = self.credentials.state.is_amiss or self.reads.state.is_amiss
        return self._turned(found.since)

    # What was heard; each returns whether the condition turned -------------------------------------------------------

    def succeeded(self, at: float) -> bool:
        """Record that a read, or a sign of life, ended well at that time (s since 1970)."""
        self.failures, self.failing, self.suspect, self.doubted = 0, False, False, False
        self.silent = 0
        self.blamed.clear()
        if self.none_read:
            self.reads.amiss(ConditionState.DEGRADED, self.none_read, at)
        else:
            self.reads.well(at)
        if not self.reads.state.is_amiss:
            self.doubts = 0
        elif self.given_up:
            self.doubts = min(self.doubts + 1, GONE_DOUBTS_MAX)
        self.given_up = False
        self.credentials.well(at)
        if self.state is ConditionState.HEALTHY and not (self.accused or self.broken):
            return False  # as after nearly every read
        if self.accused is not None:
            self._blame_list(self.accused, at)
        if self.broken:
            self._blame_push(self.broken, at)
        if self.pushes and self.push.on_and_off:
            self.push.well(at)
        return self._turned(at)

    def asset_read(self, at: float) -> bool:
        """Record that an asset was read, or that none is to be, after a success."""
        self.unread.clear()
        if not self.none_read:
            return False
        self.none_read = ""
        self.reads.well(at)
        return self._turned(at)

    def heard_of(self, asset_ids: Collection[str]) -> None:
        """Record which assets could be read."""
        if self.throttled and asset_ids:
            self.heard = True
            self.throttled.difference_update(asset_ids)

    def throttles_alone(self, error: UpstreamError, asset_ids: Sequence[str]) -> bool:
        """Record an answer that asks us to wait; say whether it is about these assets alone, as others were read since.

        The first such answer is taken as one to all that we ask.
        """
        if error.retry_after_s is None or isinstance(error, Refused) or not asset_ids:
            return False
        alone = self.heard and self.throttled.issuperset(asset_ids)
        if len(self.throttled) < THROTTLED_MAX:
            self.throttled.update(asset_ids)
        self.heard = False
        return alone

    def assets_unread(self, asset_ids: Iterable[str]) -> int:
        """Record that assets could not be read, each by itself; return how many that are in a row."""
        self.unread.update(islice(asset_ids, NONE_READ_MAX - len(self.unread)))
        return len(self.unread)

    def none_can_be_read(self, why: str, at: float) -> bool:
        """Record that what is said of single assets is so of all, so that it is their source's trouble."""
        self.none_read = NONE_READ.format(why)
        if not self.failing:
            self.reads.amiss(ConditionState.DEGRADED, self.none_read, at)
        return self._turned(at)

    def take(self, verdict: Verdict, failed: Failed, at: float) -> bool:
        """Take in what a failed call told, by `decide`."""
        if verdict.blame is Blame.ASSETS:
            return self.succeeded(at)
        self.suspect = verdict.blame is Blame.UNCLEAR
        self.failures += verdict.blame is Blame.SOURCE
        self.silent += 1
        self.blamed |= failed.asked
        if not self.suspect:  # else bad assets alone would keep their source on and off
            self.reads.missed(at)
        if verdict.confirm:
            self.doubted = True
        if verdict.state is None:
            return False
        self.failing, self.accused, self.doubted, self.given_up = True, None, False, verdict.given_up
        refused = refuses_us(failed.error)
        mine, other = (self.credentials, self.reads) if refused else (self.reads, self.credentials)
        other.unheard(at)
        mine.amiss(self._steady(verdict.state), str(failed.error), at)
        return self._turned(at)

    def listed(self, at: float, *, lacking: str = "", next_at: float | None = None) -> bool:
        """Record that a list was made; lacking: what it should have and has not, and why. next_at: when the next is."""
        self.accused = None
        if lacking:
            self.list.failures, self.list.last_success_at, self.list.next_try_at = 0, at, next_at
            return self.lacks(lacking, at)
        self.list.well(at)
        return self._turned(at)

    def lacks(self, lacking: str, at: float) -> bool:
        """Record what of the last list, or of what was pushed since, was not taken in, and why."""
        self.list.amiss(ConditionState.DEGRADED, LACKING.format(lacking), at)
        return self._turned(at)

    def list_failed(self, error: UpstreamError, at: float, *, next_at: float | None = None) -> bool:
        """Record that a list failed; the next other call tells whether it fails alone, unless that is known already.

        next_at: when the next is made.
        """
        self.list.next_try_at = next_at
        if not self.failing and (self.list.state.is_amiss or silences(error)):
            self._blame_list(error, at)
        elif not self.failing:
            self.accused = error
        return self._turned(at)

    def list_unwanted(self, at: float) -> bool:
        """Forget what is known of the list: nobody wants one, so none is made that could tell."""
        self.accused = None
        self.list.unheard(at)
        return self._turned(at)

    def push_lost(self, why: str, at: float, *, next_at: float | None = None, steady_s: float | None = None) -> bool:
        """Record that the push connection broke (why), or that it came back or is not wanted any more (empty).

        next_at: when the next is tried. steady_s: how long that has to last to be well, if that is news.
        """
        self.broken, self.pushes = why, not why
        self.push.next_try_at = next_at
        self.push.steady_s = self.push.steady_s if steady_s is None else steady_s
        if not why:
            if self.push.on_and_off:
                self.push.failed_at = at  # while there was no connection, none was steady
            self.push.well(at)
        elif self.push.state.is_amiss:
            self._blame_push(why, at)
        return self._turned(at)

    def store_lost(self, why: str, at: float) -> bool:
        """Record that our store cannot keep what the source says (why), or that it can again (empty)."""
        if why:
            self.store.amiss(ConditionState.DEGRADED, NOT_KEPT.format(why), at)
        else:
            self.store.well(at)
        return self._turned(at)

    # How that counts -------------------------------------------------------------------------------------------------

    def _steady(self, state: ConditionState) -> ConditionState:
        """Return the state to tell: a source that fails in several ways at a time does not change between them.

        It goes from UNREACHABLE to DEGRADED once FAILURES_TO_BE_GONE tries in a row say so.
        """
        milder = state is ConditionState.DEGRADED and self.reads.state is ConditionState.UNREACHABLE
        self.milder = self.milder + 1 if milder else 0
        return ConditionState.UNREACHABLE if milder and self.milder < FAILURES_TO_BE_GONE else state

    def _blame_list(self, error: UpstreamError, at: float) -> None:
        self.accused = None
        self.list.missed(at)
        at_once = isinstance(error, Refused | Throttled) or silences(error)
        seldom = self.list.failures < FAILURES_TO_TURN and not at_once
        if not (self.list.state is ConditionState.HEALTHY and seldom):
            self.list.amiss(ConditionState.DEGRADED, NOT_LISTED.format(error), at)

    def _blame_push(self, why: str, at: float) -> None:
        self.broken = ""
        self.push.amiss(ConditionState.DEGRADED, NOT_PUSHED.format(why), at)

    def _turned(self, at: float) -> bool:
        """Note what the concerns come to; another text of the same trouble can be read, and is no news."""
        condition, before = self.condition, (self.state, self._told)
        self._told = frozenset(each.concern for each in shown(condition.concerns))
        if condition.state is not self.state:
            self.state, self.since = condition.state, at
        return (self.state, self._told) != before
