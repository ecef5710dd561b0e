"""How drafts are spread over transactions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd import parts
from assetwatchd.changefeed.store.etcd.keys import PLACES, Keys
from assetwatchd.changefeed.store.etcd.parts import BYTES_MAX, DRAFTS_MAX, size_of
from assetwatchd.changefeed.store.etcd.records import drafted
from assetwatchd.etcd.operations import put, size
from support.entries import draft

pytestmark = pytest.mark.unit

ETCD_OPERATIONS_MAX = 128
ETCD_BYTES_MAX = 1_572_864
COMMITS = st.lists(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from([0, 0, 0, 1000, 300_000, 1_100_000])), max_size=150),
    max_size=6,
)


@given(COMMITS)
@settings(derandomize=True, max_examples=60)
def test_all_go_in_order_and_none_is_more_than_etcd_takes(commits: list[list[tuple[int, int]]]) -> None:
    """A part is within all limits, unless it is a single draft; a commit that fits into one is in one."""
    given_drafts = [[draft(f"dam/{asset}", pad_bytes=pad) for asset, pad in commit] for commit in commits]
    found = list(parts.parts(given_drafts))
    assert [each for part in found for each in part] == [each for commit in given_drafts for each in commit]
    for part in found:
        assert 1 <= len(part) <= DRAFTS_MAX
        assert len(part) == 1 or sum(map(size_of, part)) <= BYTES_MAX
        assert len({each.key for each in part}) == len(part)
    whole = [{id(each) for each in part} for part in found]
    for commit in given_drafts:
        fits = len(commit) <= DRAFTS_MAX and sum(map(size_of, commit)) <= BYTES_MAX
        if commit and fits and len({each.key for each in commit}) == len(commit):
            assert any({id(each) for each in commit} <= part for part in whole)


@pytest.mark.parametrize("pad", [0, 7000, 700_000])
@pytest.mark.parametrize("name", ["a", "\U0001f6d2" * 300])
def test_limits_leave_room_for_what_is_around(pad: int, name: str) -> None:
    """A whole part, with the commit's own key, is within etcd's own limits, and within the revisions of its own."""
    count = min(DRAFTS_MAX, BYTES_MAX // size_of(draft(f"dam/{name}", pad_bytes=pad)))
    drafts = [draft(f"dam/{name}{n}", pad_bytes=pad, traceparent="0" * 55) for n in range(count)]
    operations = [
        put(Keys("/" + "p" * 100 + "/").entry(each.key), drafted(each, place=place, committed_at=1e9))
        for place, each in enumerate(drafts)
    ]
    assert len(operations) + 1 <= ETCD_OPERATIONS_MAX
    assert len(operations) < PLACES
    assert sum(map(size, operations)) + 1000 <= ETCD_BYTES_MAX
