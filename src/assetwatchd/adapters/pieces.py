"""Pieces OS: assets read one by one over HTTP, changes pushed over a WebSocket.

Source: the vendor's clients (Python 5.0.1, TypeScript 4.1.0) and open-source programs that use the API. There is no
field for a state: it is derived from presence, a tombstone and timestamps.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from assetwatchd import jsonbody
from assetwatchd.answers import NOTHING_KNOWN, unless_known
from assetwatchd.details import PiecesDetail, PiecesFormat
from assetwatchd.errors import AssetRejected, BadAnswer
from assetwatchd.model import Facet, Observation, State
from assetwatchd.pieces import frames
from assetwatchd.pieces.line import Line
from assetwatchd.pieces.place import PiecesTransport, Place
from assetwatchd.plan import slices
from assetwatchd.upstream import Capabilities, Listed, Notice, Removed, Touched, listed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from assetwatchd.answers import Answer, Known
    from assetwatchd.config import PiecesSource
    from assetwatchd.pieces.frames import Frame
    from assetwatchd.transport import Reply

M = TypeVar("M", bound=BaseModel)

# 1. Facts -------------------------------------------------------------------------------------------------------------

ASSET = "/assets/{id}?transferables=false"
IDENTIFIERS = "/assets/identifiers?pseudo={pseudo}"
APPLICATION_HEADER = "X-Application-ID"
"""What newer clients send with every asset operation; servers seem to accept calls without [assumed]."""

OK = 200
GONE = 410
"""The answer for an asset deleted earlier and for one that never was, alike; the body is text."""

DELETED_MECHANISM = "DELETED"
"""The one value of the mechanism that says something about the state."""

LOCAL, CLOUD = "local", "cloud"
UUID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""In lower case alone, so that one asset has one id here, though upper case means nothing in a UUID (RFC 9562, 4)."""
INT64_MAX = 2**63 - 1


# 2. Wire --------------------------------------------------------------------------------------------------------------


class Wire(BaseModel):
    """Base of the models: only what is read here, all of it optional but the id; null is as good as absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class GroupedTimestamp(Wire):
    """A moment as the server writes it."""

    value: str | None = None

    @property
    def at(self) -> datetime | None:
        """The moment; without a zone it is UTC [assumed], and None when it cannot be read."""
        try:
            at = datetime.fromisoformat(self.value or "")
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def _tombstone(value: Any) -> Any:
    """Make one form of the two `deleted` has: a flag in identifiers frames, a timestamp in assets."""
    if isinstance(value, bool):
        return {} if value else None
    return value


Tombstone = Annotated[GroupedTimestamp | None, BeforeValidator(_tombstone)]
"""None: not deleted. Without a value: deleted, and nobody says when."""


class Bytes(Wire):
    """Size of a format's content."""

    value: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None


class Classification(Wire):
    """What a format holds."""

    generic: str | None = None
    specific: str | None = None


class Format(Wire):
    """One form of an asset's content."""

    id: str | None = None
    role: str | None = None
    bytes: Bytes | None = None
    classification: Classification | None = None


class Formats(Wire):
    """The formats of an asset."""

    iterable: Annotated[list[Format], Field(fail_fast=True)] | None = None


class Asset(Wire):
    """Asset, of `GET /assets/{id}`."""

    id: str
    name: str | None = None
    creator: str | None = None
    mechanism: str | None = None
    pseudo: bool | None = None
    created: GroupedTimestamp | None = None
    updated: GroupedTimestamp | None = None
    synced: GroupedTimestamp | None = None
    deleted: Tombstone = None
    formats: Formats | None = None


class ReferencedAsset(Wire):
    """An asset by its id."""

    id: str


class FlattenedAssets(Wire):
    """The list of ids; the vendor's model has `iterable` as optional, and absent when there are none."""

    iterable: Annotated[list[ReferencedAsset], Field(fail_fast=True)] | None = None
    indices: dict[str, Any] | None = None


