"""A client for assetwatch that keeps a watch alive: it resumes by itself, and keeps the map of what is watched.

async with connect("127.0.0.1:50051") as channel:
    watch = Watch(channel, sources=["dam"])
    async for event in watch.events():
        match event:
            case Upsert(key, status): ...
            case Removed(key): ...
            case Synced(): ...  # watch.statuses is all that is known; of watch.incomplete more follows

A watch needs no looking after: see `Watch` for what it does about breaks, and `Backoff` for how long it pauses. So it
is with `wait`, for one asset and one moment.
"""

from __future__ import annotations

from assetwatch_client.actions import Action, action_for, details_of, packed_details, reason_of, retry_delay_s
from assetwatch_client.channel import CHANNEL_OPTIONS, connect
from assetwatch_client.servers import Servers, connect_any
from assetwatch_client.unexplained import UNEXPLAINED_MAX, Unexplained
from assetwatch_client.view import ConditionChanged, Event, Key, Removed, Synced, Upsert, View
from assetwatch_client.wait import wait
from assetwatch_client.watch import Backoff, Watch

__all__ = [
    "CHANNEL_OPTIONS",
    "UNEXPLAINED_MAX",
    "Action",
    "Backoff",
    "ConditionChanged",
    "Event",
    "Key",
    "Removed",
    "Servers",
    "Synced",
    "Unexplained",
    "Upsert",
    "View",
    "Watch",
    "action_for",
    "connect",
    "connect_any",
    "details_of",
    "packed_details",
    "reason_of",
    "retry_delay_s",
    "wait",
]
