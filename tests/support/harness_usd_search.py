"""USD Search under the contract, behind an ingress that wants a bearer token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from assetwatch_sandbox.usd_search import UsdSearch as UsdSearchStandin
from assetwatchd.adapters.usd_search import UsdSearch
from support.harness import Harness

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream

WRONG = "not-the-token"


class UsdSearchHarness(Harness):
    """One asset a call, JSON, no enumeration."""

    kind = "usd_search"
    known = "s3://studio-assets/props/crate #1 ü+%.usd"
    native: ClassVar = {"plugins": {"thumbnail_generation": {"indexing_status": "in_sync"}}}
    unknown = "s3://studio-assets/props/nope.png"
    body = "json"
    observe_path = "/info/indexing/asset/status"
    probe_path = "/info/backend/storage"

    def make_standin(self) -> UsdSearchStandin:
        """Ask for a bearer token."""
        return UsdSearchStandin(switches={"auth": "bearer"})

    def settings(self) -> dict[str, Any]:
        """Give the token."""
        return {"auth": {"kind": "bearer", "token": self.standin.credentials["token"]}}

    def wrong_credentials(self) -> dict[str, Any]:
        """Give another token."""
        return {"auth": {"kind": "bearer", "token": WRONG}}

    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter."""
        return UsdSearch("usd-prod", settings)

    def secrets(self) -> frozenset[str]:
        """Both tokens."""
        return frozenset({self.standin.credentials["token"], WRONG})


HARNESS = UsdSearchHarness
