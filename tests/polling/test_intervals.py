"""Pure decisions about when."""

from __future__ import annotations

import random

import pytest

from assetwatchd.model.values import SETTLED, State
from assetwatchd.polling import intervals
from assetwatchd.settings.schema import SourceSettings
from assetwatchd.upstream import backoff

pytestmark = pytest.mark.unit

SETTINGS = SourceSettings.model_validate({"base_url": "http://fake.test"})


@pytest.mark.parametrize("state", list(State))
def test_intervals_are_bounded(state: State) -> None:
    """Whatever the state and however calm, the interval is between the busy and the settled one, and never shrinks."""
    lengths = [intervals.interval_s(state, calm, SETTINGS) for calm in range(2000)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 2
    assert lengths[-1] == 60
    assert (lengths[10] == 60) is (state in SETTLED)


def test_an_asset_never_read_is_busy() -> None:
    """Nothing known is as urgent as something in progress."""
    assert intervals.interval_s(None, 0, SETTINGS) == 2


def test_a_settled_interval_below_the_busy_one() -> None:
    """A busy interval longer than the settled one is taken for both."""
    settings = SETTINGS.model_copy(update={"busy_interval_s": 100.0})
    assert {intervals.interval_s(State.AVAILABLE, calm, settings) for calm in range(50)} == {100.0}


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)])
def test_backoff_is_full_jitter_below_a_ceiling(failures: int, ceiling: float) -> None:
    """Pauses spread over everything from nothing to the ceiling of that many failures."""
    rng = random.Random(1)  # noqa: S311 - jitter, not a secret
    pauses = [backoff.backoff_s(failures, SETTINGS, rng) for _ in range(1000)]
    assert 0 <= min(pauses) < 0.05 * ceiling
    assert 0.95 * ceiling < max(pauses) <= ceiling
    assert 0.45 * ceiling < sum(pauses) / 1000 < 0.55 * ceiling


def test_phases_are_spread_and_lasting() -> None:
    """Names spread evenly, and the same name is at the same place in every process."""
    phases = [intervals.phase(f"omniverse://server/{n}.usd") for n in range(1000)]
    for tenth in range(10):
        assert 60 < sum(tenth / 10 <= phase < (tenth + 1) / 10 for phase in phases) < 140
    assert intervals.phase("a") == pytest.approx(0.7896011073607951)
    assert 0 <= intervals.phase("\ud800") < 1


@pytest.mark.parametrize(("at", "expected"), [(100.0, 100.0), (100.9, 100.0), (101.1, 102.0), (102.0000001, 102.0)])
def test_aligned(at: float, expected: float) -> None:
    """The nearest place on the grid, so that a read a little early or late keeps its round."""
    assert intervals.aligned(at, 2) == expected
