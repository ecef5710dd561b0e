"""Drafts, entries and framing for tests of the core: no protobuf, and every message can be read back."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.store.port import Draft
from assetwatchd.model.values import GONE, AssetKey, Freshness, State, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from assetwatchd.model.values import Entry

UPSERT, REMOVED = 1, 2


class Change(NamedTuple):
    """One change as a watcher reads it. detailed: it has a pad, which the view BASIC leaves out."""

    removed: bool
    key: AssetKey
    revision: int
    state: State
    detailed: bool


class Message(NamedTuple):
    """One message with changes, read back."""

    changes: list[Change]
    revision: int
    head: int
    digest: bytes


def draft(
    name: str,
    state: State = State.AVAILABLE,
    *,
    gone: bool | None = None,
    at: float = 0.0,
    pad_bytes: int = 0,
    freshness: Freshness = Freshness.FRESH,
    traceparent: str = "",
) -> Draft:
    """Draft a change of SOURCE/ASSET_ID; gone follows from the state unless it is given."""
    key = AssetKey(*name.split("/", 1))
    content = json.dumps([*key, state, "x" * pad_bytes]).encode()
    return Draft(
        key=key,
        state=state,
        gone=state in GONE if gone is None else gone,
        freshness=freshness,
        digest=hashlib.blake2b(repr((key, state, freshness)).encode(), digest_size=16).digest(),
        found_at=at,
        traceparent=traceparent,
        seal=seal(content, observed_at=at, traceparent=traceparent),
        content=content,
        sealed_at=at,
    )


def seal(content: bytes, *, observed_at: float, traceparent: str) -> Callable[[int], bytes]:
    """Return a function that makes the change as `read` has it, of the content of a draft."""
    source, asset_id, state, pad = json.loads(content)

    def sealed(revision: int) -> bytes:
        text = json.dumps([source, asset_id, revision, state, pad])  # its control characters are escaped
        return text.encode() + bytes([UPSERT])

    return sealed


def entry(
    name: str, revision: int, state: State = State.AVAILABLE, *, gone: bool | None = None, at: float = 0.0
) -> Entry:
    """Make an entry as a store would number it."""
    return draft(name, state, gone=gone, at=at).entry(revision, committed_at=at)


class Framing:
    """Both forms of a change, and messages, as the hub wants them."""

    def basic(self, upsert: bytes) -> bytes:
        """Return the change without its pad."""
        key_and_state = json.loads(upsert[:-1])[:-1]
        return json.dumps([*key_and_state, ""]).encode() + upsert[-1:]

    def removal(self, upsert: bytes) -> bytes:
        """Return the other form."""
        return upsert[:-1] + bytes([REMOVED])

    def message(self, changes: Sequence[bytes], *, revision: int, head: int, digest: bytes) -> bytes:
        """Join changes."""
        return b"".join(changes) + json.dumps([revision, head, digest.hex()]).encode()


FRAMING = Framing()


def read(message: bytes) -> Message:
    """Take a message apart."""
    changes: list[Change] = []
    start = 0
    for index, byte in enumerate(message):
        if byte in (UPSERT, REMOVED):
            source, asset_id, revision, state, pad = json.loads(message[start:index])
            changes.append(Change(byte == REMOVED, AssetKey(source, asset_id), revision, State(state), bool(pad)))
            start = index + 1
    revision, head, digest = json.loads(message[start:])
    return Message(changes, revision, head, bytes.fromhex(digest))


def asking(
    *,
    names: Iterable[str] = (),
    sources: Iterable[str] = (),
    states: Iterable[State] = (),
    prefix: str = "",
    view: View = View.FULL,
) -> Filter:
    """Build a filter from SOURCE/ASSET_IDs, whole sources, states, a prefix and a view."""
    keys = frozenset(AssetKey(*name.split("/", 1)) for name in names)
    return Filter(keys, frozenset(sources), frozenset(states), prefix, view)
