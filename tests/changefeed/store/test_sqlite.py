"""The SQLite store: what outlives its process, and what is said when the file cannot be used."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.store.sqlite import SqliteStore
from assetwatchd.changefeed.store.sqlite_file import _PUT, MIGRATIONS, StoreFile, _checksum, _row
from assetwatchd.model.errors import ResumeEpochChanged, StoreError
from assetwatchd.model.values import AssetKey, Freshness, State
from assetwatchd.runtime import failpoints
from support.clock import Clock
from support.entries import asking, draft, entry
from support.resuming import resumed_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Entry

CHILD = Path(__file__).with_name("sqlite_child.py")
BACK_UP = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('VACUUM INTO ?', [sys.argv[2]])"
DIGEST = asking(sources=["dam"]).digest
PUT_UP_TO_2 = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""As files up to schema version 2 were written."""


@asynccontextmanager
async def opened(path: Path, now: Callable[[], float] = time.time) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, now=now)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def child(command: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, str(CHILD), command, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def token(store: Store) -> str:
    return resume_token.encode(epoch=store.epoch, revision=store.head, digest=DIGEST)


async def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    """Entries with all their fields, their order, head, floor and counts are after a restart what they were."""
    path, clock = tmp_path / "store.db", Clock(1.0)
    async with opened(path, clock) as store:
        await store.commit([draft(f"dam/{n}", at=n / 7, traceparent="00-ab-cd-01") for n in range(50)])
        await store.commit([draft("dam/3", State.FAILED, freshness=Freshness.STALE), draft("usd/ü\0", State.DELETED)])
        await store.commit([draft("dam/9", State.DELETED, at=1.0)])
        clock.now_s = 99.0
        await store.commit([draft("dam/8", gone=True, at=98.0)])
        assert await store.drop_gone(before=5.0, keep=lambda key: key.source == "usd") == 1
        before = [store.head, store.floor, store.count("dam"), store.count("usd"), store.after(0, 99)]
    async with opened(path) as again:
        assert [again.head, again.floor, again.count("dam"), again.count("usd"), again.after(0, 99)] == before
        assert again.floor == 53
        [entry] = await again.commit([draft("dam/new")])
        assert entry.revision == 55


async def test_no_revision_is_given_twice_over_a_restart(tmp_path: Path) -> None:
    """Not even when the entries of the newest revisions were dropped."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a", State.DELETED)])
        await store.drop_gone(before=math.inf, keep=lambda _: False)
    async with opened(path) as again:
        assert (again.head, again.floor, again.after(0, 9)) == (1, 1, [])


async def test_what_never_was_leaves_the_file_with_the_next_commit(tmp_path: Path) -> None:
    """Also where that brings it back. Until then a restart has it again, and head and tokens are what they were."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft(f"dam/{name}", State.MISSING) for name in "abc"])
        for name in "abc":
            store.forget(AssetKey("dam", name))
        issued = token(store)
    async with opened(path) as again:
        assert [entry.key.asset_id for entry in again.after(0, 9)] == ["a", "b", "c"]
        assert resumed_from(issued, digest=DIGEST, store=again) == again.head == 3
        for name in "ab":
            again.forget(AssetKey("dam", name))
        await again.commit([draft("dam/a")])
    async with opened(path) as last:
        assert [(entry.key.asset_id, entry.revision) for entry in last.after(0, 9)] == [("c", 3), ("a", 4)]


async def test_what_is_forgotten_while_it_is_written_anew_stands_in_the_file_once(tmp_path: Path) -> None:
    """Whenever a name is forgotten in the course of a commit of it, the file holds that commit and nothing older."""
    for delay in range(4):
        path = tmp_path / f"{delay}.db"
        async with opened(path) as store:
            await store.commit([draft("dam/a", State.MISSING)])
            commit = asyncio.create_task(store.commit([draft("dam/a", State.PENDING)]))
            for _ in range(delay):
                await asyncio.sleep(0)
            store.forget(AssetKey("dam", "a"))
            await commit
            assert [entry.revision for entry in store.after(0, 9)] == [2]
        async with opened(path) as again:
            assert [entry.revision for entry in again.after(0, 9)] == [2]


async def test_tokens_outlive_restarts(tmp_path: Path) -> None:
    """A token of any earlier run is accepted, as far as that run got."""
    path = tmp_path / "store.db"
    issued: list[tuple[int, str]] = []
    for _ in range(4):
        async with opened(path) as store:
            issued.append((store.head, token(store)))
            await store.commit([draft("dam/a"), draft("dam/b")])
            issued.append((store.head, token(store)))
            for revision, text in issued:
                assert resumed_from(text, digest=DIGEST, store=store) == revision
    assert [revision for revision, _ in issued] == [0, 2, 2, 4, 4, 6, 6, 8]


@pytest.mark.parametrize("running", [False, True])
async def test_a_backup_put_back_is_noticed(tmp_path: Path, *, running: bool) -> None:
    """After a backup is put back: tokens from before it are good, all from after it are of another epoch, for ever.

    Also when it was copied from a running store, and when as many changes were committed anew.
    """
    path, backup = tmp_path / "store.db", tmp_path / "backup"
    backup.mkdir()
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
        early = token(store)
        if running:
            copy_store(path, backup)
            await store.commit([draft("dam/b"), draft("dam/c")])
            late = [token(store)]
    if not running:
        copy_store(path, backup)
        late = []
    async with opened(path) as store:
        late.append(token(store) if running else "")
        await store.commit([draft("dam/d")])
        late.append(token(store))
    put_back(backup, path)
    for _ in range(3):
        async with opened(path) as restored:
            assert resumed_from(early, digest=DIGEST, store=restored) == 1
            for text in filter(None, late):
                with pytest.raises(ResumeEpochChanged):
                    resumed_from(text, digest=DIGEST, store=restored)
            await restored.commit([draft("dam/x"), draft("dam/y"), draft("dam/z")])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
async def test_a_log_that_lost_its_end_misleads_nobody(tmp_path: Path, share: float) -> None:
    """After kill -9 and the loss of the end of the -wal the file holds less, and tokens from there are refused."""
    path, killed = tmp_path / "store.db", tmp_path / "killed"
    killed.mkdir()
    issued: list[tuple[int, str]] = []
    async with opened(path) as store:
        for n in range(40):
            await store.commit([draft(f"dam/{n}", pad_bytes=300)])
            issued.append((store.head, token(store)))
        copy_store(path, killed)  # as kill -9 would leave it
    log = killed / "store.db-wal"
    os.truncate(log, int(os.stat(log).st_size * share))  # noqa: PTH116 - no path of the loop's own
    async with opened(killed / "store.db") as store:
        assert store.head < 40
        accepted = [revision for revision, text in issued if taken(text, store)]
        assert accepted == list(range(1, store.head + 1))


def taken(text: str, store: Store) -> bool:
    try:
        return resumed_from(text, digest=DIGEST, store=store) >= 0
    except ResumeEpochChanged:
        return False


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def put_back(backup: Path, path: Path) -> None:
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    copy_store(backup / path.name, path.parent)


def copy_store(path: Path, folder: Path) -> None:
    for file in path.parent.glob(path.name + "*"):
        shutil.copy(file, folder)


async def test_a_wiped_store_counts_anew(tmp_path: Path) -> None:
    """Tokens of a file that was removed are of another epoch."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        old = token(store)
    path.unlink()
    async with opened(path) as store:
        with pytest.raises(ResumeEpochChanged):
            resumed_from(old, digest=DIGEST, store=store)


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """While one process has the store, another is told so and changes nothing; when it is closed, it may."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
        with child("open_it", path) as second:
            assert "in use by another process" in hear(second)
        await store.commit([draft("dam/b")])
        with pytest.raises(StoreError, match="in use"):
            await SqliteStore.open(path)
    with child("open_it", path) as second:
        assert hear(second) == 2
        with pytest.raises(StoreError, match="in use"):
            await SqliteStore.open(path)
        second.kill()
        second.wait()
        async with opened(path) as store:
            assert store.head == 2


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Killed at any moment, again and again: every revision acknowledged is there, or a later one of its asset."""
    path = tmp_path / "store.db"
    source = random.Random(9)  # noqa: S311 - the same run every time
    acknowledged: dict[str, int] = {}
    for _ in range(6):
        with child("commit_for_ever", path) as process:
            assert hear(process) >= max(acknowledged.values(), default=0)
            for _ in range(source.randrange(1, 400)):
                revision, asset_id = hear(process)
                assert revision > max(acknowledged.get(asset_id, 0), 0)
                acknowledged[asset_id] = revision
            process.send_signal(signal.SIGKILL)
            process.wait()
        async with opened(path) as store:
            assert store.head >= max(acknowledged.values())
            for asset_id, revision in acknowledged.items():
                entry = store.get(AssetKey("dam", asset_id))
                assert entry is not None
                assert entry.revision >= revision


async def test_a_full_disk_fails_the_commit_alone(tmp_path: Path) -> None:
    """No room: the commit raises and nothing of it is seen; the next works when there is room."""
    path = tmp_path / "store.db"
    with child("fill_the_disk", path) as process:
        told, head = hear(process), hear(process)
        process.wait()
    assert "cannot be written" in told
    assert "room" in told
    async with opened(path) as store:
        assert store.head == head
        assert [entry.revision for entry in store.after(0, head)] == list(range(1, head + 1))
        assert store.get(AssetKey("dam", "after")) is not None


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_taken_away_while_in_use_fails_the_commit(tmp_path: Path, suffix: str, *, replaced: bool) -> None:
    """Nothing is acknowledged that would be written to a file which is not there any more; put back, it goes on."""
    path = tmp_path / "store.db"
    file, aside = tmp_path / f"store.db{suffix}", tmp_path / "aside"
    async with opened(path) as store:
        await store.commit([draft("dam/a"), draft("dam/b", State.DELETED)])
        file.rename(aside)
        if replaced:
            shutil.copy(aside, file)
        with pytest.raises(StoreError, match=r"moved, removed or replaced.*put back the files"):
            await store.commit([draft("dam/c")])
        with pytest.raises(StoreError, match="moved, removed or replaced"):
            await store.drop_gone(before=math.inf, keep=lambda _: False)
        assert (store.head, store.floor, len(store.after(0, 9))) == (2, 0, 2)
        aside.rename(file)
        assert [found.revision for found in await store.commit([draft("dam/c")])] == [3]
    async with opened(path) as again:
        assert again.head == 3


async def test_backups_as_the_readme_says(tmp_path: Path) -> None:
    """A running store can be copied by no other program with SQLite's means; a stopped one is its one file."""
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    async with opened(path) as store:
        await store.commit([draft(f"dam/{n}") for n in range(100)])
        held = store.after(0, 100)
        argv = [sys.executable, "-c", BACK_UP, str(path), str(backup)]
        told = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: ASYNC221 - short, ours
        assert "database is locked" in told.stderr
    assert names(tmp_path) == {"store.db"} | {backup.name}  # the latter empty, made by who could not copy
    shutil.copy(path, backup)
    async with opened(backup) as again:
        assert again.after(0, 100) == held


async def test_commits_waiting_together_are_one_transaction(tmp_path: Path) -> None:
    """500 commits at once are synced to the disk a few times, not 500 times."""
    statements: list[str] = []
    async with opened(tmp_path / "store.db") as store:
        await store._in_thread(lambda: store._file._db.set_trace_callback(statements.append))
        await asyncio.gather(*[store.commit([draft(f"dam/{n}")]) for n in range(500)])
        await store._in_thread(lambda: store._file._db.set_trace_callback(None))
    assert 1 <= statements.count("COMMIT") <= 3


async def test_the_disk_is_asked_to_keep_what_it_is_given(tmp_path: Path) -> None:
    """Every transaction is synced (synchronous = FULL) to a write-ahead log."""
    async with opened(tmp_path / "store.db") as store:
        answers = await store._in_thread(
            lambda: [
                store._file._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")
            ]
        )
    assert answers == [2, "wal"]


async def test_a_caller_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    """Cancelling a commit leaves the store in order, and the others' commits are done."""
    async with opened(tmp_path / "store.db") as store:
        going = [asyncio.create_task(store.commit([draft(f"dam/{n}")])) for n in range(20)]
        await asyncio.sleep(0)
        for task in going[::2]:
            task.cancel()
        results = await asyncio.gather(*going, return_exceptions=True)
        done = [result for result in results if not isinstance(result, BaseException)]
        assert len(done) == 10
        for [entry] in done:
            assert store.get(entry.key) == entry
        await store.commit([draft("dam/last")])
        revisions = [entry.revision for entry in store.after(0, store.head)]
        assert revisions == list(range(1, store.head + 1))


async def test_a_draft_that_cannot_be_sealed_fails_its_commit(tmp_path: Path) -> None:
    """An exception while an entry is made reaches the caller alone, also beside others; the store goes on."""

    def broken(_: int) -> bytes:
        raise ValueError("cannot be encoded")

    given = draft("dam/a")
    poison = given._replace(seal=broken)
    async with opened(tmp_path / "store.db") as store:
        with pytest.raises(ValueError, match="cannot be encoded"):
            await store.commit([draft("dam/b"), poison])
        assert (store.head, store.after(0, 9)) == (0, [])
        assert [entry.revision for entry in await store.commit([given])] == [1]
        groups = [[draft("dam/b")], [draft("dam/a", State.FAILED), poison], [draft("dam/c"), draft("dam/d")]]
        first, failed, last = await asyncio.gather(*map(store.commit, groups), return_exceptions=True)
        assert isinstance(failed, ValueError)
        assert not isinstance(first, BaseException)
        assert not isinstance(last, BaseException)
        assert [entry.revision for entry in [*first, *last]] == [2, 3, 4]
        [kept] = store.after(0, 1)
        assert store.get(given.key) == kept == given.entry(1, committed_at=kept.committed_at)
        held = store.after(0, store.head)
    async with opened(tmp_path / "store.db") as again:
        assert again.after(0, 9) == held


async def test_closing_writes_what_was_committed(tmp_path: Path) -> None:
    """close() waits for commits under way; afterwards a commit is refused, and closing again does nothing."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    commits = [asyncio.create_task(store.commit([draft(f"dam/{n}")])) for n in range(30)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert [entries[0].revision for entries in await asyncio.gather(*commits)] == list(range(1, 31))
    with pytest.raises(StoreError, match="closed"):
        await store.commit([draft("dam/late")])
    async with opened(path) as again:
        assert again.head == 30


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.db", "damaged or no store"),
        ("other.db", "another program"),
        ("newer.db", "schema version 99"),
        ("none/deeper/store.db", "No such file or directory; see that its folder"),
        ("folder", "cannot be opened"),
    ],
)
async def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path, name: str, says: str) -> None:
    """A file that is not ours, or of a newer release, a missing folder, a folder: said clearly, and not touched."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("not a database\n" * 1000)
    write_database(tmp_path / "other.db", "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)")
    async with opened(tmp_path / "newer.db"):
        pass
    write_database(tmp_path / "newer.db", "PRAGMA user_version = 99")
    path = tmp_path / name
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=says) as error:
        await SqliteStore.open(path)
    assert str(tmp_path) in str(error.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def write_database(path: Path, script: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(script)
    database.close()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can look into."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


async def test_a_file_that_cannot_be_written_is_refused_at_start(public_folder: Path) -> None:
    """Somebody who may read the file and not write it is told so when it is opened, not at the first change."""
    path = public_folder / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
    make_read_only(public_folder)
    with child("open_unprivileged", path) as process:
        told = hear(process)
    assert "cannot be used" in told
    assert "can be written" in told


@pytest.mark.parametrize("pad_bytes", [100, 300])
async def test_damage_is_noticed_at_start(tmp_path: Path, pad_bytes: int) -> None:
    """Wherever bytes of the file are altered, it is refused, or holds exactly what it held, and so does what follows.

    What follows: everything changes, removals are dropped, and it is opened again.
    """
    path, source = tmp_path / "store.db", random.Random(3)  # noqa: S311 - the same damage every time
    async with opened(path) as store:
        await store.commit([draft(f"dam/asset-{n:09}", pad_bytes=pad_bytes) for n in range(150)])
        held = store.after(0, store.head)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        altered = bytearray(whole)
        altered[source.randrange(100, len(altered))] ^= 1 << source.randrange(8)
        path.write_bytes(altered)
        told = await _what_opening_says(path, held)
        assert told is None or "damaged" in told
        refused += told is not None
    assert refused > 75


async def _what_opening_says(path: Path, held: list[Entry]) -> str | None:
    try:
        store = await SqliteStore.open(path, now=Clock(2.0))
    except StoreError as error:
        return str(error)
    assert (store.after(0, 10**6), store.head, store.floor) == (held, held[-1].revision, 0)
    await store.commit([draft("/".join(each.key), State.DELETED, at=2.0) for each in held[::2]])
    await store.commit([draft("/".join(each.key), State.FAILED) for each in held[1::2]])
    await store.drop_gone(before=3.0, keep=lambda key: key == held[0].key)
    after = (store.after(0, 10**6), store.head, store.floor)
    await store.close()
    async with opened(path) as again:
        assert (again.after(0, 10**6), again.head, again.floor) == after
    return None


async def test_damage_to_the_schema_is_called_damage(tmp_path: Path) -> None:
    """Also when SQLite quotes it, in bytes that are no text, or takes it for a mistake in the statement."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
    whole = path.read_bytes()
    for name in (b"TABLE floor", b"epoch TEXT", b"again INTEGER", b"digest BLOB"):
        start = whole.index(name)
        for bit in range(8 * len(name)):
            altered = bytearray(whole)
            altered[start + bit // 8] ^= 1 << bit % 8
            path.write_bytes(altered)
            try:
                async with opened(path) as store:
                    assert store.head == 1
            except StoreError as error:
                assert "is damaged" in str(error)  # noqa: PT017 - it may be opened too


async def test_an_asset_that_stands_in_the_file_twice_is_damage(tmp_path: Path) -> None:
    """The file has no index to prevent it, so it is looked for at the start."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
    file = StoreFile(path)
    file.load()
    file.put([entry("dam/a", 2)], superseded=[])
    file.close()
    with pytest.raises(StoreError, match="stands in it twice"):
        await SqliteStore.open(path)


async def test_changes_of_one_asset_in_one_transaction(tmp_path: Path) -> None:
    """Only the last of them is kept, in the file as in memory."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
        twice = store.commit([draft("dam/a", State.FAILED), draft("dam/b"), draft("dam/a", State.PENDING)])
        await asyncio.gather(twice, store.commit([draft("dam/b", State.DELETED)]), store.commit([draft("dam/c")]))
        kept = store.after(0, 99)
    assert [found.revision for found in kept] == [4, 5, 6]
    async with opened(path) as again:
        assert (again.after(0, 99), again.head) == (kept, 6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
async def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    """A file that lost its end is damaged, not a smaller store."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft(f"dam/{n}", pad_bytes=300) for n in range(150)])
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(StoreError, match="damaged"):
        await SqliteStore.open(path)


async def test_migration_keeps_what_is_there(tmp_path: Path) -> None:
    """A file of an older schema is taken forward, once; a migration that fails leaves it as it was."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a")])
    with pytest.raises(StoreError):
        StoreFile(path, migrations=[*MIGRATIONS, "CREATE TABLE halfway (x); CREATE NONSENSE"])
    for _ in range(2):
        newer = StoreFile(path, migrations=[*MIGRATIONS, "CREATE TABLE more (x); INSERT INTO more VALUES (7)"])
        assert [entry.revision for entry in newer.load().entries] == [1]
        assert newer._db.execute("SELECT * FROM more").fetchall() == [(7,)]
        assert newer._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'halfway'").fetchone() == (0,)
        newer.close()
    with pytest.raises(StoreError, match=f"schema version {len(MIGRATIONS) + 1}"):
        await SqliteStore.open(path)


def row_up_to_2(entry: Entry) -> tuple[Any, ...]:
    """Write an entry as it was up to schema version 2: its one moment is when it was found."""
    content = _row(entry)[:-2]
    return (*content, _checksum(content, None))


async def test_a_file_of_schema_version_2(tmp_path: Path) -> None:
    """What was committed before has its old moment for both, and its checksum; what is new has two moments."""
    path, clock = tmp_path / "store.db", Clock(500.0)
    file = StoreFile(path, migrations=MIGRATIONS[:2])
    file._db.executemany(PUT_UP_TO_2, map(row_up_to_2, [entry("dam/a", 1, at=7.5), entry("dam/b", 2, at=8.5)]))
    file.close()
    async with opened(path, clock) as store:
        assert store.after(0, 9) == [entry("dam/a", 1, at=7.5), entry("dam/b", 2, at=8.5)]
        await store.commit([draft("dam/b", State.FAILED, at=400.0)])
    async with opened(path, clock) as again:
        assert [(e.found_at, e.committed_at) for e in again.after(0, 9)] == [(7.5, 7.5), (400.0, 500.0)]


async def test_a_moment_of_commit_that_is_damaged_is_noticed(tmp_path: Path) -> None:
    """Altered, put where there was none, or gone."""
    for number, (written, damaged) in enumerate(((5.0, 6.0), (None, 5.0), (5.0, None))):
        path = tmp_path / f"{number}.db"
        file = StoreFile(path)
        content = _row(entry("dam/a", 1))[:-2]
        file._db.execute(_PUT, (*content, _checksum(content, written), damaged))
        file.close()
        with pytest.raises(StoreError, match="damaged"):
            await SqliteStore.open(path)


async def test_a_file_of_schema_version_1(tmp_path: Path) -> None:
    """It is taken forward with entries, floor and epochs; from then on it has no index."""
    path = tmp_path / "store.db"
    StoreFile(path, migrations=MIGRATIONS[:1]).close()
    entries = [entry("dam/a", 3), entry("usd/b", 7, State.DELETED), entry("dam/c", 8)]
    database = sqlite3.connect(path)
    with database:
        database.executemany(PUT_UP_TO_2, map(row_up_to_2, entries))
        database.execute("UPDATE floor SET revision = 5, again = 5")
        database.executemany("INSERT INTO epochs (epoch, last) VALUES (?, ?)", [("a" * 16, 6), ("b" * 16, None)])
    database.close()
    for _ in range(2):
        async with opened(path) as store:
            assert (store.after(0, 99), store.head, store.floor) == (entries, 8, 5)
            told = [store.continues(*point) for point in (("a" * 16, 6), ("a" * 16, 7), ("b" * 16, 8), ("b" * 16, 9))]
            assert told == [True, False, True, False]
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'index'").fetchone() == (0,)
    database.close()


async def test_damage_in_an_older_file_is_noticed_before_it_is_taken_forward(tmp_path: Path) -> None:
    """It is refused and stays as it is, so that whoever looks into it finds what was there."""
    path = tmp_path / "store.db"
    file = StoreFile(path, migrations=MIGRATIONS[:1])
    file._db.executemany(PUT_UP_TO_2, map(row_up_to_2, [entry("dam/a", 3)]))
    file._db.execute("PRAGMA ignore_check_constraints = ON")
    file._db.execute("UPDATE floor SET again = 2")
    file.close()
    with pytest.raises(StoreError, match="damaged"):
        await SqliteStore.open(path)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()


async def test_a_drop_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    """When the floor cannot be written nothing is dropped, in the file or here."""
    async with opened(tmp_path / "store.db") as store:
        await store.commit([draft("dam/a", State.DELETED)])
        await store._in_thread(lambda: store._file._db.execute("PRAGMA query_only = ON"))
        with pytest.raises(StoreError):
            await store.drop_gone(before=math.inf, keep=lambda _: False)
        assert (store.floor, len(store.after(0, 9))) == (0, 1)
        await store._in_thread(lambda: store._file._db.execute("PRAGMA query_only = OFF"))
        assert await store.drop_gone(before=math.inf, keep=lambda _: False) == 1


async def test_removals_are_never_purged_without_their_floor(tmp_path: Path) -> None:
    """A process that ends as soon as they left the file left the floor in it."""

    async def end() -> None:
        raise InterruptedError

    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.commit([draft("dam/a", State.DELETED), draft("dam/b")])
        failpoints.arm("after_floor_before_purge", end)
        with pytest.raises(InterruptedError):
            await store.drop_gone(before=math.inf, keep=lambda _: False)
        failpoints.disarm()
    async with opened(path) as again:
        assert (again.floor, [found.revision for found in again.after(0, 9)]) == (1, [2])


async def test_a_drop_that_fails_lowers_no_floor_of_another(tmp_path: Path) -> None:
    """Two at once, of which the first fails: the floor is where the second needs it."""
    failing = [False, True]  # the last of them first

    async def fail() -> None:
        await asyncio.sleep(0.01)
        if failing.pop():
            raise StoreError("no room")

    clock = Clock(1.0)
    async with opened(tmp_path / "store.db", clock) as store:
        await store.commit([draft("dam/a", State.DELETED)])
        clock.now_s = 2.0
        await store.commit([draft("dam/b", State.DELETED)])
        failpoints.arm("before_floor_write", fail)
        try:
            sweeps = [store.drop_gone(before=before, keep=lambda _: False) for before in (1.5, 2.5)]
            first, second = await asyncio.gather(*sweeps, return_exceptions=True)
        finally:
            failpoints.disarm()
        assert isinstance(first, StoreError)
        assert (second, store.floor, store.after(0, 9)) == (2, 2, [])


@pytest.mark.parametrize("umask", [0o022, 0o000])
async def test_file_and_folder_are_their_owners_alone(tmp_path: Path, umask: int) -> None:
    """Whatever the umask allows, the database, what SQLite puts beside it, and the folder that was made for them."""
    path = tmp_path / "made" / "store.db"
    before = os.umask(umask)
    try:
        store = await SqliteStore.open(path)
        await store.commit([draft("dam/one")])
    finally:
        os.umask(before)
    assert modes(path.parent) == {"made": 0o700, "store.db": 0o600, "store.db-wal": 0o600}
    await store.close()


def modes(folder: Path) -> dict[str, int]:
    """Return those of a folder and of what is in it."""
    return {found.name: stat.S_IMODE(found.stat().st_mode) for found in (folder, *folder.iterdir())}


async def test_modes_that_were_chosen_stay(tmp_path: Path) -> None:
    """Who lets a group read the file, or the folder, knows why."""
    folder = chosen(tmp_path)
    async with opened(folder / "store.db") as store:
        await store.commit([draft("dam/one")])
        assert modes(folder) == {"chosen": 0o750, "store.db": 0o640, "store.db-wal": 0o640}


def chosen(parent: Path) -> Path:
    """Make a folder and an empty file in it that a group may read."""
    folder = parent / "chosen"
    folder.mkdir()
    folder.chmod(0o750)
    (folder / "store.db").touch()
    (folder / "store.db").chmod(0o640)
    return folder


async def test_a_migration_is_a_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With both versions; a new file and one that is as it should be say nothing."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "store.db"
    StoreFile(path, migrations=MIGRATIONS[:1]).close()
    StoreFile(path).close()
    StoreFile(path).close()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"store {path}: schema migrated from 1 to {len(MIGRATIONS)} in ")


@pytest.mark.parametrize("trouble", ["moved", "closed"])
async def test_where_the_file_is_is_told_to_nobody_who_calls(tmp_path: Path, trouble: str) -> None:
    """The text of an error names it, for the log; what callers are told says what is wrong without it."""
    path = tmp_path / "of-the-server.db"
    async with opened(path) as store:
        if trouble == "moved":
            path.rename(tmp_path / "elsewhere.db")
        else:
            await store._in_thread(store._file.close)
        with pytest.raises(StoreError, match=str(path)) as caught:
            await store.commit([draft("dam/one")])
        assert caught.value.told.startswith("the store ")
        assert str(tmp_path) not in caught.value.told
