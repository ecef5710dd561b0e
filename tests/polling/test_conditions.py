"""A source's condition, from how its calls end: concern by concern, and what they come to."""

from __future__ import annotations

import itertools
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
from assetwatchd.model.values import Concern, ConcernCondition, ConditionState
from assetwatchd.polling.conditions import Health
from assetwatchd.polling.verdicts import FAILURES_TO_BE_GONE, FAILURES_TO_TURN, Failed, decide

if TYPE_CHECKING:
    from collections.abc import Collection

pytestmark = pytest.mark.unit

STEADY_S = 30.0
ERRORS = (Unreachable("no"), Refused("no"), VersionUnsupported("no"), Throttled("no"), BadAnswer("no"))


def fresh() -> Health:
    """A source not asked yet."""
    return Health(0.0, steady_s=STEADY_S)


def healthy() -> Health:
    """A source that was reached at 1."""
    health = fresh()
    assert health.succeeded(1.0)
    return health


def failed(health: Health, error: UpstreamError, at: float, *, asked: Collection[str] = ()) -> bool:
    """A call for these assets, or for none, fails; whether the condition turned."""
    failure = Failed(error, frozenset(asked))
    return health.take(decide(health.standing, failure), failure, at)


def said(health: Health) -> tuple[ConditionState, str]:
    """The state and the message of a condition."""
    return health.condition.state, health.condition.message


def times(health: Health) -> tuple[float, float | None]:
    """Since when the state is so, and when a call last ended well."""
    return health.condition.since, health.condition.last_success_at


def concern(health: Health, which: Concern) -> ConcernCondition | None:
    """How one concern is doing; None when nothing was heard of it."""
    return next((each for each in health.condition.concerns if each.concern is which), None)


def test_a_success_makes_it_healthy_once() -> None:
    """The first success is news, later ones only move the time of the last."""
    health = healthy()
    assert not health.succeeded(5.0)
    assert said(health) == (ConditionState.HEALTHY, "")
    assert times(health) == (1.0, 5.0)


def test_the_first_failure_of_all_is_news() -> None:
    """A source that was never reached need not fail three times."""
    health = fresh()
    assert failed(health, Unreachable("no"), 2.0)
    assert said(health) == (ConditionState.UNREACHABLE, "no")
    assert times(health) == (2.0, None)


def test_the_third_failure_in_a_row_is_news() -> None:
    """Two are not, and a success between begins the count anew."""
    health = healthy()
    assert [failed(health, Unreachable("no"), at) for at in (2.0, 3.0)] == [False, False]
    health.succeeded(4.0)
    assert [failed(health, Unreachable("no"), at) for at in (5.0, 6.0, 7.0)] == [False, False, True]
    assert health.failing
    assert said(health) == (ConditionState.UNREACHABLE, "no")
    assert times(health) == (7.0, 4.0)


@pytest.mark.parametrize(
    ("error", "state", "which"),
    [
        (Refused("no"), ConditionState.REFUSED, Concern.CREDENTIALS),
        (VersionUnsupported("no"), ConditionState.REFUSED, Concern.READS),
        (Throttled("slow"), ConditionState.DEGRADED, Concern.READS),
    ],
    ids=["refused", "version", "throttled"],
)
def test_some_are_news_at_once(error: UpstreamError, state: ConditionState, which: Concern) -> None:
    """What the upstream says about all our calls needs no second one."""
    health = healthy()
    assert failed(health, error, 2.0)
    assert health.condition.state is state
    told = concern(health, which)
    assert told is not None
    assert (told.state, told.since) == (state, 2.0)


def test_another_text_is_kept_and_is_no_news() -> None:
    """While failing, another reason of the same state can be read and is not told; since stays when the state began."""
    health = fresh()
    failed(health, Unreachable("refused"), 2.0)
    assert not failed(health, Unreachable("refused"), 3.0)
    assert not failed(health, Unreachable("no route"), 4.0)
    assert (health.condition.since, health.condition.message) == (2.0, "no route")


def test_a_source_that_fails_in_several_ways_is_told_once() -> None:
    """It is what is worse, until FAILURES_TO_BE_GONE tries in a row say that it answers after all."""
    health, seconds = fresh(), itertools.count(2.0)
    failed(health, Unreachable("refused"), next(seconds))
    for _ in range(3):
        for _ in range(FAILURES_TO_BE_GONE - 1):
            assert not failed(health, BadAnswer("not JSON"), next(seconds))
            assert said(health) == (ConditionState.UNREACHABLE, "not JSON")
        assert not failed(health, Unreachable("refused"), next(seconds))
    told = [failed(health, BadAnswer("not JSON"), next(seconds)) for _ in range(FAILURES_TO_BE_GONE)]
    assert told == [*[False] * (FAILURES_TO_BE_GONE - 1), True]
    assert said(health) == (ConditionState.DEGRADED, "not JSON")
    assert times(health) == (next(seconds) - 1, None)


