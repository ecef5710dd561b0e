"""Pieces OS: assets read one by one over HTTP, changes pushed over a WebSocket.

Source: the vendor's clients (Python 5.0.1, TypeScript 4.1.0) and open-source programs that use the API. There is no
field for a state: it is derived from presence, a tombstone and timestamps. How the server is reached, and how its lists
and frames are read, is the client's (`pieces/client`); what they mean for a state is said here.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING

from assetwatchd.model.bounds import VALUES_MAX
from assetwatchd.model.details import PiecesDetail, PiecesFormat
from assetwatchd.model.errors import AssetRejected, BadAnswer
from assetwatchd.model.values import Facet, Observation, State
from assetwatchd.pieces.client import frames, paths
from assetwatchd.pieces.client.doubts import Doubted
from assetwatchd.pieces.client.server import PiecesServer
from assetwatchd.pieces.client.statuses import GONE, OK, undocumented
from assetwatchd.runtime.slices import slices
from assetwatchd.upstream import logins
from assetwatchd.upstream.answers import NOTHING_KNOWN, unless_known
from assetwatchd.upstream.bodies import jsonbody, lenient
from assetwatchd.upstream.bodies.lenient import Members
from assetwatchd.upstream.port import Capabilities, Listed, Notice, Removed, Touched, listed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from datetime import datetime

    from assetwatchd.pieces.client.frames import Frame, Item
    from assetwatchd.settings.schema import PiecesSource
    from assetwatchd.upstream.answers import Answer, Known
    from assetwatchd.upstream.http.transport import Reply

# 1. Facts -------------------------------------------------------------------------------------------------------------

WITHOUT_CONTENT = paths.query({"transferables": False})

LOCAL, CLOUD = "local", "cloud"
UUID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""In lower case alone, so that one asset has one id here, though upper case means nothing in a UUID (RFC 9562, 4)."""
FORMATS_MAX = VALUES_MAX // len(fields(PiecesFormat))
"""More formats are not looked at: with itself, each takes one value more than it has members, so not even these fit."""
NAMELESS = "an item names no asset that could be read"


# 2. Wire --------------------------------------------------------------------------------------------------------------


def document_of(reply: Reply) -> Members:
    """Read a JSON answer. Raises: BadAnswer."""
    return Members(jsonbody.object_in(reply))


def moment(asset: Members, name: str) -> datetime | None:
    """Read a GroupedTimestamp, or its value alone; without a zone it is UTC [assumed]."""
    return asset.object(name).time("value") if isinstance(asset.given.get(name), dict) else asset.time(name)


def deletion_time(asset: Members) -> datetime | None:
    """Read when an asset was deleted; a flag says no time, and what is neither is lost."""
    deleted = asset.given.get("deleted")
    time = frames.deletion_time(deleted)
    if time is None and deleted is not None and lenient.flag(frames.value_of(deleted)) is None:
        asset.lose("deleted")
    return time


def is_deleted(asset: Members) -> bool:
    """Tell whether an asset has a tombstone. Raises: BadAnswer when nobody can tell, since it is the state."""
    deleted = frames.is_gone(asset.given)
    if deleted is None:
        raise BadAnswer("deleted should be a timestamp, or true or false, and is neither")
    return deleted


# 3. Normalise ---------------------------------------------------------------------------------------------------------


def answer(reply: Reply, asset_id: str, known: Known) -> Answer:
    """Read the answer to asset_id, unless it is known. Raises: as read."""
    return unless_known(asset_id, reply.digest, known, lambda: read(reply, asset_id=asset_id))


def ids(reply: Reply, assets_max: int) -> Listed:
    """Read the list of ids; the vendor's model has `iterable` as optional, and absent when there are none.

    An item that says it was deleted counts, other than for the feeds (`frames.listed`): it is read by itself, which
    tells DELETED and when, where an asset that no list has is only removed. Raises: BadAnswer.
    """
    if reply.status != OK:
        raise undocumented(reply.status)
    return listed(map(frames.asset_id_of, frames.members(document_of(reply).given)), assets_max)


def read(reply: Reply, *, asset_id: str) -> Observation:
    """Read the answer to asset_id; 410 says as much about an asset deleted earlier as about one that never was.

    Raises: AssetRejected (a status that is not published), BadAnswer.
    """
    if reply.status == GONE:
        if page := logins.page(reply.status, reply.body, called=reply.content_type in logins.HTML_TYPES):
            raise page  # of what stands before it, and it says nothing of an asset
        return Observation(asset_id, State.MISSING)
    if reply.status != OK:
        raise AssetRejected(f"HTTP {reply.status} for an asset, which no document mentions")
    asset = document_of(reply)
    if jsonbody.state_of(asset.given, "id").lower() != asset_id.lower():
        raise BadAnswer("the answer is about another asset")
    return normalise(asset, asset_id=asset_id)


def normalise(asset: Members, *, asset_id: str) -> Observation:
    """Derive the status of an asset that was read; asset_id is the id it was asked by. Raises: BadAnswer."""
    deleted = is_deleted(asset)
    detail = _detail(asset)
    if deleted:
        return tombstone(asset_id, detail.delete_time, detail=detail)
    local = Facet(LOCAL, State.AVAILABLE, detail.mechanism, change_time=detail.update_time)
    return Observation(
        asset_id,
        State.AVAILABLE,
        facets=(local, *_cloud(asset, detail)),
        change_time=detail.update_time,
        detail=detail,
    )


