"""Stand-in of Pieces OS: the assets API and its WebSocket streams.

Written from the vendor's client 5.0.1 (models, paths, codes) and the public sources that use the API; what neither
says is [assumed] and has a switch in `switches`.
"""

from assetwatch_sandbox.pieces.standin import PiecesStandin
from assetwatch_sandbox.pieces.switches import PiecesSwitches

__all__ = ["PiecesStandin", "PiecesSwitches"]
