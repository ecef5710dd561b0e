"""Unix sockets: served, called by people's tools, counted as a peer, and never taken from who serves."""

from __future__ import annotations

import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub

from assetwatchd.model.errors import ConfigError
from assetwatchd.rpc import server
from assetwatchd.settings.addresses import path_of
from assetwatchd.settings.schema import ServerSettings
from support import grpcurl
from support.command_line import process, run
from support.problems import problem_of
from support.rig import running, sample, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder that sockets may be made in; its path is short, as that of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        monkeypatch.chdir(made)
        yield Path(made)
        monkeypatch.undo()


FORMS = ["unix:a.sock", "unix:{folder}/a.sock", "unix://{folder}/a.sock", "unix-abstract:{folder}/a"]


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_grpc_is_served(folder: Path, form: str) -> None:
    """To clients of the same name; the file is for owner and group, and gone in the end."""
    address = form.format(folder=folder)
    async with running(("omn",), server={"listen": address}) as rig:
        assert rig.address == address
        await rig.get(sample("omn"))
        assert modes(folder) == ([] if "abstract" in form else [0o660])
    assert modes(folder) == []


def modes(folder: Path) -> list[int]:
    """Return those of what is in a folder."""
    return [stat.S_IMODE(found.stat().st_mode) for found in folder.iterdir()]


@pytest.mark.parametrize("form", ["unix:{folder}/a.sock", "unix-abstract:{folder}/a"])
async def test_a_socket_that_is_served_is_nobody_elses(folder: Path, form: str) -> None:
    """A second server says that it is in use; the first goes on. What check says meanwhile is that it may start."""
    address = form.format(folder=folder)
    async with running(("omn",), server={"listen": address}) as rig:
        with pytest.raises(ConfigError, match=rf"server\.listen: cannot listen on {address}: Address already in use"):
            async with serving({}, {"listen": address}):
                pass
        assert list(server.problems(ServerSettings(listen=address))) == []
        await rig.get(sample("omn"))


async def test_a_socket_that_was_left_over_is_taken_over(folder: Path) -> None:
    """As a process leaves one that was killed."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind("a.sock")
        killed.listen()
    async with running(("omn",), server={"listen": "unix:a.sock"}) as rig:
        await rig.get(sample("omn"))


@pytest.mark.parametrize(
    ("path", "why"),
    [("file", "something else"), ("none/a.sock", "there is no folder none"), ("x" * 108, "at most 107 bytes")],
)
async def test_a_place_where_no_socket_can_be(folder: Path, path: str, why: str) -> None:
    """Said by check and start, and what is there stays."""
    (folder / "file").write_text("precious")
    wanted = ServerSettings(listen=f"unix:{path}")
    assert [why in text for text in server.problems(wanted)] == [True]
    with pytest.raises(ConfigError, match=why):
        async with serving({}, {"listen": wanted.listen}):
            pass
    assert (folder / "file").read_text() == "precious"


@pytest.mark.parametrize("listen", ["unix:", "unix://relative", "unix:a%20b", "unix:a b", "unix:a?b", "unix-abstract:"])
def test_what_is_no_address_of_a_socket(listen: str) -> None:
    """Names that gRPC's clients would read otherwise are none, on neither side."""
    with pytest.raises(ValueError, match=r"unix:///absolute/path|should match"):
        ServerSettings(listen=listen)


def test_paths_are_those_of_grpc() -> None:
    """Three slashes or one begin an absolute one."""
    told = [path_of(f"unix:{path}") for path in ("a/b.sock", "/a/b", "///a/b", "./a:5")]
    assert [*told, path_of("unix-abstract:a")] == ["a/b.sock", "/a/b", "/a/b", "./a:5", None]


async def test_all_callers_of_a_socket_are_one_peer(folder: Path) -> None:
    """They have no address of their own, so limits of one address hold for them together."""
    limits = {"listen": "unix:a.sock", "streams_per_peer_max": 1}
    async with running(("omn",), server=limits) as rig, grpc.aio.insecure_channel(rig.address) as other:
        await rig.watch(sources=["omn"]).next()
        second = AssetStatusServiceStub(other).WatchStatus(pb.WatchStatusRequest(sources=["omn"]))
        told = await problem_of(second.read())
    assert (told.reason, told.quotas) == ("TOO_MANY_STREAMS", ["caller:unix:"])


async def test_tools_of_people_call_a_socket(folder: Path) -> None:
    """Our own command line, and grpcurl."""
    path = folder / "a.sock"
    (folder / "c.yaml").write_text("store: {kind: memory}")
    async with process("serve", "-c", str(folder / "c.yaml"), "--listen", f"unix:{path}") as served:
        assert served.stdout is not None
        assert (await served.stdout.readline()).decode() == f"assetwatch is ready on unix:{path}\n"
        asked = await run("health", "--server", f"unix:{path}")
        listed = await grpcurl.run("grpcurl", "-plaintext", "-unix", str(path), "list")
        wrong = await run("health", "--server", "unix://relative")
    assert (asked.code, asked.out) == (0, "SERVING\n")
    assert "assetwatch.v1.AssetStatusService" in listed.out
    assert wrong.code == 2
    assert "unix:///absolute/path" in wrong.err
