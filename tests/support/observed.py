"""What an upstream was asked about, where the answer must be an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.values import Observation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatchd.upstream.answers import Answer


def observed(answer: Answer) -> Observation:
    """Return an answer that must be an observation."""
    assert isinstance(answer, Observation)
    return answer


def all_observed(answers: Iterable[Answer]) -> list[Observation]:
    """Return answers that must all be observations."""
    return [observed(answer) for answer in answers]
