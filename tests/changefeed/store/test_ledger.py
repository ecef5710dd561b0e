"""The readable side of a store, against a model that keeps every entry for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.ledger import SLACK, Ledger
from assetwatchd.model.values import AssetKey, Entry, State
from support.entries import entry

pytestmark = pytest.mark.unit

NAMES = [f"{source}/{n}" for source in ("dam", "usd") for n in range(4)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from([State.AVAILABLE, State.DELETED])),
        st.tuples(st.just("drop"), st.sampled_from(NAMES), st.just(State.DELETED)),
    ),
    max_size=60,
)


def key(name: str) -> AssetKey:
    return AssetKey(*name.split("/"))


@given(STEPS, st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None, derandomize=True)
def test_reads_as_a_list_of_all_entries_would(steps: list[tuple[str, str, State]], cursor: int, upto: int) -> None:
    """get, after, keys, count, gone and len are what the plain list of latest entries gives."""
    ledger, plain = Ledger(), dict[AssetKey, Entry]()
    for revision, (step, name, state) in enumerate(steps, 1):
        plain.pop(key(name), None)
        if step == "put":
            plain[key(name)] = entry(name, revision, state, at=float(revision % 7))
            ledger.put(plain[key(name)])
        else:
            ledger.drop([key(name)])
    latest = sorted(plain.values(), key=lambda found: found.revision)
    assert len(ledger) == len(plain)
    assert ledger.after(cursor, upto) == [found for found in latest if cursor < found.revision <= upto]
    assert ledger.after(cursor, upto, 2) == [found for found in latest if cursor < found.revision <= upto][:2]
    for name in NAMES:
        assert ledger.get(key(name)) == plain.get(key(name))
    for source in ("dam", "usd"):
        assert set(ledger.keys(source)) == {found.key for found in latest if found.key.source == source}
        assert ledger.count(source) == sum(found.key.source == source and not found.gone for found in latest)


def test_superseded_places_are_cleared_away() -> None:
    """However often assets change, the line is at most twice the assets and some slack, and reads the same."""
    ledger, assets = Ledger(), 10
    for revision in range(1, 5 * SLACK):
        ledger.put(entry(f"dam/{revision % assets}", revision))
        assert len(ledger._line) == len(ledger._revisions) <= 2 * assets + SLACK
    last = 5 * SLACK - 1
    assert [found.revision for found in ledger.after(0, last)] == list(range(last - assets + 1, last + 1))


def test_dropping_what_is_not_there() -> None:
    """Dropping an unknown asset changes nothing."""
    ledger = Ledger()
    ledger.put(entry("dam/a", 1))
    ledger.drop([key("dam/b")])
    assert [found.revision for found in ledger.after(0, 9)] == [1]
