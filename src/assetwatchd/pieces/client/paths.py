"""Paths of the assets API that both reads of states and calls of clients ask for; pure, and knows of no call.

Source: the vendor's client 5.0.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTIFIERS = "/assets/identifiers"
"""The list of all ids: FlattenedAssets, without pages. Takes `pseudo`."""


def asset(asset_id: str) -> str:
    """Return the path of one asset; whatever is in its id stays one segment."""
    return f"/assets/{quote(asset_id, safe='')}"


def query(parameters: Mapping[str, bool | str | None]) -> str:
    """Write a query, with its question mark; parameters that are None are left out."""
    given = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in parameters.items()
        if value is not None
    }
    return f"?{urlencode(given, quote_via=quote)}" if given else ""
