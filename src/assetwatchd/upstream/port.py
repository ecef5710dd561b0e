"""The port: what an adapter must offer (read, list, push), and the values that it returns.

Adapters implement it, `polling` calls it; neither knows the other. Knows nothing of HTTP or of any kind of upstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.texts import counted
from assetwatchd.upstream.answers import NOTHING_KNOWN
from assetwatchd.upstream.bodies.oddtext import REPLACEMENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from assetwatchd.model.values import Observation
    from assetwatchd.upstream.answers import Answer, Known


LISTED_TIMES = 2
"""A list, or a stream, of more than so many times assets_max is refused, for it may have no end; of one within, as many
are taken as there is room for."""
ASSET_ID_LENGTH_MAX = 2048
"""Characters of an id; nobody could ask for a longer one (AssetRef in the schema)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The calls that a kind of upstream supports.

    batch_max: assets that one call can ask for.
    enumerates: `enumerate` lists every asset.
    pushes: `notices` tells of changes.
    """

    batch_max: int = 1
    enumerates: bool = False
    pushes: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of the ids there are now; the first notice of every connection.

    unreadable: how many of its items name no asset that anybody could read; only with none of them is it complete, so
    that what it lacks may be gone. why: what is wrong with the first.
    """

    asset_ids: frozenset[str]
    unreadable: int = 0
    why: str = ""

    def apart(self) -> tuple[Callable[[list[str]], Listed], list[str]]:
        """Return what makes it of its ids again, and these (`reader.Apart`)."""
        return partial(_whole, self.unreadable, self.why), list(self.asset_ids)

    @property
    def lack(self) -> str:
        """Say what of the list cannot be read; empty when all of it can."""
        return f"{self.unreadable} of its items cannot be read: {self.why}" if self.unreadable else ""


def _whole(unreadable: int, why: str, asset_ids: list[str]) -> Listed:
    return Listed(frozenset(asset_ids), unreadable, why)


@dataclass(frozen=True, slots=True)
class Touched:
    """These assets were made or changed: observe them."""

    asset_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """This asset was deleted; the observation says so and wins over any read that began before."""

    observation: Observation


Notice: TypeAlias = Listed | Touched | Removed


def listed(asset_ids: Iterable[str | None], assets_max: int) -> Listed:
    """Make a list of the ids that its items have; None stands for an item that has none which can be read.

    Raises: BadAnswer; also when there are items and no id, which is a list of another form and not one of nothing.
    """
    found: set[str] = set()
    unreadable, why = 0, ""
    for place, asset_id in enumerate(asset_ids):
        if asset_id is not None and len(asset_id) <= ASSET_ID_LENGTH_MAX and REPLACEMENT not in asset_id:
            found.add(asset_id)
        else:
            unreadable += 1
            why = why or f"item {place} has {_what(asset_id)}"
    check_count(len(found), assets_max)
    if unreadable and not found:
        raise BadAnswer(f"a list of {counted(unreadable, 'item')} and not one readable id: {why}")
    return Listed(frozenset(found), unreadable, why)


def _what(asset_id: str | None) -> str:
    if asset_id is None:
        return "no id"
    if len(asset_id) > ASSET_ID_LENGTH_MAX:
        return f"an id of more than {ASSET_ID_LENGTH_MAX} characters"
    return "an id that is not text in any encoding"


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

    async def enumerate(self) -> Listed:
        """List every asset; one bad item costs no other. Only if capabilities.enumerates."""
        ...

    def notices(self) -> AsyncGenerator[Notice]:
        """Connect, then yield a Listed and what changes after it, until the connection ends (an UpstreamError).

        Only if capabilities.pushes.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
