"""ListAssetStatuses: pages in the order of changes, tokens, states, unreachable sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb

from assetwatchd.model.values import AssetKey, ConditionState
from support.problems import problem_of
from support.rig import SAMPLES, Rig, key_of, ref, running, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from assetwatch.v1.asset_status_pb2 import AssetStatus

BOTH = ("media-intelligence", "omn")


async def pages(rig: Rig, **request: object) -> list[AssetStatus]:
    """Take all pages; none but the last is short."""
    statuses: list[AssetStatus] = []
    token = ""
    while True:
        page = await rig.list(page_token=token, **request)
        statuses.extend(page.statuses)
        token = page.next_page_token
        if not token:
            return statuses
        assert len(page.statuses) == request.get("page_size", 100)


async def test_pages_have_every_asset_once_in_the_order_of_changes() -> None:
    """Small pages make the same list as one big one, with rising revisions."""
    async with running(BOTH, count=12) as rig:
        whole = await pages(rig, page_size=1000)
        assert {key_of(s) for s in whole} == {AssetKey(n, a) for n in BOTH for a in rig[n].asset_ids()}
        assert [s.revision for s in whole] == sorted(s.revision for s in whole)
        small = await pages(rig, page_size=5)
        assert [(key_of(s), s.revision) for s in small] == [(key_of(s), s.revision) for s in whole]


async def test_an_exact_last_page_has_no_token() -> None:
    """A page as long as the list is the last."""
    async with running(("omn",), count=4) as rig:
        page = await rig.list(page_size=5)
        assert len(page.statuses) == 5
        assert page.next_page_token == ""


async def test_page_size_zero_is_100_and_above_1000_is_1000() -> None:
    """Neither is an error."""
    async with running(("omn",), count=1005) as rig:
        assert len((await rig.list()).statuses) == 100
        page = await rig.list(page_size=5000)
        assert len(page.statuses) == 1000
        assert len((await rig.list(page_size=5000, page_token=page.next_page_token)).statuses) == 6


async def test_an_asset_that_changes_between_pages_comes_again_and_none_is_left_out() -> None:
    """It is on a later page with its newer state."""
    async with running(("omn",), count=8) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        first = await rig.list(page_size=4)
        moved = key_of(first.statuses[0])
        known = stream.map[moved].revision
        rig["omn"].put(moved.asset_id, {"ImportState": "running" if stream.map[moved].state != 2 else "available"})
        await stream.holds(lambda held: held[moved].revision > known)
        page = await rig.list(page_size=100, page_token=first.next_page_token)
        rest = list(page.statuses)
        assert key_of(rest[-1]) == moved
        assert {key_of(s) for s in [*first.statuses, *rest]} == set(stream.map)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda token: {"page_token": "nonsense" + token[:0]},
        lambda token: {"page_token": token[:-1] + ("A" if token[-1] != "A" else "B")},
        lambda token: {"page_token": token, "sources": ["omn"]},
        lambda token: {"page_token": token, "states": [status_pb.ASSET_STATE_AVAILABLE]},
        lambda token: {"page_token": token, "view": status_pb.ASSET_STATUS_VIEW_BASIC},
        lambda token: {"page_token": token, "asset_id_prefix": "tid:"},
    ],
    ids=["nonsense", "altered", "other sources", "other states", "another view", "another prefix"],
)
async def test_a_page_token_of_another_list_is_refused(misuse: Callable[[str], dict[str, object]]) -> None:
    """INVALID_ARGUMENT with a violation of page_token."""
    async with running(BOTH, count=3) as rig:
        token = (await rig.list(page_size=2)).next_page_token
        told = await problem_of(rig.list(**misuse(token)))
        assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert list(told.violations) == ["page_token"]


async def test_a_page_token_of_another_server_is_refused() -> None:
    """Revisions of another epoch mean nothing here."""
    async with running(("omn",), count=3) as rig:
        token = (await rig.list(page_size=2)).next_page_token
    async with running(("omn",), count=3) as rig:
        assert list((await problem_of(rig.list(page_token=token))).violations) == ["page_token"]


async def test_the_page_size_may_change_between_pages() -> None:
    """As AIP-158 has it: the token belongs to the sources and states alone, in any order."""
    async with running(BOTH, count=3) as rig:
        first = await rig.list(page_size=1, sources=["omn", "media-intelligence"])
        rest = await rig.list(page_size=50, sources=["media-intelligence", "omn"], page_token=first.next_page_token)
        assert len(rest.statuses) == 7


async def test_only_the_sources_and_states_asked_for() -> None:
    """Each page keeps to both."""
    async with running(BOTH, count=6) as rig:
        rig.vary("omn")
        listed = await rig.list(sources=["omn"], states=[SAMPLES["omn"].state])
        wanted = [s for s in (await rig.list(sources=["omn"])).statuses if s.state == SAMPLES["omn"].state]
        assert list(listed.statuses) == wanted
        assert sample("omn") in {key_of(s) for s in listed.statuses}


async def test_only_the_assets_whose_id_begins_so() -> None:
    """To the letter, in pages as in one; of nothing there is nothing."""
    async with running(BOTH, count=8) as rig:
        whole = [key_of(s) for s in (await rig.list()).statuses]
        for prefix in ("tid:", sample("omn").asset_id[:6], sample("omn").asset_id, "TID:", "t", "nothing"):
            wanted = [key for key in whole if key.asset_id.startswith(prefix)]
            pages, token = [await rig.list(asset_id_prefix=prefix, page_size=3)], ""
            while token := pages[-1].next_page_token:
                pages.append(await rig.list(asset_id_prefix=prefix, page_size=3, page_token=token))
            assert [key_of(s) for page in pages for s in page.statuses] == wanted
        assert {key.source for key in whole if key.asset_id.startswith("tid:")} == {"omn"}


async def test_assets_that_are_gone_are_listed_only_when_their_state_is_asked_for() -> None:
    """A deleted piece is in no list but that of DELETED, a missing asset in none but that of MISSING."""
    async with running(("omn", "pieces")) as rig:
        stream = await rig.watch(sources=["pieces"]).synced()
        rig["pieces"].remove(sample("pieces").asset_id)
        await stream.until(lambda message: message.changes and sample("pieces") in stream.removed)
        await rig.watch(assets=[ref(AssetKey("omn", SAMPLES["omn"].unknown))]).synced()
        listed = {key_of(s) for s in (await rig.list()).statuses}
        assert not listed & {sample("pieces"), AssetKey("omn", SAMPLES["omn"].unknown)}
        deleted = await rig.list(states=[status_pb.ASSET_STATE_DELETED])
        assert sample("pieces") in {key_of(s) for s in deleted.statuses}
        missing = await rig.list(states=[status_pb.ASSET_STATE_MISSING])
        assert [s.asset.asset_id for s in missing.statuses] == [SAMPLES["omn"].unknown]


async def test_sources_that_cannot_be_read_are_named_and_listed_all_the_same() -> None:
    """Incomplete names them; their last statuses are there, marked UNREACHABLE."""
    async with running(("omn", "usd-search")) as rig:
        stream = await rig.watch(sources=["omn", "usd-search"]).synced()
        assert list((await rig.list()).incomplete) == []
        await rig["omn"].stop()
        await stream.turns("omn", ConditionState.UNREACHABLE)
        page = await rig.list()
        assert list(page.incomplete) == ["omn"]
        of_omn = [s for s in page.statuses if s.asset.source == "omn"]
        assert len(of_omn) == 7
        assert {s.freshness for s in of_omn} == {status_pb.FRESHNESS_UNREACHABLE}
        assert list((await rig.list(sources=["usd-search"])).incomplete) == []


async def test_a_source_that_is_not_configured_is_not_found() -> None:
    """NOT_FOUND / SOURCE_NOT_FOUND."""
    async with running(("omn",)) as rig:
        assert (await problem_of(rig.list(sources=["nowhere"]))).reason == "SOURCE_NOT_FOUND"


async def test_a_server_without_sources_lists_nothing() -> None:
    """An empty page, no error."""
    async with running(()) as rig:
        page = await rig.list()
        assert (list(page.statuses), page.next_page_token, list(page.incomplete)) == ([], "", [])
