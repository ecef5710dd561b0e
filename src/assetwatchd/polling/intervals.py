"""When an asset is read next: pure decisions, seconds in and out."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from assetwatchd.model.values import SETTLED
from assetwatchd.upstream.backoff import EXPONENT_MAX

if TYPE_CHECKING:
    from assetwatchd.model.values import State
    from assetwatchd.settings.schema import SourceSettings

PATIENCE = 30
"""Unchanged reads of an asset in progress before its interval grows too: a stuck job must not cost for ever."""
PHASES = 2**32


def interval_s(state: State | None, unchanged_reads: int, settings: SourceSettings) -> float:
    """Return how long to leave an asset alone; unchanged_reads counts the reads in a row that found nothing new.

    In progress: the busy interval. Settled, or stuck: twice as long after each such read, up to the settled interval.
    """
    shortest = settings.busy_interval_s
    waited = unchanged_reads if state in SETTLED else unchanged_reads - PATIENCE
    if waited <= 0:
        return float(shortest)
    longest = max(settings.settled_interval_s, shortest)
    return float(min(longest, shortest * 2 ** min(waited, EXPONENT_MAX)))


def phase(name: str) -> float:
    """Return a fraction in [0, 1) that belongs to the name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=4).digest()) / PHASES


def aligned(at: float, grid_s: float) -> float:
    """Return the nearest multiple of grid_s, so that assets of one interval fall due together and fill a batch."""
    return math.floor(at / grid_s + 0.5) * grid_s
