"""How much of the time rounds take: a pure function of what they cost, and of whether streams begin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed import pace

pytestmark = pytest.mark.unit

COSTS_S = st.floats(0.0, 10.0)


@pytest.mark.parametrize(
    ("worked_s", "joining", "span_s"),
    [
        (0.0, False, 0.0),
        (0.008, False, 0.01),
        (0.12, False, pace.ROUND_S_MAX),
        (5.0, False, pace.ROUND_S_MAX),
        (0.008, True, 0.016),
        (0.12, True, 0.24),
        (0.5, True, pace.ROUND_JOINING_S_MAX),
        (5.0, True, pace.ROUND_JOINING_S_MAX),
    ],
)
def test_a_round_takes_its_share(worked_s: float, joining: bool, span_s: float) -> None:  # noqa: FBT001 - a column
    """A quarter more than it costs, twice that much while streams begin, and never longer than the longest."""
    assert pace.round_s(worked_s, joining=joining) == pytest.approx(span_s)


@given(COSTS_S)
@settings(derandomize=True)
def test_what_is_left_to_others(worked_s: float) -> None:
    """A fifth of the time, half of it while streams begin, as long as rounds are not at their longest."""
    for joining, left, longest_s in (
        (False, 0.2, pace.ROUND_S_MAX),
        (True, 0.5, pace.ROUND_JOINING_S_MAX),
    ):
        span_s = pace.round_s(worked_s, joining=joining)
        assert span_s == longest_s or span_s - worked_s == pytest.approx(left * span_s)


@given(COSTS_S, COSTS_S)
@settings(derandomize=True)
def test_dearer_rounds_are_no_more_frequent(one_s: float, other_s: float) -> None:
    """Nor are those with streams that begin; so newcomers are never worse off for being there."""
    dear, cheap = max(one_s, other_s), min(one_s, other_s)
    for joining in (False, True):
        assert pace.round_s(dear, joining=joining) >= pace.round_s(cheap, joining=joining)
    assert pace.round_s(dear, joining=True) >= pace.round_s(dear, joining=False)


def test_fewer_are_woken_at_a_time_while_streams_begin() -> None:
    """Each of the many steps of a new one waits for those woken before it."""
    assert pace.woken_together(joining=True) == pace.WOKEN_JOINING < pace.WOKEN_TOGETHER
    assert pace.woken_together(joining=False) == pace.WOKEN_TOGETHER
