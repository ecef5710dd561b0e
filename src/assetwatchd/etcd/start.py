"""The client of a process that starts: etcd may start beside it, and is looked at before anything is kept in it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from assetwatchd.etcd.checks import check
from assetwatchd.etcd.client import EtcdClient
from assetwatchd.etcd.connection import access_of
from assetwatchd.etcd.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.settings.schema import EtcdStoreSettings

START_S = 30.0
"""A cluster that starts at the same time may take this long: a process that ends is started again later and later."""
AGAIN_S = 0.5
log = logging.getLogger(__name__)


async def connect(settings: EtcdStoreSettings) -> EtcdClient:
    """Return a client of a cluster that is fit, once it answers.

    Raises: Unfit, with every reason; OutcomeUnknown when nobody answered for START_S; other EtcdErrors.
    """
    client = EtcdClient(access_of(settings))
    try:
        for warning in await _waited_for(client, settings):
            log.warning("%s", warning)
    except BaseException:
        await client.close()
        raise
    return client


async def looked_at(client: EtcdClient, settings: EtcdStoreSettings) -> Sequence[str]:
    """Return what is to be said of a cluster that is fit for these settings. Raises: as check."""
    return await check(client, settings.prefix.encode(), compacting=settings.compact, lease_s=settings.lease_s)


async def _waited_for(client: EtcdClient, settings: EtcdStoreSettings) -> Sequence[str]:
    until = time.monotonic() + START_S
    told = False
    while True:
        try:
            return await looked_at(client, settings)
        except OutcomeUnknown as error:
            if time.monotonic() > until:
                raise
            if not told:
                log.warning("etcd does not answer yet: %s", error)
                told = True
        await asyncio.sleep(AGAIN_S)
