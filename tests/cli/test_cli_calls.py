from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from assetwatch.v1.asset_status_pb2 import AssetState, AssetStatusView, Freshness
from assetwatch.v1.source_pb2 import Source, SourceCondition, SourceConditionState, SourceKind
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from assetwatchd.cli.options import state_name
from assetwatchd.cli.output import label, source_table
from support.command_line import run
from support.fake_service import FakeService, Refusal, serving, status
from support.ports import free_port

if TYPE_CHECKING:
    from support.command_line import Run, Spawn


async def test_get_prints_a_table_with_the_facets(ask: Run, fake: FakeService) -> None:
    """`get` prints source, whole id, state and failure on one line, and a line a facet."""
    long_id = "s3://bucket/" + "deep/" * 60 + "crate.usd"
    fake.statuses = [status("usd", long_id, "FAILED", message="no\x1b[2J material", facet="import incomplete")]
    done = await ask("get", "usd", long_id)
    header, row, _, facet_header, facet = done.out.splitlines()
    assert done.code == 0
    assert header.split()[:3] == ["SOURCE", "ASSET", "STATE"]
    assert long_id in row
    assert "FAILED" in row
    assert "permanent BROKEN no\\x1b[2J material" in row
    assert facet_header.startswith("FACET")
    assert "import incomplete" in facet
    assert fake.requests[0].asset.asset_id == long_id
    assert not fake.requests[0].HasField("max_age")


@pytest.mark.parametrize(("text", "milliseconds"), [("0", 0), ("1.5", 1500), ("200ms", 200), ("5m", 300_000)])
async def test_get_sends_max_age(ask: Run, fake: FakeService, text: str, milliseconds: int) -> None:
    """--max-age takes seconds or a number with a unit, and 0 is sent as 0, not left out."""
    done = await ask("get", "dam", "tid:1", "--max-age", text)
    expected = Duration()
    expected.FromMilliseconds(milliseconds)
    assert done.code == 0
    assert fake.requests[0].HasField("max_age")
    assert fake.requests[0].max_age == expected


async def test_formats_keep_the_schemas_names(ask: Run, fake: FakeService) -> None:
    """JSON, ndjson and yaml hold the same message, fields named as in the schema."""
    fake.statuses = [status("dam", "tid:1", "PROCESSING", revision=3)]
    as_json = await ask("get", "dam", "tid:1", "-o", "json")
    as_line = await ask("get", "dam", "tid:1", "-o", "ndjson")
    as_yaml = await ask("get", "dam", "tid:1", "-o", "yaml")
    held = json.loads(as_json.out)
    assert held["asset"] == {"source": "dam", "asset_id": "tid:1"}
    assert held["state"] == "ASSET_STATE_PROCESSING"
    assert json.loads(as_line.out) == held == yaml.safe_load(as_yaml.out)
    assert as_line.out.count("\n") == 1


async def test_list_prints_one_page_and_says_there_is_more(ask: Run, fake: FakeService) -> None:
    """A page is printed, the next one's token, and of what there may be more, are told on standard error."""
    done = await ask("list", "--page-size", "2", "--source", "dam", "--state", "available", "--state", "FAILED")
    request = fake.requests[0]
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert "--page-token 2" in done.err
    assert "not complete: there may be more in sbc" in done.err
    assert (list(request.sources), list(request.states)) == (
        ["dam"],
        [AssetState.ASSET_STATE_AVAILABLE, AssetState.ASSET_STATE_FAILED],
    )


async def test_list_all_follows_the_pages(ask: Run, fake: FakeService) -> None:
    """--all asks for page after page with the same filter and prints them as one, a status a line in ndjson."""
    done = await ask("list", "--all", "--page-size", "2", "--source", "dam", "-o", "ndjson")
    ids = [json.loads(line)["asset"]["asset_id"] for line in done.out.splitlines()]
    assert ids == [f"tid:{number}" for number in range(1, 6)]
    assert [request.page_token for request in fake.requests] == ["", "2", "4"]
    assert {tuple(request.sources) for request in fake.requests} == {("dam",)}
    assert "there is more" not in done.err


