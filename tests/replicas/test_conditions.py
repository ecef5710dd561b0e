"""How sources are doing, as it is told to all."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from assetwatchd.changefeed.store.etcd.keys import Keys
from assetwatchd.model.values import Condition, ConditionState
from assetwatchd.replicas.conditions import Conditions
from support import virtual_time
from support.model_etcd import ModelClient, ModelEtcd
from support.owning import owning

pytestmark = pytest.mark.unit

PREFIX = "/aw/"
DEGRADED = Condition(ConditionState.DEGRADED, "etcd has no space", 1.0)


def test_that_nothing_can_be_kept_is_told_though_it_cannot_be_kept() -> None:
    """Whoever watches at the owner is told at once, and once; all are when etcd takes it."""

    async def lives() -> None:
        etcd, told = ModelEtcd(), []
        client = ModelClient(etcd)
        async with owning(client, PREFIX, "one") as store:
            terms = cast("Any", store.terms)
            await store.mirror.reached(etcd.revision)
            conditions = Conditions(
                ["one"], Keys(PREFIX), client, store.mirror, terms, tell=lambda _, condition: told.append(condition)
            )
            store.mirror.subscribe(b"c/", conditions.take)
            client.fate = lambda: "full"
            writing = asyncio.create_task(conditions.write("one", terms.term("one"), DEGRADED))
            await asyncio.sleep(5)
            assert told == [DEGRADED]
            assert conditions.of("one") == DEGRADED
            client.fate = lambda: "done"
            await writing
            assert told == [DEGRADED]
            assert conditions.found("one") == DEGRADED

    virtual_time.run(lives())
