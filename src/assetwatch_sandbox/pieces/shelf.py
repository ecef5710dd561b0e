"""The assets the server holds: one dict, its tombstones, and who is told of a change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from assetwatch_sandbox.pieces.piece import Piece, new_piece

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOMBSTONES_MAX = 100_000


class Change(NamedTuple):
    """One change of an asset; `after` is its last state, with `deleted` set when it is gone."""

    before: Piece | None
    after: Piece
    gone: bool


class Shelf:
    """Assets by id, oldest first. Each change is told to `on_change` at once, after it has taken effect."""

    def __init__(self, *, clock: Callable[[], float], on_change: Callable[[Change], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._pieces: dict[str, Piece] = {}
        self._tombstones: dict[str, Piece] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def now(self) -> datetime:
        """The wall time of the server."""
        return datetime.fromtimestamp(self._clock(), UTC)

    def get(self, asset_id: str) -> Piece | None:
        """Return the asset, if it is there."""
        return self._pieces.get(asset_id)

    def tombstone(self, asset_id: str) -> Piece | None:
        """Return the last state of an asset deleted earlier, `deleted` set."""
        return self._tombstones.get(asset_id)

    def list(self, *, pseudo: bool = True) -> list[Piece]:
        """List the assets, oldest first, with those the user did not save or without."""
        return [piece for piece in self._pieces.values() if pseudo or not piece.pseudo]

    def put(self, asset_id: str, native: Mapping[str, object]) -> Piece:
        """Create or change an asset by native fields. Raises: ValueError."""
        before = self._pieces.get(asset_id)
        fields = dict(native)
        if fields.pop("id", asset_id) != asset_id:
            raise ValueError("the field id is not the id it is put at")
        after = before.changed(fields, now=self.now) if before else new_piece(asset_id, fields, now=self.now)
        _ = after.raw
        self._tombstones.pop(asset_id, None)
        self._pieces[asset_id] = after
        self._on_change(Change(before, after, gone=False))
        return after

    def remove(self, asset_id: str) -> None:
        """Delete an asset and keep its tombstone. Raises: KeyError."""
        before = self._pieces.pop(asset_id)
        moment = before.changed({}, now=self.now).updated
        after = before.model_copy(update={"deleted": moment, "updated": moment})
        self._tombstones[asset_id] = after
        if len(self._tombstones) > TOMBSTONES_MAX:
            del self._tombstones[next(iter(self._tombstones))]
        self._on_change(Change(before, after, gone=True))