async def test_list_takes_sources_as_watch_does(ask: Run, fake: FakeService) -> None:
    """By position, beside --source, each once; a single asset is another command's."""
    assert (await ask("list", "dam", "sbc", "--source", "dam", "--source", "x")).code == 0
    assert list(fake.requests[0].sources) == ["dam", "sbc", "x"]
    single = await ask("list", "dam/tid:1")
    assert (single.code, len(fake.requests)) == (2, 1)
    assert "`assetwatch get dam tid:1`" in single.err


async def test_how_much_of_each_status_is_asked_for(ask: Run, fake: FakeService) -> None:
    """--view of each command that prints statuses; all of it unless told otherwise. A prefix is sent to the letter."""
    commands = ("get dam tid:1", "list", "wait dam tid:1")
    for command in commands:
        assert (await ask(*command.split())).code == 0
        assert (await ask(*command.split(), "--view", "basic")).code == 0
    assert (await ask("list", "--prefix", "s3://B ")).code == 0
    basic, full = AssetStatusView.ASSET_STATUS_VIEW_BASIC, AssetStatusView.ASSET_STATUS_VIEW_FULL
    assert [request.view for request in fake.requests] == [*(full, basic) * len(commands), full]
    assert fake.requests[-1].asset_id_prefix == "s3://B "


def test_a_state_is_typed_as_it_is_printed() -> None:
    """Each of the schema, as tables have it and as JSON has it, in capitals or not, with hyphens or not."""
    for name, number in AssetState.items():
        if number:
            shown = label(AssetState, number)
            for typed in (shown, name, shown.lower(), name.lower(), shown.replace("_", "-")):
                assert state_name(typed) == shown


async def test_a_list_of_nothing_is_a_list(ask: Run, fake: FakeService) -> None:
    """JSON and YAML hold the empty list; ndjson has no line."""
    fake.statuses, fake.incomplete = [], []
    assert json.loads((await ask("list", "-o", "json")).out) == {"statuses": []}
    assert yaml.safe_load((await ask("list", "-o", "yaml")).out) == {"statuses": []}
    assert (await ask("list", "-o", "ndjson")).out == ""


async def test_counts_of_nothing_are_told(ask: Run) -> None:
    """What a source counts is printed when it is 0, too."""
    whole = json.loads((await ask("sources", "-o", "json")).out)["sources"]
    line = json.loads((await ask("sources", "-o", "ndjson")).out.splitlines()[0])
    one = json.loads((await ask("sources", "dam", "-o", "json")).out)
    for source in (*whole, line, one):
        assert (source["asset_count"], source["watcher_count"]) == ("7", 0)
        assert (source["poll_stats"]["failed_calls"], source["poll_stats"]["notices"]) == ("1", "0")


async def test_list_as_json_is_the_response(ask: Run) -> None:
    """As JSON it is the whole response, with the next page's token and the sources of which there may be more."""
    held = json.loads((await ask("list", "--page-size", "2", "-o", "json")).out)
    assert (len(held["statuses"]), held["next_page_token"], held["incomplete"]) == (2, "2", ["sbc"])


ASKED: list[tuple[tuple[str, ...], tuple[list[str], bool, bool]]] = [
    ((), (["AVAILABLE"], False, True)),
    (("--state", "failed"), (["FAILED"], False, True)),
    (("--state", "FAILED", "--state", "missing", "--keep-waiting"), (["FAILED", "MISSING"], False, False)),
    (("--any-settled",), ([], True, True)),
    (("--settled",), ([], True, True)),
]
"""What is asked for, and what is sent: states, until_settled, stop_when_settled."""


@pytest.mark.parametrize(("arguments", "sent"), ASKED)
async def test_what_a_wait_asks_for(
    ask: Run, fake: FakeService, arguments: tuple[str, ...], sent: tuple[list[str], bool, bool]
) -> None:
    """AVAILABLE unless told otherwise, and no longer than until it is settled, unless told to go on."""
    assert (await ask("wait", "dam", "tid:1", *arguments)).code == 0
    request = fake.requests[0]
    states = [AssetState.Name(state).removeprefix("ASSET_STATE_") for state in request.states]
    assert (states, request.until_settled, request.stop_when_settled) == sent


