"""A client of the etcd of all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.etcd import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatch_sandbox.etcd import Cluster
    from assetwatchd.etcd.client import EtcdClient


@pytest.fixture
async def client(etcd: Cluster) -> AsyncIterator[EtcdClient]:
    """A client."""
    async with client_of(*etcd.endpoints) as client:
        yield client
