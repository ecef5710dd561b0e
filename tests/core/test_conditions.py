"""A source's condition, from how its calls end."""

from __future__ import annotations

import pytest

from assetwatchd.conditions import Health
from assetwatchd.errors import AssetRejected, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model import Condition, ConditionState


def fresh() -> Health:
    """A source not asked yet."""
    return Health(Condition(ConditionState.UNKNOWN, "not asked yet", 0.0))


def healthy() -> Health:
    """A source that was reached at 1."""
    health = fresh()
    assert health.succeeded(1.0)
    return health


def test_a_success_makes_it_healthy_once() -> None:
    """The first success is news, later ones only move the time of the last."""
    health = healthy()
    assert not health.succeeded(5.0)
    assert health.condition == Condition(ConditionState.HEALTHY, "", 1.0, 5.0)


def test_the_first_failure_of_all_is_news() -> None:
    """A source that was never reached need not fail three times."""
    health = fresh()
    assert health.failed(Unreachable("no"), 2.0)
    assert health.condition == Condition(ConditionState.UNREACHABLE, "no", 2.0, None)


def test_the_third_failure_in_a_row_is_news() -> None:
    """Two are not, and a success between begins the count anew."""
    health = healthy()
    assert [health.failed(Unreachable("no"), at) for at in (2.0, 3.0)] == [False, False]
    health.succeeded(4.0)
    assert [health.failed(Unreachable("no"), at) for at in (5.0, 6.0, 7.0)] == [False, False, True]
    assert health.failing
    assert health.condition == Condition(ConditionState.UNREACHABLE, "no", 7.0, 4.0)


@pytest.mark.parametrize(
    ("error", "state"),
    [(Refused("no"), ConditionState.REFUSED), (Throttled("slow"), ConditionState.DEGRADED)],
    ids=["refused", "throttled"],
)
def test_some_are_news_at_once(error: UpstreamError, state: ConditionState) -> None:
    """What the upstream says about all our calls needs no second one."""
    health = healthy()
    assert health.failed(error, 2.0)
    assert health.condition.state is state


def test_another_text_is_kept_and_is_no_news() -> None:
    """While failing, another reason of the same state can be read and is not told; since stays when the state began."""
    health = fresh()
    health.failed(Unreachable("refused"), 2.0)
    assert not health.failed(Unreachable("refused"), 3.0)
    assert not health.failed(Unreachable("no route"), 4.0)
    assert (health.condition.since, health.condition.message) == (2.0, "no route")
    assert health.failed(BadAnswer("not JSON"), 5.0)
    assert health.condition == Condition(ConditionState.DEGRADED, "not JSON", 5.0, None)


def test_a_rejected_asset_is_a_sign_of_life() -> None:
    """An upstream that will not speak about one asset is there."""
    health = fresh()
    assert health.failed(AssetRejected("HTTP 400"), 2.0)
    assert health.condition.state is ConditionState.HEALTHY
    health.failed(Refused("HTTP 401"), 3.0)
    health.failed(AssetRejected("HTTP 400"), 4.0)
    assert not health.failing


def test_one_asset_alone_is_suspect() -> None:
    """An asset that fails again does not count against its source, and asks for a sign of life to decide."""
    health = healthy()
    for at in range(2, 12):
        assert not health.failed(Unreachable("HTTP 500"), float(at), asked=["a"])
    assert health.suspect
    assert not health.failed(Unreachable("no"), 20.0)
    assert health.failed(Unreachable("no"), 21.0)


def test_three_assets_are_not() -> None:
    """Different assets that fail in a row turn the source, and the same ones keep it there."""
    health = healthy()
    turned = [health.failed(Unreachable("HTTP 500"), 2.0, asked=[asset]) for asset in ("a", "b", "c", "a", "b")]
    assert turned == [False, False, True, False, False]
    assert not health.suspect


def test_pushes_lost_and_back() -> None:
    """A source that is only polled is degraded, through calls that succeed, until pushes are back."""
    health = healthy()
    assert not health.push_lost("reset", 2.0)
    assert health.succeeded(3.0)
    assert health.condition.state is ConditionState.DEGRADED
    assert health.condition.message == "changes are not pushed, polling instead: reset"
    assert health.push_lost("", 4.0)
    assert health.condition == Condition(ConditionState.HEALTHY, "", 4.0, 3.0)


def test_pushes_lost_while_failing() -> None:
    """A source that fails altogether says that first, and that it is polled once it answers again."""
    health = healthy()
    health.failed(Refused("HTTP 401"), 2.0)
    assert not health.push_lost("reset", 3.0)
    assert health.condition.message == "HTTP 401"
    assert health.succeeded(4.0)
    assert health.condition.state is ConditionState.DEGRADED


def test_a_store_that_cannot_keep_degrades_what_is_well() -> None:
    """A source that answers is DEGRADED while its statuses cannot be kept; a failing one stays as it is."""
    health = Health(Condition(ConditionState.UNKNOWN, "", 0.0))
    assert not health.store_lost("no space is left", 1.0)
    health.succeeded(2.0)
    assert (health.condition.state, health.condition.message) == (
        ConditionState.DEGRADED,
        "statuses cannot be kept: no space is left",
    )
    assert health.store_lost("", 3.0)
    assert health.condition.state is ConditionState.HEALTHY
    assert health.store_lost("no space is left", 4.0)
    health.failed(Refused("no"), 5.0)
    assert not health.store_lost("", 6.0)
    assert health.condition.state is ConditionState.REFUSED