async def test_wait_exit_code_tells_how_it_ended(ask: Run, fake: FakeService) -> None:
    """0 when the condition is met, 5 when it is settled otherwise, 1 when the time ran out; each with the status."""
    met = await ask("wait", "dam", "tid:1")
    fake.condition_met = False
    not_met = await ask("wait", "dam", "tid:1", "--timeout", "250ms")
    fake.settled_otherwise, fake.statuses = True, [status("dam", "tid:1", "FAILED")]
    otherwise = await ask("wait", "dam", "tid:1", "--state", "available", "--state", "out_of_sync")
    assert (met.code, not_met.code, otherwise.code) == (0, 1, 5)
    assert all("tid:1" in done.out for done in (met, not_met, otherwise))
    assert met.err == ""
    assert not_met.err == "assetwatch: not AVAILABLE within 0.25 s: it is AVAILABLE\n"
    assert "not AVAILABLE or OUT_OF_SYNC: it is settled as FAILED" in otherwise.err


async def test_a_wait_in_vain_says_what_was_learned(ask: Run, fake: FakeService) -> None:
    """Nothing at all, or what was known before its source could not be read."""
    fake.condition_met, fake.statuses[0].freshness = False, Freshness.FRESHNESS_STALE
    known = await ask("wait", "dam", "tid:1", "--timeout", "0")
    fake.statuses = []
    unknown = await ask("wait", "dam", "tid:1", "--timeout", "0")
    assert (known.code, unknown.code) == (1, 1)
    assert "it was AVAILABLE when it was last read, which cannot be confirmed now" in known.err
    assert "nothing could be learned" in unknown.err


async def test_the_time_of_a_wait_is_all_it_takes(command: Run) -> None:
    """A server that takes connections and never speaks costs no more than --timeout: then the command ends with 3."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        began = time.monotonic()
        done = await command("wait", "dam", "tid:1", "--timeout", "3", "--server", f"127.0.0.1:{deaf.getsockname()[1]}")
        took_s = time.monotonic() - began
    assert (done.code, done.out) == (3, "")
    assert "did not answer in time" in done.err
    assert 3 < took_s < 15  # gRPC alone would try for 20 s


async def test_a_wait_goes_on_after_a_break_for_what_is_left_of_its_time(spawn: Spawn, fake: FakeService) -> None:
    """A server that drains under a wait is asked again for what is left; when the time is over it fails."""
    fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING")
    async with spawn("wait", "dam", "tid:1", "--timeout", "20", "--server", fake.address) as running:
        assert running.stderr is not None
        said = await asyncio.wait_for(running.stderr.readline(), 30)
        fake.refusal = None
        out, _ = await asyncio.wait_for(running.communicate(), 30)
    fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING", retry_s=9)
    in_vain = await run("wait", "dam", "tid:1", "--timeout", "5", ASSETWATCH_SERVER=fake.address)
    assert said == b"assetwatch: the wait broke (SERVER_DRAINING); waiting again\n"
    assert (running.returncode, b"tid:1" in out) == (0, True)
    first, *others = [request.timeout.ToMilliseconds() for request in fake.requests if request.timeout.seconds > 5]
    assert 15_000 < first <= 20_000
    assert all(length_ms < first for length_ms in others)
    assert in_vain.code == 4
    assert "[UNAVAILABLE SERVER_DRAINING]" in in_vain.err


async def test_a_wait_for_a_server_that_comes_up_later(spawn: Spawn) -> None:
    """With --timeout a server that is not there yet is waited for; without it, or when time is up, the code is 3."""
    address = f"127.0.0.1:{free_port()}"
    at_once = await run("wait", "dam", "tid:1", ASSETWATCH_SERVER=address)
    in_vain = await run("wait", "dam", "tid:1", "--timeout", "1", ASSETWATCH_SERVER=address)
    async with spawn("wait", "dam", "tid:1", "--timeout", "60", "--server", address) as running:
        assert running.stderr is not None
        said = await asyncio.wait_for(running.stderr.readline(), 30)
        async with serving(address):
            out, _ = await asyncio.wait_for(running.communicate(), 60)
    assert said.decode() == f"assetwatch: {address} cannot be reached yet; trying until --timeout is over\n"
    assert (running.returncode, b"tid:1" in out) == (0, True)
    assert (at_once.code, in_vain.code) == (3, 3)
    assert at_once.err.startswith(f"assetwatch: no server can be reached at {address}")
    assert f"no server can be reached at {address}" in in_vain.err


async def test_wait_default_is_a_minute(ask: Run, fake: FakeService) -> None:
    """Without --timeout the wait is for 60 s."""
    await ask("wait", "dam", "tid:1")
    assert 50_000 < fake.requests[0].timeout.ToMilliseconds() <= 60_000


async def test_sources(ask: Run, fake: FakeService) -> None:
    """`sources` prints a line a source with its condition; with a name, that source."""
    listed = await ask("sources")
    one = await ask("sources", "sbc", "-o", "json")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "dam", "sbc"]
    assert "connection refused" in listed.out
    assert "UNREACHABLE" in listed.out
    assert json.loads(one.out)["name"] == "sbc"
    assert fake.requests[-1].source == "sbc"


def test_the_table_of_sources_says_since_when_what_next_and_why() -> None:
    """SINCE, LAST OK, NEXT TRY and WHY, also of what never was, is being tried, or has no next try."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def at(seconds: float) -> Timestamp:
        stamp = Timestamp()
        stamp.FromDatetime(now + timedelta(seconds=seconds))
        return stamp

    def source(name: str, **condition: Any) -> Source:
        told = SourceCondition(
            state=SourceConditionState.SOURCE_CONDITION_STATE_REFUSED, message="HTTP 401", **condition
        )
        return Source(name=name, kind=SourceKind.SOURCE_KIND_OMN, condition=told)

    table = source_table(
        [
            source("a", transition_time=at(-120), last_success_time=at(-7200), next_try_time=at(45.2)),
            source("b", transition_time=at(-1), next_try_time=at(-1)),
            source("c", transition_time=at(-90_000), next_try_time=at(890)),
            source("d", transition_time=at(0)),
        ],
        now,
    )
    header, *rows = (re.split(r"  +", line) for line in table.splitlines())
    assert header[3:6] == ["SINCE", "LAST OK", "NEXT TRY"]
    assert header[-1] == "WHY"
    assert [row[3:6] for row in rows] == [
        ["2m ago", "2h ago", "in 46s"],
        ["1s ago", "never", "now"],
        ["1d ago", "never", "in 15m"],
        ["0s ago", "never", "-"],
    ]
    assert {row[-1] for row in rows} == {"HTTP 401"}


