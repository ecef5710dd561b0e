from __future__ import annotations

import asyncio
import json
import logging
import re
import shlex
import signal
import socket
import stat
import time
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import typer
import yaml

from assetwatch_sandbox import Sandbox
from assetwatchd.app import App
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.cli.demo import settings_for
from assetwatchd.cli.running import until_stopped
from assetwatchd.model.errors import HistoryBroken
from assetwatchd.settings.load import schema
from assetwatchd.settings.schema import MediaIntelligenceSource, Settings
from support.command_line import modules_in
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.command_line import Run, Spawn

DEADLINE_S = 30
STOP_S = 2.0
READY = re.compile(r"assetwatch is ready on (127\.0\.0\.1:\d+)\n")
UNUSED = {"lxml.etree", "opentelemetry.sdk", "rich", "aiohttp.web", "assetwatch_sandbox"}
SOURCES = {"usd-search", "omn", "pieces", "media-intelligence", "oracle-sbc"}


async def line(running: asyncio.subprocess.Process) -> str:
    """Read the next line of output."""
    assert running.stdout is not None
    return (await asyncio.wait_for(running.stdout.readline(), DEADLINE_S)).decode()


async def ready(running: asyncio.subprocess.Process) -> str:
    """Return the address, once the server is ready."""
    said = READY.fullmatch(await line(running))
    assert said
    return said[1]


async def test_demo_serves_five_sources_and_stops_in_time(spawn: Spawn, command: Run) -> None:
    """With --no-table the demo prints one line when it serves, shows changes of five sources, and stops in 2 s."""
    async with spawn("demo", "--no-table", "--grpc", "127.0.0.1:0", "--speed", "20") as running:
        address = await ready(running)
        async with spawn("watch", "--server", address) as watching:
            changed: set[str] = set()
            synced = False
            while changed != SOURCES:
                message = json.loads(await line(watching))
                synced = synced or "synced" in message
                changed |= {change["status"]["asset"]["source"] for change in message.get("changes", ()) if synced}
        sources = await command("sources", "--server", address, "-o", "json")
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
        took_s = time.monotonic() - began
    listed = json.loads(sources.out)["sources"]
    assert {source["name"]: source["condition"]["state"] for source in listed} == dict.fromkeys(
        SOURCES, "SOURCE_CONDITION_STATE_HEALTHY"
    )
    assert out == b""
    assert b"Traceback" not in err
    assert running.returncode == 0
    assert took_s < STOP_S


async def test_a_server_loads_nothing_that_it_does_not_use(spawn: Spawn, tmp_path: Path) -> None:
    """Without a source that speaks XML and an endpoint for telemetry, what is for these is not loaded."""
    path = tmp_path / "assetwatch.yaml"
    sources = {"desk": {"kind": "pieces", "base_url": "http://127.0.0.1:1"}}
    told = {"server": {"listen": "127.0.0.1:0"}, "store": {"kind": "memory"}, "sources": sources}
    path.write_text(yaml.safe_dump(told))
    async with spawn("serve", "-c", str(path), PYTHONPROFILEIMPORTTIME="1") as running:
        await ready(running)
        running.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    loaded = modules_in(err.decode())
    assert running.returncode == 0
    assert "assetwatchd.app" in loaded
    assert sorted(loaded & UNUSED) == []


async def test_the_demo_is_scripted_where_it_is_told_to_be(spawn: Spawn) -> None:
    """--control-port puts the endpoint that scripts the stand-ins there; --no-table still prints its one line alone."""
    port = free_port()
    told = ("--grpc", "127.0.0.1:0", "--control-port", str(port), "--assets", "3", "--speed", "0")
    async with spawn("demo", "--no-table", *told) as running:
        await ready(running)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}") as answer:
            overview = json.dumps(await answer.json())
        running.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert all(source in overview for source in SOURCES)
    assert out == b""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_sandbox_prints_where_it_is_and_stops(spawn: Spawn, stop: signal.Signals) -> None:
    """`sandbox` prints the address of the control endpoint and of each stand-in; both signals end it with 0."""
    async with spawn("sandbox", "--assets", "3", "--speed", "0") as running:
        urls = dict([(await line(running)).split() for _ in range(6)])
        async with aiohttp.ClientSession() as session, session.get(urls["control"]) as answer:
            overview = json.dumps(await answer.json())
        running.send_signal(stop)
        await asyncio.wait_for(running.communicate(), DEADLINE_S)
    assert set(urls) == SOURCES | {"control"}
    assert all(url in overview for name, url in urls.items() if name != "control")
    assert running.returncode == 0


