"""Media Intelligence under the contract: every call signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from assetwatch_sandbox.media_intelligence import MediaIntelligenceStandin
from assetwatchd.adapters.media_intelligence import MediaIntelligence
from support.harness import Harness

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream

WRONG = "not-the-secret-key"


class MediaIntelligenceHarness(Harness):
    """One asset a call, JSON, lists by project."""

    kind = "media_intelligence"
    known = "my-workspace/1234/5678"
    native: ClassVar = {"uploadStatus": "COMPLETED"}
    unknown = "my-workspace/1234/9999"
    body = "json"
    observe_path = "/import-status"
    probe_path = r"/assets\?pageNum=1&pageSize=1$"
    enumerates = True

    def make_standin(self) -> MediaIntelligenceStandin:
        """Check every signature."""
        return MediaIntelligenceStandin()

    def settings(self) -> dict[str, Any]:
        """Give the key pair and the one project there is."""
        return {**self.standin.credentials, "projects": ["my-workspace/1234"]}

    def wrong_credentials(self) -> dict[str, Any]:
        """Give another secret key."""
        return {"secret_key": WRONG}

    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter."""
        return MediaIntelligence("media-intelligence", settings)

    def secrets(self) -> frozenset[str]:
        """Both secret keys."""
        return frozenset({self.standin.credentials["secret_key"], WRONG})


HARNESS = MediaIntelligenceHarness
