"""What etcd answers, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.etcd.values import Event, KeyValue, News

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(1, 6), max_size=20), st.integers(1, 10), st.integers(0, 3))
def test_news_in_parts(transactions: list[int], length: int, beyond: int) -> None:
    """In order, all of it, no transaction in two parts, none longer than it has to be; told up to where news are."""
    revisions = [revision for revision, count in enumerate(transactions, 1) for _ in range(count)]
    events = [Event(deleted=False, key=KeyValue(b"", b"", 1, revision)) for revision in revisions]
    news = News(len(transactions) + beyond, events)
    parts = list(news.parts(length))
    assert [event for part in parts for event in part.events] == events
    assert parts[-1].revision == news.revision
    for part in parts[:-1]:
        assert part.revision == part.events[-1].key.modified
        assert length <= len(part.events) < length + max(transactions)
    lasts = [part.events[-1].key.modified for part in parts[:-1]]
    assert all(last < part.events[0].key.modified for last, part in zip(lasts, parts[1:], strict=True))
