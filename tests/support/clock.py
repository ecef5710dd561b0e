"""The wall clock of a test: it stands still, and moves when the test says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds since 1970."""

    now_s: float

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s