async def test_two_commands_lead_from_the_sandbox_to_a_server_of_ones_own(
    spawn: Spawn, command: Run, tmp_path: Path
) -> None:
    """The sandbox writes a configuration, for its owner alone, that serve runs with, and again after both stopped."""
    path, first = tmp_path / "my own.yaml", free_port(6)
    told = ("--first-port", str(first), "--write-config", str(path), "--assets", "4", "--speed", "0")
    for _ in range(2):
        async with spawn("sandbox", *told) as sandbox:
            urls = dict([(await line(sandbox)).split() for _ in range(6)])
            hint = await line(sandbox)
            async with spawn(*shlex.split(hint.partition("assetwatch ")[2]), "--listen", "127.0.0.1:0") as running:
                address = await ready(running)
                listed = json.loads((await command("list", "--all", "-o", "json", "--server", address)).out)
                sources = json.loads((await command("sources", "-o", "json", "--server", address)).out)["sources"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(urls.values()) == [f"http://127.0.0.1:{first + number}" for number in range(6)]
        assert {status["asset"]["source"] for status in listed["statuses"]} == SOURCES
        assert {source["condition"]["state"] for source in sources} == {"SOURCE_CONDITION_STATE_HEALTHY"}
    checked = await command("config", "check", "-c", str(path))
    assert checked.code == 0, checked.err


async def test_a_configuration_of_ones_own_is_not_written_over(command: Run, tmp_path: Path) -> None:
    """Nor does the sandbox begin to run where its configuration could not be written."""
    path = tmp_path / "c.yaml"
    path.write_text("sources: {}\n")
    for there, said in ((path, "remove it, or name another"), (tmp_path / "no" / "c.yaml", "no folder")):
        done = await command("sandbox", "--write-config", str(there))
        assert (done.code, done.out) == (1, "")
        assert f"--write-config: {there if there == path else there.parent} is" in done.err
        assert said in done.err
    assert path.read_text() == "sources: {}\n"


async def test_serve_what_is_configured(spawn: Spawn, command: Run, tmp_path: Path) -> None:
    """`serve` serves the configured sources where --listen says, and SIGTERM ends it with 0."""
    sandbox = Sandbox(("pieces",))
    sandbox.seed(1, 4)
    await sandbox.start()
    try:
        source = {"kind": "pieces", "base_url": sandbox.standins["pieces"].url}
        store = {"kind": "sqlite", "path": str(tmp_path / "statuses.sqlite")}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"store": store, "sources": {"desk": source}}))
        async with spawn("serve", "-c", str(tmp_path / "c.yaml"), "--listen", "127.0.0.1:0") as running:
            address = await ready(running)
            asset_id = sandbox.standins["pieces"].asset_ids()[0]
            got = await command("get", "desk", asset_id, "-o", "json", "--max-age", "0", "--server", address)
            unknown = await command("get", "dekc", asset_id, "--server", address)
            waited = await command("wait", "desk", asset_id, "--server", address)
            mistyped = await command("wait", "desk", str(uuid.UUID(int=7)), "--server", address)
            running.send_signal(signal.SIGTERM)
            out, err = await asyncio.wait_for(running.communicate(), DEADLINE_S)
    finally:
        await sandbox.stop()
    assert json.loads(got.out)["asset"] == {"source": "desk", "asset_id": asset_id}
    assert unknown.code == 4
    assert "SOURCE_NOT_FOUND" in unknown.err
    assert (running.returncode, out) == (0, b"")
    assert b"Traceback" not in err
    assert (waited.code, mistyped.code) == (0, 5)
    assert "settled as MISSING" in mistyped.err


async def test_it_serves_with_every_number_as_large_as_it_may_be(spawn: Spawn, command: Run, tmp_path: Path) -> None:
    """Whatever the check lets through a start does too."""
    kinds = schema()["$defs"]

    def largest(model: str) -> dict[str, Any]:
        return {name: said["maximum"] for name, said in kinds[model]["properties"].items() if "maximum" in said}

    source = {**largest("PiecesSource"), "kind": "pieces", "base_url": "http://127.0.0.1:9"}
    whole = {"server": largest("ServerSettings"), "store": {"kind": "memory"}, "sources": {"desk": source}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(whole))
    async with spawn("serve", "-c", str(tmp_path / "c.yaml"), "--listen", "127.0.0.1:0") as running:
        served = await command("health", "--server", await ready(running))
    assert (served.code, served.out) == (0, "SERVING\n")
    assert {"streams_max", "message_bytes_max"} <= largest("ServerSettings").keys()


