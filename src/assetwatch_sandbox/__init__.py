"""Stand-ins for the five upstreams, each on its own port, and an endpoint to script them.

Written from the vendors' manuals and never from our adapters, so that one misreading is not in both. Imports nothing
else of this project.
"""

from __future__ import annotations

import random
import time
from importlib import import_module
from typing import TYPE_CHECKING

from assetwatch_sandbox import scenario
from assetwatch_sandbox.control import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from assetwatch_sandbox.standin import AnyStandin

KINDS = {
    "usd-search": ("usd_search", "UsdSearch"),
    "omn": ("omn", "Omn"),
    "pieces": ("pieces", "PiecesStandin"),
    "media-intelligence": ("media_intelligence", "MediaIntelligenceStandin"),
    "oracle-sbc": ("oracle_sbc", "OracleSbcStandin"),
}


def catalogue(names: Iterable[str] = tuple(KINDS)) -> dict[str, type[AnyStandin]]:
    """Return the class of each kind under the name its stand-in has by default; imported only now.

    Raises: KeyError for a name that is not one of KINDS.
    """
    found = {}
    for name in names:
        module, cls = KINDS[name]
        found[name] = getattr(import_module(f"{__name__}.{module}"), cls)
    return found


class Sandbox:
    """Stand-ins, one for each wanted name (default: all five), and the control endpoint over them.

    clock gives them all their wall time; switches are given by name of the stand-in.
    Raises: KeyError for a name that is not in the catalogue.
    """

    def __init__(
        self,
        names: tuple[str, ...] = tuple(KINDS),
        *,
        clock: Callable[[], float] = time.time,
        switches: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        given = switches or {}
        self.standins: dict[str, AnyStandin] = {
            name: kind(clock=clock, switches=given.get(name)) for name, kind in catalogue(names).items()
        }
        self._control = Control(self.standins)

    @property
    def control_url(self) -> str:
        """Base URL of the control endpoint. Raises: RuntimeError before the first start."""
        return self._control.url

    def seed(self, seed: int, count: int) -> None:
        """Put `count` assets in mixed states into each stand-in; the same seed puts the same."""
        for standin in self.standins.values():
            standin.seed(random.Random(seed), count)  # noqa: S311 - a sandbox must be repeatable

    async def start(
        self, *, host: str = "127.0.0.1", control_port: int = 0, ports: Mapping[str, int] | None = None
    ) -> None:
        """Listen with everything; a port not given is a free one. Raises: OSError, after stopping what had started."""
        wanted = ports or {}
        try:
            for name, standin in self.standins.items():
                await standin.start(host, wanted.get(name, 0))
            await self._control.start(host, control_port)
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything; may be called twice."""
        await self._control.stop()
        for standin in self.standins.values():
            await standin.stop()

    async def live(self, *, seed: int, speed: float = 1.0) -> None:
        """Run the scenario over all stand-ins until cancelled."""
        await scenario.run(list(self.standins.values()), seed=seed, speed=speed)
