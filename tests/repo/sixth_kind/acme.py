"""Acme doors: polled JSON over REST, one door a call. Made up, for the test of the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.details import AcmeDetail
from assetwatchd.model.values import Facet, Observation, State
from assetwatchd.upstream.answers import NOTHING_KNOWN, unless_known
from assetwatchd.upstream.bodies.jsonbody import decode, object_of, text_of
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.http.transport import Transport, raise_for_status
from assetwatchd.upstream.port import Capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from assetwatchd.settings.schema import AcmeSource
    from assetwatchd.upstream.answers import Answer, Known
    from assetwatchd.upstream.http.transport import Reply
    from assetwatchd.upstream.port import Listed, Notice

# 1. Facts -------------------------------------------------------------------------------------------------------------

PATH = "/doors/{id}"
STATES = {"open": State.AVAILABLE, "jammed": State.FAILED}
NOT_FOUND = 404

# 2. Wire --------------------------------------------------------------------------------------------------------------


def position_of(reply: Reply) -> str:
    """Read where a door stands. Raises: BadAnswer."""
    return text_of(object_of(decode(reply), "the answer").get("position"))


# 3. Normalise ---------------------------------------------------------------------------------------------------------


def normalise(asset_id: str, position: str) -> Observation:
    """Make the observation of a door."""
    state = STATES.get(position, State.UNKNOWN)
    return Observation(asset_id, state, facets=(Facet("position", state, position),), detail=AcmeDetail(position))


def read(reply: Reply, asset_id: str, known: Known) -> Answer:
    """Read the answer about a door. Raises: UpstreamError."""
    if reply.status == NOT_FOUND:
        return Observation(asset_id, State.MISSING)
    raise_for_status(reply)
    return unless_known(asset_id, reply.digest, known, lambda: normalise(asset_id, position_of(reply)))


# 4. Upstream ----------------------------------------------------------------------------------------------------------


class Acme:
    """One building."""

    capabilities = Capabilities()

    def __init__(self, source: str, settings: AcmeSource) -> None:
        self._transport = Transport(source, settings)
        self._reading = Reading()

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be a door."""
        return None if asset_id.isdigit() else "should be the number of a door"

    async def probe(self) -> None:
        """Ask for a door that nobody has."""
        await self._transport.request("GET", PATH.format(id=0))

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read one door."""
        (asset_id,) = asset_ids
        reply = await self._transport.request("GET", PATH.format(id=asset_id))
        return [await self._reading.read(reply, read, asset_id, known)]

    async def enumerate(self) -> Listed:
        """Raise: doors are not listed."""
        raise NotImplementedError

    def notices(self) -> AsyncGenerator[Notice]:
        """Raise: doors do not push."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back connections."""
        await self._transport.close()
        await self._reading.close()