def decode(model: type[M], reply: Reply) -> M:
    """Read a JSON answer. Raises: BadAnswer."""
    try:
        return model.model_validate(jsonbody.decode(reply))
    except ValidationError as exc:
        raise BadAnswer(model.__name__, said=jsonbody.first_problem(exc, whole="the body")) from None


# 3. Normalise ---------------------------------------------------------------------------------------------------------


def answer(reply: Reply, asset_id: str, known: Known) -> Answer:
    """Read the answer to asset_id, unless it is known. Raises: as read."""
    return unless_known(asset_id, reply.digest, known, lambda: read(reply, asset_id=asset_id))


def ids(reply: Reply, assets_max: int) -> frozenset[str]:
    """Read the list of ids. Raises: BadAnswer."""
    if reply.status != OK:
        raise BadAnswer(f"HTTP {reply.status}, which no document mentions here; correct base_url")
    assets = decode(FlattenedAssets, reply)
    if assets.iterable is None and assets.indices:
        raise BadAnswer("a list with indices and nothing that they could mean")
    return listed(frozenset(each.id.lower() for each in assets.iterable or ()), assets_max)


def read(reply: Reply, *, asset_id: str) -> Observation:
    """Read the answer to asset_id; 410 says as much about an asset deleted earlier as about one that never was.

    Raises: AssetRejected (a status that is not published), BadAnswer.
    """
    if reply.status == GONE:
        return Observation(asset_id, State.MISSING)
    if reply.status != OK:
        raise AssetRejected(f"HTTP {reply.status} for an asset, which no document mentions")
    asset = decode(Asset, reply)
    if asset.id.lower() != asset_id.lower():
        raise BadAnswer("the answer is about another asset")
    return normalise(asset, asset_id=asset_id)


def normalise(asset: Asset, *, asset_id: str) -> Observation:
    """Derive the status of an asset that was read; asset_id is the id it was asked by."""
    detail = _detail(asset)
    if asset.deleted is not None or asset.mechanism == DELETED_MECHANISM:
        return tombstone(asset_id, detail.deleted_time, detail=detail)
    local = Facet(LOCAL, State.AVAILABLE, asset.mechanism or "", change_time=detail.updated_time)
    return Observation(
        asset_id,
        State.AVAILABLE,
        facets=(local, *_cloud(asset)),
        change_time=detail.updated_time,
        detail=detail,
    )


def tombstone(asset_id: str, deleted_at: datetime | None, *, detail: PiecesDetail | None = None) -> Observation:
    """Tell that the asset was deleted; when the server does not say when, nor do we."""
    if detail is None and deleted_at is not None:
        detail = PiecesDetail(deleted_time=deleted_at)
    facet = Facet(LOCAL, State.DELETED, "deleted", change_time=deleted_at)
    return Observation(asset_id, State.DELETED, facets=(facet,), change_time=deleted_at, detail=detail)


def notices_of(frame: Frame) -> Iterator[Notice]:
    """Tell what a frame after the first says. Raises: BadAnswer when a deletion may hide in what cannot be read."""
    _expect_whole(frame)
    touched = []
    for item in frame.items:
        if item.gone:
            yield Removed(tombstone(item.asset_id, item.deleted_at))
        else:
            touched.append(item.asset_id)
    if touched:
        yield Touched(tuple(touched))


async def first(frame: Frame) -> Listed:
    """Read the first frame, which lists every id there is; others have a turn between its parts. Raises: BadAnswer."""
    asset_ids: set[str] = set()
    for part in parts_of(frame):
        _expect_whole(part)
        asset_ids.update(item.asset_id for item in frames.living(part.items))
        await asyncio.sleep(0)
    return Listed(frozenset(asset_ids))


def parts_of(frame: Frame) -> Iterator[Frame]:
    """Take a frame apart, so that nobody has to take in all of it in one go."""
    yield frame._replace(items=())
    for items in slices(frame.items):
        yield frames.Frame(items)


