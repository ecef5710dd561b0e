"""What a mirror holds and tells, against a plain model of what it was fed with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest
from assetwatch.internal.v1 import record_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd import epochs, keys, records
from assetwatchd.changefeed.store.etcd.contents import Contents
from assetwatchd.changefeed.store.etcd.keys import PLACES, Keys
from assetwatchd.changefeed.store.etcd.mirror import Mirror
from assetwatchd.etcd.values import Event, KeyValue, News
from assetwatchd.model.errors import HistoryBroken
from assetwatchd.model.values import AssetKey, State
from support.entries import draft, seal

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit

NAMES = Keys("/aw/")
ASSETS = ("dam/a", "dam/b", "dam/c/d", "usd/a")
OTHERS = (b"o/dam", b"c/dam", b"w/dam", b"i/dam/x", b"f/dam", b"m/floor")
PUT = st.tuples(st.sampled_from(ASSETS), st.sampled_from([State.AVAILABLE, State.DELETED, None]))
"""An asset and its new state; None, its entry is deleted."""
OTHER = st.tuples(st.sampled_from(OTHERS), st.sampled_from([b"1", b"2", b"300", None]))
TRANSACTIONS = st.lists(
    st.tuples(
        st.lists(PUT, max_size=4, unique_by=lambda put: put[0]),
        st.lists(OTHER, max_size=3, unique_by=lambda other: other[0]),
    ),
    max_size=30,
)


class Told(NamedTuple):
    """What a listener was told, and how far the mirror was."""

    name: bytes
    value: bytes | None
    revision: int


class Etcd:
    """What etcd would say: transactions one by one, and all that there is."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, KeyValue] = {}

    def put(self, name: bytes, value: bytes | None) -> Event:
        """Write a key, or delete it, in the transaction under way."""
        key = NAMES.named(name)
        old = self.keys.pop(key, None)
        if value is None:
            return Event(deleted=True, key=KeyValue(key, b"", 0, self.revision))
        created = self.revision if old is None else old.created
        self.keys[key] = KeyValue(key, value, created, self.revision)
        return Event(deleted=False, key=self.keys[key])

    def transaction(
        self, puts: Sequence[tuple[str, State | None]], others: Sequence[tuple[bytes, bytes | None]]
    ) -> News:
        """Do one."""
        self.revision += 1
        events = [self.put(name, value) for name, value in others]
        for place, (asset, state) in enumerate(puts):
            record = None
            if state is not None:
                record = records.drafted(draft(asset, state), place=place, committed_at=float(self.revision))
            events.append(self.put(b"e/" + asset.encode(), record))
        return News(self.revision, events)

    def read(self) -> Contents:
        """Return contents as a reading would."""
        contents = Contents(NAMES, seal)
        ours = {NAMES.name(key.key): key for key in self.keys.values()}
        contents.put_others(key for name, key in ours.items() if not keys.is_entry(name))
        nothing = Contents(NAMES, seal).ledger
        read = (contents.entry(name, key, nothing) for name, key in ours.items() if keys.is_entry(name))
        contents.put_all(sorted((entry for entry in read if entry is not None), key=lambda entry: entry.revision))
        return contents


def same(mirror: Mirror, etcd: Etcd) -> bool:
    """Whether the mirror has all that a reading has, and nothing else."""
    read, head = etcd.read(), mirror.head
    return (
        mirror.contents.ledger.after(0, head) == read.ledger.after(0, head)
        and len(mirror.contents.ledger) == len(read.ledger)
        and mirror.contents.others == read.others
    )


@given(TRANSACTIONS, st.lists(st.integers(1, 4)), st.sets(st.integers(0, 10)))
@settings(derandomize=True)
def test_it_is_what_was_told(
    transactions: list[tuple[list[tuple[str, State | None]], list[tuple[bytes, bytes | None]]]],
    together: list[int],
    rereads: set[int],
) -> None:
    """However many transactions come in one response, and wherever all is read anew instead.

    A listener that keeps what it is told has what there is, each key as of when it was told, in the order of revisions.
    """
    etcd, mirror = Etcd(), Mirror(Contents(NAMES, seal), 1)
    told: list[Told] = []
    mirror.subscribe(
        b"", lambda name, key: told.append(Told(name, None if key is None else key.value, mirror.revision))
    )
    moves: list[int] = []
    mirror.moved = lambda: moves.append(mirror.revision)
    for response, size in enumerate([*together, *[3] * len(transactions)]):
        some, transactions = transactions[:size], transactions[size:]
        news = [etcd.transaction(*each) for each in some]
        floor = mirror.contents.floor
        if response in rereads:
            mirror.replace(etcd.read(), etcd.revision)
        elif news:
            mirror.apply(News(etcd.revision, [event for each in news for event in each.events]))
        assert same(mirror, etcd)
        if response not in rereads:
            assert mirror.contents.floor >= floor
    assert {name: value for name, value, _ in told if value is not None or name in OTHERS} == {
        name: (key.value if (key := mirror.get(name)) is not None else None) for name, _, _ in told
    }
    assert moves == sorted(moves)
    assert [each.revision for each in told] == sorted(each.revision for each in told)


