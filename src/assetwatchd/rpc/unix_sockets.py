"""Unix sockets to listen on: checks made before gRPC, which replaces any socket that is there, even one in use."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from assetwatchd.settings.addresses import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o660
"""The owner and the group of the process may connect; who else may enter the folder may not."""
PATH_BYTES_MAX = 107
"""What the kernel takes."""


def wrong(address: str, *, taken: bool) -> Iterator[str]:
    """Yield why no server can listen there. taken: another one may do so, as it may be gone in a moment."""
    path = path_of(address)
    if path is None:
        if not taken and _is_served("\0" + address.partition(":")[2]):
            yield os.strerror(errno.EADDRINUSE)
    elif len(os.fsencode(path)) > PATH_BYTES_MAX:
        yield f"the path of a socket has at most {PATH_BYTES_MAX} bytes"
    else:
        yield from _wrong_place(Path(path), taken=taken)


def _wrong_place(path: Path, *, taken: bool) -> Iterator[str]:
    if not path.parent.is_dir():
        yield f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        yield f"nothing can be made in the folder {path.parent}"
    elif path.exists() and not path.is_socket():
        yield "something else than a socket is there"
    elif not taken and path.exists() and _is_served(str(path)):
        yield os.strerror(errno.EADDRINUSE)


def _is_served(place: str) -> bool:
    """Return whether somebody listens: a socket left over from a process that was killed refuses a connection."""
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(0)
        return trial.connect_ex(place) != errno.ECONNREFUSED


def open_to_group(address: str) -> None:
    """Give a socket that was just made its mode."""
    path = path_of(address)
    if path is not None:
        Path(path).chmod(MODE)
