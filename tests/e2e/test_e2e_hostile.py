"""A hostile upstream costs a condition and a log line, nothing else."""

from __future__ import annotations

import logging
import resource
from typing import Any

import pytest

from assetwatchd.model.values import ConditionState
from support.rig import SAMPLES, SOURCES, Rig, Stream, running, sample

MIB = 1024 * 1024
MEMORY_MAX = 96 * MIB
"""What the process may grow by while an upstream sends 1 GB: a few bodies of body_bytes_max, and the stand-in."""
XML = "application/xml"
JSON = "application/json"
XXE = '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><response><messages>&x;</messages></response>'
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    + "]><response><messages>&a11;</messages></response>"
)
QUICK = {"timeout_s": 0.5, "body_bytes_max": MIB}

ATTACKS: dict[str, dict[str, Any]] = {
    "xxe": {"status": 200, "body": XXE, "content_type": XML},
    "entity bomb": {"status": 200, "body": BOMB, "content_type": XML},
    "1 GB body": {"huge_bytes": 1024 * MIB},
    "slow body": {"drip_bytes_per_s": 5},
    "invalid UTF-8": {"charset_garbage": True},
    "a page": {"status": 200, "body": "<html><body>It works</body></html>", "content_type": "text/html"},
    "a login page": {"status": 200, "body": "<html><body>Sign in</body></html>", "content_type": "text/html"},
    "a redirect to a login page": {"status": 302, "headers": {"Location": "/login"}},
    "nested JSON": {"status": 200, "body": "[" * 100_000, "content_type": JSON},
    "nested XML": {"status": 200, "body": "<a>" * 100_000, "content_type": XML},
    "half a surrogate": {"status": 200, "body": '{"state": "\\ud800"}', "content_type": JSON},
    "huge number": {"status": 200, "body": '{"state": 1' + "0" * 5000 + "}", "content_type": JSON},
    "not even a body": {"status": 200, "body": "", "content_type": JSON},
    "null": {"status": 200, "body": "null", "content_type": JSON},
    "truncated": {"truncate_bytes": 10},
    "disconnect": {"disconnect": True},
    "hang": {"hang": True},
    "500": {"status": 500, "body": "oops"},
}
CALLS_MORE = 2
"""What the source is asked after its condition turned, before what was told is counted."""
BAD = {ConditionState.DEGRADED, ConditionState.UNREACHABLE, ConditionState.REFUSED}


async def survived(rig: Rig, stream: Stream, source: str, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that the attack costs one condition and one line of the log, and no other source anything."""
    told = len(stream.conditions(source))
    while not BAD & set(stream.conditions(source)[-1:]):
        await stream.next()
    calls = (await rig.source(source)).poll_stats.calls
    await rig.shows(source, lambda shown: shown.poll_stats.calls >= calls + CALLS_MORE)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert stream.removed == []
    kept = await rig.get(sample(source))
    await stream.holds(lambda held: held[sample(source)].revision >= kept.revision)
    other = "usd-search" if source != "usd-search" else "omn"
    assert (await rig.get(sample(other), max_age={})).state == 3
    rig.vary(other)
    await stream.holds(lambda held: held[sample(other)].state == SAMPLES[other].state)
    assert stream.messages[-1].head_revision > 0
    assert len(stream.conditions(source)) == told + 1
    ours = [record for record in caplog.records if record.name.startswith("assetwatchd")]
    [warning] = [record.getMessage() for record in ours if record.levelno == logging.WARNING]
    assert warning.startswith(f"source {source} is ")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("source", SOURCES)
async def test_an_attack_is_a_condition_and_a_log_line(
    source: str, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    """States are kept, the server answers for the others, memory stays bounded; when it is over the source recovers."""
    other = "usd-search" if source != "usd-search" else "omn"
    async with running((source, other), count=1, every=QUICK) as rig:
        stream = await rig.watch(sources=[source, other]).synced()
        await stream.turns(source, ConditionState.HEALTHY)
        await rig.get(sample(source))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        with caplog.at_level(logging.INFO):
            rig[source].faults.add(**ATTACKS[attack])
            reset_push(rig, source)
            await survived(rig, stream, source, caplog)
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MEMORY_MAX
        rig[source].faults.clear()
        await stream.turns(source, ConditionState.HEALTHY)
        assert all("passwd" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("source", SOURCES)
async def test_a_redirect_to_another_host_is_not_followed(source: str, caplog: pytest.LogCaptureFixture) -> None:
    """The other host hears nothing, and so gets no credentials; the source is DEGRADED."""
    other = "usd-search" if source != "usd-search" else "omn"
    async with running((source, other), count=1, every=QUICK) as rig:
        stream = await rig.watch(sources=[source, other]).synced()
        await stream.turns(source, ConditionState.HEALTHY)
        await rig.get(sample(source))
        rig[source].faults.add(redirect_to=f"{rig[other].url}/stolen")
        reset_push(rig, source)
        await survived(rig, stream, source, caplog)
        assert rig[other].requests.count("stolen") == 0


@pytest.mark.parametrize(
    "attack",
    [
        {"charset_garbage": True},
        {"huge_bytes": 64 * MIB},
        {"body": "[" * 100_000},
        {"body": '{"iterable": {}}'},
        {"disconnect": True},
    ],
    ids=["invalid UTF-8", "64 MB", "nested", "no list", "disconnect"],
)
async def test_a_hostile_frame_is_a_condition_and_a_log_line(
    attack: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The same for what is pushed: the source is polled instead, and is well again when frames are."""
    async with running(("pieces", "usd-search"), count=1, every=QUICK) as rig:
        stream = await rig.watch(sources=["pieces", "usd-search"]).synced()
        await stream.turns("pieces", ConditionState.HEALTHY)
        with caplog.at_level(logging.INFO):
            rig["pieces"].faults.add(on="frame", **attack)
            rig.vary("pieces")
            await survived(rig, stream, "pieces", caplog)
        name = SAMPLES["pieces"].another["name"]
        await stream.holds(lambda held: held[sample("pieces")].pieces.name == name)
        rig["pieces"].faults.clear()
        await stream.turns("pieces", ConditionState.HEALTHY)


def reset_push(rig: Rig, source: str) -> None:
    """Have a source that pushes asked: touch its sample."""
    if source == "pieces":
        rig.vary(source)