def test_the_table_of_sources_says_who_asks_each() -> None:
    """OWNER, also of a source that nobody asks at the moment; and who tells so, where that is another one."""
    sources = [Source(name="a", owner="replica-1"), Source(name="b", owner="replica-2"), Source(name="c")]

    def owners(told: list[Source], replica: str) -> tuple[list[str], list[str]]:
        header, *rows = source_table(told, datetime(2026, 1, 1, tzinfo=UTC), replica).splitlines()
        at = header.index("OWNER")
        return [row[at:].split()[0] for row in rows[: len(told)]], rows[len(told) :]

    assert owners(sources, "replica-1") == (["replica-1", "replica-2", "-"], ["", "told by replica-1"])
    assert owners(sources[:1], "replica-1") == (["replica-1"], [])
    assert owners(sources[:1], "") == (["replica-1"], [])


async def test_retry(ask: Run, fake: FakeService) -> None:
    """`retry` prints the source as it is after the try; 0 when it is healthy, 1 when not, 4 when it is too soon."""
    in_vain = await ask("retry", "dam")
    fake.retried = SourceCondition(state=SourceConditionState.SOURCE_CONDITION_STATE_HEALTHY)
    mended = await ask("retry", "dam", "-o", "json")
    fake.refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "lately", "RETRY_TOO_SOON", retry_s=300)
    too_soon = await ask("retry", "dam")
    assert [done.code for done in (in_vain, mended, too_soon)] == [1, 0, 4]
    assert "connection refused" in in_vain.out
    assert json.loads(mended.out)["condition"]["state"] == "SOURCE_CONDITION_STATE_HEALTHY"
    assert "RETRY_TOO_SOON" in too_soon.err
    assert fake.requests[0].source == "dam"