async def test_a_start_that_fails_for_several_pins_tells_each_on_its_line(command: Run, tmp_path: Path) -> None:
    """What is wrong with one is not stuck to what is wrong with another."""
    login = {"username": "u", "password": "p"}
    source = {"kind": "oracle_sbc", "base_url": "http://127.0.0.1:9", "pins": ["a", "b"], **login}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"store": {"kind": "memory"}, "sources": {"sbc": source}}))
    ended = await command("serve", "-c", str(tmp_path / "c.yaml"), "--listen", "127.0.0.1:0")
    assert ended.code == 2
    assert [line for line in ended.err.splitlines() if line.startswith("sources.sbc.pins: 'b'")]


@pytest.mark.parametrize(
    "arguments", [("serve", "--listen"), ("demo", "--no-table", "--grpc"), ("health", "--server")], ids="-".join
)
@pytest.mark.parametrize("address", ["127.0.0.1:65536", "127.0.0.1", "nonsense:x"])
async def test_what_is_no_address_is_a_wrong_command_line(
    command: Run, arguments: tuple[str, ...], address: str
) -> None:
    """Whatever takes one says what it should be."""
    done = await command(*arguments, address)
    assert (done.code, done.out) == (2, "")
    assert "give HOST:PORT" in done.err
    assert "Traceback" not in done.err


async def test_a_taken_address_is_one_sentence(command: Run, tmp_path: Path) -> None:
    """Where something else listens already, serve, demo and sandbox end with 1, and name the flag to change."""
    path = tmp_path / "c.yaml"
    path.write_text("store: {kind: memory}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        port = address.rpartition(":")[2]
        for arguments in (
            ("serve", "-c", str(path), "--listen", address),
            ("demo", "--no-table", "--grpc", address),
            ("demo", "--no-table", "--grpc", "127.0.0.1:0", "--control-port", port),
            ("sandbox", "--control-port", port),
            ("sandbox", "--first-port", port),
        ):
            done = await command(*arguments)
            assert done.code == 1
            assert "address already in use" in done.err.lower()
            assert port in done.err
            last = done.err.splitlines()[-1]  # before it, serve writes its log: a server starts
            assert "could not start" in last
            assert arguments[-2] in last
            assert all(" WARNING " in line or " INFO " in line for line in done.err.splitlines()[:-1])
            assert "Traceback" not in done.err
            assert done.out == ""


async def test_a_store_that_is_not_what_was_read_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It drains, and says in a sentence why, and what to do; it is no failed start."""

    class Replaced(MemoryStore):
        async def run(self, moved: Callable[[], None]) -> None:  # noqa: ARG002 - it does not move
            """Find that out."""
            await asyncio.sleep(0.2)
            raise HistoryBroken("its revision is 1, and 2 was read")

    settings = Settings.model_validate({"server": {"listen": "127.0.0.1:0"}, "store": {"kind": "memory"}})
    with caplog.at_level(logging.INFO), pytest.raises(HistoryBroken):
        await App(settings, Replaced()).serve()
    assert "drained in" in caplog.text


@pytest.fixture
def hang_ups_as_before() -> Iterator[None]:
    """What begins here ignores SIGHUP where there is no terminal, and so would every program that later tests start."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_ups_as_before")
def test_why_a_server_ended_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence, with exit code 1."""

    async def serving() -> None:
        raise HistoryBroken("its revision is 1, and 2 was read")

    with pytest.raises(typer.Exit) as ended:
        until_stopped(serving())
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == (
        "assetwatch: etcd does not have what was read from it: its revision is 1, and 2 was read;"
        " start the service again\n"
    )


async def test_settings_of_the_demo_know_every_stand_in() -> None:
    """The demo's settings point at the five stand-ins, pin USD Search's assets, and list the projects."""
    sandbox = Sandbox()
    sandbox.seed(1, 20)
    await sandbox.start()
    try:
        settings = settings_for(sandbox.standins, listen="127.0.0.1:0")
    finally:
        await sandbox.stop()
    assert set(settings.sources) == SOURCES
    assert len(settings.sources["usd-search"].pins) == 12
    media = settings.sources["media-intelligence"]
    assert isinstance(media, MediaIntelligenceSource)
    ids = sandbox.standins["media-intelligence"].asset_ids()
    assert {asset_id.rpartition("/")[0] for asset_id in ids} == set(media.projects)
