"""The server as a whole: its options, its port, its certificates, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from assetwatch.v1 import source_service_pb2 as source_pb
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from assetwatchd import app
from assetwatchd.model.errors import ConfigError
from assetwatchd.rpc import server
from assetwatchd.rpc.names import ASSET_STATUS, SOURCE
from assetwatchd.settings.schema import ServerSettings, Settings
from support import grpcurl
from support.problems import problem
from support.raw_calls import answer_of, health_of, one_to_many
from support.rig import SERVER, SOURCES, Rig, running, sample, serving

if TYPE_CHECKING:
    from pathlib import Path

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def sources_over(channel: grpc.aio.Channel) -> object:
    """Make one call."""
    stub: Any = SourceServiceStub(channel)
    return await stub.ListSources(source_pb.ListSourcesRequest(), timeout=10)


# Ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.serial("its limit is 2 or 3 s of real time")
async def test_streams_are_told_before_the_server_goes() -> None:
    """A last bookmark with a token, then UNAVAILABLE / SERVER_DRAINING with RetryInfo, long before drain_s is over."""
    async with running(server={"drain_s": 10}) as rig:
        streams = [await rig.watch(sources=SOURCES).synced() for _ in range(20)]
        began = time.monotonic()
        rig.app.stop()
        delays = []
        for stream in streams:
            told = problem(await stream.end())
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
            assert told.retry_after_s is not None
            delays.append(told.retry_after_s)
            assert stream.messages[-1].HasField("bookmark")
            assert stream.messages[-1].resume_token
        assert time.monotonic() - began < 3
        assert max(delays) <= app.DRAIN_RETRY_S
        assert len(set(delays)) > 10


@pytest.mark.serial("its limit is 2 or 3 s of real time")
async def test_health_says_so_first() -> None:
    """Whoever watches health hears NOT_SERVING, then that the server goes; nobody waits for them."""
    async with running(("omn",), server={"drain_s": 10}) as rig:
        stub = health_of(rig.channel)
        call = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await answer_of(call)).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        reading = asyncio.ensure_future(answer_of(call))  # a client reads no more of a call whose status has come
        await asyncio.sleep(0)
        rig.app.stop()
        assert (await reading).status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert problem(caught.value).reason == "SERVER_DRAINING"
        assert time.monotonic() - began < 3


async def test_waits_are_told_too() -> None:
    """A wait under way ends with SERVER_DRAINING, not with an answer that looks like time over."""
    async with running(("omn",)) as rig:
        wait = asyncio.create_task(rig.wait(sample("omn"), states=[5]))
        await rig.shows("omn", lambda source: source.watcher_count == 1)
        rig.app.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wait
        assert problem(caught.value).reason == "SERVER_DRAINING"


async def test_calls_under_way_are_answered() -> None:
    """A slow read that began before the stop gets its answer."""
    async with running(("omn",)) as rig:
        await rig.get(sample("omn"))
        rig["omn"].faults.add(delay_s=0.5)
        rig["omn"].requests.clear()
        read = asyncio.create_task(rig.get(sample("omn"), max_age={}))
        await rig.asked("omn")
        rig.app.stop()
        assert (await read).asset.source == "omn"


@pytest.mark.serial("its limit is 2 or 3 s of real time")
async def test_a_call_that_does_not_end_holds_the_stop_up_by_drain_s_at_most() -> None:
    """Then it is cut, and the server is gone."""
    async with running(("omn",), server={"drain_s": 0.3}, every={"timeout_s": 60}) as rig:
        await rig.get(sample("omn"))
        rig["omn"].faults.add(hang=True)
        rig["omn"].requests.clear()
        read = asyncio.create_task(rig.get(sample("omn"), max_age={}))
        await rig.asked("omn")
        began = time.monotonic()
        rig.app.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 2


async def test_a_stream_that_opens_while_the_server_goes_is_told_at_once() -> None:
    """On a connection that was there before: SERVER_DRAINING, or gRPC's own refusal of a call that came too late."""
    async with running(("omn",)) as rig:
        await rig.get(sample("omn"))
        rig.app.stop()
        told = problem(await rig.watch(sources=["omn"]).end())
        assert told.reason == "SERVER_DRAINING" or told.code in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        }


async def test_a_signal_ends_serve_in_good_order() -> None:
    """SIGTERM: serve returns, and the port is free."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        app.serve(Settings.model_validate({"server": {"listen": "127.0.0.1:0"}}), on_ready=ready.set_result)
    )
    address = await ready
    async with grpc.aio.insecure_channel(address) as channel:
        await sources_over(channel)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
    async with serving({}, {"listen": address}):
        pass


async def test_a_defect_in_a_loop_ends_the_process_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve drains and raises what the loop failed with; it does not go on half alive."""

    async def broken() -> None:
        raise RuntimeError("a defect")

    one = app.App(Settings.model_validate({"server": {"listen": "127.0.0.1:0"}}))
    monkeypatch.setattr(one.hub, "run", broken)
    with pytest.raises(ExceptionGroup) as caught:
        await one.serve()
    assert caught.group_contains(RuntimeError, match="a defect")


