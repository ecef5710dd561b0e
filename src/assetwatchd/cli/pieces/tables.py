"""Tables of assets, what is found, formats and drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.cli.output import columns
from assetwatchd.cli.terminal import cells, lines, safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from assetwatch.pieces.v1.asset_pb2 import Asset, Classification, Content, Format, ReferencedAsset
    from assetwatch.pieces.v1.search_pb2 import SearchedAsset
    from assetwatch.pieces.v1.seed_pb2 import Seed

    from assetwatchd.cli.terminal import Safe

ASSET_HEADER = ("ASSET", "NAME", "HOLDS", "UPDATED", "FLAGS")
FOUND_HEADER = ("ASSET", "NAME", "MATCH", "SCORE")
FORMAT_HEADER = ("FORMAT", "ROLE", "HOLDS", "BYTES", "FORM")
DRAFT_HEADER = ("NAME", "HOLDS", "COULD BE")
FLAGS = ("pseudo", "favorited", "discovered", "curated", "demo")


def assets(of: Iterable[Asset]) -> Safe:
    """Write a line an asset."""
    return columns(ASSET_HEADER, [cells(*_asset_row(asset)) for asset in of])


def _asset_row(asset: Asset) -> Iterable[str]:
    held = [holds(each.classification) for each in asset.formats.iterable]
    gone = ["deleted"] if asset.HasField("deleted") or asset.deleted_flag else []
    flags = [*(flag for flag in FLAGS if getattr(asset, flag)), *gone]
    return asset.id, asset.name, ",".join(dict.fromkeys(held)), asset.updated.value, ",".join(flags)


def found(of: Iterable[SearchedAsset]) -> Safe:
    """Write a line an asset that was found."""
    rows = [
        (
            each.identifier or each.asset.id,
            each.asset.name,
            f"{each.match}{'' if each.exact else ', near'}".removeprefix(", "),
            f"{each.score:g}" if each.HasField("score") else "",
        )
        for each in of
    ]
    return columns(FOUND_HEADER, [cells(*row) for row in rows])


def ids(of: Iterable[ReferencedAsset]) -> Safe:
    """Write an id a line, ready for a pipe."""
    return lines(safe(each.id) for each in of)


def formats(of: Iterable[Format]) -> Safe:
    """Write a line a format."""
    rows = [
        (each.id, each.role, holds(each.classification), str(each.bytes.value) * each.HasField("bytes"), _form(each))
        for each in of
    ]
    return columns(FORMAT_HEADER, [cells(*row) for row in rows])


def _form(of: Format) -> str:
    form = next((form for form in ("file", "fragment") if of.HasField(form)), "")
    return f"{form}, {carried}" if form and (carried := _carried(getattr(of, form))) else form


def _carried(content: Content) -> str:
    return "text" if content.HasField("string") else "bytes" if content.HasField("bytes") else ""


def drafts(seed: Seed) -> Safe:
    """Write what a seed holds and what could be made of it."""
    own = seed.asset.format.classification
    could_be = ", ".join(holds(each) for each in seed.asset.available.iterable)
    return columns(DRAFT_HEADER, [cells(seed.asset.metadata.name, holds(own), could_be)])


def holds(classification: Classification) -> str:
    """Write what a format holds: CODE/py."""
    return "/".join(part for part in (classification.generic, classification.specific) if part)
