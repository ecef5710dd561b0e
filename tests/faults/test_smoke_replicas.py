"""Three replicas over one etcd live through what ends, pauses and cuts off one of them; the judge is shown misdeeds."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, NamedTuple

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from grpc_health.v1 import health_pb2

from assetwatchd.rpc.watch import BEHIND_WAIT_S
from faults.replica_catalogue import compacted, cut_off, killed, paused, terminated
from faults.rig import oracle
from faults.rig.evidence import Line
from faults.rig.ownership import Call, Term
from faults.rig.recorder import end_of, read_token
from faults.rig.replica import Ended
from faults.rig.replicas import CUT_OFF_S, LEASE_S, replicas
from faults.rig.upstreams import OMN, PIECES
from faults.runs import run, shared
from support.raw_calls import health_of

if TYPE_CHECKING:
    from faults.rig.evidence import Evidence
    from faults.rig.recorder import End
    from faults.rig.replica import Replica
    from faults.rig.replicas import Replicas

pytestmark = pytest.mark.timeout(180)

TAKEN_S = LEASE_S + 5.0


class Lived(NamedTuple):
    """What came of it. behind: how a token ahead of a replica that was cut off ended; health: of that one then."""

    evidence: Evidence
    behind: End
    health: int


async def _lived_through() -> Lived:
    async with replicas(shared(2)) as running:
        running.work()
        await asyncio.sleep(1.2)
        running.measure()
        running.windows.append(await killed(running, running.owner(), 0))
        await _owned_again(running)
        running.windows.append(await terminated(running.owner(), 0))
        await _owned_again(running)
        replica = running.owner()
        behind, health = await _cut_off_and_asked(running, replica)
        await _owned_again(running)
        running.windows.append(await compacted(running, replica, 0.5))
        running.windows.append(await paused(running.owner(), LEASE_S + 1.5))
        await _owned_again(running)
        return Lived(await running.evidence(quiet_s=15), behind, health)


async def _owned_again(running: Replicas) -> None:
    assert await running.owned(within_s=TAKEN_S), running.history.owners()
    await asyncio.sleep(0.5)


async def _cut_off_and_asked(running: Replicas, replica: Replica) -> tuple[End, int]:
    """Cut one off from etcd for longer than a lease; ask it for what it cannot know, and how it is."""
    cutting = asyncio.create_task(cut_off(replica, LEASE_S + CUT_OFF_S + 2))
    await asyncio.sleep(CUT_OFF_S + 1)
    ahead = max(running.recorders, key=lambda each: read_token(each.token)[1] if each.token else 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.server.port}") as channel:
        health = (await health_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)).status
        call = AssetStatusServiceStub(channel).WatchStatus(ahead.wanted.request(ahead.token), timeout=BEHIND_WAIT_S + 5)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
    running.windows.append(await cutting)
    return end_of(ended.value), health


@pytest.fixture(scope="module")
def lived() -> Lived:
    """One run, judged by each test in its own way."""
    return run(_lived_through())


@pytest.fixture
def tampered(lived: Lived) -> Evidence:
    """A copy to be spoiled."""
    copied = copy.copy(lived.evidence)
    copied.terms, copied.calls = copy.deepcopy(copied.terms), dict(copied.calls)
    copied.also_listed = dict(copied.also_listed)
    return copied


def test_nothing_is_lost_or_doubled(lived: Lived) -> None:
    """Killed, ended, cut off, compacted, paused: every watcher ends with the truth, and each source has one poller."""
    verdict = oracle.judge(lived.evidence)
    assert not verdict.violations, verdict.said()
    assert [window.fault for window in lived.evidence.windows if not window.fired] == []


def test_each_watch_goes_on_at_any_replica(lived: Lived) -> None:
    """T12: a watch hops between replicas, over all that, with one snapshot at its beginning."""
    for who in lived.evidence.recorders:
        modes = [stream.messages[0][1].started.mode for stream in who.streams if stream.messages]
        assert modes.count(pb.WatchStarted.MODE_SNAPSHOT) == 1, who.name
        assert len(modes) > 3, who.name


def test_every_fault_of_an_owner_has_another_one_go_on(lived: Lived) -> None:
    """T70: sources changed hands at the kill, the SIGTERM, the cut and the pause; terms rise."""
    for window in lived.evidence.windows:
        if window.fault.startswith("E "):
            continue
        taken = [term for term in lived.evidence.terms if window.began_at < term.began_at < window.ended_at + TAKEN_S]
        assert taken, window.fault


def test_a_token_that_is_ahead_of_a_replica_is_waited_for_and_then_sent_elsewhere(lived: Lived) -> None:
    """T21: a replica that is cut off says so, to health checks and to who brings a token of what it cannot know."""
    assert lived.health == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (lived.behind.code, lived.behind.reason) == ("UNAVAILABLE", "REPLICA_BEHIND")
    assert lived.behind.retry_s is not None
    assert lived.behind.metadata.keys() >= {"revision", "current"}


def test_a_second_poller_is_seen(tampered: Evidence) -> None:
    """The judge finds a replica that asks a source while another one owns it, and one that never owned any."""
    calls = list(tampered.calls[OMN])
    last = calls[-1]
    for name in ("replica-9", _former(tampered, last)):
        tampered.calls = {**tampered.calls, OMN: [*calls, Call(last.t + 1, name), Call(last.t + 1.1, name)]}
        assert "I12" in _broken(tampered)


def _former(run: Evidence, last: Call) -> str:
    """Name who asked before the owner of now."""
    return next(call.replica for call in reversed(run.calls[OMN]) if call.replica != last.replica)


def test_who_asks_on_after_its_term_is_seen(tampered: Evidence) -> None:
    """The judge finds an owner that goes on asking after its session ended, also when nobody else has begun."""
    last = tampered.calls[OMN][-1]
    terms = [term for term in tampered.terms if term.source == OMN]
    terms[-1].ended_at = last.t - 2
    tampered.calls = {OMN: [*tampered.calls[OMN], last]}
    assert "I12" in _broken(tampered)


def test_two_owners_at_once_are_seen(tampered: Evidence) -> None:
    """The judge finds a term that begins while another one lasts."""
    now = next(term for term in reversed(tampered.terms) if term.source == OMN)
    tampered.terms = [*tampered.terms, Term(OMN, "replica-9", now.revision + 1, now.began_at + 0.1)]
    assert "I12" in _broken(tampered)


def test_a_second_push_connection_is_seen(tampered: Evidence) -> None:
    """There is one at the end; the judge finds another."""
    assert tampered.pushes == {PIECES: 1}
    tampered.pushes = {PIECES: 2}
    assert "I12" in _broken(tampered)


def test_the_last_call_of_an_owner_may_come_late(tampered: Evidence) -> None:
    """What was under way at a takeover is one call: that one is no fault."""
    before = list(tampered.calls[OMN])
    place = next(n for n in range(1, len(before)) if before[n].replica != before[n - 1].replica)
    late = Call(before[place].t, before[place - 1].replica)
    tampered.calls = {**tampered.calls, OMN: [*before[: place + 1], late, *before[place + 1 :]]}
    assert "I12" not in _broken(tampered)


def test_a_replica_that_lists_otherwise_is_seen(tampered: Evidence) -> None:
    """The judge finds a list that lacks an asset, at one replica of three."""
    name, listed = next(iter(tampered.also_listed.items()))
    tampered.also_listed = {**tampered.also_listed, name: dict(list(listed.items())[1:])}
    assert "I4" in _broken(tampered)


def test_a_process_that_ends_by_itself_is_seen(tampered: Evidence) -> None:
    """The judge finds a replica that ended though nothing required it."""
    tampered.ended = [Ended(0.0, "replica-0", 1)]
    assert "ENDED" in _broken(tampered)


def test_a_write_that_is_in_no_log_is_seen(tampered: Evidence) -> None:
    """The judge finds that clients were told of what etcd's own history does not have."""
    line, last = Line(), tampered.journal.last
    for entry in last.entries[: len(last.entries) // 2] + last.entries[len(last.entries) // 2 + 1 :]:
        line.add(entry)
    tampered.journal = copy.copy(tampered.journal)
    tampered.journal.lines = [line]
    tampered.journal.by_epoch = dict.fromkeys(tampered.journal.by_epoch, line)
    assert "I10" in _broken(tampered)


def _broken(run: Evidence) -> set[str]:
    return {violation.invariant for violation in oracle.judge(run).violations}
