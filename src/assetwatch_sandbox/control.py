"""The control endpoint: scripts the state, the faults and the switches of every stand-in over HTTP and JSON.

Paths below /sources/{name}: assets, assets/{id}, faults, requests, switches, truth, up, down, commands/{verb}.
A refusal is {"error": text} with 400 (what was sent is wrong) or 404 (there is no such thing).
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import ValidationError

from assetwatch_sandbox.faults import Fault
from assetwatch_sandbox.standin import JSON, REQUEST_BODY_BYTES_MAX, AnyStandin, Listener

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox.faults import Handler


class Control:
    """An HTTP server over stand-ins by name."""

    def __init__(self, standins: Mapping[str, AnyStandin]) -> None:
        self._standins = standins
        self._listener = Listener()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash. Raises: RuntimeError before the first start."""
        return self._listener.url

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; does nothing when it already does."""
        if not self._listener.running:
            await self._listener.start(self._app(), host, port)

    async def stop(self) -> None:
        """Stop listening; the stand-ins stay as they are."""
        await self._listener.stop()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_refusals_as_json], client_max_size=REQUEST_BODY_BYTES_MAX)
        source = "/sources/{name}"
        app.add_routes(
            [
                web.get("/", self._overview),
                web.get(source, self._source),
                web.get(f"{source}/assets", self._list_assets),
                web.get(f"{source}/assets/{{id:.+}}", self._get_asset),
                web.put(f"{source}/assets/{{id:.+}}", self._put_asset),
                web.delete(f"{source}/assets/{{id:.+}}", self._delete_asset),
                web.get(f"{source}/faults", self._get_faults),
                web.post(f"{source}/faults", self._add_faults),
                web.delete(f"{source}/faults", self._clear_faults),
                web.get(f"{source}/requests", self._get_requests),
                web.delete(f"{source}/requests", self._clear_requests),
                web.get(f"{source}/switches", self._get_switches),
                web.patch(f"{source}/switches", self._set_switches),
                web.get(f"{source}/truth", self._get_truth),
                web.post(f"{source}/up", self._up),
                web.post(f"{source}/down", self._down),
                web.post(f"{source}/commands/{{verb}}", self._command),
            ]
        )
        return app

    def _standin(self, request: web.Request) -> AnyStandin:
        name = request.match_info["name"]
        if name not in self._standins:
            raise _refusal(web.HTTPNotFound, f"no source {name!r}; there are {', '.join(self._standins)}")
        return self._standins[name]

    async def _overview(self, _request: web.Request) -> web.Response:
        return web.json_response({name: _describe(standin) for name, standin in self._standins.items()})

    async def _source(self, request: web.Request) -> web.Response:
        return web.json_response(_describe(self._standin(request)))

    async def _list_assets(self, request: web.Request) -> web.Response:
        return web.json_response(self._standin(request).asset_ids())

    async def _get_asset(self, request: web.Request) -> web.Response:
        held = self._standin(request).get(request.match_info["id"])
        if held is None:
            raise _refusal(web.HTTPNotFound, f"no asset {request.match_info['id']!r}")
        return web.json_response(held)

    async def _put_asset(self, request: web.Request) -> web.Response:
        native = await _object(request)
        return web.json_response(self._standin(request).put(request.match_info["id"], native))

    async def _delete_asset(self, request: web.Request) -> web.Response:
        asset_id = request.match_info["id"]
        try:
            self._standin(request).remove(asset_id)
        except KeyError:
            raise _refusal(web.HTTPNotFound, f"no asset {asset_id!r}") from None
        return web.Response(status=204)

    async def _get_faults(self, request: web.Request) -> web.Response:
        return web.json_response(_dump(self._standin(request).faults.active))

    async def _add_faults(self, request: web.Request) -> web.Response:
        faults = self._standin(request).faults
        sent = await _json(request)
        ready = [Fault.model_validate(fields) for fields in (sent if isinstance(sent, list) else [sent])]
        for fault in ready:
            faults.add(fault)
        return web.json_response(_dump(ready), status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._standin(request).faults.clear()
        return web.Response(status=204)

    async def _get_requests(self, request: web.Request) -> web.Response:
        requests = self._standin(request).requests
        path = request.query.get("path", "")
        try:
            matching = [each for each in requests.all() if re.search(path, each.path_qs)]
        except re.error as error:
            raise ValueError(f"path: not a regular expression: {error}") from error
        body = {"count": len(matching), "requests": [dataclasses.asdict(each) for each in matching]}
        return web.json_response(body)

    async def _clear_requests(self, request: web.Request) -> web.Response:
        self._standin(request).requests.clear()
        return web.Response(status=204)

    async def _get_switches(self, request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(self._standin(request).switches))

    async def _set_switches(self, request: web.Request) -> web.Response:
        standin = self._standin(request)
        standin.switch(await _object(request))
        return web.json_response(dataclasses.asdict(standin.switches))

    async def _get_truth(self, request: web.Request) -> web.Response:
        asset_id = request.query.get("asset_id")
        truth = [each for each in self._standin(request).truth if asset_id in {None, each.asset_id}]
        return web.json_response({"now": time.monotonic(), "truth": [each._asdict() for each in truth]})

    async def _up(self, request: web.Request) -> web.Response:
        standin = self._standin(request)
        await standin.start()
        return web.json_response(_describe(standin))

    async def _down(self, request: web.Request) -> web.Response:
        standin = self._standin(request)
        await standin.stop()
        return web.json_response(_describe(standin))

    async def _command(self, request: web.Request) -> web.Response:
        commands, verb = self._standin(request).commands, request.match_info["verb"]
        if verb not in commands:
            raise _refusal(web.HTTPNotFound, f"no command {verb!r}; there are {', '.join(commands) or 'none'}")
        return web.json_response(await commands[verb](await _json(request)))


def _describe(standin: AnyStandin) -> JSON:
    return {
        "kind": standin.kind,
        "url": standin.url if standin.running else None,
        "running": standin.running,
        "credentials": dict(standin.credentials),
        "assets": len(standin.asset_ids()),
        "requests": standin.requests.count(),
        "faults": len(standin.faults.active),
        "commands": sorted(standin.commands),
    }


def _dump(faults: list[Fault]) -> JSON:
    return [fault.model_dump(exclude_defaults=True) for fault in faults]


async def _json(request: web.Request) -> JSON:
    """Return the body; an empty one is an empty object. Raises: ValueError."""
    text = await request.text()
    return json.loads(text) if text.strip() else {}


async def _object(request: web.Request) -> dict[str, JSON]:
    body = await _json(request)
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004 - answered as 400, like all of them
    return body


def _refusal(kind: type[web.HTTPClientError], text: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": text}), content_type="application/json")


@web.middleware
async def _refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise _refusal(web.HTTPBadRequest, "; ".join(problems)) from None
    except ValueError as error:
        raise _refusal(web.HTTPBadRequest, str(error)) from None
