"""Single assets that cannot be read while their source is well: who is told, what, how often, and until when."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from assetwatch.v1.asset_status_pb2 import (
    ASSET_STATE_AVAILABLE,
    ASSET_STATE_UNKNOWN,
    FRESHNESS_STALE,
    FRESHNESS_UNREACHABLE,
)
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import AssetRejected, BadAnswer, SourceUnreachable, Unreachable, UpstreamError
from assetwatchd.model.values import UNREADABLE, AssetKey, ConditionState, Freshness, State
from assetwatchd.polling import troubles
from assetwatchd.rpc import convert
from support import virtual_time
from support.core_rig import SOURCE, Rig, running, until, virtual
from support.examples import bounded
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch.v1.asset_status_pb2 import AssetStatus

FAULTS = [
    BadAnswer("not XML"),
    Unreachable("HTTP 500"),
    Unreachable("no answer within 10 s"),
    ZeroDivisionError("a defect"),
]
SOON_S = 60
"""Within one interval between reads: nobody shall wait longer to be told."""


class Restless(dict[str, Exception]):
    """Faults of some assets, each time with another text."""

    def __init__(self, *asset_ids: str) -> None:
        super().__init__(dict.fromkeys(asset_ids, BadAnswer("")))
        self._count = itertools.count(1)

    def __getitem__(self, asset_id: str) -> Exception:
        """Return the next one."""
        return BadAnswer(f"not XML (line {next(self._count)})")


def told(rig: Rig, asset_id: str) -> AssetStatus:
    """What a watch is told of an asset."""
    return convert.status_of(rig.entry(asset_id))


def view(rig: Rig, asset_id: str) -> AssetStatus:
    """What a read of what is known is answered."""
    return convert.status_view(rig.entry(asset_id), rig.scheduler)


def held_by_whole(rig: Rig, asset_id: str) -> bool:
    """Whether who watches the whole source has the asset in the map."""
    return Filter(frozenset(), frozenset([SOURCE]), frozenset()).holds(rig.entry(asset_id))


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("good", [0, 1, 20])
@virtual
async def test_one_that_was_never_read_is_unknown_and_says_why(fault: Exception, good: int) -> None:
    """Who names it has an entry within one interval: UNKNOWN, STALE, a failure with the reason; its source is well."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(good)], "poison")
    upstream.poison["poison"] = fault
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(SOON_S)
            status = told(rig, "poison")
            why = str(fault) if isinstance(fault, UpstreamError) else "the adapter failed; see the log"
            assert rig.state("poison") is State.UNKNOWN
            assert rig.entry("poison").freshness is Freshness.STALE
            assert (status.failure.code, status.failure.message) == (UNREADABLE, why)
            assert status.freshness_reason == why
            assert not view(rig, "poison").HasField("observe_time")
            assert rig.source_state() is ConditionState.HEALTHY
            assert rig.store.head == good + 1
            upstream.poison.clear()
            await asyncio.sleep(SOON_S)
            status = told(rig, "poison")
            assert (rig.state("poison"), status.freshness_reason) == (State.AVAILABLE, "")
            assert not status.HasField("failure")
            assert rig.store.head == good + 2


@virtual
async def test_one_left_out_of_every_answer_is_unknown_and_says_why() -> None:
    """An answer for many that leaves it out each time is no better."""
    upstream = FakeUpstream("a", "b", batch_max=10)
    upstream.left_out.add("b")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a", "b"]):
            await asyncio.sleep(SOON_S)
            assert told(rig, "b").failure.message == "the answer leaves the asset out"
            assert rig.state("a") is State.AVAILABLE


@virtual
async def test_a_reason_that_changes_each_time_is_one_change() -> None:
    """Known or not: one revision as long as it fails, and reads of what is known tell the latest reason."""
    upstream = FakeUpstream("known", "unknown", "good")
    upstream.poison = Restless("unknown")
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(30)
            upstream.poison = Restless("unknown", "known")
            await asyncio.sleep(600)
            assert rig.store.head == 4
            first = told(rig, "known").freshness_reason
            assert (rig.state("known"), view(rig, "known").state) == (State.AVAILABLE, ASSET_STATE_AVAILABLE)
            assert view(rig, "known").freshness_reason.startswith("not XML (line ")
            assert view(rig, "known").freshness_reason != first
            assert rig.entry("known").freshness is Freshness.STALE


