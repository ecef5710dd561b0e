"""What a failed call tells: whose fault it is, and what follows from that. Pure: it decides, and changes nothing.

`decide(standing, failed)` gives a Verdict. Health takes it in (what is told of the source), and so do the calls
(pauses, and what is read next to learn more). Lists and push connections that fail are not for this module: see Health.

An example: a source has assets a, b and c. A read of a fails: 1 of FAILURES_TO_TURN. b is read: the count is 0 again.
Now a fails twice with no success between. The second failure says nothing new (UNCLEAR), so a sign of life is asked
for; it ends well, so a is at fault. Had b and c failed as well as a, that would be 3 failures of different assets: the
source is UNREACHABLE, and tried by one call at a time, with growing pauses.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.errors import AssetRejected, Refused, Throttled, Unreachable, VersionUnsupported
from assetwatchd.model.values import ConditionState

if TYPE_CHECKING:
    from assetwatchd.model.errors import UpstreamError

FAILURES_TO_TURN = 3
"""Calls in a row that must fail before what was well is not: one lost packet is no news."""
FAILURES_TO_BE_GONE = 6
"""As many until a source that answers on and off is UNREACHABLE; between them are pauses that grow."""
GONE_DOUBTS_MAX = 5
"""So often that number doubles, each time that such a source was UNREACHABLE and answered after all: whatever the
mixture of its answers, it turns a few times, and then stays DEGRADED."""
SILENCE_S = 5.0
"""An upstream that asks for a longer silence is believed at its first failure: it is not called meanwhile, so the third
would come later than a source that is down is to be told of (probe_interval_s)."""


class Standing(NamedTuple):
    """What a source's health has of what went before.

    failing, failures, blamed, doubted, silent, doubts: see Health. refuses_us: it refused our credentials.
    comes_and_goes: it answered lately, though not well.
    """

    state: ConditionState
    failing: bool
    failures: int
    blamed: frozenset[str]
    doubted: bool
    refuses_us: bool
    comes_and_goes: bool
    silent: int
    doubts: int


class Blame(Enum):
    """Whose fault a failure is, as far as is known."""

    ASSETS = auto()
    """The source is well: it spoke about the assets asked for."""
    UNCLEAR = auto()
    """The assets asked for failed before, so it may be theirs: only a sign of life can tell."""
    SOURCE = auto()
    """Nothing says that it is not the source's, against which it counts."""


class Pause(Enum):
    """What a failure does to the pauses between calls."""

    SHORT = auto()
    """The source does not fail: they begin with the shortest."""
    AS_LONG = auto()
    """A call that began before the source failed is no further try: they stay as they are."""
    LONGER = auto()
    """One more try has failed."""


class Failed(NamedTuple):
    """A read, or a sign of life, that failed.

    asked: the assets that it was for; none: a sign of life. troubled: some of them that are told to be unreadable.
    trial: it was chosen while the source was failing, to see whether it is back.
    beside: something else runs, or is due, that may tell more. others: another asset can be asked about that could be
    read when it was last.
    """

    error: UpstreamError
    asked: frozenset[str] = frozenset()
    troubled: frozenset[str] = frozenset()
    trial: bool = False
    beside: bool = False
    others: bool = False


class Verdict(NamedTuple):
    """What follows from a failed call.

    failing: from now on (or still) the source fails. state: what it is by this error; None: what it was.
    given_up: see Health. confirm: a read of another asset is to tell whether we are refused that one or all.
    charged: it counts against the assets asked for, too. reset: what was counted against any since the last success is
    taken back: a trial has failed as well, so it was the source.
    """

    blame: Blame
    failing: bool
    pause: Pause
    state: ConditionState | None = None
    given_up: bool = False
    confirm: bool = False
    charged: bool = True
    reset: bool = False


def decide(standing: Standing, failed: Failed) -> Verdict:
    """Return what a failed call tells of a source, and of the assets it was for."""
    charged, reset = not standing.failing, failed.trial
    if isinstance(failed.error, AssetRejected):
        return Verdict(Blame.ASSETS, failing=False, pause=Pause.SHORT, charged=charged, reset=reset)
    blame = _blame(standing, failed)
    confirm = failed.others and _only_refused(standing, failed.error)
    believed = not confirm and (standing.failing or _believed(standing, failed, blame))
    failing = standing.failing or believed
    longer = failed.trial or not standing.failing
    given_up = believed and _given_up(standing)
    return Verdict(
        blame,
        failing=failing,
        pause=Pause.SHORT if not failing else Pause.LONGER if longer else Pause.AS_LONG,
        state=_state(standing, failed.error, given_up=given_up) if believed else None,
        given_up=given_up,
        confirm=confirm,
        charged=charged,
        reset=reset,
    )


def _blame(standing: Standing, failed: Failed) -> Blame:
    """Say whose fault it is. A sign of life may want no credentials: it shows nothing of those that were refused."""
    again = bool(failed.asked) and failed.asked <= standing.blamed | failed.troubled
    may_tell = standing.failures < FAILURES_TO_TURN and not standing.refuses_us
    return Blame.UNCLEAR if again and may_tell else Blame.SOURCE


def _only_refused(standing: Standing, error: UpstreamError) -> bool:
    """Whether one asset may be forbidden to us, or some: not known yet of a source that can be read."""
    return refuses_us(error) and not standing.doubted and standing.state.is_readable


def _believed(standing: Standing, failed: Failed, blame: Blame) -> bool:
    """Whether a failure is enough to take the source for failing.

    At once, where nothing good was heard of it, or it says itself what is wrong; but not for a sign of life alone while
    something else can be asked: reads may be fine all the same.
    """
    error = failed.error
    if silences(error) or standing.failures + (blame is Blame.SOURCE) >= FAILURES_TO_TURN:
        return True
    if not failed.asked and failed.beside and not isinstance(error, VersionUnsupported):
        return False
    return standing.state is ConditionState.UNKNOWN or isinstance(error, Refused | Throttled)


def _given_up(standing: Standing) -> bool:
    """Whether a source that came and went lately has failed too often since."""
    return standing.comes_and_goes and standing.silent + 1 >= FAILURES_TO_BE_GONE << standing.doubts


def _state(standing: Standing, error: UpstreamError, *, given_up: bool) -> ConditionState:
    if isinstance(error, Refused):
        return ConditionState.REFUSED
    there = standing.comes_and_goes and not given_up
    return ConditionState.UNREACHABLE if isinstance(error, Unreachable) and not there else ConditionState.DEGRADED


def silences(error: UpstreamError) -> bool:
    """Whether an error has us ask nothing of its source for so long that nothing else could tell how that is."""
    return (error.retry_after_s or 0.0) > SILENCE_S


def refuses_us(error: UpstreamError) -> bool:
    """Whether an error is about our credentials, so that each further try may lock an account."""
    return isinstance(error, Refused) and not isinstance(error, VersionUnsupported)
