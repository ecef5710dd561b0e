"""The bodies the gateway answers with."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from aiohttp import web

from assetwatch_sandbox.usd_search.model import PLUGINS
from assetwatch_sandbox.usd_search.switches import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Collection

    from assetwatch_sandbox.standin import JSON
    from assetwatch_sandbox.usd_search.model import Asset, Plugin
    from assetwatch_sandbox.usd_search.switches import UsdSearchSwitches


def plugin_info(plugin: Plugin, file_hash: str | None, switches: UsdSearchSwitches) -> JSON:
    """Return what the status call says of one plugin; absent optionals are nulls."""
    history = [
        {
            "status": entry.status,
            "hash_value": entry.hash_value,
            "processing_timestamp": _shown(entry.processing_timestamp, switches),
            "exception": entry.exception,
        }
        for entry in plugin.history
    ]
    return {
        "indexing_status": plugin.status(file_hash),
        "indexed_asset_hash": plugin.stored_hash,
        "plugin_status_history": history or None,
    }


def _shown(at: float | str, switches: UsdSearchSwitches) -> float | str:
    if isinstance(at, str) or switches.timestamps == "epoch":
        return at
    zone = timezone(timedelta(minutes=switches.server_utc_offset_minutes))
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None).isoformat(" ", "milliseconds")


def plugin_descriptions(active: Collection[str], *, only_active: bool) -> JSON:
    """Return the deployment's plugins."""
    return [
        {
            "name": name,
            "description": name.replace("_", " "),
            "data_types": list(types),
            "requires_rendering": name.startswith(("rendering", "thumbnail_generation")),
            "active": name in active,
            "config": {},
        }
        for name, types in PLUGINS.items()
        if name in active or not only_active
    ]


def error(status: int, error: str, details: str) -> web.Response:
    """Return a refusal of the service's own."""
    return web.json_response({"error": error, "details": details}, status=status)


def unhandled(switches: UsdSearchSwitches) -> web.Response:
    """Return what the framework answers when nothing handled an error [assumed]."""
    text = "Internal Server Error"
    if switches.unhandled_body == "json":
        return web.json_response({"detail": text}, status=500)
    return web.Response(status=500, text=text)


def path_type(asset: Asset) -> JSON:
    """Return the storage's own record of the file; every field of it is optional (client 1.3.0)."""
    return {
        "uri": asset.url,
        "etag": asset.file_hash,
        "event": "create",
        "type": "file",
        "ts": {"created": int(asset.created_at)},
        "size": 4096 * asset.version,
        "created_by": "sandbox",
        "created_date_seconds": asset.created_at,
        "hash_type": "md5",
        "hash_value": asset.file_hash,
        "is_deleted": False,
        "source": "subscription",
        **asset.metadata,
    }


def admitted(request: web.Request, auth: str) -> bool:
    """Tell whether a request carries the credential that the `auth` switch asks for."""
    basic = base64.b64encode(f"{CREDENTIALS['username']}:{CREDENTIALS['password']}".encode()).decode()
    sent = request.headers.get("Authorization")
    match auth:
        case "basic":
            return sent == f"Basic {basic}"
        case "bearer":
            return sent == f"Bearer {CREDENTIALS['token']}"
        case "api_key":
            return request.headers.get("x-api-key") == CREDENTIALS["api_key"]
        case _:
            return True


def ingress_refusal(switches: UsdSearchSwitches) -> web.Response:
    """Return the refusal of an ingress in front of the service [assumed]."""
    title = "401 Authorization Required" if switches.refusal_status == 401 else "403 Forbidden"  # noqa: PLR2004 - HTTP
    headers = {"WWW-Authenticate": 'Basic realm="usd-search"'} if switches.auth == "basic" else {}
    text = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    return web.Response(status=switches.refusal_status, text=text, content_type="text/html", headers=headers)