@virtual
async def test_a_read_that_fails_says_about_which_asset() -> None:
    """The error says why, and names the asset once that is known to be its own; nothing is kept, and it is unseen."""
    upstream = FakeUpstream("good", "poison")
    upstream.poison["poison"] = BadAnswer("not XML")
    async with running(upstream) as rig:
        await rig.scheduler.read(["good"], max_age_s=None)
        for named in (False, False, True):
            what = "asset poison of source src" if named else "source src"
            with pytest.raises(SourceUnreachable, match=f"^{what} could not be read: not XML$") as raised:
                await rig.scheduler.read(["poison"], max_age_s=None)
            assert raised.value.metadata == {"source": SOURCE} | ({"asset_id": "poison"} if named else {})
        await asyncio.sleep(SOON_S)
        assert rig.store.head == 1
        await rig.scheduler.read(["poison"], max_age_s=None)
        unseen = rig.scheduler.unseen("poison")
        assert unseen is not None
        status = convert.unseen_view(unseen, rig.scheduler)
        assert (status.state, status.failure.message, status.freshness_reason) == (
            ASSET_STATE_UNKNOWN,
            "not XML",
            "not XML",
        )
        assert status.freshness == FRESHNESS_STALE
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["poison"], max_age_s=0)


@virtual
async def test_named_after_it_was_found_unreadable() -> None:
    """Who names it then has an entry, at the next read."""
    upstream = FakeUpstream("poison")
    upstream.poison["poison"] = BadAnswer("not XML")
    async with running(upstream) as rig:
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["poison"], max_age_s=None)
        await asyncio.sleep(SOON_S)
        assert not rig.knows("poison")
        with rig.scheduler.interest(["poison"]):
            await asyncio.sleep(1)
            assert rig.state("poison") is State.UNKNOWN


@pytest.mark.parametrize("how", ["pinned", "listed"])
@virtual
async def test_only_who_names_what_nobody_ever_saw_is_told(how: str) -> None:
    """A name proves nothing to those who watch the whole source; a pin or a list does, also one that comes later."""
    upstream = FakeUpstream("good", enumerates=True)
    upstream.poison = {name: BadAnswer("not XML") for name in ("named", how)}
    upstream.listed = frozenset(["good", how] if how == "listed" else ["good"])
    async with running(upstream, pins=("pinned",) if how == "pinned" else ()) as rig:
        with rig.scheduler.interest(["named"]), rig.scheduler.interest([], whole=True):
            await asyncio.sleep(SOON_S)
            assert not held_by_whole(rig, "named")
            assert held_by_whole(rig, how)
            upstream.listed |= {"named"}
            await asyncio.sleep(SOON_S)
            assert held_by_whole(rig, "named")


@pytest.mark.parametrize("gone", [State.DELETED, State.MISSING])
@virtual
async def test_what_is_gone_and_cannot_be_read_any_more(gone: State) -> None:
    """Who names it is told that this cannot be confirmed, and once it can; who does not is not, and it stays gone."""
    upstream = FakeUpstream("a", "b")
    upstream.states["a"] = gone
    async with running(upstream, pins=("b",)) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            del upstream.states["a"]
            upstream.poison["a"] = BadAnswer("not XML")
            await asyncio.sleep(2 * SOON_S)
            entry = rig.entry("a")
            assert (entry.state, entry.gone, entry.freshness) == (gone, True, Freshness.STALE)
            assert told(rig, "a").freshness_reason == "not XML"
            upstream.poison.clear()
            await asyncio.sleep(SOON_S)
            entry = rig.entry("a")
            assert (entry.state, entry.gone, entry.freshness) == (gone, True, Freshness.FRESH)
            assert told(rig, "a").freshness_reason == ""