def test_what_came_last_tells_whether_the_credentials_are_meant() -> None:
    """A source is refused or unreachable, as its last failure says; of the other concern nothing is claimed then."""
    health = healthy()
    failed(health, Refused("HTTP 401"), 2.0)
    assert concern(health, Concern.READS) is None
    assert failed(health, Unreachable("no route"), 3.0)
    assert said(health) == (ConditionState.UNREACHABLE, "no route")
    assert concern(health, Concern.CREDENTIALS) is None


def test_a_rejected_asset_is_a_sign_of_life() -> None:
    """An upstream that will not speak about one asset is there."""
    health = fresh()
    assert failed(health, AssetRejected("HTTP 400"), 2.0)
    assert health.condition.state is ConditionState.HEALTHY
    failed(health, Refused("HTTP 401"), 3.0)
    failed(health, AssetRejected("HTTP 400"), 4.0)
    assert not health.failing


def test_one_asset_alone_is_suspect() -> None:
    """An asset that fails again does not count against its source, and asks for a sign of life to decide."""
    health = healthy()
    for at in range(2, 12):
        assert not failed(health, Unreachable("HTTP 500"), float(at), asked=["a"])
    assert health.suspect
    assert not failed(health, Unreachable("no"), 20.0)
    assert failed(health, Unreachable("no"), 21.0)


def test_three_assets_are_not() -> None:
    """Different assets that fail in a row turn the source, and the same ones keep it there."""
    health = healthy()
    turned = [failed(health, Unreachable("HTTP 500"), 2.0, asked=[asset]) for asset in ("a", "b", "c", "a", "b")]
    assert turned == [False, False, True, False, False]
    assert not health.suspect


def test_a_list_that_fails_beside_reads_that_do_not() -> None:
    """The third failed list is news, once something else went well after it; reads between clear nothing of it."""
    health = healthy()
    health.listed(2.0)
    turned = []
    for at in (3.0, 4.0, 5.0, 6.0):
        assert not health.list_failed(Unreachable("HTTP 500"), at) or health.list.state.is_amiss
        turned.append(health.succeeded(at + 0.5))
    assert turned == [False, False, True, False]
    assert said(health) == (ConditionState.DEGRADED, "cannot be listed: HTTP 500")
    assert times(health) == (5.5, 6.5)
    told = concern(health, Concern.LIST)
    assert told is not None
    assert (told.since, told.last_success_at) == (5.5, 2.0)
    assert health.listed(40.0)
    assert said(health) == (ConditionState.HEALTHY, "")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_first_list_of_all_that_fails(error: UpstreamError) -> None:
    """A source that was never listed is said to be unlistable once it is heard that it answers; it stays readable."""
    health = fresh()
    assert not health.list_failed(error, 1.0)
    assert health.condition.state is ConditionState.UNKNOWN
    assert health.succeeded(2.0)
    assert said(health) == (ConditionState.DEGRADED, "cannot be listed: no")


def test_a_list_that_fails_with_its_source() -> None:
    """It is not blamed for what all calls do, and not blamed later for what it did then."""
    health = fresh()
    health.list_failed(Unreachable("no"), 1.0)
    assert failed(health, Unreachable("no"), 2.0)
    assert said(health) == (ConditionState.UNREACHABLE, "no")
    health.succeeded(3.0)
    assert said(health) == (ConditionState.HEALTHY, "")
    assert concern(health, Concern.LIST) is None


def test_a_list_that_is_not_complete() -> None:
    """It is told what is lacking, and that it is no more; the list was had all the same."""
    health = healthy()
    assert health.listed(2.0, lacking="3 assets beyond assets_max = 7")
    assert said(health) == (
        ConditionState.DEGRADED,
        "cannot be listed completely: 3 assets beyond assets_max = 7",
    )
    assert not health.listed(3.0, lacking="4 assets beyond assets_max = 7")
    assert health.condition.last_success_at == 3.0
    assert health.listed(60.0)


def test_a_list_that_nobody_wants_any_more() -> None:
    """What no list can mend, as none is made, is not told for ever."""
    health = fresh()
    health.list_failed(BadAnswer("no id"), 1.0)
    health.succeeded(2.0)
    assert health.list_unwanted(300.0)
    assert said(health) == (ConditionState.HEALTHY, "")


