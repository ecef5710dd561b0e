"""What a process knows of a source that another one asks, as time goes by."""

from __future__ import annotations

import asyncio

import pytest
from assetwatch.internal.v1 import peer_pb2 as pb

from assetwatchd.model.values import AssetKey, Entry, Freshness, Observation, State
from assetwatchd.replicas import heard
from assetwatchd.replicas.heard import SILENT_S, Heard
from assetwatchd.settings.schema import SourceSettings
from support.core_rig import virtual, wall

pytestmark = pytest.mark.unit

SETTLED_S = 10
LIMIT = 3


def heard_of(**given: object) -> Heard:
    """Nothing heard yet."""
    settings = {"base_url": "http://fake.test", "settled_interval_s": SETTLED_S, "busy_interval_s": 1, **given}
    return Heard(SourceSettings.model_validate(settings), now=wall)


def entry(asset_id: str, found_at: float, freshness: Freshness = Freshness.FRESH) -> Entry:
    """An entry as the mirror has it."""
    return Entry(
        AssetKey("src", asset_id), 1, State.AVAILABLE, gone=False, freshness=freshness, digest=b"", upsert=b"",
        found_at=found_at, committed_at=found_at,
    )  # fmt: skip


@virtual
async def test_fresh_for_twice_its_interval_after_the_last_read() -> None:
    """Counted from the last read that was heard of, or from when the entry was found; STALE stays so."""
    known, old = heard_of(), entry("a", wall())
    assert known.freshness(old) is Freshness.FRESH
    await asyncio.sleep(2 * SETTLED_S + 1)
    assert known.freshness(old) is Freshness.STALE
    known.take(pb.SourceNews(observed=[pb.Observed(asset_id="a", at=wall())]))
    assert known.freshness(old) is Freshness.FRESH
    known.answered({"a": wall() - 100}, {})  # an answer that was overtaken
    assert known.freshness(old) is Freshness.FRESH
    assert known.freshness(entry("a", wall(), Freshness.STALE)) is Freshness.STALE


@virtual
async def test_silence_takes_back_what_was_said_of_the_whole() -> None:
    """That changes are pushed, and that all is known, counts for as long as the owner goes on saying so."""
    known, old = heard_of(), entry("a", wall() - 1000)
    known.take(pb.SourceNews(pushing=True, complete=True, polled_assets=7, calls=5))
    assert known.freshness(old) is Freshness.FRESH
    assert known.complete
    assert (known.polled_assets, known.figures.calls) == (7, 5)
    await asyncio.sleep(SILENT_S + 0.1)
    assert known.freshness(old) is Freshness.STALE
    assert not known.complete


@virtual
async def test_what_never_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last answers are kept, so many; one that is found by now is forgotten as missing."""
    monkeypatch.setattr(heard, "UNSEEN_MAX", LIMIT)
    known = heard_of()
    for number in range(LIMIT + 1):
        asset_id = str(number)
        known.answered({asset_id: wall()}, {asset_id: Observation(asset_id, State.MISSING)})
    assert [number for number in range(LIMIT + 1) if known.unseen(str(number))] == [1, 2, 3]
    assert known.freshness_unseen("3") is Freshness.FRESH
    known.answered({"3": wall()}, {})
    assert known.unseen("3") is None
    await asyncio.sleep(2 * SETTLED_S + 1)
    assert known.freshness_unseen("2") is Freshness.STALE


@virtual
async def test_no_more_times_than_there_may_be_assets() -> None:
    """Times of reads of assets that went are not kept for ever: there is room for twice assets_max."""
    known = heard_of(assets_max=LIMIT)
    known.take(pb.SourceNews(observed=[pb.Observed(asset_id=str(number), at=1) for number in range(10)]))
    assert len(known.observed) == 2 * LIMIT
    known.take(pb.SourceNews(observed=[pb.Observed(asset_id="0", at=5)]))
    assert known.observed["0"] == 5


@virtual
async def test_assets_come_and_go_for_ever() -> None:
    """Of those that are read it is known when, whatever was read before and is no more; and no more is remembered."""
    known = heard_of(assets_max=LIMIT)
    for number in range(100):
        read = [pb.Observed(asset_id="always", at=number), pb.Observed(asset_id=str(number), at=number)]
        known.take(pb.SourceNews(observed=read))
        assert known.observed[str(number)] == number
    assert known.observed["always"] == 99
    assert len(known.observed) == 2 * LIMIT
