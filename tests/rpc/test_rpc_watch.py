"""WatchStatus: what the schema promises of a stream, message by message."""

from __future__ import annotations

import asyncio
import itertools

import grpc
import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT

from assetwatchd.model.values import AssetKey, ConditionState
from support.problems import problem
from support.rig import SAMPLES, SOURCES, key_of, ref, running, sample

HEARTBEAT_S = 0.3
MESSAGE_BYTES_MAX = 64 * 1024


async def test_a_stream_begins_with_started() -> None:
    """SNAPSHOT, the epoch, the heartbeat interval, the conditions of every source watched, and no token."""
    async with running() as rig:
        first = await rig.watch(sources=["omn"], assets=[ref(sample("pieces"))]).next()
        assert first.started.mode == pb.WatchStarted.MODE_SNAPSHOT
        assert first.started.epoch == rig.app.store.epoch
        assert first.started.heartbeat_interval.ToMilliseconds() == HEARTBEAT_S * 1000
        assert [told.source for told in first.source_conditions] == ["omn", "pieces"]
        assert not first.changes
        assert first.resume_token == ""


async def test_the_snapshot_is_everything_that_is() -> None:
    """At synced the map holds every asset of every source watched, all as UPSERT, in the order of revisions."""
    async with running(count=8) as rig:
        stream = await rig.watch(sources=SOURCES).synced()
        for source in SOURCES:
            listed = {key_of(s) for s in (await rig.list(sources=[source], page_size=100)).statuses}
            assert listed == {key for key in stream.map if key.source == source}
            assert sample(source) in listed
        changes = [change for message in stream.messages for change in message.changes]
        assert {change.kind for change in changes} == {CHANGE_KIND_UPSERT}
        revisions = [change.status.revision for change in changes]
        assert revisions == sorted(set(revisions))


