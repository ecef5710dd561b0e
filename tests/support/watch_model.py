"""What both machines check a watch against: every commit kept for ever, and a client that checks what it is told.

The invariants, by name:
I1 per asset revisions rise. I2 per stream revisions rise. I3 across resumes no (asset, revision) comes twice. I4 when
all is quiet every map is the truth. I5 a bookmark is ahead of nothing, and the map is the truth as of it. I6 nothing
older than seen. I7 a resume gives what came after its token and nothing before; a token just issued is accepted. I8 as
of synced the map is the truth, also when it is empty. I9 only what was asked for comes, in the view asked for; what
leaves it is REMOVED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.filters import Filter
from assetwatchd.model.values import GONE, State, View
from support.entries import asking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Entry
    from support.entries import Change

NAMES = ("dam/a", "dam/ab", "dam/c", "usd/ab")
SOURCES = ("dam", "none", "usd")
STATES = (State.AVAILABLE, State.PENDING, State.DELETED, State.MISSING)
SCOPES = (
    asking(sources=["dam"]),
    asking(sources=["dam", "usd"]),
    asking(names=["dam/a"]),
    asking(names=["dam/a", "usd/ab", "usd/never"]),
    asking(sources=["usd"], names=["dam/ab"]),
    asking(sources=["dam"], states=[State.AVAILABLE, State.DELETED]),
    asking(names=["dam/a", "dam/ab"], states=[State.DELETED, State.PENDING]),
    asking(sources=["none"]),
)
PREFIXES = ("", "a", "ab", "abc")


def _narrowed(scope: Filter, prefix: str, view: View) -> Filter:
    return Filter(scope.keys, scope.sources, scope.states, prefix if scope.sources else "", view)


FILTERS = st.builds(_narrowed, st.sampled_from(SCOPES), st.sampled_from(PREFIXES), st.sampled_from(View))
"""Any of those in any view, and of whole sources any prefix, too: streams that differ in nothing else, side by side."""
CHANGES = st.tuples(st.sampled_from(NAMES), st.sampled_from(STATES), st.booleans())
"""An asset, its new state, and whether it is to be forgotten if that state alone does not make it gone."""


class Token(NamedTuple):
    """A token with what its holder knew: its map, and the newest revision seen of each asset."""

    text: str
    epoch: str
    revision: int
    what: Filter
    map: dict[AssetKey, Change]
    newest: dict[AssetKey, int]


class Truth:
    """Every commit to one store, which may be opened again, and which removals it was told to drop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log: dict[int, Entry] = {}
        self.dropped: set[int] = set()

    def took(self, entries: Sequence[Entry]) -> None:
        """Note what was committed."""
        self.log |= {entry.revision: entry for entry in entries}

    async def sweep(self, share: float, named: frozenset[AssetKey]) -> None:
        """Drop the older removals, by the share of revisions, save those of assets that somebody names.

        The store's clock has to say how many revisions there are.

        As of the moment in which they are chosen they count as dropped.
        """

        def keep(key: AssetKey) -> bool:
            if key not in named and (entry := self.store.get(key)) is not None:
                self.dropped.add(entry.revision)
            return key in named

        await self.store.drop_gone(before=share * (self.store.head + 1), keep=keep)

    def asked(self, what: Filter, key: AssetKey) -> bool:
        """Whether the asset was asked for, by name or with its source."""
        return key in what.keys or (key.source in what.sources and key.asset_id[: len(what.prefix)] == what.prefix)

    def held(self, what: Filter, entry: Entry) -> bool:
        """Whether the entry belongs into the map of a client with that filter."""
        if what.states and entry.state not in what.states:
            return False
        return not entry.gone or entry.key in what.keys or (bool(what.states) and entry.state in GONE)

    def check(self, known: dict[AssetKey, Change], what: Filter, upto: int) -> None:
        """Require a map to be the fold of the log up to a revision; removals dropped may still be known or not."""
        fold = {entry.key: entry for revision, entry in self.log.items() if revision <= upto}
        assert known.keys() <= fold.keys()
        for key, entry in fold.items():
            found = known.get(key)
            wanted = (entry.revision, entry.state) if self.asked(what, key) and self.held(what, entry) else None
            if found is not None or entry.revision not in self.dropped:
                assert (found and (found.revision, found.state)) == wanted, (key, upto)


class Reading:
    """What one stream told, checked as it comes; each token it gave is noted with what was known by then."""

    def __init__(self, truth: Truth, what: Filter, token: Token | None = None) -> None:
        self.what = what
        self.tokens: list[Token] = []
        self.synced = False
        self.map = dict(token.map) if token else {}
        self._truth = truth
        self._resumed = token is not None
        self._last = token.revision if token else 0
        self._newest = dict(token.newest) if token else {}

    def told(self, changes: Sequence[Change], revision: int) -> None:
        """Take in one message with changes, up to a revision."""
        assert changes
        assert changes[-1].revision == revision
        for change in changes:
            self._check(change)
            if change.removed:
                self.map.pop(change.key, None)
            else:
                self.map[change.key] = change
        self._note(revision)

    def marked(self, revision: int, *, bookmark: bool) -> None:
        """Take in synced, or a bookmark."""
        assert self.synced == bookmark
        self.synced = True
        assert revision >= self._last  # I5
        self._last = revision
        self._truth.check(self.map, self.what, revision)  # I5, I8
        self._note(revision)

    def _check(self, change: Change) -> None:
        entry = self._truth.log[change.revision]
        assert (entry.key, entry.state) == (change.key, change.state)
        assert self._truth.asked(self.what, change.key)  # I9
        assert change.detailed == (self.what.view is View.FULL)  # I9
        assert change.removed != self._truth.held(self.what, entry)  # I9
        assert self.synced or self._resumed or not change.removed
        assert change.revision > self._last  # I2, I7
        assert change.revision > self._newest.get(change.key, 0)  # I1, I3, I6
        self._last = self._newest[change.key] = change.revision

    def _note(self, revision: int) -> None:
        epoch = self._truth.store.epoch
        text = resume_token.encode(epoch=epoch, revision=revision, digest=self.what.digest)
        self.tokens.append(Token(text, epoch, revision, self.what, dict(self.map), dict(self._newest)))
