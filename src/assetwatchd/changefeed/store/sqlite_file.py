"""The file of the SQLite store: a table of the latest entry of each asset. Synchronous; used from one thread alone.

It has no index: what a new entry supersedes is known by its revision. An index would be a second copy of the keys; one
flipped bit, and the copies differ, which the check at the start does not see and which brings removed assets back.

Opening it locks it for as long as it is open, checks all of it, and begins an epoch. Those before are kept with the
revision each came to, so that a token of an earlier run is still good, and one from after a backup that was put back is
known for what it is: of an epoch never heard of, or beyond where that epoch ends here.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import uuid
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatchd.changefeed.store import sqlite_place
from assetwatchd.changefeed.store.sqlite_place import APPLICATION_ID
from assetwatchd.model.errors import StoreError
from assetwatchd.model.values import AssetKey, Entry, Freshness, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from assetwatchd.changefeed.store.copying import Content

    Columns = tuple[int, str, str, int, int, int, bytes, bytes, float, str]
    Row = tuple[int, str, str, int, int, int, bytes, bytes, float, str, int, float | None]
    """As `entries` has them, the last one the checksum of the others; in a damaged file they may be anything."""

log = logging.getLogger(__name__)

LOCK_WAIT_S = 1.0
"""A process that is just ending may hold the file this long."""
EPOCHS_MAX = 1000
"""Tokens from more restarts ago are refused as of an unknown epoch."""
WAL_BYTES_KEPT = 64 * 1024 * 1024

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE entries (
        revision INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        asset_id TEXT NOT NULL,
        state INTEGER NOT NULL,
        gone INTEGER NOT NULL,
        freshness INTEGER NOT NULL,
        digest BLOB NOT NULL,
        upsert BLOB NOT NULL,
        committed_at REAL NOT NULL,
        traceparent TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        UNIQUE (source, asset_id)
    );
    CREATE TABLE floor (revision INTEGER NOT NULL, again INTEGER NOT NULL CHECK (again = revision));
    INSERT INTO floor VALUES (0, 0);
    CREATE TABLE epochs (number INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE, last INTEGER);
    """,
    """
    CREATE TABLE unindexed (
        revision INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        asset_id TEXT NOT NULL,
        state INTEGER NOT NULL,
        gone INTEGER NOT NULL,
        freshness INTEGER NOT NULL,
        digest BLOB NOT NULL,
        upsert BLOB NOT NULL,
        committed_at REAL NOT NULL,
        traceparent TEXT NOT NULL,
        checksum INTEGER NOT NULL
    );
    INSERT INTO unindexed SELECT * FROM entries ORDER BY revision;
    DROP TABLE entries;
    ALTER TABLE unindexed RENAME TO entries;
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        epoch TEXT NOT NULL,
        last INTEGER,
        again INTEGER CHECK (again IS last)
    );
    INSERT INTO runs SELECT number, epoch, last, last FROM epochs ORDER BY number;
    DROP TABLE epochs;
    ALTER TABLE runs RENAME TO epochs;
    """,
    """
    ALTER TABLE entries RENAME COLUMN committed_at TO found_at;
    ALTER TABLE entries ADD COLUMN committed_at REAL;
    """,
)
"""Migration n takes a file of schema version n to n + 1.

Up to version 2, `committed_at` held when an entry was found. Those entries have no moment of their commit (NULL), are
taken as committed when they were found, and keep the checksum that they were written with.
"""

