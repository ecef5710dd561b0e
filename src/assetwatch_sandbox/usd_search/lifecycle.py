"""The life cycle of an indexed asset: queued, processing, written to the history, and only later in sync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatch_sandbox.usd_search.model import Asset, Plugin

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

FAILURES = {
    "load_error": "Processing exception: could not open the stage",
    "rendering_error": "Processing exception: renderer returned no image",
    "file_too_large": "Processing exception: file exceeds the size limit",
    "empty_scene": None,
    "failed_retries_exhausted": "Processing exception: maximum number of attempts reached [5]",
}
FAILURE_CHANCE = 0.15
CRASH_CHANCE = 0.1
VANISH_CHANCE = 0.1
REQUEUE_CHANCE = 0.2


def advance(asset: Asset, rng: random.Random, at: float) -> None:
    """Move an asset one step: a plugin that has work to do goes first, else something happens to the file."""
    busy = [] if asset.file_hash is None else [p for p in asset.plugins.values() if _has_work(p, asset.file_hash)]
    if busy and asset.file_hash is not None:
        _work(rng.choice(busy), asset.file_hash, rng, at)
    else:
        _touch_file(asset, rng)


def _has_work(plugin: Plugin, file_hash: str) -> bool:
    return plugin.forced is not None or plugin.derived_status(file_hash) != "in_sync"


def _work(plugin: Plugin, file_hash: str, rng: random.Random, at: float) -> None:
    newest = plugin.history[0] if plugin.history else None
    if newest is None or newest.hash_value != file_hash or plugin.forced is not None:
        plugin.note("queued", file_hash, at)
    elif plugin.requeued or newest.status in {"queued", "failed"}:
        plugin.note("processing", file_hash, at)
    elif newest.status == "processing":
        _finish(plugin, file_hash, rng, at)
    else:
        plugin.stored_hash = file_hash


def _finish(plugin: Plugin, file_hash: str, rng: random.Random, at: float) -> None:
    """End an attempt: a result, good or bad, is in the history before the hash says so; a crash is retried."""
    dice = rng.random()
    if dice < FAILURE_CHANCE:
        status = rng.choice(sorted(FAILURES))
        plugin.note(status, file_hash, at, FAILURES[status])
    elif dice < FAILURE_CHANCE + CRASH_CHANCE:
        plugin.note("failed", file_hash, at, "Processing exception: worker was lost")
    else:
        plugin.note("ok", file_hash, at)


def _touch_file(asset: Asset, rng: random.Random) -> None:
    dice = rng.random()
    if asset.file_hash is not None and dice < VANISH_CHANCE:
        asset.vanish()
    elif asset.file_hash is not None and dice < VANISH_CHANCE + REQUEUE_CHANCE:
        requeue(asset, asset.plugins)
    else:
        asset.write()


def requeue(asset: Asset, names: Iterable[str]) -> None:
    """Send plugins through again: it clears the stored hash and adds no history entry (release 1.4.0)."""
    for name in names:
        plugin = asset.plugins.setdefault(name, Plugin())
        plugin.stored_hash, plugin.requeued, plugin.forced = None, True, None
