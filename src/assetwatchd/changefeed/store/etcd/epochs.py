"""Which epochs there were, and up to which revision each counted. Pure; the same for all who share the store.

Every process that starts begins an epoch, and from then on all of them count in it: a token of an earlier one is good
up to where that ended. A copy of etcd's data that was put back knows nothing of the epochs that began after it, and the
one of then ends where the copy does: a token from after it is known for what it is. Where revisions were moved on as it
was put back (--bump-revision of etcdutl), nothing of ours was written in a million of them (`LEAP`).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

from assetwatch.internal.v1 import record_pb2 as pb
from google.protobuf.message import DecodeError

from assetwatchd.changefeed.store.etcd.keys import number

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCHS_MAX = 1000
"""Tokens from more starts ago are refused as of an unknown epoch."""


LEAP = 1_000_000
"""So many revisions of etcd without one of ours are no history of ours: a copy was put back, or nobody served."""


class Epochs(NamedTuple):
    """All that are known. ended: the last revision of each before the current one, the oldest first."""

    current: str
    ended: Mapping[str, int]

    def continues(self, epoch: str, revision: int) -> bool:
        """Tell whether what that epoch counted up to that revision is what was counted here."""
        return epoch == self.current or revision <= self.ended.get(epoch, -1)


NONE = Epochs("", {})


def read(value: bytes, modified: int, base: int) -> Epochs:
    """Read m/epochs as it was written at a revision of etcd. Raises: ValueError for what no process wrote."""
    try:
        message = pb.Epochs.FromString(value)
    except DecodeError as error:
        raise ValueError("no epochs") from error
    ended = {each.epoch: each.last for each in message.ended}
    if message.open:
        ended[message.open] = number(base, modified)
    return Epochs(message.current, ended)


def begun(before: Epochs, *, leapt_from: int | None = None) -> bytes:
    """Write m/epochs with a new current one; the last one ends at the revision of etcd at which this is written.

    leapt_from: it ended already, with that revision of entries, since those from there on are of nobody.
    """
    current = uuid.uuid4().hex[:16]
    if leapt_from is None or not before.current:
        return _written(before.ended, EPOCHS_MAX - 1, current=current, open=before.current)
    return _written({**before.ended, before.current: leapt_from}, EPOCHS_MAX, current=current)


def copied(ended: Mapping[str, int]) -> bytes:
    """Write m/epochs of a store that is a copy, in which nothing was counted yet."""
    return _written(ended, EPOCHS_MAX)


def _written(ended: Mapping[str, int], count: int, **begun: str) -> bytes:
    kept = list(ended.items())[-count:]
    return pb.Epochs(
        ended=[pb.Epochs.Ended(epoch=epoch, last=last) for epoch, last in kept], **begun
    ).SerializeToString()
