"""How often rounds are run, and how many watchers are woken at a time: pure, of processor time and joiners.

Owns the numbers that share one thread out: between the watchers of a round, the streams that begin, and everything
else. Knows no hub, no watcher and no clock; `rounds` asks it.

The thread's own time, and not the time that passed, says what a round costs: on a busy machine a round that cost 10 ms
may take 100, and waiting as long again would make it later still. And most of the cost shows only after all are woken,
while they write. So `round_s` is asked again each time that its answer has passed, until it has not grown meanwhile.
"""

from __future__ import annotations

WOKEN_TOGETHER = 64
"""Watchers woken at one go, some milliseconds: all that they write is on its way before it is paid for."""
WOKEN_JOINING = 8
"""The same while streams begin: each of the many steps of a new one waits for those woken before it."""
ROUND_PAUSE_S = 0.002
"""The least time between two rounds, so that changes of one moment travel together."""
ROUND_SPREAD = 1.25
"""From round to round it takes this many times what the last one cost: a fifth is left for everything else."""
ROUND_S_MAX = 0.15
"""The longest from round to round while there is something to tell."""
ROUND_JOINING_SPREAD = 2.0
ROUND_JOINING_S_MAX = 1.0
"""The same while streams begin: rounds that fill the whole time would let gRPC take hardly a new one."""
JOINING_S = 1.0
"""So long a stream is taken to begin while it catches up: a slow client is nothing that rounds need wait for."""


def round_s(worked_s: float, *, joining: bool) -> float:
    """Return how long it shall take from the beginning of one round to that of the next.

    `Rounds` waits ROUND_PAUSE_S at least.

    Args:
        worked_s: the processor time of this thread since the round began.
        joining: whether a stream has begun since then, or has caught up a part of its way in its first JOINING_S.
    """
    spread, longest_s = (ROUND_JOINING_SPREAD, ROUND_JOINING_S_MAX) if joining else (ROUND_SPREAD, ROUND_S_MAX)
    return min(spread * worked_s, longest_s)


def woken_together(*, joining: bool) -> int:
    """Return how many watchers are woken before everybody else has a turn of the loop."""
    return WOKEN_JOINING if joining else WOKEN_TOGETHER
