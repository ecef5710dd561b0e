"""Which drafts go into one transaction. Pure.

etcd takes 128 operations and 1.5 MiB in a transaction, unless it is told otherwise, and no key twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import AssetKey

DRAFTS_MAX = 120
"""In a transaction: below 128, with the commit's own key, and below keys.PLACES."""
BYTES_MAX = 1 << 20
"""Of a transaction's drafts, unless it has a single one: below 1.5 MiB, with what is around them."""
AROUND_BYTES = 300
"""Of a draft, beside its content and its asset's name."""


class Part:
    """What goes into one transaction: drafts, at most DRAFTS_MAX and BYTES_MAX of them, no asset twice."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self._keys: set[AssetKey] = set()
        self._bytes = 0

    def took(self, drafts: Sequence[Draft]) -> bool:
        """Take them all, or none if not all of them fit; what is empty takes any single one."""
        size = self._bytes + sum(map(size_of, drafts))
        fits = len(self.drafts) + len(drafts) <= DRAFTS_MAX and size <= BYTES_MAX
        keys = {draft.key for draft in drafts}
        single = not self.drafts and len(drafts) == 1
        if not single and not (fits and len(keys) == len(drafts) and self._keys.isdisjoint(keys)):
            return False
        self.drafts += drafts
        self._keys |= keys
        self._bytes = size
        return True


def parts(commits: Iterable[Sequence[Draft]]) -> Iterator[Sequence[Draft]]:
    """Split the drafts of some commits, in their order; a commit that fits into one transaction is in one."""
    part = Part()
    for drafts in commits:
        if part.took(drafts):
            continue
        for some in [drafts] if Part().took(drafts) else ([draft] for draft in drafts):
            if not part.took(some):
                if part.drafts:
                    yield part.drafts
                part = Part()
                part.took(some)
    if part.drafts:
        yield part.drafts


def size_of(draft: Draft) -> int:
    """Return about how many bytes a draft takes in its transaction; not fewer."""
    return len(draft.content) + 4 * len(draft.key.asset_id) + AROUND_BYTES