def tombstone(asset_id: str, deleted_at: datetime | None, *, detail: PiecesDetail | None = None) -> Observation:
    """Tell that the asset was deleted; when the server does not say when, nor do we."""
    if detail is None and deleted_at is not None:
        detail = PiecesDetail(delete_time=deleted_at)
    facet = Facet(LOCAL, State.DELETED, "deleted", change_time=deleted_at)
    return Observation(asset_id, State.DELETED, facets=(facet,), change_time=deleted_at, detail=detail)


def notices_of(items: Iterable[Item]) -> Iterator[Notice]:
    """Tell what items of a frame after the first say."""
    touched = []
    for item in items:
        if item.gone:
            yield Removed(tombstone(item.asset_id, item.deleted_at))
        else:
            touched.append(item.asset_id)
    if touched:
        yield Touched(tuple(touched))


async def first(frame: Frame) -> Listed:
    """Read the first frame, which lists every id there is; others have a turn between its parts. Raises: BadAnswer."""
    asset_ids: set[str] = set()
    for items in slices(frame.items):
        asset_ids.update(item.asset_id for item in frames.living(items))
        await asyncio.sleep(0)
    if frame.unreadable and not frame.items:
        raise BadAnswer(f"a first frame of {frame.unreadable} items that name no asset which could be read")
    return Listed(frozenset(asset_ids), frame.unreadable, NAMELESS if frame.unreadable else "")


def _cloud(asset: Members, detail: PiecesDetail) -> Iterator[Facet]:
    """Yield the cloud's side, if there is one: its copy is old when synced is before updated [assumed]."""
    told = asset.given.get("synced")
    if told is None:
        return
    synced, updated = detail.sync_time, detail.update_time
    if synced is None or updated is None:
        state = State.UNKNOWN
    else:
        state = State.OUT_OF_SYNC if synced < updated else State.AVAILABLE
    native = jsonbody.text_of(told.get("value") if isinstance(told, dict) else told)
    yield Facet(CLOUD, state, native, change_time=synced)


def _detail(asset: Members) -> PiecesDetail:
    """Read the rest; what comes of it is cut by `bounds` if there are more formats than are read."""
    return PiecesDetail(
        name=asset.text("name"),
        creator=asset.text("creator"),
        mechanism=asset.text("mechanism"),
        pseudo=asset.flag("pseudo"),
        create_time=moment(asset, "created"),
        update_time=moment(asset, "updated"),
        sync_time=moment(asset, "synced"),
        delete_time=deletion_time(asset),
        formats=tuple(_format(each) for each in islice(asset.object("formats").objects("iterable"), FORMATS_MAX)),
        unreadable=tuple(asset.lost),
    )


def _format(wire: Members) -> PiecesFormat:
    kind = wire.object("classification")
    size_bytes = wire.object("bytes").number("value")
    return PiecesFormat(wire.text("id"), wire.text("role"), kind.text("generic"), kind.text("specific"), size_bytes)


# 4. Upstream ----------------------------------------------------------------------------------------------------------


class Pieces:
    """Read the states of one Pieces OS server.

    server: its client, shared with whoever else calls that server, and closed by whoever made it.
    """

    capabilities = Capabilities(enumerates=True, pushes=True)

    def __init__(self, source: str, settings: PiecesSource, server: PiecesServer | None = None) -> None:
        self._settings = settings
        self.server = server or PiecesServer(source, settings)
        self._shared = server is not None

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of Pieces OS."""
        if UUID_FORM.fullmatch(asset_id):
            return None
        if UUID_FORM.fullmatch(asset_id.lower()):
            return f"has upper case; here an asset of Pieces OS is named in lower case alone: {asset_id.lower()}"
        return "is not a UUID; an asset of Pieces OS is named like 6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"

    async def probe(self) -> None:
        """Ask for health, and for the version: that it is Pieces OS, and one we can talk to."""
        await self.server.polls.probe()

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read each asset, without its content."""
        return [await self._read(asset_id, known) for asset_id in asset_ids]

    async def enumerate(self) -> Listed:
        """List the ids, those of assets the user did not save only if so configured; the answer has no pages."""
        path = paths.IDENTIFIERS + paths.query({"pseudo": self._settings.pseudo})
        reply = await self.server.polls.request("GET", path)
        return await self.server.reading.read(reply, ids, self._settings.assets_max)

    async def notices(self) -> AsyncGenerator[Notice]:
        """Connect to the identifiers stream, which neither numbers nor repeats: after a gap the first frame tells all.

        A first frame of nothing may be said by a server that has not read its own assets yet: the list must confirm it.
        An item that cannot be read may be news of any asset, or its deletion: so all are listed anew (`Doubted`).
        aclose() disconnects. Raises: Unreachable (silent at first, silent to pings, closed), BadAnswer.
        """
        async with self.server.identifiers.listen() as stream:
            begun = await first(await anext(stream))
            yield begun if begun.asset_ids else await self.enumerate()
            async for frame in Doubted(stream):
                if frame is None:
                    yield await self.enumerate()
                    continue
                for items in slices(frame.items):
                    for notice in notices_of(items):
                        yield notice
                    await asyncio.sleep(0)  # a removal that nobody here knows of costs whoever takes it in no turn

    async def close(self) -> None:
        """Give back connections, if they are its own."""
        if not self._shared:
            await self.server.close()

    async def _read(self, asset_id: str, known: Known) -> Answer:
        path = paths.asset(asset_id) + WITHOUT_CONTENT
        reply = await self.server.polls.request("GET", path)
        return await self.server.reading.read(reply, answer, asset_id, known)