def test_revisions_of_a_transaction_are_its_own() -> None:
    """In the order of places, above all of the transaction before, and not above the head once that is here."""
    etcd, mirror = Etcd(), Mirror(Contents(NAMES, seal, base=1000), 1)
    heads = [mirror.head]
    for _ in range(2):
        mirror.apply(etcd.transaction([(asset, State.AVAILABLE) for asset in ASSETS], []))
        heads.append(mirror.head)
    assert heads == [1000 + (revision + 1) * PLACES - 1 for revision in (1, 2, 3)]
    assert [entry.revision for entry in mirror.contents.ledger.after(0, heads[-1])] == [
        1000 + 3 * PLACES + place for place in range(len(ASSETS))
    ]


def test_who_subscribes_late_is_told_what_is_there() -> None:
    """Of the keys that begin so, and of no other."""
    etcd, mirror = Etcd(), Mirror(Contents(NAMES, seal), 1)
    mirror.apply(etcd.transaction([("dam/a", State.AVAILABLE)], [(b"o/dam", b"1"), (b"c/dam", b"2")]))
    told: list[tuple[bytes, KeyValue | None]] = []
    mirror.subscribe(b"o/", lambda name, key: told.append((name, key)))
    assert told == [(b"o/dam", mirror.get(b"o/dam"))]
    mirror.apply(etcd.transaction([], [(b"c/dam", b"3"), (b"o/dam", None)]))
    assert told[1:] == [(b"o/dam", None)]


async def test_who_waits_for_a_revision_is_woken_by_it() -> None:
    """Not before, and also where it is passed over; who gives up waiting is forgotten."""
    etcd, mirror = Etcd(), Mirror(Contents(NAMES, seal), 1)
    await mirror.reached(1)
    waiting = [asyncio.create_task(mirror.reached(revision)) for revision in (2, 4, 9)]
    await asyncio.sleep(0)
    for revision in range(2, 6):
        assert [task.done() for task in waiting] == [revision > 2, revision > 4, False]
        news = etcd.transaction([], [(b"o/dam", b"1")])
        if revision != 4:  # it comes together with the next one
            mirror.apply(news)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if revision == 4:
            assert not waiting[1].done()
            mirror.apply(News(4, []))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    waiting[2].cancel()
    await asyncio.wait(waiting)
    assert mirror._waiting == []


def test_a_store_copied_into_it_ends_it() -> None:
    """All numbers would be others."""
    etcd, mirror = Etcd(), Mirror(Contents(NAMES, seal), 1)
    with pytest.raises(HistoryBroken, match="copied into it"):
        mirror.apply(etcd.transaction([], [(keys.BASE, b"1000")]))


def test_what_a_newer_version_wrote_is_read_as_far_as_it_is_known() -> None:
    """A state that is not known is UNKNOWN, and the mirror goes on."""
    record = pb.Record.FromString(records.drafted(draft("dam/a"), place=0, committed_at=1.0))
    record.state, record.freshness = 99, 99
    value = record.SerializeToString() + b"\xf8\x07\x01"  # and a field of number 127
    entry = records.entry_of(b"e/dam/a", KeyValue(b"/aw/e/dam/a", value, 5, 5), 0, seal)
    assert (entry.key, entry.state, entry.freshness.name) == (AssetKey("dam", "a"), State.UNKNOWN, "STALE")


def test_an_epoch_ends_before_a_leap() -> None:
    """With the last revision that was of anybody, and not where the next is written; a first one has none before it."""
    first = epochs.read(epochs.begun(epochs.NONE, leapt_from=5), modified=10, base=0)
    assert first.ended == {}
    second = epochs.read(epochs.begun(first, leapt_from=1500), modified=10**9, base=0)
    third = epochs.read(epochs.begun(second), modified=10**9 + 1, base=0)
    for known in (second, third):
        assert known.continues(first.current, 1500)
        assert not known.continues(first.current, 1501)


def test_epochs_go_on() -> None:
    """Each ends where the next begins, in revisions of entries; of very many the oldest are forgotten."""
    known, names = epochs.NONE, list[str]()
    for start in range(1, epochs.EPOCHS_MAX + 3):
        known = epochs.read(epochs.begun(known), modified=10 * start, base=7)
        names.append(known.current)
    last = 10 * (epochs.EPOCHS_MAX + 2)
    assert known.continues(names[-1], 1 << 60)
    assert known.continues(names[-2], 7 + last * PLACES)
    assert not known.continues(names[-2], 7 + last * PLACES + 1)
    assert known.continues(names[2], 7)
    assert not known.continues(names[0], 0)
    assert not known.continues("0" * 16, 0)
    assert len(known.ended) == epochs.EPOCHS_MAX
