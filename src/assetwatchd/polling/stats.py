"""What asking one source has cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """Counted since the start; named as in the schema's PollStats."""

    calls: int = 0
    failed_calls: int = 0
    asset_reads: int = 0
    changes: int = 0
    notices: int = 0
