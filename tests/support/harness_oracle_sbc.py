"""Oracle SBC under the contract: a token by name and password, and one asset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from assetwatch_sandbox.oracle_sbc import ASSET_ID, OracleSbcStandin
from assetwatchd.adapters.oracle_sbc import OracleSbc
from support.harness import Harness

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream

WRONG = "not-the-password"


class OracleSbcHarness(Harness):
    """One slot, XML, no enumeration."""

    kind = "oracle_sbc"
    known = ASSET_ID
    native: ClassVar = {"operation": "activate", "status": "success"}
    unknown = None
    body = "xml"
    observe_path = "/admin/asyncstatus"
    probe_path = "/admin/asyncstatus"

    def make_standin(self) -> OracleSbcStandin:
        """Check passwords and tokens."""
        return OracleSbcStandin()

    def settings(self) -> dict[str, Any]:
        """Give the administrator's account."""
        credentials = self.standin.credentials
        return {"username": credentials["username"], "password": credentials["password"]}

    def wrong_credentials(self) -> dict[str, Any]:
        """Give another password."""
        return {"password": WRONG}

    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter."""
        return OracleSbc("oracle-sbc", settings)

    def secrets(self) -> frozenset[str]:
        """Both passwords."""
        return frozenset({self.standin.credentials["password"], WRONG})


HARNESS = OracleSbcHarness
