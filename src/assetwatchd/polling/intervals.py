"""When an asset is read next: pure decisions, seconds in and out."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from assetwatchd.model.values import SETTLED

if TYPE_CHECKING:
    import random

    from assetwatchd.model.values import State
    from assetwatchd.settings.schema import SourceSettings

PATIENCE = 30
"""Unchanged reads of an asset in progress before its interval grows too: a stuck job must not cost for ever."""
EXPONENT_MAX = 32
PHASES = 2**32


def interval_s(state: State | None, calm: int, settings: SourceSettings) -> float:
    """Return how long to leave an asset alone; calm counts the reads in a row that found nothing new.

    In progress: the busy interval. Settled, or stuck: twice as long after each such read, up to the settled interval.
    """
    shortest = settings.busy_interval_s
    waited = calm if state in SETTLED else calm - PATIENCE
    if waited <= 0:
        return float(shortest)
    longest = max(settings.settled_interval_s, shortest)
    return float(min(longest, shortest * 2 ** min(waited, EXPONENT_MAX)))


def backoff_s(failures: int, settings: SourceSettings, rng: random.Random) -> float:
    """Return a pause after that many failures in a row: full jitter below a doubling, bounded ceiling."""
    ceiling = min(settings.backoff_max_s, settings.backoff_first_s * 2 ** min(failures - 1, EXPONENT_MAX))
    return rng.uniform(0, ceiling)


def refused_backoff_s(refusals: int, settings: SourceSettings, rng: random.Random) -> float:
    """Return a pause after credentials were refused that often in a row: doubling from the longest other pause.

    Never less than half of its ceiling, where others may be as good as none: accounts are locked by a few tries.
    """
    ceiling = min(settings.refused_backoff_max_s, settings.backoff_max_s * 2 ** min(refusals - 1, EXPONENT_MAX))
    return rng.uniform(ceiling / 2, ceiling)


def phase(name: str) -> float:
    """Return a fraction in [0, 1) that belongs to the name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=4).digest()) / PHASES


def aligned(at: float, grid_s: float) -> float:
    """Return the nearest multiple of grid_s, so that assets of one interval fall due together and fill a batch."""
    return math.floor(at / grid_s + 0.5) * grid_s
