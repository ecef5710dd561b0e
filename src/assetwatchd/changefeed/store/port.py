"""The store: the latest entry of each asset, ordered by revision. What is durable lives behind this protocol alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from assetwatchd.model.values import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.model.values import AssetKey, Freshness, State


class Draft(NamedTuple):
    """An entry that has no number yet. seal(revision) encodes it once it has one.

    content, sealed_at: what `Encoder.seal` made `seal` of, with the traceparent; sealed_at is its observed_at. A store
        that processes share keeps that, and each of them seals the entry itself.
    """

    key: AssetKey
    state: State
    gone: bool
    freshness: Freshness
    digest: bytes
    found_at: float
    traceparent: str
    seal: Callable[[int], bytes]
    content: bytes
    sealed_at: float

    def entry(self, revision: int, *, committed_at: float) -> Entry:
        """Give it its number, and the moment of that (s since 1970)."""
        return Entry(
            key=self.key,
            revision=revision,
            state=self.state,
            gone=self.gone,
            freshness=self.freshness,
            digest=self.digest,
            upsert=self.seal(revision),
            found_at=self.found_at,
            committed_at=committed_at,
            traceparent=self.traceparent,
        )


class Store(Protocol):
    """Entries by asset and by revision."""

    @property
    def epoch(self) -> str:
        """Names the count of revisions; another store, a wiped or a restored one, has another. It may change.

        It is asked for whenever a token is made: where processes share a store, each that starts begins an epoch.
        """
        ...

    @property
    def head(self) -> int:
        """No entry has a revision above it, and every later one will; 0 when nothing was ever committed."""
        ...

    @property
    def floor(self) -> int:
        """Removals at or below it may be forgotten, so nobody can resume from below it."""
        ...

    def continues(self, epoch: str, revision: int) -> bool:
        """Whether what that epoch counted up to that revision is what this store counted up to there."""
        ...

    async def caught_up(self) -> None:
        """Return once all that any process had committed when this was called can be read here, epochs too.

        Of a store that one process has by itself that is so at once; another may be waited for, for ever.
        """
        ...

    def get(self, key: AssetKey) -> Entry | None:
        """Return the latest entry of an asset, also one that is gone."""
        ...

    def after(self, cursor: int, upto: int, limit: int | None = None) -> Sequence[Entry]:
        """Return the latest entries with cursor < revision <= upto, in order and frozen; at most limit, the first."""
        ...

    def keys(self, source: str) -> Iterable[AssetKey]:
        """Every asset of a source that has an entry, gone or not."""
        ...

    def count(self, source: str) -> int:
        """How many assets of a source are there, without those gone."""
        ...

    async def commit(self, drafts: Sequence[Draft]) -> Sequence[Entry]:
        """Number the drafts of one source, and make them durable; they can be read when this returns, not before.

        Their revisions rise in the order of the drafts, and are above all that there were; they need not be contiguous.
        Returns: their entries. One that the store can never take, as it is too large, is logged and not among them.
        Raises: StoreError when they could not be made durable; then none of them can be read, or, of more than it can
        write at once, the first. NotOwner when the source is another process's to write: trying again will not help.
        """
        ...

    async def drop_gone(self, *, before: float, keep: Callable[[AssetKey], bool]) -> int:
        """Drop entries that are gone, were committed before that time (s since 1970) and are not to be kept.

        The floor is raised in the moment they are chosen, and lasts before they are dropped. Returns how many were.
        Of a store that processes share, only those of sources that are this one's to write.
        Raises: StoreError; then what was not dropped stays, and the floor is that of what was.
        """
        ...

    def forget(self, key: AssetKey) -> None:
        """Drop the entry of an asset that never was, if there is one and it is gone; the floor stays where it is.

        Nobody reads it from now on; it is off the disk at some time later. Until then, a restart may bring it back.
        """
        ...

    async def run(self, moved: Callable[[], None]) -> None:
        """Do for as long as the service runs what the store has to do by itself; return at once if that is nothing.

        moved is called when the head moved by what came from elsewhere. While it does not run, such a store cannot
        commit. Raises: HistoryBroken.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...
