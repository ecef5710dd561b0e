"""What others than the replicas write below the prefix: it is left out, and all that is theirs is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from assetwatch.internal.v1 import record_pb2 as pb
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd import beginning, epochs, keys, records
from assetwatchd.changefeed.store.etcd.contents import Contents
from assetwatchd.changefeed.store.etcd.keys import PLACES, Keys
from assetwatchd.changefeed.store.etcd.mirror import Mirror
from assetwatchd.changefeed.store.etcd.reading import read_all
from assetwatchd.changefeed.store.ledger import Ledger
from assetwatchd.etcd.operations import put
from assetwatchd.etcd.values import Event, KeyValue, News
from assetwatchd.model.errors import StoreError
from assetwatchd.model.values import AssetKey
from assetwatchd.rpc.convert import ProtobufEncoder
from support import virtual_time
from support.entries import draft
from support.model_etcd import ModelClient, ModelEtcd

if TYPE_CHECKING:
    from assetwatchd.model.values import Entry

pytestmark = pytest.mark.unit

NAMES = Keys("/aw/")
SEAL = ProtobufEncoder().seal
ODD_TIMES = st.sampled_from([0.0, -1.0, 1e300, float("inf"), float("nan")])
RECORDS = st.builds(
    lambda **told: pb.Record(**told).SerializeToString(),
    place=st.sampled_from([0, 1, PLACES, 2**32 - 1]),
    revision=st.sampled_from([0, 1, 2**40, 2**64 - 1]),
    found_at=ODD_TIMES,
    committed_at=ODD_TIMES,
    sealed_at=ODD_TIMES,
    content=st.binary(max_size=5),
)
VALUES = st.binary(max_size=20) | RECORDS | st.sampled_from([b"9" * 5000, b"-1", b"\xff", b"99999999999999999999"])
PLACES_OF_STRANGERS = st.sampled_from(
    [b"e/", b"e/dam", b"e/dam/\xff\xfe", b"e/\xff/x", b"e/dam/b", b"f/dam", b"f/\xff", b"m/floor", b"m/epochs", b"\xff"]
)
STRANGE = st.lists(st.tuples(PLACES_OF_STRANGERS, VALUES | st.none()), max_size=8)


def entries(contents: Contents) -> list[Entry]:
    """What there is of the replicas' own asset."""
    return [entry for entry in contents.ledger.after(0, 2**64) if entry.key == AssetKey("dam", "a")]


def event(name: bytes, value: bytes | None, revision: int) -> Event:
    """What a watch tells."""
    return Event(deleted=value is None, key=KeyValue(NAMES.named(name), value or b"", revision, revision))


@settings(max_examples=200)
@given(STRANGE)
def test_what_a_mirror_is_told(strange: list[tuple[bytes, bytes | None]]) -> None:
    """Between two changes of an asset there is anything at all."""
    mirror = Mirror(Contents(NAMES, SEAL), 1)
    begun = KeyValue(NAMES.named(keys.EPOCHS), epochs.begun(epochs.NONE), 1, 1)
    mirror.contents.put_others([begun])
    for revision, (name, value) in enumerate(strange, 10):
        if (name, value) != (keys.EPOCHS, None):  # that ends the history, and is told as such
            mirror.apply(News(revision, [event(name, value, revision)]))
    for revision in (100, 101):
        record = records.drafted(draft("dam/a"), place=0, committed_at=1.0)
        mirror.apply(News(revision, [event(b"e/dam/a", record, revision)]))
    assert [entry.revision for entry in entries(mirror.contents)] == [101 * PLACES]
    assert mirror.contents.floor <= mirror.head
    told = [entry.revision for entry in mirror.contents.ledger.after(0, mirror.head)]
    assert told == sorted(set(told))


@settings(max_examples=100)
@given(STRANGE.map(lambda strange: [each for each in strange if each[0] not in (keys.EPOCHS, keys.FLOOR)]))
def test_what_a_start_finds(strange: list[tuple[bytes, bytes | None]]) -> None:
    """As when it was there before the process."""

    async def lives() -> None:
        etcd = ModelEtcd()
        client = ModelClient(etcd)
        for name, value in strange:
            etcd.txn([], [put(NAMES.named(name), value or b"")], [])
        record = records.drafted(draft("dam/a"), place=0, committed_at=1.0)
        etcd.txn([], [put(NAMES.named(b"e/dam/a"), record)], [])
        contents, *_ = await read_all(client, NAMES, SEAL, Ledger())
        assert [entry.revision for entry in entries(contents)] == [etcd.revision * PLACES]

    virtual_time.run(lives())


@pytest.mark.parametrize("name", [keys.EPOCHS, keys.BASE])
def test_a_start_says_that_it_is_somebody_elses(name: bytes) -> None:
    """Without these nothing can be counted, and nothing is written over what is there."""

    async def lives() -> None:
        etcd = ModelEtcd()
        etcd.txn([], [put(NAMES.named(keys.EPOCHS), epochs.begun(epochs.NONE))], [])
        etcd.txn([], [put(NAMES.named(name), b"\xff\xff")], [])
        with pytest.raises(StoreError, match=r"below /aw/ was not written by assetwatch: give another store\.prefix"):
            await beginning.begin(ModelClient(etcd), NAMES, SEAL)

    virtual_time.run(lives())
