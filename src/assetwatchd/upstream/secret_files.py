"""Notices that a file of credentials has changed, so that a refused source is tried at once and not after its pause."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from assetwatchd.upstream.credentials import TOKEN_BYTES_MAX

if TYPE_CHECKING:
    from assetwatchd.settings.schema import SourceSettings

CHECK_S = 1.0
"""How often it is looked whether a refused credential is another by now."""


class SecretFiles:
    """The files that hold the credentials of one source, if any do."""

    def __init__(self, settings: SourceSettings) -> None:
        auth = getattr(settings, "auth", None)
        self._files = () if auth is None else tuple(value for _, value in auth if isinstance(value, Path))
        self._refused = b""

    def digest(self) -> bytes:
        """Return a digest of what the files hold; empty where there are none.

        A file that cannot be read is as good as empty.
        """
        return hashlib.blake2b(b"\0".join(map(_content_of, self._files))).digest() if self._files else b""

    def refused(self, digest: bytes) -> None:
        """Record a refused call, and the digest of what the files held when it began."""
        self._refused = digest

    def taken(self) -> None:
        """Record that nothing is refused any more."""
        self._refused = b""

    async def changed(self) -> None:
        """Return once they hold something else than what was refused; never where there are none."""
        while not self._refused or self.digest() == self._refused:  # noqa: ASYNC110 - no file rings when it is written
            await asyncio.sleep(CHECK_S)
        self.taken()


def _content_of(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(TOKEN_BYTES_MAX + 1)
    except OSError:
        return b""
