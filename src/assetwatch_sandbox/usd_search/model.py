"""The indexing service's memory of an asset, and the state of a plugin that it derives from that."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from assetwatch_sandbox.standin import JSON  # noqa: TC001 - pydantic reads it at run time

if TYPE_CHECKING:
    from collections.abc import Collection

HISTORY_MAX = 5
"""Entries kept a plugin; older ones are lost (release 1.4.0, default)."""
PLUGINS: dict[str, tuple[str, ...]] = {
    "image_to_embedding": ("image",),
    "thumbnail_to_embedding": ("any",),
    "image_to_vision_metadata": ("image",),
    "rendering_to_vision_metadata": ("usd",),
    "thumbnail_to_vision_metadata": ("any",),
    "rendering_to_embedding": ("usd",),
    "thumbnail_generation": ("usd",),
    "asset_graph_generation": ("usd",),
}
"""Plugin -> data types it accepts: `any` is published for the thumbnail_to_*, the rest [assumed] from the names."""
EXTENSIONS = {
    "usd": ("usd", "usda", "usdc", "usdz"),
    "image": ("png", "jpg", "jpeg", "tif", "tiff", "exr", "hdr", "bmp", "webp"),
}
"""Data type -> file extensions [assumed]."""

Timestamp: TypeAlias = float | str


def content_hash(text: str) -> str:
    """Return a file hash as the service writes it: base64 of 128 bits, 24 characters."""
    return base64.b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()


HASH_OF_NONE = content_hash("None")
"""What a history entry holds when the file's hash was unknown: the service hashes the word."""


class Entry(BaseModel):
    """One history entry; a timestamp in epoch seconds is shown as the deployment does, a text is shown as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: str
    hash_value: str | None
    processing_timestamp: Timestamp
    exception: str | None = None


class NativeEntry(BaseModel):
    """A history entry as a script gives it; what is absent is made up."""

    model_config = ConfigDict(extra="forbid")

    status: str
    hash_value: str | None = None
    processing_timestamp: Timestamp | None = None
    exception: str | None = None


class NativePlugin(BaseModel):
    """A plugin's state as a script gives it: the status, or the history, or both; the rest is made to fit."""

    model_config = ConfigDict(extra="forbid")

    indexing_status: str | None = None
    history: list[NativeEntry] | None = None
    indexed_asset_hash: str | None = None

    @field_validator("history", mode="before")
    @classmethod
    def _words(cls, history: object) -> object:
        """Accept a bare status word for an entry."""
        if not isinstance(history, list):
            return history
        return [{"status": entry} if isinstance(entry, str) else entry for entry in history]


class NativeAsset(BaseModel):
    """An asset as a script gives it; a plugin given as null is taken off the asset."""

    model_config = ConfigDict(extra="forbid")

    asset_status: str | None = None
    storage_asset_hash: str | None = None
    plugins: dict[str, NativePlugin | None] | None = None
    metadata: dict[str, JSON] | None = Field(default=None, description="added to, or laid over, the made-up metadata")


IndexingStatus: TypeAlias = Literal["not_found", "in_sync", "out_of_sync"]


@dataclasses.dataclass
class Plugin:
    """One plugin's memory of one asset.

    forced is an indexing status that its hashes would not give; requeued means sent through again, not yet begun.
    """

    stored_hash: str | None = None
    history: list[Entry] = dataclasses.field(default_factory=list)
    forced: str | None = None
    requeued: bool = False

    def derived_status(self, file_hash: str | None) -> IndexingStatus:
        """Tell the state as release 1.4.0 does: from the stored hash against the file's."""
        if not self.history and self.stored_hash is None:
            return "not_found"
        return "in_sync" if self.stored_hash is not None and self.stored_hash == file_hash else "out_of_sync"

    def status(self, file_hash: str | None) -> str:
        """Return the indexing status that is reported."""
        return self.forced or self.derived_status(file_hash)

    def note(self, status: str, file_hash: str | None, at: float, exception: str | None = None) -> None:
        """Add a history entry, newest first, losing the oldest beyond HISTORY_MAX; at is epoch seconds."""
        entry = Entry(status=status, hash_value=file_hash or HASH_OF_NONE, processing_timestamp=at, exception=exception)
        self.history = [entry, *self.history][:HISTORY_MAX]
        self.forced, self.requeued = None, False