# Port and options ----------------------------------------------------------------------------------------------------


async def test_a_second_server_on_a_port_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """ConfigError names the setting, the address and why; gRPC adds no line of its own; the first goes on."""
    async with running(("omn",)) as rig:
        with pytest.raises(
            ConfigError, match=rf"server\.listen: cannot listen on {rig.address}: Address already in use"
        ):
            async with serving({}, {"listen": rig.address}):
                pass
        await rig.get(sample("omn"))
    assert "bind" not in capfd.readouterr().err


@pytest.mark.parametrize("listen", ["localhost:0", "0.0.0.0:0"])
async def test_any_form_of_an_address_is_taken(listen: str) -> None:
    """A name, and every address there is."""
    async with serving({}, {"listen": listen}) as (_, address):
        assert address.rpartition(":")[0] == listen.rpartition(":")[0]


@pytest.mark.parametrize("listen", ["203.0.113.1:50051", "[2001:db8::1]:50051"])
async def test_an_address_that_cannot_be_had_is_a_configuration_error(listen: str) -> None:
    """Neither is this machine's."""
    with pytest.raises(ConfigError, match="server"):
        async with serving({}, {"listen": listen}):
            pass


def test_dead_peers_are_noticed_and_quick_pings_allowed() -> None:
    """Keepalive bounds the silence of a peer by ping_timeout_ms too, and clients may ping every 10 s."""
    given = dict(server.options(ServerSettings()))
    assert given["grpc.keepalive_time_ms"] == 20_000
    assert given["grpc.keepalive_timeout_ms"] == 10_000
    assert given["grpc.http2.ping_timeout_ms"] == 10_000
    assert given["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000
    assert given["grpc.keepalive_permit_without_calls"] == 1
    assert given["grpc.so_reuseport"] == 0


def test_grpc_refuses_no_call_that_we_would_take() -> None:
    """As many calls as there may be streams can come at one moment; gRPC itself refuses some of more than 1,000."""
    given = dict(server.options(ServerSettings(streams_max=5000)))
    assert 5000 < given["grpc.server.max_pending_requests"] < given["grpc.server.max_pending_requests_hard_limit"]


def test_no_watch_or_wait_is_cut_by_the_age_of_its_connection() -> None:
    """The grace of an old connection is longer than any stream or wait."""
    for stream_age_s in (1.0, 1800.0, 86_400.0):
        given = dict(server.options(ServerSettings(stream_age_s=stream_age_s)))
        assert given["grpc.max_connection_age_grace_ms"] > max(3_600_000, 1.1 * stream_age_s * 1000)


async def test_the_polling_thread_of_grpc_does_not_interrupt_the_one_that_serves() -> None:
    """There is one, by the name we look for, and it has the policy that wakes up without taking the processor."""
    async with running():
        pollers = server.pollers()
        assert pollers
        assert {os.sched_getscheduler(poller) for poller in pollers} == {os.SCHED_BATCH}
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


async def test_a_policy_that_may_not_be_set_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may forbid it; the server serves."""

    def refuse(*_args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    async with running() as rig:
        await rig.get(sample("omn"))


async def test_a_stopped_client_is_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stands still without closing its connection is gone after keepalive and ping timeout."""
    monkeypatch.setattr(server, "KEEPALIVE_S", 1)
    monkeypatch.setattr(server, "PING_TIMEOUT_S", 1)
    async with running(("omn",), server={"heartbeat_s": 600}) as rig:
        request = {"sources": ["omn"]}
        async with grpcurl.following(rig.address, f"{grpcurl.STATUS_SERVICE}/WatchStatus", request) as client:
            await client.until(lambda documents: any("synced" in document for document in documents))
            client.process.send_signal(signal.SIGSTOP)
            await rig.shows("omn", lambda source: source.watcher_count == 0)


async def test_a_request_larger_than_allowed_is_refused() -> None:
    """RESOURCE_EXHAUSTED by gRPC itself; the server goes on."""
    async with running(("omn",), server={"message_bytes_max": 64 * 1024}) as rig:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.watch(assets=[{"source": "omn", "asset_id": "tid:" + "1" * 2000}] * 100).next()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await rig.get(sample("omn"))


# Certificates --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two authorities, a server's certificate of the first and a client's of each."""
    folder = tmp_path_factory.mktemp("certificates")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for leaf, authority in (("server", ca), ("client", ca), ("stranger", other)):
        made = authority.issue_cert("127.0.0.1", "localhost")
        made.cert_chain_pems[0].write_to_path(folder / f"{leaf}.pem")
        made.private_key_pem.write_to_path(folder / f"{leaf}.key")
    return folder


def trusting(folder: Path, client: str | None = None) -> grpc.ChannelCredentials:
    """Trust the first authority, and show a certificate if asked to."""
    key = (folder / f"{client}.key").read_bytes() if client else None
    chain = (folder / f"{client}.pem").read_bytes() if client else None
    return grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), key, chain)


