"""Answers known by their digest: what an upstream says again need not be read, compared and encoded again."""

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
    """Return what stands for an answer: its parts, none of which but the last may hold a NUL."""
    return hashlib.sha256(b"\0".join(parts)).digest()[:ANSWER_BYTES]  # most processors have instructions for it


def unless_known(asset_id: str, answer: bytes, known: Known, read: Callable[[], Observation]) -> Answer:
    """Read an answer, given its digest, only if it is not the known one; of what it says keep what is within bounds.

    read must make equal observations of equal answers: of nothing else, and at any time.
    """
    if known.get(asset_id) == answer:
        return Unchanged(asset_id)
    return kept(read(), answer)


def kept(observation: Observation, answer: bytes) -> Observation:
    """Return what is kept of an observation: as much as is within bounds, and the digest of what it was made of."""
    return replace(bounds.within(observation), answer=answer)
