"""Credentials that are refused: tried seldom, at once when they have changed, and by hand."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import (
    BadAnswer,
    Refused,
    RetryTooSoon,
    SourceUnreachable,
    Throttled,
    Unreachable,
    UpstreamError,
    VersionUnsupported,
)
from assetwatchd.model.values import ConditionState, Freshness
from assetwatchd.settings.schema import BearerAuth, SourceSettings
from assetwatchd.upstream import backoff
from support.core_rig import now, running, until, virtual, wall
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from pathlib import Path


class BearerSource(SourceSettings):
    """A source with a token."""

    auth: BearerAuth


@virtual
async def test_refused_is_tried_seldom() -> None:
    """A handful of tries in the first minutes, then one in 8 to 15 minutes, whoever asks for reads meanwhile."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)], enumerates=True)
    upstream.fault = Refused("HTTP 401")
    async with running(upstream) as rig:
        with rig.scheduler.interest(list(upstream.states), whole=True):
            await asyncio.sleep(280)
            assert len(upstream.calls) <= 6
            for _ in range(12_000):
                await asyncio.sleep(1)
                with pytest.raises(Exception, match="HTTP 401"):
                    await rig.scheduler.read(["a0"], max_age_s=0)
            assert rig.source_state() is ConditionState.REFUSED
            condition = rig.scheduler.condition
            assert condition.next_try_at is not None
            assert 0 <= condition.next_try_at - wall() <= 900
    pauses = [later - at for at, later in itertools.pairwise(upstream.calls)]
    assert min(pauses[-5:]) >= 450
    assert max(pauses) <= 901


@virtual
async def test_a_list_that_is_refused() -> None:
    """Where only the list is refused, it is tried as seldom, and the source is read on."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = Refused("HTTP 403")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(280)
            assert rig.scheduler.condition.message == "cannot be listed: HTTP 403"
            assert len(upstream.lists) <= 6
            assert len(upstream.reads_of("a")) > 4


@pytest.mark.parametrize("concern", ["list", "push"])
@virtual
async def test_other_failures_before_do_not_count(concern: str) -> None:
    """A list, or a push connection, that fails for long and then is refused once, is tried as after a first refusal."""
    upstream = FakeUpstream("a", enumerates=True, pushes=concern == "push")
    setattr(upstream, f"{concern}_fault", Unreachable("no"))
    tried = upstream.connects if concern == "push" else upstream.lists
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(1800)
            setattr(upstream, f"{concern}_fault", Refused("HTTP 403"))
            count = len(tried)
            await until(lambda: len(tried) > count)
            await until(lambda: len(tried) > count + 1)
            assert tried[-1] - tried[-2] <= 61


@virtual
async def test_an_outage_before_does_not_count() -> None:
    """After an outage of any length the first refusal is paused after as the first."""
    upstream = FakeUpstream("a")
    upstream.fault = Unreachable("no")
    async with running(upstream) as rig:
        await asyncio.sleep(3600)
        upstream.fault = Refused("HTTP 401")
        await until(lambda: rig.source_state() is ConditionState.REFUSED)
        upstream.fault, refused = None, now()
        await until(lambda: rig.source_state() is ConditionState.HEALTHY)
        assert 15 <= now() - refused <= 31


@pytest.mark.parametrize("refusals", [1, 2, 3, 6, 100, 10_000])
def test_pauses_of_refusals(refusals: int) -> None:
    """They double from backoff_max_s to refused_backoff_max_s, and are never below half of that."""
    settings = SourceSettings.model_validate({"base_url": "http://fake.test"})
    ceiling = min(900.0, 30.0 * 2 ** (refusals - 1)) if refusals < 100 else 900.0
    pauses = [backoff.refused_backoff_s(refusals, settings, random.Random(n)) for n in range(100)]  # noqa: S311
    assert ceiling / 2 <= min(pauses) < max(pauses) <= ceiling


@pytest.mark.parametrize("whole", [True, False], ids=["list", "all"])
def test_a_changed_token_file_is_tried_at_once(tmp_path: Path, whole: bool) -> None:  # noqa: FBT001 - a parameter
    """A source that refused us is asked within a second or so after the file of its token has another content."""
    token = tmp_path / "token"
    token.write_text("old")
    auth = {"kind": "bearer", "token_file": str(token)}

    @virtual
    async def change_it() -> None:
        upstream = FakeUpstream("a", enumerates=True)
        async with running(upstream, kind=BearerSource, auth=auth) as rig:
            with rig.scheduler.interest(["a"], whole=True):
                await asyncio.sleep(60)
                setattr(upstream, "list_fault" if whole else "fault", Refused("HTTP 401"))
                await asyncio.sleep(1800)
                calls = len(upstream.lists if whole else upstream.calls)
                token.write_text("old")
                await asyncio.sleep(5)
                assert len(upstream.lists if whole else upstream.calls) <= calls + 1
                token.write_text("new")
                upstream.fault = upstream.list_fault = None
                await asyncio.sleep(2)
                assert rig.source_state() is ConditionState.HEALTHY

    change_it()


def test_a_changed_token_file_is_tried_at_once_by_the_push(tmp_path: Path) -> None:
    """A push connection that is refused, while reads are not, is made anew once the file has another content."""
    token = tmp_path / "token"
    token.write_text("old")
    auth = {"kind": "bearer", "token_file": str(token)}

    @virtual
    async def change_it() -> None:
        upstream = FakeUpstream("a", pushes=True)
        upstream.push_fault = Refused("HTTP 403")
        async with running(upstream, kind=BearerSource, auth=auth) as rig:
            with rig.scheduler.interest(["a"]):
                await asyncio.sleep(3600)
                connects = len(upstream.connects)
                assert connects < 12
                upstream.push_fault = None
                token.write_text("new")
                await asyncio.sleep(2)
                assert len(upstream.connects) == connects + 1
                assert rig.scheduler.pushing

    change_it()


def test_a_token_that_changes_while_it_is_refused(tmp_path: Path) -> None:
    """A token that was renewed after a call was made with the old one, and before that was refused, is tried."""
    token = tmp_path / "token"
    token.write_text("old")

    @virtual
    async def change_it() -> None:
        upstream = FakeUpstream("a")
        upstream.fault, upstream.latency_s = Refused("HTTP 401"), 5
        async with running(upstream, kind=BearerSource, auth={"kind": "bearer", "token_file": str(token)}) as rig:
            await asyncio.sleep(3)
            token.write_text("new")
            await asyncio.sleep(2.5)
            upstream.fault = None
            await asyncio.sleep(6.5)
            assert rig.source_state() is ConditionState.HEALTHY

    change_it()


@virtual
async def test_a_retry_by_hand() -> None:
    """It is made at once, and answered when it is over; what it found is told."""
    upstream = FakeUpstream("a")
    upstream.fault = Refused("HTTP 401")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(1800)
        upstream.fault, upstream.latency_s, began = None, 2, now()
        await rig.scheduler.retry()
        assert now() - began == pytest.approx(2, abs=0.1)
        assert rig.source_state() is ConditionState.HEALTHY


@virtual
async def test_a_retry_of_a_list_by_hand() -> None:
    """Where the list alone fails, it is the list that is tried."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.list_fault = Refused("HTTP 403")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(1800)
            upstream.list_fault = None
            await rig.scheduler.retry()
            assert rig.source_state() is ConditionState.HEALTHY


