"""What replicas write for each other is read as it was written, by one of another version too."""

from __future__ import annotations

import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.etcd.values import KeyValue
from assetwatchd.model.errors import RetryTooSoon, SourceUnreachable, TooManyAssets, TooManyReads
from assetwatchd.model.values import (
    Concern,
    ConcernCondition,
    Condition,
    ConditionState,
    Facet,
    Failure,
    FailureKind,
    Observation,
    State,
)
from assetwatchd.replicas import messages, records
from assetwatchd.replicas.named import UNPACKED_BYTES_MAX, decode
from assetwatchd.replicas.records import Me, Owner, Presence

pytestmark = pytest.mark.unit

TEXT = st.text(max_size=20)
AT = st.floats(0, 2e9)
STATES = st.sampled_from(ConditionState)
CONCERNS = st.builds(ConcernCondition, st.sampled_from(Concern), STATES, TEXT, AT, st.none() | AT, st.none() | AT)
CONDITIONS = st.builds(
    Condition, STATES, TEXT, AT, st.none() | AT, st.none() | AT, st.lists(CONCERNS, max_size=5).map(tuple)
)
FACETS = st.builds(Facet, TEXT, st.sampled_from(State), TEXT, TEXT)
OBSERVATIONS = st.builds(
    Observation,
    TEXT,
    st.sampled_from(State),
    st.lists(FACETS, max_size=3).map(tuple),
    st.none() | st.builds(Failure, st.sampled_from(FailureKind), TEXT, TEXT),
)
ERRORS = st.one_of(
    st.builds(SourceUnreachable, st.just("src"), TEXT, retry_after_s=AT, asset_id=TEXT),
    st.builds(TooManyAssets, st.just("src"), st.integers(0, 10**9), caller=TEXT),
    st.builds(TooManyReads, st.just("src"), TEXT.filter(bool), st.integers(0, 10**9)),
    st.builds(RetryTooSoon, st.just("src"), retry_after_s=AT),
)


def kept(value: bytes, *, created: int = 7, lease: int = 9) -> KeyValue:
    """A key with a value."""
    return KeyValue(b"", value, created, created, lease)


@given(CONDITIONS)
def test_conditions(condition: Condition) -> None:
    """A condition goes through etcd whole."""
    assert records.read_condition(kept(records.write_condition(condition))) == condition


@given(CONDITIONS)
def test_a_condition_of_a_newer_version(condition: Condition) -> None:
    """Members that are not known are left out, and so are concerns of a number that is not known."""
    said = json.loads(records.write_condition(condition))
    said["new"] = 1
    said["concerns"].append({"state": 2, "message": "", "since": 0.0, "concern": 99})
    assert records.read_condition(kept(json.dumps(said).encode())) == condition


WRONG = [
    b"",
    b"{}",
    b"[]",
    b"nonsense",
    b"\xff",
    b"[" * 100_000,
    b'{"state": 99}',
    b'{"state": 2, "concerns": 5}',
    b'{"state": 2, "message": "", "since": "yesterday"}',
    b'{"state": 2, "message": "", "since": NaN}',
    b'{"state": 2, "message": "", "since": 1e300}',
    b'{"state": 2, "message": "", "since": 1, "next_try_at": []}',
]


@pytest.mark.parametrize("value", WRONG)
def test_what_no_replica_wrote(value: bytes) -> None:
    """It ends no process that reads it: it is an error that is known, or as good as nothing."""
    with pytest.raises(ValueError, match=r"."):
        records.read_condition(kept(value))
    assert records.read_owner(kept(value))[:3] == ("", "", "")
    assert records.read_presence(kept(value)) == Presence("", "", "", "")


@pytest.mark.parametrize(
    "value",
    [
        b"\0",
        b"nonsense",
        zlib.compress(b"{}"),
        zlib.compress(b"[1]"),
        zlib.compress(b"x"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'["a"]')[:-5],
    ],
)
def test_a_bucket_that_no_replica_wrote(value: bytes) -> None:
    """The same."""
    with pytest.raises(ValueError, match=r"."):
        decode(value)


def test_a_bucket_that_was_packed_to_fill_memories() -> None:
    """A hundred times as much as it may hold is not unpacked to see so."""
    bomb = zlib.compress(b"[" + b" " * (100 * UNPACKED_BYTES_MAX // 8) + b"]", 9)
    assert len(bomb) < UNPACKED_BYTES_MAX // 8
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too long"):
            decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * UNPACKED_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_watchers_that_nobody_can_have() -> None:
    """They are left out, as clients can be told no such number."""
    said = b'{"id": "a", "watchers": {"one": 1, "two": 1%s, "three": -1}}' % (b"0" * 30)
    assert records.read_presence(kept(said)).watchers == {"one": 1}


@given(TEXT, TEXT, TEXT, st.dictionaries(TEXT, st.integers(0, 10**6)))
def test_who_is_there_and_who_owns(identity: str, name: str, at: str, watchers: dict[str, int]) -> None:
    """Term and lease are those of the key."""
    owner = records.read_owner(kept(records.write_owner(Me(identity, name, at))))
    assert owner == Owner(identity, name, at, 7, 9)
    presence = Presence(identity, name, at, "0.2.0", watchers)
    assert records.read_presence(kept(records.write_presence(presence))) == presence


@given(OBSERVATIONS)
def test_observations(observation: Observation) -> None:
    """What is said of an asset that is not there is passed on."""
    assert messages.read_observation(messages.write_observation(observation)) == observation


@given(ERRORS)
def test_refusals(error: messages.Refused) -> None:
    """What the owner refuses with is what a client is told, to the letter."""
    told = messages.read_refusal("src", messages.write_refusal(error))
    assert type(told) is type(error)
    assert str(told) == str(error)
    assert told.metadata == error.metadata
    assert told.retry_after_s == error.retry_after_s
    assert getattr(told, "subject", None) == getattr(error, "subject", None)


def test_an_observation_of_a_newer_version() -> None:
    """Its state is not known here; that it is not there is."""
    said = messages.write_observation(Observation("a", State.DELETED, failure=Failure(FailureKind.PERMANENT, "", "")))
    said.state, said.failure.kind = 99, 99
    assert messages.read_observation(said).state is State.UNKNOWN


def test_a_refusal_of_a_newer_version() -> None:
    """Its reason is not known here, so the source could not be read."""
    refusal = messages.write_refusal(RetryTooSoon("src", retry_after_s=1))
    refusal.reason = "NEW"
    assert isinstance(messages.read_refusal("src", refusal), SourceUnreachable)
