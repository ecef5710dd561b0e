"""Assets in the server's own JSON. Source: the models of the vendor's client 5.0.1, required fields and names."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from assetwatch_sandbox.pieces.piece import Piece, iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from assetwatch_sandbox.pieces.switches import PiecesSwitches

NAMESPACE = UUID("7a1d2c3e-0000-4000-8000-5a4d0b0c5e00")
CREATOR = "11111111-2222-4333-8444-555555555555"
OS_ID = "22222222-3333-4444-8555-666666666666"
APPLICATION = {
    "id": "aaaaaaaa-0000-4000-8000-000000000001",
    "name": "OPEN_SOURCE",
    "version": "1.0.0",
    "platform": "LINUX",
    "onboarded": False,
    "privacy": "OPEN",
}
USER = {
    "id": CREATOR,
    "name": "Sandbox User",
    "username": "sandbox",
    "email": "sandbox@example.invalid",
    "aesthetics": {"theme": {"dark": True}, "font": {"size": 13}},
}
FLAGS = ("pseudo", "favorited", "discovered", "curated", "demo")
UNITS = ("B", "KB", "MB", "GB")
KILO = 1000


@lru_cache(maxsize=100_000)
def derived_id(kind: str, of: str) -> str:
    """Name a thing that belongs to an asset, the same at each run."""
    return str(uuid5(NAMESPACE, f"{kind}/{of}"))


def timestamp(moment: datetime) -> dict[str, str]:
    """GroupedTimestamp."""
    return {"value": iso(moment)}


def readable(size_bytes: int) -> str:
    """Write a size for people: `42 B`, `5 MB`."""
    size, unit = float(size_bytes), 0
    while size >= KILO and unit < len(UNITS) - 1:
        size, unit = size / KILO, unit + 1
    return f"{size:.4g} {UNITS[unit]}"


def _common(piece: Piece) -> dict[str, object]:
    """Make what Asset and FlattenedAsset write alike."""
    common: dict[str, object] = {
        "id": piece.id,
        "creator": CREATOR,
        "created": timestamp(piece.created),
        "updated": timestamp(piece.updated),
        "mechanism": piece.mechanism,
    }
    if piece.name is not None:
        common["name"] = piece.name
    if piece.synced is not None:
        common["synced"] = timestamp(piece.synced)
    if piece.deleted is not None:
        common["deleted"] = timestamp(piece.deleted)
    common.update((flag, True) for flag in FLAGS if getattr(piece, flag))
    return common


def _collections(piece: Piece) -> dict[str, object]:
    """Make tags, websites, persons and annotations with everything in them; absent when empty."""
    stamps = {"created": timestamp(piece.created), "updated": timestamp(piece.updated)}
    kinds: dict[str, list[dict[str, object]]] = {
        "tags": [{"id": derived_id("tag", t), "text": t, "category": "UNKNOWN", **stamps} for t in piece.tags],
        "websites": [{"id": derived_id("website", u), "url": u, "name": u, **stamps} for u in piece.websites],
        "persons": [{"id": derived_id("person", p), "type": {"basic": {"name": p}}, **stamps} for p in piece.persons],
        "annotations": [],
    }
    if piece.description is not None:
        annotation = {"id": derived_id("description", piece.id), "text": piece.description, "type": "DESCRIPTION"}
        kinds["annotations"].append({**annotation, **stamps})
    return {kind: {"iterable": iterable} for kind, iterable in kinds.items() if iterable}


def flattened_asset(piece: Piece) -> dict[str, object]:
    """FlattenedAsset: everything that belongs to it by id alone."""
    return _flattened(piece, _common(piece), _collections(piece))


def _flattened(piece: Piece, common: dict[str, object], collections: dict[str, Any]) -> dict[str, object]:
    format_id = derived_id("format", piece.id)
    references = {
        kind: {"iterable": [{"id": item["id"]} for item in collection["iterable"]]}
        for kind, collection in collections.items()
    }
    return {
        **common,
        "formats": {"iterable": [{"id": format_id}]},
        "original": format_id,
        "preview": {"base": format_id},
        **references,
    }


def classification(piece: Piece) -> dict[str, str]:
    """Classification."""
    return {"generic": piece.generic, "specific": piece.ext}


def _carrier(piece: Piece, *, transferables: bool) -> dict[str, object]:
    """FragmentFormat or FileFormat, its raw content left out unless transferables."""
    holder: dict[str, object] = {"metadata": {"ext": piece.ext}} if piece.form == "fragment" else {}
    if transferables and piece.carrier == "bytes":
        holder["bytes"] = {"raw": list(piece.raw)}
    elif transferables:
        holder["string"] = {"raw": piece.content}
    return {piece.form: holder}


def asset_format(piece: Piece, *, transferables: bool) -> dict[str, object]:
    """Format, the only one of its asset."""
    return _format(piece, _common(piece), _collections(piece), transferables=transferables)


def _format(
    piece: Piece, common: dict[str, object], collections: dict[str, object], *, transferables: bool
) -> dict[str, object]:
    size_bytes = len(piece.raw)
    return {
        "id": derived_id("format", piece.id),
        "role": "BOTH",
        **{name: value for name, value in common.items() if name in {"creator", "created", "updated", "synced"}},
        "application": APPLICATION,
        "asset": _flattened(piece, common, collections),
        "bytes": {"value": size_bytes, "readable": readable(size_bytes)},
        "classification": classification(piece),
        **_carrier(piece, transferables=transferables),
    }


def asset(piece: Piece, *, transferables: bool) -> dict[str, object]:
    """Asset; `original` holds its format too, where the vendor's wrapper reads the content."""
    common, collections = _common(piece), _collections(piece)
    whole = _format(piece, common, collections, transferables=transferables)
    return {
        **common,
        "formats": {"iterable": [whole]},
        "original": {"id": whole["id"], "reference": {**whole, "asset": piece.id}},
        "preview": {"base": {"id": whole["id"]}},
        **collections,
    }


