"""The names that gRPC gives to the other end of a call: ipv4:127.0.0.1:41234, ipv6:%5B::1%5D:41234, unix:/a/path."""

from __future__ import annotations


def host_of(peer: str) -> str:
    """Return an address without its port, as every connection has its own."""
    return peer.rpartition(":")[0] if peer.startswith("ipv") else peer
