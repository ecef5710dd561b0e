"""The credentials of a sandbox deployment of USD Search, and the behaviours that may differ between deployments."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Literal

from assetwatch_sandbox.standin import Switches

BASE_URI = "s3://studio-assets"
CREDENTIALS = MappingProxyType(
    {
        "base_uri": BASE_URI,
        "username": "sandbox-user",
        "password": "sandbox-password",
        "token": "sandbox-usd-search-token",
        "api_key": "sandbox-usd-search-key",
    }
)


@dataclasses.dataclass(frozen=True)
class UsdSearchSwitches(Switches):
    """Behaviours that may differ between deployments of USD Search."""

    auth: Literal["none", "basic", "bearer", "api_key"] = "none"
    """What an ingress in front asks for; the info service itself checks nothing."""
    refusal_status: Literal[401, 403] = 401
    """What that ingress answers to a missing or wrong credential [assumed], with HTML [assumed]."""
    active_plugins: tuple[str, ...] = (
        "thumbnail_generation",
        "rendering_to_embedding",
        "image_to_embedding",
        "asset_graph_generation",
    )
    """The plugins the deployment runs [assumed]; an asset none of them accepts has an empty map."""
    trailing_slash: Literal["not_found", "redirect"] = "not_found"
    """Since 1.4.0 a trailing slash is 404; before, it was a redirect."""
    lenient_booleans: bool = True
    """Whether a boolean may be spelt as True, 1 or yes [assumed, framework default]; else true and false alone."""
    timestamps: Literal["local", "epoch"] = "local"
    """1.4.0 sends server-local text without a zone; the type allows epoch seconds too."""
    server_utc_offset_minutes: int = 0
    """How far the server's local time is from UTC."""
    outage: Literal["none", "cache", "storage", "unhandled"] = "none"
    """Which backend is down; the status and process calls then answer 501, or 500 when nothing handled the error."""
    unhandled_body: Literal["text", "json"] = "text"
    """The body of that 500: the framework's plain text, or its JSON [assumed]."""
