"""The Core API of an OMN installation: statuses by list of ids, and the query that finds assets."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

from aiohttp import web

from assetwatch_sandbox.omn.documents import chosen_form, refusal, statuses
from assetwatch_sandbox.omn.model import (
    DIRECTORY,
    FIRST_ID,
    Asset,
    NativeAsset,
    ancestors,
    directory_keys,
    made_up_tid,
    parse_time,
)
from assetwatch_sandbox.omn.switches import CREDENTIALS, OmnSwitches
from assetwatch_sandbox.omn.tokens import DISCOVERY_PATH, TOKEN_PATH, Tokens
from assetwatch_sandbox.standin import JSON, Standin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from assetwatch_sandbox.faults import Handler

API = "/api/core/v1/dam/assets"
CRITERIA = {"modifiedFrom", "modifiedUntil", "fileTypes", "directory"}
STATES = {"import_state", "object_state"}
SEED_DIRECTORIES = (DIRECTORY, "/MAM/campaign/autumn", "/MAM/products", "/MAM/press/2026")
SEED_FILE_TYPES = ("IMG", "IMG", "VIDEO", "DOC")


class Omn(Standin[OmnSwitches]):
    """OMN; asset ids are `tid:` and a technical id, or `id:` and a number. An asset first put is available.

    put() takes ImportState, ObjectState, id, modified, path, fileType and meta, see NativeAsset.
    """

    kind = "omn"
    switch_type = OmnSwitches

    def __init__(self, *, clock: Callable[[], float] = time.time, switches: Mapping[str, object] | None = None) -> None:
        super().__init__(clock=clock, switches=switches)
        self._by_tid: dict[str, Asset] = {}
        self._by_id: dict[int, Asset] = {}
        self._next_id = FIRST_ID
        self._tokens = Tokens(clock, lambda: self.switches)

    @property
    def credentials(self) -> Mapping[str, str]:
        """A ready token, the key to sign one (5.12), and the offline token and client to get one with (6.0)."""
        return CREDENTIALS

    def routes(self) -> Iterable[web.RouteDef]:
        """Serve the status and query calls, and the realm's two where the release has a realm."""
        return [
            web.post(f"{API}/status", self._guarded(self._status)),
            web.post(f"{API}/query", self._guarded(self._query)),
            web.get(DISCOVERY_PATH, self._discovery),
            web.post(TOKEN_PATH, self._token),
            web.route("*", "/{path:.*}", _elsewhere),
        ]

    def put(self, asset_id: str, native: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Create or change an asset; by default a change of state alone is no modification. Raises: ValueError."""
        wanted = NativeAsset.model_validate(native)
        asset = self._find(asset_id) or self._created(asset_id, wanted)
        if wanted.tid not in {None, asset.tid} or wanted.id not in {None, asset.id}:
            raise ValueError(f"{asset_id!r} already has tid {asset.tid!r} and id {asset.id}")
        modifies = self.switches.status_is_modification or not wanted.model_fields_set <= STATES
        asset.apply(wanted, self.clock() if modifies else asset.modified)
        return self._recorded(asset)

    def remove(self, asset_id: str) -> None:
        """Take an asset away without a trace, as OMN does in the end."""
        asset = self._find(asset_id)
        if asset is None:
            raise KeyError(asset_id)
        self._drop(asset)

    def get(self, asset_id: str) -> Mapping[str, JSON] | None:
        """Return the asset in the form put() takes, or None."""
        asset = self._find(asset_id)
        return None if asset is None else asset.native()

    def asset_ids(self) -> list[str]:
        """List the assets by tid."""
        return [f"tid:{tid}" for tid in self._by_tid]

    def seed(self, rng: random.Random, count: int) -> None:
        """Put assets of several types and directories, each a few steps into its life."""
        for _ in range(count):
            asset = self._uploaded(rng)
            for _ in range(rng.randrange(6)):
                if asset.object_state != "marked for deletion":
                    asset.step(rng)
            self._recorded(asset)

    def advance(self, rng: random.Random) -> None:
        """Move one asset one step; one that goes for good is followed by a new upload."""
        if not self._by_tid:
            return
        asset = self._by_tid[rng.choice(list(self._by_tid))]
        if asset.step(rng):
            if self.switches.status_is_modification:
                asset.modified = self.clock()
        else:
            self._drop(asset)
            asset = self._uploaded(rng)
        self._recorded(asset)

    def _find(self, asset_id: str) -> Asset | None:
        """Return the asset of an id in either form. Raises: ValueError when it has neither."""
        form, _, value = asset_id.partition(":")
        if form == "tid" and value:
            return self._by_tid.get(value)
        if form == "id" and value.isdecimal():
            return self._by_id.get(int(value))
        raise ValueError(f"{asset_id!r} is neither tid:TEXT nor id:NUMBER")

    def _created(self, asset_id: str, wanted: NativeAsset) -> Asset:
        form, _, value = asset_id.partition(":")
        if form == "tid":
            return self._added(value, wanted.id)
        rng = random.Random(asset_id)  # noqa: S311 - the same id gets the same tid each time
        return self._added(wanted.tid or made_up_tid(rng), int(value))

    def _added(self, tid: str, number: int | None) -> Asset:
        """Hold a new asset; without a number it gets the next. Raises: ValueError when tid or number is taken."""
        if number is None:
            number = self._next_id
        if tid in self._by_tid or number in self._by_id:
            raise ValueError(f"tid {tid!r} or id {number} is another asset's")
        self._next_id = max(self._next_id, number + 1)
        asset = Asset(tid, number, modified=self.clock())
        self._by_tid[tid] = self._by_id[number] = asset
        return asset

    def _uploaded(self, rng: random.Random) -> Asset:
        while (tid := made_up_tid(rng)) in self._by_tid:
            pass
        asset = self._added(tid, None)
        asset.import_state, asset.object_state = "pending", "import incomplete"
        asset.path, asset.file_type = rng.choice(SEED_DIRECTORIES), rng.choice(SEED_FILE_TYPES)
        return asset

    def _drop(self, asset: Asset) -> None:
        del self._by_tid[asset.tid], self._by_id[asset.id]
        self.record(f"tid:{asset.tid}", None)

    def _recorded(self, asset: Asset) -> Mapping[str, JSON]:
        native = asset.native()
        self.record(f"tid:{asset.tid}", native)
        return native

    def _guarded(self, call: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if not self._tokens.admits(request.headers.get("Authorization")):
                return _unauthorised(self.switches.unauthorised_answer)
            try:
                return await call(request)
            except ValueError as error:
                return refusal(400, str(error))

        return guarded

    async def _status(self, request: web.Request) -> web.Response:
        body = await _object(request)
        known, unknown = self._asked(body)
        if not known and not unknown and self.switches.empty_lists == "refuse":
            raise ValueError("Neither tids nor ids given")
        limit = self.switches.batch_max
        if limit is not None and len(known) + unknown > limit:
            raise ValueError(f"More than {limit} assets requested")
        lost = unknown and (self.switches.unknown_ids == "refuse" or not known)
        if lost and (known or self.switches.none_known == "not_found"):
            return refusal(404, "Asset not found")
        if self.switches.reply_order == "reversed":
            known.reverse()
        form = chosen_form(request.headers.get("Accept"), self.switches)
        return statuses(known, form, self.switches, self.clock())

    def _asked(self, body: dict[str, JSON]) -> tuple[list[Asset], int]:
        """Return the known assets of a request and how many ids are unknown; ids count only without tids."""
        tids, ids = _texts(body, "tids"), body.get("ids")
        # Published: where there are tids, ids are ignored.
        if tids:
            found = [self._by_tid.get(tid) for tid in dict.fromkeys(tids)]
        else:
            numbers = [self._number(value) for value in _list(ids, "ids")]
            found = [self._by_id.get(number) for number in dict.fromkeys(numbers)]
        known = [asset for asset in found if asset is not None]
        return known, len(found) - len(known)

    def _number(self, value: JSON) -> int:
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        if self.switches.numeric_ids and isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ValueError("ids: not an id")

    async def _query(self, request: web.Request) -> web.Response:
        body = await _object(request)
        if not CRITERIA.intersection(body) and self.switches.query_without_criteria == "refuse":
            raise ValueError("No search criteria given")
        since = parse_time(body["modifiedFrom"]) if "modifiedFrom" in body else float("-inf")
        until = parse_time(body["modifiedUntil"]) if "modifiedUntil" in body else float("inf")
        types = set(_texts(body, "fileTypes"))
        directory = body.get("directory")
        found = [
            asset.tid
            for asset in self._by_tid.values()
            if since <= asset.modified <= until
            and (not types or asset.file_type in types)
            and (directory is None or self._lies_in(asset.path, directory))
        ]
        return web.json_response({"tids": found})

    def _lies_in(self, path: str, directory: JSON) -> bool:
        """Tell whether a path is in a directory named by path, id or tid. Raises: ValueError."""
        if not isinstance(directory, dict) or not {"path", "id", "tid"}.intersection(directory):
            raise ValueError("directory: one of path, id and tid is needed")
        candidates = ancestors(path)[: None if self.switches.directory_is_recursive else 1]
        if "path" in directory:
            return str(directory["path"]).rstrip("/") in candidates
        keys = [directory_keys(candidate) for candidate in candidates]
        return any(str(directory.get("id")) == str(number) or directory.get("tid") == tid for number, tid in keys)

    async def _discovery(self, request: web.Request) -> web.Response:
        if self.switches.release != "6.0":
            return await _elsewhere(request)
        return self._tokens.discovery(self.url)

    async def _token(self, request: web.Request) -> web.Response:
        if self.switches.release != "6.0":
            return await _elsewhere(request)
        return await self._tokens.issue(request)


async def _elsewhere(request: web.Request) -> web.Response:
    return refusal(404, f"Nothing at {request.path}")


def _unauthorised(form: str) -> web.Response:
    """Answer 401 as OMN, or as something in front of it, would [assumed]."""
    if form == "document":
        return refusal(401, "Unauthorized")
    text = "" if form == "empty" else "<html><head><title>Unauthorized</title></head><body>Unauthorized</body></html>"
    return web.Response(status=401, text=text, content_type="text/html")


async def _object(request: web.Request) -> dict[str, JSON]:
    if request.content_type != "application/json":
        raise ValueError("The request must be application/json")
    body = json.loads(await request.text())
    if not isinstance(body, dict):
        raise ValueError("The request must be a JSON object")  # noqa: TRY004 - answered as 400, like all of them
    return body


def _list(value: JSON, name: str) -> list[JSON]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{name}: not a list")  # noqa: TRY004 - answered as 400, like all of them
    return value


def _texts(body: Mapping[str, JSON], name: str) -> list[str]:
    values = _list(body.get(name), name)
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(values):
        raise ValueError(f"{name}: not a list of texts")
    return texts
