"""What the streams and the rounds of one hub have in common, so that neither need know the other.

Each field has one writer, named beside it, but for `joining`, which many raise and one takes back. It decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.errors import CallError
    from assetwatchd.model.values import Condition


class HubState:
    """Of one hub.

    head: every round up to it has begun; only `Rounds` moves it. The store's head is there first.
    conditions: of every source, as told last; only `Hub.tell` sets them.
    ending: makes the error that every stream ends with; None as long as none is to end. Only `Hub.end` sets it.
    skipped: removals up to there may have been dropped before a round came to them, also of what open streams name;
        only `Rounds` moves it.
    joining: whether a stream has begun, or taken something it catches up with, since the last round began. Raised by
        those who do so, and taken back by `Rounds`.
    """

    def __init__(
        self,
        store: Store,
        *,
        incomplete: Callable[[frozenset[str]], tuple[str, ...]],
    ) -> None:
        """incomplete: of which of some sources there may be more than is in the store."""
        self.store = store
        self.incomplete = incomplete
        self.head = store.head
        self.skipped = 0
        self.conditions: dict[str, Condition] = {}
        self.ending: Callable[[], CallError] | None = None
        self.joining = False

    def may_lack_removals(self, cursor: int) -> bool:
        """Tell whether removals after a cursor may be gone that no stream was woken for, whoever names them.

        Where one process counts, it does not come to that: what an open stream names is not dropped. Another one that
        owns the source may have dropped it while nothing was heard here, nor from here.
        """
        floor = self.store.floor
        return cursor < floor and (self.head < floor or cursor < self.skipped)

    def conditions_of(self, sources: frozenset[str]) -> dict[str, Condition]:
        """Return those of some sources that are known."""
        return {source: self.conditions[source] for source in sources & self.conditions.keys()}
