"""What a stream is told: Started, then batches, then Synced, and from then on whatever comes.

Plain values. They know no stream, no hub and no protobuf; `rpc` turns each into a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatchd.changefeed.batches import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatchd.model.values import Condition

__all__ = ["Batch", "Bookmark", "Conditions", "LiveSignal", "Signal", "Started", "Synced"]


class Started(NamedTuple):
    """The stream is open: from here on every change of these conditions is told.

    incomplete: the sources asked for as a whole of which there may be more than is known.
    """

    conditions: Mapping[str, Condition]
    incomplete: tuple[str, ...] = ()


class Synced(NamedTuple):
    """The client's map is complete as of this revision, but for these sources, of which there may be more."""

    revision: int
    incomplete: tuple[str, ...] = ()


class Bookmark(NamedTuple):
    """Nothing to tell up to this revision; incomplete as of Synced."""

    revision: int
    incomplete: tuple[str, ...] = ()


class Conditions(NamedTuple):
    """Sources whose condition changed; told once there was nothing else to tell up to this revision."""

    by_source: Mapping[str, Condition]
    revision: int


LiveSignal: TypeAlias = Batch | Bookmark | Conditions
"""What comes after Synced."""
Signal: TypeAlias = Started | Synced | LiveSignal
