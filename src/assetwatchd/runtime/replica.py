"""The name of this process among others like it: what clients and logs know it by."""

from __future__ import annotations

import re
import socket

NAME_CHARS_MAX = 64
"""Of a name: as long as Linux has host names. It travels with every answer."""


def host_name() -> str:
    """Return the name of a replica that is given no other: its host's."""
    return as_name(socket.gethostname())


def as_name(text: str) -> str:
    """Return a text as a name that metadata, JSON and a terminal take alike; never empty."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:NAME_CHARS_MAX] or "unnamed"
