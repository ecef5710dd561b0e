"""OMN under the contract: XML, a bearer token made by somebody and handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from assetwatch_sandbox.omn import Omn as OmnStandin
from assetwatchd.adapters.omn import Omn
from support.harness import Harness

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream

WRONG = "not-the-token"


class OmnHarness(Harness):
    """Many assets a call, XML, a list by query."""

    kind = "omn"
    known = "tid:7C1E5A40-9B1D-4C55-8E0A-2F6B7D3A9C1"
    native: ClassVar = {"ImportState": "available", "ObjectState": "available"}
    unknown = "tid:0D2F9E1B-3A77-4E21-A5C0-91B4C6D8E70"
    body = "xml"
    observe_path = "/dam/assets/status"
    probe_path = "/dam/assets/status"
    enumerates = True

    def make_standin(self) -> OmnStandin:
        """It always checks tokens."""
        return OmnStandin()

    def settings(self) -> dict[str, Any]:
        """Give the token."""
        return {"auth": {"kind": "bearer", "token": self.standin.credentials["token"]}}

    def wrong_credentials(self) -> dict[str, Any]:
        """Give another token."""
        return {"auth": {"kind": "bearer", "token": WRONG}}

    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter."""
        return Omn("dam", settings)

    def secrets(self) -> frozenset[str]:
        """Both tokens."""
        return frozenset({self.standin.credentials["token"], WRONG})


HARNESS = OmnHarness
