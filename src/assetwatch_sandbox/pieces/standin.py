"""The stand-in itself: the assets, their operations and streams, and the server's own endpoints."""

from __future__ import annotations

import json
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from aiohttp import web

from assetwatch_sandbox.pieces import life, wire
from assetwatch_sandbox.pieces.commands import stream_commands
from assetwatch_sandbox.pieces.operations import Operations, read_body
from assetwatch_sandbox.pieces.shelf import Change, Shelf
from assetwatch_sandbox.pieces.streams import Stream
from assetwatch_sandbox.pieces.switches import PiecesSwitches
from assetwatch_sandbox.standin import JSON, Command, Standin

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from assetwatch_sandbox.pieces.piece import Piece

STREAM_PATHS = MappingProxyType(
    {
        "identifiers": "/assets/stream/identifiers",
        "transferables": "/assets/stream/transferables",
        "assets": "/assets/stream",
        "health": "/.well-known/stream/health",
    }
)


class PiecesStandin(Standin[PiecesSwitches]):
    """Pieces OS: assets named by UUID, no processing state, every change pushed to three streams.

    Native fields: see `Piece`. A client connects without credentials; the application id counts when a switch says so.
    """

    kind: ClassVar[str] = "pieces"
    switch_type = PiecesSwitches

    def __init__(self, *, clock: Callable[[], float] = time.time, switches: Mapping[str, object] | None = None) -> None:
        super().__init__(clock=clock, switches=switches)
        self._lean = wire.LeanTexts()
        self._shelf = Shelf(clock=self.clock, on_change=self._changed)
        self._operations = Operations(self._shelf, self._lean, lambda: self.switches)
        firsts: dict[str, Callable[[], str | None]] = {
            "identifiers": self._first_identifiers,
            "transferables": lambda: self._first_assets(transferables=True),
            "assets": lambda: self._first_assets(transferables=False),
            "health": self._health,
        }
        self.streams: Mapping[str, Stream] = MappingProxyType(
            {name: Stream(first, faults=self.faults, switches=lambda: self.switches) for name, first in firsts.items()}
        )

    @property
    def credentials(self) -> Mapping[str, str]:
        """The id of the application that POST /connect gives."""
        return MappingProxyType({"application_id": str(wire.APPLICATION["id"])})

    @property
    def commands(self) -> Mapping[str, Command]:
        """`drop_streams`, `mute_streams`, `unmute_streams`, `send_frame`."""
        return stream_commands(self.streams)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the 15 asset operations, their twins, connect, user and the well-known endpoints."""
        return [
            *(web.get(STREAM_PATHS[name], stream.serve) for name, stream in self.streams.items()),
            *self._operations.routes(),
            web.post("/connect", self._connect),
            web.get("/user", self._user),
            web.get("/.well-known/health", self._answer_health),
            web.get("/.well-known/version", self._answer_version),
        ]

    def put(self, asset_id: str, native: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Create or change an asset, stamp `updated` (a mere sync does not) and push it to the three streams."""
        return self._shelf.put(asset_id, native).native()

    def remove(self, asset_id: str) -> None:
        """Delete an asset and push its tombstone to the three streams."""
        self._shelf.remove(asset_id)

    def get(self, asset_id: str) -> Mapping[str, JSON] | None:
        """Return the native fields of an asset, in the form `put` takes."""
        piece = self._shelf.get(asset_id)
        return None if piece is None else piece.native()

    def asset_ids(self) -> list[str]:
        """List the ids, those of assets the user did not save among them."""
        return [piece.id for piece in self._shelf.list()]

    def seed(self, rng: random.Random, count: int) -> None:
        """Put assets that are synced, stale in the cloud or local, one in ten of them never saved by the user."""
        life.seed(self._shelf, rng, count)

    def advance(self, rng: random.Random) -> None:
        """Make, edit, sync, save or delete one asset."""
        life.advance(self._shelf, rng)

    def _changed(self, change: Change) -> None:
        piece = change.after
        self.record(piece.id, None if change.gone else piece.native())
        if change.gone:
            self._lean.forget(piece.id)
        if self._visible(piece) or (change.before is not None and self._visible(change.before)):
            self._push(piece, gone=change.gone)

    def _push(self, piece: Piece, *, gone: bool) -> None:
        """Publish an item to every stream that has a client."""
        switches = self.switches
        if self.streams["identifiers"].connected:
            item = wire.tombstone(piece, switches) if gone else wire.identifier(piece, switches)
            self.streams["identifiers"].publish(wire.dumps(item))
        for name, transferables in (("assets", False), ("transferables", True)):
            if self.streams[name].connected:
                dead = wire.dead_asset(piece, switches, transferables=transferables) if gone else None
                document = dead or wire.asset(piece, transferables=transferables)
                self.streams[name].publish(wire.dumps(document))

    def _visible(self, piece: Piece) -> bool:
        return self.switches.pseudo_in_streams or not piece.pseudo

    def _first_identifiers(self) -> str | None:
        if (pieces := self._first_pieces()) is None:
            return None
        if self.switches.first_frame_forgets:
            pieces = []
        return wire.dumps({"iterable": [wire.identifier(piece, self.switches, first=True) for piece in pieces]})

    def _first_assets(self, *, transferables: bool) -> str | None:
        if not self.switches.assets_first_frame or (pieces := self._first_pieces()) is None:
            return None
        if transferables:
            return wire.dumps({"iterable": [wire.asset(piece, transferables=True) for piece in pieces]})
        return wire.iterable_text(map(self._lean.of, pieces))

    def _first_pieces(self) -> list[Piece] | None:
        """List what a first frame has, None for no frame."""
        pieces = self._shelf.list(pseudo=self.switches.pseudo_in_streams)
        return pieces if pieces or self.switches.empty_first_frame == "empty" else None

    def _health(self) -> str:
        return f"ok:{wire.OS_ID}" if self.switches.health_with_id else "ok"

    async def _answer_health(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._health())

    async def _answer_version(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.switches.version)

    async def _user(self, _request: web.Request) -> web.Response:
        """GET /user: ReturnedUserProfile, empty when nobody is signed in."""
        return web.json_response({"user": wire.USER} if self.switches.signed_in else {})

    async def _connect(self, request: web.Request) -> web.Response:
        """POST /connect: Context for an application that gives its name, platform and version, else 400 text."""
        application = _application(await read_body(request))
        if application is None:
            return web.Response(status=400, text="application with name, platform and version is required")
        context: dict[str, object] = {
            "application": {**wire.APPLICATION, **application},
            "health": {"os": {"id": wire.OS_ID, "version": self.switches.version}},
            "os": wire.OS_ID,
        }
        if self.switches.signed_in:
            context["user"] = wire.USER
        return web.json_response(context)


def _application(body: bytes) -> dict[str, str] | None:
    """Read who connects; None when the body does not say it rightly."""
    try:
        document = json.loads(body)
        application = {name: document["application"][name] for name in ("name", "platform", "version")}
    except (ValueError, LookupError, TypeError):
        return None
    return application if all(isinstance(value, str) for value in application.values()) else None
