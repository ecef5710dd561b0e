"""Whether a cluster is fit to be a store: what it is asked at the start, and what that must come to.

etcd tells its version, quota and alarms. What it takes in a transaction is tried out. Whether it compacts its history
by itself it does not tell, so the history is looked at: a long one in a database that fills means that nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.etcd.errors import Compacted, EtcdError, EtcdRefused, OutcomeUnknown, PermissionDenied, TooLarge
from assetwatchd.etcd.operations import created, put
from assetwatchd.etcd.values import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from assetwatchd.etcd.client import EtcdClient
    from assetwatchd.etcd.values import Alarm

VERSION_LEAST = (3, 6)
"""Before, a watch could lose deletions around a compaction (etcd #18089, #19179)."""
OPERATIONS = 128
"""Of a transaction: etcd's own default. What is written has fewer."""
TRANSACTION_BYTES = 1_500_000
"""About etcd's default of 1.5 MiB. What is written has less."""
HISTORY_MAX = 1_000_000
"""Revisions that are kept: at some hundred a second those of an hour or two, which etcd is often told to keep."""
FULL = 0.5
"""Of the quota: so full, a history longer than that is on its way to stop everything."""
ROOM_BYTES = 10 * TRANSACTION_BYTES
NEARLY_FULL = 0.8
"""Of the quota: so full, it is said."""


class Unfit(EtcdRefused):
    """The cluster cannot be the store; the text has every reason, a line each."""


class History(NamedTuple):
    """The revision of now, and up to which one it was compacted; 0, never was."""

    revision: int
    compacted: int

    @property
    def length(self) -> int:
        """How many revisions are kept."""
        return self.revision - self.compacted


async def check(client: EtcdClient, prefix: bytes, *, compacting: bool, lease_s: int = 0) -> Sequence[str]:
    """Return what a start should say of a cluster that is fit.

    compacting: its history is compacted by us. lease_s: a lease that is to be had; 0 for none.

    Raises: Unfit; OutcomeUnknown when nobody answers; other EtcdErrors when it refuses to be asked.
    """
    statuses = await client.statuses()
    known = {endpoint: status for endpoint, status in statuses.items() if isinstance(status, Status)}
    if not known:
        raise next(error for error in statuses.values() if isinstance(error, EtcdError))
    history = await history_of(client, prefix)
    problems = [
        *_old(known),
        *_alarmed(await client.alarms()),
        *(await _may_not_compact(client) if compacting else _uncompacted(known, history)),
        *(await _too_small(client, prefix) if all(map(_has_room, known.values())) else []),
    ]
    if problems:
        raise Unfit("\n".join(problems))
    return [
        *_missing(statuses),
        *_filling(known),
        *(await _longer_lease(client, lease_s) if lease_s else []),
        *([] if compacting or history.compacted else [NEVER_COMPACTED]),
    ]


NEVER_COMPACTED = (
    "etcd's history was never compacted; if that goes on its database will fill: see that etcd has"
    " --auto-compaction-retention, or set store.compact to true"
)


async def history_of(client: EtcdClient, prefix: bytes) -> History:
    """Return how far the history goes back, asking about keys below a prefix alone. Raises: EtcdError."""
    now = (await client.get(prefix)).revision
    try:
        await client.get(prefix, revision=1)
        return History(now, 0)
    except Compacted:
        return History(now, await _compacted(client, prefix))


async def _compacted(client: EtcdClient, prefix: bytes) -> int:
    """Return up to where a history was compacted that is known to be: a watch from its beginning is told."""
    try:
        async with client.watch(prefix + b"never", from_revision=1) as watch:
            await watch.read()
    except Compacted as error:
        return error.revision
    raise OutcomeUnknown("etcd told news of a key that cannot be there", detail=client.endpoint)


def _old(known: Mapping[str, Status]) -> Iterator[str]:
    for endpoint, status in known.items():
        if status.version < VERSION_LEAST:
            told, least = (".".join(map(str, version)) for version in (status.version, VERSION_LEAST))
            yield f"etcd at {endpoint} is of version {told}; {least} or newer is needed"


def _alarmed(alarms: Sequence[Alarm]) -> Iterator[str]:
    for alarm in alarms:
        yield f"etcd's member {alarm.member:x} has the alarm {alarm.kind}; mend what it is about, then disarm it"


def _uncompacted(known: Mapping[str, Status], history: History) -> Iterator[str]:
    fullest = max(map(_share, known.values()))
    if history.length > HISTORY_MAX and fullest > FULL:
        yield (
            f"etcd keeps a history of {history.length:,} revisions, and its database is at {fullest:.0%} of its quota:"
            " nothing compacts it. Give etcd --auto-compaction-retention, or set store.compact to true"
        )


async def _may_not_compact(client: EtcdClient) -> Sequence[str]:
    """Try it on a revision before the first, behind which there is nothing to lose."""
    try:
        await client.compact(1)
    except Compacted:
        pass
    except PermissionDenied:
        return ["store.compact needs an etcd user with the role root: etcd lets nobody else compact its history"]
    return []


def _missing(statuses: Mapping[str, Status | EtcdError]) -> Iterator[str]:
    for endpoint, error in statuses.items():
        if isinstance(error, EtcdError):
            yield f"etcd does not answer at {endpoint}: {error.told}"


def _filling(known: Mapping[str, Status]) -> Iterator[str]:
    for endpoint, status in known.items():
        if (share := _share(status)) > NEARLY_FULL:
            yield (
                f"the database of etcd at {endpoint} is at {share:.0%} of its quota; at 100% nothing is written:"
                " compact and defragment it, or raise --quota-backend-bytes"
            )


async def _longer_lease(client: EtcdClient, lease_s: int) -> Sequence[str]:
    """Ask for a lease, and give it back: etcd has a least time, of one and a half elections."""
    lease = await client.grant(lease_s)
    await client.revoke(lease.id)
    if lease.ttl_s <= lease_s:
        return []
    what = f"etcd gives no lease shorter than {lease.ttl_s} s, where store.lease_s is {lease_s}"
    return [f"{what}: others take over so much later from a replica that is gone; see --election-timeout"]


def _has_room(status: Status) -> bool:
    """Whether a transaction can be tried: one that finds no room sets off the alarm, though it would do nothing."""
    return status.quota_bytes - status.size_bytes > ROOM_BYTES


def _share(status: Status) -> float:
    return status.size_bytes / status.quota_bytes if status.quota_bytes else 0.0


async def _too_small(client: EtcdClient, prefix: bytes) -> Sequence[str]:
    """Try transactions as large as ours may be. They are about a key that cannot be there, and so do nothing."""
    many = [put(prefix + b"never/%d" % number, b"") for number in range(OPERATIONS)]
    large = [put(prefix + b"never", bytes(TRANSACTION_BYTES - 1000))]
    found = []
    for operations in (many, large):
        try:
            await client.txn([created(prefix + b"never", NEVER)], operations)
        except TooLarge as error:
            found.append(f"{error.told}; its defaults are needed, {OPERATIONS} operations and 1.5 MiB")
    return found


NEVER = 2**62
"""A revision that no store comes to."""
