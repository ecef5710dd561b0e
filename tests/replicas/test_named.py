"""What clients watch, counted in buckets."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import TooManyAssets
from assetwatchd.replicas import named
from assetwatchd.replicas.named import BUCKETS, NOTHING, WHOLE, Named, bucket, decode, encode

pytestmark = pytest.mark.unit

IDS = st.text(min_size=1, max_size=20)
SETS = st.lists(IDS, unique=True, max_size=20)
ALL_BUCKETS = [WHOLE, *map(str, range(BUCKETS))]


@given(SETS)
def test_a_bucket_is_read_as_it_was_written(ids: list[str]) -> None:
    """Whatever ids look like, and none is no byte at all."""
    assert decode(encode(ids)) == sorted(ids)
    assert (encode(ids) == NOTHING) == (not ids)


@given(st.lists(st.tuples(SETS, st.booleans()), max_size=12), st.data())
def test_what_is_told_is_what_is_named(asked: list[tuple[list[str], bool]], data: st.DataObject) -> None:
    """Told bucket by bucket as they are dirty, others know at any time exactly what at least one still names."""
    known: dict[str, bytes] = {}
    here = Named("src", assets_max=1000)
    open_ = []

    def tell() -> None:
        while here.dirty:
            at = here.dirty.pop()
            known[at] = here.told(at)

    for ids, whole in asked:
        here.begin(ids, whole=whole)
        open_.append((ids, whole))
        if data.draw(st.booleans()):
            ended = open_.pop(data.draw(st.integers(0, len(open_) - 1)))
            here.end(ended[0], whole=ended[1])
        if data.draw(st.booleans()):
            tell()
    tell()
    names = Counter(name for ids, _ in open_ for name in ids)
    assert sorted(name for at, body in known.items() if at != WHOLE for name in decode(body)) == sorted(names)
    assert all(at == bucket(name) for at, body in known.items() if at != WHOLE for name in decode(body))
    assert bool(known.get(WHOLE)) == any(whole for _, whole in open_)
    assert all(name in here for name in names)
    here.again()
    assert here.dirty == {at for at in ALL_BUCKETS if here.told(at)}


@given(SETS, SETS)
def test_no_more_than_there_is_room_for(before: list[str], more: list[str]) -> None:
    """Beyond assets_max, or a bucket's bytes, nothing of a request is taken; what is named already always is."""
    limit = max(1, len(before))
    here = Named("src", assets_max=limit)
    here.begin(before)
    here.dirty.clear()
    if set(more) <= set(before) or len(set(before) | set(more)) <= limit:
        here.begin(more)
        here.end(more)
    else:
        with pytest.raises(TooManyAssets):
            here.begin(more)
        assert not here.dirty
    assert all(name in here for name in before)


def test_a_bucket_has_a_limit() -> None:
    """A bucket goes into one request of etcd, so its names have a limit of bytes."""
    name = "x" * 100
    with patch.object(named, "BUCKET_BYTES_MAX", 150):
        here = Named("src", assets_max=1000)
        here.begin([name])
        again = next(other for n in range(10_000) if bucket(other := f"{name}{n}") == bucket(name))
        with pytest.raises(TooManyAssets):
            here.begin([again])
        here.end([name])
        here.begin([again])
