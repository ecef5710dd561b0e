"""What a frame or a list says, asset by asset; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from assetwatchd import jsonbody
from assetwatchd.pieces.api import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DELETED_MECHANISM = "DELETED"


@dataclass(frozen=True, slots=True)
class Item:
    """What was said of one asset: that it is there, or gone.

    updated: when it last changed; None when that was not said, or cannot be read.
    document: the item as it came.
    """

    asset_id: str
    gone: bool
    updated: datetime | None
    document: Mapping[str, Any]


def items(document: Mapping[str, Any], stream: Stream) -> list[Item]:
    """Read a frame (or Assets, which a list answers with), each asset once; items that name no asset are left out.

    Of several items for one asset a tombstone wins, else the newest, else the last. Raises: BadAnswer.
    """
    read = _identifier if stream is Stream.IDENTIFIERS else _asset
    found: dict[str, Item] = {}
    for element in jsonbody.list_of(document.get("iterable"), "iterable"):
        item = read(element) if isinstance(element, dict) else None
        if item is not None and not _outdone(item, found.get(item.asset_id)):
            found.pop(item.asset_id, None)
            found[item.asset_id] = item
    return list(found.values())


def living(among: Iterable[Item]) -> list[Item]:
    """Only those that are there."""
    return [item for item in among if not item.gone]


def overtaken(updated: datetime | None, known: datetime | None) -> bool:
    """Whether news of that date is older than what is known."""
    return updated is not None and known is not None and updated < known


def _outdone(item: Item, other: Item | None) -> bool:
    if other is None or item.gone:
        return False
    return other.gone or overtaken(item.updated, other.updated)


def _asset(element: Mapping[str, Any]) -> Item | None:
    gone = _tombstone(element) or element.get("mechanism") == DELETED_MECHANISM
    return _item(element.get("id"), element, gone=gone)


def _identifier(element: Mapping[str, Any]) -> Item | None:
    asset = element.get("asset")
    return _item(asset.get("id"), element, gone=_tombstone(element)) if isinstance(asset, dict) else None


def _item(asset_id: Any, element: Mapping[str, Any], *, gone: bool) -> Item | None:
    if not isinstance(asset_id, str) or not asset_id:
        return None
    return Item(asset_id, gone, _moment(element.get("updated")), element)


def _tombstone(element: Mapping[str, Any]) -> bool:
    """`deleted` is a flag in identifiers frames and a timestamp in assets; anything but false and null says deleted."""
    return element.get("deleted") not in (None, False)


def _moment(value: Any) -> datetime | None:
    text = value.get("value") if isinstance(value, dict) else None
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
    except ValueError:
        return None