async def test_server(ask: Run, fake: FakeService) -> None:
    """`server` prints a line about the server that answers; as JSON also what it takes, and a head of 0."""
    table, whole = await ask("server"), await ask("server", "-o", "json")
    header, row = (line.split() for line in table.out.splitlines())
    assert (header[:2], row[:2]) == (["VERSION", "REPLICA"], ["1.2.3", "one"])
    held = json.loads(whole.out)
    assert (held["head_revision"], held["limits"]) == ("0", {"message_bytes_max": "65536"})
    assert [request.DESCRIPTOR.name for request in fake.requests] == ["GetServerInfoRequest"] * 2


async def test_health_exit_code(ask: Run, fake: FakeService) -> None:
    """`health` ends with 0 when serving, 1 when not, 4 for a name the server does not know."""
    serving, not_serving, unknown = await ask("health"), await ask("health", "sbc"), await ask("health", "nobody")
    assert (serving.code, serving.out) == (0, "SERVING\n")
    assert (not_serving.code, not_serving.out) == (1, "NOT_SERVING\n")
    assert unknown.code == 4
    await fake.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert (await ask("health", "-o", "ndjson")).out == '{"status": "NOT_SERVING"}\n'


async def test_a_refusal_is_one_sentence_with_the_reason_and_what_to_do(ask: Run, fake: FakeService) -> None:
    """A refused call ends with 4, naming code, reason, field violations, the delay and what to do; no traceback."""
    fake.refusal = Refusal(grpc.StatusCode.NOT_FOUND, "no source is named 'dma'; there are: dam", "SOURCE_NOT_FOUND")
    unknown = await ask("get", "dma", "tid:1")
    fake.refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "asset.asset_id: too long", violations={"asset.asset_id": "too long"}
    )
    invalid = await ask("get", "dam", "tid:1")
    fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "dam could not be read", "SOURCE_UNREACHABLE", retry_s=3)
    unread = await ask("get", "dam", "tid:1", "--max-age", "0")
    assert [done.code for done in (unknown, invalid, unread)] == [4, 4, 4]
    assert unknown.err == (
        "assetwatch: no source is named 'dma'; there are: dam [NOT_FOUND SOURCE_NOT_FOUND]: see `assetwatch sources`\n"
    )
    assert "[INVALID_ARGUMENT]: mend the call" in invalid.err
    assert invalid.err.count("asset.asset_id: too long") == 1
    assert "SOURCE_UNREACHABLE" in unread.err
    assert "retry in 3 s" in unread.err
    assert all(done.out == "" for done in (unknown, invalid, unread))


async def test_every_violation_is_told_once(ask: Run, fake: FakeService) -> None:
    """What the text of the error has is not said again, what it had no room for is."""
    wrong = {f"assets[{number}].asset_id": "too long" for number in range(4)}
    text = "; ".join(f"{field}: {what}" for field, what in list(wrong.items())[:2]) + "; and 2 more"
    fake.refusal = Refusal(grpc.StatusCode.INVALID_ARGUMENT, text, "INVALID_REQUEST", violations=wrong)
    done = await ask("get", "dam", "tid:1")
    assert [done.err.count(f"{field}: too long") for field in wrong] == [1, 1, 1, 1]
    assert done.err.splitlines()[1:] == ["  assets[2].asset_id: too long", "  assets[3].asset_id: too long"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "dam", "\udcff"),
        ("wait", "\udcff", "tid:1"),
        ("list", "--prefix", "\udcff"),
        ("watch", "dam/\udcff"),
        ("watch", "dam", "--prefix", "\udcff"),
        ("watch", "dam", "--resume-token", "\udcff"),
        ("pieces", "search", "\udcff", "--source", "\udcff"),
    ],
    ids=ascii,
)
async def test_an_argument_that_is_no_text_is_a_mistake_of_the_command_line(
    fake: FakeService, arguments: tuple[str, ...]
) -> None:
    """Bytes that are not UTF-8, which no request can have: one line says so, and nothing is called."""
    done = await run(*arguments, ASSETWATCH_SERVER=fake.address)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("assetwatch: an argument is not UTF-8")
    assert done.err.count("\n") == 1


