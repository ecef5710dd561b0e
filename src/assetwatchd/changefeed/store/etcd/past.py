"""Whether what was read from etcd is still the past of what it has.

etcd's data may be put back to what they were a while ago. Then revisions are counted a second time, and a mirror that
went on would show what never happened, or miss what did. A mirror is a holder of a token like any client: of its epoch,
up to its head. And etcd can be asked for what it had at the mirror's revision, for as long as it keeps its history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.etcd.operations import get, get_prefix
from assetwatchd.model.errors import HistoryBroken

if TYPE_CHECKING:
    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.etcd.client import EtcdClient

COMPARED = (b"c/", b"f/", b"m/", b"o/", b"r/", b"w/")
"""Every commit writes one of the last; all of them are few, and small."""


async def check_then(client: EtcdClient, names: Keys, mirror: Mirror) -> None:
    """Compare the mirror with what etcd had at its revision.

    Raises: HistoryBroken; Compacted when that is not kept, and all is to be read anew; EtcdError.
    """
    revision = mirror.revision
    asked = [get_prefix(names.named(prefix), revision=revision) for prefix in COMPARED]
    answer = await client.txn((), asked)
    found = {names.name(key.key): key for some in answer.found for key in some}
    known = {name: key for name, key in mirror.contents.others.items() if name.startswith(COMPARED)}
    if differing := sorted(name for name in found.keys() | known.keys() if found.get(name) != known.get(name)):
        raise HistoryBroken(f"at revision {revision} it had another {differing[0].decode(errors='replace')}")


async def check_now(client: EtcdClient, names: Keys, mirror: Mirror, cluster: int) -> None:
    """Compare the mirror, read from that cluster, with what etcd has now. Raises: HistoryBroken; EtcdError."""
    answer = await client.txn((), (get(names.named(keys.EPOCHS)),))
    if answer.cluster != cluster:
        raise HistoryBroken(f"it is another cluster, {answer.cluster:x} and not {cluster:x}")
    if answer.revision < mirror.revision:
        raise HistoryBroken(f"its revision is {answer.revision}, and {mirror.revision} was read")
    written = answer.one(0)
    if written is None:
        raise HistoryBroken("it knows no epochs any more")
    contents = mirror.contents
    try:
        known = epochs.read(written.value, written.modified, contents.base)
    except ValueError:
        raise HistoryBroken("what it has as its epochs was written by somebody else") from None
    if not known.continues(contents.epochs.current, mirror.head):
        raise HistoryBroken(f"its epoch {contents.epochs.current} ended before what was read in it")
