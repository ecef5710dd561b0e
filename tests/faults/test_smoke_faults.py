"""One run with a real server killed under load, judged; and the judge itself, shown what it must not let pass."""

from __future__ import annotations

import asyncio
import copy
import random
from typing import TYPE_CHECKING, TypeVar

import pytest
from assetwatch.v1 import asset_status_pb2 as pb2
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT

from assetwatch_client import Synced, Upsert
from faults.catalogue import FAULTS
from faults.rig import limits, oracle
from faults.rig.evidence import Line, Logged, Window
from faults.rig.follower import Told
from faults.rig.recorder import End, Stream
from faults.rig.world import world
from faults.runs import planned, run
from support.scripted_watch import conditions

if TYPE_CHECKING:
    from faults.rig.evidence import Evidence
    from faults.rig.follower import Follower
    from faults.rig.recorder import Recorder

T = TypeVar("T", "Recorder", "Follower")

pytestmark = pytest.mark.timeout(120)


async def _killed_once() -> Evidence:
    async with world(planned(2, store="sqlite")) as running:
        running.work()
        await asyncio.sleep(1.2)
        running.measure()
        running.windows.append(await FAULTS["F1"](running, random.Random(1)))  # noqa: S311 - repeatable
        await asyncio.sleep(1.0)
        return await running.evidence(quiet_s=10)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """One run, judged by each test in its own way."""
    found = run(_killed_once())
    found.starved = 0.0  # it was given time enough for a busy machine: everything is judged
    return found


@pytest.fixture
def tampered(evidence: Evidence) -> Evidence:
    """A copy to be spoiled."""
    copied = copy.copy(evidence)
    copied.recorders = copy.deepcopy([_without_tasks(each) for each in evidence.recorders])
    copied.followers = copy.deepcopy([_without_tasks(each) for each in evidence.followers])
    return copied


def test_killed_under_load_nothing_is_lost(evidence: Evidence) -> None:
    """Killed under load and started again, every watcher ends with the truth, nothing twice, none going back."""
    verdict = oracle.judge(evidence)
    assert not verdict.violations, verdict.said()


def test_a_lost_change_is_seen(tampered: Evidence) -> None:
    """The judge finds a change that one recorder was never told of."""
    message = _live(tampered)[-1]
    del message.changes[0]
    assert "I5" in _broken(tampered)


def test_a_repeated_change_is_seen(tampered: Evidence) -> None:
    """The judge finds a change that was told twice."""
    message = _live(tampered)[0]
    message.changes.append(message.changes[0])
    assert {"I1", "I2", "I3"} <= _broken(tampered)


def test_a_false_removal_is_seen(tampered: Evidence) -> None:
    """The judge finds an UPSERT that was told as REMOVED."""
    change = next(c for m in _live(tampered) for c in m.changes if c.kind == CHANGE_KIND_UPSERT)
    change.kind = CHANGE_KIND_REMOVED
    assert "I9" in _broken(tampered)


def test_an_altered_status_is_seen(tampered: Evidence) -> None:
    """The judge finds a status that the store never had."""
    _live(tampered)[0].changes[0].status.locked ^= True
    assert "I10" in _broken(tampered)


def test_an_unknown_status_is_seen(tampered: Evidence) -> None:
    """The judge finds an end without a documented reason."""
    _longest(tampered.recorders[0]).end = End(0.0, "INTERNAL", "internal error")
    assert "I15" in _broken(tampered)


def test_a_silent_recorder_is_seen(tampered: Evidence) -> None:
    """The judge finds a recorder that never came back."""
    tampered.recorders[0].streams = tampered.recorders[0].streams[:1]
    tampered.windows[0].began_at = 0.0
    assert "I16" in _broken(tampered)


def test_an_event_that_comes_twice_is_seen(tampered: Evidence) -> None:
    """The judge finds a change that the library told twice, over a snapshot too, and one that is older."""
    story = tampered.followers[0].story
    upsert = next(step for step in story if isinstance(step, Told) and isinstance(step.event, Upsert))
    story.append(upsert)
    assert "I3" in _broken(tampered)
    newer = copy.deepcopy(upsert.event)
    assert isinstance(newer, Upsert)
    newer.status.revision += 10**9
    story[0] = upsert._replace(event=newer)
    assert "I6" in _broken(tampered)


def test_a_false_map_of_the_library_is_seen(tampered: Evidence) -> None:
    """The judge finds an asset that the library lacks, and a map that is not what its events amount to."""
    follower = tampered.followers[0]
    follower.map.popitem()
    assert len([text for invariant, text in oracle.judge(tampered).violations if invariant == "I4"]) == 2