async def test_synced_comes_for_nothing_too() -> None:
    """A filter that matches nothing is started, then synced with a token."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"], states=[status_pb.ASSET_STATE_UNSUPPORTED]).synced()
        assert stream.map == {}
        assert [message.WhichOneof("signal") for message in stream.messages if message.WhichOneof("signal")] == [
            "started",
            "synced",
        ]
        assert stream.messages[-1].resume_token


async def test_tokens_and_heads_are_where_they_are_promised() -> None:
    """Every message with changes, synced or a bookmark has a token, every message the head, which never falls."""
    async with running() as rig:
        stream = await rig.watch(sources=SOURCES).synced()
        rig.vary("omn")
        await stream.until(lambda message: message.changes)
        await stream.until(lambda message: message.HasField("bookmark"))
        for message in stream.messages:
            tokened = message.changes or message.HasField("synced") or message.HasField("bookmark")
            assert bool(message.resume_token) == bool(tokened)
        heads = [message.head_revision for message in stream.messages]
        assert heads == sorted(heads)
        assert heads[-1] > 0


async def test_big_snapshots_come_in_batches() -> None:
    """At most 100 changes and 64 KiB a message."""
    async with running(("omn",), count=650) as rig:
        await rig.list(page_size=1)
        stream = await rig.watch(sources=["omn"]).synced()
        assert len(stream.map) == 651
        assert max(len(message.changes) for message in stream.messages) <= 100
        assert max(message.ByteSize() for message in stream.messages) <= MESSAGE_BYTES_MAX
        assert sum(bool(message.changes) for message in stream.messages) >= 7


async def test_big_changes_are_split_by_size() -> None:
    """Pieces with long names make messages of 64 KiB at most; one larger than that travels alone."""
    async with running(("pieces",), count=0) as rig:
        for number in range(12):
            name = "n" * (20_000 if number else 90_000)
            rig["pieces"].put(f"6b1f0c6e-4f1a-4a53-9a0b-{number:012x}", {"name": name})
        stream = await rig.watch(sources=["pieces"]).synced()
        assert len(stream.map) == 13
        for message in stream.messages:
            assert message.ByteSize() <= MESSAGE_BYTES_MAX or len(message.changes) == 1


@pytest.mark.parametrize("source", SOURCES)
async def test_changes_are_told_as_they_happen(source: str) -> None:
    """A change upstream is an UPSERT with the whole new status; freshness is FRESH."""
    async with running((source,)) as rig:
        stream = await rig.watch(assets=[ref(sample(source))]).synced()
        before = stream.map[sample(source)]
        rig.vary(source)
        message = await stream.until(lambda message: message.changes)
        (change,) = message.changes
        assert change.kind == CHANGE_KIND_UPSERT
        assert change.status.state == SAMPLES[source].state
        assert change.status.revision > before.revision
        assert change.status.freshness == status_pb.FRESHNESS_FRESH
        assert message.head_revision >= change.status.revision


async def test_assets_by_name_and_whole_sources_go_together() -> None:
    """Of a source named whole everything comes, of another only the asset named."""
    async with running(("omn", "usd-search"), count=4) as rig:
        stream = await rig.watch(sources=["omn"], assets=[ref(sample("usd-search"))]).synced()
        assert {key for key in stream.map if key.source == "usd-search"} == {sample("usd-search")}
        assert len([key for key in stream.map if key.source == "omn"]) == 5


async def test_an_asset_named_twice_or_by_source_too_comes_once() -> None:
    """Each change is told once."""
    async with running(("omn",), count=2) as rig:
        stream = await rig.watch(sources=["omn"], assets=[ref(sample("omn"))] * 2).synced()
        rig.vary("omn")
        await stream.holds(lambda held: held[sample("omn")].state == SAMPLES["omn"].state)
        told = [key_of(change.status) for message in stream.messages for change in message.changes]
        assert len(told) == 4


async def test_a_long_wait_for_first_reads_shows_that_the_stream_lives() -> None:
    """Until the snapshot a message with head_revision alone comes every heartbeat, and no token; nothing after it."""
    async with running(("omn",), server={"first_read_wait_s": 1.2, "heartbeat_s": 0.2}) as rig:
        await rig.get(sample("omn"))
        rig["omn"].faults.add(hang=True)
        stream = await rig.watch(assets=[ref(AssetKey("omn", SAMPLES["omn"].unknown))]).synced()
        rig["omn"].faults.clear()
        started, *waiting, synced = stream.messages
        assert started.HasField("started")
        assert 4 <= len(waiting) <= 6
        assert {len(message.ListFields()) for message in waiting} == {1}
        assert all(message.head_revision for message in waiting)
        assert synced.resume_token


async def test_a_named_asset_nobody_has_seen_is_missing_then_appears() -> None:
    """An entry with state MISSING by synced; the stream stays and tells when it appears."""
    async with running(("omn",)) as rig:
        key = AssetKey("omn", SAMPLES["omn"].unknown)
        stream = await rig.watch(assets=[ref(key)]).synced()
        assert stream.map[key].state == status_pb.ASSET_STATE_MISSING
        rig["omn"].put(key.asset_id, SAMPLES["omn"].native)
        await stream.holds(lambda held: held[key].state == status_pb.ASSET_STATE_AVAILABLE)


async def test_a_named_asset_that_goes_is_an_upsert_with_its_last_state() -> None:
    """MISSING for a kind that forgets, DELETED for one that says so; never REMOVED."""
    async with running(("omn", "pieces")) as rig:
        stream = await rig.watch(assets=[ref(sample("omn")), ref(sample("pieces"))]).synced()
        for source in ("omn", "pieces"):
            rig[source].remove(sample(source).asset_id)
        await stream.holds(lambda held: held[sample("omn")].state == status_pb.ASSET_STATE_MISSING)
        await stream.holds(lambda held: held[sample("pieces")].state == status_pb.ASSET_STATE_DELETED)
        assert stream.removed == []


async def test_an_asset_that_goes_from_a_source_watched_whole_is_removed() -> None:
    """REMOVED with its last status; one that appears is an UPSERT."""
    async with running(("omn", "pieces")) as rig:
        stream = await rig.watch(sources=["omn", "pieces"]).synced()
        for source in ("omn", "pieces"):
            rig[source].remove(sample(source).asset_id)
        await stream.holds(lambda held: sample("omn") not in held and sample("pieces") not in held)
        changes = [change for message in stream.messages for change in message.changes]
        gone = {key_of(c.status): c.status.state for c in changes if c.kind == CHANGE_KIND_REMOVED}
        assert gone == {sample("omn"): status_pb.ASSET_STATE_MISSING, sample("pieces"): status_pb.ASSET_STATE_DELETED}
        new = AssetKey("omn", SAMPLES["omn"].unknown)
        rig["omn"].put(new.asset_id, SAMPLES["omn"].native)
        await stream.holds(lambda held: new in held)


async def test_only_the_states_asked_for_and_removed_on_leaving_them() -> None:
    """In: UPSERT. Out: REMOVED with the state it has now. In again: UPSERT."""
    async with running(("omn",), count=5) as rig:
        stream = await rig.watch(sources=["omn"], states=[status_pb.ASSET_STATE_AVAILABLE]).synced()
        assert {status.state for status in stream.map.values()} == {status_pb.ASSET_STATE_AVAILABLE}
        key = rig.vary("omn")
        message = await stream.until(lambda message: message.changes)
        assert [(key_of(c.status), c.kind, c.status.state) for c in message.changes] == [
            (key, CHANGE_KIND_REMOVED, SAMPLES["omn"].state)
        ]
        rig["omn"].put(key.asset_id, SAMPLES["omn"].native)
        await stream.holds(lambda held: key in held)


async def test_assets_by_name_obey_the_states_too() -> None:
    """A named asset that is not in them is absent from the snapshot and told when it enters them."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(assets=[ref(sample("omn"))], states=[SAMPLES["omn"].state]).synced()
        assert stream.map == {}
        key = rig.vary("omn")
        await stream.holds(lambda held: key in held)


