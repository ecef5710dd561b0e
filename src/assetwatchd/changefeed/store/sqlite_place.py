"""Where the file of the SQLite store stands: what is wrong there, and file and folder made for their owner alone.

SQLite gives its -wal and -journal the mode of the file.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
"""Names of assets, and what upstreams say of them, are the owner's business. What is there already stays as it is."""
APPLICATION_ID = 0x61737477
"""Written into the file's header, so that no other program's database is taken for a store."""
HEADER = struct.Struct(">16s44xI4xI28xB2xH")
"""Magic, schema version and application id at the beginning of a database (SQLite's file format, section 1.3).

Behind them, of the first page, which tells what tables there are: its kind, and how much stands in it (section 1.6).
"""
LEAF = 0x0D
"""The kind of a first page that has all there is to tell; one of another kind leads to further pages."""
MAGIC = b"SQLite format 3\x00"


def prepare(path: Path) -> None:
    """Make the file, and its folder where that alone is not there. Raises: OSError."""
    with suppress(FileExistsError):
        path.parent.mkdir(FOLDER_MODE)
    with suppress(FileExistsError):  # one that is there is not opened: closing it would give up locks of this process
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def problems(path: Path, *, newest: int) -> Iterator[str]:
    """Yield what keeps a store from being opened or made there. Not for a file that this very process has open.

    newest: the schema version that this release writes. Damage is found when the file is opened.
    """
    yield from (f"store.path: {text}" for text in (*_wrong_folder(path.parent), *_wrong_file(path, newest)))


def _wrong_folder(folder: Path) -> Iterator[str]:
    place = folder if folder.exists() else folder.parent
    if not place.is_dir():
        yield f"there is no folder {place}; create it"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield f"nothing can be written in the folder {place}; allow it, or name another one"


def _wrong_file(path: Path, newest: int) -> Iterator[str]:
    if not path.exists():
        return
    if not path.is_file() and not path.is_dir():
        yield f"{path} is no file, but a device, a pipe or a socket; name another one"
        return
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
    except OSError as error:
        yield f"{path} cannot be read: {error.strerror}"
        return
    if not os.access(path, os.W_OK):
        yield f"{path} cannot be written"
    if header:
        yield from _not_ours(path, header, newest)


def _not_ours(path: Path, header: bytes, newest: int) -> Iterator[str]:
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        yield f"{path} is damaged or no store; put a backup back, or name another file"
        return
    _, version, identity, kind, cells = HEADER.unpack(header)
    if identity != APPLICATION_ID and (identity or version or kind != LEAF or cells):
        yield foreign(path)
    elif version > newest:
        yield too_new(path, version, newest)


def foreign(path: Path) -> str:
    """Say that the file is another program's."""
    return f"{path} is a database of another program; name another file"


def too_new(path: Path, version: int, newest: int) -> str:
    """Say that a newer release wrote the file."""
    return f"{path} has schema version {version} and this release reads up to {newest}; use a newer one"
