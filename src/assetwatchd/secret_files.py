"""Credentials that are read from files: whether one was changed, so that who was refused need not wait any longer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from assetwatchd.credentials import TOKEN_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.config import SourceSettings


def files_of(settings: SourceSettings) -> tuple[Path, ...]:
    """Return the files that hold the credentials of a source."""
    auth = getattr(settings, "auth", None)
    return () if auth is None else tuple(value for _, value in auth if isinstance(value, Path))


def digest_of(files: Sequence[Path]) -> bytes:
    """Return what tells their content from another; one that cannot be read is as good as empty."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(hashlib.blake2b(_content(file)).digest())
    return digest.digest()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(TOKEN_BYTES_MAX + 1)
    except OSError:
        return b""
