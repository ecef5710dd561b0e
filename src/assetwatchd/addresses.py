"""Addresses of servers that are no HOST:PORT: Unix sockets, named as gRPC names them."""

from __future__ import annotations

import re

SCHEMES = ("unix:", "unix-abstract:")
FORMS = "unix:relative/path, unix:///absolute/path or unix-abstract:name"
_NAME = r"[\w./@:+,=~-]+"
"""Characters that are the same to every client: elsewhere in a target % begins an escape, and ? and # end the path."""
_SOCKET = re.compile(rf"unix:(?://(?=/))?(?!//)(?P<path>{_NAME})|unix-abstract:(?P<name>{_NAME})")


def is_socket(address: str) -> bool:
    """Whether an address is meant to be that of a Unix socket."""
    return address.startswith(SCHEMES)


def path_of(address: str) -> str | None:
    """Return where the socket stands in the file system; None for an abstract one. Raises: ValueError."""
    if (found := _SOCKET.fullmatch(address)) is None:
        raise ValueError(f"should be HOST:PORT, {FORMS}")
    return found["path"]