def test_pushes_lost_and_back() -> None:
    """A source that is only polled is degraded, through calls that succeed, until pushes are back."""
    health = healthy()
    assert not health.push_lost("reset", 2.0)
    assert health.succeeded(3.0)
    assert said(health) == (ConditionState.DEGRADED, "changes are not pushed, polling instead: reset")
    assert health.push_lost("", 4.0)
    assert said(health) == (ConditionState.HEALTHY, "")
    assert times(health) == (4.0, 3.0)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=3, max_size=60))
def test_pushes_on_and_off(connections: list[tuple[float, float]]) -> None:
    """A connection that never lasts is told once, however often it is made, and taken back once one has lasted."""
    health, at, turns = healthy(), 2.0, 0
    for lasted_s, pause_s in connections:
        turns += health.push_lost("", at)
        at += lasted_s
        turns += health.push_lost("closed with code 1013", at) + health.succeeded(at)
        at += pause_s
    health.push_lost("", at)
    assert turns <= 3
    assert said(health)[1] == "on and off: changes are not pushed, polling instead: closed with code 1013"
    assert not health.succeeded(at + STEADY_S / 3)
    assert health.succeeded(at + STEADY_S)
    assert said(health) == (ConditionState.HEALTHY, "")


def test_no_connection_is_not_a_steady_one() -> None:
    """Time without a connection does not count as time in which it held."""
    health = healthy()
    health.push_lost("reset", 2.0)
    health.succeeded(2.0)
    health.push_lost("", 3.0)
    for at in (4.0, 4.0 + 2 * STEADY_S, 4.0 + 5 * STEADY_S):
        health.push_lost("reset", at)
        health.succeeded(at)
        assert not health.push_lost("", at + 2 * STEADY_S - 1)
        assert not health.succeeded(at + 2 * STEADY_S - 1)
    assert health.succeeded(4.0 + 8 * STEADY_S)
    assert health.condition.state is ConditionState.HEALTHY


def test_pushes_lost_while_failing() -> None:
    """A source that fails altogether says that first, and that it is polled once it answers again."""
    health = healthy()
    failed(health, Refused("HTTP 401"), 2.0)
    assert not health.push_lost("reset", 3.0)
    assert health.condition.message == "HTTP 401"
    assert health.succeeded(4.0)
    assert health.condition.state is ConditionState.DEGRADED


def test_pushes_gone_while_lists_fail() -> None:
    """Both are said, each turn of one is news, and each is taken back by itself."""
    health = healthy()
    health.push_lost("reset", 2.0)
    assert health.succeeded(3.0)
    health.list_failed(BadAnswer("no id"), 4.0)
    assert health.succeeded(5.0)
    message = "cannot be listed: no id; changes are not pushed, polling instead: reset"
    assert said(health) == (ConditionState.DEGRADED, message)
    assert health.condition.since == 3.0
    assert health.listed(6.0)
    assert health.condition.message == "changes are not pushed, polling instead: reset"


def test_a_store_that_cannot_keep_degrades_what_is_well() -> None:
    """A source that answers is DEGRADED while its statuses cannot be kept; a failing one stays as it is."""
    health = fresh()
    assert not health.store_lost("no space is left", 1.0)
    health.succeeded(2.0)
    assert said(health) == (ConditionState.DEGRADED, "statuses cannot be kept: no space is left")
    assert health.store_lost("", 3.0)
    assert health.condition.state is ConditionState.HEALTHY
    assert health.store_lost("no space is left", 4.0)
    failed(health, Refused("no"), 5.0)
    assert not health.store_lost("", 6.0)
    assert said(health)[0] is ConditionState.REFUSED


def down_and_up(health: Health, at: float) -> list[bool]:
    """Fail three times, then succeed; return which of that was news."""
    turned = [failed(health, Unreachable("no"), at + n) for n in range(FAILURES_TO_TURN)]
    return [*turned, health.succeeded(at + FAILURES_TO_TURN)]


def test_on_and_off() -> None:
    """What is down again so soon is DEGRADED, on and off, until it did not fail for a while; that is told once."""
    health = healthy()
    assert down_and_up(health, 2.0) == [False, False, True, True]
    assert down_and_up(health, 8.0) == [False, False, True, True]
    assert said(health) == (ConditionState.DEGRADED, "on and off: no")
    for at in range(14, 200, 6):
        assert not any(down_and_up(health, float(at)))
    assert health.succeeded(200.0 + STEADY_S)
    assert said(health) == (ConditionState.HEALTHY, "")


