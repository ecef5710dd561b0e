"""Changes five upstreams at a steady rate; every change has a number of its own that shows in the status."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from assetwatch.v1 import asset_status_pb2 as pb

from faults.rig.upstreams import MEDIA, OMN, PIECES, SBC, SOURCES, USD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.rig.upstreams import Upstreams

REMOVALS = 0.06
"""One change in about this many takes an asset away."""
SHARES: Mapping[str, float] = {PIECES: 0.48, OMN: 0.42, USD: 0.05, MEDIA: 0.04, SBC: 0.01}
"""Who changes how often: most where the server learns of it in few calls."""
SMALL: Mapping[str, int] = {PIECES: 120, OMN: 120, USD: 40, MEDIA: 40, SBC: 1}
FULL: Mapping[str, int] = {PIECES: 900, OMN: 899, USD: 100, MEDIA: 100, SBC: 1}

Key = tuple[str, str]


class Fact(NamedTuple):
    """What became true upstream, when (monotonic), under which number. Number 0: the asset went."""

    t: float
    key: Key
    number: int
    state: int


class Load:
    """Owns the assets of all stand-ins. facts is the truth: what was so, and since when."""

    def __init__(self, upstreams: Upstreams, *, seed: int, sizes: Mapping[str, int] = SMALL) -> None:
        self.facts: list[Fact] = []
        self.now: dict[Key, Fact] = {}
        self.paused: set[str] = set()
        self._upstreams = upstreams
        self._rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
        self._number = 0
        self.keys: dict[str, list[Key]] = {
            source: [(source, asset_id) for asset_id in _asset_ids(source, sizes[source], self._rng)]
            for source in SOURCES
        }

    def populate(self) -> None:
        """Put every asset for the first time."""
        for keys in self.keys.values():
            for key in keys:
                self.put(key)

    async def run(self, per_s: float) -> None:
        """Change so many a second until cancelled."""
        loop = asyncio.get_running_loop()
        began, done = loop.time(), 0
        while True:
            due = int((loop.time() - began) * per_s)
            for _ in range(min(due - done, int(per_s))):
                self.step()
            done = max(done, due)
            await asyncio.sleep(0.02)

    def step(self) -> None:
        """Change one asset of one source."""
        source = self._rng.choices(list(SHARES), list(SHARES.values()))[0]
        if source in self.paused:
            return
        key = self._rng.choice(self.keys[source])
        if source != SBC and self.now[key].number and self._rng.random() < REMOVALS:
            self.remove(key)
        else:
            self.put(key)

    def put(self, key: Key) -> Fact:
        """Change an asset, or make it anew."""
        self._number += 1
        native, state = _native(key[0], self._number, self._rng)
        return self._did(key, self._number, state, lambda: self._upstreams[key[0]].put(key[1], native))

    def remove(self, key: Key) -> Fact:
        """Take an asset away."""
        state = pb.ASSET_STATE_DELETED if key[0] == PIECES else pb.ASSET_STATE_MISSING
        return self._did(key, 0, state, lambda: self._upstreams[key[0]].remove(key[1]))

    def _did(self, key: Key, number: int, state: int, change: Any) -> Fact:
        fact = Fact(time.monotonic(), key, number, state)
        change()
        self.facts.append(fact)
        self.now[key] = fact
        return fact


def number_of(status: pb.AssetStatus) -> int:
    """Return the number of the change that a status shows; 0 when it shows none, as one that is gone does."""
    detail = status.WhichOneof("detail")
    texts = {
        "usd_search": status.usd_search.storage_asset_hash,
        "omn": status.omn.meta.get("load", ""),
        "pieces": status.pieces.name,
        "media_intelligence": status.media_intelligence.upload_result,
        "oracle_sbc": status.oracle_sbc.additional_info,
    }
    text = texts.get(detail or "", "")
    return int(text[1:]) if text[:1] == "n" and text[1:].isdigit() else 0


def _asset_ids(source: str, count: int, rng: random.Random) -> list[str]:
    match source:
        case "usd-search":
            return [f"s3://studio-assets/load/part-{number:05}.usd" for number in range(count)]
        case "omn":
            return [f"tid:LOAD-{number:08X}" for number in range(count)]
        case "pieces":
            return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]
        case "media-intelligence":
            return [f"studio-main/1234/{20_000 + number}" for number in range(count)]
        case _:
            return ["last-operation"]


def _native(source: str, number: int, rng: random.Random) -> tuple[dict[str, Any], int]:
    """Return native fields that show the number, and the state they amount to."""
    mark = f"n{number}"
    match source:
        case "usd-search":
            fields, state = rng.choice(USD_STATES)
            return {"storage_asset_hash": mark, "plugins": {"thumbnail_generation": fields}}, state
        case "omn":
            fields, state = rng.choice(OMN_STATES)
            return {**fields, "meta": {"load": mark}}, state
        case "pieces":
            return {"name": mark}, pb.ASSET_STATE_AVAILABLE
        case "media-intelligence":
            word, state = rng.choice(MEDIA_STATES)
            return {"uploadStatus": word, "uploadResult": mark}, state
        case _:
            word, state = rng.choice(SBC_STATES)
            return {"operation": "activate", "status": word, "additionalInfo": mark}, state


USD_STATES: list[tuple[dict[str, Any], int]] = [
    ({"indexing_status": "in_sync"}, pb.ASSET_STATE_AVAILABLE),
    ({"history": ["queued"]}, pb.ASSET_STATE_PENDING),
    ({"history": ["processing", "queued"]}, pb.ASSET_STATE_PROCESSING),
]
OMN_STATES: list[tuple[dict[str, Any], int]] = [
    ({"ImportState": "available", "ObjectState": "available"}, pb.ASSET_STATE_AVAILABLE),
    ({"ImportState": "available", "ObjectState": "locked"}, pb.ASSET_STATE_AVAILABLE),
    ({"ImportState": "pending", "ObjectState": "import incomplete"}, pb.ASSET_STATE_PENDING),
    ({"ImportState": "running", "ObjectState": "import incomplete"}, pb.ASSET_STATE_PROCESSING),
    ({"ImportState": "incomplete", "ObjectState": "available"}, pb.ASSET_STATE_FAILED),
    ({"ImportState": "available", "ObjectState": "marked for deletion"}, pb.ASSET_STATE_DELETING),
]
MEDIA_STATES = [
    ("COMPLETED", pb.ASSET_STATE_AVAILABLE),
    ("IN_PROGRESS", pb.ASSET_STATE_PROCESSING),
    ("FAILED", pb.ASSET_STATE_FAILED),
]
SBC_STATES = [("success", pb.ASSET_STATE_AVAILABLE), ("inProgress", pb.ASSET_STATE_PROCESSING)]