_STATES = {int(state): state for state in State}
_FRESHNESSES = {int(freshness): freshness for freshness in Freshness}
_PUT = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM entries WHERE revision = ?"
_LATEST = "SELECT * FROM entries ORDER BY revision"
_HEAD_AND_FLOOR = """
    SELECT max(
        coalesce((SELECT max(revision) FROM entries), 0),
        coalesce((SELECT max(last) FROM epochs), 0),
        revision
    ), revision FROM floor
"""
"""The head is not below where an earlier epoch ended, though the entry of then may have been copied, or forgotten."""
_RAISE_FLOOR = "UPDATE floor SET revision = max(revision, :floor), again = max(revision, :floor)"
_DAMAGE = (0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""0 is not SQLite's: a text that is no UTF-8. ERROR: the schema does not fit a statement, and those are right."""
_ANY_BEFORE = "SELECT 1 FROM epochs WHERE last > 0 LIMIT 1"
_FORGET_EPOCHS = "DELETE FROM epochs WHERE number <= (SELECT max(number) FROM epochs) - ?"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened. past: the last revision of each epoch before this one."""

    entries: Sequence[Entry]
    head: int
    floor: int
    epoch: str
    past: dict[str, int]


class StoreFile:
    """One open file. Raises: StoreError, from every method, with the path and what to do; then nothing was changed."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        self._path = path
        self._log_path = path.with_name(path.name + "-wal")
        self._files: Sequence[tuple[int, int] | None] = []
        try:
            sqlite_place.prepare(path)
        except OSError as error:
            raise self._error(f"{path} cannot be made: {error.strerror}; see that its folder can be") from error
        with self._failures("cannot be opened"):
            self._db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        try:
            with self._failures("cannot be used"):
                self._prepare(migrations)
        except StoreError:
            self._db.close()
            raise

    def load(self) -> Contents:
        """Read everything and begin an epoch."""
        with self._failures("cannot be read"):
            entries = [self._entry(row) for row in self._db.execute(_LATEST)]
            if len({entry.key for entry in entries}) < len(entries):
                raise self._error(self._damaged("an asset stands in it twice"))
            [[head, floor]] = self._db.execute(_HEAD_AND_FLOOR)
            epoch = uuid.uuid4().hex[:16]
            with self._transaction():
                self._db.execute("UPDATE epochs SET last = :head, again = :head WHERE last IS NULL", {"head": head})
                self._db.execute("INSERT INTO epochs (epoch) VALUES (?)", [epoch])
                self._db.execute(_FORGET_EPOCHS, [EPOCHS_MAX])
            past = dict(self._db.execute("SELECT epoch, last FROM epochs WHERE last IS NOT NULL"))
        self._files = self._found()  # both are there, now that something was written
        return Contents(entries, head, floor, epoch, past)

    def put(self, entries: Iterable[Entry], *, superseded: Iterable[int]) -> None:
        """Make entries durable, and drop those of the same assets that they supersede, all or nothing."""
        with self._writing():
            self._db.executemany(_DELETE, ((revision,) for revision in superseded))
            self._db.executemany(_PUT, map(_row, entries))

    def fill(self, content: Content) -> None:
        """Write what another store held into a new file. Raises: StoreError when something is in it."""
        with self._writing():
            if any(self._db.execute("SELECT 1 FROM entries LIMIT 1")) or any(self._db.execute(_ANY_BEFORE)):
                raise self._error(f"{self._path} has something in it already; name a new file")
            self._db.execute("DELETE FROM epochs")
            rows = [(epoch, last, last) for epoch, last in content.epochs.items()]
            self._db.executemany("INSERT INTO epochs (epoch, last, again) VALUES (?, ?, ?)", rows)
            self._db.executemany(_PUT, map(_row, content.entries))
            self._db.execute(_RAISE_FLOOR, {"floor": content.floor})

    def drop(self, revisions: Iterable[int], *, floor: int) -> None:
        """Raise the floor and drop entries, in one transaction; what was superseded meanwhile is not there any more."""
        with self._writing():
            self._db.execute(_RAISE_FLOOR, {"floor": floor})
            self._db.executemany(_DELETE, ((revision,) for revision in revisions))

    def close(self) -> None:
        """Release the file."""
        with self._failures("cannot be closed"):
            self._db.close()

    def _prepare(self, migrations: Sequence[str]) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        with self._transaction("EXCLUSIVE"):  # and this lock is kept
            version = self._version(newest=len(migrations))
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        [[verdict]] = self._db.execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise self._error(self._damaged(verdict))
        self._migrate(migrations, version)

    def _migrate(self, migrations: Sequence[str], version: int) -> None:
        """Bring the schema from a version to the newest."""
        began = time.monotonic()
        for number, migration in enumerate(migrations[version:], version + 1):
            with self._transaction():
                for statement in migration.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {number}")
        if 0 < version < len(migrations):
            took_s = time.monotonic() - began
            log.info("store %s: schema migrated from %d to %d in %.1f s", self._path, version, len(migrations), took_s)

    def _version(self, *, newest: int) -> int:
        """Return the schema version, 0 for a new file, once it is known to be one of ours."""
        [[identity]], [[version]], [[objects]] = (
            self._db.execute(query).fetchall()
            for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if identity != APPLICATION_ID and (identity or version or objects):
            raise self._error(sqlite_place.foreign(self._path))
        if version > newest:
            raise self._error(sqlite_place.too_new(self._path, version, newest))
        return int(version)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._failures("cannot be written"), self._transaction():
            if self._found() != self._files:
                raise self._error(
                    f"{self._path} or its -wal was moved, removed or replaced while in use, so nothing would last;"
                    " put back the files that were there, or start the service again"
                )
            yield

    def _found(self) -> Sequence[tuple[int, int] | None]:
        """Which files stand there. SQLite goes on writing to those that it opened, wherever they are."""
        return [_identity(path) for path in (self._path, self._log_path)]

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter when a message quotes what is damaged
            raise self._error(self._told(error, what)) from error

    def _error(self, text: str) -> StoreError:
        return StoreError(text, path=self._path)

    def _told(self, error: Exception, what: str) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"{self._path} is in use by another process; one store serves one process"
        if code in _DAMAGE:
            return self._damaged(str(error))
        return f"{self._path} {what}: {error}; see that the disk has room and the file and its folder can be written"

    def _damaged(self, how: str) -> str:
        return f"{self._path} is damaged or no store ({how}); put a backup back, or move it away to start empty"

    def _entry(self, row: Row) -> Entry:
        content, checksum, committed_at = row[:10], row[10], row[11]
        revision, source, asset_id, state, gone, freshness, digest, upsert, found_at, traceparent = content
        try:
            if _checksum(content, committed_at) == checksum:
                return Entry(  # by place, as many are made before the service is there
                    AssetKey(source, asset_id),
                    revision,
                    _STATES[state],
                    bool(gone),
                    _FRESHNESSES[freshness],
                    digest,
                    upsert,
                    found_at,
                    found_at if committed_at is None else committed_at,
                    traceparent,
                )
        except (TypeError, KeyError):  # damage may change even the type of a value
            pass
        raise self._error(self._damaged(f"the checksum of revision {revision} is wrong"))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _row(entry: Entry) -> Row:
    content = (
        entry.revision,
        entry.key.source,
        entry.key.asset_id,
        int(entry.state),
        int(entry.gone),
        int(entry.freshness),
        entry.digest,
        entry.upsert,
        float(entry.found_at),
        entry.traceparent,
    )
    committed_at = float(entry.committed_at)
    return (*content, _checksum(content, committed_at), committed_at)


def _checksum(content: Columns, committed_at: float | None) -> int:
    """SQLite checks the shape of its pages and constraints as that of the floor, not what else is in them.

    committed_at: None for an entry of a file of version 2 or before, whose checksum is without it.
    """
    revision, source, asset_id, state, gone, freshness, digest, upsert, found_at, traceparent = content
    text = f"{revision} {state} {gone} {freshness} {found_at} {traceparent} {source} {asset_id}"
    if committed_at is not None:
        text = f"{committed_at} {text}"
    return zlib.crc32(upsert, zlib.crc32(digest, zlib.crc32(text.encode())))
