"""The five upstreams of a run: the sandbox, a proxy before each, and what the server is told about them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from assetwatch_sandbox import Sandbox
from faults.rig.proxy import Proxy
from support.rig import of_standin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox.standin import Standin

USD, OMN, PIECES, MEDIA, SBC = SOURCES = ("usd-search", "omn", "pieces", "media-intelligence", "oracle-sbc")

QUICK: Mapping[str, float] = {
    "busy_interval_s": 0.1,
    "settled_interval_s": 0.2,
    "enumerate_interval_s": 0.3,
    "reconcile_interval_s": 600,
    "backoff_first_s": 0.05,
    "backoff_max_s": 0.3,
    "refused_backoff_max_s": 0.6,
    "probe_interval_s": 0.5,
    "timeout_s": 1,
    "linger_s": 1,
}
"""A poll about every 100 ms, so that limits and races are met within seconds."""
PACE: Mapping[str, Mapping[str, float]] = {
    USD: {"rate_per_s": 150, "busy_interval_s": 0.25, "settled_interval_s": 0.5},
    OMN: {"rate_per_s": 60},
    PIECES: {"rate_per_s": 400},
    MEDIA: {"rate_per_s": 150, "busy_interval_s": 0.25, "settled_interval_s": 0.5},
    SBC: {"rate_per_s": 20},
}
PACE_FULL: Mapping[str, Mapping[str, float]] = {
    USD: {"rate_per_s": 150, "busy_interval_s": 1.0, "settled_interval_s": 2.0},
    OMN: {"rate_per_s": 60, "busy_interval_s": 0.5, "settled_interval_s": 1.0},
    PIECES: {"rate_per_s": 400},
    MEDIA: {"rate_per_s": 150, "busy_interval_s": 1.0, "settled_interval_s": 2.0},
    SBC: {"rate_per_s": 20},
}
"""For 2,000 assets: two cores carry the stand-ins, the server and all clients."""


class Upstreams:
    """Stand-ins in this process; the server reaches each through its proxy.

    ahead_s: of their clocks; misdated: how often a clock was asked while it was off.
    """

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.misdated = 0
        self.sandbox = Sandbox(SOURCES, clock=self._now)
        self.proxies: dict[str, Proxy] = {}

    def __getitem__(self, name: str) -> Standin[Any]:
        """Return a stand-in."""
        return self.sandbox.standins[name]

    def _now(self) -> float:
        self.misdated += self.ahead_s != 0.0
        return time.time() + self.ahead_s

    async def start(self, callers: int = 1) -> None:
        """Listen, stand-ins and proxies, these on an address for each caller."""
        await self.sandbox.start()
        for name, standin in self.sandbox.standins.items():
            parts = urlsplit(standin.url)
            assert parts.hostname is not None
            assert parts.port is not None
            self.proxies[name] = Proxy(parts.hostname, parts.port)
            await self.proxies[name].start(callers)

    async def stop(self) -> None:
        """Stop all."""
        self.heal()
        for proxy in self.proxies.values():
            await proxy.stop()
        await self.sandbox.stop()

    def heal(self) -> None:
        """Clear every fault of stand-ins and links."""
        self.ahead_s = 0.0
        for proxy in self.proxies.values():
            proxy.heal()
        for standin in self.sandbox.standins.values():
            standin.faults.clear()

    def callers(self, name: str) -> list[tuple[float, int, str]]:
        """When each request came to a stand-in, which caller sent it, for what; without what came past the proxies."""
        numbers = {address: number for number, address in enumerate(self.proxies[name].addresses)}
        asked = (each for each in self[name].requests.all() if each.host in numbers)
        return [(each.time, numbers[each.host], each.path_qs) for each in asked]

    def settings(self, pace: Mapping[str, Mapping[str, float]] = PACE, caller: int = 0) -> dict[str, dict[str, Any]]:
        """Return what a caller is told about each; call it once the assets are there."""
        return {
            name: {
                **of_standin(standin),
                "base_url": f"http://{self.proxies[name].addresses[caller]}",
                **QUICK,
                **pace[name],
            }
            for name, standin in self.sandbox.standins.items()
        }