def _expect_whole(frame: Frame) -> None:
    if frame.unreadable:
        raise BadAnswer(f"{frame.unreadable} items of a frame name no asset that could be read")


def _cloud(asset: Asset) -> Iterator[Facet]:
    """Yield the cloud's side, if there is one: its copy is old when synced is before updated [assumed]."""
    if asset.synced is None:
        return
    synced, updated = asset.synced.at, asset.updated.at if asset.updated else None
    if synced is None or updated is None:
        state = State.UNKNOWN
    else:
        state = State.OUT_OF_SYNC if synced < updated else State.AVAILABLE
    yield Facet(CLOUD, state, asset.synced.value or "", change_time=synced)


def _detail(asset: Asset) -> PiecesDetail:
    formats = (asset.formats.iterable if asset.formats else None) or []
    return PiecesDetail(
        name=asset.name or "",
        creator=asset.creator or "",
        mechanism=asset.mechanism or "",
        pseudo=bool(asset.pseudo),
        created_time=asset.created.at if asset.created else None,
        updated_time=asset.updated.at if asset.updated else None,
        synced_time=asset.synced.at if asset.synced else None,
        deleted_time=asset.deleted.at if asset.deleted else None,
        formats=tuple(_format(each) for each in formats),
    )


def _format(wire: Format) -> PiecesFormat:
    kind = wire.classification or Classification()
    size_bytes = (wire.bytes.value if wire.bytes else None) or 0
    return PiecesFormat(wire.id or "", wire.role or "", kind.generic or "", kind.specific or "", size_bytes)


# 4. Upstream ----------------------------------------------------------------------------------------------------------


class Pieces:
    """One Pieces OS server. place: shared with whoever else calls it. line: its identifiers stream, shared likewise."""

    capabilities = Capabilities(enumerates=True, pushes=True)

    def __init__(self, source: str, settings: PiecesSource, place: Place | None = None) -> None:
        self._settings = settings
        self.place = place or Place(settings)
        self._transport = PiecesTransport(source, settings, self.place)
        self._headers = {APPLICATION_HEADER: settings.application_id} if settings.application_id else {}
        self.line = Line(source, self._transport, settings, self._headers)

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of Pieces OS."""
        if UUID_FORM.fullmatch(asset_id):
            return None
        if UUID_FORM.fullmatch(asset_id.lower()):
            return f"has upper case; here an asset of Pieces OS is named in lower case alone: {asset_id.lower()}"
        return "is not a UUID; an asset of Pieces OS is named like 6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"

    async def probe(self) -> None:
        """Ask for health, and for the version: that it is Pieces OS, and one we can talk to."""
        await self._transport.probe()

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read each asset, without its content."""
        return [await self._read(asset_id, known) for asset_id in asset_ids]

    async def enumerate(self) -> frozenset[str]:
        """List the ids, those of assets the user did not save only if so configured; the answer has no pages."""
        path = IDENTIFIERS.format(pseudo="true" if self._settings.pseudo else "false")
        reply = await self._transport.request("GET", path, headers=self._headers)
        return await self.place.reading.read(reply, ids, self._settings.assets_max)

    async def notices(self) -> AsyncGenerator[Notice]:
        """Connect to the identifiers stream, which neither numbers nor repeats: after a gap the first frame tells all.

        aclose() disconnects. Raises: Unreachable (silent at first, silent to pings, closed), BadAnswer.
        """
        async with self.line.listen() as stream:
            yield await first(await anext(stream))
            async for frame in stream:
                for part in parts_of(frame):
                    for notice in notices_of(part):
                        yield notice
                    await asyncio.sleep(0)  # a removal that nobody here knows of costs whoever takes it in no turn

    async def close(self) -> None:
        """Give back connections."""
        await self._transport.close()
        await self.place.reading.close()

    async def _read(self, asset_id: str, known: Known) -> Answer:
        path = ASSET.format(id=quote(asset_id, safe=""))
        reply = await self._transport.request("GET", path, headers=self._headers)
        return await self.place.reading.read(reply, answer, asset_id, known)
