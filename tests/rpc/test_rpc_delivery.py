"""What a stream tells telemetry of the changes it hands over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from assetwatchd.rpc.watch import LAG_EVERY_S, Delivery
from assetwatchd.runtime import telemetry
from support.entries import draft
from support.tracing import recorded

if TYPE_CHECKING:
    from assetwatchd.model.values import Entry

pytestmark = pytest.mark.unit


def entry() -> Entry:
    """An entry of a read that began long ago, committed now."""
    return draft("dam/a", at=0.0).entry(1, committed_at=time.time())


def test_the_lag_is_measured_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the stream is live, with the first change then, and with one change a second after that.

    It is counted from the commit, however long before that the change was found.
    """
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with recorded() as record:
        delivery = Delivery()
        delivery.handed_over([entry()])
        assert record.points(telemetry.DELIVERY_LAG) == []
        delivery.live()
        for _ in range(100):
            committed = entry()
            now += LAG_EVERY_S / 40
            delivery.handed_over([committed])
        [lag] = record.points(telemetry.DELIVERY_LAG)
        assert (lag.count, lag.max) == (3, pytest.approx(LAG_EVERY_S / 40, rel=1e-3))


def test_only_a_recorded_stream_links() -> None:
    """A stream whose span is recorded as it begins links to what found each change; another one links nothing."""
    found = draft("dam/a", traceparent=f"00-{1:032x}-{2:016x}-01").entry(1, committed_at=0.0)
    with recorded() as record:
        unrecorded = Delivery()
        with telemetry.poll("omn", 1):
            unrecorded.handed_over([found])
        with telemetry.poll("omn", 1):
            Delivery().handed_over([found])
    assert [[link.context.span_id for link in span.links] for span in record.spans] == [[], [2]]
