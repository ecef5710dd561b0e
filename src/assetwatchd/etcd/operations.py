"""What a transaction is made of: comparisons of a key, and operations on one."""

from __future__ import annotations

from typing import TypeAlias

from assetwatch_etcd import etcd_pb2 as pb

Compare: TypeAlias = pb.Compare
Operation: TypeAlias = pb.RequestOp
"""Made here and passed on; nobody else looks into them."""


def created(key: bytes, revision: int) -> Compare:
    """Compare: the key was created at that revision; 0, it is not there."""
    return pb.Compare(key=key, target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=revision)


def modified(key: bytes, revision: int) -> Compare:
    """Compare: the key was last changed at that revision; 0, it is not there."""
    return pb.Compare(key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=revision)


def holds(key: bytes, value: bytes) -> Compare:
    """Compare: the key is there and has that value."""
    return pb.Compare(key=key, target=pb.Compare.VALUE, result=pb.Compare.EQUAL, value=value)


def put(key: bytes, value: bytes, *, lease: int = 0) -> Operation:
    """Write a key; with a lease it hangs on that. A transaction may write a key once."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> Operation:
    """Read a key."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))


def get_prefix(prefix: bytes, *, limit: int = 0, revision: int = 0) -> Operation:
    """Read all keys that begin so, with a limit the first; with a revision as they were then, if that is kept."""
    wanted = pb.RangeRequest(key=prefix, range_end=behind(prefix), limit=limit, revision=revision)
    return pb.RequestOp(request_range=wanted)


def delete(key: bytes) -> Operation:
    """Delete a key, if it is there."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def delete_prefix(prefix: bytes) -> Operation:
    """Delete all keys that begin so."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=prefix, range_end=behind(prefix)))


def size(operation: Operation) -> int:
    """Return how many bytes an operation is of what a request may have."""
    return operation.ByteSize() + ENVELOPE_BYTES


ENVELOPE_BYTES = 6
"""Around an operation in its transaction: a tag, and the length of what is less than 2 GiB."""


def behind(prefix: bytes) -> bytes:
    """Return the first key that is behind all that begin so. Raises: ValueError where there may be none."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        raise ValueError("a prefix should have a byte other than 0xff")
    return stem[:-1] + bytes([stem[-1] + 1])
