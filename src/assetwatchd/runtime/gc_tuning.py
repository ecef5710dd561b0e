"""Tunes the garbage collector of Python for a process with many long-lived objects."""

from __future__ import annotations

import gc

COLLECT_AFTER = (10_000, 2, 1000)
"""Allocations, then collections of the young and of the middle-aged. As Python has it, (700, 10, 10), a fifth of a
busy server's time goes there, through the same living objects over and over, and a tenth of a start, which leaves none.
The middle-aged are looked through after 40,000 at most, since that holds up everybody: some 10 ms. The old are rarely,
and all at once, which takes 0.1 s a million; that much is only made while a large source is taken in.
"""


def collect_seldom() -> None:
    """Set the thresholds of the whole process to COLLECT_AFTER."""
    gc.set_threshold(*COLLECT_AFTER)
