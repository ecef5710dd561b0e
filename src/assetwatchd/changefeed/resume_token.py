"""Resume tokens: where a stream was, for which filter, in which epoch. Pure; a token grants nothing.

A token means: every matching change up to its revision was delivered, or superseded by a later one still to come.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import TYPE_CHECKING

from assetwatchd.changefeed.filters import DIGEST_BYTES
from assetwatchd.model.errors import ResumeEpochChanged, ResumeFilterMismatch, ResumeTokenInvalid

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.port import Store

VERSION = 1
CHECKSUM_BYTES = 4
_BODY = struct.Struct(f">B8sQ{DIGEST_BYTES}s")
_LENGTH = _BODY.size + CHECKSUM_BYTES


def encode(*, epoch: str, revision: int, digest: bytes) -> str:
    """Write a token: version, epoch, revision, filter digest, checksum; URL-safe base64 without padding."""
    body = _BODY.pack(VERSION, bytes.fromhex(epoch), revision, digest)
    return _armour(body + _checksum(body))


def check(token: str, *, digest: bytes, store: Store) -> int:
    """Return the revision to go on after.

    A revision above the store's head is returned as it is: the caller waits for it, a bounded time. Whether what came
    after it is still known whole is not looked at here: that changes with time, and is checked where the changes are
    read (`batches.check_floor`). A page of a list, which needs no removals, is never refused for that.
    Raises: ResumeTokenInvalid, ResumeEpochChanged, ResumeFilterMismatch.
    """
    epoch, revision, token_digest = _decode(token)
    if token_digest != digest:
        raise ResumeFilterMismatch(
            "the resume token is of a request for other assets, sources or states, or with another prefix or view;"
            " ask for the same, or send no token"
        )
    if not store.continues(epoch, revision):
        raise ResumeEpochChanged("the resume token is of another store; watch again without it", epoch=store.epoch)
    return revision


def _decode(token: str) -> tuple[str, int, bytes]:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    body, checksum = raw[: _BODY.size], raw[_BODY.size :]
    whole = len(raw) == _LENGTH and checksum == _checksum(body) and body[0] == VERSION
    if not whole or _armour(raw) != token:  # one token is written in one way
        raise ResumeTokenInvalid(
            "this is no resume token of this service; send the last one that came, unaltered, or none"
        )
    _, epoch, revision, digest = _BODY.unpack(body)
    return epoch.hex(), revision, digest


def _armour(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES).digest()
