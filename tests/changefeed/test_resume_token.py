"""Resume tokens: what was issued is accepted, whatever else is refused with its reason, and nothing else is raised."""

from __future__ import annotations

import base64
import math
import random
import string
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed import resume_token
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.errors import (
    CallError,
    ResumeEpochChanged,
    ResumeFilterMismatch,
    ResumeTokenExpired,
    ResumeTokenInvalid,
)
from assetwatchd.model.values import State
from support.entries import asking, draft
from support.resuming import resumed_from

pytestmark = pytest.mark.unit

EPOCH = "0123456789abcdef"
DIGEST = asking(sources=["dam"]).digest


def a_store(*, head: int = 100, floor: int = 0) -> MemoryStore:
    store = MemoryStore()
    store.epoch, store.head, store.floor = EPOCH, head, floor
    return store


def token(revision: int = 50, *, epoch: str = EPOCH, digest: bytes = DIGEST) -> str:
    return resume_token.encode(epoch=epoch, revision=revision, digest=digest)


def accepted(text: str) -> bool:
    try:
        resume_token.check(text, digest=DIGEST, store=a_store())
    except ResumeTokenInvalid:
        return False
    return True


@given(
    st.integers(0, 2**64 - 1), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8), st.integers(0, 99)
)
@settings(deadline=None, derandomize=True)
def test_round_trip(revision: int, epoch: bytes, digest: bytes, head: int) -> None:
    """A token gives back its revision, whatever its revision, epoch and filter; also ahead of the store."""
    store = a_store(head=head)
    store.epoch = epoch.hex()
    text = resume_token.encode(epoch=store.epoch, revision=revision, digest=digest)
    assert resume_token.check(text, digest=digest, store=store) == revision


def test_tokens_are_url_safe_and_short() -> None:
    """A token can stand in a URL, a shell or a header as it is, and is below the schema's limit of 256."""
    allowed = set(string.ascii_letters + string.digits + "-_")
    for revision in (0, 1, 2**31, 2**64 - 1):
        assert set(token(revision)) <= allowed
        assert len(token(revision)) < 64


def test_every_flipped_bit_is_noticed() -> None:
    """A token with any one bit altered, of its bytes or of its text, is refused as invalid."""
    padded = token() + "=" * (-len(token()) % 4)
    raw = base64.urlsafe_b64decode(padded)
    for bit in range(len(raw) * 8):
        altered = bytearray(raw)
        altered[bit // 8] ^= 1 << bit % 8
        assert not accepted(base64.urlsafe_b64encode(bytes(altered)).rstrip(b"=").decode()), bit
    for bit in range(len(token()) * 8):
        text = bytearray(token().encode())
        text[bit // 8] ^= 1 << bit % 8
        assert not accepted(text.decode("latin-1")), bit


def test_truncated_and_extended_tokens_are_refused() -> None:
    """Any part of a token, and any text around one, is invalid."""
    for length in range(len(token())):
        assert not accepted(token()[:length])
        assert not accepted(token()[length + 1 :])
    for around in ("A", "=", "==", " ", "\n", "\0", token()):
        assert not accepted(token() + around)
        assert not accepted(around + token())


def test_other_ways_to_write_the_same_bytes_are_refused() -> None:
    """One token is written in one way: standard base64, padding and stray last bits are invalid."""
    for revision in range(500):
        text = token(revision)
        for other in (text + "=" * (-len(text) % 4), text.replace("-", "+").replace("_", "/")):
            assert accepted(other) == (other == text)
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    stray = {token()[:-1] + last for last in alphabet} - {token()}
    assert not any(accepted(text) for text in stray)


def test_another_version_is_refused() -> None:
    """A token of another version is invalid even when its checksum fits."""
    for version in (0, resume_token.VERSION + 1, 255):
        body = struct.pack(">B8sQ8s", version, bytes.fromhex(EPOCH), 50, DIGEST)
        whole = body + resume_token._checksum(body)
        assert not accepted(base64.urlsafe_b64encode(whole).rstrip(b"=").decode())


def test_another_filter_is_refused() -> None:
    """A token is good with the very filter it was issued for, also when that has the same assets in other states."""
    for other in (asking(sources=["usd"]), asking(sources=["dam"], states=[State.FAILED]), asking(names=["dam/a"])):
        with pytest.raises(ResumeFilterMismatch):
            resume_token.check(token(), digest=other.digest, store=a_store())


def test_another_epoch_is_refused() -> None:
    """Revisions of another store are not compared; the error tells the store's own epoch."""
    with pytest.raises(ResumeEpochChanged) as error:
        resume_token.check(token(epoch="f" * 16), digest=DIGEST, store=a_store())
    assert error.value.metadata == {"epoch": EPOCH}


def test_the_floor() -> None:
    """Below the floor removals are forgotten: refused with the figures. At the floor they are all known."""
    store = a_store(head=100, floor=50)
    with pytest.raises(ResumeTokenExpired) as error:
        resumed_from(token(49), digest=DIGEST, store=store)
    assert error.value.metadata == {"requested": "49", "oldest": "50", "current": "100"}
    assert resumed_from(token(50), digest=DIGEST, store=store) == 50


def test_a_page_of_a_list_goes_on_from_below_the_floor() -> None:
    """Where removals do not matter the floor does not either."""
    assert resume_token.check(token(1), digest=DIGEST, store=a_store(floor=50)) == 1


def test_random_texts_are_invalid_and_nothing_worse() -> None:
    """10,000 random strings, of every length the schema lets through, raise ResumeTokenInvalid and nothing else."""
    source = random.Random(13)  # noqa: S311 - the same strings in every run
    alphabets = (string.ascii_letters + string.digits + "-_", string.printable, "\0=é€\U0001f6d2\ud800AB-_")
    for number in range(10_000):
        alphabet = alphabets[number % len(alphabets)]
        text = "".join(source.choices(alphabet, k=source.randrange(257)))
        with pytest.raises(ResumeTokenInvalid):
            resume_token.check(text, digest=DIGEST, store=a_store())


def test_errors_show_no_token() -> None:
    """What a caller sent is not repeated to it."""
    with pytest.raises(CallError) as error:
        resume_token.check("SECRET" + token(), digest=DIGEST, store=a_store())
    assert "SECRET" not in str(error.value)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), max_size=30))
@settings(deadline=None, derandomize=True)
async def test_a_token_just_issued_is_always_accepted(steps: list[tuple[str, bool, bool]]) -> None:
    """Whatever was committed and dropped before, a token for the head of now can be resumed from."""
    store = MemoryStore()
    for name, deleted, sweep in steps:
        await store.commit([draft(f"dam/{name}", State.DELETED if deleted else State.AVAILABLE)])
        if sweep:
            await store.drop_gone(before=math.inf, keep=lambda _: False)
        issued = resume_token.encode(epoch=store.epoch, revision=store.head, digest=DIGEST)
        assert resumed_from(issued, digest=DIGEST, store=store) == store.head
