"""The streams that Pieces OS has. Source: the vendor's client 5.0.1."""

from __future__ import annotations

import enum


class Stream(enum.Enum):
    """The three streams, by their paths."""

    ASSETS = "/assets/stream"
    IDENTIFIERS = "/assets/stream/identifiers"
    TRANSFERABLES = "/assets/stream/transferables"
