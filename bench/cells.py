"""What one measurement of B1 asks for."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """So many watchers, so many changes a second, measured so many times."""

    watchers: int
    rate: int
    times: int = 1

    @property
    def due(self) -> int:
        """Changes to be delivered a second."""
        return self.watchers * self.rate

    def __str__(self) -> str:
        return f"{self.watchers:,} x {self.rate:,}/s"
