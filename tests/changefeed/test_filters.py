"""What a watcher asked for, and what an entry is to it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.filters import AT_A_TIME, DIGEST_BYTES, Filter
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.values import AssetKey, State, View
from support.entries import asking, draft, entry

if TYPE_CHECKING:
    from assetwatchd.model.values import Entry

pytestmark = pytest.mark.unit

TEXTS = st.text("a\0\1", max_size=4)
FILTERS = st.builds(
    Filter,
    st.frozensets(st.builds(AssetKey, TEXTS, TEXTS), max_size=3),
    st.frozensets(TEXTS, max_size=3),
    st.frozensets(st.sampled_from(State), max_size=2),
    TEXTS,
    st.sampled_from(View),
)


def test_digest_does_not_depend_on_the_order() -> None:
    """The same assets, sources and states in any order, and twice, are the same filter."""
    one = asking(names=["dam/a", "usd/b", "dam/c"], sources=["x", "y"], states=[State.FAILED, State.PENDING])
    two = asking(names=["usd/b", "dam/c", "dam/a", "dam/a"], sources=["y", "x"], states=[State.PENDING, State.FAILED])
    assert one == two
    assert one.digest == two.digest
    assert len(one.digest) == DIGEST_BYTES


def test_digest_tells_filters_apart() -> None:
    """Another asset, source or state is another digest, also where the texts run into one another."""
    filters = [
        asking(),
        asking(sources=["a"]),
        asking(sources=["a", "b"]),
        asking(sources=["ab"]),
        asking(names=["a/b"]),
        asking(names=["a/b", "a/c"]),
        asking(names=["a/b\0\0a\0c"]),
        asking(names=["a/b\0\0"]),
        asking(sources=["a"], names=["a/b"]),
        asking(sources=["a"], states=[State.FAILED]),
        asking(sources=["a"], states=[State.FAILED, State.DELETED]),
        asking(sources=["a", "FAILED"]),
        asking(sources=["a"], view=View.BASIC),
        asking(sources=["a"], prefix="a"),
        asking(sources=["a"], prefix="ab"),
        asking(sources=["a"], prefix="a", view=View.BASIC),
        asking(sources=["a"], prefix="BASIC"),
        asking(sources=["a"], states=[State.FAILED], view=View.BASIC),
    ]
    for one, two in itertools.combinations(filters, 2):
        assert one.digest != two.digest, (one, two)


@given(FILTERS, FILTERS)
@settings(deadline=None, derandomize=True, max_examples=400)
def test_equal_digests_are_equal_filters(one: Filter, two: Filter) -> None:
    """No two different filters have one digest: streams are grouped by it."""
    assert (one.digest == two.digest) == (one == two)


def test_concerns_named_assets_and_whole_sources() -> None:
    """An asset is asked for by its exact name, case included, or with its source."""
    what = asking(names=["dam/a"], sources=["usd"])
    asked = {name: what.concerns(AssetKey(*name.split("/"))) for name in ("dam/a", "dam/A", "dam/b", "usd/a", "USD/a")}
    assert asked == {"dam/a": True, "dam/A": False, "dam/b": False, "usd/a": True, "USD/a": False}
    assert what.watched_sources == {"dam", "usd"}


def test_a_prefix_is_of_whole_sources() -> None:
    """To the letter; what is asked for by name is asked for whatever its id begins with."""
    what = asking(names=["dam/x", "usd/x"], sources=["dam"], prefix="s3://b/Ä")
    ids = ("s3://b/Ä", "s3://b/Äx", "s3://b/ä", "s3://b/", "x", "")
    asked = [asset_id for asset_id in ids if what.concerns(AssetKey("dam", asset_id))]
    assert asked == ["s3://b/Ä", "s3://b/Äx", "x"]
    assert [asset_id for asset_id in ids if what.concerns(AssetKey("usd", asset_id))] == ["x"]
    assert what.watched_sources == {"dam", "usd"}


def test_which_sources_it_watches_is_known_once() -> None:
    """Who asks thousands of filters which sources they watch has no names gone through; the whole ones are no copy."""
    mixed, whole = asking(names=["dam/a"], sources=["usd"]), asking(names=["usd/a"], sources=["usd"])
    assert mixed.watched_sources is mixed.watched_sources
    assert whole.watched_sources is whole.sources


@pytest.mark.parametrize(
    ("state", "gone", "named", "whole", "named_available", "whole_available", "whole_deleted"),
    [
        (State.AVAILABLE, False, True, True, True, True, False),
        (State.FAILED, False, True, True, False, False, False),
        (State.DELETED, True, True, False, False, False, True),
        (State.MISSING, True, True, False, False, False, False),
        (State.AVAILABLE, True, True, False, True, False, False),  # forgotten here, not gone from its source
        (State.DELETING, False, True, True, False, False, False),
    ],
)
def test_holds(
    *,
    state: State,
    gone: bool,
    named: bool,
    whole: bool,
    named_available: bool,
    whole_available: bool,
    whole_deleted: bool,
) -> None:
    """What a client's map holds: named assets always, those gone not by source, others by the states asked for."""
    it = entry("dam/a", 1, state, gone=gone)
    assert asking(names=["dam/a"]).holds(it) is named
    assert asking(sources=["dam"]).holds(it) is whole
    assert asking(names=["dam/a"], sources=["dam"]).holds(it) is named
    assert asking(names=["dam/a"], states=[State.AVAILABLE]).holds(it) is named_available
    assert asking(sources=["dam"], states=[State.AVAILABLE]).holds(it) is whole_available
    assert asking(sources=["dam"], states=[State.AVAILABLE, State.DELETED]).holds(it) is (
        whole_available or whole_deleted
    )


