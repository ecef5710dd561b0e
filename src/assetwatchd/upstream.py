"""What an adapter is to the rest: one question for one or many assets, a list where it can, notices where it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from assetwatchd.answers import NOTHING_KNOWN
from assetwatchd.errors import BadAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from assetwatchd.answers import Answer, Known
    from assetwatchd.model import Observation


LISTED_TIMES = 2
"""A list, or a stream, of more than so many times assets_max is refused, for it may have no end; of one within, as many
are taken as there is room for."""
ASSET_ID_LENGTH_MAX = 2048
"""Characters of an id; nobody could ask for a longer one (AssetRef in the schema)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of upstream can do.

    batch_max: assets that one call can ask for.
    enumerates: `enumerate` lists every asset.
    pushes: `notices` tells of changes.
    """

    batch_max: int = 1
    enumerates: bool = False
    pushes: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list of the ids there are now; the first notice of every connection."""

    asset_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Touched:
    """These assets were made or changed: observe them."""

    asset_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """This asset was deleted; the observation says so and wins over any read that began before."""

    observation: Observation


Notice: TypeAlias = Listed | Touched | Removed


def listed(asset_ids: frozenset[str], assets_max: int) -> frozenset[str]:
    """Return the ids of a list that can be worked with. Raises: BadAnswer."""
    check_count(len(asset_ids), assets_max)
    if any(len(asset_id) > ASSET_ID_LENGTH_MAX for asset_id in asset_ids):
        raise BadAnswer(f"a list with an id of more than {ASSET_ID_LENGTH_MAX} characters")
    return asset_ids


def check_count(count: int, assets_max: int, *, where: str = "a list") -> None:
    """Raise BadAnswer for a list that has, or has so far, more ids than are taken."""
    if count > (limit := LISTED_TIMES * assets_max):
        raise BadAnswer(f"{where} of more than {LISTED_TIMES} x assets_max = {limit} assets; raise it")


class Upstream(Protocol):
    """One configured upstream. It has no loop, no retry and no cache: the scheduler has them, once for all kinds.

    Every call raises UpstreamError (one of its subclasses) when the upstream does not answer as it should.
    """

    capabilities: Capabilities

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of this upstream and what form it should have; None when it can be one."""
        ...

    async def probe(self) -> None:
        """Make the cheapest call that shows that the upstream is there and takes our credentials."""
        ...

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read 1 to batch_max assets; one observation for each, MISSING for what it lacks.

        Unchanged stands for an observation that would be made of the very answer that is known of its asset.
        """
        ...

    async def enumerate(self) -> frozenset[str]:
        """List every asset, complete or not at all. Only if capabilities.enumerates."""
        ...

    def notices(self) -> AsyncGenerator[Notice]:
        """Connect, then yield a Listed and what changes after it, until the connection ends (an UpstreamError).

        Only if capabilities.pushes.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
