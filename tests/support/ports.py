"""Ports for servers that are not there yet.

None of those that the system gives to clients: a client that keeps trying such a port, while nobody listens on it, is
given the port itself at some time, and is then connected with itself.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

LOWEST = 10_000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
GIVEN_TO_CLIENTS_FROM = 32_768
"""Where there is no such file; elsewhere than on Linux they begin later."""


def free_port(count: int = 1) -> int:
    """Return the first of so many ports in a row that nobody listens on, and no client is given."""
    highest = _given_to_clients_from() - count
    while True:
        first = random.randint(LOWEST, highest)  # noqa: S311 - other tests look for one at the same time
        if all(_is_free(first + number) for number in range(count)):
            return first


def _given_to_clients_from() -> int:
    with contextlib.suppress(OSError):
        return int(RANGE.read_text().split()[0])
    return GIVEN_TO_CLIENTS_FROM


def _is_free(port: int) -> bool:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