@virtual
async def test_back_in_a_list_and_unreadable() -> None:
    """A list shows that it is there again: that it is not is no more its state."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            del upstream.states["b"]
            await asyncio.sleep(100)
            assert rig.entry("b").gone
            upstream.poison["b"] = BadAnswer("not XML")
            await asyncio.sleep(100)
            assert rig.entry("b").gone
            upstream.states["b"] = State.PROCESSING
            await asyncio.sleep(2 * SOON_S)
            assert (rig.state("b"), held_by_whole(rig, "b")) == (State.UNKNOWN, True)
            assert told(rig, "b").failure.message == "not XML"


@virtual
async def test_a_restart_keeps_the_reason_and_reads_at_once() -> None:
    """What was stale, or unknown, is so after a restart, with its reason, and is read first."""
    upstream, store = FakeUpstream("known", "good"), MemoryStore()
    upstream.poison["unknown"] = BadAnswer("not XML")
    async with running(upstream, store, pins=("known", "unknown", "good")) as rig:
        await asyncio.sleep(SOON_S)
        upstream.poison["known"] = BadAnswer("not XML")
        await asyncio.sleep(2 * SOON_S)
    upstream.open.clear()
    async with running(upstream, store, pins=("known", "unknown", "good")) as rig:
        upstream.open.set()
        await until(lambda: rig.source_state() is ConditionState.HEALTHY)
        for name in ("known", "unknown"):
            assert (view(rig, name).freshness, view(rig, name).freshness_reason) == (FRESHNESS_STALE, "not XML")
        upstream.poison.clear()
        await asyncio.sleep(5)
        assert {rig.entry(name).freshness for name in ("known", "unknown")} == {Freshness.FRESH}


@virtual
async def test_while_the_source_is_down_the_reason_is_its_condition() -> None:
    """A read of what is known says why it is UNREACHABLE."""
    upstream = FakeUpstream("a")
    async with running(upstream, pins=("a",)) as rig:
        await asyncio.sleep(10)
        upstream.fault = Unreachable("connection refused")
        await asyncio.sleep(2 * SOON_S)
        status = view(rig, "a")
        assert (status.freshness, status.freshness_reason) == (FRESHNESS_UNREACHABLE, "connection refused")
        assert rig.store.head == 1


@virtual
async def test_what_cannot_be_encoded_is_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An adapter's value that the schema cannot hold: its asset says so, and the log once, however often it is read."""
    upstream = FakeUpstream("known", "unknown", "good")
    odd = AssetRejected("\ud800")
    upstream.poison["unknown"] = odd
    async with running(upstream, pins=("known", "unknown", "good"), busy_interval_s=1, settled_interval_s=2) as rig:
        await asyncio.sleep(SOON_S)
        assert told(rig, "unknown").freshness_reason == troubles_text()
        assert rig.state("unknown") is State.UNKNOWN
    assert caplog.text.count("cannot be encoded") == 1


def troubles_text() -> str:
    """Return what is said of an asset whose status cannot be told."""
    return "it was read, but what it says cannot be told; see the log"


