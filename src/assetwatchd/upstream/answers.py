"""Recognises an answer by its digest: what an upstream repeats need not be parsed, compared and encoded again.

Pure. Keeps no digest itself: callers pass those that are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from assetwatchd.model import bounds
from assetwatchd.model.values import Observation

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_BYTES = 16


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The upstream gave the answer about this asset that is known: its observation would be the same again."""

    asset_id: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Of an answer about several assets, what was said of this one cannot be read; why is for people."""

    asset_id: str
    why: str


Answer: TypeAlias = Observation | Unchanged | Unreadable
Known: TypeAlias = Mapping[str, bytes]
"""By asset, the digest of the answer (`Observation.answer`) that what is known of it was made of."""
NOTHING_KNOWN: Known = {}


def digest(*parts: bytes) -> bytes:
    """Return the digest of an answer, ANSWER_BYTES long. No part but the last may hold a NUL, which separates them."""
    return hashlib.sha256(b"\0".join(parts)).digest()[:ANSWER_BYTES]  # most processors have instructions for it


def unless_known(asset_id: str, answer: bytes, known: Known, read: Callable[[], Observation]) -> Answer:
    """Return Unchanged if the digest is the known one; else read the answer, and bound what was read.

    read must be a function of the answer alone, not of time: equal answers must make equal observations.
    """
    if known.get(asset_id) == answer:
        return Unchanged(asset_id)
    return kept(read(), answer)


def kept(observation: Observation, answer: bytes) -> Observation:
    """Return what is kept of an observation: as much as is within bounds, and the digest of what it was made of."""
    return replace(bounds.within(observation), answer=answer)