def flattened_assets(pieces: Iterable[Piece], *, with_reference: bool) -> dict[str, object]:
    """FlattenedAssets: ids in order, each flattened asset beside it on demand."""
    iterable = [
        {"id": piece.id, "reference": flattened_asset(piece)} if with_reference else {"id": piece.id}
        for piece in pieces
    ]
    return {"indices": {item["id"]: index for index, item in enumerate(iterable)}, "iterable": iterable}


def identifier(piece: Piece, switches: PiecesSwitches, *, first: bool = False) -> dict[str, object]:
    """StreamedIdentifier of an asset that is there; a creation and a change look the same."""
    item: dict[str, object] = {"asset": {"id": piece.id}}
    if switches.frame_updated == "always" or (switches.frame_updated == "changes" and not first):
        item["updated"] = timestamp(piece.updated)
    return item


def tombstone(piece: Piece, switches: PiecesSwitches) -> dict[str, object]:
    """StreamedIdentifier of an asset that is no more; `piece` is its last state with `deleted` set."""
    flag: object = True
    if switches.tombstone == "timestamp" and piece.deleted is not None:
        flag = timestamp(piece.deleted)
    return {"asset": {"id": piece.id}, "deleted": flag}


def dead_asset(piece: Piece, switches: PiecesSwitches, *, transferables: bool) -> dict[str, object]:
    """Asset as an Assets stream shows its deletion."""
    dead = asset(piece, transferables=transferables)
    if switches.assets_tombstone == "mechanism":
        del dead["deleted"]
        dead["mechanism"] = "DELETED"
    return dead


HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: a name that was cut in the middle of a character; it can be sent as an escape alone."""


def dumps(document: Mapping[str, object]) -> str:
    """Write JSON without blanks, as the server does."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def iterable_text(items: Iterable[str]) -> str:
    """Join documents already written into `{"iterable":[...]}`."""
    return f'{{"iterable":[{",".join(items)}]}}'


class LeanTexts:
    """Assets without content as JSON text, each written once: what first frames and polls ask for most."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[Piece, str]] = {}

    def of(self, piece: Piece) -> str:
        """Write the asset, or repeat what was written of the same state."""
        held = self._written.get(piece.id)
        if held is None or held[0] is not piece:
            held = self._written[piece.id] = (piece, dumps(asset(piece, transferables=False)))
        return held[1]

    def forget(self, asset_id: str) -> None:
        """Drop what was written of an asset that is gone."""
        self._written.pop(asset_id, None)
