"""The made-up source of the measurements: statuses of a plausible size, as the product encodes them."""

from __future__ import annotations

from assetwatchd.model.details import OmnDetail
from assetwatchd.model.values import Facet, Observation, State
from assetwatchd.rpc import convert

SOURCE = "bench"
NOWHERE = {"kind": "omn", "base_url": "http://127.0.0.1:1", "auth": {"kind": "bearer", "token": "made-up"}}
"""Settings of the source; nothing answers there."""
STATES = (State.PENDING, State.PROCESSING, State.AVAILABLE)
OBSERVED_AT = 1_700_000_000.5
"""Its seconds and its nanoseconds take five bytes each, the most there are, so any moment can be written over it."""
MIDDLE_REVISION = 100_000


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
    """Encode one change as it is sent to watchers."""
    encoder = convert.ProtobufEncoder()
    content = encoder.content(SOURCE, observation(asset(number), 0))
    return encoder.seal(content, observed_at=OBSERVED_AT, traceparent="")(MIDDLE_REVISION)


def message(count: int) -> bytes:
    """Encode a WatchStatusResponse with so many changes, a token and a head."""
    changes = [change(number) for number in range(count)]
    return convert.WatchFraming(lambda: "0123456789abcdef").message(
        changes, revision=MIDDLE_REVISION, head=MIDDLE_REVISION, digest=b"01234567"
    )