@pytest.mark.parametrize(
    "what",
    [
        asking(names=["dam/3"]),
        asking(names=["dam/3", "dam/17", "usd/3", "dam/unknown"]),
        asking(names=[f"dam/{n}" for n in range(100)]),
        asking(sources=["dam"]),
        asking(sources=["dam"], names=["usd/5", "dam/1"]),
        asking(sources=["none"]),
        asking(sources=["dam"], prefix="1"),
        asking(sources=["dam", "usd"], names=["usd/5", "dam/1"], prefix="1"),
        asking(sources=["dam"], prefix="none"),
    ],
)
async def test_select_is_the_stores_slice_of_what_concerns(what: Filter) -> None:
    """By whichever way it is looked up, select gives what concerns the filter in (cursor, upto], in order."""
    store = MemoryStore()
    await store.commit([draft(f"{('dam', 'usd')[n % 2]}/{n % 20}") for n in range(60)])
    for cursor, upto in itertools.product(range(0, 62, 3), range(0, 62, 3)):
        expected = [found for found in store.after(cursor, upto) if what.concerns(found.key)]
        assert list(what.select(store, cursor, upto)) == expected
        assert await what.select_in_parts(store, cursor, upto) == expected


async def test_a_filter_of_many_names_is_the_same_made_in_turns() -> None:
    """So is its digest, which is that of every release: resume tokens are good as long as it is."""
    keys = [AssetKey(("dam", "usd")[n % 2], f"\U0001f600/{n * 7919 % 4999}") for n in range(3 * AT_A_TIME)]
    what = await Filter.of(keys, ["omn", "dam"], [State.FAILED, State.PENDING])
    assert what == Filter(frozenset(keys), frozenset(["dam", "omn"]), frozenset([State.PENDING, State.FAILED]))
    assert what.digest == Filter(what.keys, what.sources, what.states).digest
    assert what.digest.hex() == "7da2082373f6acae"
    small = asking(names=["dam/a", "usd/b"], sources=["omn"], states=[State.FAILED])
    assert small.digest.hex() == "664ef9cb1814345f"


class Scanned(MemoryStore):
    """Counts how often it is gone through in order."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self._all_after = self.after
        self.after = self._scan  # an attribute of every store

    def _scan(self, cursor: int, upto: int, limit: int | None = None) -> list[Entry]:
        self.scans += 1
        return self._all_after(cursor, upto, limit)


async def test_a_few_names_are_looked_up() -> None:
    """Who names a few assets among many has those looked up, and what happened to few gone through."""
    store = Scanned()
    await store.commit([draft(f"dam/{n}") for n in range(1000)])
    what = asking(names=[f"dam/{n}" for n in range(10)])
    assert len(what.select(store, 0, 1000)) == 10
    assert store.scans == 0
    assert len(what.select(store, 5, 10)) == 5
    assert store.scans == 1
