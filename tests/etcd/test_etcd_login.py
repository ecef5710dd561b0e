"""An etcd that asks who one is: tokens are had, renewed and told apart from rights, and no secret is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetwatchd.etcd.checks import NEVER_COMPACTED, Unfit, check
from assetwatchd.etcd.compaction import Compaction
from assetwatchd.etcd.errors import EtcdError, PermissionDenied, Unauthenticated
from assetwatchd.etcd.operations import get, put
from support.etcd import client_of, ended_with, eventually, post, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient

PASSWORD = "made-up-and-not-to-be-seen"
KEY = b"/ours/key"


def admin(cluster: Cluster, path: str, **body: object) -> None:
    """Do something that needs the right of root."""
    [token] = post(cluster.members[0], "/v3/auth/authenticate", {"name": "root", "password": "root"})
    post(cluster.members[0], f"/v3/auth/{path}", body, token=token["token"])


def grant(cluster: Cluster, role: str) -> None:
    """Let a role read and write all below /ours/, in etcd's base64."""
    permission = {"permType": "READWRITE", "key": "L291cnMv", "range_end": "L291cnMw"}
    admin(cluster, "role/grant", name=role, perm=permission)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a user app who has all rights below /ours/."""
    with running(tmp_path_factory.mktemp("guarded")) as cluster:
        member = cluster.members[0]
        for name, password in (("root", "root"), ("app", PASSWORD)):
            post(member, "/v3/auth/user/add", {"name": name, "password": password})
            post(member, "/v3/auth/role/add", {"name": name})
            post(member, "/v3/auth/user/grant", {"user": name, "role": name})
        post(member, "/v3/auth/enable", {})
        grant(cluster, "app")
        yield cluster


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """The file of the password, with the line break that editors leave."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return tmp_path / "password"


@pytest.fixture
async def app(guarded: Cluster, password_file: Path) -> AsyncIterator[EtcdClient]:
    """A client of that user."""
    async with client_of(*guarded.endpoints, username="app", password_file=password_file) as client:
        yield client


def write(file: Path, text: str) -> None:
    """Write a file."""
    file.write_text(text)


async def use(client: EtcdClient) -> None:
    """Do everything that a replica does."""
    now = (await client.txn((), [put(KEY, b"1"), get(KEY)])).revision
    assert [key.value async for page in client.pages(b"/ours/") for key in page.keys] == [b"1"]
    async with client.watch(b"/ours/", from_revision=now) as watch:
        assert (await watch.read()).revision == now
        await watch.ask_progress()
        await watch.read()
    lease = await client.grant(30)
    assert await client.keep_alive(lease.id) == 30
    await client.revoke(lease.id)


async def test_a_user_with_rights(app: EtcdClient) -> None:
    """Everything that a replica does is done, with rights for its own keys alone: it looks whether etcd is fit, too."""
    await use(app)
    assert await check(app, b"/ours/", compacting=False) == [NEVER_COMPACTED]
    await app.members()


async def test_compaction_is_for_root(guarded: Cluster, app: EtcdClient, password_file: Path) -> None:
    """So is etcd: another user is refused at the start, with what to do, and root compacts."""
    with pytest.raises(Unfit, match="role root"):
        await check(app, b"/ours/", compacting=True)
    write(password_file, "root")
    async with client_of(*guarded.endpoints, username="root", password_file=password_file) as root:
        assert await check(root, b"/ours/", compacting=True) == []
        compaction = Compaction(root, b"/marks/")
        await compaction.turn()
        await root.txn((), [put(KEY, b"2")])
        assert await compaction.turn() > 0


async def test_no_user_and_a_wrong_one(guarded: Cluster, tmp_path: Path) -> None:
    """The text says what to set, and neither it nor the file's name is told to callers."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-and-not-to-be-seen")
    users = [{}, {"username": "app", "password_file": wrong}, {"username": "nobody", "password_file": wrong}]
    for access in users:
        async with client_of(*guarded.endpoints, **access) as client:
            for ask in (client.get(KEY), client.txn((), [put(KEY, b"")])):
                end = await ended_with(ask)
                assert isinstance(end, Unauthenticated)
                assert "password_file" in end.told
                assert "not-to-be-seen" not in f"{end!r} {end} {end.told}"


async def test_the_password_cannot_be_read(guarded: Cluster, password_file: Path) -> None:
    """The file is named in the log alone, and read again with the next call."""
    password_file = password_file.with_name("not-there-yet")
    async with client_of(*guarded.endpoints, username="app", password_file=password_file) as client:
        end = await ended_with(client.get(KEY))
        assert isinstance(end, Unauthenticated)
        assert str(password_file) in str(end)
        assert str(password_file) not in end.told
        write(password_file, PASSWORD)
        await use(client)


async def test_rights_beyond_the_prefix(app: EtcdClient) -> None:
    """What the user may not is refused, and not tried again with another token."""
    for ask in (app.get(b"/other"), app.txn((), [put(b"/other", b"")])):
        end = await ended_with(ask)
        assert isinstance(end, PermissionDenied)
        assert "store.prefix" in end.told
    with pytest.raises(EtcdError) as caught:
        async with app.watch(b"/other/", from_revision=1) as watch:
            await watch.read()
    assert isinstance(caught.value, PermissionDenied)


async def test_a_token_that_is_forgotten(guarded: Cluster, app: EtcdClient) -> None:
    """A member that is started again knows no token: nobody hears of that, in whatever is asked first."""
    member = guarded.members[0]
    asks = (
        lambda: app.get(KEY),
        lambda: app.txn((), [put(KEY, b"1")]),
        lambda: app.grant(30),
        lambda: _watched(app),
        app.status,
    )
    for ask in asks:
        await use(app)
        member.kill()
        member.start()
        member.wait()
        assert await eventually(ask) is not None


async def _watched(client: EtcdClient) -> bool:
    async with client.watch(b"/ours/", from_revision=1):
        return True


async def test_rights_that_change(guarded: Cluster, app: EtcdClient) -> None:
    """A token from before a change of rights is renewed; a password that was changed is read from its file."""
    await use(app)
    admin(guarded, "role/add", name="another")
    await use(app)


async def test_a_password_that_changes(guarded: Cluster, app: EtcdClient, password_file: Path) -> None:
    """It is read from its file when it is needed again; until it is there, the text says what is wrong."""
    await use(app)
    admin(guarded, "user/changepw", name="app", password="another")
    try:
        assert isinstance(await ended_with(app.get(KEY)), Unauthenticated)
        write(password_file, "another")
        await use(app)
    finally:
        admin(guarded, "user/changepw", name="app", password=PASSWORD)


async def test_users_where_nobody_asks_for_one(tmp_path: Path, password_file: Path) -> None:
    """A user is no hindrance there, and is asked for once that changes, with no call lost."""
    with running(tmp_path / "open") as cluster:
        member = cluster.members[0]
        async with client_of(*cluster.endpoints, username="root", password_file=password_file) as client:
            await use(client)
            post(member, "/v3/auth/user/add", {"name": "root", "password": PASSWORD})
            post(member, "/v3/auth/user/grant", {"user": "root", "role": "root"})
            post(member, "/v3/auth/enable", {})
            await use(client)