def test_on_and_off_and_then_gone() -> None:
    """After more failures than on and off explains, it is UNREACHABLE all the same."""
    health = healthy()
    down_and_up(health, 2.0)
    down_and_up(health, 8.0)
    turned = [failed(health, Unreachable("no"), 20.0 + n) for n in range(FAILURES_TO_BE_GONE)]
    assert turned == [*[False] * (FAILURES_TO_BE_GONE - 1), True]
    assert said(health) == (ConditionState.UNREACHABLE, "no")


EVENTS = st.one_of(
    st.just(("succeeded", None)),
    st.tuples(st.just("failed"), st.sampled_from(ERRORS)),
    st.tuples(st.just("failed_asset"), st.sampled_from(ERRORS)),
    st.just(("listed", None)),
    st.tuples(st.just("list_failed"), st.sampled_from(ERRORS)),
    st.tuples(st.sampled_from(["push_lost", "store_lost"]), st.sampled_from(["", "why"])),
)


def happen(health: Health, event: str, given: object, at: float) -> bool:
    """Tell a source's health of something; return whether it turned."""
    if event in {"failed", "failed_asset"}:
        assert isinstance(given, UpstreamError)
        return failed(health, given, at, asked=["a"] * (event == "failed_asset"))
    turned = getattr(health, event)(at) if given is None else getattr(health, event)(given, at)
    assert isinstance(turned, bool)
    return turned


@given(st.lists(st.tuples(EVENTS, st.floats(0.01, 20)), max_size=60))
def test_whatever_happens(history: list[tuple[tuple[str, object], float]]) -> None:
    """It is told exactly when the state or what is amiss changes; the condition says all that is amiss and readable."""
    health, at = fresh(), 0.0
    before: tuple[ConditionState, frozenset[Concern]] = (ConditionState.UNKNOWN, frozenset())
    for (event, value), pause_s in history:
        at += pause_s
        turned = happen(health, event, value, at)
        condition = health.condition
        amiss = [each for each in condition.concerns if each.state.is_amiss]
        shown = frozenset(each.concern for each in amiss if each.message in condition.message)
        if condition.state is ConditionState.UNKNOWN:
            assert not turned
            continue
        assert turned == ((condition.state, shown) != before)
        before = (condition.state, shown)
        assert condition.state.is_amiss == bool(amiss) == bool(condition.message)
        assert not condition.readable or shown == {each.concern for each in amiss}
        assert condition.since <= at
        assert all(each.since <= at for each in condition.concerns)


@given(st.lists(st.booleans(), max_size=200), st.floats(0.01, 3))
def test_no_flapping(outcomes: list[bool], pause_s: float) -> None:
    """However lists go well and not, a second apart or so, there is no more than a turn every STEADY_S, and three."""
    health, turns = healthy(), 0
    health.listed(1.0)
    for n, well in enumerate(outcomes):
        at = 2.0 + n * pause_s
        turned = health.listed(at) if well else health.list_failed(Unreachable("no"), at)
        turns += turned + health.succeeded(at)
    assert turns <= 4 + 2 * len(outcomes) * pause_s / STEADY_S


@given(st.lists(st.tuples(EVENTS, st.floats(0.01, 20)), max_size=40))
def test_to_go_on_from_what_was_told_is_no_news(history: list[tuple[tuple[str, object], float]]) -> None:
    """Whoever asks the source next begins with the condition it finds; how the last one's store was is not of that."""
    health, at = fresh(), 0.0
    for (event, value), pause_s in history:
        at += pause_s
        happen(health, event, value, at)
    next_one, found = Health(at, steady_s=STEADY_S), health.condition
    turned = next_one.begin_with(found)
    kept = [each for each in found.concerns if each.concern is not Concern.STORE]
    begun = next_one.condition
    assert [each.state for each in begun.concerns] == [each.state for each in kept]
    assert [each.message for each in begun.concerns] == [each.message for each in kept]
    if len(kept) == len(found.concerns):
        assert not turned
        assert (begun.state, begun.message, begun.since) == (found.state, found.message, found.since)
        assert begun.last_success_at == found.last_success_at
    elif not turned:
        assert begun.state is found.state
    assert next_one.failing or begun.state in {ConditionState.UNKNOWN, ConditionState.HEALTHY, ConditionState.DEGRADED}


def test_what_was_unreachable_before_is_news_once_it_is_read() -> None:
    """A source that was down for whoever asked it before is told to be well at the first success."""
    health = healthy()
    for at in range(FAILURES_TO_TURN):
        failed(health, Unreachable("no"), 2.0 + at)
    next_one = fresh()
    assert not next_one.begin_with(health.condition)
    assert next_one.standing.failing
    assert next_one.succeeded(9.0)
    assert said(next_one) == (ConditionState.HEALTHY, "")