@virtual
async def test_a_retry_of_pushes_by_hand() -> None:
    """Where pushes alone are refused, the connection is tried."""
    upstream = FakeUpstream("a", pushes=True)
    upstream.push_fault = Refused("HTTP 403")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(280)
        assert len(upstream.connects) <= 6
        await asyncio.sleep(1800)
        upstream.push_fault = None
        await rig.scheduler.retry()
        await asyncio.sleep(0.1)
        assert rig.source_state() is ConditionState.HEALTHY


@virtual
async def test_a_retry_of_pushes_by_hand_within_the_pause_that_was_asked_for() -> None:
    """It is made as soon as that is over, and not when our own pause would be."""
    upstream = FakeUpstream("a", pushes=True)
    upstream.push_fault = Refused("HTTP 403", retry_after_s=20)
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(4000)
        connects = len(upstream.connects)
        await until(lambda: len(upstream.connects) > connects)
        await asyncio.sleep(5)
        upstream.push_fault, tried = None, now()
        await rig.scheduler.retry()
        assert len(upstream.connects) == connects + 1
        await until(lambda: upstream.connected)
        assert now() - tried <= 15.1


@virtual
async def test_retries_by_hand_are_bounded() -> None:
    """However often they are asked for, there are few more calls than without, and it is said when the next can be."""
    upstream = FakeUpstream("a")
    upstream.fault = Refused("HTTP 401")
    too_soon: list[float] = []
    async with running(upstream, pins=("a",)) as rig:
        for _ in range(3600):
            await asyncio.sleep(1)
            try:
                await rig.scheduler.retry()
            except RetryTooSoon as error:
                too_soon.append(error.retry_after_s)
    assert 0 < min(too_soon) <= max(too_soon) <= 900
    assert len(too_soon) > 3500
    assert len(upstream.calls) <= 2 * 12


