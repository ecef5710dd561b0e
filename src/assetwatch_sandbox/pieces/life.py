"""The life cycle of assets: the states a seeded scenario moves them through."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from assetwatch_sandbox.pieces.piece import MILLISECOND, iso

if TYPE_CHECKING:
    import random

    from assetwatch_sandbox.pieces.piece import Piece
    from assetwatch_sandbox.pieces.shelf import Shelf

SNIPPETS = {
    "py": "for attempt in range(3):\n    fetch(url)\n",
    "ts": "export const twice = (n: number) => n * 2;\n",
    "go": "if err != nil {\n\treturn err\n}\n",
    "rs": 'let total: u64 = parts.iter().sum();\nprintln!("{total}");\n',
    "sql": "SELECT id, state FROM orders WHERE state <> 'done';\n",
    "sh": 'set -eu\nfor f in *.log; do gzip "$f"; done\n',
    "md": "# Release checklist\n\n- tag\n- build\n- tell people\n",
    "txt": "remember to rotate the keys\n",
}
SUBJECTS = ("retry", "pager", "login", "report", "cache", "export", "invoice", "search")
NOUNS = ("loop", "query", "helper", "notes", "draft", "test", "script", "guard")
TAGS = ("http", "database", "work", "draft", "cli", "docs", "review")
SYNC_DELAY = timedelta(seconds=2)
PSEUDO_SHARE = 0.1
BIRTH_SHARE = 0.15
DEATH_SHARE = 0.12
RENAME_SHARE = 0.3
ASSETS_MIN = 5
ASSETS_MAX = 5_000


def newborn(rng: random.Random) -> tuple[str, dict[str, object]]:
    """Make an id and the native fields of an asset just made, on this machine only."""
    asset_id = str(UUID(int=rng.getrandbits(128), version=4))
    ext = rng.choice(sorted(SNIPPETS))
    pseudo = rng.random() < PSEUDO_SHARE
    native = {
        "name": f"{rng.choice(SUBJECTS)} {rng.choice(NOUNS)}",
        "content": SNIPPETS[ext],
        "ext": ext,
        "tags": rng.sample(TAGS, rng.randrange(3)),
        "pseudo": pseudo,
        "mechanism": "AUTOMATIC" if pseudo else "MANUAL",
    }
    return asset_id, native


def seed(shelf: Shelf, rng: random.Random, count: int) -> None:
    """Put assets that are synced (most), stale in the cloud, or on this machine only."""
    for _ in range(count):
        asset_id, native = newborn(rng)
        updated = shelf.now - timedelta(seconds=rng.randrange(1, 30 * 86_400))
        created = updated - timedelta(seconds=rng.randrange(86_400))
        cloud = rng.choices(("synced", "stale", "local"), weights=(6, 2, 2))[0]
        if cloud != "local":
            native["synced"] = iso(updated + SYNC_DELAY if cloud == "synced" else updated - MILLISECOND)
        shelf.put(asset_id, {**native, "created": iso(created), "updated": iso(updated)})


def advance(shelf: Shelf, rng: random.Random) -> None:
    """Take one step: an asset is made, edited, synced to the cloud, saved by the user, or deleted."""
    pieces = shelf.list()
    if len(pieces) < ASSETS_MIN or (rng.random() < BIRTH_SHARE and len(pieces) < ASSETS_MAX):
        shelf.put(*newborn(rng))
        return
    piece = rng.choice(pieces)
    if rng.random() < DEATH_SHARE:
        shelf.remove(piece.id)
        return
    shelf.put(piece.id, _next_step(piece, shelf, rng))


def _next_step(piece: Piece, shelf: Shelf, rng: random.Random) -> dict[str, object]:
    """Sync what the cloud does not have, save what was never saved, else edit."""
    if piece.pseudo:
        return {"pseudo": False, "mechanism": "MANUAL"}
    if piece.synced is None or piece.synced < piece.updated:
        return {"synced": iso(max(shelf.now, piece.updated + MILLISECOND))}
    if rng.random() < RENAME_SHARE:
        return {"name": f"{rng.choice(SUBJECTS)} {rng.choice(NOUNS)}"}
    return {"content": SNIPPETS.get(piece.ext, SNIPPETS["txt"]) + f"-- revision {rng.randrange(1000)}\n"}