def tls(folder: Path, **more: object) -> dict[str, object]:
    """Return the settings of a server with the certificate."""
    return {"tls_cert_file": folder / "server.pem", "tls_key_file": folder / "server.key", **more}


async def test_tls_serves_those_who_trust_it_and_nobody_in_the_clear(certificates: Path) -> None:
    """With the authority: answered. Without TLS: no answer."""
    async with serving({}, tls(certificates)) as (_, address):
        async with grpc.aio.secure_channel(address, trusting(certificates)) as channel:
            await sources_over(channel)
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sources_over(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_who_connects_and_begins_no_tls_is_cut(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one byte of it."""
    monkeypatch.setattr(server, "HANDSHAKE_S", 1)
    async with serving({}, tls(certificates)) as (_, address):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_mtls_serves_only_those_with_a_certificate_of_the_authority(certificates: Path) -> None:
    """With one: answered. With one of another authority, or none: not."""
    settings = tls(certificates, tls_client_ca_file=certificates / "ca.pem")
    async with serving({}, settings) as (_, address):
        async with grpc.aio.secure_channel(address, trusting(certificates, "client")) as channel:
            await sources_over(channel)
        for client in ("stranger", None):
            async with grpc.aio.secure_channel(address, trusting(certificates, client)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await sources_over(channel)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_certificates_that_cannot_be_used_are_a_configuration_error(certificates: Path, tmp_path: Path) -> None:
    """A missing file and one that is no certificate, named by their settings; the key's content is not shown."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("hunter2")
    for setting, path in (
        ("tls_cert_file", tmp_path / "missing.pem"),
        ("tls_key_file", nonsense),
        ("tls_client_ca_file", nonsense),
    ):
        with pytest.raises(ConfigError) as caught:
            async with serving({}, tls(certificates, **{setting: path})):
                pass
        assert "hunter2" not in str(caught.value)
        assert setting in str(caught.value)


async def test_every_method_of_every_service_is_served() -> None:
    """No method of the schema answers UNIMPLEMENTED."""
    async with running(("omn",)) as rig:
        for service in (ASSET_STATUS, SOURCE):
            for method in service.methods:
                assert await code_of(rig, f"/{service.full_name}/{method.name}") is not grpc.StatusCode.UNIMPLEMENTED
        assert await code_of(rig, "/assetwatch.v1.SourceService/Nothing") is grpc.StatusCode.UNIMPLEMENTED


async def code_of(rig: Rig, method: str) -> grpc.StatusCode:
    """Call a method with an empty request."""
    call = one_to_many(rig.channel, method)(b"")
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_client_that_has_gone_is_no_error_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """GRPC logs each answer that found nobody with its stack: any client could fill the log so. Others are told."""
    server.quieten()
    log = logging.getLogger("grpc._cython.cygrpc")
    for error in (grpc.aio.InternalError("nobody"), KeyError("ours")):
        log.error("raised by %s", "a method", exc_info=error)
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [KeyError]


SPOILT = st.lists(
    st.tuples(st.sampled_from(["cut", "put", "drop_line", "twice"]), st.integers(0, 3000), st.binary(max_size=30)),
    max_size=3,
)


def spoil(content: bytes, how: list[tuple[str, int, bytes]]) -> bytes:
    """Change a file in some ways."""
    for way, place, more in how:
        lines = content.splitlines(keepends=True)
        at = place % (len(content) + 1)
        content = {
            "cut": content[:at],
            "put": content[:at] + more + content[at + len(more) :],
            "drop_line": b"".join(lines[: place % (len(lines) + 1)] + lines[place % (len(lines) + 1) + 1 :]),
            "twice": content + content[:at],
        }[way]
    return content


@profile(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(certificate=SPOILT, key=SPOILT, authority=SPOILT)
async def test_whatever_is_in_tls_files_check_and_start_agree(
    certificates: Path, tmp_path: Path, certificate: list[Any], key: list[Any], authority: list[Any]
) -> None:
    """Either nothing is said and gRPC serves, or the start says the same; nothing else is raised."""
    names = {"server.pem": certificate, "server.key": key, "ca.pem": authority}
    for name, how in names.items():
        (tmp_path / name).write_bytes(spoil((certificates / name).read_bytes(), how))
    wanted = ServerSettings.model_validate({**SERVER, **tls(tmp_path, tls_client_ca_file=tmp_path / "ca.pem")})
    told = list(server.problems(wanted))
    one, said = grpc.aio.server(), list[str]()
    try:
        server._bind(one, wanted)
    except ConfigError as error:
        said = str(error).splitlines()
    await one.stop(0)
    assert said == told
