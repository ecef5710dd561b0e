"""What a kind brings to the contract suite: its stand-in, which can be scripted, and adapters over it.

A kind's harness is the class HARNESS of the module support.harness_<kind>; KINDS names the kinds that have one.
"""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import TypeAdapter

from assetwatchd.settings.schema import AnySource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox.standin import Standin
    from assetwatchd.upstream.port import Upstream

KINDS: tuple[str, ...] = ("media_intelligence", "omn", "oracle_sbc", "pieces", "usd_search")


class Harness(abc.ABC):
    """One kind under the contract: say() what is true upstream, fail() how it breaks, upstream() who reads it.

    known: an id that say() can make; native: fields that make it AVAILABLE.
    unknown: a well-formed id that the upstream never has; None when the kind has no unknown assets.
    body: the form of its answers.
    observe_path, probe_path: regular expressions of the calls that observe() and probe() make, none that get a token.
    authenticates: whether wrong credentials are refused.
    """

    kind: ClassVar[str]
    known: ClassVar[str]
    native: ClassVar[Mapping[str, Any]]
    unknown: ClassVar[str | None]
    body: ClassVar[Literal["json", "xml"]]
    observe_path: ClassVar[str]
    probe_path: ClassVar[str]
    authenticates: ClassVar[bool] = True
    enumerates: ClassVar[bool] = False

    def __init__(self) -> None:
        self.standin = self.make_standin()
        self._opened: list[Upstream] = []

    @abc.abstractmethod
    def make_standin(self) -> Standin[Any]:
        """Build the stand-in; credentials are checked wherever the kind can."""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the source's settings as configuration would have them, with the right credentials."""

    @abc.abstractmethod
    def wrong_credentials(self) -> dict[str, Any]:
        """Return the settings to lay over those for a client that is refused."""

    @abc.abstractmethod
    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter over validated settings."""

    @abc.abstractmethod
    def secrets(self) -> frozenset[str]:
        """Return every text, right or wrong, that no error and no repr may show."""

    def say(self, asset_id: str, native: Mapping[str, Any]) -> None:
        """Make an asset or change it by its native fields."""
        self.standin.put(asset_id, native)

    def fail(self, **fault: Any) -> None:
        """Arm a fault on the calls of observe(), unless `path` says another."""
        self.standin.faults.add(**{"path": self.observe_path, **fault})

    def upstream(self, **overrides: Any) -> Upstream:
        """Build an adapter, closed by stop(); overrides are laid over the settings."""
        values = {"kind": self.kind, "base_url": self.standin.url, "rate_per_s": 10_000, **self.settings(), **overrides}
        upstream = self.make_upstream(TypeAdapter[Any](AnySource).validate_python(values))
        self._opened.append(upstream)
        return upstream

    def stranger(self, **overrides: Any) -> Upstream:
        """Build an adapter whose credentials are wrong."""
        return self.upstream(**{**self.wrong_credentials(), **overrides})

    async def start(self) -> None:
        """Let the stand-in listen, with the known asset in it."""
        await self.standin.start()
        self.say(self.known, self.native)

    async def stop(self) -> None:
        """Close every adapter and the stand-in."""
        for upstream in self._opened:
            await upstream.close()
        self.standin.faults.clear()
        await self.standin.stop()


def harness_of(kind: str) -> type[Harness]:
    """Import a kind's harness."""
    harness: type[Harness] = importlib.import_module(f"support.harness_{kind}").HARNESS
    return harness
