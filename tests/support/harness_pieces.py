"""Pieces OS under the contract: local, without credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from assetwatch_sandbox.pieces import PiecesStandin
from assetwatchd.adapters.pieces import Pieces
from support.harness import Harness

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream


class PiecesHarness(Harness):
    """One asset a call, JSON, a list without pages."""

    kind = "pieces"
    known = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
    native: ClassVar = {"name": "retry loop", "content": "for i in range(3): pass", "ext": "py"}
    unknown = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
    body = "json"
    observe_path = r"/assets/[0-9a-f-]{36}"
    probe_path = "/.well-known/health"
    authenticates = False
    enumerates = True

    def make_standin(self) -> PiecesStandin:
        """Take calls without an application id."""
        return PiecesStandin()

    def settings(self) -> dict[str, Any]:
        """Name the application, as newer clients do."""
        return {"application_id": self.standin.credentials["application_id"]}

    def wrong_credentials(self) -> dict[str, Any]:
        """Name no application."""
        return {"application_id": None}

    def make_upstream(self, settings: Any) -> Upstream:
        """Build the adapter."""
        return Pieces("pieces", settings)

    def secrets(self) -> frozenset[str]:
        """There are none: an application id is no secret."""
        return frozenset()


HARNESS = PiecesHarness
