"""The product's calls: registration, its status, analysis and lists, behind the gateway."""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from assetwatch_sandbox.media_intelligence.assets import (
    ANALYSIS_NEXT,
    OUTCOMES,
    AssetPath,
    Assets,
    Native,
    Project,
    changed,
    next_fields,
    parse_asset_id,
    plausible_file,
)
from assetwatch_sandbox.media_intelligence.gateway import Gateway
from assetwatch_sandbox.media_intelligence.results import (
    analyze_status,
    import_status,
    list_item,
    page,
    page_wanted,
    slice_page,
)
from assetwatch_sandbox.media_intelligence.switches import MediaIntelligenceSwitches

ResultOf = Callable[..., dict[str, object]]

API = "/api/v1/workspaces"
PROJECT = f"{API}/{{workspace}}/projects/{{project}}"
SEED_PROJECTS = (Project("studio-main", "1234"), Project("studio-main", "1235"), Project("archive-2025", "77"))
USER = "sandbox-user"
SOURCE_KEYS = frozenset({"key", "bucketName"})


class MediaIntelligenceStandin(Gateway):
    """Media Intelligence: one registration state an asset, polled over signed GETs.

    Asset ids are `workspace/project/asset`. Native fields: uploadStatus, uploadResult, metaData, name, analyzeStatus,
    analyzeMessage; those left out of a put stay as they were.
    """

    kind = "media_intelligence"
    switch_type = MediaIntelligenceSwitches

    def __init__(self, *, clock: Callable[[], float] = time.time, switches: Mapping[str, object] | None = None) -> None:
        super().__init__(clock=clock, switches=switches)
        self._assets = Assets()

    def put(self, asset_id: str, native: Native) -> dict[str, object]:
        """Create an asset or change some of its fields. Raises: ValueError."""
        path = parse_asset_id(asset_id)
        held = self._assets.get(path)
        asset = changed(held, native, number=path.number)
        if asset != held:
            self._assets.put(path, asset)
            self.record(str(path), asset)
        return dict(asset)

    def remove(self, asset_id: str) -> None:
        """Forget an asset: the product has no deleted state. Raises: KeyError."""
        path = _parsed(asset_id)
        if path is None:
            raise KeyError(asset_id)
        self._assets.remove(path)
        self.record(str(path), None)

    def get(self, asset_id: str) -> dict[str, object] | None:
        """Return the native fields held of an asset, or None."""
        path = _parsed(asset_id)
        asset = None if path is None else self._assets.get(path)
        return None if asset is None else dict(asset)

    def asset_ids(self) -> list[str]:
        """List every asset as workspace/project/asset."""
        return [str(path) for path in self._assets.paths()]

    def seed(self, rng: random.Random, count: int) -> None:
        """Register `count` made-up files, most of them long since completed."""
        for _ in range(count):
            path = self._assets.new_path(rng.choice(SEED_PROJECTS))
            status = rng.choice((*OUTCOMES, "IN_PROGRESS", "IN_PROGRESS"))
            self.put(str(path), {**plausible_file(rng, path.number), "uploadStatus": status})

    def advance(self, rng: random.Random) -> None:
        """Move one asset on: copied or refused, analysed, or registered anew."""
        if paths := self._assets.paths():
            path = rng.choice(paths)
            self.put(str(path), next_fields(self._assets.get(path) or {}, rng))

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the calls of the guide, the deprecated twins, and the gateway's own 404 for the rest."""
        calls: dict[tuple[str, str], Any] = {
            ("GET", API): self._list_workspaces,
            ("GET", f"{API}/{{workspace}}/projects"): self._list_projects,
        }
        for collection, id_field in (("assets", "assetId"), ("video-assets", "videoId")):
            base = f"{PROJECT}/{collection}"
            calls["GET", base] = self._lister(id_field)
            calls["POST", f"{base}/import/object-storage"] = self._registrar(id_field)
            calls["GET", f"{base}/{{asset}}/import-status"] = self._teller(import_status, id_field)
            calls["GET", f"{base}/{{asset}}/analyze-status"] = self._teller(analyze_status, id_field)
            calls["POST", f"{base}/{{asset}}/analyze"] = self._analyst(id_field)
        guarded = [web.route(method, path, self.guard(call)) for (method, path), call in calls.items()]
        return [*guarded, web.route("*", "/{tail:.*}", self.no_such_call)]

    def _teller(self, result_of: ResultOf, id_field: str) -> Callable[[web.Request], object]:
        async def tell(request: web.Request) -> web.Response:
            path = _asset_path(request)
            if path is None:
                return self.product_error("invalid_request")
            asset = self._assets.get(path)
            if asset is None:
                return self.product_error("asset_not_found")
            return self.success(result_of(path, asset, self.switches, id_field=id_field))

        return tell

    def _lister(self, id_field: str) -> Callable[[web.Request], object]:
        async def list_assets(request: web.Request) -> web.Response:
            wanted = page_wanted(request.query)
            if wanted is None:
                return self.product_error("invalid_request")
            project = _project(request)
            rows = list(self._assets.by_project.get(project, {}).items())
            content = [
                list_item(AssetPath(project, number), asset, self.switches, id_field=id_field)
                for number, asset in slice_page(rows, *wanted)
            ]
            return self.success(page(content, total=len(rows), number=wanted[0], size=wanted[1]))

        return list_assets

    def _registrar(self, id_field: str) -> Callable[[web.Request], object]:
        async def register(request: web.Request) -> web.Response:
            source = await self.read_object(request)
            if source is None or not all(source.get(name) and isinstance(source[name], str) for name in SOURCE_KEYS):
                return self.product_error("invalid_request")
            if source["key"].endswith("/"):
                return self.product_error("select_bucket")
            path = self._assets.new_path(_project(request))
            try:
                self.put(str(path), {"name": source["key"].rpartition("/")[2]})
            except ValueError:
                return self.product_error("invalid_request")
            return self.success({id_field: path.number, "createUserName": USER})

        return register

    def _analyst(self, id_field: str) -> Callable[[web.Request], object]:
        async def analyze(request: web.Request) -> web.Response:
            path = _asset_path(request)
            asset = None if path is None else self._assets.get(path)
            if path is None or asset is None:
                return self.product_error("asset_not_found")
            if asset["uploadStatus"] != "COMPLETED" or asset["analyzeStatus"] in {"WAIT_ANALYZE", "ANALYZING"}:
                return self.product_error("select_asset")
            self.put(str(path), {"analyzeStatus": ANALYSIS_NEXT["BEFORE_ANALYZE"][0]})
            return self.success({id_field: path.number})

        return analyze

    async def _list_workspaces(self, request: web.Request) -> web.Response:
        names = sorted({project.workspace for project in self._assets.by_project})
        return self._listed(request.query, [{"workspaceName": name} for name in names])

    async def _list_projects(self, request: web.Request) -> web.Response:
        workspace = request.match_info["workspace"]
        names = sorted(key.project for key in self._assets.by_project if key.workspace == workspace)
        return self._listed(request.query, [{"projectId": name, "projectName": f"project {name}"} for name in names])

    def _listed(self, query: Mapping[str, str], rows: list[dict[str, object]]) -> web.Response:
        number, size = page_wanted({"pageNum": "1", **query}) or (0, 0)
        if not number:
            return self.product_error("invalid_request")
        return self.success(page(list(slice_page(rows, number, size)), total=len(rows), number=number, size=size))


def _parsed(asset_id: str) -> AssetPath | None:
    try:
        return parse_asset_id(asset_id)
    except ValueError:
        return None


def _project(request: web.Request) -> Project:
    return Project(request.match_info["workspace"], request.match_info["project"])


def _asset_path(request: web.Request) -> AssetPath | None:
    number = request.match_info["asset"]
    return AssetPath(_project(request), int(number)) if number.isascii() and number.isdigit() else None