@dataclasses.dataclass
class Asset:
    """One file and what the plugins know of it; file_hash is None when the storage does not have it."""

    url: str
    created_at: float
    version: int = 1
    asset_status: str = "ok"
    file_hash: str | None = None
    plugins: dict[str, Plugin] = dataclasses.field(default_factory=dict)
    metadata: dict[str, JSON] = dataclasses.field(default_factory=dict)

    def native(self) -> dict[str, JSON]:
        """Return it in the form a script gives it."""
        return {
            "asset_status": self.asset_status,
            "storage_asset_hash": self.file_hash,
            "plugins": {
                name: {
                    "indexing_status": plugin.status(self.file_hash),
                    "indexed_asset_hash": plugin.stored_hash,
                    "history": [entry.model_dump() for entry in plugin.history],
                }
                for name, plugin in self.plugins.items()
            },
            "metadata": self.metadata,
        }

    def write(self) -> None:
        """Let the file get new content."""
        self.version += 1
        self.asset_status, self.file_hash = "ok", content_hash(f"{self.url}#{self.version}")

    def vanish(self) -> None:
        """Let the file go from the storage; the plugins still remember it."""
        self.asset_status, self.file_hash = "file_not_found", None

    def apply(self, native: NativeAsset, at: float) -> None:
        """Change it as a script says; at is now, in epoch seconds."""
        if native.asset_status == "file_not_found":
            self.vanish()
        elif native.asset_status is not None or self.file_hash is None:
            self.asset_status = native.asset_status or "ok"
            self.file_hash = self.file_hash or content_hash(f"{self.url}#{self.version}")
        if native.storage_asset_hash is not None:
            self.file_hash = native.storage_asset_hash
        self.metadata.update(native.metadata or {})
        for name, plugin in (native.plugins or {}).items():
            if plugin is None:
                self.plugins.pop(name, None)
            else:
                self.plugins[name] = _scripted(plugin, self.file_hash, at)


def applicable(url: str, active: Collection[str]) -> list[str]:
    """List the active plugins that accept a file of this extension."""
    extension = url.rsplit("/", 1)[-1].rpartition(".")[2].lower()
    kinds = {"any", *(kind for kind, extensions in EXTENSIONS.items() if extension in extensions)}
    return [name for name in active if kinds.intersection(PLUGINS.get(name, ()))]


DEFAULT_HISTORY = {"in_sync": ["ok", "processing", "queued"], "out_of_sync": ["processing", "queued"]}


def _scripted(native: NativePlugin, file_hash: str | None, at: float) -> Plugin:
    """Make a plugin whose memory gives the wanted indexing status, or is forced to it."""
    wanted = native.indexing_status
    given = native.history
    if given is None:
        words = DEFAULT_HISTORY.get(wanted or "in_sync", [])
        given = [NativeEntry(status=word) for word in words]
    history = [
        Entry(
            status=entry.status,
            hash_value=entry.hash_value or file_hash or HASH_OF_NONE,
            processing_timestamp=at - age if entry.processing_timestamp is None else entry.processing_timestamp,
            exception=entry.exception,
        )
        for age, entry in enumerate(given)
    ]
    stored = native.indexed_asset_hash
    settled = not history or history[0].status not in {"queued", "processing"}
    if stored is None and (wanted == "in_sync" or (wanted is None and settled and native.history != [])):
        stored = file_hash
    plugin = Plugin(stored, history[:HISTORY_MAX])
    if wanted is not None and plugin.derived_status(file_hash) != wanted:
        plugin.forced = wanted
    return plugin
