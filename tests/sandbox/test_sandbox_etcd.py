"""The etcd of demo and tests: which one it is, what is said when there is none, and members as an operator has them."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assetwatch_sandbox.etcd import NoEtcd, built, find
from assetwatch_sandbox.etcd import program as program_
from assetwatch_sandbox.etcd.cluster import PORTS, Member, free_port
from assetwatchd.etcd.operations import get, put
from support.etcd import client_of, ended_with, eventually, restore, running, save

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Put a program on a PATH that has no other, with nothing built yet and no Go beside this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    built.cache_clear()

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)
        return path

    yield put
    built.cache_clear()


def test_one_on_path_is_taken(tool: Callable[[str, str], Path]) -> None:
    """If it is new enough; nothing is built then."""
    mine = tool("etcd", "echo etcd Version: 3.6.0")
    assert find() == mine


@pytest.mark.parametrize("says", ["echo etcd Version: 3.5.21", "echo", "exit 3"])
def test_an_old_one_is_not(tool: Callable[[str, str], Path], says: str) -> None:
    """Nor one that does not say what it is; with nothing to build it, one line says what to do."""
    tool("etcd", says)
    with pytest.raises(NoEtcd, match=r"^etcd 3.6 or newer is not on PATH, and neither is Go 1\.\S+ to build it: .*$"):
        find()


def test_an_old_go_builds_nothing(tool: Callable[[str, str], Path]) -> None:
    """It would say that it cannot read go.mod."""
    tool("go", "echo go1.19.8")
    with pytest.raises(NoEtcd, match="neither is Go"):
        find()


def test_a_build_that_fails(tool: Callable[[str, str], Path]) -> None:
    """The last line of what Go said is told, in one line, and nothing is left that looks built."""
    tool("go", '[ "$1" = env ] && echo go1.99.1 && exit; echo details >&2; echo no network >&2; exit 1')
    with pytest.raises(NoEtcd, match=r"^etcd \S+ cannot be built, so put etcd 3.6 or newer on PATH: no network$"):
        find()
    assert [path.name for path in program_.cache().iterdir()] == ["lock"]


def test_it_is_built_once(tool: Callable[[str, str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    """At the version of go.mod, without what would make it another here and there; said while it goes on."""
    calls = 'echo "$@" >> "$0.calls"'
    out = 'while [ "$1" != -o ]; do shift; done; echo built > "$2"'
    go = tool("go", f'[ "$1" = env ] && echo go1.99.1 && exit; {calls}; {out}')
    first = find()
    built.cache_clear()
    assert (find(), first.read_text()) == (first, "built\n")
    assert program_.pinned() in first.name
    [call] = go.with_name("go.calls").read_text().splitlines()
    assert call.startswith("build -mod=readonly -trimpath")
    assert "building etcd" in capfd.readouterr().err


def test_a_cache_that_cannot_be_written(
    tool: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NoEtcd, match="file/assetwatch cannot be written"):
        find()


def test_the_one_of_these_tests_runs_and_is_new_enough() -> None:
    """Both programs are there, as make tests has them before."""
    for name in ("etcd", "etcdutl"):
        assert stat.S_IMODE(os.stat(find(name)).st_mode) & 0o100  # noqa: PTH116 - a file, found by its path


def test_ports_are_no_connection_s_own() -> None:
    """None is of the range that this system gives to connections that go out, and each is free."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    low, high = map(int, text.split())
    assert not set(PORTS) & set(range(low, high + 1))
    with socket.create_server(("127.0.0.1", free_port())):
        pass


def test_a_member_that_does_not_start(tmp_path: Path) -> None:
    """Its last word is told."""
    member = Member(find(), "a", tmp_path, {"a": f"http://127.0.0.1:{free_port()}"}, [])
    with socket.create_server(("127.0.0.1", int(member.endpoint.rpartition(":")[2]))):
        member.start()
        with pytest.raises(NoEtcd, match=r"etcd did not start: .*address already in use"):
            member.wait()
    member.end()


async def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """A snapshot that is put back is the history as it was, with other ends: what was written since is not there."""
    with running(tmp_path, 3) as cluster:
        async with client_of(*cluster.endpoints) as client:
            kept = (await client.txn((), [put(b"a", b"1")])).revision
            file = save(cluster.members[1], tmp_path / "snapshot")
            lost = (await client.txn((), [put(b"b", b"2")])).revision
            restore(cluster, file)
            found = await eventually(lambda: client.txn((), [get(b"a"), get(b"b")]))
            assert ([key.modified for key in found.found[0]], found.one(1)) == ([kept], None)
            assert found.revision == lost - 1


async def test_members_that_are_killed_and_paused(tmp_path: Path) -> None:
    """Two of three keep it going, one does not, and all is there when they are back."""
    with running(tmp_path, 3) as cluster:
        first, second, third = cluster.members
        async with client_of(third.endpoint) as client:
            await client.txn((), [put(b"a", b"1")])
            first.kill()
            assert (first.pid, second.pid > 0) == (0, True)
            assert (await eventually(lambda: client.get(b"a"))).first is not None
            second.pause()
            assert await ended_with(client.get(b"a", within_s=0.5)) is not None
            second.go_on()
            first.start()
            first.wait()
            assert (await eventually(lambda: client.get(b"a"))).first is not None
    assert [member.pid for member in cluster.members] == [0, 0, 0]
