"""The HTTP operations. Paths, parameters, bodies and codes: the vendor's client 5.0.1."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, ValidationError

from assetwatch_sandbox.pieces import search, wire
from assetwatch_sandbox.pieces.seeds import Seed, without_content

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from assetwatch_sandbox.pieces.piece import Piece
    from assetwatch_sandbox.pieces.shelf import Shelf
    from assetwatch_sandbox.pieces.switches import PiecesSwitches

    Handler = Callable[[web.Request], Awaitable[web.Response]]

BODY_BYTES_MAX = 128 * 1024 * 1024
APPLICATION_HEADERS = ("X-Application-ID", "application")

M = TypeVar("M", bound=BaseModel)


class Refusal(Exception):
    """An answer other than 200; its text is the body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Operations:
    """The twelve request-and-answer operations on assets, with their twins under the singular path."""

    def __init__(self, shelf: Shelf, lean: wire.LeanTexts, switches: Callable[[], PiecesSwitches]) -> None:
        self._shelf = shelf
        self._lean = lean
        self._switch = switches

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, fixed paths before those with an id."""
        return [
            web.post("/assets/create", self._guard(self.create)),
            web.post("/assets/draft", self._guard(self.draft)),
            web.get("/assets/recommended", self._guard(self.recommended)),
            web.get("/assets/related", self._guard(self.related)),
            web.get("/assets/identifiers", self._guard(self.identifiers)),
            web.get("/assets/pseudo", self._guard(self.pseudo)),
            web.get("/assets/search", self._guard(self.search)),
            web.post("/assets/search", self._guard(self.search_with_filters)),
            web.get("/assets", self._guard(self.snapshot)),
            web.post("/assets/{asset}/delete", self._guard(self.delete)),
            web.get("/assets/{asset}/formats", self._guard(self.formats)),
            web.get("/assets/{asset}", self._guard(self.get)),
            web.get("/asset/{asset}/formats", self._guard(self.formats)),
            web.get("/asset/{asset}", self._guard(self.get)),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """POST /assets/create: Seed in, Asset out."""
        _, seed = await self._seed(request, self._switch().refused_seed_status)
        piece = self._shelf.put(str(uuid4()), seed.native())
        return _json(wire.asset(piece, transferables=_flag(request, "transferables", default=True)))

    async def draft(self, request: web.Request) -> web.Response:
        """POST /assets/draft: the seed with what could be made of it; an image comes back as it was. Stores nothing."""
        document, seed = await self._seed(request, web.HTTPInternalServerError.status_code)
        if not seed.is_image:
            document["asset"] = {**document["asset"], "available": seed.available()}
        return _json(document if _flag(request, "transferables", default=True) else without_content(document))

    async def delete(self, request: web.Request) -> web.Response:
        """POST /assets/{asset}/delete: the id as text."""
        piece = self._known(request, self._switch().unknown_delete_status)
        self._shelf.remove(piece.id)
        return web.Response(text=piece.id)

    async def get(self, request: web.Request) -> web.Response:
        """GET /assets/{asset}: 410 when it was deleted or never was."""
        asset_id = request.match_info["asset"]
        piece = self._shelf.get(asset_id)
        if piece is None and self._switch().deleted_get == "tombstone":
            piece = self._shelf.tombstone(asset_id)
        if piece is None:
            raise Refusal(web.HTTPGone.status_code, f"Asset {asset_id} is gone")
        return web.json_response(text=self._text(piece, transferables=_flag(request, "transferables", default=True)))

    async def formats(self, request: web.Request) -> web.Response:
        """GET /assets/{asset}/formats."""
        piece = self._known(request, self._switch().unknown_formats_status)
        transferables = _flag(request, "transferables", default=True)
        return _json({"iterable": [wire.asset_format(piece, transferables=transferables)]})

    async def snapshot(self, request: web.Request) -> web.Response:
        """GET /assets: all of them; `suggested` leaves only what was suggested to the user."""
        pieces = self._shelf.list(pseudo=_flag(request, "pseudo", default=False))
        if _flag(request, "suggested", default=False):
            pieces = [piece for piece in pieces if piece.discovered or piece.mechanism == "RECOMMENDED"]
        return self._assets(pieces, transferables=_flag(request, "transferables", default=True))

    async def identifiers(self, request: web.Request) -> web.Response:
        """GET /assets/identifiers."""
        return self._flattened(self._shelf.list(pseudo=_flag(request, "pseudo", default=False)))

    async def pseudo(self, _request: web.Request) -> web.Response:
        """GET /assets/pseudo: those the user did not save."""
        pieces = [piece for piece in self._shelf.list() if piece.pseudo]
        reference = self._switch().identifiers_with_reference
        return _json({"identifiers": wire.flattened_assets(pieces, with_reference=reference)})

    async def search(self, request: web.Request) -> web.Response:
        """GET /assets/search: by query, by comma-separated tags, or by both; by neither is 500."""
        query = request.query.get("query", "")
        tags = [tag.strip() for tag in request.query.get("searchable_tags", "").split(",") if tag.strip()]
        if not query and not tags:
            raise Refusal(web.HTTPInternalServerError.status_code, "query or searchable_tags is required")
        pieces = self._shelf.list(pseudo=_flag(request, "pseudo", default=False))
        hits = search.tagged(pieces, tags) if tags else []
        if query:
            hits = search.search([hit.piece for hit in hits] if tags else pieces, query)
        return _json(_searched(hits, transferables=_flag(request, "transferables", default=True)))

    async def search_with_filters(self, request: web.Request) -> web.Response:
        """POST /assets/search: by query, space and filters."""
        wanted = self._parse(search.FilteredSearch, await self._body(request))
        switches = self._switch()
        pieces = self._shelf.list(pseudo=_flag(request, "pseudo", default=False))
        hits = search.filtered(pieces, wanted, casing=switches.search_casing, join=switches.filters_join)
        return _json({"results": _searched(hits, transferables=_flag(request, "transferables", default=True))})

    async def related(self, request: web.Request) -> web.Response:
        """GET /assets/related with Assets as its body; without one there is nothing to be like."""
        document = await self._get_body(request)
        references = search.References() if document is None else self._parse(search.References, document)
        named = {reference.id for reference in references.iterable}
        return self._assets(search.neighbours(self._shelf.list(pseudo=False), named), transferables=True)

    async def recommended(self, request: web.Request) -> web.Response:
        """GET /assets/recommended with what the user looked at; without it, what changed last."""
        document = await self._get_body(request)
        pieces = self._shelf.list(pseudo=False)
        if document is None:
            return self._assets(search.latest(pieces), transferables=True)
        interests = self._parse(search.Recommendation, document).interests
        return self._assets(search.neighbours(pieces, interests) or search.latest(pieces), transferables=True)

    def _guard(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                self._check_application(request)
                return await handler(request)
            except Refusal as refusal:
                return web.Response(status=refusal.status, text=refusal.text)

        return answer

    def _check_application(self, request: web.Request) -> None:
        known = any(request.headers.get(name) == wire.APPLICATION["id"] for name in APPLICATION_HEADERS)
        if self._switch().application_required and not known:
            raise Refusal(web.HTTPUnauthorized.status_code, "an application id is required")

    def _known(self, request: web.Request, unknown_status: int) -> Piece:
        asset_id = request.match_info["asset"]
        piece = self._shelf.get(asset_id)
        if piece is None:
            raise Refusal(unknown_status, f"Asset {asset_id} was not found")
        return piece

    async def _body(self, request: web.Request) -> Any:  # noqa: ANN401 - JSON, which a model checks
        try:
            return json.loads(await read_body(request))
        except ValueError:
            raise Refusal(self._switch().malformed_status, "the body is not JSON") from None

    async def _get_body(self, request: web.Request) -> object:
        """Read the body of a GET, which some HTTP stacks drop, the vendor's own among them; None when it is gone."""
        switches = self._switch()
        if request.can_read_body:
            return await self._body(request)
        if switches.missing_body == "refused":
            raise Refusal(switches.malformed_status, "the body is missing")
        return None

    async def _seed(self, request: web.Request, refused_status: int) -> tuple[dict[str, Any], Seed]:
        document = await self._body(request)
        try:
            seed = Seed.model_validate(document)
            seed.native()
        except ValueError as error:
            raise Refusal(refused_status, _reason(error)) from None
        return document, seed

    def _parse(self, model: type[M], document: object) -> M:
        try:
            return model.model_validate(document)
        except ValidationError as error:
            raise Refusal(self._switch().malformed_status, _reason(error)) from None

    def _text(self, piece: Piece, *, transferables: bool) -> str:
        if transferables or piece.deleted is not None:
            return wire.dumps(wire.asset(piece, transferables=transferables))
        return self._lean.of(piece)

    def _assets(self, pieces: Iterable[Piece], *, transferables: bool) -> web.Response:
        pieces = list(pieces)
        indices = wire.dumps({piece.id: index for index, piece in enumerate(pieces)})
        whole = wire.iterable_text(self._text(piece, transferables=transferables) for piece in pieces)
        return web.json_response(text=f'{{"indices":{indices},{whole[1:]}')

    def _flattened(self, pieces: Iterable[Piece]) -> web.Response:
        return _json(wire.flattened_assets(pieces, with_reference=self._switch().identifiers_with_reference))


async def read_body(request: web.Request) -> bytes:
    """Read up to BODY_BYTES_MAX; assets come whole, so this is beyond what a form would need. Raises: ValueError."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ValueError("the body is too large")
    return bytes(body)


def _json(document: dict[str, object]) -> web.Response:
    return web.json_response(text=wire.dumps(document))


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    """Read a boolean of the query. Raises: Refusal, 500 [assumed]."""
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() not in {"true", "false"}:
        raise Refusal(web.HTTPInternalServerError.status_code, f"{name} is neither true nor false")
    return text.lower() == "true"


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))


def _searched(hits: list[search.Hit], *, transferables: bool) -> dict[str, object]:
    """SearchedAssets."""
    exact = sum(hit.exact for hit in hits)
    iterable = [
        {
            "identifier": hit.piece.id,
            "exact": hit.exact,
            "score": hit.score,
            "match": hit.match,
            "pseudo": hit.piece.pseudo,
            "asset": wire.asset(hit.piece, transferables=transferables),
        }
        for hit in hits
    ]
    return {"iterable": iterable, "suggested": len(hits) - exact, "exact": exact}
