"""What clients of this process watch of one source, counted, in buckets: one that changed is told as a whole. Pure.

A bucket has all names of one hash, so that one more of 10,000 names costs a 64th of telling them all.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.model.values import AssetKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUCKETS = 64
BUCKET_BYTES_MAX = 1024 * 1024
"""Of the names of a bucket: a key of etcd has to go into one request, of 1.5 MiB by default. Ids of 50 bytes: a million
names of one source that the clients of one process watch."""
UNPACKED_BYTES_MAX = 8 * BUCKET_BYTES_MAX
"""Of a bucket as it is read: every character of a name may be written as six. What is more fills memories."""
WHOLE = "w"
"""The bucket that tells, by not being empty, that the whole source is watched."""
NOTHING = b""


def bucket(name: str) -> str:
    """Return the bucket of an asset's id, which is the same everywhere and for ever."""
    return str(zlib.crc32(name.encode(errors="surrogatepass")) % BUCKETS)


def encode(names: Iterable[str]) -> bytes:
    """Write the names of a bucket; empty if there is none."""
    told = sorted(names)
    return zlib.compress(json.dumps(told, ensure_ascii=False).encode(errors="surrogatepass"), 1) if told else NOTHING


def decode(body: bytes) -> Sequence[str]:
    """Read the names of a bucket. Raises: ValueError for what no replica wrote."""
    try:
        names = json.loads(_unpacked(body).decode(errors="surrogatepass")) if body else []
    except (zlib.error, RecursionError) as error:
        raise ValueError("not packed names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("not a list of names")
    return names


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(body, UNPACKED_BYTES_MAX)
    if not unpacking.eof:
        raise ValueError("cut off, or too long")
    return unpacked


class Named:
    """How often each asset is named, and the whole source. dirty: buckets that are not as they were told."""

    def __init__(self, source: str, *, assets_max: int) -> None:
        self.dirty: set[str] = set()
        self.source = source
        self._assets_max = assets_max
        self._counts: dict[str, int] = {}
        self._keys: dict[str, AssetKey] = {}
        self._buckets: dict[str, set[str]] = {}
        self._bytes: dict[str, int] = {}
        self._whole = 0

    def __contains__(self, name: object) -> bool:
        """Whether an asset is named."""
        return name in self._counts

    def key(self, name: str) -> AssetKey | None:
        """Return the key of an asset that is named, the one object that all share."""
        return self._keys.get(name)

    def begin(self, names: Sequence[str], *, whole: bool = False) -> None:
        """Count each once more. Raises: TooManyAssets, having counted nothing."""
        self._check([name for name in names if name not in self._counts])
        for name in names:
            count = self._counts[name] = self._counts.get(name, 0) + 1
            if count == 1:
                self._add(name)
        if whole:
            self._whole += 1
            if self._whole == 1:
                self.dirty.add(WHOLE)

    def end(self, names: Iterable[str], *, whole: bool = False) -> None:
        """Count each once less."""
        for name in names:
            self._counts[name] -= 1
            if not self._counts[name]:
                self._drop(name)
        if whole:
            self._whole -= 1
            if not self._whole:
                self.dirty.add(WHOLE)

    def _check(self, new: Sequence[str]) -> None:
        if len(self._counts) + len(new) > self._assets_max:
            raise TooManyAssets(self.source, self._assets_max)
        more: dict[str, int] = {}
        for name in new:
            at = bucket(name)
            more[at] = more.get(at, 0) + size(name)
            if self._bytes.get(at, 0) + more[at] > BUCKET_BYTES_MAX:
                raise TooManyAssets(self.source, len(self._counts))

    def _add(self, name: str) -> None:
        at = bucket(name)
        self._keys[name] = AssetKey(self.source, name)
        self._buckets.setdefault(at, set()).add(name)
        self._bytes[at] = self._bytes.get(at, 0) + size(name)
        self.dirty.add(at)

    def _drop(self, name: str) -> None:
        at = bucket(name)
        del self._counts[name], self._keys[name]
        self._buckets[at].discard(name)
        self._bytes[at] -= size(name)
        self.dirty.add(at)

    def told(self, at: str) -> bytes:
        """Return the body of a bucket as it is now."""
        if at == WHOLE:
            return b"*" if self._whole else NOTHING
        return encode(self._buckets.get(at, ()))

    def again(self) -> None:
        """Have every bucket told that is not empty: whoever was told before has forgotten it."""
        self.dirty.update(at for at, names in self._buckets.items() if names)
        if self._whole:
            self.dirty.add(WHOLE)


def size(name: str) -> int:
    """Return how many bytes a name takes of a bucket, at most nearly."""
    return len(name.encode(errors="surrogatepass")) + len('"", ')
