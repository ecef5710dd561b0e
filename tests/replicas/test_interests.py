"""What is watched here is what all know in the end, however etcd answers."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.etcd.client import CALL_S
from assetwatchd.etcd.operations import created
from assetwatchd.replicas import interests
from assetwatchd.replicas.interests import Interests
from assetwatchd.replicas.named import Named, decode
from assetwatchd.replicas.session import Session
from support import virtual_time
from support.model_etcd import ModelClient, ModelEtcd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.etcd.operations import Compare, Operation
    from assetwatchd.etcd.values import KeyValue, Outcome

pytestmark = pytest.mark.unit

PREFIX = "/t/"
SOURCES = ("one", "two", "three")
QUIET_S = 5.0
FATES = ("done", "done", "lost", "late", "unanswered")


class Always(Session):
    """A session that lasts; nothing is known of leases here."""

    lease = 7
    alive = True


class Unreliable(ModelClient):
    """Whatever it writes may end in any way."""

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        within_s: float = CALL_S,
    ) -> Outcome:
        """Do a transaction on a condition that holds, as those without any are always done."""
        return await super().txn([*compare, created(b"never", 0)], success, failure, within_s=within_s)


class Here(NamedTuple):
    """One process that tells what is watched there."""

    etcd: ModelEtcd
    named: dict[str, Named]
    interests: Interests

    def told(self) -> dict[str, set[str]]:
        """What etcd has."""
        told: dict[str, set[str]] = {source: set() for source in SOURCES}
        for key in self.etcd.keys.values():
            _, source, *_ = key.key.decode().removeprefix(PREFIX).split("/")
            told[source] |= set(decode(key.value))
        return told


def made(etcd: ModelEtcd, fate: Callable[[], str]) -> Here:
    """Make one, whose calls end as they are told to."""
    client = Unreliable(etcd, fate=fate, delay_s=lambda: 0.01)
    told = Interests(Keys(PREFIX), client, Always(client, 5), "me.1")
    named = {source: Named(source, assets_max=100_000) for source in SOURCES}
    for source, each in named.items():
        told.add(source, each, lambda *_: None)
    return Here(etcd, named, told)


async def heard(here: Here) -> None:
    """Let the process hear what became so, as its mirror has it told."""
    known: dict[bytes, KeyValue] = {}
    while True:
        happened, now = here.etcd.happened, dict(here.etcd.keys)
        for key in now.keys() | known.keys():
            if now.get(key) != known.get(key):
                here.interests.take(key.removeprefix(PREFIX.encode()), now.get(key))
        known = now
        await happened.wait()


def test_nothing_of_many_is_forgotten_that_could_not_be_told_at_once() -> None:
    """More buckets than go into a transaction, and the first is not done: all of them are told in the next try."""

    async def lives() -> None:
        fates = iter(["lost"])
        here = made(ModelEtcd(), lambda: next(fates, "done"))
        running = asyncio.create_task(here.interests.run())
        many = {str(number) for number in range(1000)}
        for named in here.named.values():
            named.begin(list(many))
        assert sum(len(named.dirty) for named in here.named.values()) > interests.OPERATIONS_MAX
        here.interests.changed()
        await asyncio.sleep(QUIET_S)
        assert here.told() == dict.fromkeys(SOURCES, many)
        running.cancel()

    virtual_time.run(lives())


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.lists(st.sampled_from("ab"), min_size=2, max_size=12))
def test_what_is_told_in_the_end_is_what_is_watched(seed: int, names: Sequence[str]) -> None:
    """Whatever comes late, twice or not at all: once it is quiet, etcd has what is named here, and nothing older."""
    rng = random.Random(seed)  # noqa: S311 - a run can be repeated

    async def lives() -> None:
        quiet = False
        here = made(ModelEtcd(), lambda: "done" if quiet else rng.choice(FATES))
        tasks = [asyncio.create_task(here.interests.run()), asyncio.create_task(heard(here))]
        watched: dict[str, set[str]] = {source: set() for source in SOURCES}
        for name in names:
            source = rng.choice(SOURCES[:2])
            (here.named[source].end if name in watched[source] else here.named[source].begin)([name])
            watched[source] ^= {name}
            here.interests.changed()
            await asyncio.sleep(rng.uniform(0, 0.3))
        quiet = True
        await asyncio.sleep(QUIET_S)
        assert here.told() == watched
        for task in tasks:
            task.cancel()

    virtual_time.run(lives())
