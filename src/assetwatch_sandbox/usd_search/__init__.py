"""USD Search: the status of one asset URL at a time, one state for each indexing plugin and one for the file.

Written from the vendor's client 1.3.0 and the published description and source of release 1.4.0.
"""

from assetwatch_sandbox.usd_search.standin import UsdSearch

__all__ = ["UsdSearch"]
