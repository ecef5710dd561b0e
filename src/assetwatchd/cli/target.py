"""The server that a command calls, and how."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_SERVER = "127.0.0.1:50051"


class Target(NamedTuple):
    """The server to call, and how; tls: over TLS, as any of the others means too.

    server: an address, or several over one store, with commas between them: the first that can be reached is called.
    """

    server: str
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None

    @property
    def each(self) -> list[Target]:
        """The servers one by one, in the order in which they are tried."""
        return [self._replace(server=address) for address in self.server.split(",")]


def silence_grpc() -> None:
    """Have gRPC write no lines of its own, where ours say what is wrong; it looks when it is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def target_of(given: Mapping[str, Any]) -> Target:
    """Return whom to call, of what options and variables say; what they do not is as it is by default."""
    known = {name: given[name] for name in Target._fields if given.get(name)}
    return Target(**{"server": DEFAULT_SERVER, **known, "tls": bool(known.keys() - {"server"})})
