"""Reads the pages of a list that may change meanwhile: which page is next, and what is missing. Pure: makes no call."""

from __future__ import annotations

from typing import NamedTuple

from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.texts import counted

AGAIN_MAX = 20
"""So many pages of one list are read again, or bring nothing new, before it is taken as it is: it moves all the time,
or has no end."""
GROWN_TIMES = 2
"""A list that says of itself that it has grown to more than so many times the pages that it had at first, and
AGAIN_MAX, is taken as it is: it grows faster than it can be read, or its totals are made up."""


class Page(NamedTuple):
    """One page as far as it is used: the numbers of its assets, and how many items have none.

    total, pages: how many assets and pages it says that the list has; None where it does not. is_last: none follows, by
    what it says, or because it has fewer items than were asked for.
    """

    numbers: frozenset[int]
    unreadable: int
    total: int | None
    pages: int | None
    is_last: bool


class Lack(NamedTuple):
    """The count of items of a list that cannot be read, and what is wrong with the first; as in Listed."""

    unreadable: int
    why: str


class Pages:
    """Reads the pages of a list, each of so many assets, in order. number: of the page to read next; None at the end.

    What is removed meanwhile pulls later assets onto pages that were read already. So when the list says that it has
    become shorter, as many pages back are read again. What is added only makes some appear twice.

    A server may send fewer items a page than it is asked for. So one that is short ends a list that says nothing of its
    end, or that it has more, only when it brings nothing new.
    """

    def __init__(self, size: int) -> None:
        self.number: int | None = 1
        self.seen: set[int] = set()
        self._size = size
        self._unreadable: dict[int, int] = {}
        self._before: Page | None = None
        self._first: Page | None = None
        self._grown_to = 0
        self._again = 0

    def take(self, page: Page) -> None:
        """Take in the page of that number."""
        if self.number is None:
            return
        # A removed asset shifts later ones onto pages already read; not read again, they would be taken for gone.
        back = 0 if self._before is None else min(self.number - 1, self._pulled(self._before, page))
        is_new = not page.numbers <= self.seen
        self._again += bool(back) or not is_new
        self.seen |= page.numbers
        self._unreadable[self.number] = page.unreadable
        self._before = page
        self._first = self._first or page
        self._grown_to = self.number if self._has_outgrown(page) else 0
        is_last = page.is_last and not back and (self._knows_its_end or not is_new)
        is_over = self._again > AGAIN_MAX or bool(self._grown_to) or is_last
        self.number = None if is_over else self.number - back if back else self.number + 1

    def lack(self) -> Lack:
        """Say what cannot be read of the list. Raises: BadAnswer when it has items and not one number."""
        nameless = sum(self._unreadable.values())
        if nameless and not self.seen:
            raise BadAnswer(f"a list of {counted(nameless, 'item')} and not one readable id")
        if self._grown_to:
            at_first = f"it said {self._pages_told(self._first)} at first"
            return Lack(1 + nameless, f"after {self._grown_to} pages it says that there are more, and {at_first}")
        missing = max(0, self._total - len(self.seen) - nameless)
        if nameless:
            page = next(number for number, unreadable in self._unreadable.items() if unreadable)
            return Lack(nameless + missing, f"page {page} has an item without an id")
        if missing:
            return Lack(missing, f"it says that it has {counted(self._total, 'asset')}, and holds {len(self.seen)}")
        if self._again > AGAIN_MAX:
            return Lack(1, f"its pages repeat or keep changing, though {AGAIN_MAX} were read again")
        return Lack(0, "")

    @property
    def _knows_its_end(self) -> bool:
        """Tell whether the list itself says where it ends, by a count of pages or a total that is reached."""
        page, held = self._before, len(self.seen) + sum(self._unreadable.values())
        return page is not None and (page.pages is not None or (page.total is not None and held >= page.total))

    @property
    def _total(self) -> int:
        return (self._before.total if self._before else None) or 0

    def _has_outgrown(self, page: Page) -> bool:
        """Return whether the list has grown beyond GROWN_TIMES its first length, and still says that there is more."""
        at_first, now, number = self._pages_told(self._first), self._pages_told(page), self.number or 0
        return now > max(at_first, number) and number >= GROWN_TIMES * at_first + AGAIN_MAX

    def _pages_told(self, page: Page | None) -> int:
        """Return how many pages a page says that there are; if by their total alone, as long as the first."""
        if page is None or self._first is None:
            return 0
        size = len(self._first.numbers) + self._unreadable[1]
        return (-(-(page.total or 0) // size) if size else 0) if page.pages is None else page.pages

    def _pulled(self, before: Page, page: Page) -> int:
        """Return by how many pages assets have moved towards the beginning since the page before was read."""
        fewer = _fewer(before.total, page.total)
        return max(-(-fewer // self._size), _fewer(before.pages, page.pages))


def _fewer(before: int | None, now: int | None) -> int:
    return 0 if before is None or now is None else max(0, before - now)
