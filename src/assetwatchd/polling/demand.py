"""Who wants one asset kept up to date, as a value. Pure: each change gives another value, and the old one stays.

Must not know the interest in the source as a whole, nor when the asset is read. Which value a target has is written by
interest.py alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

NOT_LINGERING = -math.inf
SHARED_MAX = 1000
"""Of each kind of change so many results are remembered, so that what changes together, as the assets of one filter do,
has one value together: 100,000 of their own would be 7 MB. What is forgotten is only made again."""


class Demand(NamedTuple):
    """Who wants one asset.

    pinned: the configuration names it. named: how many watchers and waiters ask for it by name.
    awaited: somebody waits to be told how its next read ends.
    linger_until: it was read for somebody who may ask again until then (time of the event loop).
    """

    pinned: bool = False
    named: int = 0
    awaited: bool = False
    linger_until: float = NOT_LINGERING


UNWANTED = Demand()


@lru_cache(SHARED_MAX)
def pinned(demand: Demand) -> Demand:
    """The configuration names it."""
    return demand._replace(pinned=True)


@lru_cache(SHARED_MAX)
def named(demand: Demand, by: int) -> Demand:
    """So many more ask for it by name, or fewer."""
    return demand._replace(named=demand.named + by)


@lru_cache(SHARED_MAX)
def awaited(demand: Demand) -> Demand:
    """Somebody waits for its next read."""
    return demand._replace(awaited=True)


@lru_cache(SHARED_MAX)
def not_awaited(demand: Demand) -> Demand:
    """Nobody does any more."""
    return demand._replace(awaited=False)


@lru_cache(SHARED_MAX)
def lingering(demand: Demand, until: float) -> Demand:
    """It is wanted until then in any case."""
    return demand._replace(linger_until=until)