@virtual
async def test_one_line_an_asset(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one when its reads begin to fail again and again, and one when they do not any more."""
    upstream = FakeUpstream("a", "poison")
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(10)
            upstream.poison = Restless("poison")
            await asyncio.sleep(3600)
            lines = [line for line in caplog.messages if "poison" in line]
            assert len(lines) == 1
            assert lines[0].startswith("source src: asset poison cannot be read: not XML (line ")
            upstream.poison = {}
            await asyncio.sleep(SOON_S)
            lines = [line for line in caplog.messages if "poison" in line]
            assert lines[1:] == ["source src: asset poison can be read again"]
            for _ in range(5):
                upstream.poison = Restless("poison")
                await asyncio.sleep(30)
                upstream.poison = {}
                await asyncio.sleep(30)
            assert len([line for line in caplog.messages if "poison" in line]) <= 4


@virtual
async def test_many_at_a_time_are_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Of any number that turn bad, LINES_MAX have a line in LINES_S, and the last says that others wait."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(60)], batch_max=100)
    async with running(upstream) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(SOON_S)
            upstream.left_out |= {f"a{n}" for n in range(40)}
            await asyncio.sleep(troubles.LINES_S + SOON_S)
            lines = [line for line in caplog.messages if "cannot be read" in line]
            assert troubles.LINES_MAX <= len(lines) <= 3 * troubles.LINES_MAX
            assert lines[troubles.LINES_MAX - 1].endswith("; lines about others wait for a minute")
            await asyncio.sleep(10 * SOON_S)
            lines = [line for line in caplog.messages if "cannot be read" in line]
            assert len(lines) == len({line.split()[3] for line in lines}) == 40
            assert rig.source_state() is ConditionState.HEALTHY


@virtual
async def test_a_reason_and_an_id_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """However long a text the upstream's answer led to: what is kept, logged and told of it is short."""
    asset_id = "a" * 2000
    upstream = FakeUpstream(asset_id, "good")
    upstream.poison[asset_id] = BadAnswer("x" * 100_000)
    async with running(upstream) as rig:
        await rig.scheduler.read(["good"], max_age_s=None)
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(SOON_S)
            assert len(told(rig, asset_id).freshness_reason) == troubles.REASON_LENGTH_MAX
            assert told(rig, asset_id).freshness_reason.endswith("x…")
        with pytest.raises(SourceUnreachable) as raised:
            await rig.scheduler.read([asset_id], max_age_s=0)
        assert len(raised.value.metadata["asset_id"]) == 200
    assert max(map(len, caplog.messages)) < troubles.REASON_LENGTH_MAX + troubles.LOGGED_ID_LENGTH_MAX + 100


BAD, WELL, OTHER = "bad", "well", "other"
PHASES = st.lists(st.lists(st.sampled_from([BAD, WELL, OTHER]), min_size=4, max_size=4), min_size=1, max_size=5)


@given(phases=PHASES, listed=st.booleans(), batch_max=st.sampled_from([1, 10]))
@bounded("unreadable assets")
def test_in_any_order_of_good_and_bad_reads(phases: list[list[str]], *, listed: bool, batch_max: int) -> None:
    """Whoever watches has each asset's last state, or why not; turns are changes, and failed reads change no state."""
    virtual_time.run(_in_any_order(phases, listed=listed, batch_max=batch_max))


async def _in_any_order(phases: list[list[str]], *, listed: bool, batch_max: int) -> None:
    names = ["x", "y", "z", "u"]
    good = [f"good{n}" for n in range(8)]
    upstream = FakeUpstream(*names, *good, batch_max=batch_max, enumerates=listed)
    states = itertools.cycle([State.PENDING, State.FAILED, State.PROCESSING])
    known: dict[str, State] = {}
    changes = dict.fromkeys(names, 0)
    async with running(upstream) as rig:
        with rig.scheduler.interest([] if listed else upstream.states, whole=listed):
            before = dict.fromkeys(names, "")
            for phase in phases:
                for name, how in zip(names, phase, strict=True):
                    if how == OTHER:
                        upstream.states[name] = next(states)
                    changes[name] += how == OTHER or how != before[name]
                upstream.poison = Restless(*[name for name, how in zip(names, phase, strict=True) if how == BAD])
                await asyncio.sleep(3 * SOON_S)
                for name, how in zip(names, phase, strict=True):
                    before[name] = how
                    if how != BAD:
                        known[name] = upstream.states[name]
                    _check(rig, name, known.get(name), bad=how == BAD, listed=listed)
            assert rig.store.head <= len(good) + sum(changes.values())


def _check(rig: Rig, name: str, known: State | None, *, bad: bool, listed: bool) -> None:
    entry = rig.store.get(AssetKey(SOURCE, name))
    assert entry is not None
    assert entry.state is (known or State.UNKNOWN)
    assert (entry.freshness is Freshness.STALE) == bad
    assert bool(convert.status_of(entry).freshness_reason) == bad
    assert held_by_whole(rig, name) == bool(listed or known)


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hear warnings, whatever was set before."""
    with caplog.at_level("INFO"):
        yield
