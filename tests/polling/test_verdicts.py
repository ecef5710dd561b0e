"""What a failed call tells: each rule by itself, and what holds whatever went before."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import (
    AssetRejected,
    BadAnswer,
    Refused,
    Throttled,
    Unreachable,
    UpstreamError,
    VersionUnsupported,
)
from assetwatchd.model.values import ConditionState
from assetwatchd.polling.conditions import Health
from assetwatchd.polling.verdicts import (
    FAILURES_TO_TURN,
    SILENCE_S,
    Blame,
    Failed,
    Pause,
    Verdict,
    decide,
    refuses_us,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

NO = Unreachable("no")
ERRORS = (NO, Refused("no"), VersionUnsupported("no"), Throttled("no"), BadAnswer("no"), AssetRejected("no"))
A, B, C = frozenset("a"), frozenset("b"), frozenset("c")


def healthy() -> Health:
    """A source that was reached."""
    health = Health(0.0, steady_s=30.0)
    health.succeeded(1.0)
    return health


def fail(health: Health, *failures: Failed) -> list[Verdict]:
    """Have calls fail, and the source take that in."""
    verdicts = []
    for at, failed in enumerate(failures, 2):
        verdicts.append(decide(health.standing, failed))
        health.take(verdicts[-1], failed, float(at))
    return verdicts


@pytest.mark.parametrize(
    ("asked", "blamed"),
    [
        ((A, B, C), (Blame.SOURCE, Blame.SOURCE, Blame.SOURCE)),
        ((A, A, A, A), (Blame.SOURCE, Blame.UNCLEAR, Blame.UNCLEAR, Blame.UNCLEAR)),
        ((A, A, B), (Blame.SOURCE, Blame.UNCLEAR, Blame.SOURCE)),
        ((A | B, A, B, C), (Blame.SOURCE, Blame.UNCLEAR, Blame.UNCLEAR, Blame.SOURCE)),
        ((frozenset(), frozenset(), frozenset()), (Blame.SOURCE, Blame.SOURCE, Blame.SOURCE)),
    ],
)
def test_who_failed_before_is_suspected(asked: Sequence[frozenset[str]], blamed: Sequence[Blame]) -> None:
    """A failure counts against the source unless all that was asked for failed before."""
    verdicts = fail(healthy(), *(Failed(NO, each) for each in asked))
    assert tuple(verdict.blame for verdict in verdicts) == tuple(blamed)
    assert verdicts[-1].failing == (blamed.count(Blame.SOURCE) >= FAILURES_TO_TURN)


def test_who_is_known_to_be_bad_is_suspected_at_once() -> None:
    """An asset that is told to be unreadable does not count again after each success of the others."""
    assert decide(healthy().standing, Failed(NO, A, troubled=A)).blame is Blame.UNCLEAR
    assert decide(healthy().standing, Failed(NO, A | B, troubled=A)).blame is Blame.SOURCE


@pytest.mark.parametrize("error", [Refused("no"), Throttled("no"), Unreachable("no", retry_after_s=SILENCE_S + 1)])
def test_what_says_itself_what_is_wrong_is_believed_at_once(error: UpstreamError) -> None:
    """It turns at the first; a sign of life that is refused tells nothing of reads that may go on."""
    assert decide(healthy().standing, Failed(error, A)).failing
    assert decide(healthy().standing, Failed(error, beside=True)).failing == (error.retry_after_s is not None)


def test_a_refusal_of_one_asset_is_confirmed_by_another() -> None:
    """Only once: the second refusal in a row is of us."""
    first, second = fail(healthy(), Failed(Refused("no"), A, others=True), Failed(Refused("no"), B, others=True))
    assert (first.confirm, first.failing) == (True, False)
    assert (second.confirm, second.state) == (False, ConditionState.REFUSED)


def test_a_source_nobody_ever_reached_turns_at_once() -> None:
    """There is nothing that was well."""
    assert decide(Health(0.0, steady_s=30.0).standing, Failed(NO, A)).state is ConditionState.UNREACHABLE


FAILED = st.builds(
    Failed,
    error=st.sampled_from(ERRORS),
    asked=st.sampled_from([frozenset[str](), A, B, C, A | B]),
    trial=st.booleans(),
    beside=st.booleans(),
    others=st.booleans(),
)


@given(st.lists(st.one_of(st.none(), FAILED), max_size=12), FAILED)
def test_what_holds_after_whatever_happened(before: list[Failed | None], failed: Failed) -> None:
    """A decision changes nothing; what follows from it fits together; a rejection is never the source's fault."""
    health = healthy()
    for at, each in enumerate(before, 2):
        if each is None:
            health.succeeded(float(at))
        else:
            health.take(decide(health.standing, each), each, float(at))
    was = copy.deepcopy(health)
    verdict = decide(health.standing, failed)
    assert health == was
    assert (verdict.blame is Blame.ASSETS) == isinstance(failed.error, AssetRejected)
    assert (verdict.pause is Pause.SHORT) == (not verdict.failing)
    assert verdict.state is None or verdict.failing
    assert verdict.charged == (not was.failing)
    assert verdict.reset == failed.trial
    assert not verdict.confirm or refuses_us(failed.error)
    health.take(verdict, failed, 100.0)
    assert health.failing == verdict.failing
    assert not verdict.failing or health.state.is_amiss
