"""All that a store holds, on its way into another one: with it every token goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from assetwatchd.model.values import Entry


class Content(NamedTuple):
    """Entries in the order of revisions; head and floor; every epoch with the last revision that was counted in it."""

    entries: Sequence[Entry]
    head: int
    floor: int
    epochs: Mapping[str, int]
