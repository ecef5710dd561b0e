"""Stand-in for the Oracle Session Border Controller's REST interface, written from its REST guides."""

from assetwatch_sandbox.oracle_sbc.slot import ASSET_ID
from assetwatch_sandbox.oracle_sbc.standin import OracleSbcStandin
from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches

__all__ = ["ASSET_ID", "OracleSbcStandin", "OracleSbcSwitches"]
