"""Stand-in for NAVER Cloud Media Intelligence, written from its API guide and the gateway's signature page."""

from assetwatch_sandbox.media_intelligence.signature import sign
from assetwatch_sandbox.media_intelligence.standin import MediaIntelligenceStandin
from assetwatch_sandbox.media_intelligence.switches import MediaIntelligenceSwitches

__all__ = ["MediaIntelligenceStandin", "MediaIntelligenceSwitches", "sign"]