async def test_every_command_says_that_no_server_can_be_reached(command: Run) -> None:
    """Where nothing listens, a command ends with 3 and one line that names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments in (("get", "dam", "tid:1"), ("watch", "dam"), ("watch",), ("health",)):
            done = await command(*arguments, "--server", address)
            assert done.code == 3
            assert done.err.startswith(f"assetwatch: no server can be reached at {address}")
            assert done.err.count("\n") == 1
            assert done.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "dam"),
        ("get", "dam", "tid:1", "-o", "xml"),
        ("get", "dam", "tid:1", "--server", "nowhere"),
        ("get", "dam", "tid:1", "--max-age", "soon"),
        ("get", "dam", "tid:1", "--max-age", f"{10**30}h"),
        ("get", "dam", "tid:1", "--tls-ca", "/nonexistent/ca.pem"),
        ("get", "dam", "tid:1", "--tls-cert", __file__),
        ("list", "--state", "happy"),
        ("wait", "dam", "tid:1", "--state", "failed", "--settled"),
        ("wait", "dam", "tid:1", "--keep-waiting", "--any-settled"),
        ("wait", "dam", "tid:1", "--timeout", "2h"),
        ("watch", "dam/"),
        ("watch", "--asset", "dam"),
        ("frobnicate",),
    ],
)
async def test_usage_errors(command: Run, arguments: tuple[str, ...]) -> None:
    """A wrong command line ends with 2, says why, and shows no traceback."""
    done = await command(*arguments)
    assert done.code == 2
    assert done.err.strip()
    assert "Traceback" not in done.err


async def test_no_proxy_is_asked_for_loopback(command: Run, fake: FakeService) -> None:
    """A proxy in the environment does not stand between the command and a server on the same machine."""
    done = await command("health", "--server", fake.address, http_proxy="http://127.0.0.1:9", no_proxy="")
    assert (done.code, done.out) == (0, "SERVING\n")


async def test_every_call_has_a_deadline(ask: Run, fake: FakeService) -> None:
    """A call ends by itself: a wait after the time waited for, others in half a minute; that ends with 3."""
    fake.refusal = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    late = await ask("get", "dam", "tid:1")
    fake.refusal = None
    await ask("wait", "dam", "tid:1", "--timeout", "2m")
    await ask("list")
    await ask("sources")
    get, wait, *others = fake.deadlines_s
    assert late.code == 3
    assert late.err == f"assetwatch: {fake.address} did not answer in time; try again\n"
    assert 110 < wait < 125
    assert all(0 < deadline < 31 for deadline in (get, *others)), "by the server's clock"


async def test_a_status_that_could_not_be_confirmed_says_why(ask: Run, fake: FakeService) -> None:
    """Get and list print the reason beside the failure, once where both say the same; wait says what was in the way."""
    fake.statuses[0] = status("dam", "tid:1", unread="not XML")
    fake.statuses[1] = status("dam", "tid:2", "UNKNOWN", message="HTTP 500", unread="HTTP 500")
    fake.statuses[2] = status("dam", "tid:3", "FAILED", message="broken", unread="HTTP 500")
    got, listed = await ask("get", "dam", "tid:1"), await ask("list")
    assert "not confirmed: not XML" in got.out
    rows = listed.out.splitlines()[1:4]
    assert rows[0].endswith("not confirmed: not XML")
    assert rows[1].endswith("permanent BROKEN HTTP 500")
    assert rows[2].endswith("permanent BROKEN broken; not confirmed: HTTP 500")
    fake.condition_met, fake.reason = False, "connection refused"
    waited = await ask("wait", "dam", "tid:1")
    assert "it was AVAILABLE when it was last read, which cannot be confirmed now: connection refused\n" in waited.err


async def test_a_read_that_fails_is_not_answered_with_what_was_just_done(ask: Run, fake: FakeService) -> None:
    """What is advised is another command, or to look at the asset where that is what cannot be read."""
    fake.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "source dam could not be read: no", "SOURCE_UNREACHABLE")
    for options in ([], ["--max-age", "0"]):
        refused = await ask("get", "dam", "tid:1", *options)
        assert "assetwatch get" not in refused.err
        assert "`assetwatch sources` tells how it is" in refused.err
    fake.refusal = Refusal(
        grpc.StatusCode.UNAVAILABLE, "asset tid:1 could not be read: no", "SOURCE_UNREACHABLE", asset_id="tid:1"
    )
    assert "look there what is wrong with this asset" in (await ask("get", "dam", "tid:1")).err
