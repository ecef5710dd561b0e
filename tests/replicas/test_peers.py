"""How replicas call each other: who is let in, what is said when nobody answers, and that no client is served it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.internal.v1 import peer_pb2 as pb
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Request
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Response

from assetwatchd.model.errors import ConfigError
from assetwatchd.replicas.access import Access, access
from assetwatchd.replicas.peers import SERVICE, PeerLost, Peers, PeerServer
from assetwatchd.settings.schema import EtcdStoreSettings
from support.rig import running
from support.secure import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "s" * 16


class Echo:
    """Answers with as many assets as it was asked about, when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()

    async def ask(self, request: pb.AskRequest) -> pb.AskResponse:
        """Answer."""
        await self.may.wait()
        return pb.AskResponse(revision=len(request.read.asset_ids))

    def tell(self, request: pb.TellRequest) -> pb.TellResponse:
        """Take nothing."""
        return pb.TellResponse(not_taken=[news.source for news in request.news])


def settings_of(**given: object) -> EtcdStoreSettings:
    """Settings of a store."""
    wanted = {"kind": "etcd", "endpoints": ["http://127.0.0.1:2379"], **given}
    return EtcdStoreSettings.model_validate(wanted)


def secret(folder: Path, text: str, name: str = "token") -> Path:
    """Write a secret to a file."""
    file = folder / name
    file.write_text(text)
    return file


@asynccontextmanager
async def serving(mine: Access, *, served: Echo | None = None) -> AsyncIterator[str]:
    """Serve others; yield the address."""
    server = PeerServer(mine, served or Echo())
    address = await server.start("127.0.0.1:0")
    try:
        yield address
    finally:
        await server.stop()


async def asked(address: str, mine: Access, count: int = 3, *, within_s: float = 5.0) -> int:
    """Ask about so many assets; return what was answered."""
    peers = Peers(mine)
    try:
        request = pb.AskRequest(read=pb.AskRequest.Read(asset_ids=map(str, range(count))))
        return (await peers.ask(address, request, within_s=within_s)).revision
    finally:
        await peers.close()


async def test_a_shared_secret(tmp_path: Path) -> None:
    """Whoever knows it is answered, 10,000 of the longest names too; another secret, or none, is not let in."""
    mine = access(settings_of(peer_token_file=secret(tmp_path, f"{SECRET}\n")))
    async with serving(mine) as address:
        assert await asked(address, mine, 10_000) == 10_000
        for other in (mine._replace(token=f"{SECRET}x"), mine._replace(token="")):
            with pytest.raises(PeerLost, match="UNAUTHENTICATED"):
                await asked(address, other)


async def test_certificates_both_ways(tmp_path: Path) -> None:
    """A replica shows a certificate of the authority; one of another authority, or none at all, gets no answer."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    ours = settings_of(tls_ca_file=authority.file, **authority.pair("ours", "127.0.0.1"))
    stranger = settings_of(tls_ca_file=authority.file, **other.pair("stranger", "127.0.0.1"))
    async with serving(access(ours)) as address:
        assert await asked(address, access(ours)) == 3
        nobody = Access(None, grpc.ssl_channel_credentials(authority.file.read_bytes()), "")
        for caller in (access(stranger), nobody, Access(None, None, "")):
            with pytest.raises(PeerLost):
                await asked(address, caller, within_s=2.0)


async def test_a_replica_of_another_name(tmp_path: Path) -> None:
    """Whoever answers has to be who was called: a certificate for another host is none."""
    authority = Authority(tmp_path)
    ours = settings_of(tls_ca_file=authority.file, **authority.pair("ours", "elsewhere.test"))
    async with serving(access(ours)) as address:
        with pytest.raises(PeerLost):
            await asked(address, access(ours), within_s=2.0)


async def test_nobody_answers() -> None:
    """A replica that is gone is lost at once, one that says nothing when its time is over."""
    mine, silent = Access(None, None, ""), Echo()
    async with serving(mine, served=silent) as address:
        silent.may.clear()
        with pytest.raises(PeerLost, match="DEADLINE"):
            await asked(address, mine, within_s=0.2)
    with pytest.raises(PeerLost, match="UNAVAILABLE"):
        await asked(address, mine)


async def test_a_channel_that_is_closed_loses_its_calls() -> None:
    """What is asked of a replica that goes meanwhile ends as with any that does not answer, and cancels nobody."""
    mine, silent, peers = Access(None, None, ""), Echo(), Peers(Access(None, None, ""))
    silent.may.clear()
    async with serving(mine, served=silent) as address:
        asking = asyncio.create_task(peers.ask(address, pb.AskRequest(), within_s=5.0))
        await asyncio.sleep(0.1)
        await peers.keep(())
        with pytest.raises(PeerLost):
            await asking
        silent.may.set()
        assert (await peers.tell(address, pb.TellRequest(news=[pb.SourceNews(source="x")]), within_s=5.0)).not_taken
    await peers.close()


@pytest.mark.parametrize("text", ["", "short", "s" * 15, "two\nlines of it, both quite long"])
def test_a_secret_that_is_none(tmp_path: Path, text: str) -> None:
    """A file that holds no secret, or more than one, is told at the start; the text holds nothing of it."""
    with pytest.raises(ConfigError, match="peer_token_file") as told:
        access(settings_of(peer_token_file=secret(tmp_path, text)))
    assert not text or text not in str(told.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ConfigError, match=r"store\.peer_token_file: .*nowhere"):
        access(settings_of(peer_token_file=tmp_path / "nowhere"))


async def test_an_address_that_cannot_be_had(tmp_path: Path) -> None:
    """It is told by the name of its setting."""
    mine = access(settings_of(peer_token_file=secret(tmp_path, SECRET)))
    async with serving(mine) as address:
        with pytest.raises(ConfigError, match=r"store\.peer_listen"):
            await PeerServer(mine, Echo()).start(address)


async def test_clients_are_not_served_it() -> None:
    """It is no service of the public listener, and reflection has never heard of it."""
    async with running(()) as rig:
        call: Any = rig.channel.unary_unary(f"/{SERVICE}/Ask")
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call(b"")
        assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED
        reflect: Any = rig.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=Response.FromString,
        )
        answer = await anext(aiter(reflect(iter([Request(list_services="")]))))
        named = {service.name for service in answer.list_services_response.service}
        assert named
        assert SERVICE not in named


def test_the_secret_is_in_no_repr() -> None:
    """Nor is it in what is written of a value that has it inside."""
    assert "sesame" not in f"{Access(None, None, 'sesame')!r} {[Access(None, None, 'sesame')]}"


@pytest.mark.parametrize(
    "at", ["192.0.2.1:1", "example.com:443", "", "dns:///192.0.2.1:1", "unix:///tmp/x", "[2001:db8::1]:1"]
)
async def test_the_secret_does_not_leave_this_machine_without_tls(at: str) -> None:
    """Wherever etcd says that a replica is called: anybody who can write there could have it sent to him."""
    with pytest.raises(PeerLost, match="without TLS the secret of replicas goes nowhere"):
        await asked(at, Access(None, None, SECRET))