async def test_a_read_that_finds_the_same_is_not_a_change() -> None:
    """Over many polls of a quiet source nothing but bookmarks comes, and the head stands."""
    async with running(("omn",), every={"settled_interval_s": 0.1}) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        await stream.until(lambda message: message.HasField("bookmark"))
        quiet = len(stream.messages)
        polls = rig["omn"].requests.count(SAMPLES["omn"].observe)
        for _ in range(3):
            await stream.next()
        assert rig["omn"].requests.count(SAMPLES["omn"].observe) > polls
        assert {message.WhichOneof("signal") for message in stream.messages[quiet:]} == {"bookmark"}
        assert len({message.head_revision for message in stream.messages[quiet:]}) == 1


async def test_a_quiet_stream_gets_bookmarks_as_often_as_promised() -> None:
    """One a heartbeat interval, give or take a tenth, and never two of them without a message for three intervals."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        await stream.until(lambda message: message.HasField("bookmark"))
        loop = asyncio.get_running_loop()
        times = [loop.time()]
        for _ in range(5):
            await stream.until(lambda message: message.HasField("bookmark"))
            times.append(loop.time())
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert min(gaps) > HEARTBEAT_S * 0.8
        assert sum(gaps) / len(gaps) < HEARTBEAT_S * 1.5


async def test_a_failing_source_is_one_message_and_costs_no_state() -> None:
    """One condition message for down, one for up again; no change, no REMOVED, no end."""
    async with running(("omn", "usd-search")) as rig:
        stream = await rig.watch(sources=["omn", "usd-search"]).synced()
        await stream.turns("omn", ConditionState.HEALTHY)
        held, seen = dict(stream.map), len(stream.messages)
        await rig["omn"].stop()
        await stream.turns("omn", ConditionState.UNREACHABLE)
        for _ in range(2):
            await stream.until(lambda message: message.HasField("bookmark"))
        await rig["omn"].start()
        await stream.turns("omn", ConditionState.HEALTHY)
        assert stream.conditions("omn")[-2:] == [ConditionState.UNREACHABLE, ConditionState.HEALTHY]
        assert sum(bool(message.source_conditions) for message in stream.messages[seen:]) == 2
        assert stream.map == held
        assert stream.removed == []


async def test_a_condition_message_has_text_since_and_last_success() -> None:
    """What is wrong, when it began, and when the source last answered."""
    async with running(("omn",)) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        await rig["omn"].stop()
        await stream.turns("omn", ConditionState.UNREACHABLE)
        condition = stream.messages[-1].source_conditions[0].condition
        assert "connect" in condition.message
        assert condition.transition_time.seconds >= condition.last_success_time.seconds > 0


async def test_conditions_of_other_sources_are_not_told() -> None:
    """A stream hears of the sources it watches and of no other."""
    async with running(("omn", "usd-search")) as rig:
        stream = await rig.watch(sources=["usd-search"]).synced()
        other = await rig.watch(sources=["omn"]).synced()
        await rig["omn"].stop()
        await other.turns("omn", ConditionState.UNREACHABLE)
        await stream.until(lambda message: message.HasField("bookmark"))
        assert stream.conditions("omn") == []


async def test_a_stream_ends_ok_at_its_age() -> None:
    """A last bookmark with a token, then OK; the token goes on without a gap."""
    async with running(("omn",), server={"stream_age_s": 0.3, "heartbeat_s": 0.1}) as rig:
        stream = await rig.watch(sources=["omn"]).synced()
        assert await stream.end() is None
        assert stream.messages[-1].HasField("bookmark")
        again = rig.watch(sources=["omn"], resume_token=stream.token)
        assert (await again.next()).started.mode == pb.WatchStarted.MODE_RESUMED


async def test_a_cancelled_stream_leaves_nothing_behind() -> None:
    """The watcher count falls to zero, and the source is asked no more once interest has lapsed."""
    async with running(("usd-search",), usd_search={"pins": [], "linger_s": 0.05}) as rig:
        streams = [await rig.watch(assets=[ref(sample("usd-search"))]).synced() for _ in range(5)]
        assert (await rig.source("usd-search")).watcher_count == 5
        for stream in streams:
            stream.call.cancel()
        await rig.shows("usd-search", lambda source: not source.watcher_count and not source.poll_stats.polled_assets)
        asked = rig["usd-search"].requests.count(SAMPLES["usd-search"].observe)
        await asyncio.sleep(0.4)
        assert rig["usd-search"].requests.count(SAMPLES["usd-search"].observe) <= asked + 1


async def test_a_deadline_ends_a_stream_and_nothing_else() -> None:
    """DEADLINE_EXCEEDED is the client's own affair: no trace of the watcher is left."""
    async with running(("omn",)) as rig:
        call = rig.statuses.WatchStatus(pb.WatchStatusRequest(sources=["omn"]), timeout=0.4)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert problem(caught.value).code is grpc.StatusCode.DEADLINE_EXCEEDED
        await rig.shows("omn", lambda source: source.watcher_count == 0)


async def test_a_change_is_never_lost_between_snapshot_and_live() -> None:
    """Streams opened at any moment of a busy source end up with the upstream's last word."""
    async with running(("usd-search",)) as rig:
        last = {"plugins": {"thumbnail_generation": {"history": ["processing"]}}}
        streams = []
        for number in range(20):
            native = SAMPLES["usd-search"].native if number % 2 else last
            rig["usd-search"].put(sample("usd-search").asset_id, native)
            streams.append(rig.watch(sources=["usd-search"]))
            await asyncio.sleep(0.02)
        rig.vary("usd-search")
        newest = (await rig.get(sample("usd-search"), max_age={})).revision
        for stream in streams:
            await stream.synced()
            await stream.holds(lambda held: held[sample("usd-search")].revision >= newest)
            assert stream.map[sample("usd-search")].state == SAMPLES["usd-search"].state