@pytest.mark.parametrize("what", ["needless snapshot", "no snapshot", "early", "gave up"])
def test_a_library_that_does_not_as_documented_is_seen(tampered: Evidence, what: str) -> None:
    """The judge finds a needless snapshot, one that did not come, an end not waited out, and a watch given up."""
    follower = tampered.followers[0]
    synced = next(step for step in follower.story if isinstance(step, Told) and isinstance(step.event, Synced))
    again = synced._replace(t=synced.t + 1e6, event=Synced(0, replaced=what != "no snapshot"))
    match what:
        case "needless snapshot":
            follower.story.append(again)
        case "no snapshot":
            expired = {"requested": "1", "oldest": "2", "current": "3", "domain": "assetwatch"}
            end = End(synced.t, "OUT_OF_RANGE", reason="RESUME_TOKEN_EXPIRED", metadata=expired)
            follower.story += [end, again]
        case "early":
            end = End(again.t, "UNAVAILABLE", reason="SERVER_DRAINING", metadata={"domain": "assetwatch"}, retry_s=1.0)
            follower.story += [end, again._replace(event=Synced(0, replaced=False))]
        case _:
            follower.failed = "INTERNAL"
    assert "I15" in _broken(tampered)


def test_more_requests_than_allowed_in_a_minute_are_seen(tampered: Evidence) -> None:
    """The judge finds a source that was asked too often for long, though in no second."""
    asked = [(number / 11.5, "/", 200) for number in range(1200)]
    tampered.requests, tampered.rates = {"omn": asked}, {"omn": 10.0}
    assert list(limits.i17(tampered)) == ["omn: 691 requests within 60 s, 614 are allowed"]


def test_a_source_that_is_not_well_again_is_seen(tampered: Evidence) -> None:
    """The judge finds a source that was mended too late, unless a next fault was on by then."""
    down = Window("F10 omn is down", 100, 104, fired=True, source="omn", silent=True)
    clocks = Window("F10 clocks off", 104, 108, fired=True)
    told = [(102.0, conditions(omn="UNREACHABLE")), (110.0, conditions(omn="HEALTHY"))]
    tampered.recorders = tampered.recorders[:1]
    tampered.recorders[0].streams = [Stream(100, "", messages=told)]
    tampered.windows = [down, clocks]
    assert list(limits.i11(tampered)) == []
    tampered.windows = [down]
    assert list(limits.i11(tampered)) == ["recorder-0: omn was back, and was not told to be in 3.0 s"]


def test_only_who_knows_of_no_asset_need_not_hear_that_there_is_none() -> None:
    """What is forgotten (an asset that never was) raises no floor; who believes that it is there must be told."""
    line = Line()
    for revision, state, gone in (
        (1, pb2.ASSET_STATE_AVAILABLE, False),
        (2, pb2.ASSET_STATE_DELETED, True),
        (3, pb2.ASSET_STATE_MISSING, True),
    ):
        line.add(Logged(0.0, revision, ("dam", "a"), state, gone, pb2.AssetStatus()))
    assert not line.unheard(3, 2)
    line.forgotten.add(3)
    line.drop(1.0, [3])
    assert line.floor == 0
    assert [line.unheard(3, known) for known in (None, 2, 1)] == [True, True, False]
    assert line.may_lack(("dam", "a"))


def test_too_little_load_is_void(tampered: Evidence) -> None:
    """A run that changed little proves nothing, and one whose fault struck nothing neither."""
    tampered.changes_per_s = 99
    tampered.windows = [tampered.windows[0].__class__("F6 RST", 0.0, 0.0, fired=False)]
    assert oracle.judge(tampered).void == ["99 changes/s before the fault", "F6 RST struck nothing"]


def test_a_starved_run_is_void(tampered: Evidence) -> None:
    """Where there was no processor to run on, what came too late proves nothing; what was told wrongly does."""
    tampered.settled, tampered.changes_per_s = False, 200
    assert _broken(tampered) == {"LATE"}
    tampered.starved = 0.9
    assert oracle.judge(tampered).void == ["LATE does not hold, with no processor for 90% of the time"]
    tampered.recorders[0].map.popitem()
    assert _broken(tampered) == {"I4"}


def _broken(run: Evidence) -> set[str]:
    return {violation.invariant for violation in oracle.judge(run).violations}


def _live(run: Evidence) -> list[pb.WatchStatusResponse]:
    """Messages with changes of the last stream, which has bookmarks after them, all sources."""
    messages = [message for _, message in run.recorders[0].streams[-1].messages]
    last = max(place for place, message in enumerate(messages) if message.HasField("bookmark"))
    return [message for message in messages[:last] if message.changes]


def _longest(who: Recorder) -> Stream:
    return max(who.streams, key=lambda stream: len(stream.messages))


def _without_tasks(who: T) -> T:
    bare = copy.copy(who)
    bare._address = str
    return bare
