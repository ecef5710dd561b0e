"""Open files and sockets: the limit of the process, its budget for client connections, and the error when none is left.

Knows the settings, and no connection: callers enforce the budget.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from assetwatchd.model.errors import OutOfDescriptors

if sys.platform != "win32":  # which has no such limit
    import resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.settings.schema import Settings

LIMIT_MAX = 1024 * 1024
"""No more than this is asked for: a hard limit may be a billion, and libraries that close every descriptor a child may
have count up to the soft one."""
OWN = 32
"""Of the process itself: the event loop, gRPC, the store, logs, an exporter; and files that are open for a moment."""
TRANSPORTS = 2
"""A source has up to so many, each with connections for its concurrency and BESIDE."""
BESIDE = 3
"""Connections beside those of reads: a list, which may be long, a WebSocket, and a call for a token."""

log = logging.getLogger(__name__)


def raise_limit() -> None:
    """Raise the limit of open files to the highest that the process may set, LIMIT_MAX at most."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = LIMIT_MAX if hard == resource.RLIM_INFINITY else min(hard, LIMIT_MAX)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(OSError, ValueError):  # not allowed, or not so many: what is there is made do with
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> int:
    """Return how many files the process may have open."""
    if sys.platform == "win32":
        return LIMIT_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LIMIT_MAX if soft == resource.RLIM_INFINITY else soft


def for_connections(settings: Settings) -> int:
    """Return how many connections of clients there are files for: the limit less what all else needs, at least half.

    So clients, of which there may be any number, do not take what the sources need.
    """
    # At least half: with a small limit and many sources the difference may be negative, and no client could connect.
    return max(limit() - _needed_beside(settings), limit() // 2)


def warn_if_few(settings: Settings) -> None:
    """Say what to do where there are files for fewer connections than there may be watches."""
    fit, watches = for_connections(settings), settings.server.streams_max
    if fit < watches:
        log.warning(
            "the process may open %d files and sockets: enough for %d connections, though server.streams_max = %d;"
            " let it open %d (ulimit -Hn, LimitNOFILE= of systemd, ulimits: of compose), or lower streams_max",
            limit(),
            fit,
            watches,
            _needed_beside(settings) + watches,
        )


def _needed_beside(settings: Settings) -> int:
    return OWN + sum(TRANSPORTS * (source.concurrency + BESIDE) for source in settings.sources.values())


@contextmanager
def missed() -> Iterator[None]:
    """Raise OutOfDescriptors in place of what fails inside because no more files can be opened."""
    try:
        yield
    except OSError as error:
        if ran_out(error):
            raise OutOfDescriptors(
                "assetwatch can open no more files and sockets, so it did not ask; let it open more (ulimit -n)"
            ) from error
        raise


def ran_out(error: OSError) -> bool:
    """Return whether something failed because no more files can be opened; looking up a name does not say that."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return True
    # getaddrinfo reports a lack of descriptors as a name that cannot be looked up, so the only way to tell is to try.
    return _of_a_lookup(error) and not _can_open()


def _of_a_lookup(error: OSError) -> bool:
    return isinstance(error, socket.gaierror) or isinstance(error.__cause__, socket.gaierror)


def _can_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True
