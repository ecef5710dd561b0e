"""Resuming from a token, as a watch does it: what is said of the token, then whether the way from there is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.batches import check_floor

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.port import Store


def resumed_from(token: str, *, digest: bytes, store: Store) -> int:
    """Return the revision to go on after. Raises: whatever a watch with this token is refused with."""
    revision = resume_token.check(token, digest=digest, store=store)
    check_floor(store, revision)
    return revision
