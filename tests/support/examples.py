"""How many examples the property tests run: some in every run, in `make soak` as many as were asked for, or more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Mapping

SOAK = "nightly"
"""The profile of hypothesis that runs them for long: pytest --hypothesis-profile=nightly."""


class Examples(NamedTuple):
    """How many, and of how many steps where a machine makes them: in every run, and in `make soak`."""

    often: int
    soak: int
    steps: int = 50
    soak_steps: int = 50


EXAMPLES: Mapping[str, Examples] = {
    "the core": Examples(240, 5000, 50, 100),
    "the service": Examples(8, 100, 25, 40),
    "the client's map": Examples(150, 2000, 40, 40),
    "ranges": Examples(40, 2000),
    "reads, lists and pushes": Examples(20, 500),
    "lives of a target": Examples(100, 5000),
    "unreadable assets": Examples(40, 1000),
    "complete or not": Examples(40, 1000),
}


def bounded(name: str) -> settings:
    """Return how long one of them runs: the same examples in every run; in `make soak` others, and more."""
    soak = settings.get_current_profile_name() == SOAK
    examples = EXAMPLES[name]
    return settings(
        max_examples=examples.soak if soak else examples.often,
        stateful_step_count=examples.soak_steps if soak else examples.steps,
        deadline=None,
        derandomize=not soak,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
