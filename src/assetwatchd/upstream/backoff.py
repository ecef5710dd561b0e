"""Computes pauses after failures. Pure: takes settings and a random generator, returns seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from assetwatchd.settings.schema import SourceSettings

EXPONENT_MAX = 32
"""Doubling beyond this changes nothing: any ceiling is reached long before."""


def backoff_s(failures: int, settings: SourceSettings, rng: random.Random) -> float:
    """Return a pause after that many failures in a row: full jitter below a doubling, bounded ceiling."""
    # Full jitter, from 0: sources that failed together, as at a restart of their server, do not come back together.
    ceiling = min(settings.backoff_max_s, settings.backoff_first_s * 2 ** min(failures - 1, EXPONENT_MAX))
    return rng.uniform(0, ceiling)


def refused_backoff_s(refusals: int, settings: SourceSettings, rng: random.Random) -> float:
    """Return a pause after credentials were refused that often in a row: doubling from the longest other pause.

    Never less than half of its ceiling, where others may be as good as none: accounts are locked by a few tries.
    """
    ceiling = min(settings.refused_backoff_max_s, settings.backoff_max_s * 2 ** min(refusals - 1, EXPONENT_MAX))
    return rng.uniform(ceiling / 2, ceiling)
