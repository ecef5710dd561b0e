"""The made-up source of the measurements: statuses of a plausible size, as the product encodes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from assetwatch.v1 import asset_status_pb2 as status_pb

from assetwatchd.answers import NOTHING_KNOWN
from assetwatchd.details import OmnDetail
from assetwatchd.model import Facet, Observation, State
from assetwatchd.rpc import convert
from assetwatchd.upstream import Capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from assetwatchd.answers import Known
    from assetwatchd.upstream import Notice

SOURCE = "bench"
STATES = (State.PENDING, State.PROCESSING, State.AVAILABLE)
PADDED_TIME = b"\x08\x80\x80\x80\x80\x00\x10\x80\x80\x80\x80\x00"
"""A Timestamp of two numbers of five bytes each, so that another moment can be written over it."""
OBSERVE_TIME = 7
MIDDLE_REVISION = 100_000


class Silent:
    """An upstream whose changes are fed in behind it. turns: how often each asset was changed."""

    capabilities = Capabilities(batch_max=100)
    turns: ClassVar[dict[str, int]] = {}

    def __init__(self, *_: object) -> None:
        """Take what an adapter takes."""

    def check(self, _asset_id: str) -> str | None:
        """Any id will do."""
        return None

    async def probe(self) -> None:
        """It is there."""

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> list[Observation]:  # noqa: ARG002 - what adapters take
        """As they were fed in last, whatever is known."""
        return [observation(asset_id, self.turns.get(asset_id, 0)) for asset_id in asset_ids]

    async def enumerate(self) -> frozenset[str]:
        """Never called: it does not say that it can."""
        return frozenset()

    def notices(self) -> AsyncGenerator[Notice]:
        """Never called either."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""


def asset(number: int) -> str:
    """Name an asset."""
    return f"tid:asset-{number:06d}"


def observation(asset_id: str, turn: int) -> Observation:
    """One status of a plausible size."""
    state = STATES[turn % len(STATES)]
    facets = (
        Facet("import", state, f"running-{turn}", "made for the measurement"),
        Facet("object", State.AVAILABLE, "available"),
    )
    return Observation(
        asset_id, state, facets=facets, detail=OmnDetail(asset_id, str(turn), "running", "import incomplete")
    )


def change(number: int) -> bytes:
    """Encode one Change as it is sent; the last bytes of its status are its padded observe time."""
    content = convert.ProtobufEncoder().content(SOURCE, observation(asset(number), 0))
    stamp = status_pb.AssetStatus(revision=MIDDLE_REVISION, etag=f'"{MIDDLE_REVISION}"').SerializeToString()
    return convert.field(1, content + stamp + convert.field(OBSERVE_TIME, PADDED_TIME)) + b"\x18\x01"


def message(count: int) -> bytes:
    """Encode a WatchStatusResponse with so many changes, a token and a head."""
    changes = [convert.field(4, change(number)) for number in range(count)]
    return convert.frame("0123456789abcdef")(changes, MIDDLE_REVISION, MIDDLE_REVISION, b"01234567")
