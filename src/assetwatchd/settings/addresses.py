"""Addresses of servers as gRPC takes them: HOST:PORT, and the names of Unix sockets."""

from __future__ import annotations

import re
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address

SCHEMES = ("unix:", "unix-abstract:")
FORMS = "unix:relative/path, unix:///absolute/path or unix-abstract:name"
_NAME = r"[\w./@:+,=~-]+"
"""Characters that are the same to every client: elsewhere in a target % begins an escape, and ? and # end the path."""
_SOCKET = re.compile(rf"unix:(?://(?=/))?(?!//)(?P<path>{_NAME})|unix-abstract:(?P<name>{_NAME})")


def is_socket(address: str) -> bool:
    """Return whether an address is meant to be that of a Unix socket."""
    return address.startswith(SCHEMES)


def path_of(address: str) -> str | None:
    """Return where the socket stands in the file system; None for an abstract one. Raises: ValueError."""
    if (found := _SOCKET.fullmatch(address)) is None:
        raise ValueError(f"should be HOST:PORT, {FORMS}")
    return found["path"]


def check_host(host: str) -> None:
    """See that gRPC takes a host as the resolver of this machine does, which knows more forms. Raises: ValueError."""
    if host.strip("[]") == "*":
        raise ValueError("of all addresses is 0.0.0.0:PORT, or [::]:PORT")
    if host.startswith("[") or ":" in host:
        _check_ipv6(host)
    elif _is_numeric(host):
        # The resolver of this machine would take 127.1 for 127.0.0.1, so a name is not what was meant.
        try:
            IPv4Address(host)
        except AddressValueError:
            raise ValueError(f"should be HOST:PORT; {host} is no address of four numbers, e.g. 127.0.0.1") from None


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host.strip("[]"))
    except AddressValueError:
        raise ValueError("should be HOST:PORT; in brackets is an address of IPv6, e.g. [::1]") from None
    if not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"should be HOST:PORT; an address of IPv6 is in brackets: [{host.strip('[]')}]")


def _is_numeric(host: str) -> bool:
    """Return whether the C library takes it for an address of IPv4, of which it knows old forms: 127.1, 0x7f.1, 0."""
    try:
        socket.inet_aton(host)
    except (OSError, UnicodeError):
        return False
    return True
