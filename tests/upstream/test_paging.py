"""Pages of a list that is changed while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer
from assetwatchd.upstream.paging import AGAIN_MAX, GROWN_TIMES, Lack, Page, Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

SIZE = 3
COUNTS = pytest.mark.parametrize("counts", [True, False], ids=["totals", "pages alone"])


def page_of(assets: Sequence[int], number: int, *, counts: bool) -> Page:
    """Make the page of a list as it is now; it tells how many assets it has, or only how many pages."""
    pages = max(1, -(-len(assets) // SIZE))
    items = frozenset(assets[SIZE * (number - 1) : SIZE * number])
    return Page(items, 0, len(assets) if counts else None, pages, number >= pages)


@given(st.lists(st.lists(st.tuples(st.sampled_from("rrra"), st.integers(0, 40)), max_size=5), max_size=14), st.data())
def test_whoever_is_there_all_the_time_is_listed(changes: list[list[tuple[str, int]]], data: st.DataObject) -> None:
    """However many are removed, or added, before a page is read: who stays is in the list, or it is not complete."""
    assets = list(range(data.draw(st.integers(1, 25))))
    staying, pages = set(assets), Pages(SIZE)
    for step in range(100):
        if pages.number is None:
            break
        pages.take(page_of(assets, pages.number, counts=True))
        for kind, where in changes[step] if step < len(changes) else ():
            if kind == changes[step][0][0] == "r" and assets:
                staying.discard(assets.pop(where % len(assets)))
            elif kind == changes[step][0][0] == "a":
                assets.insert(where % (len(assets) + 1), 1000 + 100 * step + where)
    assert staying <= pages.seen or pages.lack().unreadable


@COUNTS
@given(st.integers(0, 20))
def test_a_list_that_stays_as_it_is(counts: bool, count: int) -> None:  # noqa: FBT001 - of the case
    """Each of its pages is read once."""
    assets, pages, reads = range(count), Pages(SIZE), 0
    while pages.number is not None:
        pages.take(page_of(assets, pages.number, counts=counts))
        reads += 1
    assert (pages.seen, pages.lack()) == (set(assets), Lack(0, ""))
    assert reads == max(1, -(-count // SIZE))


def test_many_removed_at_once_are_gone_back_for() -> None:
    """As many pages are read again as the list has become shorter by."""
    assets, pages, read = list(range(30)), Pages(SIZE), []
    while pages.number is not None:
        read.append(pages.number)
        pages.take(page_of(assets, pages.number, counts=True))
        if len(read) == 6:
            del assets[:8]
    assert read == [1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 8]
    assert set(assets) <= pages.seen


@pytest.mark.parametrize("last", [False, True])
def test_a_list_that_never_settles_is_left(last: bool) -> None:  # noqa: FBT001 - of the case
    """One that becomes shorter with every page is taken as it is after some, and not as complete."""
    pages, reads = Pages(1), 0
    while pages.number is not None:
        pages.take(Page(frozenset({pages.number}), 0, 10**6 - reads, None, last))
        reads += 1
    assert pages.lack().unreadable
    assert reads <= 2 * AGAIN_MAX + 3


def test_items_without_an_id_are_counted_once() -> None:
    """Also where their page is read again."""
    pages = Pages(2)
    for page in (
        Page(frozenset({1}), 1, 4, None, is_last=False),
        Page(frozenset({4}), 0, 3, None, is_last=True),
        Page(frozenset({1}), 1, 3, None, is_last=False),
        Page(frozenset({4}), 0, 3, None, is_last=True),
    ):
        pages.take(page)
    assert pages.number is None
    assert (pages.seen, pages.lack()) == ({1, 4}, Lack(1, "page 1 has an item without an id"))
    nobody = Pages(2)
    nobody.take(Page(frozenset(), 2, None, None, is_last=True))
    with pytest.raises(BadAnswer, match="not one readable id"):
        nobody.lack()


@given(st.integers(1, 60), st.integers(1, 3), st.booleans(), st.booleans())
def test_a_list_that_grows_with_each_page_is_left(first: int, more: int, counts: bool, paged: bool) -> None:  # noqa: FBT001 - of the case
    """Each page says that there is a further one: it is left when it has grown by as much as none does, and says so."""
    counts = counts or not paged
    pages, reads = Pages(SIZE), 0
    while pages.number is not None:
        held = frozenset(range(SIZE * pages.number, SIZE * pages.number + SIZE))
        last = max(first, pages.number + more)
        pages.take(Page(held, 0, SIZE * last if counts else None, last if paged else None, is_last=False))
        reads += 1
        assert reads < 1000
    assert reads == GROWN_TIMES * max(first, 1 + more) + AGAIN_MAX
    lack = pages.lack()
    assert lack.unreadable
    assert f"after {reads} pages it says that there are more, and it said {max(first, 1 + more)} at first" in lack.why


@given(st.integers(1, 60), st.integers(0, 3 * SIZE))
def test_a_total_that_is_wrong_and_stays_so_ends_no_list(count: int, total: int) -> None:
    """Some say of a page alone how many it holds: that does not grow."""
    pages = Pages(SIZE)
    while pages.number is not None:
        at = SIZE * (pages.number - 1)
        held = frozenset(range(at, min(at + SIZE, SIZE * count)))
        pages.take(Page(held, 0, total, None, is_last=len(held) < SIZE))
    assert pages.seen == set(range(SIZE * count))
