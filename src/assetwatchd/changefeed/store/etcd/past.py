"""Whether what was read from etcd is still the past of what it has. Pure.

etcd's data may be put back to what they were a while ago. Then revisions are counted a second time, and a mirror that
went on would show what never happened, or miss what did. A mirror is a holder of a token like any client: of its epoch,
up to its head. And of each source it knows which commit was the last, which nothing but a later commit replaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.changefeed.store.etcd import epochs, keys
from assetwatchd.etcd.operations import get, get_prefix
from assetwatchd.model.errors import HistoryBroken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from assetwatchd.changefeed.store.etcd.keys import Keys
    from assetwatchd.changefeed.store.etcd.mirror import Mirror
    from assetwatchd.etcd.operations import Operation
    from assetwatchd.etcd.values import KeyValue, Outcome


def questions(names: Keys) -> Sequence[Operation]:
    """Return what is to be read, in one transaction, for `check`."""
    return [get(names.named(keys.EPOCHS)), get_prefix(names.named(b"w/"))]


def check(names: Keys, mirror: Mirror, cluster: int, answer: Outcome) -> None:
    """Raises: HistoryBroken unless the mirror, read from that cluster, is the past of what was answered."""
    if why := next(_breaks(names, mirror, cluster, answer), None):
        raise HistoryBroken(why)


def _breaks(names: Keys, mirror: Mirror, cluster: int, answer: Outcome) -> Iterator[str]:
    if answer.cluster != cluster:
        yield f"it is another cluster, {answer.cluster:x} and not {cluster:x}"
    if answer.revision < mirror.revision:
        yield f"its revision is {answer.revision}, and {mirror.revision} was read"
    written = answer.one(0)
    if written is None:
        yield "it knows no epochs any more"
        return
    contents = mirror.contents
    if not epochs.read(written.value, written.modified, contents.base).continues(contents.epochs.current, mirror.head):
        yield f"its epoch {contents.epochs.current} ended before what was read in it"
    found = {names.name(key.key): key for key in answer.found[1]}
    known = {name: key for name, key in contents.others.items() if name.startswith(b"w/")}
    yield from _other_commits(found, known, mirror.revision)


def _other_commits(found: dict[bytes, KeyValue], known: dict[bytes, KeyValue], upto: int) -> Iterator[str]:
    """Yield sources whose last commit up to a revision is not the one that is known, unless a later one followed."""
    for name in found.keys() | known.keys():
        key = found.get(name)
        if key != known.get(name) and (key is None or key.modified <= upto):
            yield f"the last commit of source {name[2:].decode(errors='replace')} up to revision {upto} is another one"
