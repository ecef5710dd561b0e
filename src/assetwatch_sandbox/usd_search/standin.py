"""The gateway of a USD Search deployment: the info and process calls over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp import web

from assetwatch_sandbox.standin import JSON, Standin
from assetwatch_sandbox.usd_search import lifecycle
from assetwatch_sandbox.usd_search.answers import (
    admitted,
    error,
    ingress_refusal,
    path_type,
    plugin_descriptions,
    plugin_info,
    unhandled,
)
from assetwatch_sandbox.usd_search.model import PLUGINS, Asset, NativeAsset, NativePlugin, Plugin, applicable
from assetwatch_sandbox.usd_search.queries import Invalid, choices, flag, required
from assetwatch_sandbox.usd_search.switches import BASE_URI, CREDENTIALS, UsdSearchSwitches

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from assetwatch_sandbox.faults import Handler

PRIORITIES = {"normal", "priority", "none"}
SEED_NAMES = ("crate.usd", "barrel.usda", "lamp.usdz", "wall.png", "sky.exr", "notes.txt", "chair.usdc")


class UsdSearch(Standin[UsdSearchSwitches]):
    """USD Search over the bucket BASE_URI; asset ids are storage URLs below it.

    put() takes asset_status, storage_asset_hash, plugins and metadata, see NativeAsset; an asset first put without
    plugins is in sync with all active ones that accept its extension.
    """

    kind = "usd_search"
    switch_type = UsdSearchSwitches

    def __init__(self, *, clock: Callable[[], float] = time.time, switches: Mapping[str, object] | None = None) -> None:
        super().__init__(clock=clock, switches=switches)
        self._assets: dict[str, Asset] = {}
        self._gone: dict[str, Asset] = {}

    @property
    def credentials(self) -> Mapping[str, str]:
        """The storage base URI, and what each setting of the `auth` switch asks for."""
        return CREDENTIALS

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the info and process calls; everything else is answered as the framework does."""
        served = {
            "/info/indexing/asset/status": self._status,
            "/info/plugins": self._plugins,
            "/info/backend/storage": self._storage,
            "/process/asset": self._process,
        }

        async def elsewhere(request: web.Request) -> web.Response:
            stem = request.path.rstrip("/")
            if request.path in served:
                return web.json_response({"detail": "Method Not Allowed"}, status=405, headers={"Allow": "GET"})
            if stem in served and self.switches.trailing_slash == "redirect":
                target = request.url.with_path(stem, keep_query=True)
                return web.Response(status=307, headers={"Location": str(target)})
            return web.json_response({"detail": "Not Found"}, status=404)

        calls = [web.get(path, self._guarded(call), allow_head=False) for path, call in served.items()]
        return [*calls, web.route("*", "/{path:.*}", elsewhere)]

    def put(self, asset_id: str, native: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Create or change an asset; a plugin given replaces what was known of it. Raises: ValueError."""
        wanted = NativeAsset.model_validate(native)
        if not _inside(asset_id):
            raise ValueError(f"{asset_id!r} is not below {BASE_URI}/")
        asset = self._assets.get(asset_id)
        if asset is None:
            asset = self._gone.pop(asset_id, None) or Asset(asset_id, created_at=self.clock())
            if wanted.plugins is None and not asset.plugins:
                names = applicable(asset_id, self.switches.active_plugins)
                wanted.plugins = {name: NativePlugin() for name in names}
        asset.apply(wanted, self.clock())
        self._assets[asset_id] = asset
        return self._recorded(asset)

    def remove(self, asset_id: str) -> None:
        """Delete the file; the plugins keep what they stored, so an asset once in sync is then out of it."""
        asset = self._assets.pop(asset_id)
        asset.vanish()
        self._gone[asset_id] = asset
        self.record(asset_id, None)

    def get(self, asset_id: str) -> Mapping[str, JSON] | None:
        """Return the asset in the form put() takes, or None."""
        asset = self._assets.get(asset_id)
        return None if asset is None else asset.native()

    def asset_ids(self) -> list[str]:
        """List the storage URLs."""
        return list(self._assets)

    def seed(self, rng: random.Random, count: int) -> None:
        """Put files of several kinds, each a few steps into its life."""
        for number in range(count):
            stem, _, extension = rng.choice(SEED_NAMES).rpartition(".")
            url = f"{BASE_URI}/props/{stem}-{number:05}.{extension}"
            asset = Asset(url, created_at=self.clock())
            asset.write()
            asset.plugins = {name: Plugin() for name in applicable(url, self.switches.active_plugins)}
            for _ in range(rng.randrange(4 * len(asset.plugins) + 1)):
                lifecycle.advance(asset, rng, self.clock())
            self._assets[url] = asset
            self._recorded(asset)

    def advance(self, rng: random.Random) -> None:
        """Move one asset one step; does nothing while there is none."""
        if self._assets:
            asset = self._assets[rng.choice(list(self._assets))]
            lifecycle.advance(asset, rng, self.clock())
            self._recorded(asset)

    def _recorded(self, asset: Asset) -> Mapping[str, JSON]:
        native = asset.native()
        self.record(asset.url, native)
        return native

    def _guarded(self, call: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not admitted(request, self.switches.auth):
                return ingress_refusal(self.switches)
            try:
                return await call(request)
            except Invalid as invalid:
                return web.json_response({"detail": [invalid.item]}, status=422)

        return guarded

    def _unable(self, url: str) -> web.Response | None:
        """Return the answer for a backend that is down or a URL outside the storage, if it is either."""
        outage = self.switches.outage
        if outage == "none":
            return None if _inside(url) else error(400, "Invalid URL", f"Invalid URL: {url!r}")
        if outage == "cache":
            return error(501, "Redis Cache unavailable", "Error connecting to the cache")
        if outage == "unhandled":
            return unhandled(self.switches)
        return error(501, "NGSearch storage backend unavailable", "Error connecting to the search backend")

    async def _status(self, request: web.Request) -> web.Response:
        url = required(request, "url")
        with_metadata = self._flag(request, "return_asset_metadata", default=False)
        if (refusal := self._unable(url)) is not None:
            return refusal
        asset = self._assets.get(url) or self._gone.get(url) or self._unknown(url)
        metadata = path_type(asset) if with_metadata and asset.file_hash is not None else None
        body = {
            "url": url,
            "plugins_statuses": {
                name: plugin_info(p, asset.file_hash, self.switches) for name, p in asset.plugins.items()
            },
            "storage_backend_info": {
                "asset_status": asset.asset_status,
                "storage_asset_hash": asset.file_hash,
                "metadata": metadata,
            },
        }
        return web.json_response(body)

    def _unknown(self, url: str) -> Asset:
        plugins = {name: Plugin() for name in applicable(url, self.switches.active_plugins)}
        return Asset(url, created_at=0, asset_status="file_not_found", plugins=plugins)

    async def _plugins(self, request: web.Request) -> web.Response:
        only_active = self._flag(request, "only_active", default=True)
        return web.json_response(plugin_descriptions(self.switches.active_plugins, only_active=only_active))

    async def _storage(self, request: web.Request) -> web.Response:
        backend: dict[str, JSON] = {"storage_backend_type": "s3", "base_url": BASE_URI}
        if self._flag(request, "check_availability", default=False):
            backend["available"] = self.switches.outage != "storage"
        return web.json_response({"backends": {BASE_URI: backend}})

    async def _process(self, request: web.Request) -> web.Response:
        url = required(request, "url")
        flags = {
            name: self._flag(request, name, default=name == "refresh_plugins")
            for name in ("refresh_plugins", "refresh_metadata", "refresh_tags")
        }
        wanted = choices(request, "plugins", PLUGINS)
        choices(request, "priority", PRIORITIES)
        if (refusal := self._unable(url)) is not None:
            return refusal
        asset = self._assets.get(url)
        if asset is None or asset.file_hash is None:
            return error(400, "Asset missing", f"Asset missing: {url!r}")
        fitting = applicable(url, self.switches.active_plugins)
        chosen = [name for name in fitting if not wanted or name in wanted]
        if flags["refresh_plugins"] and not chosen:
            return error(400, "Empty plugin list.", "No plugin accepts this asset")
        if flags["refresh_plugins"]:
            lifecycle.requeue(asset, chosen)
            self._recorded(asset)
        return web.json_response(
            {
                "status": "submitted",
                "plugins": chosen if flags["refresh_plugins"] else [],
                "ignored_plugins": [name for name in wanted if name not in chosen],
                "metadata_refreshed": flags["refresh_metadata"],
                "tags_refreshed": flags["refresh_tags"],
            }
        )

    def _flag(self, request: web.Request, name: str, *, default: bool) -> bool:
        return flag(request, name, default=default, lenient=self.switches.lenient_booleans)


def _inside(url: str) -> bool:
    return url.startswith(f"{BASE_URI}/")
