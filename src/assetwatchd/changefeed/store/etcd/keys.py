"""The names of all keys of one deployment, and how a revision of etcd becomes one of entries. Pure.

    e/SOURCE/ASSET_ID   an entry: Record
    w/SOURCE            the id of the last commit of the source; its revision is the chain that the next goes on from
    f/SOURCE            the floor: up to where removals of the source are dropped
    o/SOURCE            who may write the source; the revision of its creation is the term. Hangs on a lease
    m/epochs            all epochs: Epochs
    m/base, m/floor     the head and the floor of the store that this one is a copy of
    m/copying           there while that is copied

Others below the prefix are those of whoever subscribes to them: see `Mirror.subscribe`.
"""

from __future__ import annotations

from sys import intern

from assetwatchd.model.values import AssetKey

PLACES = 1 << 7
"""Revisions of entries that one revision of etcd has room for; a transaction writes fewer, `parts.DRAFTS_MAX`."""

EPOCHS, BASE, FLOOR, COPYING = b"m/epochs", b"m/base", b"m/floor", b"m/copying"


class Keys:
    """The keys below a prefix. A name is a key without that."""

    def __init__(self, prefix: str) -> None:
        """prefix: what all keys begin with, such as /assetwatch/default/."""
        self.prefix = prefix.encode()
        self._skipped = len(self.prefix)

    def name(self, key: bytes) -> bytes:
        """Return the name of a key below the prefix."""
        return key[self._skipped :]

    def named(self, name: bytes) -> bytes:
        """Return the key of a name."""
        return self.prefix + name

    def entry(self, asset: AssetKey) -> bytes:
        """Return the key of an asset's entry."""
        return self.prefix + b"e/" + asset.source.encode() + b"/" + asset.asset_id.encode()

    def chain(self, source: str) -> bytes:
        """Return the key of a source's last commit."""
        return self.prefix + chain(source)

    def owner(self, source: str) -> bytes:
        """Return the key of who may write a source."""
        return self.prefix + b"o/" + source.encode()

    def floor(self, source: str) -> bytes:
        """Return the key of a source's floor."""
        return self.prefix + b"f/" + source.encode()


def chain(source: str) -> bytes:
    """Return the name of a source's last commit."""
    return b"w/" + source.encode()


def is_entry(name: bytes) -> bool:
    """Tell whether a name is that of an entry."""
    return name.startswith(b"e/")


def asset(name: bytes) -> AssetKey:
    """Return the asset whose entry has that name."""
    source, _, asset_id = name[2:].partition(b"/")
    return AssetKey(intern(source.decode()), asset_id.decode())


def number(base: int, revision: int, place: int = 0) -> int:
    """Return the revision of what has that place in the transaction of that revision of etcd.

    It rises with both, and is above the base. Below 2^53 for 2^46 transactions: two millennia of a thousand a second.
    """
    return base + revision * PLACES + place