@virtual
async def test_a_retry_by_hand_leaves_the_upstream_its_silence() -> None:
    """A pause that the upstream asked for goes on; who asked is answered all the same, after 10 s."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        upstream.fault = Throttled("HTTP 429", retry_after_s=300)
        await until(lambda: rig.source_state() is ConditionState.DEGRADED)
        upstream.fault, calls, began = None, len(upstream.calls), now()
        await rig.scheduler.retry()
        assert now() - began == pytest.approx(10, abs=0.1)
        assert len(upstream.calls) == calls


@pytest.mark.parametrize("whole", [False, True])
@virtual
async def test_a_retry_of_a_source_that_is_well(whole: bool) -> None:  # noqa: FBT001 - a row of the table
    """It is asked for a sign of life, and that is not waited for longer than it takes, whatever list is to come."""
    upstream = FakeUpstream(enumerates=True)
    async with running(upstream, busy_interval_s=2, enumerate_interval_s=300) as rig:
        with rig.scheduler.interest([], whole=whole):
            await asyncio.sleep(7)
            probes, upstream.latency_s, began = len(upstream.probes), 1, now()
            await rig.scheduler.retry()
            assert now() - began == pytest.approx(1, abs=0.1)
            assert len(upstream.probes) == probes + 1
            await rig.scheduler.retry()
            assert len(upstream.probes) == probes + 1, "it was heard from just now"


@virtual
async def test_a_retry_of_a_source_that_is_well_costs_no_later_one() -> None:
    """However often it is asked for, that is a call each busy interval at most; what breaks then is tried at once."""
    upstream = FakeUpstream()
    async with running(upstream, busy_interval_s=2) as rig:
        await asyncio.sleep(3)
        probes = len(upstream.probes)
        for _ in range(1000):
            await asyncio.gather(*[rig.scheduler.retry() for _ in range(10)])
            await asyncio.sleep(0.1)
        assert len(upstream.probes) - probes <= 51
        upstream.fault = Refused("HTTP 401")
        await until(lambda: rig.source_state() is ConditionState.REFUSED)
        upstream.fault = None
        await rig.scheduler.retry()
        assert rig.source_state() is ConditionState.HEALTHY


@pytest.mark.parametrize("fault", [VersionUnsupported("10.0"), BadAnswer("no JSON")])
@virtual
async def test_a_version_that_is_not_supported_is_no_login(fault: UpstreamError) -> None:
    """Nor is any other failure: it is tried again after backoff_max_s at most."""
    upstream = FakeUpstream("a")
    upstream.fault = fault
    async with running(upstream) as rig:
        await asyncio.sleep(600)
        upstream.fault = None
        await asyncio.sleep(31)
        assert rig.source_state() is ConditionState.HEALTHY


@pytest.mark.parametrize("batch_max", [1, 10])
@pytest.mark.parametrize("at_first", [False, True], ids=["later", "from the first"])
@virtual
async def test_a_forbidden_asset_turns_no_source(batch_max: int, at_first: bool) -> None:  # noqa: FBT001 - a case
    """Its reads are refused and others are not: it says so in its own status, and the others stay fresh."""
    names = [f"a{n}" for n in range(8)]
    upstream = FakeUpstream(*names, batch_max=batch_max)
    if at_first:
        upstream.poison["a3"] = Refused("HTTP 403")
    async with running(upstream, pins=tuple(names)) as rig:
        await asyncio.sleep(60)
        upstream.poison["a3"] = Refused("HTTP 403")
        await asyncio.sleep(240)
        turned = len(rig.told)
        await asyncio.sleep(360)
        assert len(rig.told) == turned
        assert rig.source_state() is ConditionState.HEALTHY
        assert turned <= 3
        for name in names:
            assert len(upstream.reads_of(name)) > 6
        assert len(upstream.reads_of("a3")) < 100
        assert rig.entry("a3").freshness is Freshness.STALE


@pytest.mark.parametrize("batch_max", [1, 10])
@virtual
async def test_two_that_are_refused_are_the_source(batch_max: int) -> None:
    """Once our credentials are taken for none any more, one read more says so, and no asset is blamed for it."""
    names = [f"a{n}" for n in range(8)]
    upstream = FakeUpstream(*names, batch_max=batch_max)
    async with running(upstream, pins=tuple(names)) as rig:
        await asyncio.sleep(60)
        upstream.fault, before = Refused("HTTP 401"), len(upstream.calls)
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["a3"], max_age_s=0)
        await asyncio.sleep(0.5)
        assert rig.source_state() is ConditionState.REFUSED
        assert len(upstream.calls) - before <= 2


@pytest.mark.parametrize("batch_max", [1, 10])
@pytest.mark.parametrize("count", [1, 2, 8])
@virtual
async def test_signs_of_life_do_not_take_back_a_refusal_of_all_reads(batch_max: int, count: int) -> None:
    """Where calls without an asset want no credentials, the source stays REFUSED, told once and tried seldom."""
    names = [f"a{n}" for n in range(count)]
    upstream = FakeUpstream(*names, batch_max=batch_max)
    async with running(upstream, pins=tuple(names)) as rig:
        await asyncio.sleep(60)
        upstream.poison, begin = dict.fromkeys(names, Refused("HTTP 403")), now()
        await asyncio.sleep(3600)
        assert [each.state for each in rig.told] == [ConditionState.HEALTHY, ConditionState.REFUSED]
        assert len([at for at, _ in upstream.reads if at > begin]) <= 20
        upstream.poison = {}
        await asyncio.sleep(901)
        assert rig.source_state() is ConditionState.HEALTHY
