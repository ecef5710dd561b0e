"""How the adapters read an answer, as they do for an asset that is known by nothing: one function a kind."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from assetwatchd.adapters import media_intelligence, oracle_sbc, pieces, usd_search
from assetwatchd.adapters.omn import adapter as omn
from assetwatchd.upstream.answers import NOTHING_KNOWN
from support.hostile import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.upstream.http.transport import Reply

ASSETS_MAX = 100_000
PATH = media_intelligence.AssetPath("workspace", "1", "2")

READS: dict[str, tuple[Callable[[Reply], object], ...]] = {
    "usd_search": (
        lambda reply: usd_search.read(reply, "s3://a/b", NOTHING_KNOWN, UTC),
        usd_search.backends,
    ),
    "omn": (
        lambda reply: omn.read(reply, "xml", ["tid:a", "tid:b"], NOTHING_KNOWN),
        lambda reply: omn.ids_of(reply, ASSETS_MAX),
    ),
    "pieces": (
        lambda reply: pieces.answer(reply, UUID, NOTHING_KNOWN),
        lambda reply: pieces.ids(reply, ASSETS_MAX),
    ),
    "media_intelligence": (
        lambda reply: media_intelligence.answer(reply, PATH, NOTHING_KNOWN),
        lambda reply: media_intelligence.page_of(reply, 1, 1000),
        media_intelligence.is_worth_signing_again,
        media_intelligence.sign_of_life,
    ),
    "oracle_sbc": (
        oracle_sbc.read,
        oracle_sbc.decode_token,
        oracle_sbc.decode_latest_version,
    ),
}
"""All that is read of an upstream's answers, each for any of its calls: it may answer one with what is another's."""
