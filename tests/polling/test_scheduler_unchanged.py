"""The answer that is known already: it costs no reading, and what else happened to the asset is not overlooked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.model.errors import BadAnswer
from assetwatchd.model.values import Freshness, State
from support.core_rig import now, running, until, virtual, wall
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY: dict[str, Any] = {"busy_interval_s": 5, "settled_interval_s": 5, "pins": ("a",)}


@virtual
async def test_what_is_known_is_given_with_the_question() -> None:
    """From the second read on the adapter is told which answer is known; the same again is a read, and no change."""
    upstream = FakeUpstream("a")
    async with running(upstream, **EVERY) as rig:
        await until(lambda: len(upstream.reads) == 1)
        assert not upstream.known
        await until(lambda: len(upstream.reads) == 2)
        await asyncio.sleep(1)
        assert upstream.known == {"a"}
        assert rig.scheduler.observed_at("a") == pytest.approx(wall() - (now() - upstream.reads[-1][0]))
        assert rig.store.head == 1


@virtual
async def test_another_answer_is_a_change() -> None:
    """A change after many unchanged reads is found, and so is the way back."""
    upstream = FakeUpstream("a")
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(60)
        upstream.states["a"] = State.FAILED
        await until(lambda: rig.state("a") is State.FAILED)
        upstream.states["a"] = State.AVAILABLE
        await until(lambda: rig.state("a") is State.AVAILABLE)
        assert rig.store.head == 3


@virtual
async def test_fresh_again_with_the_same_answer() -> None:
    """An asset whose own reads failed is STALE, and FRESH again by the very answer it had before."""
    upstream = FakeUpstream("a", "b")
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
        upstream.poison["a"] = BadAnswer("no")
        await until(lambda: rig.entry("a").freshness is Freshness.STALE)
        upstream.poison.clear()
        await asyncio.sleep(60)
        assert rig.entry("a").freshness is Freshness.FRESH


@virtual
async def test_back_after_a_deletion_with_the_same_answer() -> None:
    """An asset that was pushed as deleted, and is there again as it was, is there again."""
    upstream = FakeUpstream("a", enumerates=True, pushes=True)
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
        upstream.push_removed("a")
        await until(lambda: rig.state("a") is State.DELETED)
        upstream.states["a"] = State.AVAILABLE
        upstream.push_touched("a")
        await until(lambda: rig.state("a") is State.AVAILABLE)
        assert not rig.entry("a").gone


@virtual
async def test_back_after_it_was_missing() -> None:
    """An asset that two reads missed, and is there again as it was, is back; that it was missing is not known."""
    upstream = FakeUpstream("a")
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
        del upstream.states["a"]
        await until(lambda: rig.entry("a").gone)
        await asyncio.sleep(20)
        assert not upstream.known
        upstream.states["a"] = State.AVAILABLE
        await until(lambda: not rig.entry("a").gone)


def reads_exceed(upstream: FakeUpstream, count: int) -> Callable[[], bool]:
    """Whether there were more reads than that."""
    return lambda: len(upstream.reads) > count


@virtual
async def test_a_doubt_ends_with_the_same_answer() -> None:
    """A read that misses an asset, between two that found it as it was, changes nothing, however often."""
    upstream = FakeUpstream("a")
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
        for _ in range(3):
            reads = len(upstream.reads)
            del upstream.states["a"]
            await until(reads_exceed(upstream, reads))
            upstream.states["a"] = State.AVAILABLE
            await asyncio.sleep(20)
        assert rig.store.head == 1


@virtual
async def test_back_after_it_was_forgotten() -> None:
    """An asset that went from here because nobody wanted it is back by the very answer it had before."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=1) as rig:
        await rig.scheduler.read(["a"], max_age_s=0)
        await asyncio.sleep(20)
        await rig.scheduler.tidy(forget_after_s=10)
        await until(lambda: rig.entry("a").gone)
        await rig.scheduler.read(["a"], max_age_s=0)
        assert not rig.entry("a").gone


@virtual
async def test_a_read_that_a_deletion_overtook_does_not_count() -> None:
    """An unchanged answer asked for before a deletion was pushed neither brings the asset back nor tells its age."""
    upstream = FakeUpstream("a", enumerates=True, pushes=True)
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
        upstream.open.clear()
        upstream.push_touched("a")
        await until(lambda: upstream.running == 1)
        upstream.push_removed("a")
        await until(lambda: rig.state("a") is State.DELETED)
        observed_at = rig.scheduler.observed_at("a")
        upstream.open.set()
        await asyncio.sleep(1)
        assert rig.state("a") is State.DELETED
        assert rig.scheduler.observed_at("a") == observed_at


@virtual
async def test_a_new_run_knows_no_answer() -> None:
    """After a restart on the same store the first answer is read, whatever it is."""
    upstream = FakeUpstream("a")
    async with running(upstream, **EVERY) as rig:
        await asyncio.sleep(20)
    again = FakeUpstream("a")
    async with running(again, rig.store, **EVERY):
        await until(lambda: len(again.reads) == 1)
        assert not again.known
